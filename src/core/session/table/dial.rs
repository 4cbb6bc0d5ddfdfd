//! Our side of a connection's beginning: an OPEN in a session that is there, or a
//! handshake, on as many circuits as it takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::limits::{
    CHANNELS_MAX, CONNECT_AFTER, DIALS_MAX, NO_ROUTE_AFTER, NO_ROUTE_TRIES, RETRY_FIRST, RETRY_JITTER, RETRY_MAX,
    SESSIONS_MAX, STANDBY_AFTER, WAITING_MAX,
};
use super::{
    Acting, Channel, CircuitFailure, ConnectId, Dial, End, Event, Failure, InitiatorEnd, Session, SessionId, Sessions,
    Timer, Turn, Waiting,
};
use crate::crypto::Aead;
use crate::session::established::{Carried, Established, Secrets};
use crate::session::handshake::{Initiator, SessionKeys, Wanted};
use crate::session::{CarrierId, Descriptor, OpenRequest, Side, proof};
use crate::time::Now;
use crate::wire::path::{AVOID_MAX, Avoid, SetupId};
use crate::wire::session_handshake::{EARLY_LEN_MAX, FirstOpen, LABEL_LEN_MAX};

impl Sessions {
    /// Connects as `acting` to the owner of a descriptor that has been verified. Answered by `Opened`, `Refused` or `Failed`
    /// under the same id, within 20 s. First data is sent at most once, or again under the final keys when the responder says so.
    pub fn connect(
        &mut self,
        now: Now,
        connect: ConnectId,
        acting: Acting,
        descriptor: &Arc<Descriptor>,
        open: OpenRequest,
    ) {
        let waiting = Waiting { connect, open, until: now.instant + CONNECT_AFTER };
        if self.channels_len >= CHANNELS_MAX {
            self.counters.channels_refused += 1;
            return self.fail_connect(connect, Failure::TooMany);
        }
        self.join(now, acting, descriptor, waiting);
    }

    /// Puts a connect into the session or handshake for its target, or starts one.
    pub(super) fn join(&mut self, now: Now, acting: Acting, descriptor: &Arc<Descriptor>, waiting: Waiting) {
        if matches!(acting, Acting::Identity(id) if !self.identities.contains_key(&id)) {
            return self.fail_connect(waiting.connect, Failure::UnknownIdentity);
        }
        let known = self.by_target.get(&(acting, descriptor.owner)).copied();
        if let Some(id) = known {
            if self.sessions.get(&id).is_some_and(|session| !session.is_doubtful(Some(descriptor.node))) {
                return self.open_channel(now, id, waiting);
            }
            if self.dials.contains_key(&id) {
                return self.wait_for(id, waiting);
            }
        }
        self.start_dial(now, acting, descriptor, waiting);
    }

