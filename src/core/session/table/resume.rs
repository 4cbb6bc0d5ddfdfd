//! More circuits for a session: a second one over other relays while it has channels, and
//! new ones when those die. The initiator asks for each with a single-use tag, the responder
//! attaches it. Until the channels give up, after 60 s.
//!
//! ```text
//! channels ─ 1 s ─▶ apart ─ none ─▶ detour ─ none, or not another way ─ 4 s … 64 s ─▶ apart …
//! a link to the far node itself comes up: one over that at once, a third perhaps
//! a circuit dies: the other goes on, a new second one is asked for at once
//! none answers: ask for one, after 400 ms for another around the way of the first, then ever later; 3 at once
//! ```

use std::sync::Arc;

use smallvec::SmallVec;

use super::limits::{
    BUILDING_MAX, CIRCUITS_MAX, CIRCUITS_WANTED, HEDGE_AFTER, HEDGE_MAX, REJECTED_MAX, RESUME_AHEAD, RETRY_JITTER,
    STANDBY_NEIGHBOUR, STANDBY_RETRY_FIRST, STANDBY_RETRY_MAX, STANDBY_SOON, TRAILS_MAX,
};
use super::{
    Acting, Building, Channel, CircuitFailure, End, Event, InitiatorEnd, Purpose, Session, SessionId, Sessions, Timer,
};
use crate::crypto::{PeerId, hash, same_secret};
use crate::session::handshake::Resumption;
use crate::session::{CarrierId, ChannelId, Descriptor};
use crate::time::{Instant, Now};
use crate::wire::path::{AVOID_MAX, Avoid, SetupId};
use crate::wire::session_handshake::Message;

impl InitiatorEnd {
    /// Of a session that was just established.
    pub(super) fn new(acting: Acting, descriptor: Arc<Descriptor>) -> Self {
        Self {
            acting,
            descriptor,
            resume_next: 0,
            resume_floor: 0,
            building: SmallVec::new(),
            trails: SmallVec::new(),
            failures: 0,
            hedges: 0,
            standby_failures: 0,
            rejected: 0,
        }
    }

    /// The ways that a new circuit keeps away from: of those that live, hang, or fell silent, the latest. None for one
    /// over a link to the far node itself.
    fn avoid(&self, purpose: Purpose) -> Avoid {
        if purpose == Purpose::Direct {
            return Avoid::default();
        }
        let setups = self.trails.iter().rev().map(|(_, setup)| *setup).take(AVOID_MAX).collect();
        Avoid { setups, strict: purpose == Purpose::Apart }
    }

    /// Remembers a set-up; the oldest of a circuit that is gone is forgotten.
    fn note_trail(&mut self, carrier: CarrierId, setup: SetupId, lives: impl Fn(&CarrierId) -> bool) {
        if self.trails.len() >= TRAILS_MAX {
            let oldest = self.trails.iter().position(|(carrier, _)| !lives(carrier)).unwrap_or(0);
            self.trails.remove(oldest);
        }
        self.trails.push((carrier, setup));
    }

    /// Forgets the way of a circuit that closed, or was not to be had: nothing there is known to be silent.
    fn forget_trail(&mut self, carrier: CarrierId) {
        self.trails.retain(|(other, _)| *other != carrier);
    }

    /// The resumption of a circuit, which is on its way no more.
    fn take_building(&mut self, carrier: CarrierId) -> Option<Building> {
        let at = self.building.iter().position(|building| building.carrier == carrier)?;
        Some(self.building.remove(at))
    }
}

impl Session {
    /// Whether a session of ours wants a second circuit and may ask for one.
    fn wants_standby(&self, here: PeerId) -> bool {
        let End::Initiator(end) = &self.end else { return false };
        let few = self.carriers.len() + end.building.len() < CIRCUITS_WANTED;
        few && self.may_ask() && end.descriptor.node != here
    }

    /// Whether a session of ours may ask for a circuit beside those that it has. Tags that a responder knows ahead are
    /// left for when there is none at all.
    fn may_ask(&self) -> bool {
        let End::Initiator(end) = &self.end else { return false };
        let tags_left = end.resume_next - end.resume_floor < RESUME_AHEAD / 2;
        tags_left && !self.carriers.is_empty() && !self.channels.is_empty() && !self.closing
    }
}

