//! The node: every machine of the protocol in one, with nothing of its own but the way
//! of requests and answers between them. The daemon and the simulator drive it alike:
//! [`Node::handle_input`], then [`Node::poll_output`] until it says when it wants to be
//! asked again.
//!
//! States, timers and bounds are the machines'; the node adds its requests under way
//! ([`limits::WANTS_LEN_MAX`]) with a deadline each.

mod carriers;
mod contacts;
mod direct;
mod event;
pub mod limits;
mod links;
mod lookups;
mod names;
mod sessions;
mod status;
mod wants;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

pub use event::{Counters, Event, Input, Output, Persist, Resolution, Target, WantError, WantId, Wanted};

use carriers::Carriers;
use contacts::{Filler, Forming};
use direct::Direct;
use lookups::Lookups;
use wants::Wants;

use crate::circuit::{self, NextHops, Paths};
use crate::crypto::{PeerId, ServiceId, SigningKey};
use crate::dht::{self, Dht, Store};
use crate::link::{self, Links};
use crate::names::{Publisher, Resolver, Zones};
use crate::rng::Rng;
use crate::routing::{self, EpochState, Routing};
use crate::session::{self, CarrierId, Sessions};
use crate::time::{Instant, Now, earliest};

/// What a node is made from.
pub struct Config {
    /// Links.
    pub links: link::Config,
    /// Routing's bounds.
    pub routing: routing::Limits,
    /// Routing's epoch, as last persisted.
    pub epoch: EpochState,
    /// Routing's acquaintances, as last persisted.
    pub acquaintances: Vec<routing::Acquaintance>,
    /// Paths' bounds.
    pub paths: circuit::Limits,
    /// Session keys of the node itself, as last persisted.
    pub saved_keys: Option<zeroize::Zeroizing<Vec<u8>>>,
    /// Addresses that the Hello names.
    pub advertise: Vec<String>,
    /// Whether peers are looked for that could be dialled.
    pub direct: bool,
    /// Whether this node takes part in the DHT. Without, it finds peers by the landmarks' directory alone, and no names.
    pub dht: bool,
    /// The suffix under which every name also works, e.g. `tarnet.alt`.
    pub suffix: String,
    /// Bytes that all sessions together hold, at most.
    pub sessions_held_max: u64,
}

/// One node.
pub struct Node<S: Store> {
    me: PeerId,
    key: Arc<SigningKey>,
    links: Links,
    routing: Routing,
    paths: Paths,
    sessions: Sessions,
    dht: Dht<S>,
    /// Whether it is used at all.
    has_dht: bool,
    zones: Zones,
    resolver: Resolver,
    suffix: String,
    publisher: Publisher,
    identities: BTreeMap<ServiceId, Arc<SigningKey>>,
    carriers: Carriers,
    /// Length of the path of a carrier that we opened.
    hops: HashMap<CarrierId, u16>,
    lookups: Lookups,
    wants: Wants,
    /// Connections that wait for a place or a probe.
    probing: HashMap<routing::LookupId, Arc<session::Descriptor>>,
    /// Machines whose Hello is sought at landmarks.
    locating: HashMap<routing::LookupId, PeerId>,
    /// Whom a circuit of ours leads to.
    bound_for: HashMap<CarrierId, PeerId>,
    hello: names::HelloPublisher,
    filler: Filler,
    direct: Direct,
    forming: Forming,
    events: VecDeque<Event>,
    /// DHT contacts when everything published was last stored again.
    contacts_at_restore: usize,
    counters: Counters,
    sessions_held_max: u64,
    /// When what sessions hold was last looked at.
    relieved_at: Instant,
}

/// What paths ask of routing.
struct TowardPeers<'a>(&'a Routing, &'a Links);

impl NextHops for TowardPeers<'_> {
    fn toward(&self, id: &[u8; 16], tag: &[u8; 16], way: &circuit::Way) -> circuit::Hops {
        match self.0.next_hops_for_tag(id, tag, way) {
            routing::Hops::Here => circuit::Hops::Here,
            routing::Hops::Via(hops) => circuit::Hops::Via(hops.into_iter().map(|(peer, _)| peer).collect()),
        }
    }

    fn others(&self, id: &[u8; 16]) -> smallvec::SmallVec<[PeerId; 4]> {
        let peers: Vec<PeerId> = self.1.links().map(|link| link.peer).collect();
        // Each set-up begins elsewhere.
        peers.iter().cycle().skip(usize::from(id[0])).take(peers.len().min(4)).copied().collect()
    }
}

