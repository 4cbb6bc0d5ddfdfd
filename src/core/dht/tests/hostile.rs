//! Attacks, each shown to fail.

use super::*;
use crate::dht::limits::{BUDGET_MESSAGES_BURST, REPLICATION_MAX};
use crate::wire::dht::{BLOOM_LEN, Progress, Reply, Route};

fn route(query: u64) -> Route {
    Route { token: 77, query, patience_ms: 4000, hop: 0, replication: 255, bloom: [0; BLOOM_LEN] }
}

fn get_message(query: u64, key: DhtKey) -> Bytes {
    Message::Get { route: route(query), kind: Kind::Name, key }.encode()
}

/// One node, its contact, and the token under which it asks that contact.
fn asked(key: DhtKey) -> (Net, u64) {
    let mut net = Net::new(2, 1);
    let (contact, now) = (net.peer(1), net.now);
    net.nodes[0].contact_up(now, contact);
    net.nodes[0].get(now, QueryId(1), key, Kind::Name);
    let sent = net.nodes[0].poll_transmit().unwrap();
    assert_eq!(sent.to, To::Peer(contact));
    let Ok(Message::Get { route, .. }) = Message::decode(&sent.body) else { panic!("no query") };
    (net, route.token)
}

fn reply(token: u64, progress: Progress, block: Option<Block>) -> Bytes {
    Message::Reply(Reply { token, progress, size: 0, stored: 0, block }).encode()
}

#[test]
fn answers_to_nothing_that_was_asked_are_dropped_and_not_stored() {
    let block = name_block(1, 1, 1);
    let (mut net, token) = asked(block.key);
    let via = Via::Link(net.peer(1));
    net.deliver(0, via, &reply(token ^ 1, Progress::Complete, Some(block.clone())));
    assert!(net.events.is_empty());
    assert_eq!(net.nodes[0].counters().unsolicited, 1);
    net.deliver(0, via, &reply(token, Progress::Complete, Some(block.clone())));
    assert_eq!(net.found(1), vec![block.clone()]);
    assert_eq!(net.outcome(1).unwrap().1, Outcome::Found);
    net.deliver(0, via, &reply(token, Progress::Complete, Some(name_block(2, 1, 1))));
    assert_eq!(net.nodes[0].counters().unsolicited, 2, "a token ends with its query");
    assert_eq!(net.holders(&block.key), 0);
}

#[test]
fn forged_and_misplaced_blocks_are_refused_and_the_honest_one_still_found() {
    let block = name_block(1, 1, 1);
    let (mut net, token) = asked(block.key);
    let via = Via::Link(net.peer(1));
    let forged = Block { sequence: 9, ..block.clone() };
    let other_kind = {
        let signer = SigningKey::from_seed(&[1; 32]);
        Block::create(Kind::Hello, block.key, &signer, 1, block.expiry, Bytes::new()).unwrap()
    };
    for bad in [forged, name_block(1, 2, 1), other_kind] {
        net.deliver(0, via, &reply(token, Progress::More, Some(bad)));
    }
    assert!(net.events.is_empty());
    assert_eq!(net.nodes[0].counters().invalid, 3);
    net.deliver(0, via, &reply(token, Progress::Complete, Some(block.clone())));
    assert_eq!(net.found(1), vec![block]);
}

#[test]
fn forged_and_expired_blocks_are_not_stored_and_a_seen_put_is_not_stored_twice() {
    let mut net = Net::mesh(3, 1);
    let via = Via::Link(net.peer(1));
    let block = name_block(1, 1, 1);
    let put = |query, block: Block| Message::Put { route: route(query), lease: block.expiry, block }.encode();
    let signer = SigningKey::from_seed(&[1; 32]);
    let old = Block::create(Kind::Name, block.key, &signer, 1, UnixTime(UNIX - 50_000), Bytes::new()).unwrap();
    for (query, bad) in [(1, Block { sequence: 3, ..block.clone() }), (2, Block { work: 3, ..block.clone() }), (3, old)]
    {
        net.deliver(0, via, &put(query, bad));
    }
    net.run(Duration::from_secs(5));
    assert_eq!((net.holders(&block.key), net.nodes[0].counters().invalid), (0, 3));
    net.deliver(0, via, &put(4, block.clone()));
    net.run(Duration::from_secs(5));
    assert_eq!(net.holders(&block.key), 3);
    let before = net.sent;
    net.deliver(0, via, &put(4, block));
    net.run(Duration::from_secs(5));
    assert_eq!(net.sent - before, 1, "a repeat is answered and goes nowhere");
}

