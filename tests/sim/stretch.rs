//! How much longer paths are than they need be, where tables hold a fifth of the network.

use std::time::Duration;

use tarnet_core::routing::Limits;
use tarnet_sim::measure::mean;
use tarnet_sim::network::Kept;
use tarnet_sim::topology::Kind;
use tarnet_sim::workload::pairs;

use crate::world::World;

/// The mean of links on a path by links on the shortest way.
fn stretch(kind: Kind) -> f64 {
    let limits = Limits { table: 30, landmarks: 8, tombstones: 64, ..Limits::default() };
    let mut world = World::of(kind, 150, Kept { limits, dht: false });
    world.settle_for(Duration::from_secs(60), Duration::from_secs(2));
    let chosen = pairs::choose(&world.network, 150, &mut world.rng);
    let results = pairs::run(&mut world.network, &chosen);
    let graph = world.network.graph();
    let of = |pair: &pairs::Pair| {
        let shortest = graph.distances(pair.from)[pair.to].expect("all are connected");
        f64::from(pair.hops.expect("all are reached")) / f64::from(shortest)
    };
    mean(&results.iter().map(of).collect::<Vec<_>>())
}

#[test]
fn paths_of_a_tree_leave_the_way_to_the_landmark_where_they_meet_the_peers() {
    let stretch = stretch(Kind::Tree);
    assert!(stretch <= 1.03, "{stretch}");
}

#[test]
fn paths_of_a_random_graph_are_an_eighth_too_long_at_most() {
    let stretch = stretch(Kind::Random);
    assert!(stretch <= 1.12, "{stretch}");
}
