//! Spoiled handshakes and frames: no link comes of them, none survives them, nothing panics.

use super::*;
use crate::fuzz::{TARGETS, engine::Fuzz};

/// Spoils a wire in flight; whether it was one that can be.
fn spoil(fuzz: &mut Fuzz, wire: &mut Wire) -> bool {
    match wire {
        Wire::Handshake(frame) => *frame = fuzz.spoil(frame),
        Wire::Sealed(frame) => *frame = BytesMut::from(&fuzz.spoil(frame)[..]),
        Wire::Closed => return false,
    }
    true
}

#[test]
fn a_spoiled_handshake_makes_no_link_and_a_spoiled_frame_ends_one() {
    let mut fuzz = Fuzz::new("link", TARGETS);
    while fuzz.goes_on() {
        let mut net = Net::new(3);
        net.link(0, 2);
        let (ours, theirs) = net.dial(0, 1, Pin::None);
        // Up to the frame that is hit: of the handshake, or of the link after it.
        for _ in 0..fuzz.below(6) {
            net.step();
        }
        let peer = net.id(1);
        if fuzz.below(2) == 0 && net.nodes[0].links.links().any(|link| link.peer == peer) {
            net.send(0, 1, Class::Control, b"hello");
        }
        let ends = [(0, ours), (1, theirs)];
        let hit = ends.iter().any(|end| {
            let wire = net.wires.get_mut(end).and_then(VecDeque::front_mut);
            wire.is_some_and(|wire| spoil(&mut fuzz, wire))
        });
        net.run();
        // The far end of a transport that gave up a spoiled frame hears nothing any more.
        net.advance(Duration::from_secs(60));
        let others: Vec<_> = net.nodes[0].links.links().map(|link| link.peer).collect();
        assert!(others.contains(&net.id(2)), "the link to another peer is not concerned");
        assert_eq!(others.contains(&net.id(1)), !hit, "a link if and only if nothing was spoiled");
        assert_eq!(net.only(1).is_some(), !hit);
    }
}

#[test]
fn batches_of_an_authenticated_peer_may_hold_anything() {
    let mut fuzz = Fuzz::new("batches", TARGETS);
    let samples = crate::fuzz::samples::all();
    let mut net = Net::new(3);
    net.link(0, 2);
    net.link(0, 1);
    while fuzz.goes_on() {
        if net.only(1).is_none() {
            net.now = net.now.after(Duration::from_secs(1));
            net.link(1, 0);
        }
        let Some(conn) = net.nodes[0].links.links().find(|link| link.peer == net.id(1)).map(|link| link.conn) else {
            panic!("no link to spoil")
        };
        let sample = fuzz.pick(&samples).clone();
        let batch = Bytes::from(fuzz.spoil(&sample));
        net.nodes[0].links.handle_plaintext(net.now, conn, batch);
        net.pump(0);
        net.run();
        net.nodes[0].events.clear();
        let other = net.id(2);
        assert!(net.nodes[0].links.links().any(|link| link.peer == other), "others are not concerned");
        assert!(net.nodes[0].links.links().all(|link| link.queued_bytes <= limits::CONTROL_QUEUE_MAX));
    }
}
