//! Which nodes have a cable between them, how long it is, and where to draw them.
//! All are connected graphs of nodes 0..n; the first of a pair dials.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use clap::ValueEnum;
use tarnet_core::rng::Rng;

use crate::network::Shape;

/// Nodes of one local network in [`Kind::Lans`]; they all see each other.
const LAN_LEN: usize = 6;
/// Nodes with more cables than this get no further ones: a node takes 128 inbound links.
const DEGREE_MAX: usize = 100;

/// The shape of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A random tree, two to four children each, and a local cable for every fifth node.
    Tree,
    /// A chain.
    Line,
    /// A chain whose ends meet.
    Ring,
    /// Rows and columns.
    Grid,
    /// Small full meshes, their gateways in a tree.
    Lans,
    /// Preferential attachment, two cables each, long and short ones.
    Internet,
    /// A ring with as many random chords as nodes.
    Random,
}

impl Kind {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Line => "line",
            Self::Ring => "ring",
            Self::Grid => "grid",
            Self::Lans => "lans",
            Self::Internet => "internet",
            Self::Random => "random",
        }
    }
}

/// A cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The end that dials.
    pub from: usize,
    /// The other end.
    pub to: usize,
    /// What it is like.
    pub shape: Shape,
}

/// A graph to build a network from.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Nodes.
    pub nodes: usize,
    /// Cables; at most one between two nodes.
    pub edges: Vec<Edge>,
    /// Where to draw each node, 0 to 1 each way.
    pub places: Vec<(f64, f64)>,
    /// Edges, the lower node first.
    known: HashSet<(usize, usize)>,
}

impl Topology {
    /// Nodes without edges.
    fn bare(nodes: usize, places: Vec<(f64, f64)>) -> Self {
        Self { nodes, edges: Vec::new(), places, known: HashSet::new() }
    }

    /// These cables, at most one between two nodes.
    #[must_use]
    pub fn of(nodes: usize, edges: Vec<Edge>, places: Vec<(f64, f64)>) -> Self {
        let known = edges.iter().map(|edge| (edge.from.min(edge.to), edge.from.max(edge.to))).collect();
        Self { nodes, edges, places, known }
    }

    /// The graph of that kind; the same for the same generator.
    #[must_use]
    pub fn new(kind: Kind, nodes: usize, rng: &mut Rng) -> Self {
        match kind {
            Kind::Tree => tree(nodes, rng),
            Kind::Line => chain(nodes, false),
            Kind::Ring => chain(nodes, true),
            Kind::Grid => grid(nodes),
            Kind::Lans => lans(nodes, rng),
            Kind::Internet => internet(nodes, rng),
            Kind::Random => random(nodes, rng),
        }
    }

    /// Two graphs side by side with one cable between them, the last edge.
    #[must_use]
    pub fn joined(left: Self, right: Self, shape: Shape) -> Self {
        let shift = left.nodes;
        let moved = right.edges.into_iter().map(|edge| Edge { from: edge.from + shift, to: edge.to + shift, ..edge });
        let edges = left.edges.into_iter().chain(moved).chain([Edge { from: 0, to: shift, shape }]).collect();
        let halves = left.places.into_iter().map(|(x, y)| (x * 0.45, y));
        let places = halves.chain(right.places.into_iter().map(|(x, y)| (0.55 + x * 0.45, y))).collect();
        Self { edges, ..Self::bare(shift + right.nodes, places) }
    }

    /// An edge that is not there yet.
    fn add(&mut self, from: usize, to: usize, shape: Shape) -> bool {
        if from == to || !self.known.insert((from.min(to), from.max(to))) {
            return false;
        }
        self.edges.push(Edge { from, to, shape });
        true
    }
}

/// A cable of a few milliseconds.
fn near(ms: u64) -> Shape {
    Shape::with_delay(Duration::from_millis(ms))
}

/// A random number below `bound`.
fn below(rng: &mut Rng, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    usize::try_from(rng.public_below(bound)).unwrap_or(0)
}

