//! The table of destinations, nearest first. Every neighbour is guaranteed a share; when
//! the table is full the farthest destination of whoever is above its share goes.
//! Destinations without a route stay as tombstones, so that a ghost of an old route is
//! not taken for a new one; the tombstone that ends soonest goes first.

use std::collections::BTreeMap;

use super::entry::Entry;
use crate::crypto::PeerId;
use crate::defence::{self, Defence};
use crate::wire::routing::{Short, short};

/// The table.
#[derive(Default)]
pub(super) struct Table {
    /// By destination; the order is that of refills.
    pub(super) entries: BTreeMap<PeerId, Entry>,
    shorts: BTreeMap<Short, PeerId>,
    /// Destinations with a route.
    pub(super) live: usize,
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
    pub(super) fn by_short(&self, short: &Short) -> Option<PeerId> {
        self.shorts.get(short).copied()
    }

    /// Adds a destination.
    pub(super) fn insert(&mut self, dest: PeerId, entry: Entry) {
        self.shorts.entry(short(&dest)).or_insert(dest);
        self.entries.insert(dest, entry);
    }

    /// Removes a destination that has no route.
    pub(super) fn remove(&mut self, dest: &PeerId) {
        self.entries.remove(dest);
        if self.shorts.get(&short(dest)) == Some(dest) {
            self.shorts.remove(&short(dest));
        }
    }

    /// Whether a destination of this `rank` (metric, order, id) via a neighbour may have a route. `max` bounds the
    /// table, `neighbours` share it. Looks at every entry when the table is full. Links' own entries never go.
    pub(super) fn admit(
        &self,
        max: usize,
        neighbours: usize,
        via: &PeerId,
        rank: (u16, u64, PeerId),
        is_link: impl Fn(&PeerId) -> bool,
    ) -> Admission {
        if self.live < max {
            return Admission::Room;
        }
        let share = max / neighbours.max(1);
        let mut held: BTreeMap<PeerId, usize> = BTreeMap::new();
        for best in self.entries.values().filter_map(Entry::best) {
            *held.entry(best.via).or_default() += 1;
        }
        let entitled = held.get(via).is_none_or(|count| *count < share) || is_link(&rank.2);
        let shared = defence::on(Defence::RouteShare);
        let entitled = entitled || !shared;
        let may_lose = |owner: &PeerId| {
            !shared || held.get(owner).is_some_and(|count| *count > share) || !entitled && owner == via
        };
        let ranks = self.entries.iter().filter(|(dest, _)| !is_link(dest)).filter_map(|(dest, entry)| {
            let best = entry.best().filter(|best| may_lose(&best.via))?;
            Some((best.metric(), entry.order, *dest))
        });
        match ranks.max() {
            Some(farthest) if entitled || rank < farthest => Admission::Instead(farthest.2),
            _ => Admission::Refused,
        }
    }

    /// A tombstone above the bound: the one that ends soonest.
    pub(super) fn surplus(&self, max: usize) -> Option<PeerId> {
        if self.entries.len() - self.live <= max {
            return None;
        }
        let dead = self.entries.iter().filter(|(_, entry)| !entry.live);
        dead.min_by_key(|(dest, entry)| (entry.ends_at, **dest)).map(|(dest, _)| *dest)
    }
}
