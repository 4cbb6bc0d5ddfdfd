//! A set of numbers kept as ranges: received packet numbers, acknowledged and lost bytes.

use std::collections::VecDeque;

/// Half-open ranges, ascending, neither touching nor overlapping. Who fills it from a peer's words bounds [`Ranges::len`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    list: VecDeque<(u64, u64)>,
}

impl Ranges {
    /// Adds `start..end`. Cheap at the upper end, where almost all insertions happen.
    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        match self.list.back_mut() {
            None => return self.list.push_back((start, end)),
            Some(last) if start > last.1 => return self.list.push_back((start, end)),
            Some(last) if start >= last.0 => {
                last.1 = last.1.max(end);
                return;
            }
            Some(_) => {}
        }
        let from = self.list.partition_point(|range| range.1 < start);
        let to = self.list.partition_point(|range| range.0 <= end);
        if from == to {
            self.list.insert(from, (start, end));
            return;
        }
        let merged = (self.list[from].0.min(start), self.list[to - 1].1.max(end));
        self.list.drain(from + 1..to);
        self.list[from] = merged;
    }

    /// Removes `start..end`.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let from = self.list.partition_point(|range| range.1 <= start);
        let to = self.list.partition_point(|range| range.0 < end);
        if from >= to {
            return;
        }
        let (head, tail) = ((self.list[from].0, start), (end, self.list[to - 1].1));
        self.list.drain(from..to);
        if tail.0 < tail.1 {
            self.list.insert(from, tail);
        }
        if head.0 < head.1 {
            self.list.insert(from, head);
        }
    }

    /// Whether it holds `value`.
    #[must_use]
    pub fn contains(&self, value: u64) -> bool {
        let at = self.list.partition_point(|range| range.1 <= value);
        self.list.get(at).is_some_and(|range| range.0 <= value)
    }

    /// Whether it holds all of `start..end`.
    #[must_use]
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let at = self.list.partition_point(|range| range.1 <= start);
        start >= end || self.list.get(at).is_some_and(|range| range.0 <= start && end <= range.1)
    }

    /// The lowest range.
    #[must_use]
    pub fn first(&self) -> Option<(u64, u64)> {
        self.list.front().copied()
    }

    /// Removes the lowest range.
    pub fn pop_first(&mut self) -> Option<(u64, u64)> {
        self.list.pop_front()
    }

    /// One above the highest number, zero when empty.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.list.back().map_or(0, |range| range.1)
    }

    /// Ranges, highest first.
    pub fn descending(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.list.iter().rev().copied()
    }

    /// Ranges, lowest first.
    pub fn ascending(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.list.iter().copied()
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_behave_as_a_set_of_numbers(steps: Vec<(bool, u8, u8)>) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (insert, start, len) in steps {
                let (start, end) = (u64::from(start), u64::from(start) + u64::from(len % 16));
                if insert {
                    ranges.insert(start, end);
                    model.extend(start..end);
                } else {
                    ranges.remove(start, end);
                    model.retain(|value| !(start..end).contains(value));
                }
                let flat: Vec<u64> = ranges.ascending().flat_map(|(start, end)| start..end).collect();
                prop_assert!(flat.iter().copied().eq(model.iter().copied()));
                prop_assert_eq!(ranges.covers(start, end), (start..end).all(|value| model.contains(&value)));
                prop_assert_eq!(ranges.contains(start), model.contains(&start));
                let list: Vec<_> = ranges.ascending().collect();
                prop_assert!(list.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
