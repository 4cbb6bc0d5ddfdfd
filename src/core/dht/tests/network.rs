//! What is put is found, what is not there is known to be absent, in networks of any shape.

use super::limits::HOP_FINAL;
use super::*;
use crate::wire::dht::BLOOM_LEN;

/// One block of each kind.
fn every_kind() -> Vec<Block> {
    let node = SigningKey::from_seed(&[1; 32]);
    let expiry = UnixTime(UNIX + 3600);
    let hello = Hello {
        peer: node.public().peer_id(),
        node: node.public().clone(),
        flags: 0,
        addresses: vec!["tcp://192.0.2.1:7".into()],
        descriptor: Bytes::from_static(b"keys"),
        sequence: 1,
        expiry,
    };
    let identity = signed_key(&node.public().service_id());
    vec![
        seal_content(b"value").unwrap().1,
        seal_signed(&node, identity, 1, expiry, b"signed").unwrap(),
        seal_hello(&node, &hello).unwrap(),
        name_block(7, 7, 1),
    ]
}

/// Puts each kind from one node, gets it from all, and asks for what is not there. Answers how long the slowest took.
fn put_and_get_everywhere(net: &mut Net, from: usize) -> Duration {
    let (mut query, mut slowest) = (0, Duration::ZERO);
    for block in every_kind() {
        query += 1;
        net.put(from, query, &block);
        net.run(Duration::from_secs(5));
        let Some((_, Outcome::Stored { replicas })) = net.outcome(query) else {
            panic!("put ended as {:?}", net.outcome(query))
        };
        assert!(replicas >= 1);
        for at in 0..net.nodes.len() {
            query += 2;
            let begun = net.now.instant;
            net.get(at, query, block.key, block.kind);
            net.get(at, query + 1, DhtKey([at.to_le_bytes()[0]; 64]), block.kind);
            net.run(Duration::from_secs(5));
            assert_eq!(net.found(query), vec![block.clone()], "node {at}, {:?}", block.kind);
            assert_eq!(net.outcome(query).unwrap().1, Outcome::Found);
            let (when, absent) = net.outcome(query + 1).unwrap();
            assert_eq!(absent, Outcome::Absent, "node {at}");
            slowest = slowest.max(when - begun);
            query += 1;
        }
    }
    slowest
}

#[test]
fn in_a_full_mesh_of_ten_everything_is_found_and_absence_is_known_in_two_round_trips() {
    let mut net = Net::mesh(10, 1);
    assert!(put_and_get_everywhere(&mut net, 3) <= 4 * HOP);
}

#[test]
fn a_lone_node_finds_its_own_blocks_and_knows_at_once_what_is_absent() {
    assert_eq!(put_and_get_everywhere(&mut Net::new(1, 1), 0), Duration::ZERO);
}

#[test]
fn two_nodes_find_each_others_blocks() {
    assert!(put_and_get_everywhere(&mut Net::mesh(2, 1), 1) <= 4 * HOP);
}

#[test]
fn in_a_line_and_a_star_of_contacts_everything_is_found() {
    let (mut line, mut star) = (Net::new(8, 2), Net::new(12, 3));
    (1..8).for_each(|at| line.join(at - 1, at));
    (1..12).for_each(|at| star.join(0, at));
    line.run(Duration::from_secs(2));
    star.run(Duration::from_secs(2));
    assert!(put_and_get_everywhere(&mut line, 0) < Duration::from_secs(1));
    assert!(put_and_get_everywhere(&mut star, 4) < Duration::from_secs(1));
}

#[test]
fn among_200_nodes_blocks_reach_the_nearest_and_are_found_from_everywhere() {
    let mut net = Net::mesh(200, 4);
    let block = name_block(1, 1, 1);
    net.put(17, 1, &block);
    net.run(Duration::from_secs(5));
    let Some((_, Outcome::Stored { replicas })) = net.outcome(1) else { panic!("not stored") };
    assert!(replicas >= 4, "{replicas}");
    assert!((6..=16).contains(&net.holders(&block.key)), "{}", net.holders(&block.key));
    let mut begun = BTreeMap::new();
    for at in (0..200).step_by(9) {
        begun.insert(at as u64, net.now.instant);
        net.get(at, 1000 + at as u64, block.key, Kind::Name);
        net.get(at, 2000 + at as u64, DhtKey([at.to_le_bytes()[0]; 64]), Kind::Name);
        net.run(Duration::from_millis(100));
    }
    net.run(Duration::from_secs(5));
    for at in (0..200).step_by(9) {
        assert_eq!(net.outcome(1000 + at).unwrap().1, Outcome::Found, "node {at}");
        let (when, outcome) = net.outcome(2000 + at).unwrap();
        assert_eq!(outcome, Outcome::Absent, "node {at}");
        assert!(when - begun[&at] <= 4 * HOP, "node {at}: nobody waits for the walk with random steps");
    }
}

