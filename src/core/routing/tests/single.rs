//! One machine by hand.

use std::sync::Arc;
use std::time::Duration;

use super::net::seeded;
use crate::crypto::{PeerId, Scheme, SigningKey};
use crate::routing::{EpochState, Event, Limits, LinkCost, Routing};
use crate::time::Now;

/// A machine without links.
fn machine(last: EpochState) -> Routing {
    let keys = Arc::new(SigningKey::generate(Scheme::Ed25519, &mut seeded(1, "key")));
    Routing::new(Now::ZERO, keys, seeded(1, "node"), Limits::default(), last)
}

#[test]
fn the_epoch_grows_at_each_start_and_is_persisted_first() {
    let mut node = machine(EpochState { epoch: 41 });
    assert_eq!(node.poll_event(), Some(Event::Persist(EpochState { epoch: 42 })));
    assert_eq!(node.poll_event(), None);
}

#[test]
fn a_link_is_a_next_hop_from_its_first_to_its_last_moment() {
    let mut node = machine(EpochState::default());
    let (peer, now) = (PeerId([3; 32]), Now::ZERO);
    node.poll_event();
    node.handle_link_up(now, peer, LinkCost::new(5));
    assert_eq!(node.next_hops(&peer)[0].1.0, 5);
    node.handle_link_cost(now, peer, LinkCost::new(6));
    assert_eq!(node.next_hops(&peer)[0].1.0, 5, "a small change is ignored");
    node.handle_link_cost(now, peer, LinkCost::new(9));
    assert_eq!(node.next_hops(&peer)[0].1.0, 9);
    node.handle_link_down(now, peer);
    assert!(node.next_hops(&peer).is_empty());
    assert_eq!(node.poll_event(), Some(Event::RouteUp { dest: peer }));
    assert_eq!(node.poll_event(), Some(Event::RouteDown { dest: peer }));
}

#[test]
fn link_costs_follow_the_round_trip_time() {
    let cost = |ms| LinkCost::from_rtt(Duration::from_millis(ms)).as_u8();
    assert_eq!([cost(0), cost(24), cost(25), cost(100), cost(10_000)], [1, 1, 2, 5, 16]);
    assert_eq!((LinkCost::new(0).as_u8(), LinkCost::new(99).as_u8()), (1, 16));
}

#[test]
fn an_early_timeout_changes_nothing() {
    let mut node = machine(EpochState::default());
    let due = node.poll_timeout();
    node.handle_timeout(Now::ZERO);
    assert_eq!((node.poll_timeout(), node.poll_transmit()), (due, None));
}
