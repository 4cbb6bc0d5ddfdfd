//! Bounds of destinations whose tombstone had to go because there were too many. A neighbour may still send by what
//! we told it, until our retraction is there; were the bound forgotten by then, its own route over us would look good
//! enough to be taken, and there would be a loop. So a bound outlives its tombstone by as long as a message may take.

use std::collections::{BTreeMap, VecDeque};

use super::entry::Bound;
use super::limits::{GHOST_LIFE, GHOSTS_PER_TOMBSTONE};
use crate::time::Instant;
use crate::wire::routing::Short;

/// The bounds, at most [`GHOSTS_PER_TOMBSTONE`] for every tombstone that there may be; the oldest goes.
pub(super) struct Ghosts {
    bounds: BTreeMap<Short, (Instant, Bound)>,
    order: VecDeque<(Instant, Short)>,
    max: usize,
}

impl Ghosts {
    /// None yet.
    pub(super) fn new(tombstones: usize) -> Self {
        Self { bounds: BTreeMap::new(), order: VecDeque::new(), max: tombstones * GHOSTS_PER_TOMBSTONE }
    }

    /// Remembers the bound of a destination that is forgotten.
    pub(super) fn remember(&mut self, now: Instant, dest: Short, bound: Bound) {
        self.expire(now);
        while self.order.len() >= self.max {
            self.drop_oldest();
        }
        let until = now + GHOST_LIFE;
        self.bounds.insert(dest, (until, bound));
        self.order.push_back((until, dest));
    }

    /// The bound that a destination's routes must still improve on.
    pub(super) fn bound(&self, now: Instant, dest: &Short) -> Option<Bound> {
        self.bounds.get(dest).filter(|(until, _)| *until > now).map(|(_, bound)| *bound)
    }

    /// Forgets what is old, and gives its memory back.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
        if self.order.is_empty() {
            self.order = VecDeque::new();
        }
    }

    /// Forgets the oldest, unless it was remembered again since.
    fn drop_oldest(&mut self) {
        let Some((until, dest)) = self.order.pop_front() else { return };
        if self.bounds.get(&dest).is_some_and(|(newest, _)| *newest == until) {
            self.bounds.remove(&dest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::routing::Sequence;

    /// A bound.
    fn bound(metric: u16) -> Bound {
        Bound { sequence: Sequence { epoch: 1, seq: 0 }, metric }
    }

    #[test]
    fn bounds_live_their_time_and_are_few() {
        let mut ghosts = Ghosts::new(2);
        let at = |ms: u64| Instant::ZERO + std::time::Duration::from_millis(ms);
        ghosts.remember(at(0), [1; 8], bound(3));
        ghosts.remember(at(5), [1; 8], bound(4));
        assert_eq!(ghosts.bound(at(6), &[1; 8]), Some(bound(4)));
        assert_eq!(ghosts.bound(at(5) + GHOST_LIFE, &[1; 8]), None);
        ghosts.expire(at(0) + GHOST_LIFE);
        assert_eq!(ghosts.bound(at(6), &[1; 8]), Some(bound(4)));
        (0..200u8).for_each(|n| ghosts.remember(at(7), [n; 8], bound(1)));
        assert!(ghosts.order.len() <= 2 * GHOSTS_PER_TOMBSTONE && ghosts.bounds.len() <= ghosts.order.len());
        ghosts.expire(at(7) + GHOST_LIFE);
        assert!(ghosts.order.is_empty() && ghosts.bounds.is_empty());
    }
}
