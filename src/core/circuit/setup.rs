//! Set-up, crank-back and teardown: messages from neighbours, links that go, deadlines.

use bytes::Bytes;

use super::attempt::{Attempt, patience};
use super::legs::{Leg, Switch};
use super::limits::{ANY_NEIGHBOUR_AFTER, BUDGET_MAX, HOPS_MAX, IDLE_TIME, SETUP_TIME, SETUP_TIME_MAX};
use super::paths::{Circuit, End, Paths, State, flow_down, flow_up};
use super::{Event, Hops, NextHops, PathId, Reason};
use crate::crypto::{PeerId, hash};
use crate::defence::{self, Defence};
use crate::time::{Instant, Now};
use crate::wire::path::{Close, Failed, Open, Opened};
use crate::wire::{Error, kind};

impl Paths {
    /// A control message of a neighbour.
    ///
    /// # Errors
    /// Bytes that are not a message of that kind, or a kind that is not ours; the caller drops the link or counts it.
    pub fn handle_message(
        &mut self,
        now: Now,
        from: PeerId,
        kind: u8,
        body: &[u8],
        hops: &dyn NextHops,
    ) -> Result<(), Error> {
        let now = now.instant;
        self.legs.release(now);
        match kind {
            kind::PATH_OPEN => self.handle_open(now, from, Open::decode(body)?, hops)?,
            kind::PATH_OPENED => self.handle_opened(now, from, Opened::decode(body)?),
            kind::PATH_FAILED => self.handle_failed(now, from, Failed::decode(body)?),
            kind::PATH_CLOSE => self.handle_close(now, from, Close::decode(body)?),
            _ => return Err(Error::Invalid("not a path message")),
        }
        Ok(())
    }

    /// The link to a neighbour is gone: so is everything on it.
    pub fn handle_link_down(&mut self, now: Now, peer: PeerId) {
        let now = now.instant;
        let opening = self.circuits.values_mut().filter_map(|circuit| match &mut circuit.state {
            State::Opening(attempt) => Some(attempt),
            State::Offered { .. } | State::Open => None,
        });
        opening.for_each(|attempt| attempt.alternatives.retain(|other| *other != peer));
        for leg in self.legs.of_peer(&peer) {
            let Some(circuit) = self.legs.entry(&leg).map(|entry| entry.circuit) else { continue };
            if self.is_branch(circuit, &leg) {
                self.branch_failed(now, circuit, &leg, Reason::LinkLost, None);
            } else {
                self.tear_down(now, circuit, Reason::LinkLost, Some(leg));
            }
        }
        self.legs.forget(&peer);
    }

    /// Deadlines that are due: silent branches, set-ups that nobody decided on, idle paths.
    pub fn handle_timeout(&mut self, now: Now) {
        let now = now.instant;
        self.legs.release(now);
        while let Some(circuit) = self.timers.pop_due(now) {
            let Some(found) = self.circuits.get(&circuit) else { continue };
            let legs = [found.up.leg(), found.down.and_then(End::leg)];
            match &found.state {
                State::Opening(attempt) if attempt.deadline > now => self.try_next(now, circuit),
                State::Opening(_) => self.give_up(now, circuit),
                State::Offered { .. } => self.tear_down(now, circuit, Reason::TimedOut, None),
                State::Open => {
                    let idle = self.legs.idle(now, legs.into_iter().flatten());
                    if idle >= IDLE_TIME {
                        self.tear_down(now, circuit, Reason::Idle, None);
                    } else {
                        self.timers.set(circuit, now + (IDLE_TIME - idle));
                    }
                }
            }
        }
    }

