//! Loop freedom as a property: random graphs under random events, delays and reordering, looked
//! at after every step. `TARNET_LOOP_GRAPHS=10000` runs as many, `TARNET_LOOP_GRAPHS=1202..1203` those; a failure
//! prints its graph.

use std::ops::Range;
use std::time::Duration;

use super::net::{Net, seeded};
use crate::rng::Rng;
use crate::routing::{EpochState, Limits};

/// Graphs when nobody says how many.
const GRAPHS: usize = 40;

/// A number below `bound`.
fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.public_below(bound as u64)).unwrap()
}

/// One thing that happens.
fn disturb(net: &mut Net, rng: &mut Rng) {
    let count = net.nodes.len();
    let (a, b) = (below(rng, count), below(rng, count));
    let linked = net.links.contains_key(&(a.min(b), a.max(b)));
    match rng.public_below(8) {
        0..3 if a != b && !linked => net.link(a, b, 1 + rng.public_below(300)),
        3..6 if linked => net.cut(a, b),
        6 if rng.public_below(4) == 0 => {
            let last = EpochState { epoch: net.nodes[a].origin.sequence().epoch };
            let peers = net.restart(a, last);
            peers.iter().for_each(|peer| net.link(a, *peer, 20));
        }
        _ => net.run(Duration::from_millis(rng.public_below(2500))),
    }
}

/// A random connected graph with random delays, and what happens to it.
fn graph(number: usize) {
    let mut rng = seeded(number, "loops");
    let count = 4 + below(&mut rng, 7);
    let few = number.is_multiple_of(2);
    let tombstones = if few { 1 + below(&mut rng, 3) } else { Limits::default().tombstones };
    let (table, landmarks) = (4 + below(&mut rng, 8), 1 + below(&mut rng, 3));
    let limits = Limits { table, landmarks, tombstones, ..Limits::default() };
    let mut net = Net::new(count, limits);
    net.jitter = Some(rng.fork("jitter"));
    for at in 1..count {
        let other = below(&mut rng, at);
        net.link(at, other, 1 + rng.public_below(300));
    }
    (0..40).for_each(|_| disturb(&mut net, &mut rng));
    net.run_secs(20);
}

/// The graphs to look at.
fn graphs() -> Range<usize> {
    let Ok(asked) = std::env::var("TARNET_LOOP_GRAPHS") else { return 0..GRAPHS };
    let (from, to) = asked.split_once("..").unwrap_or(("0", &asked));
    let number = |text: &str| text.parse().expect("a number of graphs, or a range of them");
    number(from)..number(to)
}

#[test]
fn no_graph_ever_has_a_routing_loop() {
    for number in graphs() {
        let run = std::panic::catch_unwind(|| graph(number));
        assert!(run.is_ok(), "graph {number}");
    }
}
