//! Whole link machines, joined by queues in place of transports.

#[path = "../../attacks/link.rs"]
mod attacks;
mod fuzz;
mod setup;
mod traffic;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::rng::Rng;
use crate::time::{Now, earliest};

/// What travels through a pipe.
enum Wire {
    Handshake(Vec<u8>),
    Sealed(BytesMut),
    Closed,
}

/// A node as its shell sees it.
struct Node {
    links: Links,
    halves: BTreeMap<ConnId, (Sealer, Opener)>,
    events: Vec<Event>,
    /// Handshake frames sent, by connection.
    handshakes: BTreeMap<ConnId, usize>,
    batch_lens: Vec<usize>,
    bytes_sent: usize,
}

/// Where one end of a pipe is: which node, which connection.
type End = (usize, ConnId);

/// Nodes, and pipes between them.
struct Net {
    nodes: Vec<Node>,
    pipes: BTreeMap<End, End>,
    wires: BTreeMap<End, VecDeque<Wire>>,
    /// Pipes that swallow everything.
    cut: BTreeSet<End>,
    now: Now,
    conns: u64,
    /// Whether batches are reported as written at once.
    ready: bool,
    /// Picks the next pipe to deliver from.
    rng: Rng,
}

fn config(seed: u8) -> Config {
    Config {
        keys: Arc::new(SigningKey::from_seed(&[seed; 32])),
        network_key: None,
        groups: vec![Group::X25519MlKem768, Group::X25519],
        padding: Padding::Buckets,
        open: true,
        aes: true,
        max_inbound: 64,
        max_outbound: 64,
        upload_limit: None,
        queue_max: crate::link::limits::QUEUE_MAX,
    }
}

fn node(config: Config, seed: u8) -> Node {
    Node {
        links: Links::new(config, Rng::from_seed([seed; 32])),
        halves: BTreeMap::new(),
        events: Vec::new(),
        handshakes: BTreeMap::new(),
        batch_lens: Vec::new(),
        bytes_sent: 0,
    }
}

