//! [`MemoryStore`]: every order it needs is an index, so each block costs O(log n). A full store holds 65,536 blocks, so
//! it keeps them encoded, and its indices hold numbers in place of keys.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::{Entry, Kept, Refused, Store, StoreLimits, StoreOp, Usage};
use crate::crypto::{DhtKey, PeerId};
use crate::defence::{self, Defence};
use crate::dht::limits::{BLOCK_OVERHEAD, SIGNERS_PER_KEY, STORE_SHARE};
use crate::time::UnixTime;
use crate::wire::block::{Block, CLOCK_TOLERANCE_S, Kind, Slot, check_life};

/// Where a block lies in [`MemoryStore::held`].
type Place = u32;
/// Where a block stands in the order of eviction: the last goes first. The first 64 bits of its distance, then the
/// soonest to end. Blocks that agree in both are under one key, or were made to: among them any order is as good.
type Rank = (u64, Reverse<u64>, Place);
/// The first and the last in that order.
const RANK_MIN: Rank = (0, Reverse(u64::MAX), 0);
const RANK_MAX: Rank = (u64::MAX, Reverse(0), Place::MAX);

/// A stored block.
struct Held {
    /// The block, encoded.
    bytes: Box<[u8]>,
    /// The end, seconds.
    until: u64,
    /// Whose share it is, by number; none for our own and those that were.
    introducer: Option<u32>,
    /// Bits of its proof of work.
    bits: u32,
    /// Ours.
    own: bool,
}

/// The introducers, by number, so that a block holds four bytes of theirs.
#[derive(Default)]
struct Introducers {
    numbers: BTreeMap<PeerId, u32>,
    /// Who has which number, and what their blocks take.
    all: Vec<(PeerId, Usage)>,
    /// Numbers of nobody.
    free: Vec<u32>,
}

/// Blocks in memory.
pub struct MemoryStore {
    me: DhtKey,
    limits: StoreLimits,
    held: Vec<Option<Held>>,
    /// Places of nothing.
    free: Vec<Place>,
    /// By key, all of it: signers choose their keys, and whoever makes many that begin alike must not slow anybody down.
    keys: BTreeSet<(DhtKey, Place)>,
    /// Everything but our own, in the order of eviction.
    ranks: BTreeSet<Rank>,
    /// The same, by introducer.
    shares: BTreeSet<(u32, Rank)>,
    introducers: Introducers,
    /// Everything, by end.
    ends: BTreeSet<(u64, Place)>,
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

/// The first 64 bits of a key.
fn prefix(key: &DhtKey) -> u64 {
    key.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl Usage {
    /// With one block more.
    fn add(&mut self, bytes: usize) {
        (self.blocks, self.bytes) = (self.blocks + 1, self.bytes + bytes);
    }

    /// With one block less.
    fn remove(&mut self, bytes: usize) {
        (self.blocks, self.bytes) = (self.blocks - 1, self.bytes - bytes);
    }
}

impl Held {
    /// What it takes.
    fn cost(&self) -> usize {
        self.bytes.len() + BLOCK_OVERHEAD
    }
}

impl Introducers {
    /// The number of an introducer that brought a block of so many bytes.
    fn add(&mut self, peer: PeerId, bytes: usize) -> u32 {
        let number = *self.numbers.entry(peer).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.all.push((peer, Usage::default()));
                u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
            })
        });
        let (whose, used) = &mut self.all[number as usize];
        *whose = peer;
        used.add(bytes);
        number
    }

    /// Takes a block off; a number without blocks is free.
    fn remove(&mut self, number: u32, bytes: usize) {
        let (peer, used) = &mut self.all[number as usize];
        used.remove(bytes);
        if used.blocks == 0 {
            self.numbers.remove(peer);
            self.free.push(number);
        }
    }
}

