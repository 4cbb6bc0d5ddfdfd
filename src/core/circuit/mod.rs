//! Label-switched paths: a [`Paths`] machine per node opens its own, ends others', and
//! carries those that pass through.
//!
//! A circuit is *opening* (branches are being tried, others wait), *offered* (it ends here, the
//! session layer thinks), or *open*. A branch that fails, or answers without the destination's
//! proof, is given up and the next alternative tried; one that stays silent gets the next for
//! company, and whoever opens first carries the path. All of it happens within the time, messages
//! and hops that the set-up carries; then the previous hop is told, and does the same.
//!
//! Timers: 4 s and more for a set-up of ours, half a second and more until a branch gets company,
//! 10 s for an end to think, 10 min idle, 60 s until a label or a set-up id may be seen again.
//! Bounds: `limits`. Deliberately missing: where to go
//! ([`NextHops`] is given), what blobs mean, queues (cells are answered with what to do), onion hops.

mod attempt;
mod legs;
mod limits;
mod paths;
mod setup;
mod trails;

pub use limits::Limits;
pub use paths::Paths;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::crypto::PeerId;
use crate::wire::path::CELL_HEAD_LEN;
pub use crate::wire::path::{Avoid, Reason, SetupId};
pub use crate::wire::way::Way;

/// A path that begins or ends at this node. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u64);

/// Where a destination is, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whereabouts {
    /// For hops that have it in no table.
    pub way: Way,
    /// How far it is, in routing's units: a longer way gets more time and messages.
    pub distance: u16,
}

/// Where a set-up goes from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hops {
    /// This node is the destination.
    Here,
    /// Over one of these neighbours, best first; empty: nowhere.
    Via(SmallVec<[PeerId; 4]>),
}

/// What an opener asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The set-up: fresh and random.
    pub id: SetupId,
    /// The destination.
    pub dest: PeerId,
    /// What travels there, at most 4 KiB.
    pub blob: Bytes,
    /// Hash of what only the destination can reveal.
    pub proof_hash: [u8; 32],
    /// Other set-ups of ours whose ways it keeps away from.
    pub avoid: Avoid,
}

/// Knows next hops: the node asks its routing table.
pub trait NextHops {
    /// Where a set-up with this id and destination tag goes (see [`crate::crypto::path_tag`]), by its way if need be.
    fn toward(&self, id: &[u8; 16], tag: &[u8; 16], way: &Way) -> Hops;

    /// Neighbours that may know a way although routing says nothing of it: what an opener tries that keeps away
    /// from the ways that routing knows.
    fn others(&self, id: &[u8; 16]) -> SmallVec<[PeerId; 4]>;
}

/// What happened to a path of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody opens a path to us; answer with `accept` or `reject` within 10 s.
    Incoming {
        /// The path.
        path: PathId,
        /// The neighbour that it comes through; not who opens it.
        from: PeerId,
        /// The opener's first message.
        blob: Bytes,
    },
    /// Our path is up.
    Opened {
        /// The path.
        path: PathId,
        /// The destination's answer.
        blob: Bytes,
        /// Its length, links; informative, the hops on the way could lie.
        hops: u16,
        /// It left the ways to keep away from somewhere; informative, too.
        parted: bool,
        /// From asking to the answer.
        rtt: std::time::Duration,
    },
    /// Our path could not be set up.
    Failed {
        /// The path.
        path: PathId,
        /// What the last branch said.
        reason: Reason,
    },
    /// A neighbour brought the proof of a set-up's destination, or did not answer a set-up although it could at least
    /// have said that it leads nowhere.
    Evidence {
        /// The neighbour.
        peer: PeerId,
        /// Which of the two.
        ok: bool,
    },
    /// A path that was up, or offered to us, is no more; not told for paths that we closed.
    Closed {
        /// The path.
        path: PathId,
        /// Why.
        reason: Reason,
    },
}

/// What to do with a cell that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellAction {
    /// Send it on.
    Forward {
        /// The next neighbour.
        to: PeerId,
        /// For the link's scheduler: the same for all cells of this path and direction.
        flow: u64,
        /// The bytes in front of the body; the scheduler may set bit 0 of the last (congestion).
        head: [u8; CELL_HEAD_LEN],
        /// The body as it came.
        body: BytesMut,
    },
    /// It is for us.
    Deliver {
        /// Its path.
        path: PathId,
        /// What the far end sent.
        body: BytesMut,
        /// It met congestion on its way.
        marked: bool,
    },
    /// Nobody's: an unknown label, a path that is not up, or not a cell.
    Drop,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Cells sent on.
    pub cells_forwarded: u64,
    /// Cells for us.
    pub cells_delivered: u64,
    /// Cells that were nobody's.
    pub cells_dropped: u64,
    /// Set-ups that arrived.
    pub setups: u64,
    /// Set-ups refused because their neighbour had reached a bound of its own.
    pub setups_over_limit: u64,
    /// Set-ups refused because a bound for all was reached.
    pub setups_crowded: u64,
    /// Set-ups refused because their id was here before.
    pub setups_seen: u64,
    /// Branches given up for the next alternative.
    pub cranked_back: u64,
    /// Answers whose proof did not hold.
    pub forged: u64,
    /// Messages about paths that the sender has no part in.
    pub strays: u64,
}

#[cfg(test)]
#[path = "../attacks/path.rs"]
mod attacks;
#[cfg(test)]
mod detours;
#[cfg(test)]
mod test_net;
#[cfg(test)]
mod tests;
