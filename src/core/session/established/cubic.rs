//! Congestion control of one carrier: CUBIC (RFC 9438) with HyStart++ (RFC 9406), which
//! also answers congestion marks in proportion, as DCTCP does (RFC 8257). In integers, so
//! that every machine computes the same.
//!
//! Segments are full packets of 16 KiB: loss and marks come per packet here, and so the
//! growth per round trip does, too.

use std::time::Duration;

use super::limits::{PACKET_LEN_MAX, WINDOW_INITIAL, WINDOW_MAX, WINDOW_MIN};
use crate::time::{Instant, micros};

/// Bytes of a segment.
const SEGMENT: u64 = PACKET_LEN_MAX as u64;
/// Samples of a round before HyStart++ judges it. RFC 9406 §4.3.
const ROUND_SAMPLES: u32 = 8;
/// Rounds of conservative slow start. RFC 9406 §4.3.
const CAUTIOUS_ROUNDS: u32 = 5;
/// Divisor of growth in conservative slow start. RFC 9406 §4.3.
const CAUTIOUS_DIVISOR: u64 = 4;
/// Bounds of the delay increase that counts. RFC 9406 §4.3.
const RTT_RISE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(16));
/// One, in the fixed point of the marked share.
const SHARE_ONE: u64 = 1 << 16;

/// The marked share assumed at first: the answer is CUBIC's to a loss. In slow start the mark was made when the window
/// was half of what it is when the mark is heard, and pacing fills queues before the path is full. RFC 8511 §3.
const SHARE_FIRST: u64 = SHARE_ONE * 6 / 10;
/// The marked share assumed once the path's capacity is known otherwise than by a mark: the first mark then says that
/// the window is a little too large, not up to twice.
const SHARE_LATER: u64 = SHARE_ONE / 4;

/// What an acknowledgement brought, for [`Cubic::handle_ack`].
#[derive(Debug, Clone, Copy)]
pub struct Acked {
    /// Bytes newly acknowledged.
    pub len: u64,
    /// Packets newly acknowledged.
    pub count: u64,
    /// Packets newly reported as marked.
    pub marked: u64,
    /// Bytes in flight before.
    pub in_flight: u64,
    /// Highest packet number acknowledged.
    pub largest: u64,
    /// The next packet's number.
    pub next: u64,
    /// Round-trip time sample, if there is one.
    pub sample: Option<Duration>,
    /// Smoothed round-trip time.
    pub rtt: Duration,
}

/// HyStart++ state: rounds of slow start.
#[derive(Debug)]
struct Rounds {
    end: u64,
    last_min: Duration,
    min: Duration,
    samples: u32,
    /// Whether the link to the neighbour held the sender up in this round: a longer round trip is its queue then, which
    /// its own congestion control answers for.
    held: bool,
    /// Baseline and rounds left of conservative slow start.
    cautious: Option<(Duration, u32)>,
}

/// DCTCP state: the marked share.
#[derive(Debug)]
struct Marks {
    end: u64,
    acked: u64,
    marked: u64,
    share: u64,
    reduced: bool,
}

/// CUBIC's growth since the last reduction.
#[derive(Debug)]
struct Epoch {
    start: Instant,
    /// Time from the start to the plateau, milliseconds.
    k_ms: u64,
    /// Window that Reno would have.
    reno: u64,
}

/// The controller.
#[derive(Debug)]
pub struct Cubic {
    window: u64,
    threshold: u64,
    window_max: u64,
    prior: u64,
    epoch: Option<Epoch>,
    recovery_since: Option<Instant>,
    acked_at: Instant,
    /// The shortest round trip seen.
    rtt_min: Duration,
    rounds: Rounds,
    marks: Marks,
}

/// The largest number whose cube is at most `value`.
fn cube_root(value: u128) -> u64 {
    let mut root = 0u64;
    for bit in (0..42).rev() {
        let tried = u128::from(root | 1 << bit);
        if tried * tried * tried <= value {
            root |= 1 << bit;
        }
    }
    root
}

