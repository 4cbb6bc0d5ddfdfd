//! Attacks on links: somebody in the place of a peer, a stripped handshake, repeats, and greed.

use super::super::limits::{CELL_QUEUE_MAX, CONTROL_QUEUE_MAX, HANDSHAKE_BURST};
use super::*;
use crate::crypto::{Context, Purpose, derive, keyed_mac};
use crate::defence::{Defence, stops};
use crate::wire::link::{First, MAC_LEN};

/// What an impostor of node `of` is configured with: its public key, and another secret.
fn impostor(of: u8) -> Config {
    let victim = SigningKey::from_seed(&[of; 32]);
    Config { keys: Arc::new(SigningKey::claiming(&[99; 32], victim.public())), ..config(of) }
}

#[test]
fn a_relay_that_answers_in_the_place_of_a_peer_is_not_taken_for_it() {
    stops(Defence::Signature(Purpose::LinkResponder), || {
        let mut net = Net::with([config(1), impostor(2)]);
        let victim = SigningKey::from_seed(&[2; 32]).public().peer_id();
        net.dial(0, 1, Pin::Required(victim));
        net.run();
        net.only(0).is_some_and(|link| link.peer == victim)
    });
}

#[test]
fn a_stranger_that_dials_in_the_name_of_a_peer_is_not_taken_for_it() {
    stops(Defence::Signature(Purpose::LinkInitiator), || {
        let mut net = Net::with([config(1), impostor(2)]);
        net.link(1, 0);
        net.nodes[0].events.iter().any(|event| matches!(event, Event::Up { .. }))
    });
}

#[test]
fn another_peer_at_a_pinned_address_gets_no_link_and_learns_nothing() {
    stops(Defence::Pin, || {
        let mut net = Net::new(2);
        let wanted = SigningKey::from_seed(&[3; 32]).public().peer_id();
        net.dial(0, 1, Pin::Required(wanted));
        net.run();
        net.nodes[1].events.iter().any(|event| matches!(event, Event::Up { .. }))
    });
}

/// Takes the hybrid group out of a first message for nobody in particular; the MAC is anybody's to make.
fn strip(first: &[u8]) -> Vec<u8> {
    let mut offer = First::decode(First::split_mac(first).unwrap().0).unwrap();
    offer.groups.retain(|(code, _)| *code == Group::X25519.code());
    let mut stripped = offer.encode();
    let mac = keyed_mac(&derive(Context::LinkMac, &[&[0; 32]]), &stripped);
    stripped.extend_from_slice(&mac[..MAC_LEN]);
    stripped
}

#[test]
fn a_man_in_the_middle_that_strips_the_post_quantum_half_is_noticed() {
    stops(Defence::OfferInTranscript, || {
        let mut net = Net::new(2);
        let (_, theirs) = net.dial(0, 1, Pin::None);
        let wire = net.wires.get_mut(&(1, theirs)).and_then(VecDeque::front_mut).unwrap();
        let Wire::Handshake(first) = wire else { panic!("no first message") };
        *first = strip(first);
        net.run();
        net.only(0).is_some_and(|link| link.group == Group::X25519)
    });
}

#[test]
fn a_peer_once_seen_with_the_post_quantum_half_is_not_accepted_without() {
    let old = || Config { groups: vec![Group::X25519], ..config(2) };
    for dialer in [0, 1] {
        stops(Defence::GroupFloor, || {
            let mut net = Net::new(2);
            net.link(0, 1);
            let peer = net.id(1);
            net.nodes[0].links.close(net.now, &peer);
            net.run();
            // Its X25519 half was broken meanwhile, and whoever did that speaks for it.
            net.nodes[1] = node(old(), 7);
            net.link(dialer, 1 - dialer);
            net.only(0).is_some_and(|link| link.group == Group::X25519)
        });
    }
}

#[test]
fn a_frame_that_is_sent_again_is_not_heard_again() {
    stops(Defence::FrameCounter, || {
        let mut net = Net::new(2);
        let (_, theirs) = net.link(0, 1);
        net.send(0, 1, Class::Control, b"pay");
        let wires = net.wires.get_mut(&(1, theirs)).unwrap();
        let Some(Wire::Sealed(frame)) = wires.back() else { panic!("no frame") };
        let again = frame.clone();
        wires.push_back(Wire::Sealed(again));
        net.run();
        net.received(1).len() == 2
    });
}