impl<S: Store> Node<S> {
    /// A node without links.
    #[must_use]
    pub fn new(now: Now, config: Config, store: S, mut rng: Rng) -> Self {
        let key = Arc::clone(&config.links.keys);
        let me = key.public().peer_id();
        let mut dht = Dht::new(me, rng.fork("dht"), store, dht::Limits::default());
        dht.set_handover(false);
        let aes = config.links.aes;
        let max_outbound = config.links.max_outbound;
        let sessions = session::table::Config { node_key: Arc::clone(&key), aes, saved: config.saved_keys };
        let mut routing = Routing::new(now, Arc::clone(&key), rng.fork("routing"), config.routing, config.epoch);
        routing.remember_acquaintances(&config.acquaintances);
        Self {
            me,
            links: Links::new(config.links, rng.fork("links")),
            routing,
            paths: Paths::new(me, rng.fork("paths"), config.paths),
            sessions: Sessions::new(now, sessions, rng.fork("sessions")),
            has_dht: config.dht,
            dht,
            zones: Zones::default(),
            resolver: Resolver::new(),
            suffix: config.suffix,
            publisher: Publisher::new(rng.fork("publisher")),
            identities: BTreeMap::new(),
            carriers: Carriers::default(),
            hops: HashMap::new(),
            lookups: Lookups::default(),
            wants: Wants::default(),
            probing: HashMap::new(),
            locating: HashMap::new(),
            bound_for: HashMap::new(),
            hello: names::HelloPublisher::new(config.advertise),
            filler: Filler::new(now, rng.fork("contacts")),
            direct: Direct::new(now, rng.fork("direct"), if config.direct { max_outbound / 2 } else { 0 }),
            forming: Forming::new(now),
            events: VecDeque::new(),
            contacts_at_restore: 0,
            counters: Counters::default(),
            sessions_held_max: config.sessions_held_max,
            relieved_at: now.instant,
            key,
        }
    }

    /// Our own id.
    #[must_use]
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Takes one input. Then poll outputs until a timeout comes.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Plaintext { conn, plaintext } => self.links.handle_plaintext(now, conn, plaintext),
            Input::Ready { conn } => self.links.handle_ready(now, conn),
            Input::Frame { conn, frame } => self.links.handle_frame(now, conn, &frame),
            Input::Dialed { conn, pin } => self.links.handle_dial(now, conn, pin),
            Input::Accepted { conn, source } => self.links.handle_accept(now, conn, source),
            Input::Closed { conn } => self.links.handle_closed(now, conn),
            Input::Timeout => self.handle_timeout(now),
        }
        // Only what comes in makes it grow: no timer of its own.
        if now.instant - self.relieved_at >= limits::RELIEF_EVERY {
            self.relieved_at = now.instant;
            self.sessions.relieve(now, self.sessions_held_max);
        }
    }

    /// Lets every machine handle what is due.
    fn handle_timeout(&mut self, now: Now) {
        self.links.handle_timeout(now);
        self.routing.handle_timeout(now);
        self.paths.handle_timeout(now);
        self.sessions.handle_timeout(now);
        self.dht.handle_timeout(now);
        self.resolver.handle_timeout(now, &self.zones);
        self.publisher.handle_timeout(now);
        self.handle_want_timeouts(now);
        self.end_forming(now);
        self.refresh_hello(now);
        self.fill_contacts(now);
        self.check_links(now);
    }

    /// The next thing to do. Ends with a timeout once nothing is left.
    pub fn poll_output(&mut self, now: Now) -> Output {
        loop {
            if let Some(transmit) = self.links.poll_transmit(now) {
                return Output::Transmit(transmit);
            }
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            if !self.settle(now) {
                return Output::Timeout(self.poll_timeout());
            }
        }
    }

    /// Carries answers between machines once around; says whether anything moved.
    fn settle(&mut self, now: Now) -> bool {
        let mut busy = self.drain_links(now);
        busy |= self.drain_routing(now);
        busy |= self.drain_dht(now);
        busy |= self.drain_names(now);
        busy |= self.drain_paths(now);
        busy |= self.drain_sessions(now);
        busy |= self.drain_control(now);
        busy |= self.pump_sessions(now);
        busy
    }

    /// The earliest deadline of any machine.
    fn poll_timeout(&self) -> Option<Instant> {
        let machines = [
            self.links.poll_timeout(),
            self.routing.poll_timeout(),
            self.paths.poll_timeout(),
            self.sessions.poll_timeout(),
            self.dht.poll_timeout(),
            self.resolver.poll_timeout(),
            self.publisher.poll_timeout(),
            self.wants.poll_timeout(),
            self.hello.poll_timeout(),
            self.forming.poll_timeout(),
            self.filler.poll_timeout(),
            self.direct.poll_timeout(),
        ];
        machines.into_iter().fold(None, earliest)
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
