//! All sessions of a node: handshakes in both directions, the circuits that carry them,
//! resumption, identity proofs, listeners, and the channels inside.
//!
//! ```text
//! connect ─ Dial ─ answer ─▶ Session (initiator) ─ idle ─▶ closing ─▶ gone
//!             ╰ no route, rejected, 20 s ─▶ Failed     ╰ circuit dies ─▶ resuming ─ 60 s ─▶ lost
//! first message ─▶ Session (responder, half open) ─ first packet ─▶ confirmed ─ closed, 120 s alone ─▶ gone
//! ```
//!
//! One session per (acting identity or anonymous, owner); the next connect is one OPEN.
//! The node maps [`CarrierId`]s to circuits; all of them, also those of incoming circuits,
//! come from [`Sessions::next_carrier`]. When this node is its own target, both ends are
//! sessions here, each with its own carrier.
//!
//! Timers are in `Timer`, bounds in [`limits`]. Sessions with nothing to send cost
//! nothing: only those on the ready list are asked for packets. While it has channels, a
//! session of ours keeps a second circuit over other relays (`resume`).

mod channels;
mod dial;
mod event;
mod incoming;
pub mod limits;
mod live;
mod owners;
mod reach;
mod relief;
mod resume;
mod timeout;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::established::Established;
use super::handshake::{Initiator, SessionKeys};
use super::keys::OwnerKeys;
use super::listeners::{Caller, Listeners};
use super::{CarrierId, ChannelId, Descriptor, ListenerId, OpenRequest, Owner};
use crate::crypto::{PeerId, ServiceId, SigningKey};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timers};
use crate::wire::path::{AVOID_MAX, SetupId};
use crate::wire::session_handshake::SHORT_LEN;

pub use owners::TooManyIdentities;

pub use event::{
    Acting, ChannelRef, CircuitFailure, ConnectId, Counters, Event, Failure, Incoming, SavedKeys, SessionId,
    SessionStatus,
};

/// What a table of sessions is made of.
pub struct Config {
    /// The node's key: it signs descriptors.
    pub node_key: Arc<SigningKey>,
    /// AES in hardware.
    pub aes: bool,
    /// Session keys of the node itself, as [`Event::Persist`] gave them before the restart.
    pub saved: Option<Zeroizing<Vec<u8>>>,
}

/// What is due when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A session's own timers: loss, pace, keep-alive.
    Session(SessionId),
    /// A handshake tries again.
    Dial(SessionId),
    /// A connect has taken too long.
    Connect(ConnectId),
    /// A resumption tries again.
    Resume(SessionId),
    /// A resumption has no answer yet: another goes beside it.
    Hedge(SessionId),
    /// A second circuit is wanted.
    Standby(SessionId),
    /// A half-open session's initiator has not been heard.
    HalfOpen(SessionId),
    /// An identity proof has not come.
    Proof(SessionId),
    /// A closing session has not managed to say so.
    Closing(SessionId),
    /// An owner's keys rotate or are deleted.
    Owner(Owner),
}

/// A connect that waits.
#[derive(Debug, Clone)]
struct Waiting {
    connect: ConnectId,
    open: OpenRequest,
    /// When it fails.
    until: Instant,
}

/// A handshake of ours that has no answer yet.
struct Dial {
    acting: Acting,
    descriptor: Arc<Descriptor>,
    handshake: Initiator,
    /// The connect whose OPEN is inside the first message.
    early: Option<Waiting>,
    /// It was given up since: its channel is reset if the responder took it.
    early_cancelled: bool,
    /// Those who came later, or did not fit.
    waiting: Vec<Waiting>,
    /// The circuit being built, and its set-up.
    carrier: Option<(CarrierId, SetupId)>,
    /// Set-ups that came to nothing, the latest first.
    tried: SmallVec<[SetupId; AVOID_MAX]>,
    failures: u32,
    last: Failure,
    started: Instant,
}

/// What a circuit is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The session has none that works.
    Continue,
    /// It is to have a second one, over other relays.
    Apart,
    /// The same, if only some of the way is another.
    Detour,
    /// A link to the far node has come up: one over that, beside those that there are.
    Direct,
}

/// A resumption on its way.
#[derive(Debug, Clone, Copy)]
struct Building {
    carrier: CarrierId,
    /// Its number.
    n: u64,
    purpose: Purpose,
}

