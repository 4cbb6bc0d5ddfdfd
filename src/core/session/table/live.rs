//! What an established session says, and what follows: channels come, open and go, callers
//! prove who they are, sessions end.

use std::sync::Arc;

use bytes::Bytes;

use super::limits::{
    ASK_AGAIN, ASK_BLOCKED, CHANNELS_MAX, CHANNELS_PER_FREE, CLOSING_AFTER, HELD_MAX, PROOF_AFTER, TOLD_LATER_MAX,
};
use super::{Acting, Channel, ChannelRef, End, Event, Held, Purpose, SessionId, Sessions, Timer, Turn, Waiting};
use crate::session::established::{CloseCode, Event as Said, ResetCause};
use crate::session::listeners::{Admission, Caller};
use crate::session::{ChannelId, ListenerId, OpenRequest, Refusal, proof};
use crate::time::Now;

impl Sessions {
    /// After anything that touched a session: hears what it says, gives it a turn to send, keeps its timer.
    pub(super) fn settle(&mut self, now: Now, id: SessionId) {
        self.hear(now, id);
        self.make_ready(id);
        self.keep_timer(now, id);
    }

    /// Hears everything that a session says; whether it said anything.
    pub(super) fn hear(&mut self, now: Now, id: SessionId) -> bool {
        let mut any = false;
        while let Some(said) = self.sessions.get_mut(&id).and_then(|session| session.machine.poll_event()) {
            any = true;
            self.handle_said(now, id, said);
        }
        any
    }

    /// Sets a session's timer to its next deadline. What is due already is done when its turn to send comes; one that
    /// has nothing to send then is asked again soon, never at once.
    pub(super) fn keep_timer(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        match session.machine.poll_timeout() {
            Some(at) if at > now.instant => self.timers.set(Timer::Session(id), at),
            Some(_) if session.turn == Turn::Rests => self.timers.set(Timer::Session(id), now.instant + ASK_AGAIN),
            Some(_) if session.turn != Turn::Ready && session.carriers.len() > 1 => {
                self.timers.set(Timer::Session(id), now.instant + ASK_BLOCKED);
            }
            Some(_) | None => self.timers.clear(&Timer::Session(id)),
        }
    }

    /// Puts a session at the end of the ready list, unless it is there. One whose circuit has no room has nothing to do
    /// there, unless it has others: those may have something to say.
    pub(super) fn make_ready(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let due = match session.turn {
            Turn::Rests => true,
            Turn::Ready => false,
            Turn::Blocked(_) => session.carriers.len() > 1,
        };
        if due {
            session.turn = Turn::Ready;
            self.ready.push_back(id);
        }
    }

    /// One thing that a session says.
    fn handle_said(&mut self, now: Now, id: SessionId, said: Said) {
        let channel_ref = |channel| ChannelRef { session: id, channel };
        match said {
            Said::Incoming { channel, open } => self.incoming_channel(now, id, channel, &open),
            Said::Opened(channel) => self.opened(id, channel),
            Said::Refused { channel, why } => {
                if let Some(Channel::Opening(waiting, _)) = self.remove_channel(id, channel) {
                    self.events.push_back(Event::Refused { connect: waiting.connect, why });
                }
            }
            Said::Readable(channel) => self.tell(id, channel, Event::Readable(channel_ref(channel))),
            Said::Writable(channel) => self.tell(id, channel, Event::Writable(channel_ref(channel))),
            Said::Finished(channel) => self.tell(id, channel, Event::Finished(channel_ref(channel))),
            Said::Stopped(channel) => self.tell(id, channel, Event::Stopped(channel_ref(channel))),
            Said::Reset { channel, cause } => self.channel_broke(now, id, channel, cause == ResetCause::Lost),
            Said::Closed(channel) => {
                if self.remove_channel(id, channel).is_some() {
                    self.events.push_back(Event::Closed(channel_ref(channel)));
                }
            }
            Said::Proof(bytes) => self.proof_came(now, id, &bytes),
            Said::CarrierDead(carrier) => {
                self.close_carrier(carrier);
                self.carrier_gone(now, id, carrier, true);
            }
            Said::CarrierSilent(_) => self.build(now, id, Purpose::Continue),
            Said::Idle => self.close_idle(now, id),
            Said::Expired | Said::SessionClosed(_) => {
                if self.sessions.get(&id).is_some_and(|session| !session.closing) {
                    self.remove_session(now, id);
                }
            }
        }
    }

    /// Passes on what concerns an open channel; keeps it for later while the channel opens.
    fn tell(&mut self, id: SessionId, channel: ChannelId, event: Event) {
        match self.sessions.get_mut(&id).and_then(|session| session.channels.get_mut(&channel)) {
            Some(Channel::Open(_)) => self.events.push_back(event),
            Some(Channel::Opening(_, later)) if later.len() < TOLD_LATER_MAX => later.push(event),
            Some(Channel::Opening(..) | Channel::Held | Channel::Undecided(_)) | None => {}
        }
    }