#[test]
fn one_packet_becomes_a_bounded_number_and_its_repeats_one_answer_each() {
    let mut net = Net::mesh(200, 6);
    let length = u64::from(net.nodes[0].length());
    for (query, key) in (0..20u64).map(|n| (n, DhtKey(crate::crypto::hash_xof64(&n.to_le_bytes())))) {
        let (before, via) = (net.sent, Via::Link(net.peer(1)));
        net.deliver(0, via, &get_message(query, key));
        net.run(Duration::from_secs(5));
        let queries = (net.sent - before) / 2;
        assert!(queries <= 4 * u64::from(REPLICATION_MAX) * length, "{queries} queries");
        let before = net.sent;
        (0..50).for_each(|_| net.deliver(0, via, &get_message(query, key)));
        net.run(Duration::from_secs(5));
        assert_eq!(net.sent - before, 50);
    }
    assert!(net.nodes.iter().all(|node| node.pending.len() == 0), "nothing is left behind");
}

#[test]
fn one_packet_among_1000_nodes_that_see_a_third_causes_at_most_640_messages() {
    let mut net = network::parted(1000, 9);
    let mut most = 0;
    for n in 0..20u64 {
        let greedy = Route { hop: u8::try_from(n % 2).unwrap() * 9, ..route(n) };
        let (get, put) = match n % 4 {
            0 | 3 => (Some(DhtKey(crate::crypto::hash_xof64(&n.to_le_bytes()))), None),
            _ => (None, Some(name_block(3, u8::try_from(n).unwrap(), 1))),
        };
        let get = get.map(|key| Message::Get { route: greedy.clone(), kind: Kind::Name, key });
        let put = put.map(|block| Message::Put { route: greedy.clone(), lease: UnixTime(0), block });
        let (before, via) = (net.sent, Via::Link(net.peer(1)));
        net.deliver(0, via, &get.or(put).unwrap().encode());
        net.run(Duration::from_secs(10));
        most = most.max(net.sent - before);
    }
    assert!(most > 20 && most <= 640, "{most} messages, answers among them");
}

#[test]
fn honest_queries_cost_at_most_four_r_l_messages() {
    let mut net = Net::mesh(200, 7);
    let most = 4 * 8 * u64::from(net.nodes[0].length());
    for n in 0..20u64 {
        let before = net.sent;
        net.get(usize::try_from(n).unwrap() * 9, n, DhtKey(crate::crypto::hash_xof64(&n.to_le_bytes())), Kind::Name);
        net.run(Duration::from_secs(5));
        assert_eq!(net.outcome(n).unwrap().1, Outcome::Absent);
        assert!(net.sent - before <= most, "{} messages", net.sent - before);
    }
}

#[test]
fn a_filter_that_claims_everybody_does_not_hide_a_block() {
    let mut net = Net::mesh(8, 8);
    let block = name_block(1, 1, 1);
    let near = net.index[&net.nodes[1].contacts.closest(&block.key, 1)[0].peer];
    let asker = (0..8).find(|at| *at != near && *at != 1).unwrap();
    let entry = Entry::new(block.clone(), UnixTime(0), net.now.unix, None);
    net.nodes[near].store.put(net.now.unix, entry).unwrap();
    let full = Route { bloom: [0xff; BLOOM_LEN], ..route(5) };
    let message = Message::Get { route: full, kind: Kind::Name, key: block.key }.encode();
    net.deliver(1, Via::Link(net.peer(asker)), &message);
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[asker].counters().unsolicited, 2, "the block and the last word came back");
}

