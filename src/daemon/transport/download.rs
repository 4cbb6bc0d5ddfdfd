//! The node-wide download limit: readers share a budget of bytes per second, and wait after a frame
//! until its time is over. A reader that waits does not read, so the kernel's buffer fills (it is kept
//! small), and the peer's kernel stops sending. Frames take their turns in the order in which they came.
//!
//! Nothing is queued: each connection holds the one frame that it waits with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::Clock;
use super::limits::{DOWNLOAD_BUFFER_LEN, DOWNLOAD_BUFFER_TIME, DOWNLOAD_BURST};

/// The limit, or none. All copies share one budget.
#[derive(Clone, Default)]
pub(super) struct Download(Option<Arc<Budget>>);

/// What readers share.
struct Budget {
    /// Bytes per second.
    rate: u64,
    clock: Clock,
    /// When all that was received so far has had its time, nanoseconds of the clock.
    free_ns: AtomicU64,
}

impl Download {
    /// A limit of so many bytes per second.
    pub(super) fn new(clock: Clock, bytes_per_s: Option<u64>) -> Self {
        let budget = |rate: u64| Arc::new(Budget { rate: rate.max(1), clock, free_ns: AtomicU64::new(0) });
        Self(bytes_per_s.map(budget))
    }

    /// Waits until `len` bytes that were received have had their time. Dropping it gives nothing back.
    pub(super) async fn take(&self, len: usize) {
        let Some(budget) = &self.0 else { return };
        let now = budget.clock.now().instant;
        let until = budget.reserve(now.as_micros().saturating_mul(1000), len as u64);
        let until = tarnet_core::time::Instant::from_micros(until / 1000);
        if until > now {
            tokio::time::sleep_until(budget.clock.at(until)).await;
        }
    }

    /// Bytes that the kernel should buffer per connection, at most.
    pub(super) fn buffer_len(&self) -> Option<usize> {
        let budget = self.0.as_ref()?;
        let bytes = u128::from(budget.rate) * DOWNLOAD_BUFFER_TIME.as_millis() / 1000;
        let (min, max) = DOWNLOAD_BUFFER_LEN;
        Some(usize::try_from(bytes).unwrap_or(max).clamp(min, max))
    }
}

impl Budget {
    /// Notes `len` bytes received at `now_ns`; says when their time is over.
    fn reserve(&self, now_ns: u64, len: u64) -> u64 {
        let cost = u64::try_from(u128::from(len) * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX);
        let burst = u64::try_from(DOWNLOAD_BURST.as_nanos()).unwrap_or(u64::MAX);
        let after = |free: u64| free.max(now_ns.saturating_sub(burst)).saturating_add(cost);
        let (Ok(before) | Err(before)) =
            self.free_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| Some(after(free)));
        after(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_the_rate_whatever_their_frames() {
        for rate in [8_000, 1_250_000, 1_250_000_000] {
            let budget = Budget { rate, clock: Clock::start(), free_ns: AtomicU64::new(0) };
            // Three readers, each of which reads on when its frame has had its time.
            let mut readers = [(0u64, 65_535u64), (0, 256), (0, 16_384)];
            let (mut received, end) = (0, 10_000_000_000);
            while let Some(reader) = readers.iter_mut().filter(|reader| reader.0 < end).min_by_key(|reader| reader.0) {
                received += reader.1;
                reader.0 = budget.reserve(reader.0, reader.1).max(reader.0);
            }
            let allowed = 10 * rate;
            let frames = 65_535 + 256 + 16_384;
            assert!(received >= allowed && received <= allowed + allowed / 50 + frames, "{received} of {allowed}");
        }
    }

    #[test]
    fn a_quiet_time_is_not_saved_up() {
        let budget = Budget { rate: 1_000_000, clock: Clock::start(), free_ns: AtomicU64::new(0) };
        let now = 60_000_000_000;
        assert!(budget.reserve(now, 1_000) <= now, "a short burst");
        assert!(budget.reserve(now, 1_000_000) > now + 900_000_000);
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let download = Download::default();
        download.take(usize::MAX).await;
        assert_eq!(download.buffer_len(), None);
        let slow = Download::new(Clock::start(), Some(10_000));
        assert_eq!(slow.buffer_len(), Some(DOWNLOAD_BUFFER_LEN.0));
    }
}
