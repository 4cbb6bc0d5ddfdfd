//! A bounded map whose entries belong to a neighbour and expire. At the bound, the oldest
//! entry of whoever holds most goes: each of n neighbours is sure of an n-th.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::PeerId;
use crate::time::Instant;

/// The map.
pub(super) struct Leases<K, V> {
    entries: BTreeMap<K, Lease<V>>,
    by_owner: BTreeMap<PeerId, BTreeSet<(Instant, K)>>,
    max: usize,
}

/// One entry.
struct Lease<V> {
    owner: PeerId,
    until: Instant,
    value: V,
}

impl<K: Ord + Copy, V> Leases<K, V> {
    /// An empty map of at most `max` entries.
    pub(super) fn new(max: usize) -> Self {
        Self { entries: BTreeMap::new(), by_owner: BTreeMap::new(), max }
    }

    /// Adds or replaces an entry. Says whether another had to go.
    pub(super) fn insert(&mut self, owner: PeerId, until: Instant, key: K, value: V) -> bool {
        self.remove(&key);
        let full = self.entries.len() >= self.max;
        if full {
            let greedy = self.by_owner.values().max_by_key(|held| held.len()).and_then(|held| held.first().copied());
            if let Some((_, oldest)) = greedy {
                self.remove(&oldest);
            }
        }
        self.by_owner.entry(owner).or_default().insert((until, key));
        self.entries.insert(key, Lease { owner, until, value });
        full
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let lease = self.entries.remove(key)?;
        if let Some(held) = self.by_owner.get_mut(&lease.owner) {
            held.remove(&(lease.until, *key));
            if held.is_empty() {
                self.by_owner.remove(&lease.owner);
            }
        }
        Some(lease.value)
    }

    /// A living entry.
    pub(super) fn find(&mut self, now: Instant, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).filter(|lease| lease.until > now).map(|lease| &mut lease.value)
    }

    /// Whether there is such an entry, living or not.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Removes what is due; bounded by the map's size.
    pub(super) fn expire(&mut self, now: Instant) {
        let due: Vec<K> = self
            .by_owner
            .values()
            .flat_map(|held| held.iter().take_while(|(until, _)| *until <= now))
            .map(|(_, key)| *key)
            .collect();
        for key in due {
            self.remove(&key);
        }
    }

    /// Removes what belongs to one owner.
    pub(super) fn forget(&mut self, owner: &PeerId) {
        for (_, key) in self.by_owner.remove(owner).unwrap_or_default() {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greedy_owner_loses_its_oldest_entry() {
        let (greedy, modest) = (PeerId([1; 32]), PeerId([2; 32]));
        let at = Instant::from_micros;
        let mut leases = Leases::new(4);
        assert!(!leases.insert(modest, at(50), 0, 'm'));
        for key in 1..10 {
            leases.insert(greedy, at(100 + key), key, 'g');
        }
        assert_eq!(leases.find(at(0), &0), Some(&mut 'm'));
        assert_eq!(leases.find(at(0), &6), None);
        assert_eq!(leases.find(at(0), &7), Some(&mut 'g'));
        assert_eq!(leases.find(at(50), &0), None);
        leases.expire(at(107));
        assert!(!leases.contains(&0) && !leases.contains(&7) && leases.contains(&8));
        leases.forget(&greedy);
        assert!(!leases.contains(&8) && leases.entries.is_empty() && leases.by_owner.is_empty());
    }
}