    /// A neighbour wants a path: to us, or through us.
    fn handle_open(&mut self, now: Instant, from: PeerId, open: Open, hops: &dyn NextHops) -> Result<(), Error> {
        let leg = Leg::new(from, open.label);
        if !self.legs.acceptable(&self.me, &leg) {
            return Err(Error::Invalid("path label"));
        }
        self.counters.setups += 1;
        let refuse = |paths: &mut Self, reason| {
            let message = Failed { label: leg.label, reason, budget: open.budget.min(BUDGET_MAX) };
            paths.transmits.push_back((from, kind::PATH_FAILED, message.encode()));
        };
        let may = self.legs.take_creation(now, from, &self.limits);
        let may = may || !defence::on(Defence::SetupRate);
        let over = self.legs.brought(&from) >= self.limits.per_neighbour_max && defence::on(Defence::PathShare);
        if !may || over || self.legs.rests(&leg) {
            self.counters.setups_over_limit += 1;
            refuse(self, Reason::Limit);
            return Ok(());
        }
        if !self.seen.insert(now, open.id) && defence::on(Defence::SetupOnce) {
            self.counters.setups_seen += 1;
            refuse(self, Reason::Loop);
            return Ok(());
        }
        let lost = open.avoid.setups.len() >= ANY_NEIGHBOUR_AFTER;
        let mut others = if lost { hops.others(&open.id.0) } else { Default::default() };
        let hops = hops.toward(&open.id.0, &open.tag, &open.way);
        if open.avoid.strict && hops != Hops::Here && self.trails.crosses(&open.avoid) {
            refuse(self, Reason::Loop);
            return Ok(());
        }
        match hops {
            Hops::Here if self.own.len() < self.limits.own_max => self.offer(now, leg, open),
            Hops::Via(via)
                if self.transit_count() < self.limits.transit_max && self.half_open < self.limits.half_open_max =>
            {
                let mut via = via;
                others.retain(|other| !via.contains(other));
                via.append(&mut others);
                via.retain(|peer| *peer != from);
                self.trails.order(&open.avoid, &mut via);
                self.extend(now, leg, open, via);
            }
            Hops::Here | Hops::Via(_) => {
                self.counters.setups_crowded += 1;
                refuse(self, Reason::Limit);
            }
        }
        Ok(())
    }

    /// A path to us: the session layer decides.
    fn offer(&mut self, now: Instant, leg: Leg, open: Open) {
        let circuit = self.fresh_circuit();
        let state = State::Offered { proof_hash: open.proof_hash, id: open.id };
        let (up, down, setup) = (End::Link(leg), Some(End::Local), open.id);
        self.circuits.insert(circuit, Circuit { up, down, state, setup, hop_offset: 0 });
        self.own.insert(circuit);
        self.legs.enter(now, leg, circuit);
        self.legs.bring(&leg.peer);
        self.timers.set(circuit, now + SETUP_TIME);
        self.events.push_back(Event::Incoming { path: PathId(circuit), from: leg.peer, blob: open.blob });
    }

    /// A path through us: tries the first alternative.
    fn extend(&mut self, now: Instant, leg: Leg, open: Open, alternatives: smallvec::SmallVec<[PeerId; 4]>) {
        let circuit = self.fresh_circuit();
        let attempt = Attempt {
            id: open.id,
            tag: open.tag,
            proof_hash: open.proof_hash,
            way: open.way,
            blob: open.blob,
            avoid: open.avoid,
            hop_limit: open.hop_limit.min(HOPS_MAX),
            budget: open.budget.min(BUDGET_MAX),
            started: now,
            deadline: now + patience(open.patience_ms, SETUP_TIME_MAX),
            alternatives,
            running: smallvec::SmallVec::new(),
            hedge_at: now,
            last: Reason::Unreachable,
        };
        let state = State::Opening(Box::new(attempt));
        let setup = open.id;
        self.circuits.insert(circuit, Circuit { up: End::Link(leg), down: None, state, setup, hop_offset: 0 });
        self.half_open += 1;
        self.legs.enter(now, leg, circuit);
        self.legs.bring(&leg.peer);
        self.try_next(now, circuit);
    }

