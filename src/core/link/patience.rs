//! What a neighbour may send that serves nobody: cells without a path, refused set-ups, datagrams and control beyond
//! any need. Within a budget that is a matter of course, for neighbours learn of changes later than we; beyond it the
//! connection is not read for a while, so that whoever floods waits for itself instead of taking the processor from
//! the other neighbours.

use super::limits::{PATIENCE_LEN, PATIENCE_RATE, REST_MAX};
use crate::time::{Instant, micros};

/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// The budget of one link: a bucket of bytes.
#[derive(Debug)]
pub(super) struct Patience {
    /// Bytes left.
    left: u64,
    /// When it was last filled.
    filled_at: Instant,
    /// Until when the connection rests.
    rests_until: Instant,
}

impl Patience {
    /// A full budget.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: PATIENCE_LEN, filled_at: now, rests_until: now }
    }

    /// So many bytes served nobody. Gives the moment until which the connection is not to be read, if it is to rest
    /// anew: long enough for the budget to grow by what is missing, [`REST_MAX`] at most.
    pub(super) fn spend(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let grown = micros(now - self.filled_at).saturating_mul(PATIENCE_RATE) / SECOND_US;
        if grown > 0 {
            self.left = (self.left + grown).min(PATIENCE_LEN);
            self.filled_at = now;
        }
        let len = len as u64;
        let missing = len.saturating_sub(self.left);
        self.left = self.left.saturating_sub(len);
        // What was read before the rest began comes in during it, and lengthens it no more.
        if missing == 0 || now < self.rests_until {
            return None;
        }
        let wait = std::time::Duration::from_micros(missing.saturating_mul(SECOND_US) / PATIENCE_RATE);
        self.rests_until = now + wait.min(REST_MAX);
        // The rest pays for what is missing, and for nothing else.
        self.filled_at = self.rests_until;
        Some(self.rests_until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_read_at_the_rate_of_patience_and_a_burst_at_once() {
        let mut now = Instant::ZERO;
        let mut patience = Patience::new(now);
        assert_eq!(patience.spend(now, usize::try_from(PATIENCE_LEN).unwrap()), None, "a burst");
        // A reader that always has another 64 KiB: ten seconds of it.
        let (mut read, end) = (0, now + Duration::from_secs(10));
        while now < end {
            read += 1 << 16;
            now = patience.spend(now, 1 << 16).unwrap_or(now + Duration::from_micros(50));
        }
        assert!((9 * PATIENCE_RATE..=11 * PATIENCE_RATE).contains(&read), "{read} bytes");
        // Forgiven after a while.
        let later = now + Duration::from_secs(PATIENCE_LEN / PATIENCE_RATE + 1);
        assert_eq!(patience.spend(later, usize::try_from(PATIENCE_LEN).unwrap()), None);
    }

    #[test]
    fn a_rest_is_short_whatever_is_missing_and_is_told_once() {
        let now = Instant::ZERO;
        let mut patience = Patience::new(now);
        assert_eq!(patience.spend(now, usize::MAX), Some(now + REST_MAX));
        assert_eq!(patience.spend(now + REST_MAX / 2, 1 << 20), None);
    }
}
