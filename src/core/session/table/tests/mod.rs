//! Tables of sessions joined by circuits that a test can cut, delay and forge.

mod attacks;
#[path = "../../../attacks/session.rs"]
mod attacks_of_section_9;
mod bounds;
mod life;
mod losses;
mod standby;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::crypto::{Scheme, hash};
use crate::session::{Listen, Mode, Port, Refusal};
use crate::time::{UnixTime, earliest};
use crate::wire::path::{Avoid, SetupId};

/// One way through every circuit.
const DELAY: Duration = Duration::from_millis(20);
/// Alice's place in a [`Net`].
const ALICE: usize = 0;
/// Bob's place in a [`Net`].
const BOB: usize = 1;

/// What becomes of path set-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// They arrive.
    Fair,
    /// There is no route.
    NoRoute,
    /// They arrive, but the answer is eaten.
    EatsAnswers,
    /// They are never answered: after ten seconds the opener's own hop gives up.
    Silence,
    /// Somebody on the way answers with a reveal of its own.
    Impostor,
}

/// A packet on its way.
struct Packet {
    at: Instant,
    to: usize,
    carrier: CarrierId,
    bytes: BytesMut,
}

/// Tables and the circuits between them.
struct Net {
    now: Now,
    nodes: Vec<Sessions>,
    weather: Weather,
    /// Whether second circuits go another way.
    parts: bool,
    /// Both ends of every circuit that stands.
    circuits: BTreeMap<(usize, CarrierId), (usize, CarrierId)>,
    packets: VecDeque<Packet>,
    /// Events that are not about circuits, by node.
    events: Vec<Vec<Event>>,
    /// Every set-up that was asked for: who, where to, what.
    setups: Vec<(usize, PeerId, Bytes)>,
    /// The ways that each of them was to keep away from, and its id.
    detours: Vec<(Avoid, SetupId)>,
    /// Circuits that carry nothing any more without anybody being told.
    silent: BTreeSet<(usize, CarrierId)>,
    /// Set-ups without an answer, and when they are given up.
    hanging: Vec<(Instant, usize, CarrierId)>,
}

/// A signing key of a seed.
fn signing_key(seed: u8) -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(Scheme::Ed25519, &mut Rng::from_seed([seed; 32])))
}

/// The table of the node of a seed.
fn table(now: Now, seed: u8, saved: Option<Zeroizing<Vec<u8>>>) -> Sessions {
    Sessions::new(now, Config { node_key: signing_key(seed), aes: true, saved }, Rng::from_seed([seed ^ 0x80; 32]))
}

/// Some moment in 2026.
fn start() -> Now {
    Now { instant: Instant::ZERO, unix: UnixTime(1_790_000_000) }
}

/// An open request.
fn open(port: u16, label: Option<&str>, early: &'static [u8]) -> OpenRequest {
    let (label, early) = (label.map(Into::into), Bytes::from_static(early));
    OpenRequest { port: Port::from(port), label, mode: Mode::ReliableOrdered, early }
}

/// A listener of an owner.
fn listen(owner: Owner, port: u16) -> Listen {
    let (label, port, mode) = (None, Port::from(port), Mode::ReliableOrdered);
    Listen { owner, label, port, mode, allow: Vec::new(), await_caller: false, channels_max: 0 }
}

impl Net {
    /// Alice's and Bob's nodes, each with an identity of its own.
    fn new() -> Self {
        let mut net = Self {
            now: start(),
            nodes: vec![table(start(), 1, None), table(start(), 2, None)],
            weather: Weather::Fair,
            parts: true,
            circuits: BTreeMap::new(),
            packets: VecDeque::new(),
            events: vec![Vec::new(), Vec::new()],
            setups: Vec::new(),
            detours: Vec::new(),
            silent: BTreeSet::new(),
            hanging: Vec::new(),
        };
        for (node, seed) in [(ALICE, 11), (BOB, 12)] {
            net.nodes[node].add_identity(net.now, signing_key(seed), None).unwrap();
        }
        net.run(Duration::ZERO);
        net.events.iter_mut().for_each(Vec::clear);
        net
    }

    /// A node's identity.
    fn identity(node: usize) -> ServiceId {
        signing_key([11, 12][node]).public().service_id()
    }