impl Sessions {
    /// Asks for one more circuit for a session of ours.
    pub(super) fn build(&mut self, now: Now, id: SessionId, purpose: Purpose) {
        let (carrier, setup) = (self.next_carrier(), SetupId(self.rng.public_array()));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let End::Initiator(end) = &mut session.end else { return };
        if session.closing {
            return;
        }
        let hangs = if end.building.len() >= BUILDING_MAX { Some(end.building.remove(0).carrier) } else { None };
        let n = end.resume_next;
        end.resume_next += 1;
        let avoid = end.avoid(purpose);
        let carriers = &session.carriers;
        end.note_trail(carrier, setup, |carrier| carriers.contains(carrier));
        end.building.push(Building { carrier, n, purpose });
        let Resumption { tag, reveal, .. } = Resumption::new(&session.keys.resume, n);
        let (node, blob) = (end.descriptor.node, Message::Resume(tag).encode().into());
        self.by_carrier.insert(carrier, id);
        tracing::debug!(now = ?now.instant, ?id, ?carrier, ?purpose, n, "circuit wanted");
        self.events.push_back(Event::NeedCircuit { carrier, node, setup, avoid, blob, proof_hash: hash(&reveal) });
        if purpose == Purpose::Continue {
            let rtt = session.machine.rtt().unwrap_or_default();
            let wait = HEDGE_AFTER.max(rtt * 2) * (1 << end.hedges.min(4));
            end.hedges += 1;
            self.timers.set(Timer::Hedge(id), now.instant + wait.min(HEDGE_MAX));
        }
        hangs.into_iter().for_each(|carrier| self.close_carrier(carrier));
    }

    /// A resumption has had its time: another goes beside it, around its way.
    pub(super) fn hedge(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let End::Initiator(end) = &session.end else { return };
        if session.machine.healthy_carriers() == 0 && !end.building.is_empty() && !session.channels.is_empty() {
            self.build(now, id, Purpose::Continue);
        }
    }

    /// A second circuit is wanted at this time, if one is wanted and no earlier time was set.
    pub(super) fn want_standby(&mut self, id: SessionId, at: Instant) {
        let wants = self.sessions.get(&id).is_some_and(|session| session.wants_standby(self.node));
        if wants && self.timers.at(&Timer::Standby(id)).is_none_or(|set| set > at) {
            self.timers.set(Timer::Standby(id), at);
        }
    }

    /// Asks for a second circuit, if one is still wanted.
    pub(super) fn build_standby(&mut self, now: Now, id: SessionId) {
        if self.sessions.get(&id).is_some_and(|session| session.wants_standby(self.node)) {
            self.build(now, id, Purpose::Apart);
        }
    }

    /// A second circuit was not to be had: a lesser one is tried, or a better one later.
    fn standby_failed(&mut self, now: Now, id: SessionId, purpose: Purpose) {
        if purpose == Purpose::Apart && self.sessions.get(&id).is_some_and(|session| session.wants_standby(self.node)) {
            return self.build(now, id, Purpose::Detour);
        }
        let Some(end) = self.sessions.get_mut(&id).and_then(Session::initiator) else { return };
        let doublings = end.standby_failures.min(8);
        end.standby_failures += 1;
        let wait = (STANDBY_RETRY_FIRST * (1 << doublings)).min(STANDBY_RETRY_MAX);
        let at = now.instant + self.rng.jitter(wait, RETRY_JITTER);
        self.want_standby(id, at);
    }

    /// A neighbour came up: there may be second ways now, and to itself a better one than over others. Who does not say
    /// who it is does not show it by coming over its own link either.
    pub fn handle_neighbour_up(&mut self, now: Now, peer: &PeerId) {
        let leads = |end: &End| match end {
            End::Initiator(end) => end.descriptor.node == *peer && end.acting != Acting::Anonymous,
            End::Responder(_) => false,
        };
        let to_it = self.sessions.iter().filter(|(_, session)| leads(&session.end) && session.may_ask());
        let to_it: Vec<SessionId> = to_it.map(|(id, _)| *id).collect();
        to_it.into_iter().for_each(|id| self.build(now, id, Purpose::Direct));
        let waiting: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in waiting {
            let wait = self.rng.jitter(STANDBY_NEIGHBOUR / 2, 100);
            self.want_standby(id, now.instant + wait);
        }
    }

    /// There are next hops to a node that had none: handshakes and sessions that wait to try again do so now.
    pub fn handle_route_up(&mut self, now: Now, node: &PeerId) {
        let dials = self.dials.iter().filter(|(_, dial)| dial.descriptor.node == *node).map(|(id, _)| *id);
        let waits = |id: &SessionId| self.timers.at(&Timer::Dial(*id)).is_some();
        let dials: Vec<SessionId> = dials.filter(waits).collect();
        let leads = |end: &End| matches!(end, End::Initiator(end) if end.descriptor.node == *node);
        let sessions = self.sessions.iter().filter(|(_, session)| leads(&session.end)).map(|(id, _)| *id);
        let waits = |id: &SessionId| self.timers.at(&Timer::Resume(*id)).is_some();
        let sessions: Vec<SessionId> = sessions.filter(waits).collect();
        dials.into_iter().for_each(|id| self.timers.set(Timer::Dial(id), now.instant));
        sessions.into_iter().for_each(|id| self.timers.set(Timer::Resume(id), now.instant));
    }