    /// Waits for a handshake.
    fn wait_for(&mut self, id: SessionId, waiting: Waiting) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        if dial.waiting.len() >= WAITING_MAX {
            self.counters.channels_refused += 1;
            return self.fail_connect(waiting.connect, Failure::TooMany);
        }
        self.note_connect(id, &waiting);
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.waiting.push(waiting);
        }
    }

    /// Remembers where a connect waits and until when, and counts its channel.
    fn note_connect(&mut self, id: SessionId, waiting: &Waiting) {
        self.connects.insert(waiting.connect, id);
        self.timers.set(Timer::Connect(waiting.connect), waiting.until);
        self.channels_len += 1;
    }

    /// Opens a channel in a live session.
    pub(super) fn open_channel(&mut self, now: Now, id: SessionId, waiting: Waiting) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.machine.open(now, waiting.open.clone()) {
            Ok(channel) => {
                self.note_connect(id, &waiting);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.channels.insert(channel, Channel::Opening(waiting, Vec::new()));
                }
                self.settle(now, id);
                self.want_standby(id, now.instant + STANDBY_AFTER);
            }
            Err(why) => self.events.push_back(Event::Refused { connect: waiting.connect, why }),
        }
    }

    /// Starts a handshake.
    fn start_dial(&mut self, now: Now, acting: Acting, descriptor: &Arc<Descriptor>, waiting: Waiting) {
        let full = self.sessions.len() + self.dials.len() >= SESSIONS_MAX && !self.drop_idle(now);
        if full || self.dials.len() >= DIALS_MAX {
            self.counters.channels_refused += 1;
            return self.fail_connect(waiting.connect, Failure::TooMany);
        }
        let mode = waiting.open.mode.code();
        let fits = fits_first(&waiting.open);
        let OpenRequest { port, label, early, .. } = &waiting.open;
        let open = fits.then_some(FirstOpen { mode, label: label.as_deref(), port: port.as_str(), early });
        let wanted = Wanted { aeads: Aead::offered(self.aes), proves: acting != Acting::Anonymous, open };
        let Ok(handshake) = Initiator::new(descriptor, &wanted, &mut self.rng) else {
            return self.fail_connect(waiting.connect, Failure::BadDescriptor);
        };
        let id = self.next_session();
        self.note_connect(id, &waiting);
        let (early, waiting) = if fits { (Some(waiting), Vec::new()) } else { (None, vec![waiting]) };
        let descriptor = Arc::clone(descriptor);
        self.by_target.insert((acting, descriptor.owner), id);
        let (last, started) = (Failure::Timeout, now.instant);
        let (early_cancelled, carrier, failures) = (false, None, 0);
        let tried = SmallVec::new();
        let dial = Dial {
            acting,
            descriptor,
            handshake,
            early,
            early_cancelled,
            waiting,
            carrier,
            tried,
            failures,
            last,
            started,
        };
        self.dials.insert(id, dial);
        self.launch(id);
    }

    /// Asks for a circuit with a handshake's first message.
    pub(super) fn launch(&mut self, id: SessionId) {
        let (carrier, attempt) = (self.next_carrier(), self.rng.public_array());
        let setup = SetupId(self.rng.public_array());
        let Some(dial) = self.dials.get_mut(&id) else { return };
        let avoid = Avoid { setups: dial.tried.clone(), strict: false };
        let (blob, proof_hash) = dial.handshake.message(attempt);
        dial.carrier = Some((carrier, setup));
        self.by_carrier.insert(carrier, id);
        let node = dial.descriptor.node;
        self.events.push_back(Event::NeedCircuit { carrier, node, setup, avoid, blob: blob.into(), proof_hash });
    }

    /// A circuit that [`Event::NeedCircuit`] asked for is there; `blob` is the far node's answer, `parted` says whether
    /// it left the ways to keep away from.
    pub fn handle_circuit_opened(&mut self, now: Now, carrier: CarrierId, blob: &[u8], parted: bool) {
        let Some(id) = self.by_carrier.get(&carrier).copied() else {
            return self.events.push_back(Event::CloseCircuit { carrier });
        };
        let Some(dial) = self.dials.get(&id) else {
            return self.resumed(now, id, carrier, blob, parted);
        };
        match dial.handshake.finish(blob) {
            Ok((keys, early_taken)) => self.establish(now, id, carrier, keys, early_taken),
            Err(_) => {
                self.counters.bad_answers += 1;
                self.close_carrier(carrier);
                self.dial_failed(now, id, Failure::Timeout);
            }
        }
    }

    /// A circuit that [`Event::NeedCircuit`] asked for does not come.
    pub fn handle_circuit_failed(&mut self, now: Now, carrier: CarrierId, why: CircuitFailure) {
        let Some(id) = self.by_carrier.remove(&carrier) else { return };
        let failure = match why {
            CircuitFailure::NoRoute => Failure::NoRoute,
            CircuitFailure::Timeout => Failure::Timeout,
            CircuitFailure::Rejected => Failure::Rejected,
        };
        if self.dials.contains_key(&id) {
            self.dial_failed(now, id, failure);
        } else {
            self.circuit_failed(now, id, carrier, why);
        }
    }

    /// A circuit closed, whoever asked for it.
    pub fn handle_circuit_closed(&mut self, now: Now, carrier: CarrierId) {
        let Some(id) = self.by_carrier.remove(&carrier) else { return };
        if self.dials.contains_key(&id) {
            self.dial_failed(now, id, Failure::Timeout);
        } else {
            self.carrier_gone(now, id, carrier, false);
        }
    }

    /// A handshake's circuit failed: gives up, or tries again later.
    fn dial_failed(&mut self, now: Now, id: SessionId, why: Failure) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        // The next attempt goes around whoever ate this one, over any neighbour.
        if let Some((_, setup)) = dial.carrier.take() {
            dial.tried.truncate(AVOID_MAX - 1);
            dial.tried.insert(0, setup);
        }
        dial.last = why;
        dial.failures += 1;
        let wait = back_off(dial.failures);
        let long = dial.failures >= NO_ROUTE_TRIES && now.instant + wait > dial.started + NO_ROUTE_AFTER;
        let no_route_long = why == Failure::NoRoute && long;
        if why == Failure::Rejected || no_route_long {
            self.fail_dial(now, id, why);
        } else {
            let at = now.instant + self.rng.jitter(wait, RETRY_JITTER);
            self.timers.set(Timer::Dial(id), at);
        }
    }

    /// Gives a handshake up.
    pub(super) fn fail_dial(&mut self, _now: Now, id: SessionId, why: Failure) {
        let Some(dial) = self.remove_dial(id) else { return };
        let early = dial.early.filter(|_| !dial.early_cancelled);
        for waiting in early.into_iter().chain(dial.waiting) {
            self.forget_connect(waiting.connect);
            self.channels_len -= 1;
            self.fail_connect(waiting.connect, why);
        }
    }

    /// Takes a handshake out of the table, with its circuit.
    fn remove_dial(&mut self, id: SessionId) -> Option<Dial> {
        let dial = self.dials.remove(&id)?;
        self.timers.clear(&Timer::Dial(id));
        let target = (dial.acting, dial.descriptor.owner);
        if self.by_target.get(&target) == Some(&id) {
            self.by_target.remove(&target);
        }
        if let Some((carrier, _)) = dial.carrier {
            self.close_carrier(carrier);
        }
        Some(dial)
    }

    /// A handshake is done: the session begins.
    fn establish(&mut self, now: Now, id: SessionId, carrier: CarrierId, keys: SessionKeys, early_taken: bool) {
        let Some(mut dial) = self.dials.remove(&id) else { return };
        self.timers.clear(&Timer::Dial(id));
        let secrets = Secrets { send: keys.from_initiator.clone(), recv: keys.from_responder.clone(), aead: keys.aead };
        let mut machine = Box::new(Established::new(now, Side::Initiator, &secrets));
        machine.add_carrier(now, carrier);
        let owner = dial.descriptor.owner;
        if let Acting::Identity(identity) = dial.acting
            && let Some(key) = self.identities.get(&identity)
        {
            machine.send_proof(Bytes::from(proof::prove(key, &keys.exporter, owner)));
        }
        let (acting, descriptor) = (dial.acting, dial.descriptor);
        let mut end = InitiatorEnd::new(acting, descriptor);
        end.trails.extend(dial.carrier);
        let mut session = Session::new(owner, End::Initiator(end), machine, keys);
        session.carriers.insert(carrier);
        if early_taken && let Some(early) = dial.early.take() {
            session.adopt_early(now, early, dial.early_cancelled);
        }
        let early = dial.early.filter(|_| !dial.early_cancelled);
        self.sessions.insert(id, session);
        for waiting in early.into_iter().chain(dial.waiting) {
            self.channels_len -= 1;
            self.forget_connect(waiting.connect);
            self.open_channel(now, id, waiting);
        }
        self.settle(now, id);
        self.want_standby(id, now.instant + STANDBY_AFTER);
    }

    /// Gives a connect up: nothing more is said about it. An open channel is not touched.
    pub fn cancel(&mut self, now: Now, connect: ConnectId) {
        let Some(id) = self.forget_connect(connect) else { return };
        self.channels_len -= 1;
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.waiting.retain(|waiting| waiting.connect != connect);
            dial.early_cancelled |= dial.early.as_ref().is_some_and(|waiting| waiting.connect == connect);
            if (dial.early.is_none() || dial.early_cancelled) && dial.waiting.is_empty() {
                self.remove_dial(id);
            }
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let opening = |channel: &Channel| matches!(channel, Channel::Opening(waiting, _) if waiting.connect == connect);
        let found = session.channels.iter().find(|(_, channel)| opening(channel)).map(|(id, _)| *id);
        if let Some(channel) = found {
            session.channels.remove(&channel);
            session.machine.reset(now, channel);
            self.settle(now, id);
        }
    }

    /// A connect has taken too long.
    pub(super) fn connect_timed_out(&mut self, now: Now, connect: ConnectId) {
        let last = self.connects.get(&connect).and_then(|id| self.dials.get(id)).map(|dial| dial.last);
        self.cancel(now, connect);
        self.fail_connect(connect, last.filter(|last| *last == Failure::NoRoute).unwrap_or(Failure::Timeout));
    }

    /// Forgets where a connect waits.
    pub(super) fn forget_connect(&mut self, connect: ConnectId) -> Option<SessionId> {
        self.timers.clear(&Timer::Connect(connect));
        self.connects.remove(&connect)
    }

    /// Says that a connect failed.
    fn fail_connect(&mut self, connect: ConnectId, why: Failure) {
        self.events.push_back(Event::Failed { connect, why });
    }

    /// Closes a circuit and forgets it.
    pub(super) fn close_carrier(&mut self, carrier: CarrierId) {
        self.by_carrier.remove(&carrier);
        self.events.push_back(Event::CloseCircuit { carrier });
    }
}

