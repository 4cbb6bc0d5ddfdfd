//! Content of the DHT: put at some nodes, got from every node, and what does not exist is
//! known not to.

use std::time::Duration;

use tarnet_core::node::{Event, WantError, WantId};
use tarnet_core::rng::Rng;

use crate::network::Network;

/// Time for all answers: the node's own limit of a request is shorter.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Step between looks at the answers, and pause between requests.
const LOOK: Duration = Duration::from_millis(50);
/// Values put.
const VALUES_MAX: usize = 32;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Values stored on other nodes.
    pub put: usize,
    /// Values asked for, one by each living node.
    pub asked: usize,
    /// Answers with the right value.
    pub found: usize,
    /// Of as many values that do not exist: known not to, not timed out.
    pub missing_known: usize,
    /// Who did not find what: asker, owner, and why.
    pub failed: Vec<(usize, usize, String)>,
}

/// The value that a machine puts.
fn value(host: usize, salt: u64) -> Vec<u8> {
    format!("what machine {host} says, {salt}").into_bytes()
}

/// Puts values, then gets one of another from every node.
pub fn run(network: &mut Network, rng: &mut Rng) -> Outcome {
    let salt = rng.public_u64();
    let alive: Vec<usize> = (0..network.hosts().len()).filter(|&host| network.hosts()[host].is_alive()).collect();
    let owners: Vec<usize> = alive.iter().copied().step_by(alive.len().div_ceil(VALUES_MAX).max(1)).collect();
    let mut outcome = Outcome::default();
    let mut puts = Vec::new();
    for &owner in &owners {
        let want = network.next_want();
        let put = network.with_node(owner, |node, now| node.dht_put(now, want, &value(owner, salt)));
        if let Some(Ok(hash)) = put {
            puts.push((want, owner, hash));
        }
        network.run_for(LOOK);
    }
    let mut stored = Vec::new();
    let wants = puts.iter().map(|(want, ..)| *want).collect::<Vec<_>>();
    for (event, (_, owner, hash)) in collect(network, &wants).into_iter().zip(puts) {
        match event {
            Some(Event::Stored { replicas, .. }) if replicas > 0 => stored.push((owner, hash)),
            other => outcome.failed.push((owner, owner, format!("put: {other:?}"))),
        }
    }
    outcome.put = stored.len();
    get(network, rng, &alive, &stored, salt, &mut outcome);
    outcome
}

/// Has every node ask for a stored value and for one that does not exist.
fn get(
    network: &mut Network,
    rng: &mut Rng,
    alive: &[usize],
    stored: &[(usize, [u8; 32])],
    salt: u64,
    outcome: &mut Outcome,
) {
    let graph = network.graph();
    let mut asked = Vec::new();
    let mut missing = Vec::new();
    for &asker in alive {
        let distances = graph.distances(asker);
        let near: Vec<&(usize, [u8; 32])> =
            stored.iter().filter(|(owner, _)| *owner != asker && distances[*owner].is_some()).collect();
        let pick = rng.public_below(u64::try_from(near.len()).unwrap_or(u64::MAX));
        let Some(&&(owner, hash)) = usize::try_from(pick).ok().and_then(|pick| near.get(pick)) else { continue };
        let want = network.next_want();
        network.with_node(asker, |node, now| node.dht_get(now, want, hash));
        asked.push((want, asker, owner));
        let (want, nothing) = (network.next_want(), rng.public_array());
        network.with_node(asker, |node, now| node.dht_get(now, want, nothing));
        missing.push(want);
        network.run_for(LOOK);
    }
    outcome.asked = asked.len();
    let wants = asked.iter().map(|(want, ..)| *want).collect::<Vec<_>>();
    for (event, (_, asker, owner)) in collect(network, &wants).into_iter().zip(asked) {
        match event {
            Some(Event::Content { value: got, .. }) if got == value(owner, salt) => outcome.found += 1,
            other => outcome.failed.push((asker, owner, format!("get: {other:?}"))),
        }
    }
    let absent = |event: &Option<Event>| matches!(event, Some(Event::Failed { why: WantError::NoSuchName, .. }));
    outcome.missing_known = collect(network, &missing).iter().filter(|event| absent(event)).count();
}

/// Waits for the answers of requests.
fn collect(network: &mut Network, wants: &[WantId]) -> Vec<Option<Event>> {
    let end = network.now().instant + ANSWER_TIME;
    let mut answers: Vec<Option<Event>> = wants.iter().map(|_| None).collect();
    while answers.iter().any(Option::is_none) && network.now().instant < end {
        for (want, answer) in wants.iter().zip(&mut answers) {
            if answer.is_none() {
                *answer = network.take_answer(*want).map(|(_, event)| event);
            }
        }
        network.run_for(LOOK);
    }
    answers
}