/// What a session's initiator keeps to resume it.
struct InitiatorEnd {
    acting: Acting,
    descriptor: Arc<Descriptor>,
    /// Number of the next resumption.
    resume_next: u64,
    /// The resumption behind the last that the responder took.
    resume_floor: u64,
    /// The resumptions on their way.
    building: SmallVec<[Building; 1]>,
    /// Set-ups of circuits that live, are on their way or fell silent, newest last.
    trails: SmallVec<[(CarrierId, SetupId); 2]>,
    failures: u32,
    /// Resumptions since the last that succeeded.
    hedges: u32,
    /// Second circuits that were not to be had, in a row.
    standby_failures: u32,
    /// Resumptions that the far node refused in a row.
    rejected: u32,
}

/// The answer to a first message, for its repeats.
struct StoredAnswer {
    first_hash: [u8; 32],
    blob: bytes::Bytes,
    reveal_key: Zeroizing<[u8; 32]>,
}

/// A channel that waits for the caller's proof.
struct Held {
    channel: ChannelId,
    listener: ListenerId,
    until: Instant,
}

/// What a session's responder keeps.
struct ResponderEnd {
    caller: Caller,
    held: Vec<Held>,
    /// Until the initiator's first packet: half open.
    stored: Option<StoredAnswer>,
    /// Circuits of repeated first messages: used once a packet came on them.
    unproven: BTreeSet<CarrierId>,
    /// The resumption expected next; tags up to [`limits::RESUME_AHEAD`] further are known.
    resume_next: u64,
}

/// Which end of a session this is.
enum End {
    /// We opened it.
    Initiator(InitiatorEnd),
    /// It was opened to us.
    Responder(Box<ResponderEnd>),
}

/// What a channel is waiting for.
enum Channel {
    /// For the far side's OPENED. What overtakes it is told after it.
    Opening(Waiting, Vec<Event>),
    /// For the caller's proof.
    Held,
    /// For our listener's decision.
    Undecided(ListenerId),
    /// Nothing: it is open. The listener that accepted it, if we did.
    Open(Option<ListenerId>),
}

/// Where a session stands in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing to send, or nothing may be sent yet.
    Rests,
    /// In the ready list.
    Ready,
    /// In the blocked list: these carriers had no room.
    Blocked([Option<CarrierId>; limits::CIRCUITS_MAX]),
}

/// A live session.
struct Session {
    owner: Owner,
    end: End,
    machine: Box<Established>,
    keys: SessionKeys,
    carriers: BTreeSet<CarrierId>,
    channels: BTreeMap<ChannelId, Channel>,
    turn: Turn,
    /// It is in the blocked list, now or still.
    listed: bool,
    /// It says good-bye and goes.
    closing: bool,
}

/// All sessions of a node.
pub struct Sessions {
    node: PeerId,
    node_key: Arc<SigningKey>,
    aes: bool,
    rng: Rng,
    owners: BTreeMap<Owner, OwnerKeys>,
    identities: BTreeMap<ServiceId, Arc<SigningKey>>,
    listeners: Listeners,
    dials: BTreeMap<SessionId, Dial>,
    sessions: BTreeMap<SessionId, Session>,
    /// The dial or session of ours for each pair.
    by_target: BTreeMap<(Acting, Owner), SessionId>,
    /// The dial or session of each carrier.
    by_carrier: BTreeMap<CarrierId, SessionId>,
    /// Half-open sessions by the hash of their first message.
    by_first: BTreeMap<[u8; 32], SessionId>,
    /// Responder sessions by the tags that resume them.
    by_tag: BTreeMap<[u8; SHORT_LEN], (SessionId, u64)>,
    /// The dial or session that each connect waits in.
    connects: BTreeMap<ConnectId, SessionId>,
    /// Half-open sessions, oldest first.
    half_open: BTreeSet<SessionId>,
    channels_len: usize,
    timers: Timers<Timer>,
    ready: VecDeque<SessionId>,
    blocked: VecDeque<SessionId>,
    events: VecDeque<Event>,
    work: incoming::WorkBudget,
    counters: Counters,
    next_session: u64,
    next_carrier: u64,
}

