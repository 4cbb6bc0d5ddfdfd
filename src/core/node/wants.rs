//! Requests of the shell under way: names resolved, connections made, pings. A connection
//! goes name, node, channel; each step is asked of its machine and comes back by number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::event::{Event, Resolution, Target, WantError, WantId, Wanted};
use super::limits::{CONNECT_TIME_MAX, DHT_TIME_MAX, WANTS_LEN_MAX};
use super::lookups::Purpose;
use crate::crypto::{PeerId, ServiceId};
use crate::dht::{self, Hello, Store};
use crate::names::{Answer, Name, ResolveError, ResolveId, ResolveOptions, TraceStep};
use crate::routing::LookupId;
use crate::session::table::Failure;
use crate::session::{Acting, CarrierId, ChannelRef, ConnectId, Descriptor, Mode, OpenRequest, Owner, Port, Refusal};
use crate::time::{Instant, Now, Timers};
use crate::wire::block::{Block, Kind};

/// The port of pings: nobody listens there, and the refusal is an answer of the authenticated far end.
const PING_PORT: &str = "tarnet-ping";

/// What a request wants in the end.
enum Goal {
    /// Records of a name.
    Records,
    /// A channel.
    Channel(Wanted),
    /// A round trip; begun when the channel was asked for.
    Ping(Option<Instant>),
    /// A block of the DHT.
    Block,
}

/// Where a request stands.
struct Want {
    goal: Goal,
    acting: Option<ServiceId>,
    /// Whom it leads to, once known, and the label carried.
    owner: Option<Owner>,
    label: Option<String>,
    /// The descriptor was looked up past the cache already.
    fresh: bool,
    /// The descriptor that was tried last.
    tried: Option<Arc<Descriptor>>,
    /// A probe was sent although the node's place is known: nothing is reached there.
    probed: bool,
}

/// All requests under way.
#[derive(Default)]
pub(super) struct Wants {
    wants: HashMap<WantId, Want>,
    /// Names being resolved, as they were asked.
    names: HashMap<WantId, String>,
    timers: Timers<WantId>,
}

impl Wants {
    /// The earliest deadline.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }
}

impl<S: Store> Node<S> {
    /// Resolves a name as one of our identities, or in any zone.
    pub fn resolve(&mut self, now: Now, want: WantId, acting: ServiceId, zone: Option<ServiceId>, name: &str) {
        if !self.add_want(now, want, Goal::Records, Some(acting)) {
            return;
        }
        self.resolve_name(now, want, zone.unwrap_or(acting), name);
    }

    /// Asks the resolver, if the text is a name.
    fn resolve_name(&mut self, now: Now, want: WantId, zone: ServiceId, text: &str) {
        match Name::parse(text, &self.suffix) {
            Ok(name) => {
                let id = ResolveId(want.0);
                self.wants.names.insert(want, text.to_owned());
                self.resolver.resolve(now, id, zone, &self.zones, &name, ResolveOptions::default());
            }
            Err(_) => self.fail(want, WantError::BadName),
        }
    }

    /// Opens a channel as one of our identities.
    pub fn connect(&mut self, now: Now, want: WantId, acting: ServiceId, target: Target, wanted: Wanted) {
        if self.add_want(now, want, Goal::Channel(wanted), Some(acting)) {
            self.approach(now, want, acting, target);
        }
    }

    /// One round trip to a target as one of our identities.
    pub fn ping(&mut self, now: Now, want: WantId, acting: ServiceId, target: Target) {
        if self.add_want(now, want, Goal::Ping(None), Some(acting)) {
            self.approach(now, want, acting, target);
        }
    }

    /// Notes a request of the DHT, so that it ends in time.
    pub(super) fn begin(&mut self, now: Now, want: WantId) {
        self.add_want(now, want, Goal::Block, None);
    }

    /// Notes a request; a refusal is told at once.
    fn add_want(&mut self, now: Now, want: WantId, goal: Goal, acting: Option<ServiceId>) -> bool {
        let known = acting.is_none_or(|acting| self.identities.contains_key(&acting));
        let why = if !known {
            WantError::UnknownIdentity
        } else if self.wants.wants.len() >= WANTS_LEN_MAX {
            WantError::TooMany
        } else {
            let limit = if matches!(goal, Goal::Block) { DHT_TIME_MAX } else { CONNECT_TIME_MAX };
            self.wants.timers.set(want, now.instant + limit);
            self.wants.wants.insert(
                want,
                Want { goal, acting, owner: None, label: None, fresh: false, tried: None, probed: false },
            );
            return true;
        };
        self.events.push_back(Event::Failed { want, why });
        false
    }

