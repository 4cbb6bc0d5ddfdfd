//! The words between the routing machine and the node.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::acquaintance::Acquaintance;
use super::limits::{LINK_COST_MAX, LINK_COST_UNIT, ROUTES_MAX};
use super::origin::EpochState;
use crate::crypto::PeerId;
use crate::time::micros;
use crate::wire;

/// Cost of a link, 1 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkCost(u8);

impl LinkCost {
    /// The cheapest link.
    pub const MIN: Self = Self(1);

    /// The cost of a round-trip time: 1, and 1 more for every [`LINK_COST_UNIT`].
    #[must_use]
    pub fn from_rtt(rtt: Duration) -> Self {
        let units = micros(rtt) / micros(LINK_COST_UNIT);
        Self(u8::try_from(units).unwrap_or(LINK_COST_MAX).saturating_add(1).min(LINK_COST_MAX))
    }

    /// The cost as a number, brought into its range.
    #[must_use]
    pub fn new(cost: u8) -> Self {
        Self(cost.clamp(1, LINK_COST_MAX))
    }

    /// The number.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        self.0
    }
}

/// Distance of a destination: the sum of link costs, below 4,096 for a live route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(pub u16);

/// Next hops toward one destination, best first.
pub type NextHops = SmallVec<[(PeerId, Cost); ROUTES_MAX]>;

/// Where a path tag leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hops {
    /// To this node.
    Here,
    /// Over these neighbours, best first; empty when nobody here knows.
    Via(NextHops),
}

/// One line of the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteStatus {
    /// The destination.
    pub peer_id: PeerId,
    /// The neighbour that leads there.
    pub next_hop: PeerId,
    /// The distance.
    pub cost: Cost,
    /// Other neighbours that lead there.
    pub alternates: NextHops,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// Every neighbour.
    All,
    /// One neighbour.
    One(PeerId),
}

/// A look-up by the node; the answer repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// A routed datagram that we sent; its answers repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Where the answer to a datagram goes. Serves 30 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReturnToken {
    /// The neighbour that brought the datagram.
    pub(super) neighbour: PeerId,
    /// Its token.
    pub(super) token: [u8; 8],
}

/// What the node learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A destination became reachable.
    RouteUp {
        /// Which.
        dest: PeerId,
    },
    /// A destination is not reachable any more.
    RouteDown {
        /// Which.
        dest: PeerId,
    },
    /// A look-up succeeded: there are next hops now.
    Found {
        /// The look-up.
        lookup: LookupId,
        /// The destination.
        dest: PeerId,
    },
    /// A look-up failed.
    NotFound {
        /// The look-up.
        lookup: LookupId,
        /// The destination.
        dest: PeerId,
    },
    /// A node's place was found at a landmark: there are next hops now.
    Located {
        /// The look-up.
        lookup: LookupId,
        /// The node.
        dest: PeerId,
        /// What the node says to whoever looks for it.
        blob: Bytes,
    },
    /// A node's place was not found at any landmark.
    NotLocated {
        /// The look-up.
        lookup: LookupId,
        /// The node.
        dest: PeerId,
    },
    /// Nodes near a place in the DHT, each with next hops now.
    Listed {
        /// Who.
        peers: Vec<PeerId>,
    },
    /// A datagram for this node.
    Datagram {
        /// What it carries.
        payload: Bytes,
        /// Who brought it; not who sent it.
        neighbour: PeerId,
        /// Where an answer goes, if one is wanted.
        reply: Option<ReturnToken>,
    },
    /// An answer to a datagram of ours.
    Answer {
        /// The datagram.
        request: RequestId,
        /// What it carries.
        payload: Bytes,
    },
    /// State that must be on disk before the node goes on.
    Persist(EpochState),
    /// For how long others were landmarks that we kept; to be persisted, and given back at the next start.
    Acquaintances(Vec<Acquaintance>),
}

/// Why a neighbour's message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Its bytes are no message.
    #[error("malformed: {0}")]
    Malformed(wire::Error),
    /// A batch is not signed by the neighbour.
    #[error("an advert's signature does not hold")]
    BadSignature,
    /// A batch was sent before.
    #[error("an advert was repeated")]
    Repeated,
    /// It comes from nobody we have a link with.
    #[error("not a neighbour")]
    NotNeighbour,
    /// Its kind is not one of routing's.
    #[error("message kind {0:#04x} is not a routing message")]
    Kind(u8),
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No next hop is known: look the destination up.
    #[error("no route to the destination")]
    NoRoute,
    /// The destination is this node.
    #[error("the destination is this node")]
    Ourselves,
    /// The payload is over 20 KiB.
    #[error("the payload is too long")]
    TooLong,
}

/// What was dropped, refused or sent. Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Adverts sent.
    pub adverts_sent: u64,
    /// Items that were not for their chain to prove.
    pub items_unproven: u64,
    /// Items put off because a neighbour's verification budget was used up.
    pub items_over_budget: u64,
    /// Items of an epoch older than known.
    pub items_stale: u64,
    /// Destinations that did not fit the table.
    pub refused: u64,
    /// Destinations that had to go for a nearer one, or for a neighbour's share.
    pub evicted: u64,
    /// Tombstones that went before their time.
    pub tombstones_dropped: u64,
    /// Adverts dropped because their sender's key was not known yet.
    pub adverts_keyless: u64,
    /// Requests dropped because the neighbour asked too often.
    pub requests_over_budget: u64,
    /// Digests that did not match.
    pub drifts: u64,
    /// Answers to probes that nobody asked for.
    pub found_unsolicited: u64,
    /// Answers to datagrams that nobody asked for.
    pub answers_unsolicited: u64,
    /// Datagrams dropped: no next hop, or too many hops.
    pub datagrams_dropped: u64,
    /// Requests to our directory dropped because too many came over one neighbour.
    pub places_over_budget: u64,
    /// Tokens or probes forgotten before their time.
    pub leases_dropped: u64,
    /// Messages dropped because too many wait for the links.
    pub out_dropped: u64,
}

impl Counters {
    /// Messages that served nobody, by their neighbour's own doing: more than it may ask, or what nobody asked it. What
    /// it passes on for others is not among them.
    #[must_use]
    pub fn futile(&self) -> u64 {
        self.requests_over_budget + self.items_over_budget + self.found_unsolicited + self.answers_unsolicited
    }
}
