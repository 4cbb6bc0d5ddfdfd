//! The table of destinations: a few landmarks, most of them the same for everybody, and the
//! vicinity, nearest first. Of the landmarks, half are those of the lowest ranks, and half
//! those that this node has known longest, ties by rank: where all are equally well known,
//! the lowest ranks of all.
//!
//! A quarter of the vicinity is reserved, in equal shares: the nearest
//! destinations of each neighbour are sure of their place, and no other's take it. All else
//! shares the rest; when that is full, the farthest goes. So whether a destination stays
//! depends on nearer ones only, by induction from the nearest on: a network whose links do
//! not change comes to rest. (Shares that were lent while their owner had no use for them
//! would make nearer ones depend on farther ones, and tables chase each other for ever.)
//! Destinations without a route stay as tombstones, so that a ghost of an old route is not
//! taken for a new one; the tombstone that ends soonest goes first.
//!
//! Indices keep every question about the whole at the cost of a look-up; [`Table::reindex`]
//! must be called after whatever changes an entry's liveness, route or proof.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, by_short};
use super::limits::RESERVED_PART;
use crate::crypto::PeerId;
use crate::defence::{self, Defence};
use crate::time::Instant;
use crate::wire::routing::Short;

/// Metric, order, id: the vicinity's order, the farthest last.
pub(super) type Rank = (u16, u64, PeerId);

/// What the indices hold of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TablePlace {
    /// Nothing.
    #[default]
    None,
    /// A tombstone that ends then.
    Tombstone(Instant),
    /// In the vicinity, over that neighbour, at that metric; whether it may be evicted.
    Near {
        /// The neighbour.
        via: PeerId,
        /// The metric.
        metric: u16,
        /// No link's own entry.
        evictable: bool,
    },
    /// A landmark, known for so long.
    Landmark(u8),
}

/// What a neighbour has of the vicinity.
#[derive(Default)]
struct Held {
    /// All of it.
    count: usize,
    /// What may be evicted.
    ranks: BTreeSet<Rank>,
}

/// The table.
#[derive(Default)]
pub(super) struct Table {
    /// By destination; the order is that of refills.
    /// Boxed, because a tree's nodes are a third empty.
    pub(super) entries: BTreeMap<PeerId, Box<Entry>>,
    /// Live destinations of the vicinity.
    pub(super) near: usize,
    /// Live landmarks, by rank, with how long they are known ([`super::acquaintance`]).
    landmarks: BTreeMap<(u64, PeerId), u8>,
    held: BTreeMap<PeerId, Held>,
    ends: BTreeSet<(Instant, PeerId)>,
}

/// Bounds of the vicinity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// All destinations.
    pub(super) max: usize,
    /// Neighbours that share it.
    pub(super) neighbours: usize,
}

impl Bounds {
    /// Destinations of each neighbour that are sure of their place.
    fn reserved(self) -> usize {
        if !defence::on(Defence::RouteShare) {
            return 0;
        }
        self.max / RESERVED_PART / self.neighbours.max(1)
    }
}

/// What a candidate meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room.
    Room,
    /// There is, once this destination has gone.
    Instead(PeerId),
    /// All others are nearer, or belong to neighbours within their share.
    Refused,
}

impl Table {
    /// The destination of a short, if it is known.
    pub(super) fn by_short(&self, wanted: &Short) -> Option<PeerId> {
        by_short(&self.entries, wanted).map(|(dest, _)| *dest)
    }

    /// Adds a destination.
    pub(super) fn insert(&mut self, dest: PeerId, entry: Entry) {
        self.entries.insert(dest, Box::new(entry));
        self.reindex(&dest, 0, 0, false);
    }

    /// Removes a destination that has no route.
    pub(super) fn remove(&mut self, dest: &PeerId) {
        if let Some(entry) = self.entries.remove(dest) {
            self.unindex(dest, entry.rank, entry.order, entry.place);
        }
    }