#[test]
fn a_flood_from_one_neighbour_stays_within_its_bounds_and_leaves_the_others_theirs() {
    let limits = Limits { pending: 300, pending_per_neighbour: 100 };
    let mut net = Net::mesh(30, 9);
    let mut node = Dht::new(
        PeerId([9; 32]),
        Rng::from_seed([9; 32]),
        MemoryStore::new(dht_id(&PeerId([9; 32])), StoreLimits::default(), false),
        limits,
    );
    (0..30).for_each(|at| node.contact_up(net.now, net.peer(at)));
    let mut sent = 0u64;
    let mut flood = |node: &mut Dht<MemoryStore>, neighbour: usize, from: u64, count: u64| {
        for query in from..from + count {
            let key = DhtKey(crate::crypto::hash_xof64(&query.to_le_bytes()));
            node.handle_message(net.now, Via::Link(net.peer(neighbour)), &get_message(query, key));
            while let Some(transmit) = node.poll_transmit() {
                sent += u64::from(matches!(transmit.to, To::Peer(_)));
            }
        }
    };
    flood(&mut node, 0, 0, 20_000);
    assert_eq!(node.pending.len(), 100);
    flood(&mut node, 1, 100_000, 10);
    assert_eq!(node.pending.len(), 110);
    (2..20).for_each(|n| flood(&mut node, n, 1_000_000 * n as u64, 200));
    assert_eq!(node.pending.len(), 300);
    assert!(node.counters().over_budget > 10_000 && node.counters().over_pending > 0);
    assert!(sent <= 20 * BUDGET_MESSAGES_BURST);
    net.run(Duration::from_secs(60));
    node.handle_timeout(net.now);
    assert_eq!(node.pending.len(), 0);
}

#[test]
fn junk_under_a_key_does_not_crowd_out_an_owner_who_works_for_its_place() {
    let mut net = Net::mesh(10, 10);
    let honest = name_block(1, 1, 1);
    for junk in 0..24u8 {
        net.put(2, 100 + u64::from(junk), &name_block(100 + junk, 1, 1));
        net.run(Duration::from_millis(200));
    }
    net.get(5, 1, honest.key, Kind::Name);
    net.run(Duration::from_secs(5));
    let strongest = net.found(1).iter().map(Block::work_bits).max().unwrap();
    let owner = SigningKey::from_seed(&[1; 32]);
    let worked = honest.with_work(&owner, strongest + 1, 0, 1 << 24).unwrap();
    net.put(3, 2, &worked);
    net.run(Duration::from_secs(5));
    for junk in 0..24u8 {
        net.put(2, 200 + u64::from(junk), &name_block(150 + junk, 1, 1));
        net.run(Duration::from_millis(200));
    }
    for at in [0, 4, 9] {
        net.get(at, 10 + at as u64, worked.key, Kind::Name);
        net.run(Duration::from_secs(5));
        assert!(net.found(10 + at as u64).contains(&worked));
    }
}

#[test]
fn a_hop_that_answers_with_junk_leaves_room_for_the_other_hops() {
    let (mut net, now) = (Net::new(4, 14), Now::ZERO);
    let key = name_block(1, 1, 1).key;
    for at in 1..4 {
        let peer = net.peer(at);
        net.nodes[0].contact_up(now, peer);
    }
    net.deliver(0, Via::Link(net.peer(3)), &get_message(1, key));
    net.run(Duration::from_millis(1));
    let tokens: Vec<u64> = net.queued_tokens();
    assert!(tokens.len() >= 2);
    for junk in 0..100 {
        net.deliver(0, Via::Link(net.peer(1)), &reply(tokens[0], Progress::More, Some(name_block(100 + junk, 1, 1))));
    }
    let before = net.bytes;
    net.deliver(0, Via::Link(net.peer(2)), &reply(tokens[1], Progress::More, Some(name_block(1, 1, 1))));
    assert!(net.bytes > before, "the honest block went on");
    let junk = net.sent;
    for more in 0..100 {
        net.deliver(0, Via::Link(net.peer(2)), &reply(tokens[1], Progress::More, Some(name_block(more, 1, 2))));
    }
    assert!(net.sent - junk < 16, "a routed datagram has 16 answers, the last word among them");
}

#[test]
fn silent_and_denying_contacts_neither_hide_a_block_nor_hold_an_answer_up() {
    let mut net = Net::mesh(10, 11);
    let block = name_block(1, 1, 1);
    net.put(0, 1, &block);
    net.run(Duration::from_secs(5));
    let near: Vec<usize> = net.nodes[9].contacts.closest(&block.key, 2).iter().map(|c| net.index[&c.peer]).collect();
    net.dead.extend(&near);
    for at in (0..10).filter(|at| !near.contains(at)) {
        let (begun, query) = (net.now.instant, 10 + 2 * at as u64);
        net.get(at, query, block.key, Kind::Name);
        net.get(at, query + 1, DhtKey([at.to_le_bytes()[0]; 64]), Kind::Name);
        net.run(Duration::from_secs(5));
        assert_eq!(net.found(query).len(), 1);
        let (when, outcome) = net.outcome(query + 1).unwrap();
        assert_eq!(outcome, Outcome::Absent);
        assert!(when - begun < Duration::from_secs(2));
    }
}

