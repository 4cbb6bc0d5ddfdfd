//! Path set-ups from elsewhere: first messages of strangers, their repeats, resumptions.
//!
//! Cost of a first message: one hash and a look-up for a repeat; else one trial (about
//! 40 µs) for each key of each owner until one fits, then one ML-KEM decapsulation and one
//! encapsulation. All of it is budgeted: [`WORK_PER_S`]. What is for none of our keys, of a
//! broken initiator, or a replay gets the same silence.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::limits::{
    HALF_OPEN_AFTER, HALF_OPEN_MAX, REPEAT_CARRIERS_MAX, RESUME_AHEAD, SESSIONS_MAX, WORK_ANSWER, WORK_BURST,
    WORK_PER_S,
};
use super::{End, Incoming, ResponderEnd, Session, SessionId, Sessions, StoredAnswer, Timer};
use crate::crypto::Aead;
use crate::defence::{self, Defence};
use crate::session::established::{Established, Secrets};
use crate::session::handshake::{Answered, Resumption, Unlocked, first_hash, reveal_again, trial, unlock};
use crate::session::listeners::Caller;
use crate::session::{CarrierId, Mode, OpenRequest, Owner, Port, Side};
use crate::time::{Instant, Now, micros};
use crate::wire::session_handshake::{AnswerPayload, First, FirstOpen, Message, SHORT_LEN};

/// A token bucket of public-key operations.
pub(super) struct WorkBudget {
    left: u64,
    filled_at: Instant,
}

impl WorkBudget {
    /// A full bucket.
    pub const fn new(now: Instant) -> Self {
        Self { left: WORK_BURST, filled_at: now }
    }

    /// Takes everything.
    #[cfg(test)]
    pub const fn spend_all(&mut self) {
        self.left = 0;
    }

    /// Takes `amount` if it is there.
    fn take(&mut self, now: Instant, amount: u64) -> bool {
        let earned = micros(now - self.filled_at).saturating_mul(WORK_PER_S) / 1_000_000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(WORK_BURST);
            self.filled_at = now;
        }
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }
}

/// A first message that is ours.
struct Taken {
    owner: Owner,
    /// Which of the owner's keys.
    key: usize,
    unlocked: Unlocked,
}

/// What a session on our side begins with.
struct Begun {
    owner: Owner,
    answered: Answered,
    caller: Caller,
    stored: StoredAnswer,
    /// The first message's channel, if it was taken.
    open: Option<OpenRequest>,
}

/// A first message's channel.
fn open_request(open: &FirstOpen<'_>) -> Option<OpenRequest> {
    let (port, mode) = (Port::new(open.port).ok()?, Mode::from_code(open.mode)?);
    Some(OpenRequest { port, mode, label: open.label.map(Into::into), early: Bytes::copy_from_slice(open.early) })
}

impl Sessions {
    /// A path set-up that ends here and carries `blob`. `carrier` is a fresh one from [`Sessions::next_carrier`]; it is ours
    /// from now on if the answer is `Accept`, else forgotten.
    pub fn handle_incoming(&mut self, now: Now, carrier: CarrierId, blob: &[u8]) -> Incoming {
        let answer = match Message::decode(blob) {
            Ok(Message::First(first)) => self.incoming_first(now, carrier, &first),
            Ok(Message::Resume(tag)) => self.incoming_resume(now, carrier, tag),
            Ok(Message::Answer(_) | Message::Resumed(_)) | Err(_) => None,
        };
        answer.unwrap_or_else(|| {
            self.counters.ignored += 1;
            Incoming::Ignore
        })
    }

    /// A first message: new, or repeated.
    fn incoming_first(&mut self, now: Now, carrier: CarrierId, first: &First<'_>) -> Option<Incoming> {
        let hash = first_hash(first);
        if let Some(id) = self.by_first.get(&hash).copied() {
            return self.repeat_answer(id, carrier, first);
        }
        let Taken { owner, key, unlocked } = self.take_first(now, first)?;
        let payload = unlocked.payload().ok()?;
        let open = match &payload.open {
            Some(open) => Some(open_request(open)?),
            None => None,
        };
        if !self.make_room(now) {
            return None;
        }
        let early_allowed = self.owners.get_mut(&owner)?.key_mut(key)?.first_seen(hash)?;
        let open = open.filter(|_| early_allowed);
        let aead = Aead::offered(self.aes).iter().copied().find(|aead| payload.offers(*aead))?;
        let answer = AnswerPayload { aead, early_taken: open.is_some() };
        let answered = unlocked.answer(answer, &mut self.rng).ok()?;
        let caller = if payload.proves { Caller::Awaited } else { Caller::Anonymous };
        let blob = Bytes::copy_from_slice(&answered.blob);
        let stored = StoredAnswer { first_hash: hash, blob: blob.clone(), reveal_key: unlocked.reveal_key() };
        self.begin(now, carrier, Begun { owner, answered, caller, stored, open });
        Some(Incoming::Accept { blob, reveal: unlocked.reveal(&first.attempt) })
    }