#[test]
fn a_frame_of_one_link_is_worth_nothing_on_another() {
    let mut net = Net::new(2);
    let (_, first) = net.link(0, 1);
    net.send(0, 1, Class::Control, b"pay");
    let Some(Wire::Sealed(frame)) = net.wires[&(1, first)].back() else { panic!("no frame") };
    let frame = frame.clone();
    net.run();
    net.nodes[0] = node(config(1), 9);
    let (_, second) = net.link(0, 1);
    net.wires.get_mut(&(1, second)).unwrap().push_back(Wire::Sealed(frame));
    net.run();
    assert_eq!(net.received(1).len(), 1);
    assert_eq!(net.ended(1, second), Some(Error::BadFrame));
}

#[test]
fn a_flood_of_handshakes_from_one_source_costs_no_public_key_work() {
    stops(Defence::HandshakeRate, || {
        let mut net = Net::new(3);
        let flood: Vec<_> = (0..12).map(|_| net.dial(0, 1, Pin::None).1).collect();
        net.dial(2, 1, Pin::None);
        net.run();
        let honest = net.id(2);
        assert!(net.nodes[1].links.links().any(|link| link.peer == honest), "others are served");
        flood.iter().filter(|conn| net.nodes[1].handshakes.contains_key(conn)).count() as u64 > HANDSHAKE_BURST
    });
}

#[test]
fn half_open_links_of_one_source_do_not_push_an_honest_one_out() {
    stops(Defence::HalfOpenShare, || {
        let mut net = Net::new(2);
        net.dial(0, 1, Pin::None);
        for _ in 0..300 {
            let conn = net.conn();
            net.nodes[1].links.handle_accept(net.now, conn, source(200));
        }
        net.run();
        net.only(0).is_none()
    });
}

/// Lets node 0 send to a peer that reads nothing; says the most that was queued.
fn queued_for_a_dead_reader(class: Class) -> usize {
    let mut net = Net::new(2);
    net.link(0, 1);
    let (peer, now) = (net.id(1), net.now);
    net.ready = false;
    let mut most = 0;
    for _ in 0..3000 {
        let body = Bytes::from_static(&[7; 1000]);
        let kind = if class == Class::Control { crate::wire::kind::ADVERT } else { crate::wire::kind::CELL };
        let _ = net.nodes[0].links.send(now, &peer, class, kind, &[1, 0, 0, 0, 0], body);
        most = most.max(net.only(0).map_or(0, |link| link.queued_bytes));
        net.pump(0);
    }
    most
}

#[test]
fn a_peer_that_never_reads_does_not_fill_the_memory() {
    let cell = Class::Cell { flow: 1, interactive: false, from: Some(PeerId([8; 32])) };
    for (defence, class, bound) in
        [(Defence::ControlQueue, Class::Control, CONTROL_QUEUE_MAX), (Defence::CellQueue, cell, CELL_QUEUE_MAX)]
    {
        stops(defence, || queued_for_a_dead_reader(class) > bound + 20_000);
    }
}

#[test]
fn a_flow_that_floods_a_slow_link_loses_its_own_cells_only() {
    stops(Defence::LongestFlowLoses, || {
        let mut net = Net::new(2);
        let (ours, _) = net.link(0, 1);
        net.ready = false;
        for _ in 0..20 {
            net.send(0, 1, Class::Cell { flow: 1, interactive: false, from: Some(PeerId([8; 32])) }, &[1; 1000]);
        }
        for _ in 0..2000 {
            net.send(0, 1, Class::Cell { flow: 2, interactive: false, from: Some(PeerId([8; 32])) }, &[2; 1000]);
        }
        net.ready = true;
        (0..2).for_each(|_| net.nodes[0].links.handle_ready(net.now, ours));
        net.run();
        let honest = net.received(1).iter().filter(|body| body.last() == Some(&1)).count();
        honest < 20
    });
}
