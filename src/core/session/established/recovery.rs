//! What was sent on one carrier and not yet acknowledged: loss detection by packet and
//! time threshold, and the probe timeout. RFC 9002 §6, appendix A.
//!
//! It knows nothing of what frames mean: it hands back the records of those that arrived
//! and those that must travel again.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use super::limits::PACKET_THRESHOLD;
use super::rtt::Rtt;
use super::sent::SentFrame;
use crate::time::{Instant, earliest};
use crate::wire::session_packet::Ack;

/// Frames of one packet; bulk has one or two.
pub type SentFrames = SmallVec<[SentFrame; 2]>;

/// A packet in flight.
pub struct Sent {
    /// When it left.
    pub at: Instant,
    /// Its bytes.
    pub len: u64,
    /// Number of the key it was sealed under.
    pub epoch: u64,
    /// What was in it.
    pub frames: SentFrames,
}

/// What an acknowledgement or a timer brought to light. Reused between calls.
#[derive(Default)]
pub struct Outcome {
    /// Frames that arrived.
    pub acked: Vec<SentFrame>,
    /// Frames that were lost.
    pub lost: Vec<SentFrame>,
    /// Bytes newly acknowledged.
    pub acked_len: u64,
    /// Packets newly acknowledged.
    pub acked_count: u64,
    /// Highest key number among them.
    pub acked_epoch: u64,
    /// Bytes in flight before.
    pub in_flight_before: u64,
    /// When the latest of the lost packets had left.
    pub lost_sent_at: Option<Instant>,
    /// Whether losses span so long that the window must start over. RFC 9002 §7.6.
    pub persistent: bool,
    /// A sample of the round-trip time.
    pub sample: Option<Duration>,
}

impl Outcome {
    /// Empties it for the next use.
    pub fn clear(&mut self) {
        let (mut acked, mut lost) = (std::mem::take(&mut self.acked), std::mem::take(&mut self.lost));
        acked.clear();
        lost.clear();
        *self = Self { acked, lost, ..Self::default() };
    }
}

/// The peer acknowledged what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeverSent;

/// Sent packets of one carrier, by number. Bounded by the congestion window and the replay window's length.
pub struct Recovery {
    next: u64,
    base: u64,
    sent: VecDeque<Option<Sent>>,
    in_flight: u64,
    eliciting: usize,
    largest_acked: Option<u64>,
    loss_at: Option<Instant>,
    last_sent_at: Instant,
    unanswered_since: Option<Instant>,
    pto_count: u32,
    /// Probe timeouts since the last sign of life, which need not be an answer.
    backed_off: u32,
    /// When an answer last ended a silence, and until when answers to what left before tell nothing of the round trip.
    silent_until: Instant,
    learn_from: Instant,
}

impl Recovery {
    /// Nothing sent yet.
    pub const fn new() -> Self {
        Self {
            next: 0,
            base: 0,
            sent: VecDeque::new(),
            in_flight: 0,
            eliciting: 0,
            largest_acked: None,
            loss_at: None,
            last_sent_at: Instant::ZERO,
            unanswered_since: None,
            pto_count: 0,
            backed_off: 0,
            silent_until: Instant::ZERO,
            learn_from: Instant::ZERO,
        }
    }

    /// Number of the next packet.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Bytes in flight.
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Packets between the oldest unsettled and the next.
    #[cfg(test)]
    pub fn span(&self) -> usize {
        self.sent.len()
    }

    /// Probe timeouts in a row.
    pub const fn pto_count(&self) -> u32 {
        self.pto_count
    }

    /// Since when packets have gone without any answer.
    pub const fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    /// Notes a packet that asks for no acknowledgement.
    pub fn handle_sent_silent(&mut self) {
        self.next += 1;
        if self.sent.is_empty() {
            self.base = self.next;
        } else {
            self.sent.push_back(None);
        }
    }

    /// Notes a packet that asks for an acknowledgement.
    pub fn handle_sent(&mut self, sent: Sent) {
        self.next += 1;
        self.in_flight += sent.len;
        self.eliciting += 1;
        self.last_sent_at = sent.at;
        self.unanswered_since.get_or_insert(sent.at);
        self.sent.push_back(Some(sent));
    }

    /// Takes the packet at an index out.
    fn take(&mut self, index: usize) -> Option<Sent> {
        let sent = self.sent.get_mut(index)?.take()?;
        self.in_flight -= sent.len;
        self.eliciting -= 1;
        Some(sent)
    }