    /// The first step toward a target.
    fn approach(&mut self, now: Now, want: WantId, acting: ServiceId, target: Target) {
        match target {
            Target::Name(name) => self.resolve_name(now, want, acting, &name),
            Target::Service(service, label) => self.toward_owner(now, want, Owner::Service(service), label),
            Target::Peer(peer) => self.toward_owner(now, want, Owner::Peer(peer), None),
        }
    }

    /// Ends a request with its answer.
    pub(super) fn answer(&mut self, want: WantId, event: Event) {
        if self.wants.wants.remove(&want).is_some() {
            self.wants.names.remove(&want);
            self.wants.timers.clear(&want);
            self.events.push_back(event);
        }
    }

    /// Ends a request with a failure.
    fn fail(&mut self, want: WantId, why: WantError) {
        self.answer(want, Event::Failed { want, why });
    }

    /// Ends requests whose time is over.
    pub(super) fn handle_want_timeouts(&mut self, now: Now) {
        while let Some(want) = self.wants.timers.pop_due(now.instant) {
            self.sessions.cancel(now, ConnectId(want.0));
            self.resolver.cancel(ResolveId(want.0));
            self.probing.remove(&LookupId(want.0));
            self.locating.remove(&LookupId(want.0));
            self.wants.names.remove(&want);
            if let Some(found) = self.wants.wants.remove(&want) {
                let why = if found.owner.is_none() { WantError::NameTimeout } else { WantError::Timeout };
                self.events.push_back(Event::Failed { want, why });
            }
        }
    }

    /// A name was resolved, or not.
    pub(super) fn on_resolved(
        &mut self,
        now: Now,
        id: ResolveId,
        result: Result<Answer, ResolveError>,
        trace: Vec<TraceStep>,
    ) {
        let want = WantId(id.0);
        let Some(found) = self.wants.wants.get(&want) else { return };
        let name = self.wants.names.remove(&want).unwrap_or_default();
        match (&found.goal, result.map_err(|error| name_error(&error))) {
            (Goal::Records | Goal::Block, result) => {
                let result = result.map(|answer| Resolution { name, answer, trace });
                self.answer(want, Event::Resolved { want, result });
            }
            (Goal::Channel(_) | Goal::Ping(_), Err(why)) => self.fail(want, why),
            (Goal::Channel(_) | Goal::Ping(_), Ok(answer)) => match answer.service {
                Some(service) => {
                    let label = answer.label.map(|label| label.as_str().to_owned());
                    self.toward_owner(now, want, Owner::Service(service), label);
                }
                None => self.fail(want, WantError::NoSuchName),
            },
        }
    }

    /// Goes on toward an identity or machine: over its session, by its own descriptor if it is ours, or by the one it published.
    fn toward_owner(&mut self, now: Now, want: WantId, owner: Owner, label: Option<String>) {
        let Some(found) = self.wants.wants.get_mut(&want) else { return };
        (found.owner, found.label) = (Some(owner), label);
        if let Some(descriptor) = self.sessions.descriptor(owner) {
            let descriptor = Arc::new(descriptor.clone());
            return self.open_channel(now, want, &descriptor);
        }
        let acting = found.acting.map_or(Acting::Anonymous, Acting::Identity);
        if let Some(descriptor) = self.sessions.known_descriptor(acting, owner) {
            return self.open_channel(now, want, &descriptor);
        }
        self.find_node(now, want, owner);
    }

    /// Looks for a descriptor: an identity's in its zone, a machine's in its Hello.
    fn find_node(&mut self, now: Now, want: WantId, owner: Owner) {
        match owner {
            Owner::Service(service) => {
                let fresh = self.wants.wants.get(&want).is_some_and(|found| found.fresh);
                self.resolver.resolve_node(now, ResolveId(want.0), service, &self.zones, ResolveOptions { fresh });
            }
            Owner::Peer(peer) => {
                if self.routing.can_locate(&peer) {
                    self.locating.insert(LookupId(want.0), peer);
                    self.routing.locate(now, LookupId(want.0), peer);
                }
                let purpose = Purpose::HelloFor(want, peer, None);
                self.query(now, purpose, dht::hello_key(&peer), Kind::Hello);
            }
        }
    }

