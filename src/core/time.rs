//! Our own notion of time: a monotonic [`Instant`] counted from an arbitrary zero, the
//! wall clock [`UnixTime`] for record expiry only, both in one [`Now`] that is taken
//! once per step, and [`Timers`], a table of deadlines by key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment of the monotonic clock, microseconds since an arbitrary zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The arbitrary zero.
    pub const ZERO: Self = Self(0);

    /// The moment `us` microseconds after zero.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since zero.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Microseconds of a duration, saturating: no deadline of ours is half a million years away.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// The moment `duration` later; saturates at the end of time.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    /// Time between two moments, zero if `earlier` is later.
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_since(earlier)
    }
}

/// Wall-clock time, seconds since 1970. Only record expiry looks at it, and tolerates 12 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(pub u64);

/// Both clocks, read once per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic time, for every timer.
    pub instant: Instant,
    /// Wall-clock time, for record expiry.
    pub unix: UnixTime,
}

impl Now {
    /// Zero on both clocks: where tests begin.
    pub const ZERO: Self = Self { instant: Instant::ZERO, unix: UnixTime(0) };

    /// Both clocks `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self { instant: self.instant + duration, unix: UnixTime(self.unix.0.saturating_add(duration.as_secs())) }
    }
}

/// A table of deadlines, at most one per key. Bounded by the number of keys.
#[derive(Debug, Clone)]
pub struct Timers<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Instant) {
        if let Some(old) = self.by_key.insert(key, at) {
            if old == at {
                return;
            }
            self.by_time.remove(&(old, key));
        }
        self.by_time.insert((at, key));
    }

    /// Removes the deadline of `key`, if it has one.
    pub fn clear(&mut self, key: &K) {
        if let Some(old) = self.by_key.remove(key) {
            self.by_time.remove(&(old, *key));
        }
    }

    /// The deadline of `key`.
    #[must_use]
    pub fn at(&self, key: &K) -> Option<Instant> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Removes and returns a key whose deadline is at or before `now`, earliest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.remove(&(at, key));
        self.by_key.remove(&key);
        Some(key)
    }
}

/// The earlier of two optional deadlines.
#[must_use]
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_timer_fires_once_at_its_last_deadline() {
        let mut timers = Timers::default();
        timers.set('a', Instant::from_micros(5));
        timers.set('b', Instant::from_micros(3));
        timers.set('a', Instant::from_micros(9));
        timers.clear(&'z');
        assert_eq!(timers.next(), Some(Instant::from_micros(3)));
        assert_eq!(timers.pop_due(Instant::from_micros(8)), Some('b'));
        assert_eq!(timers.pop_due(Instant::from_micros(8)), None);
        assert_eq!(timers.pop_due(Instant::from_micros(9)), Some('a'));
        assert_eq!(timers.next(), None);
    }
}
