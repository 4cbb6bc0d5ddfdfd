//! The paths of one node: what is asked from above, and cells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use super::attempt::{Attempt, Seen};
use super::legs::{Leg, Legs, Switch};
use super::limits::{
    BUDGET_MAX, BUDGET_MIN, BUDGET_PER_DISTANCE, HOP_OFFSET_MAX, HOPS_MAX, IDLE_TIME, Limits, OPEN_TIME,
    OPEN_TIME_PER_DISTANCE, SETUP_TIME_MAX,
};
use super::trails::Trails;
use super::{CellAction, Counters, Event, Hops, NextHops, PathId, Reason, Way, Whereabouts, Wish};
use crate::crypto::{Context, PeerId, derive, path_tag};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timers};
use crate::wire::kind;
use crate::wire::path::{Avoid, BLOB_LEN_MAX, CELL_HEAD_LEN, Failed, Opened, SetupId, cell_head, split_cell};

/// One end of a circuit at this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Us.
    Local,
    /// A neighbour.
    Link(Leg),
}

impl End {
    /// The leg, if it is on a link.
    pub const fn leg(self) -> Option<Leg> {
        match self {
            Self::Local => None,
            Self::Link(leg) => Some(leg),
        }
    }
}

/// Where a circuit stands.
#[derive(Debug)]
pub(super) enum State {
    /// Branches are being tried.
    Opening(Box<Attempt>),
    /// The session layer thinks.
    Offered {
        /// What the revealed value must hash to.
        proof_hash: [u8; 32],
        /// The set-up.
        id: SetupId,
    },
    /// Cells flow.
    Open,
}

/// A path as seen from one of its hops.
#[derive(Debug)]
pub(super) struct Circuit {
    /// Toward the opener.
    pub up: End,
    /// Toward the destination; none while branches are being tried.
    pub down: Option<End>,
    /// Where it stands.
    pub state: State,
    /// The set-up that made it.
    pub setup: SetupId,
    /// For an opener: what the far end adds to the hop count.
    pub hop_offset: u16,
}

impl Circuit {
    /// Its end toward the opener, and that toward the destination or those of the branches that are being tried.
    pub fn ends(&self) -> impl Iterator<Item = End> {
        let running = match &self.state {
            State::Opening(attempt) => &attempt.running[..],
            State::Offered { .. } | State::Open => &[],
        };
        let running = running.iter().map(|running| End::Link(running.leg));
        std::iter::once(self.up).chain(self.down).chain(running)
    }
}

/// The paths of one node.
pub struct Paths {
    pub(super) me: PeerId,
    pub(super) rng: Rng,
    pub(super) limits: Limits,
    pub(super) circuits: BTreeMap<u64, Circuit>,
    pub(super) next_circuit: u64,
    pub(super) own: BTreeSet<u64>,
    pub(super) half_open: usize,
    pub(super) legs: Legs,
    pub(super) seen: Seen,
    pub(super) trails: Trails,
    pub(super) timers: Timers<u64>,
    pub(super) transmits: VecDeque<(PeerId, u8, Bytes)>,
    pub(super) events: VecDeque<Event>,
    pub(super) counters: Counters,
}

