//! A network of machines joined by queues: every link delays, none loses. After every
//! step the whole network is checked for routing loops.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::{PeerId, Scheme, SigningKey};
use crate::rng::Rng;
use crate::routing::{EpochState, Event, Limits, LinkCost, Routing, To};
use crate::time::{Instant, Now};
use crate::wire::kind;

/// One way of a message: when, and a counter that keeps order.
type Due = (Instant, u64);

/// A message under way.
pub(super) struct Flight {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

/// The network.
pub(super) struct Net {
    pub(super) now: Now,
    pub(super) nodes: Vec<Routing>,
    pub(super) keys: Vec<Arc<SigningKey>>,
    pub(super) links: BTreeMap<(usize, usize), Duration>,
    pub(super) events: Vec<(usize, Event)>,
    pub(super) bytes: Vec<u64>,
    pub(super) check_loops: bool,
    /// Nodes that pass nothing of others on, though they say the ways.
    pub(super) greedy: BTreeSet<usize>,
    /// Adds up to as much again to every delay, so that messages overtake one another.
    pub(super) jitter: Option<Rng>,
    index: BTreeMap<PeerId, usize>,
    queue: BTreeMap<Due, Flight>,
    counter: u64,
}

impl Net {
    /// `count` nodes without links.
    pub(super) fn new(count: usize, limits: Limits) -> Self {
        let mut net = Self {
            now: Now::ZERO.after(Duration::from_secs(10)),
            nodes: Vec::new(),
            keys: Vec::new(),
            links: BTreeMap::new(),
            events: Vec::new(),
            bytes: Vec::new(),
            check_loops: true,
            greedy: BTreeSet::new(),
            jitter: None,
            index: BTreeMap::new(),
            queue: BTreeMap::new(),
            counter: 0,
        };
        for at in 0..count {
            net.add(SigningKey::generate(Scheme::Ed25519, &mut seeded(at, "key")), limits);
        }
        net
    }

    /// Adds a node without links.
    pub(super) fn add(&mut self, keys: SigningKey, limits: Limits) -> usize {
        let (at, keys) = (self.nodes.len(), Arc::new(keys));
        let node = Routing::new(self.now, keys.clone(), seeded(at, "node"), limits, EpochState::default());
        self.index.insert(node.me(), at);
        self.nodes.push(node);
        self.keys.push(keys);
        self.bytes.push(0);
        at
    }

    /// A line.
    pub(super) fn line(count: usize) -> Self {
        let mut net = Self::new(count, Limits::default());
        (1..count).for_each(|at| net.link(at - 1, at, 5));
        net
    }

    /// A square grid.
    pub(super) fn grid(side: usize) -> Self {
        let mut net = Self::new(side * side, Limits::default());
        for at in 0..side * side {
            if at % side > 0 {
                net.link(at - 1, at, 5);
            }
            if at >= side {
                net.link(at - side, at, 5);
            }
        }
        net
    }

    /// A node's id.
    pub(super) fn id(&self, at: usize) -> PeerId {
        self.nodes[at].me()
    }

    /// Brings a link up.
    pub(super) fn link(&mut self, a: usize, b: usize, delay_ms: u64) {
        self.links.insert((a.min(b), a.max(b)), Duration::from_millis(delay_ms));
        for (a, b) in [(a, b), (b, a)] {
            let peer = self.id(b);
            self.nodes[a].handle_link_up(self.now, peer, LinkCost::MIN);
        }
        self.drain(a);
        self.drain(b);
    }

    /// Cuts a link; what is under way on it is lost.
    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.links.remove(&(a.min(b), a.max(b))).expect("a link to cut");
        self.queue.retain(|_, flight| (flight.from.min(flight.to), flight.from.max(flight.to)) != (a.min(b), a.max(b)));
        for (a, b) in [(a, b), (b, a)] {
            let peer = self.id(b);
            self.nodes[a].handle_link_down(self.now, peer);
            self.drain(a);
        }
        if self.check_loops {
            self.assert_no_loops();
        }
    }

    /// Restarts a node: its links go, its tables are empty.
    pub(super) fn restart(&mut self, at: usize, last: EpochState) -> Vec<usize> {
        let ends = |(a, b): &(usize, usize)| {
            if *a == at {
                Some(*b)
            } else if *b == at {
                Some(*a)
            } else {
                None
            }
        };
        let peers: Vec<usize> = self.links.keys().filter_map(ends).collect();
        peers.iter().for_each(|peer| self.cut(at, *peer));
        let rng = seeded(at, "again");
        let limits = self.nodes[at].limits;
        self.nodes[at] = Routing::new(self.now, self.keys[at].clone(), rng, limits, last);
        peers
    }

