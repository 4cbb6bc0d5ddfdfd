//! What was received on one circuit: the replay window, the ranges to acknowledge, and
//! when an acknowledgement is due.

use std::time::Duration;

use super::event::CarrierId;
use super::limits::{
    ACK_DELAY_BULK, ACK_DELAY_MAX, ACK_EVERY, ACK_EVERY_BULK, ACK_RANGES_MAX, BULK_AFTER, REPLAY_WINDOW, REPLAY_WORDS,
};
use super::ranges::Ranges;
use crate::defence::{self, Defence};
use crate::time::{Instant, micros};
use crate::wire::session_packet::Ack;

/// Packet numbers seen lately: a ring of bits below the highest.
struct Window {
    next: u64,
    bits: [u64; REPLAY_WORDS],
}

impl Window {
    /// Which word and bit stand for a number.
    fn place(number: u64) -> (usize, u64) {
        let bit = number % REPLAY_WINDOW;
        (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
    }

    /// Notes a number; false when it was seen already or is too old to know.
    fn insert(&mut self, number: u64) -> bool {
        if number >= self.next {
            if number - self.next >= REPLAY_WINDOW {
                self.bits = [0; REPLAY_WORDS];
            } else {
                for skipped in self.next..=number {
                    let (word, bit) = Self::place(skipped);
                    self.bits[word] &= !bit;
                }
            }
            self.next = number + 1;
        } else if self.next - number > REPLAY_WINDOW {
            return false;
        }
        let (word, bit) = Self::place(number);
        let fresh = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        fresh
    }
}

/// The receiving half of one circuit's packet numbers.
pub struct Received {
    window: Window,
    ranges: Ranges,
    largest_at: Instant,
    marked: u64,
    marked_told: u64,
    waiting: u32,
    orderly: u32,
    due: Option<Instant>,
    home: CarrierId,
    heard_at: Instant,
}

impl Received {
    /// Nothing received yet on the circuit that a carrier brought.
    pub fn new(home: CarrierId) -> Self {
        Self {
            window: Window { next: 0, bits: [0; REPLAY_WORDS] },
            ranges: Ranges::default(),
            largest_at: Instant::ZERO,
            marked: 0,
            marked_told: 0,
            waiting: 0,
            orderly: 0,
            due: None,
            home,
            heard_at: Instant::ZERO,
        }
    }

    /// The carrier that its packets come on: where acknowledgements go, so that the sender's samples are that carrier's.
    pub const fn home(&self) -> CarrierId {
        self.home
    }

    /// When the last packet came.
    pub const fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Notes where an authentic packet came from.
    pub const fn handle_from(&mut self, now: Instant, from: CarrierId) {
        (self.home, self.heard_at) = (from, now);
    }

    /// Notes an authentic packet; false when it is a repeat or too old, and must not be looked into.
    pub fn insert(&mut self, now: Instant, number: u64, marked: bool) -> bool {
        if number == u64::MAX || !self.window.insert(number) && defence::on(Defence::PacketOnce) {
            return false;
        }
        let expected = self.ranges.end();
        self.ranges.insert(number, number + 1);
        if number >= expected {
            self.largest_at = now;
        }
        if self.ranges.len() > ACK_RANGES_MAX {
            self.ranges.pop_first();
        }
        self.orderly = if number == expected { self.orderly.saturating_add(1) } else { 0 };
        self.marked += u64::from(marked);
        true
    }

    /// Decides when to acknowledge, after a packet that asks for it: at once on a gap, else by count or time.
    pub fn handle_eliciting(&mut self, now: Instant) {
        self.waiting += 1;
        let bulk = self.orderly > BULK_AFTER;
        let (every, delay) = if bulk { (ACK_EVERY_BULK, ACK_DELAY_BULK) } else { (ACK_EVERY, ACK_DELAY_MAX) };
        let at_once = self.orderly == 0 || self.waiting >= every || (self.marked > 0) != (self.marked_told > 0);
        let delay = if at_once { Duration::ZERO } else { delay };
        let due = now + delay;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When an acknowledgement must leave at the latest.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The acknowledgement to put into a packet now, if anything new can be said.
    pub fn take_ack(&mut self, now: Instant, circuit: u32) -> Option<Ack> {
        if self.waiting == 0 {
            return None;
        }
        self.waiting = 0;
        self.due = None;
        self.marked_told = self.marked;
        let ranges: smallvec::SmallVec<_> = self.ranges.descending().map(|(start, end)| (start, end - 1)).collect();
        let delay_us = micros(now.saturating_since(self.largest_at));
        (!ranges.is_empty()).then_some(Ack { circuit, delay_us, marked: self.marked, ranges })
    }

    /// The peer saw an acknowledgement that went up to `largest`: what is below need not be repeated. RFC 9000 §13.2.4.
    pub fn handle_ack_seen(&mut self, largest: u64) {
        let keep = self.ranges.end().saturating_sub(1).min(largest);
        self.ranges.remove(0, keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_packets_below_the_window_are_refused() {
        let mut received = Received::new(CarrierId(0));
        assert!(received.insert(Instant::ZERO, 10, false));
        assert!(!received.insert(Instant::ZERO, 10, false));
        assert!(received.insert(Instant::ZERO, 9, false));
        assert!(received.insert(Instant::ZERO, 10 + REPLAY_WINDOW, false));
        assert!(!received.insert(Instant::ZERO, 9, false));
        assert!(!received.insert(Instant::ZERO, 10, false));
        assert!(received.insert(Instant::ZERO, 11, false));
        assert!(received.insert(Instant::ZERO, 1 << 40, false));
        assert!(!received.insert(Instant::ZERO, 12, false));
        assert!(!received.insert(Instant::ZERO, u64::MAX, false));
    }

    #[test]
    fn every_second_packet_is_acknowledged_and_a_gap_at_once() {
        let mut received = Received::new(CarrierId(0));
        let at = Instant::from_micros(1_000);
        received.insert(at, 0, false);
        received.handle_eliciting(at);
        assert_eq!(received.due(), Some(at + ACK_DELAY_MAX));
        received.insert(at, 1, false);
        received.handle_eliciting(at);
        assert_eq!(received.due(), Some(at));
        assert_eq!(received.take_ack(at, 0).unwrap().ranges[..], [(0, 1)]);
        assert_eq!(received.take_ack(at, 0), None);
        received.insert(at, 3, true);
        received.handle_eliciting(at);
        assert_eq!(received.due(), Some(at));
        let ack = received.take_ack(at, 0).unwrap();
        assert_eq!((&ack.ranges[..], ack.marked), (&[(3, 3), (0, 1)][..], 1));
        received.handle_ack_seen(3);
        received.insert(at, 4, false);
        received.handle_eliciting(at);
        assert_eq!(received.take_ack(at, 0).unwrap().ranges[..], [(3, 4)]);
    }

    #[test]
    fn ranges_are_bounded() {
        let mut received = Received::new(CarrierId(0));
        for number in 0..1_000 {
            received.insert(Instant::ZERO, number * 2, false);
        }
        received.handle_eliciting(Instant::ZERO);
        assert_eq!(received.take_ack(Instant::ZERO, 0).unwrap().ranges.len(), ACK_RANGES_MAX);
    }
}
