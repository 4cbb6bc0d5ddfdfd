//! The Tarnet Name System: zones, records and their resolution.
//!
//! [`Zones`] holds what our own identities say, [`Resolver`] walks a [`Name`] through zones of
//! ours and others', [`Publisher`] keeps the public part of our zones in the DHT. What a zone
//! says about a label is one signed block, opened by whoever knows zone and label.
//!
//! The machines ask by `poll_fetch` and `poll_put` and get blocks back; they know neither the
//! DHT nor a clock. Bounds and times: `limits`. Deliberately missing: hidden identities' day
//! records, proof of work beyond counting crowded-out look-ups.

mod cache;
mod exchange;
mod label_block;
pub mod limits;
mod name;
mod publisher;
mod reserved;
mod resolver;
mod walk;
mod zones;

pub use exchange::{Event, Fetch, FetchId, Outcome, ResolverCounters};
pub use label_block::{LabelBlock, Rejected, block_key, create_block, open_block};
pub use name::{APEX, NODE_LABEL, Name, NameError, ZoneLabel};
pub use publisher::{Publisher, Put, PutId};
pub use reserved::{Reserved, reserved_petname};
pub use resolver::Resolver;
pub use walk::{Answer, AnswerRecord, ResolveError, ResolveId, ResolveOptions, TraceStep};
pub use zones::{SetError, ZoneEntry, ZoneSnapshotEntry, Zones};

pub use crate::wire::names::{Record, TimedRecord};

#[cfg(test)]
mod publisher_tests;
#[cfg(test)]
mod tests;