    /// Hands a message to a node as if a neighbour had sent it.
    pub(super) fn inject(
        &mut self,
        from: usize,
        to: usize,
        kind: u8,
        body: &[u8],
    ) -> Result<(), crate::routing::Error> {
        let from = self.id(from);
        let result = self.nodes[to].handle_message(self.now, from, kind, body);
        self.drain(to);
        result
    }

    /// Takes what a node says onto the links.
    pub(super) fn drain(&mut self, at: usize) {
        while let Some((to, kind, body)) = self.nodes[at].poll_transmit() {
            let all: Vec<usize> = match to {
                To::All => (0..self.nodes.len()).filter(|to| self.delay(at, *to).is_some()).collect(),
                To::One(peer) => vec![self.index[&peer]],
            };
            for to in all {
                let Some(mut delay) = self.delay(at, to) else { continue };
                if let Some(rng) = &mut self.jitter {
                    delay += Duration::from_micros(rng.public_below(crate::time::micros(delay)));
                }
                // Type and length in the link's batch.
                self.bytes[at] += body.len() as u64 + 3;
                self.counter += 1;
                let flight = Flight { from: at, to, kind, body: body.clone() };
                self.queue.insert((self.now.instant + delay, self.counter), flight);
            }
        }
        while let Some(event) = self.nodes[at].poll_event() {
            self.events.push((at, event));
        }
    }

    /// The delay of a link that is up.
    fn delay(&self, a: usize, b: usize) -> Option<Duration> {
        self.links.get(&(a.min(b), a.max(b))).copied()
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let message = self.queue.keys().next().map(|(at, _)| *at);
            let timer = (0..self.nodes.len()).filter_map(|at| self.nodes[at].poll_timeout().map(|due| (due, at))).min();
            let next = [message, timer.map(|(due, _)| due)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end.instant) else { break };
            self.now = self.now.after(next - self.now.instant);
            if message == Some(next) {
                let (_, flight) = self.queue.pop_first().expect("a message");
                let carried = matches!(flight.kind, kind::PLACE | kind::REGISTER | kind::ROUTED);
                if carried && self.greedy.contains(&flight.to) {
                    continue;
                }
                let from = self.id(flight.from);
                let handled = self.nodes[flight.to].handle_message(self.now, from, flight.kind, &flight.body);
                // A batch that was overtaken looks like one that is sent again.
                assert!(handled.is_ok() || self.jitter.is_some(), "an honest message: {handled:?}");
                self.drain(flight.to);
            } else if let Some((_, at)) = timer {
                self.nodes[at].handle_timeout(self.now);
                self.drain(at);
            }
            if self.check_loops {
                self.assert_no_loops();
            }
        }
        self.now = self.now.after(end.instant - self.now.instant);
    }

    /// Runs for some seconds.
    pub(super) fn run_secs(&mut self, secs: u64) {
        self.run(Duration::from_secs(secs));
    }

    /// For every destination: whichever next hops the nodes take, nobody comes by the same node twice.
    pub(super) fn assert_no_loops(&self) {
        for dest in 0..self.nodes.len() {
            let mut done = BTreeSet::from([dest]);
            for from in 0..self.nodes.len() {
                self.walk(from, dest, &mut Vec::new(), &mut done);
            }
        }
    }

    /// Goes depth first along all next hops.
    fn walk(&self, at: usize, dest: usize, trail: &mut Vec<usize>, done: &mut BTreeSet<usize>) {
        assert!(!trail.contains(&at), "a loop toward {dest}: {trail:?} and {at}");
        if !done.insert(at) {
            return;
        }
        done.remove(&at);
        trail.push(at);
        for (hop, _) in self.nodes[at].next_hops(&self.id(dest)) {
            self.walk(self.index[&hop], dest, trail, done);
        }
        trail.pop();
        done.insert(at);
    }

    /// Whether best next hops lead from one node to the other over links that are up, and in how many hops.
    pub(super) fn hops(&self, from: usize, to: usize) -> Option<usize> {
        let (mut at, mut hops) = (from, 0);
        while at != to {
            let (next, _) = *self.nodes[at].next_hops(&self.id(to)).first()?;
            let next = self.index[&next];
            self.delay(at, next)?;
            at = next;
            hops += 1;
            assert!(hops <= self.nodes.len(), "a loop");
        }
        Some(hops)
    }

    /// Asserts that each of `nodes` reaches each other.
    pub(super) fn assert_connected(&self, nodes: &[usize]) {
        for from in nodes {
            for to in nodes {
                assert!(self.hops(*from, *to).is_some(), "{from} does not reach {to}");
            }
        }
    }
}

/// A generator for a node and a use.
pub(super) fn seeded(at: usize, label: &str) -> Rng {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(at as u64).to_le_bytes());
    Rng::from_seed(seed).fork(label)
}
