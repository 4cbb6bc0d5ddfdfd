//! How links come to be, and how they do not.

use super::*;
use crate::link::limits::{
    HALF_OPEN_MAX, HALF_OPEN_PER_SOURCE_MAX, HANDSHAKE_BURST, HANDSHAKE_TIME_MAX, PING_WAIT_IDLE,
};

#[test]
fn two_nodes_link_and_both_know_it() {
    let mut net = Net::new(2);
    let (ours, theirs) = net.link(0, 1);
    for (n, peer, conn, outbound) in [(0, 1, ours, true), (1, 0, theirs, false)] {
        let link = net.only(n).unwrap();
        assert_eq!((link.peer, link.conn, link.outbound), (net.id(peer), conn, outbound));
        assert_eq!((link.group, link.aead), (Group::X25519MlKem768, Aead::Aegis256X2));
        assert_eq!(link.source.is_some(), !outbound);
        let [Event::PeerSeen { peer: seen, .. }, Event::Up { peer: up, cost: 1, .. }] = &net.nodes[n].events[..] else {
            panic!("{:?}", net.nodes[n].events);
        };
        assert_eq!((*seen, *up), (net.id(peer), net.id(peer)));
    }
}

#[test]
fn a_closed_node_says_nothing_to_strangers() {
    let mut net = Net::with([config(1), Config { open: false, ..config(2) }]);
    for pin in [Pin::None, Pin::Hint(PeerId([5; 32])), Pin::Required(PeerId([5; 32]))] {
        let (ours, theirs) = net.dial(0, 1, pin);
        net.run();
        assert_eq!(net.ended(0, ours), Some(Error::Closed));
        assert_eq!(net.ended(1, theirs), Some(Error::Stranger));
        assert!(!net.nodes[1].handshakes.contains_key(&theirs), "not a byte");
    }
    assert_eq!(net.nodes[1].links.counters().strangers, 3);
    net.dial(0, 1, Pin::Required(net.id(1)));
    net.run();
    assert!(net.only(0).is_some() && net.only(1).is_some());
}

#[test]
fn a_wrong_pin_ends_before_we_say_who_we_are() {
    let mut net = Net::new(2);
    let (expected, found) = (PeerId([5; 32]), net.id(1));
    let (ours, theirs) = net.dial(0, 1, Pin::Required(expected));
    net.run();
    assert_eq!(net.ended(0, ours), Some(Error::PinMismatch { expected, found }));
    assert_eq!(net.nodes[0].handshakes[&ours], 1, "only message 1 was sent");
    assert_eq!(net.ended(1, theirs), Some(Error::Closed));
    let (ours, _) = net.dial(0, 1, Pin::Hint(expected));
    net.run();
    assert_eq!(net.ended(0, ours), Some(Error::HintMismatch { expected, found }));
}

#[test]
fn a_node_does_not_link_to_itself() {
    let mut net = Net::new(1);
    let (ours, _) = net.link(0, 0);
    assert_eq!(net.ended(0, ours), Some(Error::SelfLink));
    assert!(net.only(0).is_none());
}

#[test]
fn a_peer_once_seen_hybrid_is_never_accepted_with_less() {
    let old = |seed| Config { groups: vec![Group::X25519], ..config(seed) };
    let mut net = Net::with([config(1), old(2)]);
    net.link(0, 1);
    assert_eq!(net.only(0).unwrap().group, Group::X25519, "first contact with an old node is fine");

    let mut net = Net::new(2);
    net.link(0, 1);
    let peer = net.id(1);
    net.nodes[0].links.close(net.now, &peer);
    net.run();
    net.nodes[1] = node(old(2), 7);
    let (ours, _) = net.link(0, 1);
    assert_eq!(net.ended(0, ours), Some(Error::Downgrade(peer)));
    assert_eq!(net.nodes[0].handshakes[&ours], 1, "before message 3");
    let (_, theirs) = net.link(1, 0);
    assert_eq!(net.ended(0, theirs), Some(Error::Downgrade(peer)));
    assert!(net.only(0).is_none() && net.only(1).is_none());
    net.nodes[0].links.forget(&peer);
    let me = net.id(0);
    net.nodes[1].links.set_floor(me);
    net.link(0, 1);
    assert!(net.only(0).is_some(), "forgotten here; there the operator has chosen to go without");

    let mut net = Net::with([config(1), old(2)]);
    let peer = net.id(1);
    net.nodes[0].links.set_floor(peer);
    let (ours, _) = net.link(0, 1);
    assert_eq!(net.ended(0, ours), Some(Error::Downgrade(peer)), "remembered over a restart");
}

