//! A small network of nodes in virtual time: links are ordered pipes with a delay, sealed
//! and opened as a transport does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::crypto::{Group, PeerId, Scheme, ServiceId, SigningKey};
use crate::dht::{MemoryStore, StoreLimits, dht_id};
use crate::link::{self, ConnId, Opener, Padding, Pin, Sealer, Transmit};
use crate::node::{Config, Event, Input, Node, Output};
use crate::rng::Rng;
use crate::time::{Instant, Now, UnixTime};

/// One way of every link.
const DELAY: Duration = Duration::from_millis(2);

/// What travels on a pipe.
enum Frame {
    Handshake(Bytes),
    Sealed(BytesMut),
    Ready,
    Close,
}

/// One end of a connection.
struct End {
    node: usize,
    other: ConnId,
    crypto: Option<(Sealer, Opener)>,
}

/// Nodes and the pipes between them.
pub struct Net {
    pub now: Now,
    pub nodes: Vec<Node<MemoryStore>>,
    pub events: Vec<Vec<Event>>,
    deadlines: Vec<Option<Instant>>,
    ends: BTreeMap<ConnId, End>,
    pipe: VecDeque<(Instant, ConnId, Frame)>,
    next_conn: u64,
    pub rng: Rng,
    /// Every batch that was delivered, while somebody listens.
    pub heard: Option<Vec<Bytes>>,
    /// Whom a node did not read for a while: the node, and the other.
    pub rested: BTreeSet<(usize, usize)>,
}

impl Net {
    /// `n` nodes without links.
    pub fn new(n: usize, seed: u8) -> Self {
        Self::advertising(&vec![Vec::new(); n], seed)
    }

    /// A node without links for each list of addresses that one names in its Hello.
    pub fn advertising(addresses: &[Vec<String>], seed: u8) -> Self {
        let n = addresses.len();
        let now = Now { instant: Instant::from_micros(1), unix: UnixTime(1_800_000_000) };
        let mut rng = Rng::from_seed([seed; 32]);
        let nodes: Vec<_> = addresses.iter().map(|advertise| node(now, &mut rng, advertise.clone())).collect();
        Self {
            now,
            events: nodes.iter().map(|_| Vec::new()).collect(),
            deadlines: vec![Some(Instant::ZERO); n],
            nodes,
            ends: BTreeMap::new(),
            pipe: VecDeque::new(),
            next_conn: 0,
            rng,
            heard: None,
            rested: BTreeSet::new(),
        }
    }

    /// A fresh Ed25519 identity on a node.
    pub fn identity(&mut self, node: usize) -> ServiceId {
        let key = Arc::new(SigningKey::generate(Scheme::Ed25519, &mut self.rng));
        let id = key.public().service_id();
        self.nodes[node].add_identity(self.now, key, None).unwrap();
        id
    }

    /// `a` dials `b`.
    pub fn link(&mut self, a: usize, b: usize) {
        let (out, accepted) = (ConnId(self.next_conn), ConnId(self.next_conn + 1));
        self.next_conn += 2;
        self.ends.insert(out, End { node: a, other: accepted, crypto: None });
        self.ends.insert(accepted, End { node: b, other: out, crypto: None });
        self.nodes[b].handle_input(self.now, Input::Accepted { conn: accepted, source: "192.0.2.1".parse().unwrap() });
        self.nodes[a].handle_input(self.now, Input::Dialed { conn: out, pin: Pin::None });
        self.drain(b);
        self.drain(a);
    }

    /// Sends a frame to the other end of a connection.
    fn push(&mut self, conn: ConnId, frame: Frame) {
        if let Some(end) = self.ends.get(&conn) {
            self.pipe.push_back((self.now.instant + DELAY, end.other, frame));
        }
    }

    /// Does what a node wants done.
    pub fn drain(&mut self, node: usize) {
        loop {
            match self.nodes[node].poll_output(self.now) {
                Output::Timeout(at) => {
                    self.deadlines[node] = at;
                    return;
                }
                Output::Event(event) => self.events[node].push(event),
                Output::Transmit(Transmit::Handshake { conn, frame }) => {
                    self.push(conn, Frame::Handshake(frame.into()))
                }
                Output::Transmit(Transmit::Established { conn, sealer, opener, .. }) => {
                    if let Some(end) = self.ends.get_mut(&conn) {
                        end.crypto = Some((sealer, opener));
                    }
                }
                Output::Transmit(Transmit::Batch { conn, batch }) => {
                    let now = self.now;
                    let sealed = self
                        .ends
                        .get_mut(&conn)
                        .and_then(|end| end.crypto.as_mut())
                        .map(|(sealer, _)| sealer.seal(now, batch));
                    if let Some(sealed) = sealed {
                        self.push(conn, Frame::Sealed(sealed));
                        self.pipe.push_back((self.now.instant + Duration::from_micros(50), conn, Frame::Ready));
                        self.pipe.make_contiguous().sort_by_key(|(at, ..)| *at);
                    }
                }
                Output::Transmit(Transmit::Unsent { .. }) => {}
                Output::Transmit(Transmit::Rest { conn, .. }) => {
                    let other = self.ends.get(&conn).and_then(|end| self.ends.get(&end.other));
                    self.rested.extend(other.map(|end| (node, end.node)));
                }
                Output::Transmit(Transmit::Mix { conn, open, seal }) => {
                    if let Some((sealer, opener)) = self.ends.get_mut(&conn).and_then(|end| end.crypto.as_mut()) {
                        open.into_iter().for_each(|mix| opener.mix(mix));
                        seal.into_iter().for_each(|mix| sealer.mix(mix));
                    }
                }
                Output::Transmit(Transmit::Close { conn, .. }) => {
                    self.push(conn, Frame::Close);
                    self.ends.remove(&conn);
                }
            }
        }
    }

