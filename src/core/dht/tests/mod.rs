//! Networks of DHT machines joined by queues: every message takes a while, and goes wherever a contact is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::crypto::{Context, SigningKey, derive};

#[path = "../../attacks/dht.rs"]
mod attacks;
mod handover;
mod hostile;
mod network;

/// How long a message takes.
pub(super) const HOP: Duration = Duration::from_millis(5);
/// Where the wall clock begins.
pub(super) const UNIX: u64 = 1_800_000_000;

/// A message on its way.
struct Flight {
    to: usize,
    via: Via,
    body: Bytes,
}

/// A network.
pub(super) struct Net {
    pub now: Now,
    pub nodes: Vec<Dht<MemoryStore>>,
    peers: Vec<PeerId>,
    index: BTreeMap<PeerId, usize>,
    flights: BTreeMap<(Instant, u64), Flight>,
    sequence: u64,
    /// Who asked under which reply handle.
    handles: BTreeMap<u64, usize>,
    pub dead: BTreeSet<usize>,
    /// Messages and bytes sent so far.
    pub sent: u64,
    pub bytes: u64,
    pub events: Vec<(usize, Instant, Event)>,
}

impl Net {
    /// Nodes without contacts.
    pub fn new(count: usize, seed: u64) -> Self {
        let unix = UnixTime(UNIX);
        let mut net = Self {
            now: Now { instant: Instant::from_micros(1_000_000), unix },
            nodes: Vec::new(),
            peers: Vec::new(),
            index: BTreeMap::new(),
            flights: BTreeMap::new(),
            sequence: 0,
            handles: BTreeMap::new(),
            dead: BTreeSet::new(),
            sent: 0,
            bytes: 0,
            events: Vec::new(),
        };
        (0..count).for_each(|_| {
            net.add(seed);
        });
        net
    }

    /// One more node.
    pub fn add(&mut self, seed: u64) -> usize {
        let at = self.nodes.len();
        let bytes = derive(Context::DhtId, &[&seed.to_le_bytes(), &at.to_le_bytes()]);
        let peer = PeerId(bytes);
        let store = MemoryStore::new(dht_id(&peer), StoreLimits::default(), true);
        self.nodes.push(Dht::new(peer, Rng::from_seed(bytes), store, Limits::default()));
        self.peers.push(peer);
        self.index.insert(peer, at);
        at
    }

    pub fn peer(&self, at: usize) -> PeerId {
        self.peers[at]
    }

    /// Makes two nodes contacts of each other.
    pub fn join(&mut self, a: usize, b: usize) {
        let (pa, pb, now) = (self.peers[a], self.peers[b], self.now);
        self.nodes[a].contact_up(now, pb);
        self.nodes[b].contact_up(now, pa);
        self.drain(a);
        self.drain(b);
    }

    /// Makes all nodes contacts of each other, and waits until nothing moves.
    pub fn mesh(count: usize, seed: u64) -> Self {
        let mut net = Self::new(count, seed);
        for a in 0..count {
            (0..a).for_each(|b| net.join(a, b));
        }
        net.run(Duration::from_secs(2));
        net
    }