    /// A node's identity as an owner.
    fn owner(node: usize) -> Owner {
        Owner::Service(Self::identity(node))
    }

    /// A node's identity as acting.
    fn acting(node: usize) -> Acting {
        Acting::Identity(Self::identity(node))
    }

    /// The descriptor of an owner at a node, checked as a resolver does.
    fn descriptor(&self, node: usize, owner: Owner) -> Arc<Descriptor> {
        let descriptor = self.nodes[node].descriptor(owner).unwrap().clone();
        descriptor.verify(self.now.unix).unwrap();
        Arc::new(descriptor)
    }

    /// Bob connects to Alice's identity as his own.
    fn connect(&mut self, connect: u64, open: OpenRequest) {
        let descriptor = self.descriptor(ALICE, Self::owner(ALICE));
        self.nodes[BOB].connect(self.now, ConnectId(connect), Self::acting(BOB), &descriptor, open);
    }

    /// Bob connects, Alice accepts: the channel at both ends.
    fn channel(&mut self, connect: u64, port: u16) -> [ChannelRef; 2] {
        self.connect(connect, open(port, None, b""));
        self.run(DELAY * 4);
        let theirs = self.incoming(ALICE).expect("an incoming channel").0;
        self.nodes[ALICE].accept(self.now, theirs);
        self.run(DELAY * 4);
        let ours = self.opened(connect).expect("an open channel");
        [theirs, ours]
    }

    /// Takes the oldest incoming channel of a node from its events.
    fn incoming(&mut self, node: usize) -> Option<(ChannelRef, ListenerId, Option<ServiceId>)> {
        let at = self.events[node].iter().position(|event| matches!(event, Event::Incoming { .. }))?;
        match self.events[node].remove(at) {
            Event::Incoming { channel, listener, caller } => Some((channel, listener, caller)),
            _ => None,
        }
    }

    /// The channel of a connect of Bob's, if it was opened.
    fn opened(&self, wanted: u64) -> Option<ChannelRef> {
        self.events[BOB].iter().find_map(|event| match event {
            Event::Opened { connect, channel } if *connect == ConnectId(wanted) => Some(*channel),
            _ => None,
        })
    }

    /// Why a connect of Bob's was refused.
    fn refused(&self, wanted: u64) -> Option<Refusal> {
        self.events[BOB].iter().find_map(|event| match event {
            Event::Refused { connect, why } if *connect == ConnectId(wanted) => Some(*why),
            _ => None,
        })
    }

    /// Why a connect of Bob's failed.
    fn failed(&self, wanted: u64) -> Option<Failure> {
        self.events[BOB].iter().find_map(|event| match event {
            Event::Failed { connect, why } if *connect == ConnectId(wanted) => Some(*why),
            _ => None,
        })
    }

    /// Bob's circuits, oldest first.
    fn circuits_of_bob(&self) -> Vec<CarrierId> {
        self.circuits.keys().filter(|(node, _)| *node == BOB).map(|(_, carrier)| *carrier).collect()
    }

    /// Lets a circuit of Bob's carry nothing any more, in either direction.
    fn silence(&mut self, carrier: CarrierId) {
        let other = self.circuits[&(BOB, carrier)];
        self.silent.extend([(BOB, carrier), other]);
    }

    /// Closes one circuit of Bob's; both ends hear of it.
    fn cut_one(&mut self, carrier: CarrierId) {
        let Some((other, theirs)) = self.circuits.remove(&(BOB, carrier)) else { return };
        self.circuits.remove(&(other, theirs));
        self.nodes[BOB].handle_circuit_closed(self.now, carrier);
        self.nodes[other].handle_circuit_closed(self.now, theirs);
    }

