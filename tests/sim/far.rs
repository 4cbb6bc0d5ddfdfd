//! Networks larger than any table: landmarks and places; and the stand-in for cryptography.
//! Large ones are commands: `tarnet-sim --topology grid --nodes 3000 --profile small --crypto fast`.

use std::time::Duration;

use tarnet_core::crypto::{PeerId, stand_in};
use tarnet_core::routing::Limits;
use tarnet_sim::network::Kept;
use tarnet_sim::topology::{Kind, Topology};
use tarnet_sim::workload::content;

use crate::world::World;

const SETTLE: Duration = Duration::from_secs(60);

/// Tables that hold a fifth of the network.
fn tiny() -> Limits {
    Limits { table: 20, landmarks: 8, tombstones: 64, ..Limits::default() }
}

/// Everybody reaches everybody in a network of a hundred, by landmarks alone.
fn all_are_reached(kind: Kind) {
    let mut world = World::of(kind, 100, Kept { limits: tiny(), dht: false });
    world.settle_for(SETTLE, Duration::from_secs(2));
    world.reach(100);
}

/// What some have stored all others find, though nobody sees more than a fifth of the others.
#[test]
fn content_is_found_beyond_the_table() {
    let mut world = World::of(Kind::Random, 100, Kept { limits: tiny(), dht: true });
    world.settle_for(SETTLE, Duration::from_secs(2));
    world.reach(50);
    let outcome = content::run(&mut world.network, &mut world.rng);
    assert_eq!((outcome.asked, outcome.found), (100, 100), "{:?}", outcome.failed);
    assert!(outcome.missing_known >= 99, "{} of 100 learnt what does not exist", outcome.missing_known);
}

#[test]
fn line_is_crossed_by_places() {
    all_are_reached(Kind::Line);
}

#[test]
fn grid_is_crossed_by_places() {
    all_are_reached(Kind::Grid);
}

#[test]
fn lans_are_crossed_by_places() {
    all_are_reached(Kind::Lans);
}

/// A tenth dies at once; whoever is still connected is reached at once, by crank-back and other landmarks.
#[test]
fn killed_relays_and_landmarks_are_gone_around() {
    let mut world = World::of(Kind::Random, 100, Kept { limits: tiny(), dht: false });
    world.settle_for(SETTLE, Duration::from_secs(2));
    for host in (7..100).step_by(10) {
        world.network.kill(host);
    }
    world.network.run_for(Duration::from_secs(1));
    world.reach(100);
}

/// Routes of all nodes after a while.
fn tables(fast: bool) -> Vec<(usize, PeerId, PeerId, u16)> {
    stand_in::set(fast);
    let topology = Topology::new(Kind::Internet, 60, &mut tarnet_sim::scenario::seeded(3));
    let mut world = World::with(&topology, Kept { limits: tiny(), dht: false });
    world.network.run_for(Duration::from_secs(30));
    let routes = |host| world.network.node(host).expect("nobody died").routes();
    let lines = |host| routes(host).map(move |route| (host, route.peer_id, route.next_hop, route.cost.0));
    let all = (0..60).flat_map(lines).collect();
    stand_in::set(false);
    all
}

#[test]
fn fast_cryptography_gives_the_same_tables() {
    let real = tables(false);
    assert!(real.len() > 60 * 20);
    assert!(real == tables(true));
}