    /// Finds the key that a first message is sealed to, and opens it. `None`: there is none, or it is too much work.
    fn take_first(&mut self, now: Now, first: &First<'_>) -> Option<Taken> {
        let mut overloaded = false;
        let mut candidates =
            self.owners.iter().flat_map(|(owner, keys)| keys.iter().enumerate().map(move |key| (*owner, key)));
        let found = candidates.find_map(|(owner, (at, key))| {
            overloaded = overloaded || !self.work.take(now.instant, 1);
            if overloaded { None } else { trial(key, first).map(|shared| (owner, at, key, shared)) }
        });
        overloaded = overloaded || (found.is_some() && !self.work.take(now.instant, WORK_ANSWER));
        if overloaded {
            self.counters.overloaded += 1;
            return None;
        }
        let (owner, at, key, shared) = found?;
        Some(Taken { owner, key: at, unlocked: unlock(key, &shared, first).ok()? })
    }

    /// Makes room for one more session; whether there is.
    fn make_room(&mut self, now: Now) -> bool {
        if self.half_open.len() >= HALF_OPEN_MAX
            && defence::on(Defence::HalfOpenSessions)
            && let Some(oldest) = self.half_open.first().copied()
        {
            self.counters.half_open_dropped += 1;
            self.remove_session(now, oldest);
        }
        self.sessions.len() + self.dials.len() < SESSIONS_MAX || self.drop_idle(now)
    }

    /// Drops a session without channels; whether there was one.
    pub(super) fn drop_idle(&mut self, now: Now) -> bool {
        let idle = self.sessions.iter().find(|(_, session)| session.channels.is_empty()).map(|(id, _)| *id);
        if let Some(id) = idle {
            self.counters.idle_dropped += 1;
            self.remove_session(now, id);
        }
        idle.is_some()
    }

    /// A session begins on our side.
    fn begin(&mut self, now: Now, carrier: CarrierId, begun: Begun) {
        let Begun { owner, answered: Answered { keys, .. }, caller, stored, open } = begun;
        let id = self.next_session();
        let secrets = Secrets { send: keys.from_responder.clone(), recv: keys.from_initiator.clone(), aead: keys.aead };
        let mut machine = Box::new(Established::new(now, Side::Responder, &secrets));
        machine.add_carrier(now, carrier);
        if let Some(open) = open {
            machine.handle_open(now, open).expect("early data is shorter than a channel's first credit");
        }
        self.by_first.insert(stored.first_hash, id);
        let end =
            ResponderEnd { caller, held: Vec::new(), stored: Some(stored), unproven: BTreeSet::new(), resume_next: 0 };
        let mut session = Session::new(owner, End::Responder(Box::new(end)), machine, keys);
        session.carriers.insert(carrier);
        self.by_carrier.insert(carrier, id);
        for n in 0..RESUME_AHEAD {
            self.by_tag.insert(Resumption::new(&session.keys.resume, n).tag, (id, n));
        }
        self.sessions.insert(id, session);
        self.half_open.insert(id);
        self.timers.set(Timer::HalfOpen(id), now.instant + HALF_OPEN_AFTER);
        self.settle(now, id);
    }

    /// A repeated first message gets the stored answer. Its circuit is used once the initiator's packets come on it:
    /// anybody on the way can repeat.
    fn repeat_answer(&mut self, id: SessionId, carrier: CarrierId, first: &First<'_>) -> Option<Incoming> {
        let end = self.sessions.get_mut(&id)?.responder()?;
        let stored = end.stored.as_ref().filter(|_| end.unproven.len() < REPEAT_CARRIERS_MAX)?;
        let answer =
            Incoming::Accept { blob: stored.blob.clone(), reveal: reveal_again(&stored.reveal_key, &first.attempt) };
        end.unproven.insert(carrier);
        self.by_carrier.insert(carrier, id);
        Some(answer)
    }

    /// A resumption: the session continues on this circuit.
    fn incoming_resume(&mut self, now: Now, carrier: CarrierId, tag: [u8; SHORT_LEN]) -> Option<Incoming> {
        let (id, n) = *self.by_tag.get(&tag)?;
        let session = self.sessions.get_mut(&id)?;
        let resume = session.keys.resume.clone();
        let end = session.responder()?;
        let old = std::mem::replace(&mut end.resume_next, n + 1);
        for gone in old..=n {
            self.by_tag.remove(&Resumption::new(&resume, gone).tag);
        }
        for known in old + RESUME_AHEAD..n + 1 + RESUME_AHEAD {
            self.by_tag.insert(Resumption::new(&resume, known).tag, (id, known));
        }
        session.machine.add_carrier(now, carrier);
        session.carriers.insert(carrier);
        self.by_carrier.insert(carrier, id);
        self.settle(now, id);
        let Resumption { reveal, mac, .. } = Resumption::new(&resume, n);
        Some(Incoming::Accept { blob: Message::Resumed(mac).encode().into(), reveal })
    }
}
