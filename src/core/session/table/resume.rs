//! A session whose circuit died: the initiator asks for a new one that carries a
//! single-use tag, the responder attaches it. Until the channels give up, after 60 s.

use super::limits::{REJECTED_MAX, RETRY_JITTER};
use super::{Channel, End, Event, SessionId, Sessions, Timer};
use crate::crypto::{PeerId, hash, same_secret};
use crate::session::handshake::Resumption;
use crate::session::{CarrierId, ChannelId};
use crate::time::Now;
use crate::wire::session_handshake::Message;

impl Sessions {
    /// Asks for a new circuit for a session of ours that has none, unless that is done already.
    pub(super) fn resume(&mut self, id: SessionId) {
        let carrier = self.next_carrier();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let End::Initiator(end) = &mut session.end else { return };
        if end.resuming.is_some() || !session.carriers.is_empty() || session.closing {
            return;
        }
        let n = end.resume_next;
        end.resume_next += 1;
        end.resuming = Some((carrier, n));
        let Resumption { tag, reveal, .. } = Resumption::new(&session.keys.resume, n);
        let (node, blob) = (end.descriptor.node, Message::Resume(tag).encode().into());
        self.by_carrier.insert(carrier, id);
        self.events.push_back(Event::NeedCircuit { carrier, node, blob, proof_hash: hash(&reveal) });
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
    pub(super) fn resumed(&mut self, now: Now, id: SessionId, carrier: CarrierId, blob: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return self.close_carrier(carrier) };
        let End::Initiator(end) = &mut session.end else { return self.close_carrier(carrier) };
        let Some((_, n)) = end.resuming.take_if(|(awaited, _)| *awaited == carrier) else { return };
        let want = Resumption::new(&session.keys.resume, n).mac;
        let holds = matches!(Message::decode(blob), Ok(Message::Resumed(mac)) if same_secret(&mac, &want));
        if !holds {
            self.counters.bad_answers += 1;
            self.close_carrier(carrier);
            return self.resume_later(now, id, false);
        }
        (end.failures, end.rejected) = (0, 0);
        session.machine.add_carrier(now, carrier);
        session.carriers.insert(carrier);
        self.settle(now, id);
    }

    /// A circuit of a session closed or does not come: the session goes on without it.
    pub(super) fn carrier_gone(&mut self, now: Now, id: SessionId, carrier: CarrierId, rejected: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match &mut session.end {
            End::Initiator(end) => {
                if end.resuming.take_if(|(awaited, _)| *awaited == carrier).is_some() {
                    return self.resume_later(now, id, rejected);
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
    }

    /// A session may have lost its last circuit. Ours is resumed if it has channels; one without is of no use, except that
    /// a half-open one may still get a repeat of its first message.
    pub(super) fn without_carrier(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.carriers.is_empty()) else { return };
        match &session.end {
            End::Responder(end) if end.stored.is_some() => {}
            _ if session.channels.is_empty() => self.remove_session(now, id),
            End::Initiator(_) if self.timers.at(&Timer::Resume(id)).is_none() => self.resume(id),
            End::Initiator(_) | End::Responder(_) => {}
        }
    }

    /// A resumption failed: tries again later, or gives the session up when the far node has clearly forgotten it.
    fn resume_later(&mut self, now: Now, id: SessionId, rejected: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
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
        self.timers.set(Timer::Resume(id), at);
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