/// A whole number as a coordinate.
fn real(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Nodes on a circle.
fn circle(nodes: usize) -> Vec<(f64, f64)> {
    let place = |i: usize| {
        let angle = std::f64::consts::TAU * real(i) / real(nodes.max(1));
        (0.5 + 0.48 * angle.cos(), 0.5 + 0.48 * angle.sin())
    };
    (0..nodes).map(place).collect()
}

/// A line or a ring.
fn chain(nodes: usize, closed: bool) -> Topology {
    let mut topology = Topology::bare(nodes, circle(nodes));
    for i in 1..nodes {
        topology.add(i, i - 1, near(2));
    }
    if closed && nodes > 2 {
        topology.add(0, nodes - 1, near(2));
    }
    topology
}

/// A random tree: the parent of `i` lies between `(i-1)/4` and `(i-1)/2`. Every fifth has a cable to one of the
/// next few of its generation as well.
fn tree(nodes: usize, rng: &mut Rng) -> Topology {
    let mut topology = Topology::bare(nodes, circle(nodes));
    for i in 1..nodes {
        let (low, high) = ((i - 1) / 4, (i - 1) / 2);
        topology.add(i, low + below(rng, high - low + 1), near(2));
    }
    for i in (5..nodes).step_by(5) {
        topology.add(i, i - 1 - below(rng, 4), near(1));
    }
    topology
}

/// Rows and columns, as square as they come.
fn grid(nodes: usize) -> Topology {
    let width = (1..).find(|width| width * width >= nodes).unwrap_or(1);
    let place = |i: usize| (real(i % width) / real(width), real(i / width) / real(width));
    let mut topology = Topology::bare(nodes, (0..nodes).map(place).collect());
    for i in 1..nodes {
        if i % width != 0 {
            topology.add(i, i - 1, near(2));
        }
        if i >= width {
            topology.add(i, i - width, near(2));
        }
    }
    topology
}

/// Full meshes whose gateways form a random tree of longer cables.
fn lans(nodes: usize, rng: &mut Rng) -> Topology {
    let mut topology = Topology::bare(nodes, Vec::new());
    let centres = circle(nodes.div_ceil(LAN_LEN));
    for i in 0..nodes {
        let (lan, seat) = (i / LAN_LEN, i % LAN_LEN);
        let around = circle(LAN_LEN)[seat];
        let spread = 0.5 / real(centres.len()).max(4.0);
        let (x, y) = centres[lan];
        topology.places.push((x + (around.0 - 0.5) * spread, y + (around.1 - 0.5) * spread));
        for other in lan * LAN_LEN..i {
            topology.add(i, other, near(1));
        }
        if seat == 0 && lan > 0 {
            topology.add(i, below(rng, lan) * LAN_LEN, near(8));
        }
    }
    topology
}

/// Preferential attachment: a newcomer links to the ends of random cables.
fn internet(nodes: usize, rng: &mut Rng) -> Topology {
    let mut topology = Topology::bare(nodes, circle(nodes));
    let mut degree = vec![0; nodes];
    let mut ends: Vec<usize> = vec![0];
    for i in 1..nodes {
        let mut chosen = BTreeSet::new();
        for _ in 0..8 {
            let end = ends[below(rng, ends.len())];
            if end != i && degree[end] < DEGREE_MAX && chosen.len() < 2 {
                chosen.insert(end);
            }
        }
        for end in chosen {
            topology.add(i, end, near(5 + rng.public_below(36)));
            degree[end] += 1;
            degree[i] += 1;
            ends.extend([i, end]);
        }
    }
    topology
}

/// A ring with random chords.
fn random(nodes: usize, rng: &mut Rng) -> Topology {
    let mut topology = chain(nodes, true);
    for edge in &mut topology.edges {
        edge.shape = near(5);
    }
    for i in 0..nodes {
        topology.add(i, below(rng, nodes), near(5));
    }
    topology
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Graph;

    #[test]
    fn every_kind_is_connected_and_repeatable() {
        for kind in Kind::value_variants() {
            for nodes in [1, 2, 7, 60] {
                let build = || Topology::new(*kind, nodes, &mut Rng::from_seed([3; 32]));
                let topology = build();
                assert_eq!(topology, build(), "{kind:?}");
                assert_eq!(topology.places.len(), nodes);
                let graph = Graph::new(nodes, topology.edges.iter().map(|edge| (edge.from, edge.to)));
                assert!(graph.distances(0).iter().all(Option::is_some), "{kind:?} {nodes}");
            }
        }
    }
}
