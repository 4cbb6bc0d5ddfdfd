//! What the scenarios share: a seed that is printed on failure, and a network with its checks.

use std::time::Duration;

use clap::Parser;
use tarnet_core::rng::Rng;
use tarnet_core::routing::Limits;
use tarnet_sim::checks;
use tarnet_sim::network::{Kept, Network};
use tarnet_sim::options::Options;
use tarnet_sim::scenario::seeded;
use tarnet_sim::topology::{Kind, Topology};
use tarnet_sim::workload::pairs;

/// Segments lost of a million, where a scenario says "with loss": one in a hundred.
pub const LOSS_PPM: u32 = 10_000;

/// Prints the seed when the test fails.
pub struct Seed(pub u64);

impl Seed {
    /// From `TARNET_SIM_SEED`, or 1.
    pub fn get() -> Self {
        Self(std::env::var("TARNET_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with TARNET_SIM_SEED={}", self.0);
        }
    }
}

/// A network under test.
pub struct World {
    pub network: Network,
    pub rng: Rng,
    seed: Seed,
    limits: Limits,
}

impl World {
    /// A topology of that kind.
    pub fn new(kind: Kind, nodes: usize) -> Self {
        let seed = Seed::get();
        let topology = Topology::new(kind, nodes, &mut seeded(seed.0).fork("topology"));
        Self::with_topology(&topology)
    }

    /// A graph of the caller's.
    pub fn with_topology(topology: &Topology) -> Self {
        Self::with(topology, Limits::default().into())
    }

    /// A topology of that kind, whose nodes keep less than usual.
    pub fn of(kind: Kind, nodes: usize, kept: Kept) -> Self {
        let topology = Topology::new(kind, nodes, &mut seeded(Seed::get().0).fork("topology"));
        Self::with(&topology, kept)
    }

    /// A graph of the caller's, whose nodes keep less than usual.
    pub fn with(topology: &Topology, kept: Kept) -> Self {
        let seed = Seed::get();
        let mut rng = seeded(seed.0);
        Self { network: Network::new(topology, rng.fork("network"), kept), rng, seed, limits: kept.limits }
    }

    /// Lets time pass, checking for loops and bounds at every step of it.
    pub fn settle(&mut self, time: Duration) {
        self.settle_for(time, Duration::from_millis(100));
    }

    /// The same, with looks so far apart.
    pub fn settle_for(&mut self, time: Duration, look: Duration) {
        let end = self.network.now().instant + time;
        while self.network.now().instant < end {
            self.network.run_for(look);
            self.check();
        }
    }

    /// What must hold at any moment.
    pub fn check(&self) {
        let seed = self.seed.0;
        let look = checks::Look::at(&self.network, &self.limits);
        look.and_then(|look| look.check_loops()).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        assert_eq!(self.network.overdue, 0, "seed {seed}: a node asked for a time that had passed");
    }

    /// Random pairs, all of which must be reached.
    pub fn reach(&mut self, count: usize) {
        let chosen = pairs::choose(&self.network, count, &mut self.rng);
        assert!(!chosen.is_empty());
        let results = pairs::run(&mut self.network, &chosen);
        let failed: Vec<_> = results.iter().filter(|pair| pair.hops.is_none()).collect();
        assert!(failed.is_empty(), "seed {}: {} of {count} pairs not reached: {failed:?}", self.seed.0, failed.len());
        self.check();
    }
}

/// Options as from the command line.
pub fn options(flags: &str) -> Options {
    Options::parse_from(std::iter::once("tarnet-sim").chain(flags.split_whitespace()))
}