impl Session {
    /// A session without carriers and channels.
    pub(super) fn new(owner: crate::session::Owner, end: End, machine: Box<Established>, keys: SessionKeys) -> Self {
        let (carriers, channels, listed) = Default::default();
        Self { owner, end, machine, keys, carriers, channels, turn: Turn::Rests, listed, closing: false }
    }

    /// The first message's channel was taken: it is ours without sending anything. Given up meanwhile: it is reset.
    fn adopt_early(&mut self, now: Now, early: Waiting, cancelled: bool) {
        let opened = self.machine.open_with(now, early.open.clone(), Carried::Delivered);
        let channel = opened.expect("the first channel of a session, within the bounds of a first message");
        if cancelled {
            self.machine.reset(now, channel);
        } else {
            self.channels.insert(channel, Channel::Opening(early, Vec::new()));
        }
    }
}

/// Whether an OPEN goes into the first message.
fn fits_first(open: &OpenRequest) -> bool {
    let label_fits = open.label.as_ref().is_none_or(|label| !label.is_empty() && label.len() <= LABEL_LEN_MAX);
    label_fits && open.early.len() <= EARLY_LEN_MAX
}

/// How long to wait after that many failures in a row.
pub(super) fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(8);
    (RETRY_FIRST * (1 << doublings)).min(RETRY_MAX)
}