    /// The descriptor that a machine's Hello holds.
    pub(super) fn on_node_hello(&mut self, now: Now, want: WantId, hello: Option<Hello>) {
        let lookup = LookupId(want.0);
        match hello {
            Some(hello) => {
                self.locating.remove(&lookup);
                self.on_node_record(now, ResolveId(want.0), Ok(hello.descriptor));
            }
            // The landmarks may still know it.
            None if self.locating.contains_key(&lookup) => {}
            None => self.fail(want, WantError::NoRoute),
        }
    }

    /// Landmarks know where a machine is, and have its Hello.
    pub(super) fn on_located(&mut self, now: Now, lookup: LookupId, peer: PeerId, blob: &[u8]) {
        if self.probing.contains_key(&lookup) {
            if self.routing.reaches_far(now, &peer) {
                return self.on_route_found(now, lookup);
            }
            // It says that it is where nobody knows the way: a probe is what is left.
            return self.routing.lookup(now, lookup, peer);
        }
        if self.locating.remove(&lookup).is_none() {
            return;
        }
        let block = Block::decode(blob).ok().filter(|block| block.verify(now.unix).is_ok());
        let want = WantId(lookup.0);
        match block.and_then(|block| dht::open_hello(&peer, &block)) {
            Some(hello) => {
                self.end_hello_query(want);
                self.on_node_hello(now, want, Some(hello));
            }
            None => self.on_not_located(now, lookup),
        }
    }

    /// No landmark knows a machine.
    pub(super) fn on_not_located(&mut self, now: Now, lookup: LookupId) {
        if let Some(descriptor) = self.probing.get(&lookup) {
            let node = descriptor.node;
            return self.routing.lookup(now, lookup, node);
        }
        self.locating.remove(&lookup);
        let want = WantId(lookup.0);
        if !self.seeks_hello(want) {
            self.on_node_hello(now, want, None);
        }
    }

    /// A descriptor was found, or not.
    pub(super) fn on_node_record(&mut self, now: Now, id: ResolveId, record: Result<bytes::Bytes, ResolveError>) {
        let want = WantId(id.0);
        let Some(found) = self.wants.wants.get(&want) else { return };
        let descriptor = match record {
            Ok(bytes) => Descriptor::decode(&bytes).ok(),
            Err(ResolveError::TimedOut) => return self.fail(want, WantError::Timeout),
            Err(_) => return self.fail(want, WantError::NoRoute),
        };
        let valid = descriptor
            .filter(|descriptor| Some(descriptor.owner) == found.owner && descriptor.verify(now.unix).is_ok());
        match valid {
            Some(descriptor) => self.reach(now, want, Arc::new(descriptor)),
            None => self.fail(want, WantError::NoRoute),
        }
    }

    /// Makes sure that there are next hops to the descriptor's node.
    fn reach(&mut self, now: Now, want: WantId, descriptor: Arc<Descriptor>) {
        let node = descriptor.node;
        if let Some(found) = self.wants.wants.get_mut(&want) {
            found.tried = Some(descriptor.clone());
        }
        if node == self.me || self.routing.reaches_far(now, &node) {
            return self.open_channel(now, want, &descriptor);
        }
        self.probing.insert(LookupId(want.0), descriptor);
        if self.routing.has_directory() {
            self.routing.locate(now, LookupId(want.0), node);
        } else {
            self.routing.lookup(now, LookupId(want.0), node);
        }
    }

    /// A circuit came to nothing: where its node said to be may be outdated, so it is looked up for the next try.
    pub(super) fn way_failed(&mut self, now: Now, carrier: CarrierId) {
        let Some(node) = self.bound_for.remove(&carrier) else { return };
        if self.routing.has_directory() {
            self.routing.forget_place(&node);
            self.routing.locate(now, LookupId(u64::MAX), node);
        }
    }

    /// A place or a probe shows a way.
    pub(super) fn on_route_found(&mut self, now: Now, lookup: LookupId) {
        if let Some(descriptor) = self.probing.remove(&lookup) {
            self.open_channel(now, WantId(lookup.0), &descriptor);
        }
    }

    /// No probe found a way.
    pub(super) fn on_route_missing(&mut self, _now: Now, lookup: LookupId) {
        if self.probing.remove(&lookup).is_some() {
            self.fail(WantId(lookup.0), WantError::NoRoute);
        }
    }

