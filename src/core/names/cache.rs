//! A bounded table that forgets the least recently used.

use std::collections::BTreeMap;

/// A bounded table that forgets the least recently used.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    tick: u64,
    max: usize,
}

impl<K: Ord + Clone, V> Lru<K, V> {
    /// An empty table of at most `max` entries.
    pub fn new(max: usize) -> Self {
        Self { entries: BTreeMap::new(), order: BTreeMap::new(), tick: 0, max }
    }

    /// The value of a key, which counts as a use.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.tick += 1;
        let (used, value) = self.entries.get_mut(key)?;
        self.order.remove(used);
        *used = self.tick;
        self.order.insert(self.tick, key.clone());
        Some(value)
    }

    /// Sets the value of a key; over the bound the least recently used goes.
    pub fn insert(&mut self, key: K, value: V) {
        self.tick += 1;
        if let Some((used, _)) = self.entries.insert(key.clone(), (self.tick, value)) {
            self.order.remove(&used);
        }
        self.order.insert(self.tick, key);
        if self.entries.len() > self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes() {
        let mut lru = Lru::new(2);
        lru.insert('a', 1);
        lru.insert('b', 2);
        assert_eq!(lru.get(&'a'), Some(&1));
        lru.insert('c', 3);
        assert_eq!(['a', 'b', 'c'].map(|key| lru.get(&key).copied()), [Some(1), None, Some(3)]);
        lru.insert('a', 4);
        assert_eq!(['a', 'c'].map(|key| lru.get(&key).copied()), [Some(4), Some(3)]);
        assert_eq!(lru.order.len(), lru.entries.len());
    }
}
