//! How fast: two relays together carry what one cannot, and connecting costs few round trips.

use std::time::Duration;

use tarnet_core::node::{Event, Target};
use tarnet_sim::network::Shape;
use tarnet_sim::topology::{Edge, Topology};
use tarnet_sim::workload::names;
use tarnet_sim::workload::transfer::Transfer;

use crate::world::World;

/// A graph of equal cables.
fn graph(nodes: usize, cables: &[(usize, usize)], shape: Shape) -> Topology {
    let edges = cables.iter().map(|&(from, to)| Edge { from, to, shape }).collect();
    Topology::of(nodes, edges, vec![(0.5, 0.5); nodes])
}

/// Mbit/s of a single stream from machine 0 to machine 1 once it is up to speed.
fn rate(cables: &[(usize, usize)], nodes: usize) -> f64 {
    /// Bytes until it is up to speed.
    const WARM_LEN: u64 = 20_000_000;
    /// Bytes in all.
    const LEN: u64 = 80_000_000;
    let shape = Shape { bits_per_s: 50_000_000, ..Shape::with_delay(Duration::from_millis(10)) };
    let mut world = World::with_topology(&graph(nodes, cables, shape));
    world.settle(Duration::from_secs(5));
    let mut transfer = Transfer::new(&mut world.network, 0, 1, LEN);
    let end = world.network.now().instant + Duration::from_secs(60);
    let mut warm = None;
    while !transfer.is_over() && world.network.step(end) {
        transfer.advance(&mut world.network);
        if warm.is_none() && transfer.received >= WARM_LEN {
            warm = Some((world.network.now().instant, transfer.received));
        }
    }
    assert_eq!((transfer.error, transfer.received), (None, LEN));
    let (since, before) = warm.expect("it was up to speed");
    let bits = Duration::from_micros((LEN - before) * 8).as_secs_f64();
    bits / (world.network.now().instant - since).as_secs_f64()
}

/// Row 7 of the data path.
#[test]
fn two_disjoint_relays_carry_a_single_stream_of_eighty_five_percent_of_both() {
    let one = rate(&[(0, 2), (1, 2)], 3);
    let both = rate(&[(0, 2), (1, 2), (0, 3), (1, 3)], 4);
    println!("one relay {one:.1} Mbit/s, two {both:.1} Mbit/s");
    assert!(one >= 42.5, "{one:.1} Mbit/s of 50");
    assert!(both >= 85.0, "{both:.1} Mbit/s of 100");
}

/// Row 2 of the data path: name, Hello, path and session within four round trips, a channel of a session within one.
#[test]
fn connecting_costs_four_round_trips_cold_and_one_warm() {
    const ROUND_TRIP: Duration = Duration::from_millis(40);
    let shape = Shape { jitter_percent: 0, ..Shape::with_delay(Duration::from_millis(10)) };
    let mut world = World::with_topology(&graph(3, &[(0, 1), (1, 2)], shape));
    world.settle(Duration::from_secs(10));
    let name = names::publish(&mut world.network, 2, "blog").expect("the zone takes it");
    world.settle(Duration::from_secs(5));
    let most = [ROUND_TRIP * 4 + Duration::from_millis(20), ROUND_TRIP + Duration::from_millis(5)];
    for (what, most) in ["cold", "warm"].into_iter().zip(most) {
        let asked = world.network.now().instant;
        let want = names::connect(&mut world.network, 0, Target::Name(name.clone()));
        match names::wait(&mut world.network, want, Duration::from_secs(25)) {
            Some((at, Event::Connected { .. })) => {
                println!("{what}: {:?}", at - asked);
                assert!(at - asked <= most, "{what}: {:?}, at most {most:?}", at - asked);
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}