impl Paths {
    /// No paths yet.
    #[must_use]
    pub fn new(me: PeerId, rng: Rng, limits: Limits) -> Self {
        Self {
            me,
            rng,
            limits,
            circuits: BTreeMap::new(),
            next_circuit: 0,
            own: BTreeSet::new(),
            half_open: 0,
            legs: Legs::default(),
            seen: Seen::default(),
            trails: Trails::default(),
            timers: Timers::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Opens a path; [`Event::Opened`] or [`Event::Failed`] follows. A blob that is too long fails with
    /// [`Reason::Protocol`].
    pub fn open(&mut self, now: Now, wish: Wish, whereabouts: Whereabouts, hops: &dyn NextHops) -> PathId {
        let circuit = self.fresh_circuit();
        let Wish { id, dest, blob, proof_hash, avoid } = wish;
        let Whereabouts { way, distance } = whereabouts;
        let tag = path_tag(&id.0, &dest);
        let alternatives = self.first_hops(&id, &tag, &way, &avoid, hops);
        let refusal = if self.own.len() >= self.limits.own_max {
            Some(Reason::Limit)
        } else if blob.len() > BLOB_LEN_MAX {
            Some(Reason::Protocol)
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.events.push_back(Event::Failed { path: PathId(circuit), reason });
            return PathId(circuit);
        }
        self.seen.insert(now.instant, id);
        let offset = u16::try_from(self.rng.public_below(HOP_OFFSET_MAX)).unwrap_or(0);
        let attempt = Attempt {
            id,
            tag,
            proof_hash,
            way,
            blob,
            avoid,
            hop_limit: HOPS_MAX - offset,
            budget: BUDGET_MIN.saturating_add(BUDGET_PER_DISTANCE.saturating_mul(distance)).min(BUDGET_MAX),
            started: now.instant,
            deadline: now.instant + (OPEN_TIME + OPEN_TIME_PER_DISTANCE * u32::from(distance)).min(SETUP_TIME_MAX),
            alternatives,
            running: smallvec::SmallVec::new(),
            hedge_at: now.instant,
            last: Reason::Unreachable,
        };
        let state = State::Opening(Box::new(attempt));
        let hop_offset = hop_offset(&id, &dest);
        self.circuits.insert(circuit, Circuit { up: End::Local, down: None, state, setup: id, hop_offset });
        self.own.insert(circuit);
        self.try_next(now.instant, circuit);
        PathId(circuit)
    }

    /// Where a set-up of ours may go first: as routing says, and where it keeps away from ways, over any neighbour.
    fn first_hops(
        &self,
        id: &SetupId,
        tag: &[u8; 16],
        way: &Way,
        avoid: &Avoid,
        hops: &dyn NextHops,
    ) -> smallvec::SmallVec<[PeerId; 4]> {
        let Hops::Via(mut via) = hops.toward(&id.0, tag, way) else { return smallvec::SmallVec::new() };
        if !avoid.setups.is_empty() {
            let others = hops.others(&id.0);
            via.extend(others.into_iter().filter(|other| !via.contains(other)).collect::<Vec<_>>());
        }
        self.trails.order(avoid, &mut via);
        via
    }

    /// Takes an offered path. `reveal` proves that we are its destination; if it is not what the opener asked for,
    /// the path is refused. Nothing happens for a path that is gone.
    pub fn accept(&mut self, now: Now, path: PathId, blob: Bytes, reveal: [u8; 32]) {
        let Some(circuit) = self.circuits.get_mut(&path.0) else { return };
        let State::Offered { proof_hash, id } = &circuit.state else { return };
        if crate::crypto::hash(&reveal) != *proof_hash || blob.len() > BLOB_LEN_MAX {
            return self.reject(now, path, Reason::Refused);
        }
        let hops = hop_offset(id, &self.me).saturating_add(1);
        circuit.state = State::Open;
        let Some(leg) = circuit.up.leg() else { return };
        if let Some(entry) = self.legs.entry_mut(&leg) {
            entry.switch = Switch::Local;
            entry.used = now.instant;
        }
        self.timers.set(path.0, now.instant + IDLE_TIME);
        let message = Opened { label: leg.label, reveal, hops, parted: false, blob };
        self.transmits.push_back((leg.peer, kind::PATH_OPENED, message.encode()));
    }

    /// Refuses an offered path. Nothing happens for any other.
    pub fn reject(&mut self, now: Now, path: PathId, reason: Reason) {
        let Some(Circuit { state: State::Offered { .. }, up: End::Link(leg), .. }) = self.circuits.get(&path.0) else {
            return;
        };
        let message = Failed { label: leg.label, reason, budget: BUDGET_MAX };
        self.transmits.push_back((leg.peer, kind::PATH_FAILED, message.encode()));
        self.remove(now.instant, path.0);
    }

    /// Closes a path of ours, whatever its state; no event follows.
    pub fn close(&mut self, now: Now, path: PathId, reason: Reason) {
        if self.own.contains(&path.0) {
            self.tear_down(now.instant, path.0, reason, None);
            self.events.retain(|event| event_path(event) != Some(path));
        }
    }

    /// What to do with a cell: one look-up, nothing allocated, nothing queued.
    pub fn handle_cell(&mut self, now: Now, from: PeerId, cell: impl Into<BytesMut>) -> CellAction {
        let Some((label, marked, body)) = split_cell(cell.into()) else {
            self.counters.cells_dropped += 1;
            return CellAction::Drop;
        };
        let Some(entry) = self.legs.entry_mut(&Leg::new(from, label)) else {
            self.counters.cells_dropped += 1;
            return CellAction::Drop;
        };
        match entry.switch {
            Switch::Relay { to, flow } => {
                entry.used = now.instant;
                self.counters.cells_forwarded += 1;
                CellAction::Forward { to: to.peer, flow, head: cell_head(to.label, marked), body }
            }
            Switch::Local => {
                entry.used = now.instant;
                self.counters.cells_delivered += 1;
                CellAction::Deliver { path: PathId(entry.circuit), body, marked }
            }
            Switch::Shut => {
                self.counters.cells_dropped += 1;
                CellAction::Drop
            }
        }
    }

    /// Where a cell of ours goes: the neighbour, the flow for its link's scheduler, and the bytes in front of the body.
    /// `None` when the path is not up.
    #[must_use]
    pub fn cell_head(&self, path: PathId) -> Option<(PeerId, u64, [u8; CELL_HEAD_LEN])> {
        let circuit = self.circuits.get(&path.0)?;
        if !matches!(circuit.state, State::Open) {
            return None;
        }
        let (leg, flow) = match (circuit.up, circuit.down?) {
            (End::Local, End::Link(leg)) => (leg, flow_down(path.0)),
            (End::Link(leg), End::Local) => (leg, flow_up(path.0)),
            (End::Local, End::Local) | (End::Link(_), End::Link(_)) => return None,
        };
        Some((leg.peer, flow, cell_head(leg.label, false)))
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next control message: neighbour, kind, body. One input makes at most five per circuit that it touches.
    pub fn poll_transmit(&mut self) -> Option<(PeerId, u8, Bytes)> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Paths that begin or end here.
    #[must_use]
    pub fn own_count(&self) -> usize {
        self.own.len()
    }

    /// Paths that pass through.
    #[must_use]
    pub fn transit_count(&self) -> usize {
        self.circuits.len() - self.own.len()
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A number for a new circuit.
    pub(super) fn fresh_circuit(&mut self) -> u64 {
        self.next_circuit += 1;
        self.next_circuit
    }
}

/// The path of an event, if it is about one.
const fn event_path(event: &Event) -> Option<PathId> {
    match event {
        Event::Evidence { .. } => None,
        Event::Incoming { path, .. }
        | Event::Opened { path, .. }
        | Event::Failed { path, .. }
        | Event::Closed { path, .. } => Some(*path),
    }
}

/// The flow of a circuit's cells toward its destination.
pub(super) const fn flow_down(circuit: u64) -> u64 {
    circuit << 1
}

/// The flow of a circuit's cells toward its opener.
pub(super) const fn flow_up(circuit: u64) -> u64 {
    circuit << 1 | 1
}

/// What a destination adds to the hop count of its answer. Derived from set-up and destination: the opener knows it
/// too, a hop on the way that does not know the destination cannot tell how far it is.
fn hop_offset(id: &SetupId, dest: &PeerId) -> u16 {
    let digest = derive(Context::PathOffset, &[&id.0, &dest.0]);
    u16::from(digest[0]) % u16::try_from(HOP_OFFSET_MAX).unwrap_or(1)
}