#[test]
fn a_quiet_network_says_nothing() {
    let mut net = Net::mesh(8, 5);
    net.put(0, 1, &name_block(1, 1, 1));
    net.run(Duration::from_secs(10));
    let before = net.sent;
    net.run(Duration::from_secs(3000));
    assert_eq!(net.sent, before);
}

/// A network whose nodes know a third of it, and the nearest to themselves.
pub(super) fn parted(count: usize, seed: u64) -> Net {
    let mut net = Net::new(count, seed);
    let mut rng = Rng::from_seed([7; 32]);
    for a in 0..count {
        let id = dht_id(&net.peer(a));
        let mut near: Vec<usize> = (0..count).filter(|b| *b != a).collect();
        near.sort_by_key(|b| contacts::distance(&dht_id(&net.peer(*b)), &id));
        let random = (0..a).filter(|_| rng.public_below(3) == 0);
        for b in random.chain(near.into_iter().take(12)) {
            net.join(a, b);
        }
    }
    net.run(Duration::from_secs(2));
    net
}

#[test]
fn where_nobody_knows_all_blocks_are_found_in_few_steps_and_with_few_messages() {
    const ROUNDS: u64 = 20;
    let mut net = parted(400, 6);
    let node = &net.nodes[3];
    assert!(!node.contacts.complete() && node.length() >= 7);
    assert_eq!(node.walk(), 2, "among {} random contacts a step is worth seven bits", node.contacts.len());
    let (mut puts, mut hits) = (0, 0);
    for round in 0..ROUNDS {
        let (at, key) = (usize::try_from(round).unwrap() * 19, u8::try_from(round).unwrap() + 1);
        let (block, before) = (name_block(1, key, 1), net.sent);
        net.put(at, 3 * round, &block);
        net.run(Duration::from_secs(5));
        puts += net.sent - before;
        let near = net.nearest(&block.key, 8);
        let holders = near.iter().filter(|at| net.holds(**at, &block.key)).count();
        assert!(holders >= 7, "round {round}: {holders} of the eight nearest hold it");
        let before = net.sent;
        net.get(399 - at, 3 * round + 1, block.key, Kind::Name);
        net.run(Duration::from_secs(5));
        hits += net.sent - before;
        let begun = net.now.instant;
        net.get(399 - at, 3 * round + 2, DhtKey([key; 64]), Kind::Name);
        net.run(Duration::from_secs(5));
        assert_eq!(net.found(3 * round + 1), vec![block], "round {round}");
        let (when, outcome) = net.outcome(3 * round + 2).unwrap();
        assert_eq!(outcome, Outcome::Absent, "round {round}");
        assert!(when - begun <= 6 * HOP, "round {round}: a step towards the key, and one around it");
    }
    assert!(puts < 110 * ROUNDS, "{puts} messages, answers among them");
    assert!(hits < 190 * ROUNDS, "{hits} messages, answers among them");
}

#[test]
fn the_nearest_asks_all_others_unless_the_filter_shows_that_these_were_asked() {
    let mut net = Net::mesh(100, 8);
    let key = DhtKey(crate::crypto::hash_xof64(b"sought"));
    let near = net.nearest(&key, 8);
    let places: Vec<DhtKey> = near.iter().map(|at| dht_id(&net.peer(*at))).collect();
    let step = forward::Step { hop: 3, replication: 8 };
    let get = forward::Request::Get(Kind::Name, key);
    for (rank, at) in near.iter().enumerate() {
        let mut ask = |asked: &[DhtKey]| {
            let mut bloom = bloom::Bloom::of(1, [0; BLOOM_LEN]);
            asked.iter().for_each(|id| bloom.insert(id));
            let (to, hop) = net.nodes[*at].next_contacts(&get, step, &mut bloom);
            (to.len(), hop)
        };
        assert_eq!(ask(&[]), (7, HOP_FINAL), "a greedy step led to rank {rank}: nobody around was asked");
        let farther = &places[rank + 1..];
        let expected = if farther.is_empty() { 7 } else { rank };
        assert_eq!(ask(farther), (expected, HOP_FINAL), "who looks for it asked those farther than rank {rank}");
    }
}
