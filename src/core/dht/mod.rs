//! The DHT: R5N over the peers that the node can reach.
//!
//! A query (GET or PUT) takes some random steps, then goes greedily to the peers nearest to its key, of which those that it
//! reaches ask the others, as a last step; in a network whose every peer we see, it goes to them at once. Every hop keeps
//! the query as *pending* under fresh tokens, passes blocks back as they come, and answers *complete* when all hops behind
//! it have. Own look-ups are walks over disjoint first hops; a block is
//! absent when most that went straight deny it, and any valid block before that overrides it.
//!
//! Timers: patience of pending queries, silence and deadline of own ones, expiry of blocks, refresh of own blocks, handover steps.
//! Bounds: [`limits`]. Nothing here knows how a message gets to a contact: the node reports contacts and carries messages.
//!
//! Missing on purpose: caching of blocks on their way (who answers must be a storer), and joining: contacts come from routing.

mod bloom;
mod budget;
mod clock;
mod contacts;
mod content;
mod forward;
mod handover;
mod hello;
pub mod limits;
mod own;
mod pending;
mod signed;
mod size;
mod store;
mod transit;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::crypto::{DhtKey, PeerId};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timers, UnixTime, earliest};
use crate::wire::block::{Block, CLOCK_TOLERANCE_S, Kind, Slot};
use crate::wire::dht::Message;
use budget::Budgets;
use contacts::Contacts;
use handover::Handover;
use limits::{
    CONTENT_LEASE_S, EXPIRE_PER_STEP, EXPIRE_STEP_MAX, PENDING_LEN, PENDING_PER_NEIGHBOUR, REFRESH, REFRESH_AT_START,
    TRANSMIT_LEN,
};
use own::Own;
use pending::Table;
use size::Reports;

pub use clock::ClockDoubt;
pub use contacts::dht_id;
pub use content::{content_key, open_content, seal_content};
pub use hello::{HELLO_RELAY, Hello, hello_key, hello_signer, open_hello, seal_hello};
pub use signed::{open_signed, seal_signed, signed_key};
pub use store::{Entry, Kept, MemoryStore, Refused, Store, StoreLimits, StoreOp, Usage};

/// Names a query of the layer above; its answers repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// How a message came in, and so how its answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// From a neighbour, over its link.
    Link(PeerId),
    /// In a routed datagram.
    Routed {
        /// The neighbour that handed it to us.
        neighbour: PeerId,
        /// Routing's handle for the answer.
        token: u64,
    },
}

impl Via {
    /// The neighbour that handed it to us.
    #[must_use]
    pub const fn neighbour(&self) -> PeerId {
        match self {
            Self::Link(neighbour) | Self::Routed { neighbour, .. } => *neighbour,
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To a contact, which may answer.
    Peer(PeerId),
    /// Back the way that a message came. Several answers may go the same way.
    Reply(Via),
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: To,
    /// Its bytes.
    pub body: Bytes,
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Blocks were found; each was an event of its own.
    Found,
    /// Nothing is stored under that key: the network says so.
    Absent,
    /// Nothing was found, but too few have answered to say that there is nothing.
    TimedOut,
    /// The block is stored.
    Stored {
        /// Nodes that say so, ourselves included.
        replicas: u32,
    },
    /// The block to store breaks the rules, or a newer one is stored here.
    Refused(Refused),
}

/// What the layer above should know.
#[expect(clippy::large_enum_variant, reason = "blocks are what events are for")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A valid block was found. More may follow, with lower or higher sequences.
    Block {
        /// The query.
        query: QueryId,
        /// The block; its signature holds, its inside is for the reader to judge.
        block: Block,
    },
    /// A query ended; nothing follows.
    Done {
        /// The query.
        query: QueryId,
        /// How.
        outcome: Outcome,
    },
    /// A change of the store to write down.
    Persist(StoreOp),
}

/// Bounds that tests make small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries in flight through us.
    pub pending: usize,
    /// Queries in flight through us per neighbour.
    pub pending_per_neighbour: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pending: PENDING_LEN, pending_per_neighbour: PENDING_PER_NEIGHBOUR }
    }
}

