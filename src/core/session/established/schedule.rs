//! Which carrier takes the next packet: the quickest that answers, and others beside it
//! while it is full and their bytes still arrive sooner than if they waited for it.
//!
//! A carrier is *suspect* from its first probe timeout to the next acknowledgement on it:
//! others go first. "Quickest" looks at the least round trip ever seen, which says how far
//! away the peer is and does not move with the queues that we fill ourselves.

use std::time::Duration;

use super::Established;
use super::carrier::Hold;
use super::event::CarrierId;
use super::limits::{PACKET_LEN_FULL, SPREAD_RATE_MAX};
use crate::time::{Instant, earliest, micros};

/// Time over which the rate of the session is measured.
const RATE_TIME: Duration = Duration::from_millis(250);

/// What the next packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Acknowledgements alone: nobody is asked for room.
    Acks,
    /// A sign of life of a carrier that carries no data.
    Ping,
    /// Whatever waits.
    Data,
    /// What interactive channels say, one packet beyond the window: else it would wait for the acknowledgement of bulk.
    Interactive,
}

/// How fast bytes arrive at the peer, measured by what is acknowledged.
#[derive(Debug)]
pub struct Meter {
    since: Instant,
    len: u64,
    rate: u64,
}

impl Meter {
    /// Nothing has arrived.
    pub const fn new(now: Instant) -> Self {
        Self { since: now, len: 0, rate: 0 }
    }

    /// So many bytes arrived.
    pub fn add(&mut self, now: Instant, len: u64) {
        self.len += len;
        let time = now.saturating_since(self.since);
        if time >= RATE_TIME {
            self.rate = self.len.saturating_mul(1_000_000) / micros(time);
            (self.since, self.len) = (now, 0);
        }
    }
}

impl Established {
    /// The carrier in use: of those that answer the quickest, whatever waits on it.
    pub(super) fn active(&self) -> Option<usize> {
        let live = |index: &usize| !self.carriers[*index].dead;
        (0..self.carriers.len()).filter(live).min_by_key(|index| self.carriers[*index].preference())
    }

    /// Whether a carrier other than this one answers.
    pub(super) fn has_other(&self, index: usize) -> bool {
        let healthy = |(other, carrier): (usize, &super::carrier::Carrier)| other != index && carrier.healthy();
        self.carriers.iter().enumerate().any(healthy)
    }

    /// Carriers that answer, as far as anybody knows.
    #[must_use]
    pub fn healthy_carriers(&self) -> usize {
        self.carriers.iter().filter(|carrier| carrier.healthy()).count()
    }

    /// The carrier of the next packet and what it is for.
    pub(super) fn choose(&mut self, now: Instant, ready: &mut dyn FnMut(CarrierId) -> bool) -> Option<(usize, Load)> {
        let active = self.active()?;
        for index in 0..self.carriers.len() {
            let carrier = &self.carriers[index];
            if index != active && carrier.ping && !carrier.dead && ready(carrier.id) {
                return Some((index, Load::Ping));
            }
        }
        if self.has_payload(active)
            && let Some(chosen) = self.choose_for_data(now, active, ready)
        {
            return Some(chosen);
        }
        // A full window must not keep the sign of life that finds out why it is full.
        let carrier = &mut self.carriers[active];
        if carrier.ping && carrier.check(now, PACKET_LEN_FULL as u64) == Err(Hold::Window) && ready(carrier.id) {
            return Some((active, Load::Ping));
        }
        self.ack_due(now).map(|index| (index, Load::Acks))
    }

    /// The carrier on which an acknowledgement must leave now.
    pub(super) fn ack_due(&self, now: Instant) -> Option<usize> {
        let due = self.received.values().find(|received| received.due().is_some_and(|at| at <= now))?;
        self.carrier_of(due.home()).or_else(|| self.active())
    }

    /// The index of a carrier that answers.
    pub(super) fn carrier_of(&self, id: CarrierId) -> Option<usize> {
        self.carriers.iter().position(|carrier| carrier.id == id && !carrier.dead)
    }

    /// The carrier that takes data now. Who is held by the pace alone is waited for.
    fn choose_for_data(
        &mut self,
        now: Instant,
        active: usize,
        ready: &mut dyn FnMut(CarrierId) -> bool,
    ) -> Option<(usize, Load)> {
        let held = self.carriers[active].check(now, PACKET_LEN_FULL as u64);
        match held {
            Ok(()) if ready(self.carriers[active].id) => return Some((active, Load::Data)),
            Ok(()) => self.carriers[active].cubic.handle_held(),
            Err(Hold::Window) => {}
            Err(Hold::Until(at)) => {
                self.paced_until = Some(at);
                return None;
            }
        }
        let other = self.choose_beside(now, active, ready).map(|index| (index, Load::Data));
        other.or_else(|| {
            let carrier = &self.carriers[active];
            let may = held == Err(Hold::Window) && !self.interactive.is_empty();
            (may && carrier.is_within(PACKET_LEN_FULL as u64) && ready(carrier.id))
                .then_some((active, Load::Interactive))
        })
    }

    /// A carrier beside the active one that takes data now, and is worth it.
    fn choose_beside(
        &mut self,
        now: Instant,
        active: usize,
        ready: &mut dyn FnMut(CarrierId) -> bool,
    ) -> Option<usize> {
        if self.carriers.len() == 1 || self.meter.rate > SPREAD_RATE_MAX {
            return None;
        }
        let mut best: Option<usize> = None;
        for index in (0..self.carriers.len()).filter(|index| *index != active) {
            let quicker =
                best.is_none_or(|best| self.carriers[index].rtt.smoothed() < self.carriers[best].rtt.smoothed());
            if quicker && self.is_worth(active, index) && self.has_room(now, index, ready) {
                best = Some(index);
            }
        }
        best
    }

    /// Whether a carrier beside the active one may take a packet now; notes when the pace will let it.
    fn has_room(&mut self, now: Instant, index: usize, ready: &mut dyn FnMut(CarrierId) -> bool) -> bool {
        match self.carriers[index].check(now, PACKET_LEN_FULL as u64) {
            Ok(()) => ready(self.carriers[index].id),
            Err(Hold::Window) => false,
            Err(Hold::Until(at)) => {
                self.paced_until = earliest(self.paced_until, Some(at));
                false
            }
        }
    }

    /// Whether what waits arrives sooner when a slower carrier takes its share: its round trip must not be longer
    /// than the time in which the active one sends everything. Lim et al., ECF (CoNEXT 2017).
    fn is_worth(&self, active: usize, other: usize) -> bool {
        let (active, other) = (&self.carriers[active], &self.carriers[other]);
        if !other.healthy() || !other.rtt.sampled() {
            return false;
        }
        let in_flight: u64 = self.carriers.iter().map(|carrier| carrier.recovery.in_flight()).sum();
        let queued = u128::from(self.send_buffered.saturating_sub(in_flight));
        let window = u128::from(active.recovery.in_flight().max(PACKET_LEN_FULL as u64));
        let (fast, slow) = (micros(active.rtt.smoothed()), micros(other.rtt.smoothed()));
        u128::from(slow) * window <= u128::from(fast) * (window + queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_counts_what_arrived_in_its_time() {
        let mut meter = Meter::new(Instant::ZERO);
        for step in 1..=10 {
            meter.add(Instant::from_micros(step * 50_000), 1_000_000);
        }
        assert_eq!(meter.rate, 20_000_000);
    }
}