impl Sessions {
    /// A table that takes sessions for the node itself; identities are added.
    #[must_use]
    pub fn new(now: Now, config: Config, rng: Rng) -> Self {
        let node = config.node_key.public().peer_id();
        let mut table = Self {
            node,
            node_key: config.node_key,
            aes: config.aes,
            rng,
            owners: BTreeMap::new(),
            identities: BTreeMap::new(),
            listeners: Listeners::default(),
            dials: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_target: BTreeMap::new(),
            by_carrier: BTreeMap::new(),
            by_first: BTreeMap::new(),
            by_tag: BTreeMap::new(),
            connects: BTreeMap::new(),
            half_open: BTreeSet::new(),
            channels_len: 0,
            timers: Timers::default(),
            ready: VecDeque::new(),
            blocked: VecDeque::new(),
            events: VecDeque::new(),
            work: incoming::WorkBudget::new(now.instant),
            counters: Counters::default(),
            next_session: 0,
            next_carrier: 0,
        };
        table.add_owner(now, Owner::Peer(node), config.saved.as_deref().map(Vec::as_slice));
        table
    }

    /// This node.
    #[must_use]
    pub const fn node(&self) -> PeerId {
        self.node
    }

    /// A fresh carrier, also for an incoming circuit that the node is about to hand in.
    pub fn next_carrier(&mut self) -> CarrierId {
        self.next_carrier += 1;
        CarrierId(self.next_carrier)
    }

    /// The next event. Poll after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The earliest deadline. Ask after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether a connect would use a session that is there: nothing needs to be looked up.
    #[must_use]
    pub fn has_session(&self, acting: Acting, owner: Owner) -> bool {
        let session = self.by_target.get(&(acting, owner)).and_then(|id| self.sessions.get(id));
        session.is_some_and(|session| !session.is_doubtful(None))
    }

    /// The descriptor of a session or handshake that a connect would join: what to give [`Self::connect`] without a look-up.
    #[must_use]
    pub fn known_descriptor(&self, acting: Acting, owner: Owner) -> Option<Arc<Descriptor>> {
        let id = self.by_target.get(&(acting, owner))?;
        if let Some(dial) = self.dials.get(id) {
            return Some(Arc::clone(&dial.descriptor));
        }
        match &self.sessions.get(id).filter(|session| !session.is_doubtful(None))?.end {
            End::Initiator(end) => Some(Arc::clone(&end.descriptor)),
            End::Responder(_) => None,
        }
    }

    /// Every session, for people.
    pub fn status(&self) -> impl Iterator<Item = SessionStatus> {
        self.sessions.iter().map(|(id, session)| session.status(*id))
    }

    /// Whether whoever opened this circuit says who it is.
    #[must_use]
    pub fn is_named(&self, carrier: CarrierId) -> bool {
        let session = self.by_carrier.get(&carrier).and_then(|id| self.sessions.get(id));
        let end = session.map(|session| &session.end);
        matches!(end, Some(End::Initiator(end)) if end.acting != Acting::Anonymous)
    }

    /// What was dropped, and what went wrong.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Circuits in use or being built, and channels of every kind: both return to zero when nothing is used.
    #[must_use]
    pub fn in_use(&self) -> (usize, usize) {
        (self.by_carrier.len(), self.channels_len)
    }

    /// A fresh session number.
    fn next_session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session)
    }
}

impl Session {
    /// What an initiator knows, if we are it.
    fn initiator(&mut self) -> Option<&mut InitiatorEnd> {
        match &mut self.end {
            End::Initiator(end) => Some(end),
            End::Responder(_) => None,
        }
    }

    /// What a responder knows, if we are it.
    fn responder(&mut self) -> Option<&mut ResponderEnd> {
        match &mut self.end {
            End::Initiator(_) => None,
            End::Responder(end) => Some(end),
        }
    }

    /// Whether a new channel had better not use it: it closes, or looks for a way to a node that has moved or forgotten it.
    fn is_doubtful(&self, node: Option<PeerId>) -> bool {
        let End::Initiator(end) = &self.end else { return true };
        let moved = node.is_some_and(|node| node != end.descriptor.node);
        self.closing || (self.carriers.is_empty() && (end.rejected > 0 || moved))
    }

    /// How it looks to people.
    fn status(&self, session: SessionId) -> SessionStatus {
        let (acting, initiator) = match &self.end {
            End::Initiator(end) => (end.acting, true),
            End::Responder(end) => (end.caller.identity().map_or(Acting::Anonymous, Acting::Identity), false),
        };
        SessionStatus {
            session,
            owner: self.owner,
            acting,
            initiator,
            channels: self.channels.len(),
            carriers: self.carriers.len(),
            rtt: self.machine.rtt(),
        }
    }
}

#[cfg(test)]
mod tests;
