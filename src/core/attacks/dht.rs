//! Attacks on the DHT: forged answers and blocks, one packet that becomes thousands, crowded keys, and greed.

use super::*;
use crate::crypto::{Purpose, hash_xof64};
use crate::defence::{Defence, stops};
use crate::wire::dht::{BLOOM_LEN, Progress, Reply, Route};

/// A route as greedy as can be.
fn route(query: u64) -> Route {
    Route { token: 77, query, patience_ms: 4000, hop: 0, replication: 255, bloom: [0; BLOOM_LEN] }
}

/// A query of somebody's.
fn query(number: u64) -> Bytes {
    Message::Get { route: route(number), kind: Kind::Name, key: DhtKey(hash_xof64(&number.to_le_bytes())) }.encode()
}

/// An answer under a token.
fn reply(token: u64, progress: Progress, block: Option<Block>) -> Bytes {
    Message::Reply(Reply { token, progress, size: 0, stored: 0, block }).encode()
}

/// One node that asks its only contact for a key; the token under which it does.
fn asked(key: DhtKey) -> (Net, u64) {
    let mut net = Net::new(3, 1);
    let (contact, now) = (net.peer(1), net.now);
    net.nodes[0].contact_up(now, contact);
    net.nodes[0].get(now, QueryId(1), key, Kind::Name);
    let sent = net.nodes[0].poll_transmit().unwrap();
    let Ok(Message::Get { route, .. }) = Message::decode(&sent.body) else { panic!("no query") };
    (net, route.token)
}

/// A node that no network knows of, with contacts of one, and limits of a test's own.
fn busy_node(net: &Net, limits: Limits) -> Dht<MemoryStore> {
    let me = PeerId([9; 32]);
    let mut node =
        Dht::new(me, Rng::from_seed([9; 32]), MemoryStore::new(dht_id(&me), StoreLimits::default(), false), limits);
    (0..net.nodes.len()).for_each(|at| node.contact_up(net.now, net.peer(at)));
    node
}

/// Lets a neighbour send queries; how many the node sent on.
fn flood(node: &mut Dht<MemoryStore>, net: &Net, neighbour: usize, queries: std::ops::Range<u64>) -> u64 {
    let mut sent = 0;
    for number in queries {
        node.handle_message(net.now, Via::Link(net.peer(neighbour)), &query(number));
        while let Some(transmit) = node.poll_transmit() {
            sent += u64::from(matches!(transmit.to, To::Peer(_)));
        }
    }
    sent
}

#[test]
fn an_answer_that_was_not_asked_for_is_dropped_whatever_it_guesses() {
    stops(Defence::RandomTokens, || {
        let lie = name_block(66, 1, 9);
        let (mut net, _) = asked(lie.key);
        for guess in 0..300 {
            net.deliver(0, Via::Link(net.peer(2)), &reply(guess, Progress::More, Some(lie.clone())));
        }
        !net.found(1).is_empty()
    });
}

#[test]
fn a_block_that_its_signer_did_not_sign_is_neither_found_nor_stored() {
    stops(Defence::Signature(Purpose::Block), || {
        let real = name_block(1, 1, 1);
        let (mut net, token) = asked(real.key);
        let forged = Block { sequence: 9, ..real.clone() };
        net.deliver(0, Via::Link(net.peer(1)), &reply(token, Progress::More, Some(forged.clone())));
        let put = Message::Put { route: Route { token: 0, ..route(5) }, lease: forged.expiry, block: forged };
        net.deliver(2, Via::Link(net.peer(1)), &put.encode());
        let stored = net.holders(&real.key) > 0;
        assert_eq!(stored, !net.found(1).is_empty());
        stored
    });
}

#[test]
fn one_packet_sent_again_and_again_becomes_one_answer_each() {
    stops(Defence::QueryOnce, || {
        let mut net = Net::mesh(60, 6);
        let via = Via::Link(net.peer(1));
        net.deliver(0, via, &query(1));
        net.run(Duration::from_secs(5));
        let before = net.sent;
        (0..50).for_each(|_| net.deliver(0, via, &query(1)));
        net.run(Duration::from_secs(5));
        net.sent - before > 100
    });
}

#[test]
fn one_packet_does_not_become_thousands_however_much_it_asks_for() {
    let cost = |replication| {
        let mut net = Net::mesh(60, 7);
        let before = net.sent;
        let key = DhtKey(hash_xof64(b"a key"));
        let route = Route { replication, ..route(2) };
        net.deliver(0, Via::Link(net.peer(1)), &Message::Get { route, kind: Kind::Name, key }.encode());
        net.run(Duration::from_secs(5));
        net.sent - before
    };
    let most = cost(crate::dht::limits::REPLICATION_MAX);
    stops(Defence::ReplicationClamp, || cost(255) > most * 3 / 2);
}