    /// Sends a batch of one's own making over the link between two nodes, sealed as it should be; false without one.
    pub fn inject(&mut self, from: usize, to: usize, batch: BytesMut) -> bool {
        let ends = &self.ends;
        let leads = |end: &End| end.node == from && ends.get(&end.other).is_some_and(|other| other.node == to);
        let linked =
            ends.iter().filter(|(_, end)| leads(end) && end.crypto.is_some()).map(|(conn, _)| *conn).next_back();
        let Some(conn) = linked else { return false };
        let now = self.now;
        let sealer = self.ends.get_mut(&conn).and_then(|end| end.crypto.as_mut()).map(|(sealer, _)| sealer);
        let Some(frame) = sealer.map(|sealer| sealer.seal(now, batch)) else { return false };
        self.push(conn, Frame::Sealed(frame));
        true
    }

    /// One frame, or one deadline.
    fn step(&mut self) {
        let frame = self.pipe.front().map(|(at, ..)| *at);
        let timer = self.deadlines.iter().flatten().min().copied();
        let at = crate::time::earliest(frame, timer).expect("something happens");
        let later = at.saturating_since(self.now.instant);
        self.now.instant = self.now.instant.max(at);
        self.now.unix = UnixTime(1_800_000_000 + self.now.instant.as_micros() / 1_000_000);
        debug_assert!(later < Duration::from_secs(100_000));
        if frame == Some(at) {
            let Some((_, conn, frame)) = self.pipe.pop_front() else { return };
            return self.deliver(conn, frame);
        }
        for node in 0..self.nodes.len() {
            if self.deadlines[node].is_some_and(|deadline| deadline <= self.now.instant) {
                self.nodes[node].handle_input(self.now, Input::Timeout);
                self.drain(node);
            }
        }
    }

    /// Hands a frame to its node.
    fn deliver(&mut self, conn: ConnId, frame: Frame) {
        let Some(end) = self.ends.get_mut(&conn) else { return };
        let node = end.node;
        let input = match frame {
            Frame::Handshake(frame) => Input::Frame { conn, frame },
            Frame::Ready => Input::Ready { conn },
            Frame::Close => {
                self.ends.remove(&conn);
                Input::Closed { conn }
            }
            Frame::Sealed(frame) => {
                let (_, opener) = end.crypto.as_mut().expect("sealed frames come after the handshake");
                let plaintext = opener.open(frame).expect("frames of an authenticated peer open");
                self.heard.iter_mut().for_each(|heard| heard.push(plaintext.clone().freeze()));
                Input::Plaintext { conn, plaintext }
            }
        };
        self.nodes[node].handle_input(self.now, input);
        self.drain(node);
    }

    /// Runs for a while.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while self.now.instant < end {
            self.step();
        }
    }

    /// Runs until a condition holds; panics after `limit` of virtual time.
    pub fn until(&mut self, limit: Duration, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now.instant + limit;
        while !done(self) {
            assert!(self.now.instant < end, "not within {limit:?}: {what}");
            self.step();
        }
    }

    /// Takes the first event of a node that `pick` wants.
    pub fn take<T>(&mut self, node: usize, pick: impl Fn(&Event) -> Option<T>) -> Option<T> {
        let at = self.events[node].iter().position(|event| pick(event).is_some())?;
        pick(&self.events[node].remove(at))
    }

    /// A node's id.
    pub fn peer(&self, node: usize) -> PeerId {
        self.nodes[node].me()
    }
}

/// A node with a fresh key.
fn node(now: Now, rng: &mut Rng, advertise: Vec<String>) -> Node<MemoryStore> {
    let keys = Arc::new(SigningKey::generate(Scheme::Ed25519, rng));
    let me = keys.public().peer_id();
    let config = Config {
        links: link::Config {
            keys,
            network_key: None,
            groups: vec![Group::X25519MlKem768, Group::X25519],
            padding: Padding::Buckets,
            open: true,
            aes: false,
            max_inbound: 128,
            max_outbound: 48,
            upload_limit: None,
            queue_max: link::limits::QUEUE_MAX,
        },
        routing: Default::default(),
        epoch: Default::default(),
        acquaintances: Vec::new(),
        paths: Default::default(),
        saved_keys: None,
        dht: true,
        advertise,
        direct: true,
        suffix: "tarnet.alt".into(),
        sessions_held_max: crate::node::limits::SESSIONS_HELD_MAX,
    };
    Node::new(now, config, MemoryStore::new(dht_id(&me), StoreLimits::default(), false), rng.fork("node"))
}