    /// The last step: a channel in a session with the owner.
    fn open_channel(&mut self, now: Now, want: WantId, descriptor: &Arc<Descriptor>) {
        let Some(found) = self.wants.wants.get_mut(&want) else { return };
        let acting = found.acting.map_or(Acting::Anonymous, Acting::Identity);
        let label = found.label.clone();
        let open = match &mut found.goal {
            Goal::Channel(wanted) => {
                OpenRequest { port: wanted.port.clone(), label, mode: wanted.mode, early: wanted.early.clone() }
            }
            Goal::Ping(since) => {
                *since = Some(now.instant);
                let port = Port::new(PING_PORT).expect("a valid port");
                OpenRequest { port, label: None, mode: Mode::UnreliableUnordered, early: bytes::Bytes::new() }
            }
            Goal::Records | Goal::Block => return,
        };
        self.sessions.connect(now, ConnectId(want.0), acting, descriptor, open);
    }

    /// A channel is open.
    pub(super) fn on_connected(&mut self, now: Now, connect: ConnectId, channel: ChannelRef) {
        let want = WantId(connect.0);
        match self.wants.wants.get(&want).map(|found| &found.goal) {
            Some(Goal::Channel(_)) => self.answer(want, Event::Connected { want, channel }),
            Some(Goal::Ping(since)) => {
                let rtt = since.map_or(Duration::ZERO, |since| now.instant - since);
                self.sessions.reset(now, channel);
                self.pong(want, rtt);
            }
            Some(Goal::Records | Goal::Block) | None => self.sessions.reset(now, channel),
        }
    }

    /// The far side said no, which is all that a ping wants to hear.
    pub(super) fn on_refused(&mut self, now: Now, connect: ConnectId, why: Refusal) {
        let want = WantId(connect.0);
        match self.wants.wants.get(&want).map(|found| &found.goal) {
            Some(Goal::Ping(since)) => {
                let rtt = since.map_or(Duration::ZERO, |since| now.instant - since);
                self.pong(want, rtt);
            }
            _ => self.fail(want, WantError::Refused(why)),
        }
    }

    /// Answers a ping.
    fn pong(&mut self, want: WantId, rtt: Duration) {
        let Some(found) = self.wants.wants.get(&want) else { return };
        let acting = found.acting.map_or(Acting::Anonymous, Acting::Identity);
        let hops = found.owner.map_or(0, |owner| self.path_hops(acting, owner));
        self.answer(want, Event::Pong { want, rtt, hops });
    }

    /// A session was not reached. A descriptor from the cache may be stale: it is looked up once more.
    pub(super) fn on_connect_failed(&mut self, now: Now, connect: ConnectId, why: Failure) {
        let want = WantId(connect.0);
        let Some(found) = self.wants.wants.get_mut(&want) else { return };
        let stale = matches!(why, Failure::Rejected | Failure::NoRoute | Failure::BadDescriptor);
        if let Some(owner) = found.owner.filter(|_| stale && !found.fresh) {
            found.fresh = true;
            return self.find_node(now, want, owner);
        }
        if let Some(descriptor) = found.tried.clone().filter(|_| why == Failure::NoRoute && !found.probed)
            && !self.routing.reaches(&descriptor.node)
        {
            found.probed = true;
            let (lookup, node) = (LookupId(want.0), descriptor.node);
            self.probing.insert(lookup, descriptor);
            return self.routing.lookup(now, lookup, node);
        }
        let why = match why {
            Failure::NoRoute | Failure::Rejected | Failure::BadDescriptor => WantError::NoRoute,
            Failure::Timeout => WantError::Timeout,
            Failure::UnknownIdentity => WantError::UnknownIdentity,
            Failure::TooMany => WantError::TooMany,
        };
        self.fail(want, why);
    }
}

/// Why a name leads nowhere, in the shell's words.
fn name_error(error: &ResolveError) -> WantError {
    match error {
        ResolveError::NoSuchName { .. } | ResolveError::NotAZone { .. } | ResolveError::BadAlias(_) => {
            WantError::NoSuchName
        }
        ResolveError::Loop => WantError::Loop,
        ResolveError::TimedOut => WantError::NameTimeout,
        ResolveError::Busy => WantError::TooMany,
    }
}
