//! Random pairs ping each other. A pair counts as reached when a path was opened to the
//! other's node, found by its Hello from the DHT, and a sealed reply came back: nobody is
//! told anything that the network did not find out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tarnet_core::node::{Event, Target, WantId};
use tarnet_core::rng::Rng;
use tarnet_core::time::Instant;

use crate::network::Network;

/// Time between two pairs' first tries: a line's middle links see half of all set-ups, and
/// a node takes 32 a second from one neighbour.
const SPACING: Duration = Duration::from_millis(50);
/// Pause before another try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Step between looks at the answers.
const LOOK: Duration = Duration::from_millis(50);
/// Tries of one pair.
const TRIES_MAX: u32 = 3;

/// What became of one pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Who pings.
    pub from: usize,
    /// Who is pinged.
    pub to: usize,
    /// Length of the path, links, once reached.
    pub hops: Option<u16>,
    /// Round-trip time of the set-up, once reached.
    pub rtt: Duration,
    /// Tries it took.
    pub tries: u32,
    /// What the last failed try ended with.
    pub failure: Option<String>,
}

/// Where a pair stands.
enum Stage {
    /// To be tried at this time.
    Due(Instant),
    /// Waiting for its answer.
    Asked(WantId),
    /// Over.
    Done,
}

/// Virtual time that trying so many takes, about.
#[must_use]
pub fn time_of(pairs: usize) -> Duration {
    SPACING * u32::try_from(pairs).unwrap_or(u32::MAX)
}

/// Chooses up to `count` different pairs of living machines that cables connect.
#[must_use]
pub fn choose(network: &Network, count: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let graph = network.graph();
    let alive: Vec<usize> = (0..network.hosts().len()).filter(|&host| network.hosts()[host].is_alive()).collect();
    let island = graph.islands();
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    alive.iter().for_each(|&host| *sizes.entry(island[host]).or_default() += 1);
    let connected: usize = sizes.values().map(|size| size * (size - 1)).sum();
    let joined = |from: usize, to: usize| from != to && island[from] == island[to];
    if connected <= count {
        let of = |&from| alive.iter().filter(move |&&to| joined(from, to)).map(move |&to| (from, to));
        return alive.iter().flat_map(of).collect();
    }
    let mut chosen = BTreeSet::new();
    let mut pick = || alive[usize::try_from(rng.public_below(alive.len() as u64)).unwrap_or(0)];
    while chosen.len() < count {
        let pair = (pick(), pick());
        if joined(pair.0, pair.1) {
            chosen.insert(pair);
        }
    }
    chosen.into_iter().collect()
}

/// Tries all pairs, a few at a time, each up to [`TRIES_MAX`] times.
pub fn run(network: &mut Network, pairs: &[(usize, usize)]) -> Vec<Pair> {
    let start = network.now().instant;
    let pair =
        |&(from, to): &(usize, usize)| Pair { from, to, hops: None, rtt: Duration::ZERO, tries: 0, failure: None };
    let due = |i: usize| Stage::Due(start + SPACING * u32::try_from(i).unwrap_or(u32::MAX));
    let mut results: Vec<Pair> = pairs.iter().map(pair).collect();
    let mut stages: Vec<Stage> = (0..pairs.len()).map(due).collect();
    while stages.iter().any(|stage| !matches!(stage, Stage::Done)) {
        for (pair, stage) in results.iter_mut().zip(&mut stages) {
            advance(network, pair, stage);
        }
        network.run_for(LOOK);
    }
    results
}

/// Takes one pair a step further.
fn advance(network: &mut Network, pair: &mut Pair, stage: &mut Stage) {
    match *stage {
        Stage::Due(at) if at <= network.now().instant => {
            pair.tries += 1;
            let target = Target::Peer(network.hosts()[pair.to].peer);
            *stage = Stage::Asked(network.ping(pair.from, target));
        }
        Stage::Asked(want) => match network.take_answer(want) {
            Some((_, Event::Pong { hops, rtt, .. })) => {
                (pair.hops, pair.rtt) = (Some(hops), rtt);
                *stage = Stage::Done;
            }
            Some((_, event)) => {
                pair.failure = Some(match event {
                    Event::Failed { why, .. } => format!("{why:?}"),
                    other => format!("{other:?}"),
                });
                *stage = Stage::Done;
                if pair.tries < TRIES_MAX {
                    *stage = Stage::Due(network.now().instant + RETRY_PAUSE);
                }
            }
            None => {}
        },
        Stage::Due(_) | Stage::Done => {}
    }
}
