//! Spreads packets over the round-trip time. A bucket of bytes, refilled at the pace;
//! large enough that batches stay large and an event loop's timer granularity costs nothing.

use std::time::Duration;

use super::limits::{BURST_MIN, BURST_TIME, GRANULARITY};
use crate::time::{Instant, micros};

/// Microseconds of a second.
const SECOND: u128 = 1_000_000;

/// The bucket.
#[derive(Debug)]
pub struct Pacer {
    tokens: u64,
    filled_at: Instant,
    rate: u64,
}

/// Bytes that pass in `time` at `rate` bytes a second.
fn bytes_in(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(micros(time)) / SECOND).unwrap_or(u64::MAX)
}

impl Pacer {
    /// A full bucket.
    pub const fn new(now: Instant) -> Self {
        Self { tokens: BURST_MIN, filled_at: now, rate: 0 }
    }

    /// Sets the pace: a window per round-trip time, times 5/4, or times 2 in slow start. RFC 9002 §7.7.
    pub fn set(&mut self, now: Instant, window: u64, rtt: Duration, slow_start: bool) {
        self.fill(now);
        let per_second = u128::from(window) * SECOND / u128::from(micros(rtt).max(1));
        let rate = if slow_start { per_second * 2 } else { per_second * 5 / 4 };
        self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
    }

    /// The pace, bytes per second; 0: none yet.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// Most bytes that the bucket holds.
    fn capacity(&self) -> u64 {
        bytes_in(self.rate, BURST_TIME).max(BURST_MIN)
    }

    /// Adds what the time since has earned.
    fn fill(&mut self, now: Instant) {
        let earned = bytes_in(self.rate, now.saturating_since(self.filled_at));
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.capacity());
            self.filled_at = now;
        }
    }

    /// Whether `len` bytes may leave now; if not, when: later by enough for a batch.
    pub fn check(&mut self, now: Instant, len: u64) -> Result<(), Instant> {
        self.fill(now);
        if self.tokens >= len || self.rate == 0 {
            return Ok(());
        }
        let want = len.max(bytes_in(self.rate, GRANULARITY)).min(self.capacity());
        let wait = u128::from(want - self.tokens) * SECOND / u128::from(self.rate);
        Err(self.filled_at + Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX).saturating_add(1)))
    }

    /// Notes `len` bytes that left.
    pub const fn handle_sent(&mut self, len: u64) {
        self.tokens = self.tokens.saturating_sub(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_at_the_pace_after_a_burst() {
        let mut now = Instant::ZERO;
        let mut pacer = Pacer::new(now);
        pacer.set(now, 1_000_000, Duration::from_millis(100), false);
        let mut sent = 0;
        while now < Instant::from_micros(1_000_000) {
            match pacer.check(now, 10_000) {
                Ok(()) => {
                    pacer.handle_sent(10_000);
                    sent += 10_000;
                }
                Err(later) => {
                    assert!(later > now);
                    now = later;
                }
            }
        }
        assert!((12_500_000..=12_500_000 + 150_000).contains(&sent), "{sent}");
    }
}
