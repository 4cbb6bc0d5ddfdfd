//! Honest networks: they converge, heal, merge, stay loop-free and quiet.

use std::time::Duration;

use bytes::Bytes;

use super::net::Net;
use crate::routing::{EpochState, Event, Hops, Limits, LookupId, SendError};
use crate::wire::way::Way;

/// All nodes of a network.
fn all(net: &Net) -> Vec<usize> {
    (0..net.nodes.len()).collect()
}

#[test]
fn a_line_converges_to_shortest_routes() {
    let mut net = Net::line(12);
    net.run_secs(20);
    net.assert_connected(&all(&net));
    assert_eq!(net.hops(0, 11), Some(11));
    assert_eq!(net.nodes[0].routes().count(), 11);
    assert_eq!(net.nodes[5].contacts().count(), 11);
}

#[test]
fn a_grid_converges_with_alternates_and_without_loops() {
    let mut net = Net::grid(4);
    net.run_secs(40);
    net.assert_connected(&all(&net));
    assert_eq!(net.hops(0, 15), Some(6));
    let status = net.nodes[0].routes().find(|route| route.peer_id == net.id(15)).unwrap();
    assert_eq!((status.cost.0, status.alternates.len()), (6, 1));
}

#[test]
fn a_cut_is_known_ten_hops_away_within_a_second() {
    let mut net = Net::line(12);
    net.run_secs(20);
    net.cut(10, 11);
    net.run(Duration::from_secs(1));
    let dest = net.id(11);
    assert!((0..11).all(|at| !net.nodes[at].reaches(&dest)));
    assert!(net.events.contains(&(0, Event::RouteDown { dest })));
    net.assert_connected(&(0..11).collect::<Vec<_>>());
}

#[test]
fn a_ring_heals_the_other_way_round() {
    let mut net = Net::line(8);
    net.link(0, 7, 5);
    net.run_secs(20);
    assert_eq!(net.hops(0, 7), Some(1));
    net.cut(0, 7);
    net.run_secs(10);
    net.assert_connected(&all(&net));
    assert_eq!(net.hops(0, 7), Some(7));
}

#[test]
fn an_alternate_serves_at_once_when_a_link_breaks() {
    let mut net = Net::grid(3);
    net.run_secs(30);
    assert_eq!(net.nodes[0].next_hops(&net.id(8)).len(), 2);
    let (first, _) = net.nodes[0].next_hops(&net.id(8))[0];
    let via = (0..9).find(|at| net.id(*at) == first).unwrap();
    net.cut(0, via);
    assert_eq!(net.hops(0, 8), Some(4));
}

#[test]
fn cuts_and_joins_at_random_never_loop_and_always_heal() {
    let mut net = Net::grid(4);
    net.run_secs(20);
    let mut rng = super::net::seeded(77, "cuts");
    for _ in 0..12 {
        let links: Vec<_> = net.links.keys().copied().collect();
        let (a, b) = links[usize::try_from(rng.public_below(links.len() as u64)).unwrap()];
        net.cut(a, b);
        net.run(Duration::from_millis(rng.public_below(3000)));
        net.link(a, b, 1 + rng.public_below(40));
        net.run(Duration::from_millis(rng.public_below(3000)));
    }
    net.run_secs(30);
    net.assert_connected(&all(&net));
}

#[test]
fn two_networks_merge_over_one_link() {
    let mut net = Net::new(12, Limits::default());
    for at in (1..6).chain(7..12) {
        net.link(at - 1, at, 5);
    }
    net.run_secs(30);
    assert_eq!(net.hops(0, 11), None);
    net.link(5, 6, 5);
    net.run_secs(15);
    net.assert_connected(&all(&net));
}

#[test]
fn a_restarted_node_is_believed_again_at_once() {
    for last in [EpochState { epoch: 1 }, EpochState::default()] {
        let mut net = Net::line(5);
        net.run_secs(20);
        let peers = net.restart(2, last);
        net.run(Duration::from_millis(300));
        peers.iter().for_each(|peer| net.link(2, *peer, 5));
        net.run_secs(5);
        net.assert_connected(&all(&net));
        let persisted = net.events.iter().rev().find_map(|(_, event)| match event {
            Event::Persist(state) => Some(state.epoch),
            _ => None,
        });
        assert_eq!(persisted, Some(2), "with state {last:?}");
    }
}

#[test]
fn a_restart_with_lost_state_reaches_through_neighbours_that_never_knew_it() {
    let mut net = Net::line(5);
    net.run_secs(20);
    let _ = net.restart(4, EpochState::default());
    net.run(Duration::from_millis(300));
    net.restart(3, EpochState { epoch: 1 });
    net.link(3, 2, 5);
    net.link(4, 3, 5);
    net.run_secs(10);
    net.assert_connected(&all(&net));
}

#[test]
fn an_idle_node_with_seven_neighbours_sends_less_than_100_bytes_a_second() {
    let mut net = Net::new(60, Limits::default());
    net.check_loops = false;
    for at in 0..60 {
        for step in [1, 7, 17] {
            net.link(at, (at + step) % 60, 5);
        }
    }
    net.link(0, 30, 5);
    net.run_secs(120);
    net.assert_connected(&all(&net));
    net.bytes.fill(0);
    let hours = 3;
    net.run_secs(hours * 3600);
    net.assert_connected(&all(&net));
    let worst = net.bytes.iter().max().unwrap() / (hours * 3600);
    // 60 destinations: 300 would multiply what is not digests by five.
    assert!(worst < 25, "{worst} bytes/s");
    let drifts: u64 = net.nodes.iter().map(|node| node.counters().drifts).sum();
    assert_eq!(drifts, 0);
}

