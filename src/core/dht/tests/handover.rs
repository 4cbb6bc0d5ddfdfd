//! Blocks follow the nearest peers as these come and go, once, and at a measured pace.

use super::*;
use crate::dht::contacts::distance;

/// The nodes nearest to a key.
fn nearest(net: &Net, key: &DhtKey, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..net.nodes.len()).filter(|at| !net.dead.contains(at)).collect();
    all.sort_by_key(|at| distance(&dht_id(&net.peer(*at)), key));
    all.truncate(count);
    all
}

fn holds(net: &Net, at: usize, key: &DhtKey) -> bool {
    !net.nodes[at].store.entries(net.now.unix, key).is_empty()
}

#[test]
fn a_new_node_is_handed_the_blocks_that_it_is_nearest_to_and_no_others() {
    let mut net = Net::mesh(14, 20);
    let blocks: Vec<Block> = (0..40).map(|n| name_block(n, n, 1)).collect();
    for (query, block) in blocks.iter().enumerate() {
        net.put(query % 14, query as u64, block);
        net.run(Duration::from_millis(100));
    }
    let new = net.add(20);
    (0..14).for_each(|at| net.join(at, new));
    net.run(Duration::from_secs(10));
    let should: Vec<bool> = blocks.iter().map(|block| nearest(&net, &block.key, 8).contains(&new)).collect();
    let has: Vec<bool> = blocks.iter().map(|block| holds(&net, new, &block.key)).collect();
    assert_eq!(has, should);
    assert!(should.iter().any(|s| *s) && !should.iter().all(|s| *s));
}

#[test]
fn a_publisher_that_was_alone_hands_its_blocks_to_the_first_to_come() {
    let mut net = Net::new(3, 21);
    let block = name_block(1, 1, 1);
    net.put(0, 1, &block);
    assert_eq!(net.outcome(1).unwrap().1, Outcome::Stored { replicas: 1 });
    net.join(0, 1);
    net.join(0, 2);
    net.run(Duration::from_millis(500));
    assert_eq!(net.holders(&block.key), 3);
}

#[test]
fn a_contact_that_flaps_is_not_handed_the_same_block_again() {
    let mut net = Net::new(2, 22);
    net.put(0, 1, &name_block(1, 1, 1));
    net.join(0, 1);
    net.run(Duration::from_secs(1));
    let (before, peer) = (net.sent, net.peer(1));
    for _ in 0..50 {
        let now = net.now;
        net.nodes[0].contact_down(now, peer);
        net.nodes[0].contact_up(now, peer);
        net.run(Duration::from_secs(30));
    }
    assert_eq!(net.sent, before);
    let newer = name_block(1, 1, 2);
    net.put(0, 2, &newer);
    net.run(Duration::from_secs(1));
    assert!(net.sent > before);
    assert_eq!(net.nodes[1].store.entries(net.now.unix, &newer.key)[0].block, newer);
}

#[test]
fn when_holders_go_the_next_nearest_get_their_blocks() {
    let mut net = Net::mesh(16, 23);
    let block = name_block(1, 1, 1);
    net.put(0, 1, &block);
    net.run(Duration::from_secs(1));
    for _ in 0..4 {
        let gone = *nearest(&net, &block.key, 8).iter().find(|at| **at != 0).unwrap();
        net.dead.insert(gone);
        let (peer, now) = (net.peer(gone), net.now);
        for at in (0..16).filter(|at| *at != gone) {
            net.nodes[at].contact_down(now, peer);
        }
        net.run(Duration::from_secs(15));
        assert!(nearest(&net, &block.key, 8).iter().all(|at| holds(&net, *at, &block.key)));
    }
}

#[test]
fn a_full_store_is_handed_over_at_a_measured_pace() {
    let mut net = Net::new(2, 24);
    for n in 0..200u8 {
        net.put(0, u64::from(n), &name_block(n, n, 1));
    }
    net.join(0, 1);
    net.run(Duration::from_secs(1));
    let after_one = net.sent;
    assert!((40..=100).contains(&after_one), "{after_one} in a second");
    net.run(Duration::from_secs(5));
    assert_eq!(net.sent, 200);
    assert_eq!(net.nodes[1].store.usage().blocks, 200);
}

#[test]
fn own_blocks_are_published_again_and_others_are_not() {
    let mut net = Net::new(2, 25);
    let signer = SigningKey::from_seed(&[1; 32]);
    let expiry = UnixTime(UNIX + 20 * 3600);
    let block = Block::create(Kind::Name, DhtKey([1; 64]), &signer, 1, expiry, Bytes::new()).unwrap();
    net.join(0, 1);
    net.put(0, 1, &block);
    net.run(Duration::from_secs(1));
    let before = net.sent;
    net.run(Duration::from_secs(30 * 3600));
    let sent = net.sent - before;
    assert!((4..=12).contains(&sent), "{sent} messages in 30 hours");
    net.run(Duration::from_secs(10 * 3600));
    let (before, stored) = (net.sent, net.holders(&block.key));
    net.run(Duration::from_secs(100 * 3600));
    assert_eq!((net.sent - before, stored), (0, 0), "nothing is left of an expired block");
}

#[test]
fn a_node_that_restarts_publishes_its_own_blocks_and_keeps_those_of_others() {
    let mut net = Net::mesh(2, 26);
    net.put(0, 1, &name_block(1, 1, 1));
    net.put(1, 2, &name_block(2, 2, 1));
    net.run(Duration::from_secs(1));
    let (peer, other) = (net.peer(0), net.peer(1));
    let mut store = MemoryStore::new(dht_id(&peer), StoreLimits::default(), true);
    store.load(net.now.unix, net.nodes[0].store.iter());
    assert_eq!(store.usage().blocks, 2);
    net.nodes[0] = Dht::new(peer, Rng::from_seed([1; 32]), store, Limits::default());
    net.nodes[1] = Dht::new(
        other,
        Rng::from_seed([2; 32]),
        MemoryStore::new(dht_id(&other), StoreLimits::default(), true),
        Limits::default(),
    );
    net.join(0, 1);
    net.run(Duration::from_secs(150));
    assert_eq!(net.nodes[1].store.usage().blocks, 2);
    assert_eq!(net.nodes[0].store.iter().filter(|entry| entry.own).count(), 1);
}
