//! Bulk and callers over one slow cable: queues are where their turn can come first, and short.

use std::time::Duration;

use tarnet_sim::network::Shape;
use tarnet_sim::topology::{Edge, Topology};
use tarnet_sim::workload::crowd::Crowd;

use crate::world::World;

/// The slow cable.
const SLOW_BITS: u64 = 20_000_000;
/// What bulk may add to the wait of callers: at all, and per slow cable. Cables hold no queue here; a real one may hold
/// 30 ms more.
const ADDED_MAX: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(20)];
/// Callers at once.
const CALLERS: usize = 20;

/// Machines 0 and 3 reach 2 through 1, which is in the middle; `slow` names the cables of 20 Mbit/s by their far end.
fn world(slow: &[usize], delay_ms: u64) -> World {
    let cable = |end: usize| {
        let fast = Shape { jitter_percent: 0, ..Shape::with_delay(Duration::from_millis(delay_ms)) };
        let bits_per_s = if slow.contains(&end) { SLOW_BITS } else { fast.bits_per_s };
        Edge { from: end, to: 1, shape: Shape { bits_per_s, ..fast } }
    };
    let places = vec![(0.0, 0.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0)];
    let topology = Topology::of(4, [0, 2, 3].map(cable).to_vec(), places);
    let mut world = World::with_topology(&topology);
    world.network.sockets = true;
    world.settle(Duration::from_secs(5));
    world
}

/// Runs callers of one machine alone, then with bulk from machine 0; all go to machine 2.
fn callers_beside_bulk(slow: &[usize], delay_ms: u64, callers_from: usize) {
    let mut world = world(slow, delay_ms);
    let network = &mut world.network;
    let mut crowd = Crowd::new(network, 2);
    crowd.start_callers(network, callers_from, CALLERS);
    crowd.run(network, Duration::from_secs(5));
    let base = crowd.percentile(50);
    crowd.waits.clear();
    crowd.start_bulk(network, 0);
    let time = Duration::from_secs(40);
    crowd.run(network, time);
    let (median, p99) = (crowd.percentile(50), crowd.percentile(99));
    let share = crowd.received * 8 * 100 / (SLOW_BITS * time.as_secs());
    let said = format!(
        "slow {slow:?}, {delay_ms} ms a cable, callers from {callers_from}: base {base:?}, then median {median:?}, \
         99th percentile {p99:?} of {} calls; bulk has {share} % of the cable",
        crowd.waits.len()
    );
    println!("{said}");
    assert!(base < Duration::from_millis(4 * delay_ms + 15), "{said}");
    let slow_cables = u32::try_from(slow.len()).expect("a few cables");
    assert!(p99 <= base + ADDED_MAX[0] + ADDED_MAX[1] * slow_cables, "{said}");
    assert!(share >= 85, "{said}");
}

#[test]
fn callers_of_another_machine_wait_little_behind_bulk_at_a_relay() {
    callers_beside_bulk(&[2], 10, 3);
}

#[test]
fn callers_of_the_same_session_wait_little_behind_bulk_at_a_relay() {
    callers_beside_bulk(&[2], 10, 0);
}

#[test]
fn callers_of_the_same_session_wait_little_behind_bulk_at_their_own_link() {
    callers_beside_bulk(&[0], 10, 0);
}

#[test]
fn callers_wait_little_where_both_links_are_slow() {
    callers_beside_bulk(&[0, 2], 5, 0);
    callers_beside_bulk(&[0, 2], 25, 0);
}
