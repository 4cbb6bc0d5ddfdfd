//! Content of the DHT: put at some nodes, got from every node, and what does not exist is
//! known not to.

use std::time::Duration;

use tarnet_core::node::{Event, WantError, WantId};
use tarnet_core::rng::Rng;
use tarnet_core::time::Instant;

use crate::network::Network;

/// Time for all answers: the node's own limit of a request is shorter.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Step between looks at the answers, and pause between requests.
const LOOK: Duration = Duration::from_millis(50);
/// Values put.
const VALUES_MAX: usize = 32;

/// Nodes that ask, at most.
const ASKERS_MAX: usize = 1000;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Values stored on other nodes.
    pub put: usize,
    /// Values asked for, one by each living node.
    pub asked: usize,
    /// Answers with the right value.
    pub found: usize,
    /// Answers with another value: never.
    pub forged: usize,
    /// Of as many values that do not exist: known not to, not timed out.
    pub missing_known: usize,
    /// Who did not find what: asker, owner, and why.
    pub failed: Vec<(usize, usize, String)>,
    /// How long each value found took.
    pub hits: Vec<Duration>,
    /// How long each took that is known not to exist.
    pub misses: Vec<Duration>,
}

impl Outcome {
    /// The median times of a hit and of a miss, and how many misses were known within three times a hit's.
    #[must_use]
    pub fn in_time(&self) -> (Duration, Duration, usize) {
        let median = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let hit = median(&self.hits);
        (hit, median(&self.misses), self.misses.iter().filter(|miss| **miss <= hit * 3).count())
    }
}

/// Virtual time that a run among so many machines takes, about.
#[must_use]
pub fn time_of(machines: usize) -> Duration {
    LOOK * u32::try_from(VALUES_MAX.min(machines) + ASKERS_MAX.min(machines)).unwrap_or(u32::MAX)
}

/// A value that other nodes store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whose it is.
    pub owner: usize,
    hash: [u8; 32],
    salt: u64,
}

/// The value that a machine puts.
fn value(host: usize, salt: u64) -> Vec<u8> {
    format!("what machine {host} says, {salt}").into_bytes()
}

/// Machines that are on and do not lie.
fn honest(network: &Network) -> Vec<usize> {
    let honest = |host: &usize| network.hosts()[*host].is_alive() && network.hosts()[*host].lie().is_none();
    (0..network.hosts().len()).filter(honest).collect()
}

/// Puts values, then gets one of another from every node.
pub fn run(network: &mut Network, rng: &mut Rng) -> Outcome {
    let (stored, mut outcome) = put(network, rng);
    let all = honest(network);
    let askers: Vec<usize> = all.iter().copied().step_by(all.len().div_ceil(ASKERS_MAX).max(1)).collect();
    ask(network, rng, &askers, &stored, &mut outcome);
    outcome
}

/// Has some nodes put values.
pub fn put(network: &mut Network, rng: &mut Rng) -> (Vec<Stored>, Outcome) {
    let salt = rng.public_u64();
    let all = honest(network);
    let owners: Vec<usize> = all.iter().copied().step_by(all.len().div_ceil(VALUES_MAX).max(1)).collect();
    let mut outcome = Outcome::default();
    let mut puts = Vec::new();
    for &owner in &owners {
        let want = network.next_want();
        let put = network.with_node(owner, |node, now| node.dht_put(now, want, &value(owner, salt)));
        if let Some(Ok(hash)) = put {
            puts.push((want, Stored { owner, hash, salt }));
        }
        network.run_for(LOOK);
    }
    let mut stored = Vec::new();
    let wants = puts.iter().map(|(want, _)| *want).collect::<Vec<_>>();
    for (answer, (_, put)) in collect(network, &wants).into_iter().zip(puts) {
        match answer {
            Some((_, Event::Stored { replicas, .. })) if replicas > 0 => stored.push(put),
            other => outcome.failed.push((put.owner, put.owner, format!("put: {other:?}"))),
        }
    }
    outcome.put = stored.len();
    (stored, outcome)
}

/// Has nodes ask for a stored value of another, and for one that does not exist.
pub fn ask(network: &mut Network, rng: &mut Rng, askers: &[usize], stored: &[Stored], outcome: &mut Outcome) {
    let graph = network.graph();
    let mut asked = Vec::new();
    let mut missing = Vec::new();
    for &asker in askers {
        let distances = graph.distances(asker);
        let near: Vec<&Stored> =
            stored.iter().filter(|put| put.owner != asker && distances[put.owner].is_some()).collect();
        let pick = rng.public_below(u64::try_from(near.len().max(1)).unwrap_or(u64::MAX));
        let Some(&&put) = usize::try_from(pick).ok().and_then(|pick| near.get(pick)) else { continue };
        let (since, want) = (network.now().instant, network.next_want());
        network.with_node(asker, |node, now| node.dht_get(now, want, put.hash));
        asked.push((want, since, asker, put));
        let (want, nothing) = (network.next_want(), rng.public_array());
        network.with_node(asker, |node, now| node.dht_get(now, want, nothing));
        missing.push((want, since));
        network.run_for(LOOK);
    }
    outcome.asked += asked.len();
    let wants = asked.iter().map(|(want, ..)| *want).collect::<Vec<_>>();
    for (answer, (_, since, asker, put)) in collect(network, &wants).into_iter().zip(asked) {
        match answer {
            Some((at, Event::Content { value: got, .. })) if got == value(put.owner, put.salt) => {
                outcome.found += 1;
                outcome.hits.push(at - since);
            }
            Some((_, Event::Content { .. })) => outcome.forged += 1,
            other => outcome.failed.push((asker, put.owner, format!("get: {other:?}"))),
        }
    }
    let wants = missing.iter().map(|(want, _)| *want).collect::<Vec<_>>();
    for (answer, (_, since)) in collect(network, &wants).into_iter().zip(missing) {
        if let Some((at, Event::Failed { why: WantError::NoSuchName, .. })) = answer {
            outcome.missing_known += 1;
            outcome.misses.push(at - since);
        }
    }
}

/// Waits for the answers of requests.
fn collect(network: &mut Network, wants: &[WantId]) -> Vec<Option<(Instant, Event)>> {
    let end = network.now().instant + ANSWER_TIME;
    let mut answers: Vec<Option<(Instant, Event)>> = wants.iter().map(|_| None).collect();
    while answers.iter().any(Option::is_none) && network.now().instant < end {
        for (want, answer) in wants.iter().zip(&mut answers) {
            if answer.is_none() {
                *answer = network.take_answer(*want);
            }
        }
        network.run_for(LOOK);
    }
    answers
}
