//! [`MemoryStore`]: every order it needs is an index, so each block costs O(log n).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Entry, Kept, Refused, Store, StoreLimits, StoreOp, Usage};
use crate::crypto::{DhtKey, PeerId};
use crate::defence::{self, Defence};
use crate::dht::contacts::{Distance, distance};
use crate::dht::limits::{BLOCK_OVERHEAD, SIGNERS_PER_KEY, STORE_SHARE};
use crate::time::UnixTime;
use crate::wire::block::{CLOCK_TOLERANCE_S, Kind, Slot, check_life};

/// Where a block stands in the order of eviction: the last goes first. Distance, then the soonest to end.
type Rank = (Distance, Reverse<u64>, Slot);

/// Blocks in memory.
pub struct MemoryStore {
    me: DhtKey,
    limits: StoreLimits,
    entries: BTreeMap<(DhtKey, Slot), Entry>,
    /// Everything but our own, in the order of eviction.
    ranks: BTreeSet<Rank>,
    /// The same, by introducer.
    shares: BTreeSet<(Option<PeerId>, Rank)>,
    /// What each introducer's blocks take.
    used: BTreeMap<Option<PeerId>, Usage>,
    /// Everything, by end.
    ends: BTreeSet<(u64, DhtKey, Slot)>,
    /// Everything but our own.
    others: Usage,
    /// Our own.
    own: Usage,
    /// To be written down. Bounded by what one call changes: the caller drains it after each.
    ops: VecDeque<StoreOp>,
    /// Whether changes are written down.
    journal: bool,
    /// Blocks evicted for others.
    pub evicted: u64,
}

/// What an entry takes.
fn cost(entry: &Entry) -> usize {
    entry.block.encoded_len() + BLOCK_OVERHEAD
}

impl MemoryStore {
    /// An empty store of the node at `me` in the DHT. Changes come out of [`Store::poll_op`] if `journal`.
    #[must_use]
    pub fn new(me: DhtKey, limits: StoreLimits, journal: bool) -> Self {
        Self {
            me,
            limits,
            entries: BTreeMap::new(),
            ranks: BTreeSet::new(),
            shares: BTreeSet::new(),
            used: BTreeMap::new(),
            ends: BTreeSet::new(),
            others: Usage::default(),
            own: Usage::default(),
            ops: VecDeque::new(),
            journal,
            evicted: 0,
        }
    }

    /// Fills a new store with what was written down. What ended meanwhile, or does not fit, is dropped and
    /// comes out as a removal. Signatures are not checked again: the disk is ours.
    pub fn load(&mut self, now: UnixTime, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            let (key, slot) = (entry.block.key, entry.block.slot());
            let journal = std::mem::take(&mut self.journal);
            let put = self.put(now, entry);
            self.journal = journal;
            if put.is_err() {
                self.note(|| StoreOp::Remove { key, slot });
            }
        }
    }

    /// Every entry, in order of its key.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Queues something to write down.
    fn note(&mut self, op: impl FnOnce() -> StoreOp) {
        if self.journal {
            self.ops.push_back(op());
        }
    }

    /// An entry's place in the order of eviction.
    fn rank(&self, entry: &Entry, slot: Slot) -> Rank {
        (distance(&self.me, &entry.block.key), Reverse(entry.until.0), slot)
    }

    /// Enters into every index.
    fn insert(&mut self, slot: Slot, entry: Entry) {
        let (key, bytes) = (entry.block.key, cost(&entry));
        self.ends.insert((entry.until.0, key, slot));
        let usage = if entry.own {
            &mut self.own
        } else {
            let rank = self.rank(&entry, slot);
            self.ranks.insert(rank);
            self.shares.insert((entry.introducer, rank));
            let used = self.used.entry(entry.introducer).or_default();
            (used.blocks, used.bytes) = (used.blocks + 1, used.bytes + bytes);
            &mut self.others
        };
        (usage.blocks, usage.bytes) = (usage.blocks + 1, usage.bytes + bytes);
        self.note(|| StoreOp::Put(Box::new(entry.clone())));
        self.entries.insert((key, slot), entry);
    }

    /// Takes out of every index.
    fn take(&mut self, key: &DhtKey, slot: &Slot) -> Option<Entry> {
        let entry = self.entries.remove(&(*key, *slot))?;
        let bytes = cost(&entry);
        self.ends.remove(&(entry.until.0, *key, *slot));
        let usage = if entry.own {
            &mut self.own
        } else {
            let rank = self.rank(&entry, *slot);
            self.ranks.remove(&rank);
            self.shares.remove(&(entry.introducer, rank));
            if let Some(used) = self.used.get_mut(&entry.introducer) {
                (used.blocks, used.bytes) = (used.blocks - 1, used.bytes - bytes);
                if used.blocks == 0 {
                    self.used.remove(&entry.introducer);
                }
            }
            &mut self.others
        };
        (usage.blocks, usage.bytes) = (usage.blocks - 1, usage.bytes - bytes);
        Some(entry)
    }

    /// Takes out and writes that down.
    fn discard(&mut self, key: &DhtKey, slot: &Slot) -> Option<Entry> {
        let entry = self.take(key, slot)?;
        self.note(|| StoreOp::Remove { key: *key, slot: *slot });
        Some(entry)
    }

    /// The signer that a crowded key gives up for one with `work` bits; `None` when there is room.
    fn crowded_out(&self, key: &DhtKey, work: u32) -> Result<Option<Slot>, Refused> {
        let under = self.entries.range((*key, Slot([0; 32]))..=(*key, Slot([0xff; 32])));
        let others: Vec<_> = under.filter(|(_, entry)| !entry.own).collect();
        if others.len() < SIGNERS_PER_KEY {
            return Ok(None);
        }
        let keeps = defence::on(Defence::WorkKeepsPlace);
        let bits = |entry: &Entry| if keeps { entry.block.work_bits() } else { 0 };
        let weakest = others.iter().map(|((_, slot), entry)| (bits(entry), entry.until.0, *slot)).min();
        match weakest {
            Some((bits, _, slot)) if !keeps || bits < work && defence::on(Defence::WorkTakesPlace) => Ok(Some(slot)),
            _ => Err(Refused::Crowded),
        }
    }

    /// Whether a usage is above a bound of `1 / parts` of the store.
    fn above(&self, usage: Usage, parts: usize) -> bool {
        usage.blocks > self.limits.blocks / parts || usage.bytes > self.limits.bytes / parts
    }

    /// Evicts until the share of `introducer` and the whole are within their bounds; `false` when that
    /// took out (`key`, `slot`) itself.
    fn make_room(&mut self, introducer: Option<PeerId>, key: &DhtKey, slot: &Slot) -> bool {
        loop {
            let used = self.used.get(&introducer).copied().unwrap_or_default();
            let victim = if introducer.is_some() && self.above(used, STORE_SHARE) && defence::on(Defence::StoreShare) {
                let top = (introducer, ([0xff; 64], Reverse(0), Slot([0xff; 32])));
                self.shares.range(..=top).next_back().map(|(_, rank)| *rank)
            } else if self.above(self.others, 1) {
                self.ranks.last().copied()
            } else {
                return self.entries.contains_key(&(*key, *slot));
            };
            let Some((far, _, victim)) = victim else { return true };
            let at = DhtKey(distance(&self.me, &DhtKey(far)));
            self.evicted += 1;
            self.discard(&at, &victim);
        }
    }

    /// Puts over what the slot holds, if the rules allow.
    fn replace(&mut self, old: &Entry, slot: Slot, mut entry: Entry) -> Result<Kept, Refused> {
        let key = entry.block.key;
        let newer = match entry.block.kind {
            Kind::Content => false,
            Kind::Signed | Kind::Hello | Kind::Name if entry.block.sequence < old.block.sequence => {
                return Err(Refused::Older);
            }
            Kind::Signed | Kind::Hello | Kind::Name => entry.block.sequence > old.block.sequence,
        };
        let stronger = entry.block.kind == Kind::Content && entry.block.work_bits() > old.block.work_bits();
        if !newer && !stronger {
            entry.block = old.block.clone();
        }
        let own = entry.own && (old.own || self.own.blocks < self.limits.own);
        if entry.block.kind == Kind::Content {
            entry.until = entry.until.max(old.until);
        }
        entry.own = own || old.own;
        entry.introducer = if newer { entry.introducer } else { old.introducer };
        if entry == *old {
            return Ok(Kept::Same);
        }
        let introducer = entry.introducer;
        self.take(&key, &slot);
        self.insert(slot, entry);
        let kept = self.make_room(introducer, &key, &slot);
        match (kept, newer) {
            (false, _) => Err(Refused::Full),
            (true, true) => Ok(Kept::Newer),
            (true, false) => Ok(Kept::Same),
        }
    }
}