#[test]
fn datagrams_and_answers_travel_by_tokens() {
    let mut net = Net::line(6);
    net.run_secs(20);
    let (near, far) = (net.id(1), net.id(5));
    for (to, at, payload) in [(far, 5, "far"), (near, 1, "near")] {
        let now = net.now;
        let request = net.nodes[0].send_routed(now, to, Bytes::from(payload), true).unwrap();
        net.drain(0);
        net.events.clear();
        net.run_secs(1);
        let (_, Event::Datagram { payload: got, reply: Some(reply), neighbour }) = net.events.pop().unwrap() else {
            panic!("no datagram");
        };
        assert_eq!((got, neighbour), (Bytes::from(payload), net.id(at - 1)));
        let now = net.now;
        net.nodes[at].answer_routed(now, reply, Bytes::from("answer")).unwrap();
        net.drain(at);
        net.run_secs(1);
        assert_eq!(net.events, [(0, Event::Answer { request, payload: Bytes::from("answer") })]);
    }
    let now = net.now;
    let me = net.id(0);
    assert_eq!(net.nodes[0].send_routed(now, me, Bytes::new(), false), Err(SendError::Ourselves));
    let stranger = crate::crypto::PeerId([9; 32]);
    assert_eq!(net.nodes[0].send_routed(now, stranger, Bytes::new(), false), Err(SendError::NoRoute));
}

#[test]
fn a_path_tag_leads_to_its_peer_only() {
    let mut net = Net::line(3);
    net.run_secs(10);
    let id = [4; 16];
    let tag = crate::crypto::path_tag(&id, &net.id(2));
    assert_eq!(net.nodes[2].next_hops_for_tag(&id, &tag, &Way::default()), Hops::Here);
    assert_eq!(
        net.nodes[0].next_hops_for_tag(&id, &tag, &Way::default()),
        Hops::Via(net.nodes[0].next_hops(&net.id(2)))
    );
    assert_eq!(net.nodes[0].next_hops_for_tag(&id, &[0; 16], &Way::default()), Hops::Via(Default::default()));
}

#[test]
fn a_probe_finds_a_peer_outside_the_table() {
    let mut net = Net::new(12, Limits { table: 4, landmarks: 0, ..Limits::default() });
    (1..12).for_each(|at| net.link(at - 1, at, 5));
    net.run_secs(60);
    let dest = net.id(11);
    assert!(!net.nodes[0].reaches(&dest));
    let now = net.now;
    net.nodes[0].lookup(now, LookupId(7), dest);
    net.drain(0);
    net.run_secs(2);
    assert!(net.events.contains(&(0, Event::Found { lookup: LookupId(7), dest })));
    assert_eq!(net.hops(0, 11), Some(11));
    let (now, stranger) = (net.now, crate::crypto::PeerId([9; 32]));
    net.nodes[0].lookup(now, LookupId(8), stranger);
    net.drain(0);
    net.run_secs(15);
    assert!(net.events.contains(&(0, Event::NotFound { lookup: LookupId(8), dest: stranger })));
}

#[test]
fn a_next_hop_that_does_not_deliver_comes_last() {
    let mut net = Net::grid(3);
    net.run_secs(30);
    let dest = net.id(8);
    let (first, _) = net.nodes[0].next_hops(&dest)[0];
    let now = net.now;
    (0..3).for_each(|_| net.nodes[0].handle_evidence(now, dest, first, false));
    assert_eq!(net.nodes[0].next_hops(&dest)[1].0, first);
    net.run_secs(900);
    assert_eq!(net.nodes[0].next_hops(&dest)[0].0, first);
}

/// The only route left is no feasible one, and it goes too before anybody could answer the request for a newer
/// sequence. When it comes back, the request must be made again: not after the tombstone's minute.
#[test]
fn a_starved_node_asks_again_when_its_last_route_went_and_came_back() {
    let mut net = Net::new(6, Limits::default());
    for (a, b, delay_ms) in [(0, 1, 5), (1, 2, 5), (0, 3, 15), (3, 4, 5), (4, 5, 5), (5, 2, 5)] {
        net.link(a, b, delay_ms);
    }
    net.run_secs(20);
    assert_eq!(net.hops(0, 2), Some(2));
    net.cut(0, 1);
    net.cut(5, 2);
    net.run_secs(5);
    assert_eq!(net.hops(0, 2), None);
    net.link(5, 2, 5);
    net.run_secs(10);
    assert_eq!(net.hops(0, 2), Some(4));
}

#[test]
fn who_was_told_before_the_others_hears_of_the_end_too() {
    let mut net = Net::new(4, Limits::default());
    net.link(2, 3, 5);
    net.run_secs(5);
    net.link(1, 2, 5);
    net.run(Duration::from_millis(15));
    // The newcomer hears of 3 at once, long before it is time to tell everybody; then it is gone.
    net.link(0, 1, 5);
    net.run(Duration::from_millis(12));
    let dest = net.id(3);
    assert!(net.nodes[0].reaches(&dest));
    net.cut(1, 2);
    net.run_secs(1);
    assert!(!net.nodes[0].reaches(&dest));
}