#[test]
fn simultaneous_dials_leave_one_link_on_which_both_agree() {
    for seed in 0..300u16 {
        let mut net = Net::new(2);
        let [low, high] = seed.to_le_bytes();
        net.rng = Rng::from_seed([low.wrapping_add(high.wrapping_mul(31)).wrapping_add(1); 32]);
        net.rng.public_below(u64::from(seed) + 1);
        for (from, to) in [(0, 1), (1, 0), (0, 1)].into_iter().take(2 + usize::from(seed % 2)) {
            net.dial(from, to, Pin::None);
            for _ in 0..net.rng.public_below(6) {
                net.step();
            }
        }
        net.run();
        let (a, b) = (net.only(0).expect("one link"), net.only(1).expect("one link"));
        assert_eq!(net.pipes.get(&(0, a.conn)), Some(&(1, b.conn)), "seed {seed}: not the same connection");
        net.send(0, 1, Class::Control, b"x");
        net.send(1, 0, Class::Control, b"y");
        net.run();
        assert_eq!((net.received(1).len(), net.received(0).len()), (1, 1));
        assert_eq!(net.pipes.len(), 2, "the other connections are closed");
    }
}

#[test]
fn a_restarted_peer_links_again_at_once() {
    for (first, then) in [((0, 1), (1, 0)), ((1, 0), (1, 0))] {
        let mut net = Net::new(2);
        let (old, other) = net.link(first.0, first.1);
        // Node 1 loses power: no byte leaves its old connections.
        for end in [(first.0, old), (first.1, other)] {
            net.cut.insert(end);
        }
        net.nodes[1] = node(config(2), 8);
        net.link(then.0, then.1);
        assert!(net.only(0).is_some() && net.only(1).is_some());
        let lost = if first.0 == 0 { old } else { other };
        assert_eq!(net.ended(0, lost), Some(Error::Replaced));
        net.send(0, 1, Class::Control, b"again");
        net.run();
        assert_eq!(net.received(1).len(), 1);
    }
}

#[test]
fn a_second_dial_leaves_a_live_link_alone_and_replaces_a_dead_one() {
    let mut net = Net::new(2);
    let (first, other) = net.link(0, 1);
    net.advance(Duration::from_secs(1));
    let (second, _) = net.link(0, 1);
    assert_eq!(net.ended(0, second), Some(Error::AlreadyLinked(net.id(1))));
    let (back, _) = net.link(1, 0);
    assert_eq!(net.ended(1, back), Some(Error::AlreadyLinked(net.id(0))));
    assert_eq!((net.only(0).unwrap().conn, net.ended(0, first)), (first, None));

    net.cut.extend([(0, first), (1, other)]);
    net.link(0, 1);
    net.advance(PING_WAIT_IDLE);
    let (third, _) = net.link(0, 1);
    assert_eq!(net.only(0).unwrap().conn, third, "the first dial made the old link suspect");
    assert_eq!(net.ended(1, other), Some(Error::Replaced));
}

