//! Where blocks are kept. [`Store`] is what the machine needs; [`MemoryStore`] keeps them in
//! memory, bounded, and says what to write down, so that a disk can follow behind and fill a new one at start.
//!
//! Rules: of one signer the highest sequence; at most 8 signers per key, ranked by proof of work; an
//! eighth of the room per introducing neighbour; when it is full, the farthest from us goes, then what expires soonest,
//! never simply the oldest. Our own blocks are exempt and have a bound of their own.

use super::limits::{OWN_BLOCKS, STORE_BLOCKS, STORE_BYTES};
use crate::crypto::{DhtKey, PeerId};
use crate::time::UnixTime;
use crate::wire::block::{Block, Invalid, Kind, LIFE_S_MAX, Slot};

mod memory;

pub use memory::MemoryStore;

/// A stored block and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The block; its signature was checked before it came here.
    pub block: Block,
    /// When it ends: its expiry, or a content block's lease.
    pub until: UnixTime,
    /// The neighbour that it came through; none for our own.
    pub introducer: Option<PeerId>,
    /// Published by us: exempt from shares and eviction, and refreshed.
    pub own: bool,
}

impl Entry {
    /// An entry for a block; a lease counts for content only, and is cut to 30 days.
    #[must_use]
    pub fn new(block: Block, lease: UnixTime, now: UnixTime, introducer: Option<PeerId>) -> Self {
        let until = match block.kind {
            Kind::Content => UnixTime(lease.0.min(now.0.saturating_add(LIFE_S_MAX))),
            Kind::Signed | Kind::Hello | Kind::Name => block.expiry,
        };
        Self { block, until, own: introducer.is_none(), introducer }
    }
}

/// What a store did with a block that it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is new under its key.
    New,
    /// It replaced an older one of its signer.
    Newer,
    /// It was there already.
    Same,
}

/// Why a store did not take a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The block is not valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A higher sequence of its signer is stored.
    #[error("a newer block of its signer is stored")]
    Older,
    /// The key has its signers, and none with less work.
    #[error("its key is crowded by signers with more work")]
    Crowded,
    /// There is no room for it, or its introducer has used its share.
    #[error("no room for it")]
    Full,
}

/// What to write down so that a store can be filled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOp {
    /// Write, over what the slot held.
    Put(Box<Entry>),
    /// Delete.
    Remove {
        /// The block's key.
        key: DhtKey,
        /// Which of the blocks under it.
        slot: Slot,
    },
}

/// A bounded place for blocks.
pub trait Store {
    /// Keeps a block whose signature holds.
    ///
    /// # Errors
    /// Why it was not kept.
    fn put(&mut self, now: UnixTime, entry: Entry) -> Result<Kept, Refused>;
    /// The blocks under a key that have not ended.
    fn entries(&self, now: UnixTime, key: &DhtKey) -> Vec<Entry>;
    /// One block.
    fn entry(&self, key: &DhtKey, slot: &Slot) -> Option<Entry>;
    /// The lowest stored key above `after`.
    fn next_key(&self, after: Option<&DhtKey>) -> Option<DhtKey>;
    /// Ends the exemption of an own block.
    fn disown(&mut self, key: &DhtKey, slot: &Slot);
    /// Drops up to `most` blocks that ended; returns how many.
    fn expire(&mut self, now: UnixTime, most: usize) -> usize;
    /// When the next block ends, if there is one.
    fn next_expiry(&self) -> Option<UnixTime>;
    /// The next thing to write down.
    fn poll_op(&mut self) -> Option<StoreOp>;
    /// Blocks and bytes held.
    fn usage(&self) -> Usage;
}

/// Blocks and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Number of blocks.
    pub blocks: usize,
    /// Bytes, bookkeeping included.
    pub bytes: usize,
}

/// The bounds of a [`MemoryStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Blocks in all, our own apart.
    pub blocks: usize,
    /// Bytes in all, our own apart.
    pub bytes: usize,
    /// Blocks of our own.
    pub own: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { blocks: STORE_BLOCKS, bytes: STORE_BYTES, own: OWN_BLOCKS }
    }
}

#[cfg(test)]
mod tests;