#[test]
fn a_neighbour_that_floods_makes_us_send_no_more_than_its_budget() {
    stops(Defence::QueryBudget, || {
        let net = Net::mesh(20, 9);
        let mut node = busy_node(&net, Limits { pending: 50_000, pending_per_neighbour: 50_000 });
        flood(&mut node, &net, 0, 0..4000) > crate::dht::limits::BUDGET_MESSAGES_BURST
    });
}

#[test]
fn a_neighbour_that_floods_leaves_room_for_the_queries_of_others() {
    stops(Defence::QueryShare, || {
        let net = Net::mesh(20, 9);
        let mut node = busy_node(&net, Limits { pending: 100, pending_per_neighbour: 40 });
        flood(&mut node, &net, 0, 0..300);
        assert!(node.pending.len() <= 100, "pending queries are bounded in any case");
        flood(&mut node, &net, 1, 1000..1001) == 0
    });
}

#[test]
fn a_filter_that_claims_everybody_was_asked_hides_nothing() {
    stops(Defence::AdvisoryFilter, || {
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
        // The block and the last word come back, or the last word alone.
        net.nodes[asker].counters().unsolicited < 2
    });
}

/// Puts junk of many signers under the key of `name_block(_, 1, _)`, which ends later than honest blocks do.
fn junk(net: &mut Net, signers: std::ops::Range<u8>) {
    for signer in signers {
        let (key, signing) = (name_block(1, 1, 1).key, SigningKey::from_seed(&[signer; 32]));
        let expiry = UnixTime(UNIX + 7200);
        let block = Block::create(Kind::Name, key, &signing, 1, expiry, Bytes::from_static(b"junk")).unwrap();
        net.put(2, 1000 + u64::from(signer), &block);
        net.run(Duration::from_millis(200));
    }
}

/// The owner's block, with more work than any junk that is stored: what its publisher comes to when it is not found.
fn worked(net: &mut Net) -> Block {
    let owner = SigningKey::from_seed(&[1; 32]);
    let block = name_block(1, 1, 1);
    net.get(5, 1, block.key, Kind::Name);
    net.run(Duration::from_secs(5));
    let strongest = net.found(1).iter().map(Block::work_bits).max().unwrap_or(0);
    block.with_work(&owner, strongest + 1, 0, 1 << 24).unwrap()
}

/// Node 3 publishes the block and goes: while it is there, it answers for what it published.
fn publish_and_leave(net: &mut Net, block: &Block) {
    net.put(3, 2, block);
    net.run(Duration::from_secs(5));
    net.dead.insert(3);
}

/// Whether the block is found by one or another.
fn is_found(net: &mut Net, block: &Block) -> bool {
    (0..3).any(|n| {
        net.get(4 + n, 10 + n as u64, block.key, Kind::Name);
        net.run(Duration::from_secs(5));
        net.found(10 + n as u64).contains(block)
    })
}

#[test]
fn a_key_that_was_squatted_before_its_owner_published_yields_to_the_owner() {
    stops(Defence::WorkTakesPlace, || {
        let mut net = Net::mesh(10, 10);
        junk(&mut net, 100..124);
        let block = worked(&mut net);
        publish_and_leave(&mut net, &block);
        !is_found(&mut net, &block)
    });
}

#[test]
fn a_block_is_not_pushed_out_with_junk() {
    stops(Defence::WorkKeepsPlace, || {
        let mut net = Net::mesh(10, 10);
        let block = worked(&mut net);
        publish_and_leave(&mut net, &block);
        junk(&mut net, 100..140);
        !is_found(&mut net, &block)
    });
}

#[test]
fn a_neighbour_that_fills_our_store_pushes_out_its_own() {
    stops(Defence::StoreShare, || {
        let (me, now) = (DhtKey([0; 64]), UnixTime(UNIX));
        let mut store = MemoryStore::new(me, StoreLimits { blocks: 32, ..StoreLimits::default() }, false);
        let block = |n: u8| {
            let signer = SigningKey::from_seed(&[n; 32]);
            let mut key = hash_xof64(&[n]);
            key[0] = n;
            Block::create(Kind::Name, DhtKey(key), &signer, 1, UnixTime(UNIX + 3600), Bytes::new()).unwrap()
        };
        // The honest block is farther than all that the greedy neighbour chose.
        let honest = block(200);
        let entry = |block, from| Entry::new(block, UnixTime(0), now, Some(PeerId([from; 32])));
        store.put(now, entry(honest.clone(), 1)).unwrap();
        for n in 1..100 {
            let _ = store.put(now, entry(block(n), 2));
        }
        assert!(store.usage().blocks <= 32, "a store is bounded in any case");
        store.entries(now, &honest.key).is_empty()
    });
}