#[test]
fn a_source_is_answered_at_its_rate_and_others_are_not_concerned() {
    let mut net = Net::new(3);
    net.nodes[2] = node(Config { open: false, ..config(3) }, 3);
    let conns: Vec<_> = (0..12).map(|_| net.dial(0, 2, Pin::Required(net.id(2))).1).collect();
    net.dial(1, 2, Pin::Required(net.id(2)));
    net.run();
    let answered = conns.iter().filter(|conn| net.nodes[2].handshakes.contains_key(conn)).count();
    assert_eq!(answered as u64, HANDSHAKE_BURST);
    assert_eq!(net.nodes[2].links.counters().rate_limited, 12 - HANDSHAKE_BURST);
    assert_eq!(net.nodes[2].links.links().count(), 2);
}

#[test]
fn half_open_connections_are_bounded_in_all_per_source_and_in_time() {
    let mut net = Net::new(2);
    for _ in 0..2 * HALF_OPEN_PER_SOURCE_MAX {
        let conn = net.conn();
        net.nodes[1].links.handle_accept(net.now, conn, source(200));
    }
    net.run();
    assert_eq!(net.nodes[1].events.len(), HALF_OPEN_PER_SOURCE_MAX, "a source fills its own share only");
    for n in 0..=255 {
        let conn = net.conn();
        net.nodes[1].links.handle_accept(net.now, conn, IpAddr::V4(Ipv4Addr::new(10, 1, n, n)));
    }
    net.link(0, 1);
    assert!(net.only(0).is_some(), "an honest peer gets through");
    let refused = net.nodes[1].links.counters().half_open_refused;
    assert_eq!(refused, (HALF_OPEN_PER_SOURCE_MAX + HALF_OPEN_PER_SOURCE_MAX + 256 - HALF_OPEN_MAX + 1) as u64);
    net.nodes[1].events.clear();
    net.advance(HANDSHAKE_TIME_MAX);
    let late = net.nodes[1].events.iter().filter(|event| matches!(event, Event::Failed { why: Error::TimedOut, .. }));
    assert_eq!(late.count(), HALF_OPEN_MAX - 1);
}

#[test]
fn a_full_node_says_so_and_still_takes_a_restarted_peer() {
    let mut net = Net::with([config(1), config(2), Config { max_inbound: 1, max_outbound: 1, ..config(3) }]);
    net.link(0, 2);
    let (refused, _) = net.link(1, 2);
    assert_eq!(net.ended(1, refused), Some(Error::Bye(Bye::TooManyLinks)));
    assert!(net.nodes[1].events.iter().all(|event| !matches!(event, Event::Up { .. })), "it never was a link");
    net.nodes[0] = node(config(1), 9);
    net.link(0, 2);
    assert!(net.only(0).is_some() && net.only(2).is_some());
    net.link(2, 1);
    assert_eq!(net.nodes[2].links.links().count(), 2);
    let (ours, _) = net.link(2, 0);
    assert_eq!(net.ended(2, ours), Some(Error::TooManyLinks));
}

#[test]
fn nonsense_in_any_state_makes_no_link() {
    let mut net = Net::new(2);
    let mut rng = Rng::from_seed([42; 32]);
    for round in 0..300u64 {
        let (ours, theirs) = net.dial(0, 1, Pin::None);
        for _ in 0..round % 3 {
            net.step();
        }
        let mut frame = vec![0; usize::try_from(rng.public_below(5000)).unwrap()];
        rng.fill_public(&mut frame);
        if let Some(first) = frame.first_mut() {
            *first = u8::try_from(round % 5).unwrap();
        }
        net.nodes[0].links.handle_frame(net.now, ours, &frame);
        net.nodes[1].links.handle_frame(net.now, theirs, &frame);
        net.run();
        assert!(net.only(0).is_none() && net.only(1).is_none());
        net.now = net.now.after(Duration::from_secs(1));
    }
    assert!(net.nodes[0].links.poll_timeout().is_none(), "nothing is left behind");
    assert!(net.nodes[1].links.poll_timeout().is_none());
}
