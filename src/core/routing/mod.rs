//! Routing: which next hops lead to a peer. A distance-vector table whose routes are
//! signed by their destinations, authenticated by hash chains, feasible in Babel's sense
//! (RFC 8966 §3.5.1) and therefore free of loops at any moment; probes for what is not in
//! the table; single datagrams that travel by it. PROTOCOL.md §4.
//!
//! States: a destination is *live* (it has a usable route), or a *tombstone* (it had one; its
//! bound is remembered until every ghost of it is gone). Timers: adverts, retractions, refresh
//! of our own sequence, digests and cleaning, repeated requests, probes. Bounds: `limits`.
//!
//! Drain [`Routing::poll_transmit`] and [`Routing::poll_event`] after every `handle_*`.
//!
//! Beyond the table: every node keeps routes to the same few *landmarks* (`landmark`); a node's
//! *place* is ways from some of them to it (`home`), kept by the landmarks nearest to its id
//! (`directory`). Who has neither route nor place of a peer sends a probe, the last resort.
//!
//! A batch's signature is checked although the link authenticates its sender: it
//! is what lets one batch go to all neighbours alike and be shown to others as evidence.

mod acquaintance;
mod bucket;
mod chain;
mod datagram;
mod directory;
mod entry;
mod event;
mod evidence;
mod export;
mod ghosts;
mod home;
mod import;
mod landmark;
mod leases;
pub mod limits;
mod neighbour;
mod origin;
mod probe;
mod reach;
mod request;
mod settle;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use acquaintance::Acquaintance;
pub use chain::advance_element;
pub use event::Counters;
pub use event::{
    Cost, Error, Event, Hops, LinkCost, LookupId, NextHops, RequestId, ReturnToken, RouteStatus, SendError, To,
};
pub use limits::Limits;
pub use origin::EpochState;

use acquaintance::Acquaintances;
use datagram::Datagrams;
use directory::Directory;
use entry::{Cause, Entry, Told};
use evidence::Evidence;
use ghosts::Ghosts;
use home::Home;
use limits::{
    HOUSEKEEPING, JITTER_PERCENT, LANDMARK_REFRESH, LINK_COST_STEP, LOOK_AROUND, OUT_MAX, REFILL_WAIT, REFRESH,
};
use neighbour::{Neighbour, absorb};
use origin::Origin;
use probe::Probes;
use table::Table;

use crate::crypto::{PeerId, SigningKey};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timers};
use crate::wire::kind;
use crate::wire::routing::{Refill, Sequence, Short, short};

/// The deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Changed routes are told.
    Adverts,
    /// Retractions are told.
    Retractions,
    /// Our own sequence grows, because it is time.
    Refresh,
    /// Our own sequence grows, because somebody needs it.
    Bump,
    /// Digests, expiry, cleaning.
    Housekeeping,
    /// Neighbours are asked for lost routes.
    Lost,
    /// A neighbour is asked for its table again.
    Refill(PeerId),
    /// A neighbour is asked for named routes.
    Wanted(PeerId),
    /// A starved destination's request is repeated.
    Starved(PeerId),
    /// A probe's ring is over.
    Probe(PeerId),
    /// We look who stands for landmark, and whether our place is still true.
    LookAround,
    /// We register at landmarks.
    Home,
    /// Our place is given to landmarks.
    Publish,
    /// Other landmarks are asked for a peer.
    Directory(PeerId),
}

