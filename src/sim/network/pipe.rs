//! One direction of a cable as a connection sees it: a reliable, ordered pipe. What is lost
//! below shows above as delay, as with TCP: the first loss of a segment costs a round trip
//! (fast retransmission), each further one of the same segment a retransmission time-out,
//! doubled every time (RFC 6298 §5.5), and everything behind it waits.
//! Missing on purpose: the transport's own congestion window.

use std::time::Duration;

use tarnet_core::rng::Rng;
use tarnet_core::time::{Instant, micros};

/// Bytes of a segment: what fits an Ethernet frame.
const SEGMENT_LEN: usize = 1460;
/// Least retransmission time-out, as in Linux.
const RETRANSMIT_MIN: Duration = Duration::from_millis(200);
/// Losses in a row of one segment, at most: then it comes through.
const LOSSES_MAX: u32 = 6;
/// One of a million.
pub const MILLION: u32 = 1_000_000;

/// What a cable is like, both ways alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// One-way delay.
    pub delay: Duration,
    /// How far the delay moves at random, percent.
    pub jitter_percent: u32,
    /// Bits per second.
    pub bits_per_s: u64,
    /// Segments lost, of a million.
    pub loss_ppm: u32,
}

impl Shape {
    /// A cable of 100 Mbit/s with a tenth of jitter and no loss.
    #[must_use]
    pub const fn with_delay(delay: Duration) -> Self {
        Self { delay, jitter_percent: 10, bits_per_s: 100_000_000, loss_ppm: 0 }
    }

    /// How long so many bytes are on the wire.
    pub(super) fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_micros(bytes.saturating_mul(8).saturating_mul(1_000_000) / self.bits_per_s.max(1))
    }
}

/// When a frame is off the sender's hands, and when it is at the receiver's.
pub(super) struct Passage {
    /// The socket has taken it.
    pub(super) written: Instant,
    /// It can be read.
    pub(super) arrives: Instant,
}

/// The state of one direction.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pipe {
    /// Until when the wire is busy with what was sent before.
    busy: Instant,
    /// When the last frame arrives: no later one arrives before.
    last: Instant,
}

impl Pipe {
    /// Sends `len` bytes.
    pub(super) fn send(&mut self, now: Instant, len: usize, shape: &Shape, rng: &mut Rng) -> Passage {
        let written = self.busy.max(now) + shape.time_of(u64::try_from(len).unwrap_or(u64::MAX));
        let delay = rng.jitter(shape.delay, shape.jitter_percent) + repair(len, shape, rng);
        let arrives = (written + delay).max(self.last);
        (self.busy, self.last) = (written, arrives);
        Passage { written, arrives }
    }
}

/// What losses add to the delay of `len` bytes.
fn repair(len: usize, shape: &Shape, rng: &mut Rng) -> Duration {
    let mut worst = Duration::ZERO;
    if shape.loss_ppm == 0 {
        return worst;
    }
    for _ in 0..len.div_ceil(SEGMENT_LEN) {
        let mut losses = 0;
        while losses < LOSSES_MAX && rng.public_below(u64::from(MILLION)) < u64::from(shape.loss_ppm) {
            losses += 1;
        }
        worst = worst.max(repair_time(losses, shape));
    }
    worst
}

/// Time that a segment lost so often needs more than one that is not.
fn repair_time(losses: u32, shape: &Shape) -> Duration {
    let round = shape.delay * 2;
    let timeout = micros(round * 2).max(micros(RETRANSMIT_MIN));
    match losses {
        0 => Duration::ZERO,
        more => round + Duration::from_micros(timeout * ((1 << (more - 1)) - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(loss_ppm: u32) -> Shape {
        Shape { loss_ppm, ..Shape::with_delay(Duration::from_millis(10)) }
    }

    #[test]
    fn frames_stay_in_order_whatever_is_lost() {
        let (mut pipe, mut rng) = (Pipe::default(), Rng::from_seed([1; 32]));
        let mut last = Instant::ZERO;
        for at in 0..1000 {
            let passage = pipe.send(Instant::from_micros(at * 500), 1200, &shape(200_000), &mut rng);
            assert!(passage.arrives >= last && passage.arrives >= passage.written);
            last = passage.arrives;
        }
    }

    #[test]
    fn bandwidth_spaces_frames() {
        let (mut pipe, mut rng) = (Pipe::default(), Rng::from_seed([1; 32]));
        let shape = Shape { bits_per_s: 8_000_000, ..shape(0) };
        let first = pipe.send(Instant::ZERO, 1000, &shape, &mut rng).written;
        let second = pipe.send(Instant::ZERO, 1000, &shape, &mut rng).written;
        assert_eq!((first.as_micros(), second.as_micros()), (1000, 2000));
    }

    #[test]
    fn losses_cost_a_round_trip_then_doubled_timeouts() {
        let times: Vec<u128> = (0..4).map(|losses| repair_time(losses, &shape(1)).as_millis()).collect();
        assert_eq!(times, [0, 20, 220, 620]);
    }
}
