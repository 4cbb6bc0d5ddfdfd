//! Pauses between attempts at one target.

use std::time::Duration;

use tarnet_core::rng::Rng;

use super::limits::{BACKOFF_EXACT_MAX, BACKOFF_JITTER_PERCENT, BACKOFF_MAX, BACKOFF_MIN};

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`]; the long ones carry jitter, so that many nodes
/// that lost the same peer do not come back together.
pub(super) struct Backoff {
    next: Duration,
    rng: Rng,
}

impl Backoff {
    /// The first pause comes next.
    pub(super) fn new(rng: Rng) -> Self {
        Self { next: BACKOFF_MIN, rng }
    }

    /// The pause after one more failure.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(BACKOFF_MAX);
        if pause <= BACKOFF_EXACT_MAX { pause } else { self.rng.jitter(pause, BACKOFF_JITTER_PERCENT).min(BACKOFF_MAX) }
    }

    /// Starts again with the shortest pause: the target worked.
    pub(super) fn reset(&mut self) {
        self.next = BACKOFF_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_cap_and_start_again() {
        let mut backoff = Backoff::new(Rng::from_seed([1; 32]));
        let first: Vec<u128> = (0..5).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(first, [250, 500, 1000, 2000, 4000]);
        for _ in 0..20 {
            let pause = backoff.failed();
            assert!(pause >= Duration::from_secs(6) && pause <= BACKOFF_MAX, "{pause:?}");
        }
        let late: Vec<_> = (0..10).map(|_| backoff.failed()).collect();
        assert!(late.iter().all(|pause| *pause >= BACKOFF_MAX / 4 * 3) && late.iter().any(|pause| *pause != late[0]));
        backoff.reset();
        assert_eq!(backoff.failed(), BACKOFF_MIN);
    }
}
