//! One carrier as its sender sees it: packet numbers, round-trip time, congestion.

use std::time::Duration;

use super::cubic::{Acked, Cubic};
use super::event::CarrierId;
use super::limits::{DEAD_AFTER, DEAD_PTO_COUNT, KEEP_ALIVE_BUSY, SILENT_PTO_COUNT};
use super::pacing::Pacer;
use super::recovery::{NeverSent, Outcome, Recovery};
use super::rtt::Rtt;
use super::sent::SentFrame;
use crate::time::{Instant, earliest, micros};
use crate::wire::session_packet::Ack;

/// Why a carrier may not take a packet now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The congestion window is full: an acknowledgement will open it.
    Window,
    /// The pace: at this moment it may go on.
    Until(Instant),
}

/// What a probe timeout showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing worth telling.
    Well,
    /// Probes are out without an answer; it has just become so bad that another carrier is wanted.
    Silent,
    /// It has just died.
    Dead,
}

/// One carrier.
pub struct Carrier {
    /// Its name.
    pub id: CarrierId,
    /// Its number in the nonce, counted by us.
    pub circuit: u32,
    /// Packets in flight.
    pub recovery: Recovery,
    /// Round-trip time.
    pub rtt: Rtt,
    /// Congestion window.
    pub cubic: Cubic,
    /// Pace.
    pub pacer: Pacer,
    /// Packets that may leave whatever the window says, after a probe timeout.
    pub probes: u8,
    /// Whether a PING must leave; so it does after every probe timeout.
    pub ping: bool,
    /// Whether it stopped answering.
    pub dead: bool,
    /// When a packet last came on it.
    pub heard_at: Instant,
    /// When the last keep-alive was due.
    pub pinged_at: Instant,
    /// Packets that came since.
    pub heard_count: u32,
    /// Whether its silence was told since its last answer.
    told: bool,
    marked: u64,
}

impl Carrier {
    /// A new carrier.
    pub const fn new(now: Instant, id: CarrierId, circuit: u32) -> Self {
        Self {
            id,
            circuit,
            recovery: Recovery::new(),
            rtt: Rtt::new(),
            cubic: Cubic::new(),
            pacer: Pacer::new(now),
            probes: 0,
            ping: false,
            dead: false,
            heard_at: now,
            pinged_at: now,
            heard_count: 0,
            told: false,
            marked: 0,
        }
    }

    /// Whether it answers, as far as we know.
    pub const fn healthy(&self) -> bool {
        !self.dead && self.recovery.pto_count() == 0
    }

    /// The less, the better: it answers, we know how quickly, it is quick.
    pub fn preference(&self) -> (bool, Duration) {
        (self.recovery.pto_count() > 0, self.rtt.least())
    }

    /// Notes a packet that came on it.
    pub const fn handle_heard(&mut self, now: Instant) {
        self.recovery.handle_heard();
        self.heard_at = now;
        self.heard_count = self.heard_count.saturating_add(1);
    }

    /// Notes that a keep-alive is due.
    pub const fn keep_alive(&mut self, now: Instant) {
        (self.ping, self.pinged_at, self.heard_count) = (true, now, 0);
    }

    /// Whether `len` bytes that ask for an acknowledgement may leave.
    pub fn check(&mut self, now: Instant, len: u64) -> Result<(), Hold> {
        if self.probes > 0 {
            return Ok(());
        }
        if self.recovery.in_flight() + len > self.cubic.window() {
            return Err(Hold::Window);
        }
        self.pacer.check(now, len).map_err(Hold::Until)
    }

    /// Whether what is in flight is less than `len` bytes beyond the window.
    pub const fn is_within(&self, len: u64) -> bool {
        self.recovery.in_flight() < self.cubic.window() + len
    }

    /// Bytes per second that get through while something is under way, by Little's law. The pace is no measure: the window
    /// it comes from grows beyond what the path holds, where the link to the neighbour is what holds the sender up.
    pub fn delivery_rate(&self) -> u64 {
        self.recovery.in_flight().saturating_mul(1_000_000) / micros(self.rtt.smoothed()).max(1)
    }

    /// Takes an acknowledgement.
    ///
    /// # Errors
    /// It names a packet that was never sent.
    pub fn handle_ack(&mut self, now: Instant, ack: &Ack, out: &mut Outcome) -> Result<(), NeverSent> {
        self.recovery.handle_ack(now, &mut self.rtt, ack, out)?;
        let marked = ack.marked.saturating_sub(self.marked);
        self.marked = self.marked.max(ack.marked);
        if out.acked_count > 0 {
            (self.probes, self.told) = (0, false);
            let acked = Acked {
                len: out.acked_len,
                count: out.acked_count,
                marked,
                in_flight: out.in_flight_before,
                largest: ack.ranges.first().map_or(0, |range| range.1),
                next: self.recovery.next(),
                sample: out.sample,
                rtt: self.rtt.smoothed(),
            };
            self.cubic.handle_ack(now, &acked);
        }
        self.handle_losses(now, out);
        Ok(())
    }

    /// Tells congestion control of losses, and sets the pace.
    fn handle_losses(&mut self, now: Instant, out: &Outcome) {
        if let Some(sent_at) = out.lost_sent_at {
            self.cubic.handle_loss(now, sent_at, out.persistent);
        }
        self.pacer.set(now, self.cubic.window(), self.rtt.smoothed(), self.cubic.slow_start());
    }

    /// Time has passed: finds losses, and probes. With another carrier that answers, `other`, what is in flight here
    /// travels there once this one is silent.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        other: bool,
        out: &mut Outcome,
        again: &mut Vec<SentFrame>,
    ) -> Pulse {
        if self.recovery.loss_at().is_some_and(|at| at <= now) {
            self.recovery.detect(now, &self.rtt, out);
            self.handle_losses(now, out);
        }
        if self.dead || self.recovery.pto_at(&self.rtt).is_none_or(|at| at > now) {
            return Pulse::Well;
        }
        if self.ping {
            // The way out is blocked at home: that is not the carrier's fault.
            self.recovery.postpone_pto(now);
            return Pulse::Well;
        }
        // Whoever is heard is there: its answers may wait behind what it sends us.
        let since = self.recovery.unanswered_since().map(|since| since.max(self.heard_at));
        let silent = since.is_some_and(|since| now.saturating_since(since) >= DEAD_AFTER);
        if self.recovery.pto_count() >= DEAD_PTO_COUNT && silent {
            self.dead = true;
            self.recovery.abandon(again);
            return Pulse::Dead;
        }
        self.recovery.handle_pto(now, usize::from(super::limits::PROBES), again);
        self.probes = super::limits::PROBES;
        self.ping = true;
        if self.recovery.pto_count() < SILENT_PTO_COUNT {
            return Pulse::Well;
        }
        if other {
            again.clear();
            self.recovery.move_on(again);
            self.cubic.handle_loss(now, now, true);
        }
        let heard = now.saturating_since(self.heard_at) < KEEP_ALIVE_BUSY;
        if heard || std::mem::replace(&mut self.told, true) { Pulse::Well } else { Pulse::Silent }
    }

    /// Its next deadline.
    pub fn next_timeout(&self) -> Option<Instant> {
        let pto = if self.dead { None } else { self.recovery.pto_at(&self.rtt) };
        earliest(self.recovery.loss_at(), pto)
    }
}