    /// Takes what a node has to say.
    pub fn drain(&mut self, at: usize) {
        while let Some(Transmit { to, body }) = self.nodes[at].poll_transmit() {
            (self.sent, self.bytes, self.sequence) = (self.sent + 1, self.bytes + body.len() as u64, self.sequence + 1);
            let (to, via) = match to {
                To::Peer(peer) => {
                    self.handles.insert(self.sequence, at);
                    (self.index[&peer], Via::Routed { neighbour: self.peers[at], token: self.sequence })
                }
                To::Reply(Via::Routed { token, .. }) => match self.handles.get(&token) {
                    Some(to) => (*to, Via::Link(self.peers[at])),
                    None => continue,
                },
                To::Reply(Via::Link(peer)) => (self.index[&peer], Via::Link(self.peers[at])),
            };
            self.flights.insert((self.now.instant + HOP, self.sequence), Flight { to, via, body });
        }
        while let Some(event) = self.nodes[at].poll_event() {
            self.events.push((at, self.now.instant, event));
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let until = self.now.instant + duration;
        loop {
            let flight = self.flights.first_key_value().map(|((at, _), _)| *at);
            let alive = (0..self.nodes.len()).filter(|at| !self.dead.contains(at));
            let timer = alive.filter_map(|at| self.nodes[at].poll_timeout().map(|due| (due, at))).min();
            let Some(next) = earliest(flight, timer.map(|(due, _)| due)).filter(|next| *next <= until) else { break };
            self.set_clock(next.max(self.now.instant));
            if let Some((due, at)) = timer.filter(|(due, _)| flight.is_none_or(|flight| *due <= flight)) {
                assert!(due <= self.now.instant);
                self.nodes[at].handle_timeout(self.now);
                self.drain(at);
            } else if let Some((_, Flight { to, via, body })) = self.flights.pop_first() {
                self.deliver(to, via, &body);
            }
        }
        self.set_clock(until);
    }

    /// Hands a message to a node now.
    pub fn deliver(&mut self, to: usize, via: Via, body: &[u8]) {
        if !self.dead.contains(&to) {
            self.nodes[to].handle_message(self.now, via, body);
            self.drain(to);
        }
    }

    fn set_clock(&mut self, instant: Instant) {
        let unix = UnixTime(UNIX + instant.as_micros() / 1_000_000);
        self.now = Now { instant, unix };
    }

    pub fn put(&mut self, at: usize, query: u64, block: &Block) {
        self.nodes[at].put(self.now, QueryId(query), block.clone());
        self.drain(at);
    }

    pub fn get(&mut self, at: usize, query: u64, key: DhtKey, kind: Kind) {
        self.nodes[at].get(self.now, QueryId(query), key, kind);
        self.drain(at);
    }

    /// The tokens of the queries on their way.
    pub fn queued_tokens(&self) -> Vec<u64> {
        let tokens = self.flights.values().filter_map(|flight| match Message::decode(&flight.body) {
            Ok(Message::Get { route, .. } | Message::Put { route, .. }) => Some(route.token),
            Ok(Message::Reply(_)) | Err(_) => None,
        });
        tokens.collect()
    }

    /// How a query ended, and when.
    pub fn outcome(&self, query: u64) -> Option<(Instant, Outcome)> {
        self.events.iter().find_map(|(_, at, event)| match event {
            Event::Done { query: q, outcome } if q.0 == query => Some((*at, *outcome)),
            _ => None,
        })
    }

    /// The blocks that a query found.
    pub fn found(&self, query: u64) -> Vec<Block> {
        let blocks = self.events.iter().filter_map(|(_, _, event)| match event {
            Event::Block { query: q, block } if q.0 == query => Some(block.clone()),
            _ => None,
        });
        blocks.collect()
    }

    /// The nodes nearest to a key of all, nearest first.
    pub fn nearest(&self, key: &DhtKey, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.nodes.len()).collect();
        all.sort_by_key(|at| contacts::distance(&dht_id(&self.peer(*at)), key));
        all.truncate(count);
        all
    }

    /// Whether a node holds blocks under a key.
    pub fn holds(&self, at: usize, key: &DhtKey) -> bool {
        !self.nodes[at].store.entries(self.now.unix, key).is_empty()
    }

    /// How many nodes hold blocks under a key.
    pub fn holders(&self, key: &DhtKey) -> usize {
        (0..self.nodes.len()).filter(|at| self.holds(*at, key)).count()
    }
}

/// A name block of a signer, alive for an hour.
pub(super) fn name_block(signer: u8, key: u8, sequence: u64) -> Block {
    let signer = SigningKey::from_seed(&[signer; 32]);
    let key = DhtKey(crate::crypto::hash_xof64(&[key]));
    let ciphertext = Bytes::from_static(b"records");
    Block::create(Kind::Name, key, &signer, sequence, UnixTime(UNIX + 3600), ciphertext).unwrap()
}