impl Cubic {
    /// The controller of a new carrier.
    pub const fn new() -> Self {
        let rounds =
            Rounds { end: 0, last_min: Duration::MAX, min: Duration::MAX, samples: 0, held: false, cautious: None };
        Self {
            window: WINDOW_INITIAL,
            threshold: u64::MAX,
            window_max: 0,
            prior: 0,
            epoch: None,
            recovery_since: None,
            acked_at: Instant::ZERO,
            rtt_min: Duration::MAX,
            rounds,
            marks: Marks { end: 0, acked: 0, marked: 0, share: SHARE_FIRST, reduced: false },
        }
    }

    /// The congestion window, bytes.
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// Whether it is still looking for the path's capacity.
    pub const fn slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// The link to the neighbour takes no more for now, though the window would.
    pub const fn handle_held(&mut self) {
        self.rounds.held = true;
    }

    /// Takes an acknowledgement.
    pub fn handle_ack(&mut self, now: Instant, acked: &Acked) {
        let idle = now.saturating_since(std::mem::replace(&mut self.acked_at, now));
        self.rtt_min = self.rtt_min.min(acked.sample.unwrap_or(Duration::MAX));
        if self.handle_marks(now, acked) {
            return;
        }
        // Growth is only earned by a window that was used. RFC 9002 §7.8.
        if self.slow_start() {
            if acked.in_flight * 2 >= self.window {
                self.grow_exponentially(acked);
            }
        } else if acked.in_flight + 3 * SEGMENT >= self.window {
            self.grow_cubically(now, acked);
        } else if let Some(epoch) = &mut self.epoch {
            epoch.start = epoch.start + idle;
        }
        self.window = self.window.min(WINDOW_MAX);
    }

    /// Slow start with HyStart++. RFC 9406 §4.2.
    fn grow_exponentially(&mut self, acked: &Acked) {
        let rounds = &mut self.rounds;
        self.window += acked.len / if rounds.cautious.is_some() { CAUTIOUS_DIVISOR } else { 1 };
        if let Some(sample) = acked.sample {
            rounds.min = rounds.min.min(sample);
            rounds.samples += 1;
        }
        if rounds.samples >= ROUND_SAMPLES && rounds.last_min != Duration::MAX {
            let rise = (rounds.last_min / 8).clamp(RTT_RISE.0, RTT_RISE.1);
            match rounds.cautious {
                _ if rounds.held => rounds.cautious = None,
                None if rounds.min >= rounds.last_min + rise => rounds.cautious = Some((rounds.min, CAUTIOUS_ROUNDS)),
                Some((baseline, _)) if rounds.min < baseline => rounds.cautious = None,
                None | Some(_) => {}
            }
        }
        if acked.largest >= rounds.end {
            rounds.end = acked.next;
            rounds.last_min = rounds.min;
            rounds.min = Duration::MAX;
            rounds.samples = 0;
            rounds.held = false;
            if let Some((_, left)) = &mut rounds.cautious {
                *left -= 1;
                if *left == 0 {
                    self.threshold = self.window;
                    self.marks.share = self.marks.share.min(SHARE_LATER);
                }
            }
        }
    }

    /// Congestion avoidance. RFC 9438 §4.2 to §4.5.
    fn grow_cubically(&mut self, now: Instant, acked: &Acked) {
        let window = self.window;
        self.window_max = self.window_max.max(1);
        let epoch = self.epoch.get_or_insert_with(|| {
            // K = cbrt((W_max - cwnd) / C) seconds, with C = 0.4 segments per second cubed.
            let below = u128::from(self.window_max.saturating_sub(window));
            Epoch { start: now, k_ms: cube_root(below * 2_500_000_000 / u128::from(SEGMENT)), reno: window }
        });
        let plateau = self.window_max.max(if epoch.k_ms == 0 { epoch.reno } else { 0 });
        // Reno's share: alpha = 3 (1 - beta) / (1 + beta) = 9/17 until the prior window is reached, then 1.
        let alpha = if epoch.reno < self.prior { (9, 17) } else { (1, 1) };
        epoch.reno += acked.len * SEGMENT / window * alpha.0 / alpha.1;
        let reno = epoch.reno;
        let elapsed = now.saturating_since(epoch.start);
        let present = cubic_at(plateau, epoch.k_ms, elapsed);
        if present < reno {
            self.window = window.max(reno);
            return;
        }
        let target = cubic_at(plateau, epoch.k_ms, elapsed + acked.rtt).clamp(window, window + window / 2);
        let step = u128::from(target - window) * u128::from(acked.len) / u128::from(window);
        self.window += u64::try_from(step).unwrap_or(0);
    }