/// The routing machine of one node.
pub struct Routing {
    me: PeerId,
    limits: Limits,
    rng: Rng,
    origin: Origin,
    /// When our own route is to be told.
    own_due: Option<Instant>,
    /// The epoch of ours whose proof was broadcast.
    own_told_epoch: u32,
    neighbours: BTreeMap<PeerId, Neighbour>,
    /// Neighbours by short.
    linked_shorts: BTreeMap<Short, PeerId>,
    table: Table,
    ghosts: Ghosts,
    /// How long others were landmarks that we kept.
    acquaintances: Acquaintances,
    /// Looks at which we have come first as a landmark, one after the other.
    stood: u8,
    home: Home,
    directory: Directory,
    /// Something did not fit the table since neighbours were last asked for theirs.
    refused: bool,
    /// Number of the last batch.
    batch: u64,
    /// Retractions that wait for company, with what all were told, and the newest that any heard.
    gone: BTreeMap<PeerId, (Cause, Option<Told>, Sequence)>,
    /// Lost destinations that neighbours are asked for.
    lost: BTreeSet<Short>,
    probes: Probes,
    datagrams: Datagrams,
    evidence: Evidence,
    timers: Timers<Timer>,
    out: VecDeque<(To, u8, Bytes)>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Routing {
    /// A node without links. `keys` is its Ed25519 node key, `last` what the last [`Event::Persist`] said.
    /// The first event asks to persist the new epoch.
    #[must_use]
    pub fn new(now: Now, keys: Arc<SigningKey>, mut rng: Rng, limits: Limits, last: EpochState) -> Self {
        let me = keys.public().peer_id();
        let origin = Origin::new(keys, rng.fork("origin"), last);
        let mut routing = Self {
            me,
            limits,
            batch: u64::from(origin.sequence().epoch) << 32,
            origin,
            own_due: None,
            own_told_epoch: 0,
            neighbours: BTreeMap::new(),
            linked_shorts: BTreeMap::new(),
            table: Table::default(),
            ghosts: Ghosts::new(limits.tombstones),
            acquaintances: Acquaintances::new(limits.acquaintance),
            stood: 0,
            home: Home::default(),
            directory: Directory::new(limits),
            refused: false,
            gone: BTreeMap::new(),
            lost: BTreeSet::new(),
            probes: Probes::new(limits),
            datagrams: Datagrams::new(limits),
            evidence: Evidence::default(),
            timers: Timers::default(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            rng,
        };
        routing.persist_epoch();
        routing.set_refresh(now.instant);
        let first = routing.rng.jitter(HOUSEKEEPING, JITTER_PERCENT);
        routing.timers.set(Timer::Housekeeping, now.instant + first);
        let first = routing.rng.jitter(LOOK_AROUND, JITTER_PERCENT);
        routing.timers.set(Timer::LookAround, now.instant + first);
        routing
    }

    /// Goes on with the acquaintances that the last [`Event::Acquaintances`] told, before anything else.
    pub fn remember_acquaintances(&mut self, saved: &[Acquaintance]) {
        self.acquaintances.restore(saved, self.limits.landmarks);
    }

    /// A link is up: the peer is reachable at once, and tables are exchanged.
    pub fn handle_link_up(&mut self, now: Now, peer: PeerId, cost: LinkCost) {
        if self.neighbours.contains_key(&peer) {
            self.handle_link_down(now, peer);
        }
        self.neighbours.insert(peer, Neighbour::new(now.instant, u16::from(cost.as_u8())));
        self.linked_shorts.insert(short(&peer), peer);
        self.reindex(&peer);
        if self.table.entries.get(&peer).is_none_or(|entry| !entry.live) {
            self.events.push_back(Event::RouteUp { dest: peer });
        }
        self.ask_refill(now.instant, &peer);
        self.answer_lookups(&peer);
    }

    /// A link's cost was measured anew. Small changes are ignored.
    pub fn handle_link_cost(&mut self, now: Now, peer: PeerId, cost: LinkCost) {
        let cost = u16::from(cost.as_u8());
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if neighbour.cost.abs_diff(cost) < u16::from(LINK_COST_STEP) {
            return;
        }
        neighbour.cost = cost;
        let over: Vec<PeerId> = self.dests_over(&peer);
        for dest in over {
            if let Some(entry) = self.table.entries.get_mut(&dest) {
                entry.routes.iter_mut().filter(|route| route.via == peer).for_each(|route| route.cost = cost);
            }
            self.settle(now.instant, &dest, Cause::Unreachable);
        }
    }

    /// A link is down: every route over it ends at once.
    pub fn handle_link_down(&mut self, now: Now, peer: PeerId) {
        if self.neighbours.remove(&peer).is_none() {
            return;
        }
        self.linked_shorts.remove(&short(&peer));
        self.timers.clear(&Timer::Refill(peer));
        self.timers.clear(&Timer::Wanted(peer));
        self.probes.forget(&peer);
        self.datagrams.forget(&peer);
        if self.table.entries.get(&peer).is_none_or(|entry| !entry.live) {
            self.events.push_back(Event::RouteDown { dest: peer });
        }
        for dest in self.dests_over(&peer) {
            if let Some(entry) = self.table.entries.get_mut(&dest) {
                entry.drop_route(&peer);
            }
            self.settle(now.instant, &dest, Cause::Unreachable);
        }
        self.reindex(&peer);
    }

    /// A routing or routed message from a neighbour.
    ///
    /// # Errors
    /// The neighbour's fault: malformed, not signed, repeated, not a neighbour, not for us.
    pub fn handle_message(&mut self, now: Now, from: PeerId, kind: u8, body: &[u8]) -> Result<(), Error> {
        if !self.neighbours.contains_key(&from) {
            return Err(Error::NotNeighbour);
        }
        match kind {
            kind::ADVERT => self.handle_advert(now.instant, from, body),
            kind::WITHDRAW => self.handle_retractions(now.instant, from, kind, body, Cause::Withdrawn),
            kind::UNREACH => self.handle_retractions(now.instant, from, kind, body, Cause::Unreachable),
            kind::SEQREQ => self.handle_seq_request(now.instant, from, body),
            kind::REFILL => self.handle_refill(now.instant, from, body),
            kind::DIGEST => self.handle_digest(now.instant, from, body),
            kind::PROBE => self.handle_probe(now.instant, from, body),
            kind::PROBE_FOUND => self.handle_probe_found(now.instant, from, body),
            kind::ROUTED => self.handle_routed(now.instant, from, body),
            kind::ROUTED_ANSWER => self.handle_routed_answer(now.instant, from, body),
            kind::REGISTER => self.handle_register(now.instant, from, body),
            kind::PLACE => self.handle_place(now.instant, from, body),
            other => Err(Error::Kind(other)),
        }
    }

    /// Whether a next hop delivered toward a destination, as seen end to end.
    pub fn handle_evidence(&mut self, now: Now, dest: PeerId, next_hop: PeerId, ok: bool) {
        self.evidence.note(now.instant, dest, next_hop, ok);
    }

    /// Whether a neighbour passes on what it is given, as the proofs of destinations show.
    pub fn handle_delivery(&mut self, now: Now, peer: PeerId, ok: bool) {
        self.evidence.note_neighbour(now.instant, peer, ok);
    }

    /// Handles what is due; early calls change nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        let now = now.instant;
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Adverts => self.send_adverts(now),
                Timer::Retractions => self.send_retractions(),
                Timer::Refresh | Timer::Bump => self.bump(now),
                Timer::Housekeeping => self.keep_house(now),
                Timer::Lost => self.ask_lost(),
                Timer::Refill(peer) => self.ask_refill(now, &peer),
                Timer::Wanted(peer) => self.ask_wanted(&peer),
                Timer::Starved(dest) => self.request_sequence(now, &dest),
                Timer::Probe(dest) => self.next_ring(now, &dest),
                Timer::LookAround => self.look_around(now),
                Timer::Home => self.register(now),
                Timer::Publish => self.publish(now),
                Timer::Directory(dest) => self.ask_directories(now, &dest),
            }
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next message for the links: whom for, its kind, its body.
    pub fn poll_transmit(&mut self) -> Option<(To, u8, Bytes)> {
        if self.out.is_empty() {
            self.retell();
        }
        self.out.pop_front()
    }

    /// The next event for the node.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Our own id.
    #[must_use]
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// What was dropped, refused or sent so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Queues a message, and adds what must not get lost to the receivers' digests.
    fn send(&mut self, to: To, kind: u8, body: Bytes) {
        if matches!(kind, kind::ADVERT | kind::WITHDRAW | kind::UNREACH) {
            for (peer, neighbour) in &mut self.neighbours {
                if to == To::All || to == To::One(*peer) {
                    absorb(&mut neighbour.sent, kind, &body);
                }
            }
        }
        if self.out.len() >= OUT_MAX {
            self.counters.out_dropped += 1;
            return;
        }
        self.out.push_back((to, kind, body));
    }

    /// Asks a neighbour for its whole table, now and again until it was told.
    fn ask_refill(&mut self, now: Instant, peer: &PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else { return };
        let times = neighbour.asked.unwrap_or(0);
        neighbour.asked = Some(times.saturating_add(1));
        let wait = (REFILL_WAIT * 2u32.pow(times.min(5))).min(limits::REFILL_WAIT_MAX);
        self.timers.set(Timer::Refill(*peer), now + wait);
        self.send(To::One(*peer), kind::REFILL, Refill { wanted: Vec::new() }.encode());
    }

    /// Notes that a neighbour has a destination that we cannot take without its proof, or not before `wait` is over.
    fn want(&mut self, now: Instant, peer: &PeerId, dest: Short, wait: Duration) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else { return };
        if neighbour.wanted.len() < crate::wire::routing::WANTED_MAX && neighbour.wanted.insert(dest) {
            let due = self.timers.at(&Timer::Wanted(*peer));
            self.timers.set(Timer::Wanted(*peer), due.unwrap_or(now + wait).min(now + wait));
        }
    }