    /// Tries the next alternative of a set-up. Where there is none and no branch runs, tells the previous hop, or the
    /// layer above.
    pub(super) fn try_next(&mut self, now: Instant, id: u64) {
        let Some(circuit) = self.circuits.get_mut(&id) else { return };
        let State::Opening(attempt) = &mut circuit.state else { return };
        if let Some(peer) = attempt.next_branch(now) {
            let leg = self.legs.allocate(now, &self.me, peer, id, &mut self.rng);
            self.trails.note(circuit.setup, peer);
            let message = attempt.begin(now, leg).encode();
            self.transmits.push_back((peer, kind::PATH_OPEN, message));
            return self.timers.set(id, attempt.wakes_at());
        }
        if !attempt.running.is_empty() {
            return self.timers.set(id, attempt.wakes_at());
        }
        let (reason, budget) = (attempt.last, attempt.budget);
        match circuit.up {
            End::Local => self.events.push_back(Event::Failed { path: PathId(id), reason }),
            End::Link(up) => {
                let message = Failed { label: up.label, reason, budget };
                self.transmits.push_back((up.peer, kind::PATH_FAILED, message.encode()));
            }
        }
        self.remove(now, id);
    }

    /// A set-up's time is over: its branches are closed.
    fn give_up(&mut self, now: Instant, id: u64) {
        let Some(circuit) = self.circuits.get_mut(&id) else { return };
        let State::Opening(attempt) = &mut circuit.state else { return };
        attempt.alternatives.clear();
        let running: smallvec::SmallVec<[Leg; 2]> = attempt.running.iter().map(|running| running.leg).collect();
        for leg in running {
            self.send_close(leg, Reason::TimedOut);
            self.end_branch(now, id, &leg, Reason::TimedOut, None);
        }
        self.try_next(now, id);
    }

    /// A branch failed: the next one, please. `left` is what it says is left of its budget.
    fn branch_failed(&mut self, now: Instant, id: u64, leg: &Leg, reason: Reason, left: Option<u16>) {
        self.end_branch(now, id, leg, reason, left);
        self.try_next(now, id);
    }

    /// Forgets a branch.
    fn end_branch(&mut self, now: Instant, id: u64, leg: &Leg, reason: Reason, left: Option<u16>) {
        let Some(circuit) = self.circuits.get_mut(&id) else { return };
        let State::Opening(attempt) = &mut circuit.state else { return };
        attempt.branch_failed(now, leg, reason, left);
        self.legs.remove(now, leg);
        self.counters.cranked_back += u64::from(!attempt.alternatives.is_empty());
    }

    /// Whether a leg is a branch that a set-up is trying.
    fn is_branch(&self, circuit: u64, leg: &Leg) -> bool {
        match self.circuits.get(&circuit).map(|circuit| &circuit.state) {
            Some(State::Opening(attempt)) => attempt.running.iter().any(|running| running.leg == *leg),
            Some(State::Offered { .. } | State::Open) | None => false,
        }
    }

    /// The circuit whose tried branch is this leg; counts a stray otherwise.
    fn branch_of(&mut self, leg: &Leg) -> Option<u64> {
        let circuit = self.legs.entry(leg).map(|entry| entry.circuit).filter(|circuit| self.is_branch(*circuit, leg));
        self.counters.strays += u64::from(circuit.is_none());
        circuit
    }

