//! Nodes that come and go (row 12). Sessions have a median that is asked for and end at random, at the same rate at
//! any age; a new node takes the place of one that left, at the same cables, with new keys and an empty disk. The
//! nodes whose values are sought stay, and refresh them.

use std::collections::BTreeMap;
use std::time::Duration;

use tarnet_core::time::micros;

use crate::network::Network;
use crate::scenario::Run;
use crate::workload::content::{self, Outcome, Stored};

/// The place of one that left is taken again within this time.
const VACANT_MAX: Duration = Duration::from_secs(20);
/// Step between looks at who leaves.
const STEP: Duration = Duration::from_secs(1);
/// Looks for values: so many, spread over the time.
const ROUNDS: u32 = 8;
/// Who just came is not asked yet.
const YOUNG: Duration = Duration::from_secs(60);
/// Rounds end this long after their beginning.
const ROUND_TIME: Duration = Duration::from_secs(30);

/// Who is away, and who is new.
#[derive(Default)]
struct Turnover {
    /// Machines that are off, and when they come back as somebody else.
    away: BTreeMap<usize, u64>,
    /// When the node of a machine came, where it is not one of the first.
    came: BTreeMap<usize, u64>,
    /// Nodes that left.
    left: usize,
}

impl Turnover {
    /// Lets [`STEP`] pass.
    fn step(&mut self, run: &mut Run, stays: &[usize], median: Duration) {
        let now = run.network.now().instant.as_micros();
        let back: Vec<usize> = self.away.iter().filter(|(_, at)| **at <= now).map(|(host, _)| *host).collect();
        for host in back {
            self.away.remove(&host);
            self.came.insert(host, now);
            run.network.start(host);
        }
        // Half of all leave within the median: at this rate in every step.
        let rate = std::f64::consts::LN_2 * STEP.as_secs_f64() / median.as_secs_f64().max(1.0);
        let parts = crate::options::ppm(rate * 100.0);
        for host in 0..run.network.hosts().len() {
            let leaves = run.rng.public_below(u64::from(crate::network::MILLION)) < u64::from(parts);
            if leaves && !self.away.contains_key(&host) && !stays.contains(&host) {
                run.network.replace(host);
                self.away.insert(host, now + run.rng.public_below(micros(VACANT_MAX)));
                self.left += 1;
            }
        }
        run.network.run_for(STEP);
    }

    /// Living machines whose node has been there for a while.
    fn grown(&self, network: &Network) -> Vec<usize> {
        let now = network.now().instant.as_micros();
        let old = |host: &usize| self.came.get(host).is_none_or(|at| now - at >= micros(YOUNG));
        (0..network.hosts().len()).filter(|host| network.hosts()[*host].is_alive() && old(host)).collect()
    }
}

impl Run {
    /// Lets nodes come and go for twice the median, or as long as `--heal` says; meanwhile values are sought.
    pub(crate) fn churn(&mut self, median: Duration) -> Result<Outcome, String> {
        let time = self.options.heal.filter(|_| self.healing_asked).unwrap_or(median * 2);
        let (stored, mut outcome) = content::put(&mut self.network, &mut self.rng);
        let stays: Vec<usize> = stored.iter().map(|value: &Stored| value.owner).collect();
        let mut turnover = Turnover::default();
        for round in 1..=ROUNDS {
            let end = self.network.now().instant + time / ROUNDS;
            while self.network.now().instant + ROUND_TIME < end {
                turnover.step(self, &stays, median);
                self.show();
                self.check()?;
            }
            let askers = turnover.grown(&self.network);
            content::ask(&mut self.network, &mut self.rng, &askers, &stored, &mut outcome);
            self.say(
                "churn",
                &format!("round {round}: {} left, {}/{} found", turnover.left, outcome.found, outcome.asked),
            );
        }
        for host in turnover.away.into_keys() {
            self.network.start(host);
        }
        Ok(outcome)
    }
}
