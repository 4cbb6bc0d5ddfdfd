//! The node-wide upload limit: a bucket of bytes that all links share. Cells wait while it holds
//! less than one batch of them; so control messages, which may use that batch, hardly ever wait, and
//! signs of life never do. What control takes beyond is a debt that cells pay.

use super::limits::{BATCH_LEN_MAX, BATCH_LEN_SLOW, BATCH_TIME, BUCKET_LEN, UPLOAD_BURST};
use crate::time::{Instant, micros};

/// Microseconds of a second.
const SECOND_US: i128 = 1_000_000;

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pass {
    /// Signs of life.
    Life,
    /// Control messages, too.
    Control,
    /// Cells, too.
    Cells,
}

/// The bucket; without a limit it is never empty.
pub(super) struct Upload {
    bucket: Option<Bucket>,
}

/// A bucket of bytes, in millionths so that slow rates lose nothing to rounding.
struct Bucket {
    /// Bytes per second.
    rate: i128,
    /// Millionths of a byte; negative: a debt.
    tokens: i128,
    filled_at: Instant,
    /// What cells leave in it.
    reserve: i128,
    capacity: i128,
}

impl Upload {
    /// A full bucket that refills with so many bytes a second; no limit if there are none.
    pub(super) fn new(bytes_per_s: Option<u64>) -> Self {
        let bucket = bytes_per_s.map(|rate| {
            let rate = i128::from(rate.max(1));
            let reserve = (batch_len(rate) + BUCKET_LEN) as i128 * SECOND_US;
            let capacity = reserve + reserve.max(rate * i128::from(micros(UPLOAD_BURST)));
            Bucket { rate, tokens: capacity, filled_at: Instant::ZERO, reserve, capacity }
        });
        Self { bucket }
    }

    /// What may be sent now.
    pub(super) fn check(&mut self, now: Instant) -> Pass {
        let Some(bucket) = &mut self.bucket else { return Pass::Cells };
        bucket.fill(now);
        if bucket.tokens >= bucket.reserve {
            Pass::Cells
        } else if bucket.tokens >= 0 {
            Pass::Control
        } else {
            Pass::Life
        }
    }

    /// Bytes left.
    pub(super) fn handle_sent(&mut self, len: usize) {
        if let Some(bucket) = &mut self.bucket {
            bucket.tokens -= len as i128 * SECOND_US;
        }
    }

    /// When more than `pass` may be sent.
    pub(super) fn more_at(&self, pass: Pass) -> Option<Instant> {
        let bucket = self.bucket.as_ref()?;
        let wanted = match pass {
            Pass::Life => 0,
            Pass::Control => bucket.reserve,
            Pass::Cells => return None,
        };
        let wait_us = (wanted - bucket.tokens).max(0) / bucket.rate + 1;
        Some(bucket.filled_at + std::time::Duration::from_micros(u64::try_from(wait_us).unwrap_or(u64::MAX)))
    }

    /// Where a batch ends, so that a slow node's control messages need not wait long for the cells before them.
    pub(super) fn batch_len(&self) -> usize {
        self.bucket.as_ref().map_or(BATCH_LEN_MAX, |bucket| batch_len(bucket.rate))
    }
}

impl Bucket {
    /// Adds what the time since has earned.
    fn fill(&mut self, now: Instant) {
        let earned = self.rate * i128::from(micros(now - self.filled_at));
        self.tokens = (self.tokens + earned).min(self.capacity);
        self.filled_at = self.filled_at.max(now);
    }
}

/// Where a batch ends at that rate.
fn batch_len(rate: i128) -> usize {
    let len = rate * i128::from(micros(BATCH_TIME)) / SECOND_US;
    usize::try_from(len).unwrap_or(BATCH_LEN_MAX).clamp(BATCH_LEN_SLOW, BATCH_LEN_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sends batches of cells whenever they may go, and a little control every 100 ms; bytes sent, and how often
    /// control had to wait.
    fn run(rate: u64, seconds: u64) -> (u64, u32) {
        let mut upload = Upload::new(Some(rate));
        let (mut now, end) = (Instant::from_micros(5), Instant::from_micros(5 + seconds * 1_000_000));
        let (mut sent, mut waits, mut control_at) = (0u64, 0, now);
        while now < end {
            let pass = upload.check(now);
            if now >= control_at {
                waits += u32::from(pass == Pass::Life);
                upload.handle_sent(256);
                sent += 256;
                control_at = control_at + Duration::from_millis(100);
            } else if pass == Pass::Cells {
                upload.handle_sent(upload.batch_len());
                sent += upload.batch_len() as u64;
            } else {
                now = upload.more_at(pass).unwrap().min(control_at).max(now);
            }
        }
        (sent, waits)
    }

    #[test]
    fn ten_seconds_come_within_a_twentieth_of_the_rate_and_control_never_waits() {
        for rate in [125_000, 1_250_000, 12_500_000, 125_000_000] {
            let (sent, waits) = run(rate, 10);
            let off = sent.abs_diff(10 * rate) * 100 / (10 * rate);
            assert!(off < 5, "{rate} bytes/s: {sent} in 10 s");
            assert_eq!(waits, 0);
        }
        let (sent, _) = run(30_000, 60);
        assert!(sent.abs_diff(60 * 30_000) < 60 * 30_000 / 20, "{sent}");
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut upload = Upload::new(None);
        upload.handle_sent(usize::MAX);
        assert_eq!((upload.check(Instant::ZERO), upload.more_at(Pass::Cells)), (Pass::Cells, None));
        assert_eq!(upload.batch_len(), BATCH_LEN_MAX);
    }

    #[test]
    fn control_beyond_the_bucket_is_a_debt_that_cells_pay() {
        let mut upload = Upload::new(Some(100_000));
        let start = Instant::from_micros(1_000_000);
        upload.check(start);
        upload.handle_sent(200_000);
        assert_eq!(upload.check(start), Pass::Life);
        let control = upload.more_at(Pass::Life).unwrap();
        assert_eq!(upload.check(control), Pass::Control);
        let cells = upload.more_at(Pass::Control).unwrap();
        assert!(cells > control && upload.check(cells) == Pass::Cells);
        let sent = 200_000 - micros(cells - start) / 10;
        assert!(sent < 50_000, "time paid for it");
    }
}