    /// The far side accepted a channel of ours.
    fn opened(&mut self, id: SessionId, channel: ChannelId) {
        let Some(slot) = self.sessions.get_mut(&id).and_then(|session| session.channels.get_mut(&channel)) else {
            return;
        };
        if let Channel::Opening(waiting, later) = slot {
            let (connect, later) = (waiting.connect, std::mem::take(later));
            *slot = Channel::Open(None);
            self.forget_connect(connect);
            self.events.push_back(Event::Opened { connect, channel: ChannelRef { session: id, channel } });
            self.events.extend(later);
        }
    }

    /// A channel broke. A connect that was lost before the far side answered tries again while it has time.
    pub(super) fn channel_broke(&mut self, now: Now, id: SessionId, channel: ChannelId, lost: bool) {
        let target = self.sessions.get(&id).and_then(|session| match &session.end {
            End::Initiator(end) => Some((end.acting, Arc::clone(&end.descriptor))),
            End::Responder(_) => None,
        });
        match self.remove_channel(id, channel) {
            Some(Channel::Opening(waiting, _)) if lost => self.connect_again(now, id, target, waiting),
            Some(Channel::Opening(Waiting { connect, .. }, _)) => {
                self.events.push_back(Event::Refused { connect, why: Refusal::LocalRefused });
            }
            Some(Channel::Open(_) | Channel::Undecided(_)) => {
                self.events.push_back(Event::Reset { channel: ChannelRef { session: id, channel }, lost });
            }
            Some(Channel::Held) | None => {}
        }
    }

    /// Tries a connect once more, in another session than `id`.
    fn connect_again(
        &mut self,
        now: Now,
        id: SessionId,
        target: Option<(Acting, Arc<crate::session::Descriptor>)>,
        waiting: Waiting,
    ) {
        let Some((acting, descriptor)) = target.filter(|_| now.instant < waiting.until) else {
            return self.events.push_back(Event::Failed { connect: waiting.connect, why: super::Failure::Timeout });
        };
        let key = (acting, descriptor.owner);
        if self.by_target.get(&key) == Some(&id) {
            self.by_target.remove(&key);
        }
        self.join(now, acting, &descriptor, waiting);
    }

    /// Takes a channel out of the table: counts, connect and listener forget it.
    pub(super) fn remove_channel(&mut self, id: SessionId, channel: ChannelId) -> Option<Channel> {
        let removed = self.sessions.get_mut(&id)?.channels.remove(&channel)?;
        self.channels_len -= 1;
        match &removed {
            Channel::Opening(waiting, _) => {
                self.forget_connect(waiting.connect);
            }
            Channel::Undecided(listener) | Channel::Open(Some(listener)) => self.listeners.channel_down(*listener),
            Channel::Held => {
                if let Some(end) = self.sessions.get_mut(&id).and_then(super::Session::responder) {
                    end.held.retain(|held| held.channel != channel);
                }
            }
            Channel::Open(None) => {}
        }
        Some(removed)
    }

    /// The far side opens a channel.
    fn incoming_channel(&mut self, now: Now, id: SessionId, channel: ChannelId, open: &OpenRequest) {
        let free = CHANNELS_MAX.saturating_sub(self.channels_len);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // One session may have most of them while nobody else wants any, never the last.
        let full = session.channels.len() >= CHANNELS_PER_FREE * free;
        let owner = session.owner;
        let End::Responder(end) = &mut session.end else {
            // Responders do not open channels: nobody could listen to them here.
            return session.machine.refuse(now, channel, Refusal::NoListener);
        };
        let found = self.listeners.find(owner, open.label.as_deref(), &open.port, open.mode);
        let admission = match found {
            Ok(_) if full || end.held.len() >= HELD_MAX => Admission::Refused(Refusal::TooMany),
            Ok(listener) => self.listeners.admit(listener, end.caller),
            Err(why) => Admission::Refused(why),
        };
        match (admission, found) {
            (Admission::AwaitProof, Ok(listener)) => {
                let until = now.instant + PROOF_AFTER;
                end.held.push(Held { channel, listener, until });
                session.channels.insert(channel, Channel::Held);
                self.channels_len += 1;
                if self.timers.at(&Timer::Proof(id)).is_none() {
                    self.timers.set(Timer::Proof(id), until);
                }
            }
            (Admission::Admitted, Ok(listener)) => {
                session.channels.insert(channel, Channel::Held);
                self.channels_len += 1;
                self.announce_channel(id, channel, listener);
            }
            (Admission::Refused(why), _) | (_, Err(why)) => {
                self.counters.channels_refused += u64::from(why == Refusal::TooMany);
                session.machine.refuse(now, channel, why);
            }
        }
    }

