//! Cold starts of a hundred nodes with loss: everybody reaches everybody, finds what others
//! have stored, and connects by name within two seconds of its publication.

use std::time::Duration;

use tarnet_core::node::{Event, Target};
use tarnet_sim::topology::{Kind, Topology};
use tarnet_sim::workload::{content, names};

use crate::world::{LOSS_PPM, World};

const NODES: usize = 100;
const SETTLE: Duration = Duration::from_secs(30);

/// The whole story on one topology.
fn cold_start(kind: Kind) {
    let mut world = World::new(kind, NODES);
    world.network.set_loss(LOSS_PPM);
    world.settle(SETTLE);
    world.reach(150);
    let outcome = content::run(&mut world.network, &mut world.rng);
    assert_eq!((outcome.asked, outcome.found), (NODES, NODES), "{:?}", outcome.failed);
    // On a line a denial has up to a hundred lossy hops to come back over, on a ring fifty; nobody sends it twice, and
    // the node waits 4 s for it.
    let least = match kind {
        Kind::Line => NODES / 2,
        Kind::Ring => NODES - 3,
        _ => NODES,
    };
    assert!(outcome.missing_known >= least, "{} of {NODES} learnt what does not exist", outcome.missing_known);
    world.check();
}

/// A name published at one end is connected to from far away, in `SOON` all told.
fn name_travels(kind: Kind, nodes: usize) {
    const SOON: Duration = Duration::from_secs(2);
    let mut world = World::new(kind, nodes);
    world.settle(SETTLE);
    for (owner, label) in [(0, "blog"), (nodes / 3, "wiki"), (nodes - 1, "files")] {
        let asker = nodes / 2 + 1;
        let name = names::publish(&mut world.network, owner, label).expect("the zone takes it");
        let published = world.network.now().instant;
        let want = names::connect(&mut world.network, asker, Target::Name(name.clone()));
        let answer = names::wait(&mut world.network, want, Duration::from_secs(25));
        match answer {
            Some((at, Event::Connected { .. })) => {
                let took = at - published;
                assert!(took <= SOON, "{name} at {owner}, from {asker}: connected after {took:?}");
            }
            other => panic!("{name} at {owner}, from {asker}: {other:?}"),
        }
    }
}

#[test]
fn cold_start_line() {
    cold_start(Kind::Line);
}

#[test]
fn cold_start_ring() {
    cold_start(Kind::Ring);
}

#[test]
fn cold_start_tree() {
    cold_start(Kind::Tree);
}

#[test]
fn name_travels_along_a_line() {
    name_travels(Kind::Line, 30);
}

#[test]
fn name_travels_around_a_ring() {
    name_travels(Kind::Ring, 30);
}

#[test]
fn name_travels_across_a_tree() {
    name_travels(Kind::Tree, 30);
}

/// Two networks that never heard of each other become one through one cable.
#[test]
fn two_lans_merge() {
    let mut rng = tarnet_sim::scenario::seeded(crate::world::Seed::get().0);
    let half = |rng: &mut _| Topology::new(Kind::Lans, NODES / 2, rng);
    let (left, right) = (half(&mut rng), half(&mut rng));
    let bridge = left.edges[0].shape;
    let topology = Topology::joined(left, right, bridge);
    let mut world = World::with_topology(&topology);
    world.network.set_loss(LOSS_PPM);
    let bridge = topology.edges.len() - 1;
    world.network.cut(bridge);
    world.settle(SETTLE);
    world.reach(50);
    world.network.mend(bridge);
    // The dialler waits for up to a minute after many failures.
    world.settle(Duration::from_secs(75) + SETTLE);
    world.reach(150);
    let outcome = content::run(&mut world.network, &mut world.rng);
    assert_eq!((outcome.asked, outcome.found), (NODES, NODES), "{:?}", outcome.failed);
}
