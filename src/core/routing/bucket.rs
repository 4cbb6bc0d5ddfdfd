//! Token bucket: what a neighbour may ask per time.

use std::time::Duration;

use crate::defence::{self, Defence};
use crate::time::{Instant, micros};

/// A bucket's size and refill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens of a full bucket.
    pub burst: u32,
    /// Time in which one token comes back.
    pub interval: Duration,
}

/// Tokens, kept as the time that earned them.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate: Rate,
    credit_us: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, credit_us: micros(rate.interval) * u64::from(rate.burst), at: now }
    }

    /// Takes `count` tokens if there are that many.
    pub(super) fn take(&mut self, now: Instant, count: u32) -> bool {
        let interval_us = micros(self.rate.interval);
        let full_us = interval_us * u64::from(self.rate.burst);
        self.credit_us = full_us.min(self.credit_us.saturating_add(micros(now - self.at)));
        self.at = now;
        let price_us = interval_us.saturating_mul(u64::from(count));
        match self.credit_us.checked_sub(price_us) {
            Some(left) => {
                self.credit_us = left;
                true
            }
            None => !defence::on(Defence::RequestBudget),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = Bucket::new(Rate { burst: 2, interval: Duration::from_secs(1) }, Instant::ZERO);
        let at = Instant::from_micros;
        assert!(bucket.take(at(0), 2) && !bucket.take(at(0), 1));
        assert!(!bucket.take(at(999_999), 1));
        assert!(bucket.take(at(1_000_000), 1) && !bucket.take(at(1_000_000), 1));
        assert!(bucket.take(at(60_000_000), 2) && !bucket.take(at(60_000_000), 1));
    }
}