fn source(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

impl Net {
    /// Nodes with keys from 1 upward.
    fn new(count: u8) -> Self {
        Self::with((1..=count).map(config))
    }

    fn with(configs: impl IntoIterator<Item = Config>) -> Self {
        Self {
            nodes: configs.into_iter().zip(1u8..).map(|(config, seed)| node(config, seed)).collect(),
            pipes: BTreeMap::new(),
            wires: BTreeMap::new(),
            cut: BTreeSet::new(),
            now: Now::ZERO.after(Duration::from_secs(1000)),
            conns: 0,
            ready: true,
            rng: Rng::from_seed([99; 32]),
        }
    }

    fn id(&self, n: usize) -> PeerId {
        self.nodes[n].links.me()
    }

    fn conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    /// A transport from `a` to `b`; nothing is delivered yet.
    fn dial(&mut self, a: usize, b: usize, pin: Pin) -> (ConnId, ConnId) {
        self.dial_from(a, b, pin, source(u8::try_from(a).unwrap()))
    }

    /// The same, from an address of the caller's.
    fn dial_from(&mut self, a: usize, b: usize, pin: Pin, from: IpAddr) -> (ConnId, ConnId) {
        let (ours, theirs) = (self.conn(), self.conn());
        self.pipes.insert((a, ours), (b, theirs));
        self.pipes.insert((b, theirs), (a, ours));
        self.nodes[b].links.handle_accept(self.now, theirs, from);
        self.nodes[a].links.handle_dial(self.now, ours, pin);
        self.pump(a);
        self.pump(b);
        (ours, theirs)
    }

    /// Dials and delivers everything.
    fn link(&mut self, a: usize, b: usize) -> (ConnId, ConnId) {
        let conns = self.dial(a, b, Pin::None);
        self.run();
        conns
    }

    /// Does what the node's machine wants done.
    fn pump(&mut self, n: usize) {
        while let Some(transmit) = self.nodes[n].links.poll_transmit(self.now) {
            let node = &mut self.nodes[n];
            let (conn, wire) = match transmit {
                Transmit::Handshake { conn, frame } => {
                    *node.handshakes.entry(conn).or_default() += 1;
                    (conn, Wire::Handshake(frame))
                }
                Transmit::Established { conn, sealer, opener, .. } => {
                    assert!(node.halves.insert(conn, (sealer, opener)).is_none());
                    continue;
                }
                Transmit::Batch { conn, batch } => {
                    node.batch_lens.push(batch.len());
                    let frame = node.halves.get_mut(&conn).unwrap().0.seal(self.now, batch);
                    node.bytes_sent += frame.len();
                    if self.ready {
                        node.links.handle_ready(self.now, conn);
                    }
                    (conn, Wire::Sealed(frame))
                }
                Transmit::Unsent { .. } | Transmit::Rest { .. } => continue,
                Transmit::Mix { conn, open, seal } => {
                    let (sealer, opener) = node.halves.get_mut(&conn).unwrap();
                    open.into_iter().for_each(|mix| opener.mix(mix));
                    seal.into_iter().for_each(|mix| sealer.mix(mix));
                    continue;
                }
                Transmit::Close { conn, .. } => (conn, Wire::Closed),
            };
            self.put((n, conn), wire);
        }
        while let Some(event) = self.nodes[n].links.poll_event() {
            self.nodes[n].events.push(event);
        }
    }

    fn put(&mut self, from: End, wire: Wire) {
        let Some(to) = self.pipes.get(&from).copied() else { return };
        if matches!(wire, Wire::Closed) {
            self.pipes.remove(&from);
        }
        if !self.cut.contains(&from) {
            self.wires.entry(to).or_default().push_back(wire);
        }
    }

    /// Delivers one thing from a pipe picked at random; false if all are empty.
    fn step(&mut self) -> bool {
        let full: Vec<_> = self.wires.iter().filter(|(_, queue)| !queue.is_empty()).map(|(to, _)| *to).collect();
        let Some(to) = full.get(usize::try_from(self.rng.public_below(full.len() as u64)).unwrap()).copied() else {
            return false;
        };
        let wire = self.wires.get_mut(&to).and_then(VecDeque::pop_front).unwrap();
        self.deliver(to, wire);
        true
    }

    fn deliver(&mut self, (n, conn): End, wire: Wire) {
        if !self.pipes.contains_key(&(n, conn)) {
            return;
        }
        let node = &mut self.nodes[n];
        match wire {
            Wire::Handshake(frame) => node.links.handle_frame(self.now, conn, &frame),
            Wire::Sealed(frame) => match node.halves.get_mut(&conn).unwrap().1.open(frame) {
                Ok(batch) => node.links.handle_plaintext(self.now, conn, batch),
                Err(why) => node.links.handle_failed(self.now, conn, why),
            },
            Wire::Closed => {
                self.pipes.remove(&(n, conn));
                node.links.handle_closed(self.now, conn);
            }
        }
        self.pump(n);
    }

    fn run(&mut self) {
        (0..self.nodes.len()).for_each(|n| self.pump(n));
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the network does not come to rest");
    }

    /// Lets time pass, deadline by deadline.
    fn advance(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.run();
            let next = self.nodes.iter().fold(None, |next, node| earliest(next, node.links.poll_timeout()));
            let Some(next) = next.filter(|next| *next <= end.instant) else { break };
            self.now = self.now.after(next - self.now.instant);
            self.nodes.iter_mut().for_each(|node| node.links.handle_timeout(self.now));
        }
        self.now = end;
        self.run();
    }

    fn send(&mut self, a: usize, b: usize, class: Class, body: &[u8]) {
        let (peer, now) = (self.id(b), self.now);
        let (kind, head): (u8, &[u8]) = match class {
            Class::Control => (crate::wire::kind::ADVERT, &[]),
            Class::Cell { .. } => (crate::wire::kind::CELL, &[1, 0, 0, 0, 0]),
        };
        self.nodes[a].links.send(now, &peer, class, kind, head, Bytes::copy_from_slice(body)).unwrap();
        self.pump(a);
    }

    /// Has the transport of a node's only link take bulk so quickly that the link counts as fast. Nothing waits after.
    fn make_fast(&mut self, a: usize, b: usize) {
        let conn = self.only(a).unwrap().conn;
        self.ready = false;
        for round in 0..60 {
            if round < 40 {
                (0..5).for_each(|_| {
                    self.send(a, b, Class::Cell { flow: 9, interactive: false, from: None }, &[9; 15_000])
                });
            }
            self.now = self.now.after(Duration::from_millis(1));
            for _ in 0..4 {
                self.nodes[a].links.handle_ready(self.now, conn);
                self.pump(a);
            }
        }
        self.run();
        self.nodes[b].events.clear();
        assert_eq!(self.only(a).unwrap().queued_bytes, 0);
    }

    /// The only link of a node, if it has exactly one.
    fn only(&self, n: usize) -> Option<LinkStatus> {
        let mut links = self.nodes[n].links.links();
        links.next().filter(|_| links.next().is_none())
    }

    /// Bodies of messages that a node received.
    fn received(&self, n: usize) -> Vec<Bytes> {
        let body = |event: &Event| match event {
            Event::Message { body, .. } => Some(body.clone().freeze()),
            _ => None,
        };
        self.nodes[n].events.iter().filter_map(body).collect()
    }

    /// The same, also of what the machine has not reported yet.
    fn ended_now(&mut self, n: usize, of: ConnId) -> Option<Error> {
        self.pump(n);
        self.ended(n, of)
    }

    /// Why a connection of a node failed or its link went down.
    fn ended(&self, n: usize, of: ConnId) -> Option<Error> {
        self.nodes[n].events.iter().find_map(|event| match event {
            Event::Failed { conn, why } if *conn == of => Some(why.clone()),
            Event::Down { conn, reason, .. } if *conn == of => Some(reason.clone()),
            _ => None,
        })
    }
}