    /// Asks a neighbour for the noted destinations.
    fn ask_wanted(&mut self, peer: &PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else { return };
        let wanted: Vec<Short> = std::mem::take(&mut neighbour.wanted).into_iter().collect();
        if !wanted.is_empty() {
            self.send(To::One(*peer), kind::REFILL, Refill { wanted }.encode());
        }
    }

    /// Goes to our next sequence, and tells it.
    fn bump(&mut self, now: Instant) {
        if self.origin.bump(now) {
            self.persist_epoch();
        }
        self.set_refresh(now);
        self.tell_own(now, limits::URGENT);
    }

    /// Sets the next refresh of our own sequence.
    fn set_refresh(&mut self, now: Instant) {
        self.timers.clear(&Timer::Bump);
        let period = if self.origin.proof().is_landmark() { LANDMARK_REFRESH } else { REFRESH };
        let wait = self.rng.jitter(period, JITTER_PERCENT);
        self.timers.set(Timer::Refresh, now + wait);
    }

    /// Asks for our epoch to be persisted.
    fn persist_epoch(&mut self) {
        self.events.push_back(Event::Persist(EpochState { epoch: self.origin.sequence().epoch }));
    }

    /// Destinations that have a route over a neighbour.
    fn dests_over(&self, peer: &PeerId) -> Vec<PeerId> {
        let over = |entry: &Entry| entry.route(peer).is_some();
        self.table.entries.iter().filter(|(_, entry)| over(entry)).map(|(dest, _)| *dest).collect()
    }

    /// The short of a destination, to ask for it.
    fn note_lost(&mut self, now: Instant, dest: &PeerId) {
        self.lost.insert(short(dest));
        let due = self.timers.at(&Timer::Lost).unwrap_or(now + limits::LOST_WAIT);
        self.timers.set(Timer::Lost, due);
    }
}