    /// The circuit of a resumption is there, with the far node's answer.
    pub(super) fn resumed(&mut self, now: Now, id: SessionId, carrier: CarrierId, blob: &[u8], parted: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return self.close_carrier(carrier) };
        let End::Initiator(end) = &mut session.end else { return self.close_carrier(carrier) };
        let Some(Building { n, purpose, .. }) = end.take_building(carrier) else { return };
        let want = Resumption::new(&session.keys.resume, n).mac;
        let holds = matches!(Message::decode(blob), Ok(Message::Resumed(mac)) if same_secret(&mac, &want));
        if !holds {
            self.counters.bad_answers += 1;
            self.close_carrier(carrier);
            return self.resume_later(now, id, purpose, CircuitFailure::Timeout);
        }
        end.resume_floor = end.resume_floor.max(n + 1);
        (end.failures, end.rejected, end.hedges) = (0, 0, 0);
        let healthy = session.machine.healthy_carriers();
        let enough = if purpose == Purpose::Direct { CIRCUITS_MAX } else { CIRCUITS_WANTED };
        let wanted = matches!(purpose, Purpose::Continue | Purpose::Direct) || parted;
        if healthy >= enough || (healthy > 0 && !wanted) {
            self.close_carrier(carrier);
            return self.standby_failed(now, id, Purpose::Detour);
        }
        end.standby_failures = 0;
        session.machine.add_carrier(now, carrier);
        session.carriers.insert(carrier);
        self.settle(now, id);
        self.want_standby(id, now.instant + STANDBY_SOON);
    }

    /// A circuit that was asked for does not come.
    pub(super) fn circuit_failed(&mut self, now: Now, id: SessionId, carrier: CarrierId, why: CircuitFailure) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.initiator().and_then(|end| end.take_building(carrier)) {
            Some(building) => {
                if let Some(end) = session.initiator().filter(|_| why != CircuitFailure::Timeout) {
                    end.forget_trail(carrier);
                    // Most likely nobody saw its tag: they are few.
                    end.resume_next -= u64::from(why == CircuitFailure::NoRoute && end.resume_next == building.n + 1);
                }
                self.resume_later(now, id, building.purpose, why);
            }
            None => self.carrier_gone(now, id, carrier, false),
        }
    }

    /// A circuit of a session closed or fell silent: the session goes on without it.
    pub(super) fn carrier_gone(&mut self, now: Now, id: SessionId, carrier: CarrierId, silent: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match &mut session.end {
            End::Initiator(end) => {
                if !silent {
                    end.forget_trail(carrier);
                }
                if let Some(building) = end.take_building(carrier) {
                    return self.resume_later(now, id, building.purpose, CircuitFailure::Timeout);
                }
            }
            End::Responder(end) => {
                end.unproven.remove(&carrier);
            }
        }
        session.carriers.remove(&carrier);
        session.machine.remove_carrier(now, carrier);
        self.settle(now, id);
        self.without_carrier(now, id);
        self.want_standby(id, now.instant + STANDBY_SOON);
    }

    /// A session may have lost its last circuit. Ours is resumed if it has channels; one without is of no use, except that
    /// a half-open one may still get a repeat of its first message.
    pub(super) fn without_carrier(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.carriers.is_empty()) else { return };
        match &session.end {
            End::Responder(end) if end.stored.is_some() => {}
            _ if session.channels.is_empty() => self.remove_session(now, id),
            End::Initiator(end) => {
                let building = end.building.iter().any(|building| building.purpose == Purpose::Continue);
                if !building && self.timers.at(&Timer::Resume(id)).is_none() {
                    self.build(now, id, Purpose::Continue);
                }
            }
            End::Responder(_) => {}
        }
    }

    /// A resumption failed: tries again later, or gives the session up when the far node has clearly forgotten it.
    fn resume_later(&mut self, now: Now, id: SessionId, purpose: Purpose, why: CircuitFailure) {
        let rejected = why == CircuitFailure::Rejected;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.carriers.is_empty() {
            return self.standby_failed(now, id, purpose);
        }
        let opening = |channel: &Channel| matches!(channel, Channel::Opening(..));
        let only_opening = session.channels.values().all(opening);
        let Some(end) = session.initiator() else { return };
        end.failures += 1;
        end.rejected = if rejected { end.rejected + 1 } else { 0 };
        if end.rejected >= REJECTED_MAX || (rejected && only_opening) {
            return self.remove_session(now, id);
        }
        let wait = super::dial::back_off(end.failures);
        if rejected {
            self.open_elsewhere(now, id);
        }
        let at = now.instant + self.rng.jitter(wait, RETRY_JITTER);
        if self.timers.at(&Timer::Resume(id)).is_none_or(|set| set > at) {
            self.timers.set(Timer::Resume(id), at);
        }
    }

    /// The far node may have forgotten the session: connects that wait in it go to a new one at once, whatever becomes
    /// of the channels that are open.
    fn open_elsewhere(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let opening = session.channels.iter().filter(|(_, channel)| matches!(channel, Channel::Opening(..)));
        let opening: Vec<ChannelId> = opening.map(|(channel, _)| *channel).collect();
        for channel in opening {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.machine.reset(now, channel);
            }
            self.channel_broke(now, id, channel, true);
        }
    }
}