/// What was dropped, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages that were none.
    pub malformed: u64,
    /// Answers to nothing that we asked.
    pub unsolicited: u64,
    /// Blocks with bad signatures, wrong keys or past expiries.
    pub invalid: u64,
    /// Queries of neighbours above their budget.
    pub over_budget: u64,
    /// Queries not forwarded because the table was full.
    pub over_pending: u64,
    /// Queries seen before.
    pub repeated: u64,
    /// Messages dropped because nobody pulled them.
    pub not_pulled: u64,
}

/// The DHT at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Blocks stored.
    pub blocks: usize,
    /// Bytes stored.
    pub bytes: usize,
    /// Peers in the network, estimated.
    pub size_estimate: u64,
    /// Contacts that are asked.
    pub contacts: usize,
    /// Queries in flight through us and by us.
    pub pending: usize,
}

/// Deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The first step: looks through a store that was filled from disk.
    Start,
    /// A pending query.
    Pending(u64),
    /// An own query.
    Own(u64),
    /// Blocks expire.
    Expire,
    /// The next step of a handover.
    Handover,
}

/// The DHT of one node.
pub struct Dht<S> {
    me: PeerId,
    id: DhtKey,
    rng: Rng,
    limits: Limits,
    store: S,
    contacts: Contacts,
    reports: Reports,
    budgets: Budgets,
    pending: Table,
    owns: BTreeMap<u64, Own>,
    handover: Handover,
    timers: Timers<Timer>,
    refresh: Timers<(DhtKey, Slot)>,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
    clock: clock::ClockVotes,
}

impl<S: Store> Dht<S> {
    /// The DHT of node `me`, over a store that may hold blocks already.
    pub fn new(me: PeerId, mut rng: Rng, store: S, limits: Limits) -> Self {
        let id = dht_id(&me);
        let mut timers = Timers::default();
        timers.set(Timer::Start, Instant::ZERO);
        Self {
            me,
            id,
            limits,
            store,
            contacts: Contacts::new(id),
            reports: Reports::default(),
            budgets: Budgets::default(),
            pending: Table::new(rng.fork("pending")),
            owns: BTreeMap::new(),
            handover: Handover::default(),
            timers,
            refresh: Timers::default(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            clock: clock::ClockVotes::default(),
            rng,
        }
    }

    /// Whether blocks are handed to contacts that come to be among the nearest to their keys; they are, unless said otherwise.
    pub fn set_handover(&mut self, on: bool) {
        self.handover.off = !on;
    }

    /// A peer became reachable: a neighbour, or the destination of a route.
    pub fn contact_up(&mut self, now: Now, peer: PeerId) {
        if peer != self.me && self.contacts.insert(peer) {
            self.handover_to(now, peer);
        }
    }

    /// A peer is no longer reachable. Queries no longer wait for it.
    pub fn contact_down(&mut self, now: Now, peer: PeerId) {
        self.reports.remove(&peer);
        if self.contacts.remove(&peer) {
            self.handover_from(now, peer);
            self.leg_gone(now, peer);
        }
    }

    /// Looks for the blocks of a kind under a key. What is stored here comes at once.
    pub fn get(&mut self, now: Now, query: QueryId, key: DhtKey, kind: Kind) {
        self.start_get(now, query, key, kind);
    }

    /// Stores a block at the nodes nearest to its key, and keeps it here to refresh it. Content is kept for a week.
    pub fn put(&mut self, now: Now, query: QueryId, block: Block) {
        self.put_until(now, query, block, UnixTime(now.unix.0.saturating_add(CONTENT_LEASE_S)));
    }

    /// As [`Self::put`], with the lease of a content block, at most 30 days ahead; other kinds end with their expiry.
    pub fn put_until(&mut self, now: Now, query: QueryId, block: Block, lease: UnixTime) {
        self.start_put(now, Some(query), block, lease);
    }

    /// No longer refreshes an own block; it lives on like anybody's until it ends.
    pub fn disown(&mut self, key: &DhtKey, slot: &Slot) {
        self.store.disown(key, slot);
        self.refresh.clear(&(*key, *slot));
    }

    /// Ends a query without an event. A put goes on in the network, unwatched.
    pub fn cancel(&mut self, query: QueryId) {
        let found = self.owns.iter().find(|(_, own)| own.notify == Some(query)).map(|(at, _)| *at);
        if let Some(at) = found {
            self.drop_own(at);
        }
    }

    /// Takes a message of another DHT node. Whatever it holds, the work is bounded: one signature at most.
    pub fn handle_message(&mut self, now: Now, via: Via, body: &[u8]) {
        match Message::decode(body) {
            Ok(Message::Get { route, kind, key }) => self.handle_get(now, via, &route, kind, key),
            Ok(Message::Put { route, lease, block }) => self.handle_put(now, via, &route, lease, block),
            Ok(Message::Reply(reply)) => self.handle_reply(now, reply),
            Err(_) => self.counters.malformed += 1,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.instant) {
            match timer {
                Timer::Start => self.start(now),
                Timer::Pending(id) => self.pending_due(now, id),
                Timer::Own(id) => self.own_due(now, id),
                Timer::Expire => {
                    self.store.expire(now.unix, EXPIRE_PER_STEP);
                    self.arm_expiry(now);
                }
                Timer::Handover => self.handover_step(now),
            }
        }
        while let Some((key, slot)) = self.refresh.pop_due(now.instant) {
            self.refresh_own(now, key, slot);
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.timers.next(), self.refresh.next())
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.store.poll_op().map(Event::Persist))
    }