    /// Hands an admitted channel to its listener.
    fn announce_channel(&mut self, id: SessionId, channel: ChannelId, listener: ListenerId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let caller = session.responder().and_then(|end| end.caller.identity());
        session.channels.insert(channel, Channel::Undecided(listener));
        self.listeners.channel_up(listener);
        self.events.push_back(Event::Incoming { channel: ChannelRef { session: id, channel }, listener, caller });
    }

    /// The initiator's identity proof came; the first one counts.
    fn proof_came(&mut self, now: Now, id: SessionId, bytes: &Bytes) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (owner, exporter) = (session.owner, session.keys.exporter.clone());
        let Some(end) = session.responder() else { return };
        if end.caller != Caller::Awaited {
            return;
        }
        end.caller = match proof::verify(bytes, &exporter, owner) {
            Ok(identity) => Caller::Proven(identity),
            Err(_) => {
                self.counters.bad_proofs += 1;
                Caller::Anonymous
            }
        };
        self.timers.clear(&Timer::Proof(id));
        self.decide_held(now, id);
    }

    /// Admits or refuses the channels that waited for a proof.
    fn decide_held(&mut self, now: Now, id: SessionId) {
        let Some(end) = self.sessions.get_mut(&id).and_then(super::Session::responder) else { return };
        let caller = end.caller;
        for Held { channel, listener, .. } in std::mem::take(&mut end.held) {
            match self.listeners.admit(listener, caller) {
                Admission::Admitted => self.announce_channel(id, channel, listener),
                Admission::Refused(why) => self.refuse_held(now, id, channel, why),
                Admission::AwaitProof => self.refuse_held(now, id, channel, Refusal::NotAllowed),
            }
        }
        self.make_ready(id);
    }

    /// Refuses a channel that waited for a proof.
    fn refuse_held(&mut self, now: Now, id: SessionId, channel: ChannelId, why: Refusal) {
        self.remove_channel(id, channel);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.machine.refuse(now, channel, why);
        }
    }

    /// The proof has not come in time: channels that waited long enough are refused, later ones wait on.
    pub(super) fn proof_timed_out(&mut self, now: Now, id: SessionId) {
        let Some(end) = self.sessions.get_mut(&id).and_then(super::Session::responder) else { return };
        let due: Vec<_> = end.held.iter().filter(|held| held.until <= now.instant).map(|held| held.channel).collect();
        let next = end.held.iter().map(|held| held.until).find(|until| *until > now.instant);
        for channel in due {
            self.refuse_held(now, id, channel, Refusal::NotAllowed);
        }
        if let Some(next) = next {
            self.timers.set(Timer::Proof(id), next);
        }
        self.settle(now, id);
    }

    /// No channel for a minute: the initiator ends the session; the responder waits for that.
    fn close_idle(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let End::Initiator(end) = &session.end else { return };
        if !session.channels.is_empty() || session.closing {
            return;
        }
        let target = (end.acting, session.owner);
        session.closing = true;
        session.machine.close(CloseCode::Done);
        if self.by_target.get(&target) == Some(&id) {
            self.by_target.remove(&target);
        }
        self.timers.set(Timer::Closing(id), now.instant + CLOSING_AFTER);
        self.make_ready(id);
    }

    /// Ends a session at once: circuits close, channels break, connects try elsewhere.
    pub(super) fn remove_session(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let channels: Vec<ChannelId> = session.channels.keys().copied().collect();
        let mut carriers: Vec<_> = session.carriers.iter().copied().collect();
        match &session.end {
            End::Initiator(end) => {
                carriers.extend(end.building.iter().map(|building| building.carrier));
                let target = (end.acting, session.owner);
                if self.by_target.get(&target) == Some(&id) {
                    self.by_target.remove(&target);
                }
            }
            End::Responder(end) => {
                carriers.extend(&end.unproven);
                if let Some(stored) = &end.stored {
                    self.by_first.remove(&stored.first_hash);
                }
                for n in end.resume_next..end.resume_next + super::limits::RESUME_AHEAD {
                    let tag = crate::session::handshake::Resumption::new(&session.keys.resume, n).tag;
                    self.by_tag.remove(&tag);
                }
            }
        }
        self.half_open.remove(&id);
        let timers = [
            Timer::Session(id),
            Timer::Resume(id),
            Timer::Hedge(id),
            Timer::Standby(id),
            Timer::HalfOpen(id),
            Timer::Proof(id),
            Timer::Closing(id),
        ];
        timers.iter().for_each(|timer| self.timers.clear(timer));
        for channel in channels {
            self.channel_broke(now, id, channel, true);
        }
        self.sessions.remove(&id);
        for carrier in carriers {
            self.close_carrier(carrier);
        }
    }
}