impl Store for MemoryStore {
    fn put(&mut self, now: UnixTime, mut entry: Entry) -> Result<Kept, Refused> {
        check_life(entry.until, now)?;
        let (key, slot) = (entry.block.key, entry.block.slot());
        if let Some(old) = self.entries.get(&(key, slot)).cloned() {
            return self.replace(&old, slot, entry);
        }
        entry.own &= self.own.blocks < self.limits.own;
        if !entry.own
            && let Some(weak) = self.crowded_out(&key, entry.block.work_bits())?
        {
            self.discard(&key, &weak);
        }
        let introducer = entry.introducer;
        self.insert(slot, entry);
        if self.make_room(introducer, &key, &slot) { Ok(Kept::New) } else { Err(Refused::Full) }
    }

    fn entries(&self, now: UnixTime, key: &DhtKey) -> Vec<Entry> {
        let under = self.entries.range((*key, Slot([0; 32]))..=(*key, Slot([0xff; 32])));
        under.map(|(_, entry)| entry).filter(|entry| check_life(entry.until, now).is_ok()).cloned().collect()
    }

    fn entry(&self, key: &DhtKey, slot: &Slot) -> Option<&Entry> {
        self.entries.get(&(*key, *slot))
    }

    fn next_key(&self, after: Option<&DhtKey>) -> Option<DhtKey> {
        let from = after.map_or(std::ops::Bound::Unbounded, |key| std::ops::Bound::Excluded((*key, Slot([0xff; 32]))));
        self.entries.range((from, std::ops::Bound::Unbounded)).next().map(|((key, _), _)| *key)
    }

    fn disown(&mut self, key: &DhtKey, slot: &Slot) {
        if let Some(mut entry) = self.take(key, slot) {
            entry.own = false;
            self.insert(*slot, entry);
            self.make_room(None, key, slot);
        }
    }

    fn expire(&mut self, now: UnixTime, most: usize) -> usize {
        let mut dropped = 0;
        while dropped < most {
            let Some((until, key, slot)) = self.ends.first().copied() else { break };
            if until.saturating_add(CLOCK_TOLERANCE_S) > now.0 {
                break;
            }
            self.discard(&key, &slot);
            dropped += 1;
        }
        dropped
    }

    fn next_expiry(&self) -> Option<UnixTime> {
        self.ends.first().map(|(until, _, _)| UnixTime(until.saturating_add(CLOCK_TOLERANCE_S)))
    }

    fn poll_op(&mut self) -> Option<StoreOp> {
        self.ops.pop_front()
    }

    fn usage(&self) -> Usage {
        Usage { blocks: self.entries.len(), bytes: self.own.bytes + self.others.bytes }
    }
}