    /// The far part of a path says that it is up.
    fn handle_opened(&mut self, now: Instant, from: PeerId, opened: Opened) {
        let down = Leg::new(from, opened.label);
        let Some(id) = self.branch_of(&down) else { return };
        let Some(circuit) = self.circuits.get_mut(&id) else { return };
        let State::Opening(attempt) = &circuit.state else { return };
        if hash(&opened.reveal) != attempt.proof_hash && defence::on(Defence::PathReveal) {
            self.counters.forged += 1;
            self.events.push_back(Event::Evidence { peer: from, ok: false });
            self.send_close(down, Reason::Protocol);
            return self.branch_failed(now, id, &down, Reason::Protocol, None);
        }
        let rtt = now.saturating_since(attempt.started);
        self.trails.note(circuit.setup, from);
        let parted = opened.parted || self.trails.parts(&attempt.avoid, &from);
        let since = attempt.running.iter().find(|running| running.leg == down).map_or(now, |running| running.since);
        self.events.extend(attempt.overtaken(now, since).map(|peer| Event::Evidence { peer, ok: false }));
        self.events.push_back(Event::Evidence { peer: from, ok: true });
        let others: smallvec::SmallVec<[Leg; 2]> =
            attempt.running.iter().map(|running| running.leg).filter(|leg| *leg != down).collect();
        circuit.state = State::Open;
        circuit.down = Some(End::Link(down));
        for leg in others {
            self.send_close(leg, Reason::Closed);
            self.legs.remove(now, &leg);
        }
        let Some(circuit) = self.circuits.get(&id) else { return };
        self.timers.set(id, now + IDLE_TIME);
        match circuit.up {
            End::Local => {
                let hops = opened.hops.saturating_sub(circuit.hop_offset);
                self.set_switch(now, &down, Switch::Local);
                self.events.push_back(Event::Opened { path: PathId(id), blob: opened.blob, hops, parted, rtt });
            }
            End::Link(up) => {
                self.half_open -= 1;
                self.set_switch(now, &down, Switch::Relay { to: up, flow: flow_up(id) });
                self.set_switch(now, &up, Switch::Relay { to: down, flow: flow_down(id) });
                let message = Opened { label: up.label, hops: opened.hops.saturating_add(1), parted, ..opened };
                self.transmits.push_back((up.peer, kind::PATH_OPENED, message.encode()));
            }
        }
    }

    /// Lets cells of a leg through.
    fn set_switch(&mut self, now: Instant, leg: &Leg, switch: Switch) {
        if let Some(entry) = self.legs.entry_mut(leg) {
            entry.switch = switch;
            entry.used = now;
        }
    }

    /// A branch says that it cannot go on.
    fn handle_failed(&mut self, now: Instant, from: PeerId, failed: Failed) {
        let leg = Leg::new(from, failed.label);
        if let Some(id) = self.branch_of(&leg) {
            self.branch_failed(now, id, &leg, failed.reason, Some(failed.budget));
        }
    }

    /// A neighbour closes a path.
    fn handle_close(&mut self, now: Instant, from: PeerId, close: Close) {
        let leg = Leg::new(from, close.label);
        let Some(circuit) = self.legs.entry(&leg).map(|entry| entry.circuit) else {
            // Both ends may close at once: nothing is wrong.
            return;
        };
        if self.is_branch(circuit, &leg) {
            self.branch_failed(now, circuit, &leg, close.reason, None);
        } else {
            self.tear_down(now, circuit, close.reason, Some(leg));
        }
    }

    /// Ends a circuit and tells both sides, except the one that it was heard from.
    pub(super) fn tear_down(&mut self, now: Instant, id: u64, reason: Reason, heard_from: Option<Leg>) {
        let Some(circuit) = self.circuits.get(&id) else { return };
        let was_opening = matches!(circuit.state, State::Opening(_));
        let ends: smallvec::SmallVec<[End; 4]> = circuit.ends().collect();
        for end in ends {
            match end {
                End::Link(leg) if Some(leg) != heard_from => self.send_close(leg, reason),
                End::Link(_) => {}
                End::Local if was_opening => self.events.push_back(Event::Failed { path: PathId(id), reason }),
                End::Local => self.events.push_back(Event::Closed { path: PathId(id), reason }),
            }
        }
        self.remove(now, id);
    }

    /// Forgets a circuit.
    pub(super) fn remove(&mut self, now: Instant, id: u64) {
        let Some(circuit) = self.circuits.remove(&id) else { return };
        self.timers.clear(&id);
        self.trails.release(now, circuit.setup);
        if !self.own.remove(&id) && matches!(circuit.state, State::Opening(_)) {
            self.half_open -= 1;
        }
        if let End::Link(up) = circuit.up {
            self.legs.unbring(&up.peer);
            self.legs.remove(now, &up);
        }
        circuit.ends().skip(1).filter_map(End::leg).for_each(|leg| self.legs.remove(now, &leg));
    }

    /// Tells a neighbour that a path is no more.
    fn send_close(&mut self, leg: Leg, reason: Reason) {
        let body: Bytes = Close { label: leg.label, reason }.encode();
        self.transmits.push_back((leg.peer, kind::PATH_CLOSE, body));
    }
}
