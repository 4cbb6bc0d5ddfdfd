//! The phases of a run: the cold start, then each disturbance that was asked for, in the
//! order kill, cut, re-join, split-merge, loss, liars, liars as storers, churn; they add up. Each phase settles, then is
//! measured.
//!
//! While it settles, routing tables are looked at twice a second for loops, bounds and
//! changes; the last change is the time of convergence.

use std::collections::BTreeMap;
use std::time::Duration;

use tarnet_core::crypto::stand_in;
use tarnet_core::rng::Rng;
use tarnet_core::time::Instant;

use crate::checks;
use crate::measure::{mean, peak_rss_bytes, percentile, round};
use crate::network::{MILLION, Network, Noise, Sent};
use crate::options::{Crypto, Options, ppm};
use crate::progress::Progress;
use crate::report::{Adverts, Dht, Pairs, Phase, Report, Stretch, Table};
use crate::topology::Topology;
use crate::workload::{content, pairs};

/// Step between looks at the tables; longer for networks beyond [`LOOK_NODES`].
const LOOK: Duration = Duration::from_millis(500);
/// Nodes whose tables can be looked at every [`LOOK`].
const LOOK_NODES: usize = 200;
/// Routes that did not change for this long at the end of the settling have converged.
const QUIET: Duration = Duration::from_secs(3);
/// Of a million cables, those that `--cut` cuts.
const CUT_PPM: u32 = MILLION / 20;

/// A run in progress.
pub struct Run {
    pub(crate) options: Options,
    /// The network.
    pub network: Network,
    /// Where to draw each node.
    pub places: Vec<(f64, f64)>,
    pub(crate) rng: Rng,
    /// Whether `--heal` was given.
    pub(crate) healing_asked: bool,
    /// What honest nodes said while nothing changed, of the phase under way.
    noise: Option<Noise>,
    progress: Option<Progress>,
    /// The phase under way.
    phase: String,
    /// Pairs of the phase under way, where they are not any that cables connect.
    pub(crate) chosen: Option<Vec<(usize, usize)>>,
    /// Values sought during the phase under way.
    sought: Option<content::Outcome>,
    /// Pairs of the last phase that were not reached.
    pub failed: Vec<(usize, usize)>,
}

/// What settling showed.
struct Settled {
    control_bytes_per_node_s: f64,
    routing_bytes_per_node_s: f64,
    converged: Option<Duration>,
}