    /// Keeps the marked share and reduces by it once a round trip; true if it did. RFC 8257 §3.3.
    fn handle_marks(&mut self, now: Instant, acked: &Acked) -> bool {
        let marks = &mut self.marks;
        marks.acked += acked.count;
        marks.marked += acked.marked;
        if acked.largest >= marks.end {
            let share = SHARE_ONE * marks.marked.min(marks.acked) / marks.acked.max(1);
            if marks.acked > 0 && marks.end > 0 {
                marks.share = marks.share - marks.share / 16 + share / 16;
            }
            *marks = Marks { end: acked.next, acked: 0, marked: 0, share: marks.share, reduced: false };
        }
        if acked.marked == 0 || marks.reduced {
            return false;
        }
        marks.reduced = true;
        // What left before this reduction says nothing of it: the next comes when what leaves after it was acknowledged.
        marks.end = acked.next;
        let share = marks.share;
        let mut window = self.window - self.window / 2 * share / SHARE_ONE;
        if self.slow_start() {
            window = window.min(self.fitting(acked));
        }
        self.reduce(now, window);
        true
    }

    /// What the path holds without a queue, and two segments: the window, by how much longer a round trip takes now than
    /// it can. The first window alone may be many times that, and halving would take as many round trips.
    fn fitting(&self, acked: &Acked) -> u64 {
        let rtt = micros(acked.sample.unwrap_or(acked.rtt)).max(1);
        let held = u128::from(self.window) * u128::from(micros(self.rtt_min).min(rtt)) / u128::from(rtt);
        u64::try_from(held).unwrap_or(u64::MAX).saturating_add(2 * SEGMENT)
    }

    /// Takes the news that packets were lost, the latest of which left at `sent_at`. RFC 9438 §4.6.
    pub fn handle_loss(&mut self, now: Instant, sent_at: Instant, persistent: bool) {
        if persistent {
            self.window = WINDOW_MIN;
            self.epoch = None;
            self.recovery_since = Some(now);
            return;
        }
        if self.recovery_since.is_some_and(|since| sent_at <= since) {
            return;
        }
        self.recovery_since = Some(now);
        self.marks.share = self.marks.share.min(SHARE_LATER);
        self.reduce(now, self.window * 7 / 10);
    }

    /// Goes down to `window` and starts a new epoch of growth there.
    fn reduce(&mut self, now: Instant, window: u64) {
        // Fast convergence. RFC 9438 §4.7.
        self.window_max = if self.window < self.window_max { self.window * 17 / 20 } else { self.window };
        self.prior = self.window;
        self.window = window.max(WINDOW_MIN);
        self.threshold = self.window;
        self.epoch = None;
        self.acked_at = now;
    }
}