    /// The DHT at a glance.
    #[must_use]
    pub fn status(&self) -> Status {
        let usage = self.store.usage();
        let quarters = u32::from(size::quarters(&self.contacts, &self.reports));
        let exact = self.contacts.len() as u64 + 1;
        let estimate = (1u64 << (quarters / 4)) * [1000, 1189, 1414, 1682][(quarters % 4) as usize] / 1000;
        Status {
            blocks: usage.blocks,
            bytes: usage.bytes,
            size_estimate: if self.contacts.complete() { exact } else { estimate.max(exact) },
            contacts: self.contacts.len(),
            pending: self.pending.len(),
        }
    }

    /// Whether our clock seems to be wrong, by most of the peers that blocks came from lately.
    #[must_use]
    pub fn clock_doubt(&self, now: Now) -> Option<ClockDoubt> {
        self.clock.doubt(now.instant)
    }

    /// Whether enough contacts share exactly so many leading bits of their place with ours.
    #[must_use]
    pub fn knows_part(&self, bits: u32) -> bool {
        self.contacts.is_full(bits)
    }

    /// Contacts that are asked.
    #[must_use]
    pub fn contacts_len(&self) -> usize {
        self.contacts.len()
    }

    /// What was dropped.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The blocks.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Queues a message, or drops it when nobody pulls.
    fn transmit(&mut self, to: To, message: &Message) {
        if self.out.len() >= TRANSMIT_LEN {
            self.counters.not_pulled += 1;
            return;
        }
        self.out.push_back(Transmit { to, body: message.encode() });
    }

    /// Arms refresh and expiry for what the store holds from before.
    fn start(&mut self, now: Now) {
        let mut cursor = None;
        while let Some(key) = self.store.next_key(cursor.as_ref()) {
            for entry in self.store.entries(now.unix, &key) {
                if entry.own && self.refresh.at(&(key, entry.block.slot())).is_none() {
                    let wait = self.rng.jitter(REFRESH_AT_START / 2, 100);
                    self.refresh.set((key, entry.block.slot()), now.instant + wait);
                }
            }
            cursor = Some(key);
        }
        self.arm_expiry(now);
    }

    /// Sets the timer for the next block that ends.
    fn arm_expiry(&mut self, now: Now) {
        let Some(at) = self.store.next_expiry() else { return self.timers.clear(&Timer::Expire) };
        let wait = std::time::Duration::from_secs(at.0.saturating_sub(now.unix.0).max(1));
        self.timers.set(Timer::Expire, now.instant + wait.min(EXPIRE_STEP_MAX));
    }

    /// Publishes an own block again, if it is still there, and is not about to end.
    fn refresh_own(&mut self, now: Now, key: DhtKey, slot: Slot) {
        let Some(entry) = self.store.entry(&key, &slot).filter(|entry| entry.own) else { return };
        if entry.until.0.saturating_add(CLOCK_TOLERANCE_S) > now.unix.0 {
            self.start_put(now, None, entry.block, entry.until);
        }
    }

    /// Sets when an own block is published again.
    fn arm_refresh(&mut self, now: Now, key: DhtKey, slot: Slot) {
        let wait = self.rng.jitter(REFRESH, 25);
        self.refresh.set((key, slot), now.instant + wait);
    }
}

#[cfg(test)]
mod tests;
