//! How fast a link's transport takes what it is given, and what follows from that: on a slow link
//! batches are short, one is under way at a time, and the kernel holds little unsent, so that what
//! waits waits in the scheduler, where its turn can still come first.
//!
//! Measured while the transport is busy: bytes written per time, over [`SPEED_SAMPLE`] at least. A
//! faster sample counts at once, a slower one in part. Until then a link counts as slow: a fast one shows
//! itself within milliseconds, while a slow one's kernel would swallow the first window of a transfer, and
//! keep whoever comes next waiting for all of it. Work per batch is constant.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use super::limits::{
    BATCH_LEN_MAX, BATCH_LEN_SLOW, BATCH_TIME, BATCHES_OUTSTANDING, BURSTS_RTT, CELL_LEN_MAX, CELL_QUEUE_LOW,
    DELAY_TARGET, DELAY_TARGET_CELLS, SPEED_SAMPLE, UNSENT_MAX, UNSENT_MIN, UNSENT_RTT_PART, UNSENT_TIME_MAX,
};
use crate::time::{Instant, micros};

/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// The speed of one link's transport.
pub(super) struct Speed {
    /// Bytes of the batches that the transport has taken and not written, oldest first.
    under_way: VecDeque<usize>,
    /// Since when it has been busy, or when the last sample ended.
    since: Instant,
    /// Bytes written since then.
    bytes: u64,
    /// When the last batch was written.
    written_at: Instant,
    /// Whether something waited when the last batch was written, here or at a session that had asked for room: then the
    /// pause before the next is the link's own.
    busy: bool,
    /// Whether a session asked for room, in vain, since then.
    asked: Cell<bool>,
    /// Bytes per second, once known.
    rate: Option<u64>,
    /// What the transport was last told of unsent bytes.
    unsent: u32,
}

impl Default for Speed {
    fn default() -> Self {
        let under_way = VecDeque::with_capacity(usize::from(BATCHES_OUTSTANDING));
        Self {
            under_way,
            since: Instant::ZERO,
            bytes: 0,
            written_at: Instant::ZERO,
            busy: false,
            asked: Cell::new(false),
            rate: None,
            unsent: UNSENT_MIN,
        }
    }
}

impl Speed {
    /// Whether the transport may have another batch.
    pub(super) fn has_credit(&self) -> bool {
        self.under_way.len() < usize::from(if self.is_fast() { BATCHES_OUTSTANDING } else { 1 })
    }

    /// A batch goes to the transport.
    pub(super) fn handle_sent(&mut self, now: Instant, len: usize) {
        // Who asked for room may have nothing to say when there is some; a pause that long is not the link's own.
        let paused = !self.busy || now - self.written_at > BATCH_TIME;
        if self.under_way.is_empty() && paused {
            (self.since, self.bytes) = (now, 0);
        }
        self.under_way.push_back(len);
    }

    /// The oldest batch was written; `waiting` says whether more is there. Gives the bytes that the transport
    /// should hold unsent from now on, if that changed.
    pub(super) fn handle_written(&mut self, now: Instant, waiting: bool, rtt: Duration) -> Option<u32> {
        self.bytes += self.under_way.pop_front()? as u64;
        self.written_at = now;
        self.busy = waiting || self.asked.take();
        let elapsed = now - self.since;
        if elapsed < SPEED_SAMPLE {
            return None;
        }
        let sample = self.bytes.saturating_mul(SECOND_US) / micros(elapsed).max(1);
        let rate = self.rate.unwrap_or(sample);
        self.rate = Some(if sample > rate { sample } else { (rate * 3 + sample) / 4 });
        (self.since, self.bytes) = (now, 0);
        self.change_of_unsent(rtt)
    }

    /// Where a batch of more than one message ends.
    pub(super) fn batch_len(&self) -> usize {
        self.bytes_in(BATCH_TIME).map_or(BATCH_LEN_SLOW, |len| {
            usize::try_from(len).unwrap_or(BATCH_LEN_MAX).clamp(BATCH_LEN_SLOW, BATCH_LEN_MAX)
        })
    }

    /// Whether sessions may add a cell to the `queued` bytes of cells: on a fast link one batch ahead, so that the next is
    /// full; on a slow one when the transport takes it at once, so that what comes first is decided last.
    pub(super) fn has_room(&self, queued: usize) -> bool {
        let room = if self.is_fast() { queued < CELL_QUEUE_LOW } else { queued == 0 && self.has_credit() };
        self.asked.set(self.asked.get() || !room);
        room
    }

    /// How long a cell may wait without a mark.
    pub(super) fn delay_target(&self) -> Duration {
        let cells = u64::from(DELAY_TARGET_CELLS) * CELL_LEN_MAX as u64;
        let time = |rate: u64| Duration::from_micros(cells * SECOND_US / rate.max(1));
        self.rate.map_or(DELAY_TARGET, |rate| time(rate).max(DELAY_TARGET))
    }

    /// Whether full batches take less than [`BATCH_TIME`], as far as is known.
    fn is_fast(&self) -> bool {
        self.batch_len() == BATCH_LEN_MAX
    }

    /// Bytes that pass in that time, if the speed is known.
    fn bytes_in(&self, time: Duration) -> Option<u64> {
        Some(self.rate?.saturating_mul(micros(time)) / SECOND_US)
    }

