//! Fresh key agreement on a live link, every hour: whoever holds an old secret of the link knows
//! nothing any more once both sides have mixed in what they agreed since (PROTOCOL.md §3).
//!
//! ```text
//! dialer   share ──▶            ◀── answer          done ──▶
//!                    opener is told       opener, then sealer   sealer is told
//! ```
//!
//! Each sealer mixes after a frame that says so; the peer's opener has been told by then, as the
//! answer or "done" went before. Traffic goes on all the time under the keys before. Only the side that
//! dialed begins, so offers never cross. Bounds: one agreement at a time, one per half an hour.

use zeroize::Zeroizing;

use super::error::Error;
use super::flows::Message;
use super::limits::{REKEY_GAP_MIN, REKEY_JITTER_PERCENT, REKEY_TIME};
use super::links::{Conn, End, Link, Links, Timer};
use super::memory::Queued;
use super::{ConnId, Transmit};
use crate::crypto::{AgreementSecret, Context, agree_respond, derive_into};
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::wire::kind;

/// What one direction of a link mixes into its key.
pub struct Mix(pub(super) Zeroizing<[u8; 32]>);

/// Where a link's agreement stands.
enum State {
    /// None is under way.
    Idle,
    /// Our share is out.
    Offered { secret: AgreementSecret, share: Vec<u8> },
    /// Our answer is out; what our sealer mixes in when the peer is ready.
    Answered(Mix),
}

/// The fresh agreements of one link.
pub(super) struct Rekey {
    state: State,
    /// When the last one was answered, or the link came up.
    since: Instant,
}

impl Rekey {
    /// For a link that came up at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { state: State::Idle, since: now }
    }

    /// When the next one is due after `now`.
    pub(super) fn next(now: Instant, rng: &mut Rng) -> Instant {
        now + rng.jitter(REKEY_TIME, REKEY_JITTER_PERCENT)
    }
}

/// What both directions mix in: the dialer's, the other's.
fn mixes(shared: &[u8], share: &[u8], answer: &[u8]) -> [Mix; 2] {
    let mut keys = Zeroizing::new([[0; 32]; 2]);
    derive_into(Context::LinkRekey, &[shared, share, answer], keys.as_flattened_mut());
    keys.map(|key| Mix(Zeroizing::new(key)))
}

impl Links {
    /// A fresh agreement is due on a link that we dialed. One that is still not answered ends the link.
    pub(super) fn begin_rekey(&mut self, now: Now, conn: ConnId) {
        let Some(Conn::Linked(link)) = self.conns.get_mut(&conn) else { return };
        if !matches!(link.rekey.state, State::Idle) {
            return self.end(conn, Error::TimedOut, End::Silently);
        }
        let secret = AgreementSecret::generate(link.group, &mut self.rng);
        let share = secret.public_share();
        let sent = send_own(link, &mut self.queued, kind::REKEY, &share);
        link.rekey.state = State::Offered { secret, share };
        let next = Rekey::next(now.instant, &mut self.rng);
        self.timers.set(Timer::Rekey(conn), next);
        match sent {
            Ok(()) => self.activate(conn),
            Err(why) => self.end(conn, why, End::Silently),
        }
    }

    /// A message of a fresh agreement.
    pub(super) fn handle_rekey(&mut self, now: Now, conn: ConnId, kind: u8, body: &[u8]) -> Result<(), Error> {
        let Some(Conn::Linked(link)) = self.conns.get_mut(&conn) else { return Ok(()) };
        let state = std::mem::replace(&mut link.rekey.state, State::Idle);
        let mut tell = |open, seal| self.transmits.push_back(Transmit::Mix { conn, open, seal });
        match (kind, state) {
            (kind::REKEY, State::Idle) if !link.outbound && now.instant - link.rekey.since >= REKEY_GAP_MIN => {
                let (answer, shared) = agree_respond(link.group, body, &mut self.rng)?;
                let [theirs, ours] = mixes(shared.as_bytes(), body, &answer);
                tell(Some(theirs), None);
                link.rekey = Rekey { state: State::Answered(ours), since: now.instant };
                send_own(link, &mut self.queued, kind::REKEY_ANSWER, &answer)?;
            }
            (kind::REKEY_ANSWER, State::Offered { secret, share }) => {
                let shared = secret.finish(body)?;
                let [ours, theirs] = mixes(shared.as_bytes(), &share, body);
                tell(Some(theirs), Some(ours));
                self.counters.rekeys += 1;
                send_own(link, &mut self.queued, kind::REKEY_DONE, &[])?;
            }
            (kind::REKEY_DONE, State::Answered(ours)) if body.is_empty() => {
                tell(None, Some(ours));
                self.counters.rekeys += 1;
            }
            _ => return Err(Error::Garbage(crate::wire::Error::Invalid("key agreement out of turn"))),
        }
        self.activate(conn);
        Ok(())
    }
}

/// Queues a control message of the link's own.
fn send_own(link: &mut Link, queued: &mut Queued, kind: u8, body: &[u8]) -> Result<(), Error> {
    let message = Message::new(kind, &[], bytes::Bytes::copy_from_slice(body)).ok_or(Error::ControlOverflow)?;
    let before = Queued::of(&link.scheduler);
    let sent = link.scheduler.push_control(message).map_err(|_| Error::ControlOverflow);
    queued.change(before, Queued::of(&link.scheduler));
    sent
}

/// The gap is shorter than the shortest time between two agreements, so that no honest peer comes too soon.
const _: () = assert!(REKEY_GAP_MIN.as_secs() * 100 < REKEY_TIME.as_secs() * (100 - REKEY_JITTER_PERCENT as u64));