    /// Everything that a channel holds.
    fn read_all(&mut self, node: usize, channel: ChannelRef) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(bytes) = self.nodes[node].read(self.now, channel) {
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Cuts every circuit; both ends hear of it.
    fn cut(&mut self) {
        self.packets.clear();
        for (node, carrier) in std::mem::take(&mut self.circuits).into_keys() {
            self.nodes[node].handle_circuit_closed(self.now, carrier);
        }
    }

    /// Lets everything happen until `span` later.
    fn run(&mut self, span: Duration) {
        let until = self.now.after(span);
        let began = self.now;
        loop {
            self.drain();
            let packet = self.packets.front().map(|packet| packet.at);
            let timers = self.nodes.iter().fold(None, |at, node| earliest(at, node.poll_timeout()));
            let hanging = self.hanging.first().map(|(at, ..)| *at);
            let Some(next) = earliest(hanging, earliest(packet, timers)).filter(|next| *next <= until.instant) else {
                break;
            };
            let next = next.max(self.now.instant);
            self.now = Now { instant: next, ..began.after(next - began.instant) };
            while let Some(packet) = self.packets.pop_front_if(|packet| packet.at <= next) {
                self.nodes[packet.to].handle_packet(self.now, packet.carrier, packet.bytes, false);
            }
            for (_, node, carrier) in self.hanging.extract_if(.., |(at, ..)| *at <= next) {
                self.nodes[node].handle_circuit_failed(self.now, carrier, CircuitFailure::Timeout);
            }
            self.nodes.iter_mut().for_each(|node| node.handle_timeout(self.now));
        }
        self.now = until;
    }

    /// Carries out what the nodes want now.
    fn drain(&mut self) {
        loop {
            let mut any = false;
            for node in 0..self.nodes.len() {
                while let Some(event) = self.nodes[node].poll_event() {
                    any = true;
                    self.handle_event(node, event);
                }
                while let Some((carrier, bytes)) = self.nodes[node].poll_transmit(self.now, &mut |_| true) {
                    any = true;
                    if self.silent.contains(&(node, carrier)) {
                        continue;
                    }
                    if let Some(&(to, carrier)) = self.circuits.get(&(node, carrier)) {
                        self.packets.push_back(Packet { at: self.now.instant + DELAY, to, carrier, bytes });
                    }
                }
            }
            if !any {
                return;
            }
        }
    }

    /// Does what an event says, or notes it.
    fn handle_event(&mut self, node: usize, event: Event) {
        match event {
            Event::NeedCircuit { carrier, node: target, blob, proof_hash, setup, avoid } => {
                self.detours.push((avoid, setup));
                self.setups.push((node, target, blob.clone()));
                self.set_up(node, carrier, target, &blob, proof_hash);
            }
            Event::CloseCircuit { carrier } => {
                if let Some((other, carrier)) = self.circuits.remove(&(node, carrier)) {
                    self.circuits.remove(&(other, carrier));
                    self.nodes[other].handle_circuit_closed(self.now, carrier);
                }
            }
            event => self.events[node].push(event),
        }
    }

    /// Sets a path up, as the weather allows.
    fn set_up(&mut self, node: usize, carrier: CarrierId, target: PeerId, blob: &Bytes, proof_hash: [u8; 32]) {
        let Some(there) = self.nodes.iter().position(|node| node.node == target) else {
            return self.nodes[node].handle_circuit_failed(self.now, carrier, CircuitFailure::NoRoute);
        };
        match self.weather {
            Weather::NoRoute => {
                return self.nodes[node].handle_circuit_failed(self.now, carrier, CircuitFailure::NoRoute);
            }
            Weather::Silence => return self.hanging.push((self.now.instant + Duration::from_secs(10), node, carrier)),
            Weather::Impostor => return self.nodes[node].handle_circuit_opened(self.now, carrier, &[1; 1_140], false),
            Weather::Fair | Weather::EatsAnswers => {}
        }
        let theirs = self.nodes[there].next_carrier();
        match self.nodes[there].handle_incoming(self.now, theirs, blob) {
            Incoming::Accept { blob, reveal } => {
                assert_eq!(hash(&reveal), proof_hash, "the path proof holds");
                if self.weather == Weather::EatsAnswers {
                    self.nodes[there].handle_circuit_closed(self.now, theirs);
                    return self.nodes[node].handle_circuit_failed(self.now, carrier, CircuitFailure::Timeout);
                }
                self.circuits.insert((node, carrier), (there, theirs));
                self.circuits.insert((there, theirs), (node, carrier));
                self.nodes[node].handle_circuit_opened(self.now, carrier, &blob, self.parts);
            }
            Incoming::Ignore => self.nodes[node].handle_circuit_failed(self.now, carrier, CircuitFailure::Rejected),
        }
    }
}