    /// Bytes for the transport to hold unsent, if they differ enough from what it was told.
    fn change_of_unsent(&mut self, rtt: Duration) -> Option<u32> {
        let time = (rtt / UNSENT_RTT_PART).clamp(BATCH_TIME, UNSENT_TIME_MAX);
        let wanted = self.bytes_in(time)?.clamp(UNSENT_MIN.into(), UNSENT_MAX.into());
        let wanted = 1 << u32::try_from(wanted).unwrap_or(UNSENT_MAX).ilog2();
        // A rate between two powers must not send word with every sample.
        if wanted <= self.unsent && wanted * 2 >= self.unsent {
            return None;
        }
        self.unsent = wanted;
        Some(wanted)
    }
}

/// Whether a transport that may hold `unsent` bytes may send them in bursts: on the fastest links, where they are also
/// short.
pub(super) fn may_burst(unsent: u32, rtt_min: Duration) -> bool {
    unsent == UNSENT_MAX && rtt_min < BURSTS_RTT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps a transport of that speed busy for a while; what it was told of unsent bytes, in order.
    fn run(speed: &mut Speed, now: &mut Instant, bytes_per_s: u64, batches: usize) -> Vec<u32> {
        let mut told = Vec::new();
        for _ in 0..batches {
            let len = speed.batch_len();
            assert!(speed.has_credit());
            speed.handle_sent(*now, len);
            *now = *now + Duration::from_micros(len as u64 * SECOND_US / bytes_per_s);
            told.extend(speed.handle_written(*now, true, Duration::ZERO));
        }
        told
    }

    #[test]
    fn batches_shrink_to_the_speed_of_the_link_and_grow_again() {
        let (mut speed, mut now) = (Speed::default(), Instant::ZERO);
        assert_eq!((speed.batch_len(), speed.delay_target()), (BATCH_LEN_SLOW, DELAY_TARGET));
        assert!(run(&mut speed, &mut now, 2_500_000, 50).is_empty());
        assert!(speed.has_room(0) && !speed.has_room(1));
        assert_eq!(speed.batch_len(), BATCH_LEN_SLOW);
        assert!((Duration::from_millis(6)..Duration::from_millis(8)).contains(&speed.delay_target()));
        speed.handle_sent(now, 1);
        assert!(!speed.has_credit() && !speed.has_room(0), "one batch is under way on a slow link");
        speed.handle_written(now, true, Duration::ZERO);
        assert_eq!(run(&mut speed, &mut now, 125_000_000, 500), [UNSENT_MAX]);
        assert_eq!((speed.batch_len(), speed.delay_target()), (BATCH_LEN_MAX, DELAY_TARGET));
        speed.handle_sent(now, 1);
        assert!(speed.has_credit() && speed.has_room(CELL_QUEUE_LOW - 1) && !speed.has_room(CELL_QUEUE_LOW));
    }

    #[test]
    fn a_long_link_holds_more_unsent() {
        let mut told = Vec::new();
        for rtt_ms in [1, 40, 100, 300] {
            let mut speed = Speed::default();
            for step in 1..100u64 {
                speed.handle_sent(Instant::from_micros(step * 1_600), 10_000);
                let rtt = Duration::from_millis(rtt_ms);
                speed.handle_written(Instant::from_micros(step * 1_600 + 1_600), true, rtt);
            }
            told.push(speed.unsent);
        }
        assert_eq!(told, [16_384, 16_384, 65_536, UNSENT_MAX], "bytes at 6.25 MB/s");
    }

    #[test]
    fn a_session_that_fills_a_link_by_itself_shows_its_speed() {
        let mut speed = Speed::default();
        // One batch at a time, and the next when it was written: nothing ever waits here, but at the session.
        for step in 0..400_u64 {
            assert!(speed.has_room(0));
            speed.handle_sent(Instant::from_micros(step * 50), speed.batch_len());
            let _ = speed.has_credit() || speed.has_room(0);
            speed.handle_written(Instant::from_micros(step * 50 + 50), false, Duration::ZERO);
        }
        assert!(speed.is_fast());
    }

    #[test]
    fn what_is_not_busy_says_nothing_about_speed() {
        let (mut speed, mut now) = (Speed::default(), Instant::ZERO);
        for _ in 0..1000 {
            speed.handle_sent(now, 300);
            assert!(!speed.has_room(0), "and somebody asked for room");
            now = now + Duration::from_millis(1);
            assert_eq!(speed.handle_written(now, false, Duration::ZERO), None);
            now = now + Duration::from_millis(50);
        }
        assert_eq!(speed.rate, None);
    }

    #[test]
    fn a_rate_between_two_steps_is_not_told_again_and_again() {
        let (mut speed, mut now) = (Speed::default(), Instant::ZERO);
        let mut told = Vec::new();
        for round in 0..200 {
            told.extend(run(&mut speed, &mut now, if round % 2 == 0 { 3_200_000 } else { 3_400_000 }, 5));
        }
        assert_eq!(told, [2 * UNSENT_MIN]);
    }

    #[test]
    fn only_short_and_fast_links_may_burst() {
        let (near, far) = (Duration::from_micros(999), Duration::from_millis(1));
        assert!(may_burst(UNSENT_MAX, near));
        assert!(!may_burst(UNSENT_MAX, far) && !may_burst(UNSENT_MAX / 2, near));
    }
}