impl MemoryStore {
    /// An empty store of the node at `me` in the DHT. Changes come out of [`Store::poll_op`] if `journal`.
    #[must_use]
    pub fn new(me: DhtKey, limits: StoreLimits, journal: bool) -> Self {
        Self {
            me,
            limits,
            held: Vec::new(),
            free: Vec::new(),
            keys: BTreeSet::new(),
            ranks: BTreeSet::new(),
            shares: BTreeSet::new(),
            introducers: Introducers::default(),
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
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        std::iter::successors(self.next_key(None), |key| self.next_key(Some(key)))
            .flat_map(|key| self.under(&key).into_iter().map(|(_, entry)| entry))
    }

    /// What lies at a place.
    fn at(&self, place: Place) -> Option<&Held> {
        self.held.get(place as usize)?.as_ref()
    }

    /// The entry at a place.
    fn read(&self, place: Place) -> Option<Entry> {
        let held = self.at(place)?;
        let introducer = held.introducer.map(|number| self.introducers.all[number as usize].0);
        let block = Block::decode(&held.bytes).ok()?;
        Some(Entry { block, until: UnixTime(held.until), introducer, own: held.own })
    }

    /// Everything under a key, by slot.
    fn under(&self, key: &DhtKey) -> Vec<(Place, Entry)> {
        let places = self.keys.range((*key, 0)..=(*key, Place::MAX)).map(|(_, place)| *place);
        let mut found: Vec<_> = places.filter_map(|place| Some((place, self.read(place)?))).collect();
        found.sort_by_cached_key(|(_, entry)| entry.block.slot());
        found
    }

    /// One block and where it lies.
    fn find(&self, key: &DhtKey, slot: &Slot) -> Option<(Place, Entry)> {
        self.under(key).into_iter().find(|(_, entry)| entry.block.slot() == *slot)
    }

    /// Queues something to write down.
    fn note(&mut self, op: impl FnOnce() -> StoreOp) {
        if self.journal {
            self.ops.push_back(op());
        }
    }

    /// Where a block stands in the order of eviction.
    fn rank(&self, key: &DhtKey, until: u64, place: Place) -> Rank {
        (prefix(&self.me) ^ prefix(key), Reverse(until), place)
    }

    /// Enters into every index; gives the place.
    fn insert(&mut self, entry: Entry) -> Place {
        let (key, until) = (entry.block.key, entry.until.0);
        let bytes = entry.block.encode().into_boxed_slice();
        let mut held = Held { bytes, until, introducer: None, bits: entry.block.work_bits(), own: entry.own };
        let cost = held.cost();
        held.introducer = entry.introducer.filter(|_| !entry.own).map(|peer| self.introducers.add(peer, cost));
        let place = self.free.pop().unwrap_or_else(|| {
            self.held.push(None);
            Place::try_from(self.held.len() - 1).unwrap_or(Place::MAX)
        });
        self.keys.insert((key, place));
        self.ends.insert((until, place));
        if held.own {
            self.own.add(cost);
        } else {
            let rank = self.rank(&key, until, place);
            self.ranks.insert(rank);
            self.shares.extend(held.introducer.map(|number| (number, rank)));
            self.others.add(cost);
        }
        self.held[place as usize] = Some(held);
        self.note(|| StoreOp::Put(Box::new(entry)));
        place
    }

    /// Takes out of every index.
    fn take(&mut self, place: Place) -> Option<Entry> {
        let entry = self.read(place)?;
        let held = self.held[place as usize].take()?;
        self.free.push(place);
        let (key, cost) = (entry.block.key, held.cost());
        self.keys.remove(&(key, place));
        self.ends.remove(&(held.until, place));
        if held.own {
            self.own.remove(cost);
        } else {
            let rank = self.rank(&key, held.until, place);
            self.ranks.remove(&rank);
            held.introducer.map(|number| self.shares.remove(&(number, rank)));
            self.others.remove(cost);
        }
        if let Some(number) = held.introducer {
            self.introducers.remove(number, cost);
        }
        Some(entry)
    }

    /// Takes out and writes that down; `false` when there was nothing.
    fn discard(&mut self, place: Place) -> bool {
        let Some(entry) = self.take(place) else { return false };
        self.note(|| StoreOp::Remove { key: entry.block.key, slot: entry.block.slot() });
        true
    }

    /// The signer that a crowded key gives up for one with `work` bits; `None` when there is room.
    fn crowded_out(&self, key: &DhtKey, work: u32) -> Result<Option<Place>, Refused> {
        let mut others = self.under(key);
        others.retain(|(_, entry)| !entry.own);
        if others.len() < SIGNERS_PER_KEY {
            return Ok(None);
        }
        let keeps = defence::on(Defence::WorkKeepsPlace);
        let bits = |place: Place| self.at(place).map_or(0, |held| if keeps { held.bits } else { 0 });
        let weakest = others.iter().min_by_key(|(place, entry)| (bits(*place), entry.until.0, entry.block.slot()));
        match weakest.map(|(place, _)| (bits(*place), *place)) {
            Some((bits, place)) if !keeps || bits < work && defence::on(Defence::WorkTakesPlace) => Ok(Some(place)),
            _ => Err(Refused::Crowded),
        }
    }

    /// Whether a usage is above a bound of `1 / parts` of the store.
    fn above(&self, usage: Usage, parts: usize) -> bool {
        usage.blocks > self.limits.blocks / parts || usage.bytes > self.limits.bytes / parts
    }

    /// Evicts until the share of whoever brought what lies at `place` and the whole are within their bounds; `false`
    /// when that took out the block itself.
    fn make_room(&mut self, place: Place) -> bool {
        let number = self.at(place).and_then(|held| held.introducer);
        loop {
            let used = number.map_or_else(Usage::default, |number| self.introducers.all[number as usize].1);
            let victim = if self.above(used, STORE_SHARE) && defence::on(Defence::StoreShare) {
                let number = number.unwrap_or_default();
                let mut shares = self.shares.range((number, RANK_MIN)..=(number, RANK_MAX));
                shares.next_back().map(|(_, rank)| *rank)
            } else if self.above(self.others, 1) {
                self.ranks.last().copied()
            } else {
                return true;
            };
            let Some((_, _, victim)) = victim else { return true };
            self.evicted += 1;
            if !self.discard(victim) || victim == place {
                return false;
            }
        }
    }

    /// Puts over what lies at a place, if the rules allow.
    fn replace(&mut self, place: Place, old: &Entry, mut entry: Entry) -> Result<Kept, Refused> {
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
        self.take(place);
        let place = self.insert(entry);
        match (self.make_room(place), newer) {
            (false, _) => Err(Refused::Full),
            (true, true) => Ok(Kept::Newer),
            (true, false) => Ok(Kept::Same),
        }
    }
}

impl Store for MemoryStore {
    fn put(&mut self, now: UnixTime, mut entry: Entry) -> Result<Kept, Refused> {
        check_life(entry.until, now)?;
        let key = entry.block.key;
        if let Some((place, old)) = self.find(&key, &entry.block.slot()) {
            return self.replace(place, &old, entry);
        }
        entry.own &= self.own.blocks < self.limits.own;
        if !entry.own
            && let Some(weak) = self.crowded_out(&key, entry.block.work_bits())?
        {
            self.discard(weak);
        }
        let place = self.insert(entry);
        if self.make_room(place) { Ok(Kept::New) } else { Err(Refused::Full) }
    }