impl Run {
    /// Builds the network.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut rng = seeded(options.seed);
        let topology = Topology::new(options.topology, options.nodes, &mut rng.fork("topology"));
        Self::with_topology(options, topology)
    }

    /// A run on a graph of the caller's.
    #[must_use]
    pub fn with_topology(options: Options, topology: Topology) -> Self {
        let mut rng = seeded(options.seed);
        stand_in::set(options.crypto == Crypto::Fast);
        let (kept, nat) = (options.profile.kept(), options.nat.map(ppm));
        let network = Network::with_nats(&topology, rng.fork("network"), kept, nat);
        let progress = Progress::new(&options);
        let (healing_asked, places) = (options.heal.is_some(), topology.places);
        Self {
            options,
            network,
            places,
            rng: rng.fork("run"),
            healing_asked,
            noise: None,
            progress,
            phase: String::new(),
            chosen: None,
            sought: None,
            failed: Vec::new(),
        }
    }

    /// Runs all phases.
    ///
    /// # Errors
    /// A check failed: a routing loop, a table out of bounds.
    pub fn run(&mut self) -> Result<Report, String> {
        // The only look at the clock on the wall: it is reported, and decides nothing.
        let begun = std::time::Instant::now();
        let heal = self.options.heal.replace(self.options.settle).or(Some(self.options.settle));
        let mut phases = vec![self.phase("cold", |_| Ok(()))?];
        self.options.heal = heal;
        if let Some(time) = self.options.idle {
            self.options.heal = Some(time);
            phases.push(self.phase("idle", |_| Ok(()))?);
            self.options.heal = heal;
        }
        if let Some(percent) = self.options.kill {
            phases.push(self.phase("kill", |run| run.kill(percent))?);
        }
        if self.options.cut {
            let mut cables = Vec::new();
            phases.push(self.phase("cut", |run| {
                cables = run.cut();
                Ok(())
            })?);
            phases.push(self.phase("re-join", |run| {
                cables.iter().for_each(|cable| run.network.mend(*cable));
                Ok(())
            })?);
        }
        if self.options.split_merge {
            self.split_merge(&mut phases)?;
        }
        if let Some(percent) = self.options.loss {
            phases.push(self.phase("loss", |run| {
                run.network.set_loss(ppm(percent));
                Ok(())
            })?);
        }
        self.hostile_phases(&mut phases)?;
        Ok(Report {
            nodes: self.network.hosts().len(),
            links: self.network.cables().len(),
            topology: self.options.topology.as_str().to_owned(),
            seed: self.options.seed,
            phases,
            wall_s: round(begun.elapsed().as_secs_f64()),
            peak_rss_bytes: peak_rss_bytes(),
            bytes_per_node: peak_rss_bytes() / self.network.hosts().len().max(1) as u64,
        })
    }

    /// Phases among nodes that lie, or come and go.
    fn hostile_phases(&mut self, phases: &mut Vec<Phase>) -> Result<(), String> {
        if let Some(percent) = self.options.liars {
            phases.push(self.phase("liars", |run| {
                run.turn_routers(percent);
                run.settle(run.options.heal.unwrap_or(run.options.settle))?;
                run.noise = Some(run.listen());
                Ok(())
            })?);
        }
        if let Some(percent) = self.options.dht_liars {
            self.options.dht = true;
            phases.push(self.phase("dht-liars", |run| {
                run.turn_storers(percent);
                Ok(())
            })?);
        }
        if let Some(median) = self.options.churn {
            phases.push(self.phase("churn", |run| {
                run.sought = Some(run.churn(median)?);
                Ok(())
            })?);
        }
        Ok(())
    }

    /// One phase: disturbs, settles, measures.
    pub(crate) fn phase(
        &mut self,
        name: &str,
        disturb: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<Phase, String> {
        name.clone_into(&mut self.phase);
        disturb(self)?;
        let start = self.network.now().instant;
        self.say(name, "settling");
        let settled = self.settle(self.options.heal.unwrap_or(self.options.settle))?;
        self.say(name, "trying pairs");
        let chosen = self.chosen.take();
        let chosen = chosen.unwrap_or_else(|| pairs::choose(&self.network, self.options.pairs, &mut self.rng));
        let results = pairs::run(&mut self.network, &chosen);
        self.show();
        let stretch = self.stretch(&results);
        self.say_failures(&results);
        let reached = |pair: &&pairs::Pair| pair.hops.is_some();
        self.failed = results.iter().filter(|pair| pair.hops.is_none()).map(|pair| (pair.from, pair.to)).collect();
        let sought = self.sought.take();
        let dht = sought.or_else(|| self.options.dht.then(|| content::run(&mut self.network, &mut self.rng)));
        if let Some(out) = &dht {
            self.say("  not found", &format!("{:?}", out.failed));
        }
        self.check()?;
        Ok(Phase {
            name: name.to_owned(),
            virtual_s: round((self.network.now().instant - start).as_secs_f64()),
            pairs: Pairs {
                tried: results.len(),
                reached: results.iter().filter(reached).count(),
                first_try: results.iter().filter(|pair| pair.hops.is_some() && pair.tries == 1).count(),
                failed: self.failed.iter().map(|&(from, to)| [from, to]).collect(),
            },
            stretch,
            control_bytes_per_node_s: settled.control_bytes_per_node_s,
            routing_bytes_per_node_s: settled.routing_bytes_per_node_s,
            table: self.table(),
            converged_s: settled.converged.map(|time| round(time.as_secs_f64())),
            dht: dht.as_ref().map(Dht::from),
            noise: self.noise.take().map(Adverts::from),
            names: None,
            direct_links: self.options.nat.map(|_| self.network.direct_links().len()),
        })
    }

    /// Says how far it is, if asked to.
    pub(crate) fn say(&self, phase: &str, what: &str) {
        if let Some(progress) = &self.progress {
            let now = self.network.now().instant.as_micros() as f64 / 1e6;
            progress.say(&format!("{phase}: {what} at {now:.1} s virtual"));
        }
    }

    /// Moves the bar on, if there is one.
    pub(crate) fn show(&mut self) {
        let time = self.network.now().instant - Instant::ZERO;
        let Self { progress, phase, .. } = self;
        progress.iter_mut().for_each(|progress| progress.at(phase, time));
    }

    /// Says what was sent so far, by kind of message, if asked to.
    fn say_sent(&self) {
        if self.options.progress {
            let kind = |(kind, sent): (&u8, &Sent)| format!("{kind:02x} {}/{}k", sent.messages, sent.bytes / 1000);
            let kinds: Vec<String> = self.network.kinds.iter().map(kind).collect();
            self.say("  sent", &kinds.join(", "));
        }
    }

    /// Says what first tries ended with, if asked to.
    fn say_failures(&self, results: &[pairs::Pair]) {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        results.iter().filter_map(|pair| pair.failure.as_deref()).for_each(|why| *reasons.entry(why).or_default() += 1);
        let reason = |(why, count): (&&str, &usize)| format!("{count} x {why}");
        let reasons: Vec<String> = reasons.iter().map(reason).collect();
        self.say("  failed tries", &reasons.join(", "));
        for pair in results.iter().filter(|pair| pair.hops.is_none()) {
            let home =
                |host| self.network.node(host).map(|node| (node.home(), node.landmarks(), node.routing_counters()));
            self.say("  failed", &format!("{} {:?} -> {} {:?}", pair.from, home(pair.from), pair.to, home(pair.to)));
        }
    }

    /// Lets the network settle, looking at its tables.
    fn settle(&mut self, time: Duration) -> Result<Settled, String> {
        let start = self.network.now().instant;
        let factor = u32::try_from(self.network.hosts().len().div_ceil(LOOK_NODES)).unwrap_or(u32::MAX);
        let (mut last, mut changed) = (self.check()?, start);
        let before = (self.control_bytes(), self.routing_bytes());
        while self.network.now().instant < start + time {
            let left = start + time - self.network.now().instant;
            self.network.run_for((LOOK * factor).min(left));
            self.show();
            let now = self.check()?;
            self.say_sent();
            if now != last {
                (last, changed) = (now, self.network.now().instant);
            }
        }
        let nodes = f64::from(u32::try_from(self.network.hosts().len()).unwrap_or(u32::MAX));
        let rate = |bytes: u64| {
            let sent = Duration::from_micros(bytes).as_secs_f64() * 1e6;
            round(sent / nodes / time.as_secs_f64().max(1e-6))
        };
        let quiet = !time.is_zero() && self.network.now().instant - changed >= QUIET.min(time / 2);
        Ok(Settled {
            control_bytes_per_node_s: rate(self.control_bytes() - before.0),
            routing_bytes_per_node_s: rate(self.routing_bytes() - before.1),
            converged: quiet.then_some(changed - start),
        })
    }

    /// Looks at every node. Gives a number that changes when any route does, for this process only.
    pub(crate) fn check(&self) -> Result<u64, String> {
        if self.options.memory_max.is_some_and(|max| peak_rss_bytes() >> 20 > max) {
            return Err(format!("more memory than --memory-max at {:?}", self.network.now().instant));
        }
        let look = checks::Look::at(&self.network, &self.options.profile.limits())?;
        look.check_loops().map_err(|error| format!("{error} at {:?}", self.network.now().instant))?;
        Ok(look.fingerprint())
    }

    /// Bytes of control that all nodes have sent.
    fn control_bytes(&self) -> u64 {
        self.network.hosts().iter().map(|host| host.traffic.control_bytes()).sum()
    }

    /// Bytes of routing's messages that all nodes have sent.
    fn routing_bytes(&self) -> u64 {
        self.network.kinds.range(0x10..=0x1f).map(|(_, sent)| sent.bytes).sum()
    }

    /// Paths against shortest ways.
    fn stretch(&self, results: &[pairs::Pair]) -> Stretch {
        let graph = self.network.graph();
        let of = |pair: &pairs::Pair| {
            let shortest = graph.distances(pair.from)[pair.to]?;
            Some(f64::from(pair.hops?) / f64::from(shortest.max(1)))
        };
        let delays = self.network.delays();
        let slower = |pair: &pairs::Pair| {
            pair.hops?;
            let fastest = delays.fastest(pair.from, pair.to)? * 2;
            Some(pair.rtt.as_secs_f64() / fastest.as_secs_f64().max(1e-6))
        };
        let all: Vec<f64> = results.iter().filter_map(of).collect();
        let slow: Vec<f64> = results.iter().filter_map(slower).collect();
        Stretch {
            mean: mean(&all),
            p99: percentile(&all, 99),
            delay_mean: mean(&slow),
            delay_p99: percentile(&slow, 99),
        }
    }

    /// Sizes of the tables.
    fn table(&self) -> Table {
        let nodes = (0..self.network.hosts().len()).filter_map(|host| self.network.node(host));
        let nodes: Vec<_> = nodes.collect();
        let sizes: Vec<usize> = nodes.iter().map(|node| node.routes().count()).collect();
        let landmarks = nodes.iter().filter(|node| node.landmarks().1).count();
        let landmarks_min = nodes.iter().map(|node| node.landmarks().0).min().unwrap_or(0);
        let real: Vec<f64> = sizes.iter().map(|&size| f64::from(u32::try_from(size).unwrap_or(u32::MAX))).collect();
        Table { mean: mean(&real), max: sizes.into_iter().max().unwrap_or(0), landmarks_min, landmarks }
    }

    /// Some of `0..count`: so many of a million, at least `least`.
    pub(crate) fn some(&mut self, count: usize, parts: u32, least: usize) -> Vec<usize> {
        let wanted = usize::try_from(count as u64 * u64::from(parts) / u64::from(MILLION)).unwrap_or(count).max(least);
        let mut all: Vec<usize> = (0..count).collect();
        let mut chosen = Vec::new();
        while chosen.len() < wanted.min(count) {
            let pick = usize::try_from(self.rng.public_below(all.len() as u64)).unwrap_or(0);
            chosen.push(all.swap_remove(pick));
        }
        chosen
    }

    /// Kills some percent of all nodes at once.
    fn kill(&mut self, percent: f64) -> Result<(), String> {
        for host in self.some(self.network.hosts().len(), ppm(percent), 0) {
            self.network.kill(host);
        }
        Ok(())
    }

    /// Cuts one cable in twenty, and says which.
    fn cut(&mut self) -> Vec<usize> {
        let cables = self.some(self.network.cables().len(), CUT_PPM, 1);
        cables.iter().for_each(|cable| self.network.cut(*cable));
        cables
    }
}

/// The generator of a seed.
#[must_use]
pub fn seeded(seed: u64) -> Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Rng::from_seed(bytes)
}