    /// Where a number is in the queue; saturates below.
    fn index(&self, number: u64) -> usize {
        usize::try_from(number.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    /// Drops settled packets at the old end.
    fn trim(&mut self) {
        while matches!(self.sent.front(), Some(None)) {
            self.sent.pop_front();
            self.base += 1;
        }
    }

    /// Takes an acknowledgement.
    ///
    /// # Errors
    /// It names a packet that was never sent.
    pub fn handle_ack(&mut self, now: Instant, rtt: &mut Rtt, ack: &Ack, out: &mut Outcome) -> Result<(), NeverSent> {
        let largest = ack.ranges.first().map_or(0, |range| range.1);
        if largest >= self.next {
            return Err(NeverSent);
        }
        out.in_flight_before = self.in_flight;
        let (silent, learn) = (self.pto_count > 0, now >= self.learn_from);
        self.largest_acked = Some(self.largest_acked.map_or(largest, |before| before.max(largest)));
        for &(first, last) in &ack.ranges {
            if last < self.base {
                break;
            }
            for index in self.index(first)..=self.index(last) {
                if let Some(sent) = self.take(index) {
                    if self.base + index as u64 == largest && (silent || learn || sent.at >= self.silent_until) {
                        out.sample = Some(now.saturating_since(sent.at));
                    }
                    out.acked_len += sent.len;
                    out.acked_count += 1;
                    out.acked_epoch = out.acked_epoch.max(sent.epoch);
                    out.acked.extend(sent.frames);
                }
            }
        }
        if silent && out.acked_count > 0 {
            // A silence is not a round trip; but if round trips have become so long, we come nearer each time.
            out.sample = out.sample.map(|sample| sample.min(rtt.pto() * 2));
            (self.silent_until, self.learn_from) = (now, now + rtt.pto());
        }
        if let Some(sample) = out.sample {
            rtt.update(sample, Duration::from_micros(ack.delay_us));
        }
        if out.acked_count > 0 {
            (self.pto_count, self.backed_off) = (0, 0);
            self.unanswered_since = (self.eliciting > 0).then_some(now);
        }
        self.detect(now, rtt, out);
        Ok(())
    }

    /// Finds lost packets. RFC 9002 §6.1.
    pub fn detect(&mut self, now: Instant, rtt: &Rtt, out: &mut Outcome) {
        self.loss_at = None;
        self.trim();
        let Some(largest) = self.largest_acked else { return };
        let delay = rtt.loss_delay();
        let mut oldest: Option<Instant> = None;
        let end = self.index(largest + 1).min(self.sent.len());
        for index in 0..end {
            let Some(at) = self.sent[index].as_ref().map(|sent| sent.at) else {
                oldest = None;
                continue;
            };
            let overtaken = largest >= self.base + index as u64 + PACKET_THRESHOLD;
            if !overtaken && at + delay > now {
                self.loss_at = earliest(self.loss_at, Some(at + delay));
                continue;
            }
            let oldest = *oldest.get_or_insert(at);
            out.persistent |= rtt.sampled() && at.saturating_since(oldest) > rtt.pto() * 3;
            out.lost_sent_at = out.lost_sent_at.max(Some(at));
            if let Some(sent) = self.take(index) {
                out.lost.extend(sent.frames);
            }
        }
        self.trim();
    }

    /// When [`Recovery::detect`] must run again.
    pub const fn loss_at(&self) -> Option<Instant> {
        self.loss_at
    }

    /// When a probe is due. RFC 9002 §6.2.
    pub fn pto_at(&self, rtt: &Rtt) -> Option<Instant> {
        (self.eliciting > 0).then(|| self.last_sent_at + rtt.pto_backed_off(self.backed_off))
    }

    /// A probe is due: counts it, and gives copies of the frames of the oldest packets to send again. RFC 9002 §6.2.4.
    pub fn handle_pto(&mut self, now: Instant, packets: usize, out: &mut Vec<SentFrame>) {
        self.pto_count += 1;
        self.backed_off += 1;
        self.last_sent_at = now;
        for sent in self.sent.iter().flatten().take(packets) {
            out.extend(sent.frames.iter().copied());
        }
    }

    /// The peer is there, whatever became of what we sent: the next probe comes soon.
    pub const fn handle_heard(&mut self) {
        self.backed_off = 0;
    }

    /// A probe is due but the one before has not left yet.
    pub const fn postpone_pto(&mut self, now: Instant) {
        self.last_sent_at = now;
    }

    /// Gives up everything in flight, but not the carrier: probes go on, and the silence is still counted.
    pub fn move_on(&mut self, out: &mut Vec<SentFrame>) {
        let since = self.unanswered_since;
        self.abandon(out);
        self.unanswered_since = since;
    }

    /// Gives up everything in flight: it must travel on another carrier.
    pub fn abandon(&mut self, out: &mut Vec<SentFrame>) {
        for sent in self.sent.drain(..).flatten() {
            out.extend(sent.frames);
        }
        self.base = self.next;
        self.in_flight = 0;
        self.eliciting = 0;
        self.loss_at = None;
        self.unanswered_since = None;
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    const MS: u64 = 1_000;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * MS)
    }

    fn ack(ranges: &[(u64, u64)]) -> Ack {
        Ack { circuit: 0, delay_us: 0, marked: 0, ranges: ranges.into() }
    }

    fn sent(count: u64) -> (Recovery, Rtt, Outcome) {
        let mut recovery = Recovery::new();
        for number in 0..count {
            let frame = SentFrame::Data { channel: number, offset: 0, len: 1, fin: false };
            recovery.handle_sent(Sent { at: at(0), len: 100, epoch: 0, frames: smallvec![frame] });
        }
        (recovery, Rtt::new(), Outcome::default())
    }

    fn channels(frames: &[SentFrame]) -> Vec<u64> {
        frames.iter().map(|frame| if let SentFrame::Data { channel, .. } = frame { *channel } else { 99 }).collect()
    }

    #[test]
    fn a_packet_overtaken_by_three_is_lost() {
        let (mut recovery, mut rtt, mut out) = sent(5);
        recovery.handle_ack(at(10), &mut rtt, &ack(&[(3, 3)]), &mut out).unwrap();
        assert_eq!((channels(&out.acked), channels(&out.lost)), (vec![3], vec![0]));
        assert_eq!(recovery.in_flight(), 300);
        assert_eq!(rtt.smoothed(), Duration::from_millis(10));
        assert_eq!(recovery.loss_at(), Some(at(0) + rtt.loss_delay()));
        out.clear();
        recovery.detect(at(12), &rtt, &mut out);
        assert_eq!(channels(&out.lost), [1, 2]);
        assert_eq!(recovery.span(), 1);
    }

    #[test]
    fn what_was_never_sent_cannot_be_acknowledged() {
        let (mut recovery, mut rtt, mut out) = sent(2);
        assert_eq!(recovery.handle_ack(at(1), &mut rtt, &ack(&[(2, 2)]), &mut out), Err(NeverSent));
        assert_eq!(recovery.handle_ack(at(1), &mut rtt, &ack(&[(0, 1)]), &mut out), Ok(()));
        assert_eq!((recovery.in_flight(), recovery.span(), recovery.pto_at(&rtt)), (0, 0, None));
    }

    #[test]
    fn a_silence_is_no_round_trip_and_a_sign_of_life_ends_the_waiting() {
        let (mut recovery, mut rtt, mut out) = sent(3);
        rtt.update(Duration::from_millis(20), Duration::ZERO);
        let (before, mut again) = (rtt.pto(), Vec::new());
        for probe in 1..5 {
            recovery.handle_pto(at(probe * 1_000), 2, &mut again);
        }
        let patient = recovery.pto_at(&rtt).unwrap();
        recovery.handle_heard();
        assert!(recovery.pto_at(&rtt).unwrap() < patient);
        assert_eq!(recovery.pto_count(), 4, "no answer yet");
        for number in 0..3 {
            recovery.handle_ack(at(5_000), &mut rtt, &ack(&[(number, number)]), &mut out).unwrap();
            out.clear();
        }
        assert!(rtt.pto() < before * 4, "{:?} after {before:?}", rtt.pto());
    }

    #[test]
    fn a_queue_that_drains_slowly_is_learned_although_probes_were_sent() {
        let (mut recovery, mut rtt, mut out) = sent(0);
        rtt.update(Duration::from_millis(2), Duration::ZERO);
        for _ in 0..20 {
            recovery.handle_sent(Sent { at: at(0), len: 100, epoch: 0, frames: smallvec![] });
        }
        let mut again = Vec::new();
        for number in 0..20 {
            let now = at((number + 1) * 130);
            if recovery.pto_at(&rtt).unwrap() < now {
                recovery.handle_pto(now, 2, &mut again);
            }
            recovery.handle_ack(now, &mut rtt, &ack(&[(number, number)]), &mut out).unwrap();
            out.clear();
        }
        assert!(rtt.smoothed() > Duration::from_millis(1_000), "{:?}", rtt.smoothed());
    }

    #[test]
    fn round_trips_that_have_become_longer_are_learned() {
        let (mut recovery, mut rtt, mut out) = sent(0);
        rtt.update(Duration::from_millis(20), Duration::ZERO);
        let (mut now, mut again) = (0, Vec::new());
        for number in 0..30 {
            recovery.handle_sent(Sent { at: at(now), len: 100, epoch: 0, frames: smallvec![] });
            now += 2_000;
            if recovery.pto_at(&rtt).unwrap() < at(now) {
                recovery.handle_pto(at(now), 2, &mut again);
            }
            recovery.handle_ack(at(now), &mut rtt, &ack(&[(number, number)]), &mut out).unwrap();
            out.clear();
        }
        assert!(rtt.pto() > Duration::from_secs(2), "{:?}", rtt.pto());
    }

    #[test]
    fn probes_back_off_and_repeat_the_oldest() {
        let (mut recovery, rtt, _) = sent(3);
        let first = recovery.pto_at(&rtt).unwrap();
        assert_eq!(first, at(0) + rtt.pto());
        let mut again = Vec::new();
        recovery.handle_pto(first, 2, &mut again);
        assert_eq!(channels(&again), [0, 1]);
        assert_eq!(recovery.pto_at(&rtt), Some(first + rtt.pto() * 2));
        assert_eq!(recovery.in_flight(), 300);
    }
}