    /// Live landmarks, the lowest rank first.
    pub(super) fn landmarks(&self) -> impl DoubleEndedIterator<Item = (u64, PeerId)> + '_ {
        self.landmarks.keys().copied()
    }

    /// The quarter of the live landmarks that is known longest, and who is known as long; none while all are new. Not
    /// the half: should one of that be lost, new ones would be counted among the long known.
    pub(super) fn long_known(&self) -> Vec<PeerId> {
        let mut classes: Vec<u8> = self.landmarks.values().copied().collect();
        classes.sort_unstable();
        let Some(least) = classes.get(classes.len() * 3 / 4).copied() else { return Vec::new() };
        let long = self.landmarks.iter().filter(|(_, class)| **class >= least.max(1));
        long.map(|((_, dest), _)| *dest).collect()
    }

    /// Sets how long a landmark is known.
    pub(super) fn set_class(&mut self, dest: &PeerId, class: u8) {
        if self.entries.get(dest).is_some_and(|entry| matches!(entry.place, TablePlace::Landmark(_))) {
            self.set_place(dest, TablePlace::Landmark(class));
        }
    }

    /// How many landmarks are live.
    pub(super) fn landmarks_len(&self) -> usize {
        self.landmarks.len()
    }

    /// Destinations with a route.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.near + self.landmarks.len()
    }

    /// Whether a landmark of that rank, known for so long, is or would be among the `max` that are kept.
    pub(super) fn is_kept(&self, max: usize, rank: u64, dest: &PeerId, class: u8) -> bool {
        let key = (rank, *dest);
        if self.landmarks.len() < max || self.landmarks.contains_key(&key) {
            return true;
        }
        let low = (max / 2).checked_sub(1).and_then(|last| self.landmarks.keys().nth(last));
        low.is_some_and(|last| key < *last)
            || self.least(max).is_some_and(|(least, known)| (known, Reverse(least)) < (class, Reverse(key)))
    }

    /// The landmark that is kept for no reason, if there are more than `max`.
    pub(super) fn surplus_landmark(&self, max: usize) -> Option<PeerId> {
        if self.landmarks.len() <= max {
            return None;
        }
        self.least(max).map(|((_, dest), _)| dest)
    }

    /// Of the landmarks beyond the lowest ranks, the one known least, of equals that of the highest rank.
    fn least(&self, max: usize) -> Option<((u64, PeerId), u8)> {
        let beyond = self.landmarks.iter().skip(max / 2).map(|(key, class)| (*key, *class));
        beyond.min_by_key(|(key, class)| (*class, Reverse(*key)))
    }

    /// Whether a destination of this `rank` via a neighbour may be in the vicinity. Links' own entries never go.
    pub(super) fn admit(&self, bounds: Bounds, via: &PeerId, rank: Rank, is_link: bool) -> Admission {
        let held = self.held.get(via).map_or(0, |held| held.ranks.len());
        let reserved = bounds.reserved();
        let (pooled, room) = (self.pooled(reserved), self.room(bounds));
        // One more: of its neighbour's own the farthest beyond the reserve shares the rest, perhaps itself.
        if is_link && pooled < room || !is_link && pooled + usize::from(held >= reserved) <= room {
            return Admission::Room;
        }
        let last = |held: &Held| held.ranks.last().copied().filter(|_| held.ranks.len() > reserved);
        let others = self.held.iter().filter(|(other, _)| *other != via).filter_map(|(_, held)| last(held)).max();
        let own = self.held.get(via).and_then(|held| held.ranks.last().copied()).filter(|_| held >= reserved);
        match others.max(own) {
            Some(farthest) if is_link || rank < farthest => Admission::Instead(farthest.2),
            _ => Admission::Refused,
        }
    }

    /// What has to go for the vicinity to keep its bound.
    pub(super) fn surplus_near(&self, bounds: Bounds) -> Option<PeerId> {
        let reserved = bounds.reserved();
        if self.pooled(reserved) <= self.room(bounds) {
            return None;
        }
        let beyond = self.held.values().filter(|held| held.ranks.len() > reserved);
        beyond.filter_map(|held| held.ranks.last().copied()).max().map(|(.., dest)| dest)
    }

    /// Whether the vicinity is full but for an eighth; landmarks that are near were of it before.
    pub(super) fn is_crowded(&self, bounds: Bounds, landmarks: bool) -> bool {
        let more = if landmarks { self.landmarks.len() } else { 0 };
        self.pooled(bounds.reserved()) + more >= self.room(bounds) / 8 * 7
    }

    /// Destinations beyond their neighbours' reserves.
    fn pooled(&self, reserved: usize) -> usize {
        self.held.values().map(|held| held.ranks.len().saturating_sub(reserved)).sum()
    }

    /// How many of those there may be.
    fn room(&self, bounds: Bounds) -> usize {
        let links: usize = self.held.values().map(|held| held.count - held.ranks.len()).sum();
        bounds.max.saturating_sub(bounds.reserved() * bounds.neighbours).saturating_sub(links)
    }

    /// A tombstone above the bound: the one that ends soonest.
    pub(super) fn surplus(&self, max: usize) -> Option<PeerId> {
        if self.ends.len() <= max {
            return None;
        }
        self.ends.first().map(|(_, dest)| *dest)
    }

    /// Takes note of what an entry is now. `landmarks_max` says how many landmarks there may be; one more is taken,
    /// for the caller to find with [`Self::surplus_landmark`]. `class`: for how long it is known, should it be one.
    pub(super) fn reindex(&mut self, dest: &PeerId, landmarks_max: usize, class: u8, is_link: bool) {
        let Some(entry) = self.entries.get(dest) else { return };
        let kept = entry.proof.is_landmark() && self.is_kept(landmarks_max, entry.rank, dest, class);
        let place = match entry.best().filter(|_| entry.live) {
            None => TablePlace::Tombstone(entry.ends_at),
            Some(_) if kept => TablePlace::Landmark(class),
            Some(best) => TablePlace::Near { via: best.via, metric: best.metric(), evictable: !is_link },
        };
        self.set_place(dest, place);
    }

    /// Makes a landmark an ordinary destination.
    pub(super) fn demote(&mut self, dest: &PeerId, is_link: bool) {
        let Some(best) = self.entries.get(dest).and_then(|entry| entry.best()) else { return };
        let place = TablePlace::Near { via: best.via, metric: best.metric(), evictable: !is_link };
        self.set_place(dest, place);
    }

    /// Moves an entry within the indices.
    fn set_place(&mut self, dest: &PeerId, place: TablePlace) {
        let Some(entry) = self.entries.get_mut(dest) else { return };
        let (rank, order, before) = (entry.rank, entry.order, std::mem::replace(&mut entry.place, place));
        if before == place {
            return;
        }
        self.unindex(dest, rank, order, before);
        match place {
            TablePlace::None => {}
            TablePlace::Tombstone(at) => {
                self.ends.insert((at, *dest));
            }
            TablePlace::Landmark(class) => {
                self.landmarks.insert((rank, *dest), class);
            }
            TablePlace::Near { via, metric, evictable } => {
                self.near += 1;
                let held = self.held.entry(via).or_default();
                held.count += 1;
                if evictable {
                    held.ranks.insert((metric, order, *dest));
                }
            }
        }
    }

    /// Takes an entry out of the indices.
    fn unindex(&mut self, dest: &PeerId, rank: u64, order: u64, place: TablePlace) {
        match place {
            TablePlace::None => {}
            TablePlace::Tombstone(at) => {
                self.ends.remove(&(at, *dest));
            }
            TablePlace::Landmark(_) => {
                self.landmarks.remove(&(rank, *dest));
            }
            TablePlace::Near { via, metric, .. } => {
                self.near -= 1;
                if let Some(held) = self.held.get_mut(&via) {
                    held.count -= 1;
                    held.ranks.remove(&(metric, order, *dest));
                    if held.count == 0 {
                        self.held.remove(&via);
                    }
                }
            }
        }
    }
}
