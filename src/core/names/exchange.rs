//! What the resolver asks, is told, and tells.

use bytes::Bytes;

use super::{Answer, ResolveError, ResolveId, TraceStep};
use crate::crypto::DhtKey;

/// A query of the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Asks for the blocks under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// Repeated with each block and at the end.
    pub fetch: FetchId,
    /// The key.
    pub key: DhtKey,
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Blocks came.
    Found,
    /// There is none.
    Absent,
    /// Nobody knows.
    TimedOut,
}

/// What the resolver found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What a name means.
    Resolved {
        /// Whose question.
        id: ResolveId,
        /// The answer.
        result: Result<Answer, ResolveError>,
        /// How it was found.
        trace: Vec<TraceStep>,
    },
    /// Where an identity is served.
    Node {
        /// Whose question.
        id: ResolveId,
        /// The encoded session descriptor.
        result: Result<Bytes, ResolveError>,
    },
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResolverCounters {
    /// Queries asked.
    pub fetches: u64,
    /// Steps answered from the cache.
    pub cached: u64,
    /// Blocks that the zone's identity did not sign.
    pub forged: u64,
    /// Blocks older than one seen before.
    pub rolled_back: u64,
    /// Queries that brought blocks but no good one: somebody crowds the label.
    pub crowded: u64,
    /// Resolutions and look-ups refused, and blocks dropped, because a bound was reached.
    pub over_limit: u64,
}
