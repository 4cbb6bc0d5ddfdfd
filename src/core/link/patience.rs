//! What a neighbour may send that serves nobody: cells without a path, and what exceeds its own allowance. Within a
//! budget that is a matter of course, for neighbours learn of a path's end later than we; beyond it the connection is not read for a while, so that whoever
//! floods waits for itself instead of taking the processor from the other neighbours.

use std::time::Duration;

use super::limits::{PATIENCE_LEN, PATIENCE_RATE, REST_MAX};
use crate::time::{Instant, micros};

/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;

/// The budget of one link: a bucket of bytes, which may owe as much as it holds. One rest is short, so that the link
/// lives; who goes on finds that the next begins as soon as the last is over, until the debt is paid.
#[derive(Debug)]
pub(super) struct Patience {
    /// Bytes left; negative: a debt.
    left: i64,
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
    /// anew: long enough for the debt to be paid, [`REST_MAX`] at most. What was read before a rest began, many
    /// megabytes perhaps, comes in during it and is paid by the next ones.
    pub(super) fn spend(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let grown = scaled(micros(now - self.filled_at), PATIENCE_RATE, SECOND_US);
        if grown > 0 {
            self.left = self.left.saturating_add(grown).min(PATIENCE_LEN);
            self.filled_at = now;
        }
        self.left = self.left.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX)).max(-PATIENCE_LEN);
        if self.left >= 0 || now < self.rests_until {
            return None;
        }
        let wait = scaled(self.left.unsigned_abs(), SECOND_US, PATIENCE_RATE).unsigned_abs();
        self.rests_until = now + Duration::from_micros(wait).min(REST_MAX);
        Some(self.rests_until)
    }
}

/// `value * by / of`, as large as it fits.
fn scaled(value: u64, by: i64, of: i64) -> i64 {
    i64::try_from(i128::from(value) * i128::from(by) / i128::from(of)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_read_at_the_rate_of_patience_and_a_burst_at_once() {
        let mut now = Instant::ZERO;
        let mut patience = Patience::new(now);
        assert_eq!(patience.spend(now, usize::try_from(PATIENCE_LEN).unwrap()), None, "a burst");
        // A reader that always has another 64 KiB of small messages: ten seconds of it.
        let (mut read, end) = (0, now + Duration::from_secs(10));
        while now < end {
            // A shell that has read much ahead when the first rest begins.
            let frames = if read == 0 { 64 } else { 1 };
            read += frames << 16;
            let rests: Vec<Instant> = (0..64 * frames).filter_map(|_| patience.spend(now, 1 << 10)).collect();
            assert!(rests.len() <= 1);
            now = rests.first().copied().unwrap_or(now + Duration::from_micros(50));
        }
        assert!((9 * PATIENCE_RATE..=11 * PATIENCE_RATE).contains(&read), "{read} bytes");
        // Forgiven after a while.
        let later = now + Duration::from_secs((PATIENCE_LEN / PATIENCE_RATE).unsigned_abs() + 1);
        assert_eq!(patience.spend(later, usize::try_from(PATIENCE_LEN).unwrap()), None);
    }

    #[test]
    fn a_rest_is_short_whatever_is_missing_and_is_told_once() {
        let now = Instant::ZERO;
        let mut patience = Patience::new(now);
        assert_eq!(patience.spend(now, usize::MAX), Some(now + REST_MAX));
        assert_eq!(patience.spend(now + REST_MAX / 2, usize::MAX), None);
        assert_eq!(patience.spend(now + REST_MAX, 0), Some(now + 2 * REST_MAX));
    }
}
