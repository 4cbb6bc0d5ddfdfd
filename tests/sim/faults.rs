//! Nodes die, cables are cut, all is mended: progress within a stated time.

use std::time::Duration;

use tarnet_core::node::{Event, Target};
use tarnet_sim::scenario::Run;
use tarnet_sim::topology::Kind;
use tarnet_sim::workload::names;

use crate::world::{LOSS_PPM, World, options};

const SETTLE: Duration = Duration::from_secs(20);

/// A tenth dies at once; whoever is still connected reaches the others, half a minute later.
#[test]
fn killed_nodes_are_routed_around() {
    let mut world = World::new(Kind::Random, 50);
    world.network.set_loss(LOSS_PPM);
    world.settle(SETTLE);
    for host in [3, 11, 20, 29, 42] {
        world.network.kill(host);
    }
    world.settle(Duration::from_secs(30));
    world.reach(150);
}

/// A line that is cut is two networks; re-joined it is one, in which everybody has everybody again.
#[test]
fn a_cut_line_is_joined_again() {
    let mut run = Run::new(options("--topology line --nodes 12 --pairs 40 --settle 30s --cut --crypto fast"));
    let report = run.run().expect("nothing loops");
    let [cold, cut, joined] = &report.phases[..] else { panic!("three phases") };
    assert_eq!((cut.name.as_str(), joined.name.as_str()), ("cut", "re-join"));
    assert!(cut.table.mean < cold.table.mean && joined.table.mean == 11.0, "{} {}", cut.table.mean, joined.table.mean);
    assert!(report.phases.iter().all(|phase| phase.pairs.reached == phase.pairs.tried));
    assert!((0..run.network.cables().len()).all(|cable| !run.network.is_cut(cable)));
}

/// Two halves are networks of their own; joined by one cable they are one, with the names of both, and inside of each
/// nobody is lost meanwhile.
#[test]
fn halves_that_join_find_each_others_names() {
    let flags =
        "--topology tree --nodes 40 --pairs 60 --settle 40s --heal 60s --split-merge --crypto fast --profile small";
    let mut run = Run::new(options(flags));
    let report = run.run().expect("nothing loops");
    let phases: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["cold", "split", "merging", "split-merge"]);
    assert!(report.phases.iter().all(|phase| phase.pairs.reached == phase.pairs.tried), "{report}");
    let names = report.phases[3].names.expect("names were published");
    assert!(names.asked >= 20 && names.resolved == names.asked, "{names:?}");
}

/// A ring that is cut is a line; mended, it is a ring again, with routes as short as before.
#[test]
fn cut_ring_goes_the_other_way_and_back() {
    let nodes = 16;
    let mut world = World::new(Kind::Ring, nodes);
    world.settle(SETTLE);
    let hops = |world: &mut World| {
        let target = Target::Peer(world.network.hosts()[nodes - 1].peer);
        let want = world.network.ping(0, target);
        match names::wait(&mut world.network, want, Duration::from_secs(21)) {
            Some((_, Event::Pong { hops, .. })) => Some(hops),
            other => panic!("no pong: {other:?}"),
        }
    };
    assert_eq!(hops(&mut world), Some(1));
    let closing = world.network.cables().iter().position(|ends| *ends == [0, nodes - 1]).expect("a ring is closed");
    world.network.cut(closing);
    // Silence is noticed within 15 s of idling and three tries of 5 s.
    world.settle(Duration::from_secs(45));
    world.reach(40);
    world.network.mend(closing);
    world.settle(Duration::from_secs(90));
    let table = |world: &World| {
        let last = world.network.hosts()[nodes - 1].peer;
        world
            .network
            .node(0)
            .expect("nobody died")
            .routes()
            .find(|route| route.peer_id == last)
            .map(|route| route.next_hop)
    };
    assert_eq!(table(&world), Some(world.network.hosts()[nodes - 1].peer));
    world.reach(40);
}

/// A node that comes back with its disk is the same node, and is reached under its old id.
#[test]
fn restarted_node_is_reached_again() {
    let mut world = World::new(Kind::Line, 9);
    world.settle(SETTLE);
    world.reach(30);
    world.network.kill(4);
    world.settle(Duration::from_secs(10));
    world.network.start(4);
    // Its dialler's neighbour has failed for ten seconds: the pause is 16 s at most.
    world.settle(Duration::from_secs(40));
    world.reach(72);
}
