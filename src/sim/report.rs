//! What a run says, for people and as JSON (INTERFACE.md, "The simulator").

use std::fmt;

use serde::Serialize;

use crate::measure::round;
use crate::network::Noise;
use crate::workload::content;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Nodes.
    pub nodes: usize,
    /// Cables.
    pub links: usize,
    /// The topology's name.
    pub topology: String,
    /// The seed.
    pub seed: u64,
    /// The cold start, then each disturbance.
    pub phases: Vec<Phase>,
    /// Time on the clock on the wall.
    pub wall_s: f64,
    /// The most memory that the process had.
    pub peak_rss_bytes: u64,
    /// The same by nodes.
    pub bytes_per_node: u64,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// `cold`, `idle`, `kill`, `cut`, `re-join` (after `cut`), `split`, `merging`, `split-merge`, `loss`, `liars`,
    /// `dht-liars` or `churn`.
    pub name: String,
    /// Virtual time that it took, pairs included.
    pub virtual_s: f64,
    /// Reachability.
    pub pairs: Pairs,
    /// Length of paths against the shortest way.
    pub stretch: Stretch,
    /// Bytes of frames without the cells of paths, while the network settled.
    pub control_bytes_per_node_s: f64,
    /// Bytes of routing's messages, before padding, while the network settled.
    pub routing_bytes_per_node_s: f64,
    /// Routing tables at the end.
    pub table: Table,
    /// When routes last changed, from the start of the phase; `null` when they still did at the end of the settling.
    pub converged_s: Option<f64>,
    /// Content of the DHT, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dht: Option<Dht>,
    /// What honest nodes advertised in a minute once they had settled among liars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Adverts>,
    /// Names of each half, asked for in the other once they were one network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// Links that nodes opened by themselves, where some are behind NATs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_links: Option<usize>,
}

/// Names that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Questions.
    pub asked: usize,
    /// Answered within three tries.
    pub resolved: usize,
    /// By the first try.
    pub first_try: usize,
}

/// What was advertised while nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Adverts {
    /// Items that repeated a distance under a newer sequence.
    pub refreshes: u64,
    /// Other items.
    pub changes: u64,
    /// Retractions, and requests for sequences and tables: messages.
    pub others: u64,
}

/// Pairs of nodes, both alive and connected by cables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// Tried.
    pub tried: usize,
    /// A path was opened, and a sealed reply came back.
    pub reached: usize,
    /// By the first try.
    pub first_try: usize,
    /// The others.
    pub failed: Vec<[usize; 2]>,
}

/// Links on the path by links on the shortest way; and the round-trip time of the set-up by that of the fastest way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// Of all pairs.
    pub mean: f64,
    /// What 99 % do not exceed.
    pub p99: f64,
    /// Of round-trip times: what routes are chosen by.
    pub delay_mean: f64,
    /// What 99 % of these do not exceed.
    pub delay_p99: f64,
}

/// Entries of routing tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Of all living nodes.
    pub mean: f64,
    /// Of the one with the most.
    pub max: usize,
    /// Landmarks in the table of the one with the fewest.
    pub landmarks_min: usize,
    /// Nodes that are landmarks.
    pub landmarks: usize,
}

/// Values put and got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dht {
    /// Values stored on other nodes.
    pub put: usize,
    /// Nodes that got the value of another.
    pub found: usize,
    /// Nodes that asked for a value that does not exist and learned so before their time was over.
    pub missing_known: usize,
    /// Nodes that asked, for a value that exists and for one that does not.
    pub asked: usize,
    /// Nodes that got a value that nobody put.
    pub forged: usize,
    /// Median time of the values found.
    pub hit_s: f64,
    /// Median time after which nodes knew that there is no such value.
    pub miss_s: f64,
    /// Nodes that knew it within three times that of a hit.
    pub missing_in_time: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} nodes, {} links, {}, seed {}", self.nodes, self.links, self.topology, self.seed)?;
        for phase in &self.phases {
            write!(f, "{phase}")?;
        }
        let (all, each) = (self.peak_rss_bytes >> 20, self.bytes_per_node >> 10);
        write!(f, "wall time {} s, peak memory {all} MiB, {each} KiB a node", self.wall_s)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pairs { tried, reached, first_try, failed } = &self.pairs;
        writeln!(f, "{} ({} s virtual)", self.name, self.virtual_s)?;
        let percent = if *tried == 0 { 100.0 } else { real(*reached) * 100.0 / real(*tried) };
        writeln!(f, "  pairs      {reached} of {tried} reached ({percent:.2} %), {first_try} by the first try")?;
        for [from, to] in failed {
            writeln!(f, "  failed     {from} -> {to}")?;
        }
        writeln!(f, "  stretch    mean {:.3}, p99 {:.3}", self.stretch.mean, self.stretch.p99)?;
        writeln!(f, "  delay      mean {:.3}, p99 {:.3}", self.stretch.delay_mean, self.stretch.delay_p99)?;
        writeln!(f, "  control    {:.1} bytes per node and second", self.control_bytes_per_node_s)?;
        writeln!(f, "  routing    {:.1} bytes per node and second before padding", self.routing_bytes_per_node_s)?;
        writeln!(f, "  table      mean {:.1}, max {}", self.table.mean, self.table.max)?;
        writeln!(f, "  landmarks  {}, at least {} in each table", self.table.landmarks, self.table.landmarks_min)?;
        match self.converged_s {
            Some(converged) => writeln!(f, "  converged  after {converged:.1} s")?,
            None => writeln!(f, "  converged  not within the time to settle")?,
        }
        if let Some(Dht { put, found, missing_known, asked, forged, hit_s, miss_s, missing_in_time }) = &self.dht {
            writeln!(f, "  dht        {put} put, {asked} asked, {found} found, in {hit_s} s, {forged} forged")?;
            writeln!(
                f,
                "  missing    {missing_known} known to be, in {miss_s} s, {missing_in_time} of them in three times a hit's"
            )?;
        }
        if let Some(Adverts { refreshes, changes, others }) = &self.noise {
            writeln!(f, "  noise      {refreshes} refreshes, {changes} changes, {others} other messages in 60 s")?;
        }
        if let Some(Names { asked, resolved, first_try }) = &self.names {
            writeln!(f, "  names      {resolved} of {asked} resolved in the other half, {first_try} by the first try")?;
        }
        self.direct_links.map_or(Ok(()), |links| writeln!(f, "  direct     {links} links that nodes opened themselves"))
    }
}

impl From<&content::Outcome> for Dht {
    fn from(out: &content::Outcome) -> Self {
        let (hit, miss, missing_in_time) = out.in_time();
        Self {
            put: out.put,
            found: out.found,
            missing_known: out.missing_known,
            asked: out.asked,
            forged: out.forged,
            hit_s: round(hit.as_secs_f64()),
            miss_s: round(miss.as_secs_f64()),
            missing_in_time,
        }
    }
}

impl From<Noise> for Adverts {
    fn from(noise: Noise) -> Self {
        Self { refreshes: noise.refreshes, changes: noise.changes, others: noise.others }
    }
}

/// A count as a number to divide.
fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
