//! Deadlines of a session, and what happens at them.

use super::Established;
use super::carrier::Pulse;
use super::channel::State;
use super::event::{Event, ResetCause, Side};
use super::limits::{BUSY_PACKETS, KEEP_ALIVE_BUSY, KEEP_ALIVE_MIN, KEEP_ALIVE_STANDBY, LOST_AFTER};
use crate::time::{Instant, Now, earliest};

impl Established {
    /// Carries out what is due. Early or repeated calls change nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        let now = now.instant;
        if self.closed.is_some() {
            return;
        }
        for index in 0..self.carriers.len() {
            self.handle_carrier_timeout(now, index);
        }
        let active = self.active();
        for index in 0..self.carriers.len() {
            if self.ping_at(index, active).is_some_and(|at| at <= now) {
                self.carriers[index].keep_alive(now);
            }
        }
        if self.lost_at().is_some_and(|at| at <= now) {
            self.fail_channels(now);
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.idle_at = None;
            self.events.push_back(Event::Idle);
        }
        if self.expire_at.is_some_and(|at| at <= now) {
            self.expire_at = None;
            self.events.push_back(Event::Expired);
        }
    }

    /// Losses and probes of one carrier.
    fn handle_carrier_timeout(&mut self, now: Instant, index: usize) {
        if self.carriers[index].next_timeout().is_none_or(|at| at > now) {
            return;
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.clear();
        let mut again = Vec::new();
        let other = self.has_other(index);
        let pulse = self.carriers[index].handle_timeout(now, other, &mut outcome, &mut again);
        self.settle_lost(&outcome.lost);
        self.settle_lost(&again);
        self.outcome = outcome;
        let id = self.carriers[index].id;
        let carrier = &self.carriers[index];
        if carrier.recovery.pto_count() > 0 || pulse != Pulse::Well {
            let (in_flight, window) = (carrier.recovery.in_flight(), carrier.cubic.window());
            let probes = carrier.recovery.pto_count();
            tracing::debug!(?now, side = ?self.side, ?id, ?pulse, probes, in_flight, window, "carrier does not answer");
        }
        match pulse {
            Pulse::Dead => {
                self.events.push_back(Event::CarrierDead(id));
                self.note_carriers(now);
            }
            Pulse::Silent if !other => self.events.push_back(Event::CarrierSilent(id)),
            Pulse::Silent | Pulse::Well => {}
        }
    }

    /// No word from the peer for too long: every channel fails.
    fn fail_channels(&mut self, now: Instant) {
        let ids: Vec<_> = self.channels.keys().copied().collect();
        for id in ids {
            if self.channels.get(&id).is_some_and(|channel| channel.state == State::Resetting) {
                self.remove_channel(now, id);
                continue;
            }
            self.reset(Now { instant: now, unix: crate::time::UnixTime::default() }, id);
            self.events.push_back(Event::Reset { channel: id, cause: ResetCause::Lost });
        }
        if self.busy_since.is_some() {
            self.busy_since = Some(now);
        }
    }

    /// When the initiator must ping on a carrier: it keeps channels' carriers alive, and finds out when they die.
    fn ping_at(&self, index: usize, active: Option<usize>) -> Option<Instant> {
        self.busy_since.filter(|_| self.side == Side::Initiator)?;
        let carrier = &self.carriers[index];
        if carrier.dead || carrier.ping || carrier.recovery.pto_at(&carrier.rtt).is_some() {
            return None;
        }
        let quiet = match (carrier.heard_count >= BUSY_PACKETS, Some(index) == active) {
            (true, _) => KEEP_ALIVE_BUSY,
            (false, true) => KEEP_ALIVE_MIN,
            (false, false) => KEEP_ALIVE_STANDBY,
        };
        Some(carrier.heard_at.max(carrier.pinged_at) + quiet.max(carrier.rtt.pto() * 3))
    }

    /// When channels fail.
    fn lost_at(&self) -> Option<Instant> {
        self.busy_since.map(|since| self.heard_at.max(since) + LOST_AFTER)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        let mut next = [self.lost_at(), self.idle_at, self.expire_at].into_iter().flatten().min();
        let active = self.active();
        for (index, carrier) in self.carriers.iter().enumerate() {
            next = earliest(next, earliest(carrier.next_timeout(), self.ping_at(index, active)));
        }
        if active.is_some() {
            next = earliest(next, self.paced_until);
            for received in self.received.values() {
                next = earliest(next, received.due());
            }
        }
        next
    }
}