#[test]
fn five_denials_of_eight_say_that_a_block_is_missing_and_four_wait_for_the_silence() {
    for (silent, at_once) in [(3, true), (4, false)] {
        let mut net = Net::mesh(60, 18);
        let asked = |key: &u8| !net.nodes[0].among_closest(&DhtKey([*key; 64]), super::limits::REPLICATION);
        let key = DhtKey([(0..200).find(asked).unwrap(); 64]);
        let near = net.nodes[0].contacts.closest(&key, silent);
        net.dead.extend(near.iter().map(|contact| net.index[&contact.peer]).collect::<Vec<_>>());
        let begun = net.now.instant;
        net.get(0, 1, key, Kind::Name);
        net.run(Duration::from_secs(3));
        let (when, outcome) = net.outcome(1).unwrap();
        assert_eq!(outcome, Outcome::Absent);
        assert_eq!(when - begun < super::limits::SILENCE, at_once, "{silent} silent: {:?}", when - begun);
    }
}

#[test]
fn a_publisher_tells_every_one_of_the_nearest_itself_so_that_a_few_swallow_nothing() {
    let mut net = Net::mesh(200, 15);
    let block = name_block(1, 1, 1);
    let near: Vec<usize> = net.nodes[17].contacts.closest(&block.key, 5).iter().map(|c| net.index[&c.peer]).collect();
    net.dead.extend(&near);
    net.put(17, 1, &block);
    net.run(HOP);
    assert_eq!(net.holders(&block.key) - 1, usize::from(super::limits::REPLICATION) - near.len());
}

#[test]
fn a_put_that_was_stored_late_does_not_wait_for_the_silent() {
    let (mut net, now) = (Net::new(30, 16), Now { instant: Instant::from_micros(1_000_000), unix: UnixTime(UNIX) });
    for at in 1..30 {
        let peer = net.peer(at);
        net.nodes[0].contact_up(now, peer);
    }
    let far = |key: &u8| !net.nodes[0].among_closest(&name_block(1, *key, 1).key, super::limits::REPLICATION);
    let key = (0..100).find(far).unwrap();
    net.nodes[0].put(now, QueryId(1), name_block(1, key, 1));
    let sent = net.nodes[0].poll_transmit().unwrap();
    let Ok(Message::Put { route, .. }) = Message::decode(&sent.body) else { panic!("no put") };
    while net.nodes[0].poll_transmit().is_some() {}
    net.dead.extend(1..30);
    net.run(Duration::from_millis(1500));
    assert_eq!(net.outcome(1), None, "it is stored nowhere");
    let body =
        Message::Reply(Reply { token: route.token, progress: Progress::Complete, size: 0, stored: 1, block: None });
    net.deliver(0, Via::Link(net.peer(1)), &body.encode());
    assert_eq!(net.outcome(1).unwrap().1, Outcome::Stored { replicas: 1 });
}

#[test]
fn one_denial_is_not_enough_while_the_other_walk_is_silent() {
    let mut net = Net::new(3, 12);
    let (a, b, now, key) = (net.peer(1), net.peer(2), net.now, DhtKey([3; 64]));
    net.nodes[0].contact_up(now, a);
    net.nodes[0].contact_up(now, b);
    net.nodes[0].get(now, QueryId(1), key, Kind::Name);
    let sent = net.nodes[0].poll_transmit().unwrap();
    let Ok(Message::Get { route, .. }) = Message::decode(&sent.body) else { panic!("no query") };
    while net.nodes[0].poll_transmit().is_some() {}
    net.deliver(0, Via::Link(a), &reply(route.token, Progress::Complete, None));
    net.dead.extend([1, 2]);
    net.run(Duration::from_millis(3900));
    assert_eq!(net.outcome(1), None);
    net.run(Duration::from_millis(200));
    assert_eq!(net.outcome(1).unwrap().1, Outcome::TimedOut);
}

#[test]
fn nonsense_is_counted_and_nothing_else() {
    let mut net = Net::mesh(3, 13);
    let (mut rng, via) = (Rng::from_seed([1; 32]), Via::Link(net.peer(1)));
    for len in 0..300usize {
        let mut bytes = vec![0; len];
        rng.fill_public(&mut bytes);
        bytes.first_mut().into_iter().for_each(|first| *first %= 5);
        net.deliver(0, via, &bytes);
    }
    net.run(Duration::from_secs(10));
    assert!(net.nodes[0].counters().malformed > 200);
    assert_eq!(net.nodes[0].store.usage(), Usage::default());
}
