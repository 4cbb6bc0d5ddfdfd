//! Round-trip time of one carrier and the timeouts that follow from it. RFC 9002 §5, §6.

use std::time::Duration;

use super::limits::{ACK_DELAY_MAX, GRANULARITY, PTO_MAX, RTT_INITIAL};

/// The estimator.
#[derive(Debug, Clone, Copy)]
pub struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    min: Duration,
}

impl Rtt {
    /// No sample yet.
    pub const fn new() -> Self {
        Self { smoothed: None, variation: Duration::ZERO, latest: RTT_INITIAL, min: Duration::MAX }
    }

    /// Takes a sample and the delay that the peer says it added. RFC 9002 §5.3.
    pub fn update(&mut self, sample: Duration, ack_delay: Duration) {
        self.latest = sample;
        self.min = self.min.min(sample);
        let delay = ack_delay.min(ACK_DELAY_MAX);
        let adjusted = if sample >= self.min + delay { sample - delay } else { sample };
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(adjusted)) / 4;
                self.smoothed = Some((smoothed * 7 + adjusted) / 8);
            }
        }
    }

    /// The estimate; the initial guess before any sample.
    pub fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(RTT_INITIAL)
    }

    /// The least sample; the longest time there is before any.
    pub const fn least(&self) -> Duration {
        self.min
    }

    /// Whether there was a sample.
    pub const fn sampled(&self) -> bool {
        self.smoothed.is_some()
    }

    /// Probe timeout before back-off. RFC 9002 §6.2.1.
    pub fn pto(&self) -> Duration {
        let variation = if self.sampled() { self.variation } else { RTT_INITIAL / 2 };
        self.smoothed() + (variation * 4).max(GRANULARITY) + ACK_DELAY_MAX
    }

    /// Probe timeout after `count` probes without an answer.
    pub fn pto_backed_off(&self, count: u32) -> Duration {
        self.pto().saturating_mul(1 << count.min(16)).min(PTO_MAX.max(self.pto()))
    }

    /// Age at which an overtaken packet counts as lost. RFC 9002 §6.1.2.
    pub fn loss_delay(&self) -> Duration {
        (self.smoothed().max(self.latest) * 9 / 8).max(GRANULARITY)
    }
}