/// CUBIC's window at a time since the reduction: `C (t - K)^3 + W_max`. RFC 9438 §4.2.
fn cubic_at(plateau: u64, k_ms: u64, elapsed: Duration) -> u64 {
    let t_ms = i128::from(micros(elapsed) / 1_000).min(1 << 30);
    let distance = t_ms - i128::from(k_ms);
    let change = distance * distance * distance * i128::from(SEGMENT) * 4 / 10_000_000_000;
    u64::try_from(i128::from(plateau) + change).unwrap_or(0).min(2 * WINDOW_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(window: u64, len: u64, round: u64) -> Acked {
        let rtt = Duration::from_millis(20);
        Acked { len, count: 1, marked: 0, in_flight: window, largest: round, next: round + 1, sample: Some(rtt), rtt }
    }

    #[test]
    fn cube_roots_are_exact() {
        for value in [0, 1, 7, 8, 26, 27, 1_000_000_000, (1 << 60) - 1] {
            let root = u128::from(cube_root(value));
            assert!(root.pow(3) <= value && (root + 1).pow(3) > value);
        }
    }

    #[test]
    fn slow_start_doubles_per_window_and_an_unused_window_does_not_grow() {
        let mut cubic = Cubic::new();
        cubic.handle_ack(Instant::ZERO, &acked(0, WINDOW_INITIAL, 1));
        assert_eq!(cubic.window(), WINDOW_INITIAL);
        cubic.handle_ack(Instant::ZERO, &acked(WINDOW_INITIAL, WINDOW_INITIAL, 1));
        assert_eq!(cubic.window(), 2 * WINDOW_INITIAL);
    }

    #[test]
    fn a_loss_takes_three_tenths_once_per_round_and_growth_returns_to_the_old_window() {
        let mut cubic = Cubic::new();
        for round in 1..4 {
            cubic.handle_ack(Instant::ZERO, &acked(cubic.window(), cubic.window(), round));
        }
        let before = cubic.window();
        let mut now = Instant::from_micros(1_000_000);
        cubic.handle_loss(now, now, false);
        cubic.handle_loss(now, now, false);
        assert_eq!(cubic.window(), before * 7 / 10);
        let mut round = 10;
        while cubic.window() < before {
            now = now + Duration::from_millis(20);
            round += 1;
            cubic.handle_ack(now, &acked(cubic.window(), cubic.window(), round));
        }
        let seconds = now.as_micros() as f64 / 1e6 - 1.0;
        assert!((0.2..4.0).contains(&seconds), "back after {seconds} s");
    }

    #[test]
    fn marks_reduce_by_their_share() {
        let mut cubic = Cubic::new();
        cubic.handle_ack(Instant::ZERO, &Acked { marked: 1, ..acked(0, SEGMENT, 1) });
        let after = cubic.window();
        assert!((WINDOW_INITIAL * 69 / 100..=WINDOW_INITIAL * 71 / 100).contains(&after), "three tenths: {after}");
        for round in 2..200 {
            cubic.handle_ack(Instant::ZERO, &acked(0, SEGMENT, round));
        }
        let before = cubic.window();
        cubic.handle_ack(Instant::ZERO, &Acked { marked: 1, ..acked(0, SEGMENT, 200) });
        assert!(cubic.window() > before * 9 / 10 && cubic.window() <= before, "a rare mark costs little");
    }

    #[test]
    fn the_first_mark_after_slow_start_does_not_halve() {
        let mut cubic = Cubic::new();
        cubic.handle_loss(Instant::from_micros(1), Instant::from_micros(1), false);
        for round in 1..400 {
            let now = Instant::from_micros(round * 20_000);
            cubic.handle_ack(now, &acked(cubic.window(), cubic.window(), round));
        }
        let before = cubic.window();
        cubic.handle_ack(Instant::from_micros(9_000_000), &Acked { marked: 1, ..acked(before, SEGMENT, 401) });
        assert!(cubic.window() > before * 8 / 10, "{} of {before}", cubic.window());
    }

    #[test]
    fn a_mark_in_slow_start_takes_the_window_to_what_the_path_holds() {
        let mut cubic = Cubic::new();
        for round in 1..6 {
            cubic.handle_ack(Instant::ZERO, &acked(cubic.window(), cubic.window(), round));
        }
        let window = cubic.window();
        let late = Some(Duration::from_millis(160));
        cubic.handle_ack(Instant::ZERO, &Acked { marked: 1, sample: late, ..acked(window, SEGMENT, 6) });
        assert_eq!(cubic.window(), window / 8 + 2 * SEGMENT, "a round trip takes 160 ms in place of 20");
        assert!(!cubic.slow_start());
    }

    /// Twelve rounds in each of which a round trip takes ten milliseconds longer.
    fn rising_delay(cubic: &mut Cubic, held: bool) {
        let mut now = cubic.acked_at;
        let mut number = cubic.rounds.end;
        for round in 0..12u64 {
            for _ in 0..10 {
                if held {
                    cubic.handle_held();
                }
                now = now + Duration::from_millis(1);
                number += 1;
                let sample = Some(Duration::from_millis(20 + 10 * round));
                let step = Acked { largest: number, next: number + 10, sample, ..acked(cubic.window(), SEGMENT, 0) };
                cubic.handle_ack(now, &step);
            }
        }
    }

    #[test]
    fn rising_delay_ends_slow_start() {
        let mut cubic = Cubic::new();
        rising_delay(&mut cubic, false);
        assert!(!cubic.slow_start());
    }

    #[test]
    fn the_delay_of_a_link_that_holds_the_sender_up_does_not() {
        let mut cubic = Cubic::new();
        rising_delay(&mut cubic, true);
        assert!(cubic.slow_start());
        rising_delay(&mut cubic, false);
        assert!(!cubic.slow_start(), "but that of a path does");
    }
}