    fn entries(&self, now: UnixTime, key: &DhtKey) -> Vec<Entry> {
        let under = self.under(key).into_iter().map(|(_, entry)| entry);
        under.filter(|entry| check_life(entry.until, now).is_ok()).collect()
    }

    fn entry(&self, key: &DhtKey, slot: &Slot) -> Option<Entry> {
        self.find(key, slot).map(|(_, entry)| entry)
    }

    fn next_key(&self, after: Option<&DhtKey>) -> Option<DhtKey> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded((*key, Place::MAX)));
        self.keys.range((from, Bound::Unbounded)).next().map(|(key, _)| *key)
    }

    fn disown(&mut self, key: &DhtKey, slot: &Slot) {
        let found = self.find(key, slot).and_then(|(place, _)| self.take(place));
        if let Some(entry) = found {
            let place = self.insert(Entry { own: false, ..entry });
            self.make_room(place);
        }
    }

    fn expire(&mut self, now: UnixTime, most: usize) -> usize {
        let mut dropped = 0;
        while dropped < most {
            let Some((until, place)) = self.ends.first().copied() else { break };
            if until.saturating_add(CLOCK_TOLERANCE_S) > now.0 {
                break;
            }
            self.discard(place);
            dropped += 1;
        }
        dropped
    }

    fn next_expiry(&self) -> Option<UnixTime> {
        self.ends.first().map(|(until, _)| UnixTime(until.saturating_add(CLOCK_TOLERANCE_S)))
    }

    fn poll_op(&mut self) -> Option<StoreOp> {
        self.ops.pop_front()
    }

    fn usage(&self) -> Usage {
        Usage { blocks: self.own.blocks + self.others.blocks, bytes: self.own.bytes + self.others.bytes }
    }
}
