//! Routed datagrams: single messages toward a peer by the next-hop rule, and their answers
//! back by per-hop tokens. The source is never named: a hop knows the previous one only.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::leases::Leases;
use super::limits::{ANSWERS_MAX, HOPS_SLACK, JUDGE_WAIT, JUDGE_WAIT_PER_METRIC, TOKEN_LIFE, WATCHED_MAX};
use super::{Cost, Error, Event, Limits, RequestId, ReturnToken, Routing, SendError, To};
use crate::crypto::PeerId;
use crate::defence::{self, Defence};
use crate::time::{Instant, Now};
use crate::wire::kind;
use crate::wire::routing::{PAYLOAD_MAX, Routed, RoutedAnswer};
use crate::wire::way::Way;

/// No answer is wanted.
const NO_TOKEN: [u8; 8] = [0; 8];

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// This node.
    Ourselves(RequestId),
    /// A neighbour, which knows the datagram by its own token.
    Neighbour(PeerId, [u8; 8]),
}

/// A datagram that went on with a token of ours.
struct Pending {
    asker: Asker,
    to: PeerId,
    answers_left: u8,
    /// Who is to answer, where it must, and when it is late.
    watched: Option<(PeerId, Instant)>,
}

/// A request to a landmark, which answers each: its silence tells of the hop that it went over, here as at every
/// other node that it passed.
pub(super) struct Watch {
    pub landmark: PeerId,
    pub cost: Cost,
    pub hops_left: u16,
}

/// Datagrams whose answers may still come, by our token.
pub(super) struct Datagrams {
    pending: Leases<[u8; 8], Pending>,
    /// When those that are watched are judged.
    watched: BTreeSet<(Instant, [u8; 8])>,
    requests: u64,
}

impl Datagrams {
    /// None yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self { pending: Leases::new(limits.tokens), watched: BTreeSet::new(), requests: 0 }
    }

    /// Removes what is older than 30 s.
    pub(super) fn expire(&mut self, now: Instant) {
        self.pending.expire(now);
    }

    /// Removes what a neighbour waited for.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.pending.forget(peer);
    }
}

impl Routing {
    /// Sends a datagram of at most 20 KiB toward a peer, direct neighbours included. Up to 16 answers come as
    /// [`Event::Answer`] within 30 s if it is `answerable`. Nothing tells of its loss.
    ///
    /// # Errors
    /// No next hop, ourselves, too long.
    pub fn send_routed(
        &mut self,
        now: Now,
        to: PeerId,
        payload: Bytes,
        answerable: bool,
    ) -> Result<RequestId, SendError> {
        if to == self.me {
            return Err(SendError::Ourselves);
        }
        if payload.len() > PAYLOAD_MAX {
            return Err(SendError::TooLong);
        }
        let near = self.next_hops(&to).first().is_some_and(|(via, _)| self.evidence.penalty(&to, via) == 0);
        let way = if near { Way::default() } else { self.way_to(now, &to) };
        let (via, cost) = self.routed_hop(&to, &way, None).ok_or(SendError::NoRoute)?;
        let hops_left = self.hops_for(cost);
        let request = self.fresh_request();
        let asker = Asker::Ourselves(request);
        let token = if answerable { self.lease(now.instant, asker, via, ANSWERS_MAX) } else { NO_TOKEN };
        self.send(To::One(via), kind::ROUTED, Routed { dest: to, hops_left, token, way, payload }.encode());
        Ok(request)
    }

    /// A number for a request.
    fn fresh_request(&mut self) -> RequestId {
        self.datagrams.requests += 1;
        RequestId(self.datagrams.requests)
    }

    /// A number for a request of our own to a landmark, and the token that goes with it.
    pub(super) fn request(&mut self, now: Instant, via: PeerId, watch: &Watch) -> (RequestId, [u8; 8]) {
        let request = self.fresh_request();
        (request, self.lease_watched(now, Asker::Ourselves(request), via, watch))
    }

    /// A token of ours for a request to a landmark that goes to `to`, and has one answer.
    pub(super) fn lease_watched(&mut self, now: Instant, asker: Asker, to: PeerId, watch: &Watch) -> [u8; 8] {
        self.judge(now);
        let token = self.lease(now, asker, to, 1);
        // One that cannot get there would tell nothing, and anybody can send such.
        let is_landmark = self.table.entries.get(&watch.landmark).is_some_and(|entry| entry.proof.is_landmark());
        let tells = token != NO_TOKEN && watch.hops_left >= watch.cost.0 && is_landmark;
        let watched = &mut self.datagrams.watched;
        if tells
            && watched.len() < WATCHED_MAX
            && let Some(pending) = self.datagrams.pending.find(now, &token)
        {
            let late = now + JUDGE_WAIT + JUDGE_WAIT_PER_METRIC * u32::from(watch.cost.0);
            pending.watched = Some((watch.landmark, late));
            watched.insert((late, token));
        }
        token
    }

    /// Takes the silence of watched requests into account. One that is answered later counts again, as answered.
    pub(super) fn judge(&mut self, now: Instant) {
        while self.datagrams.watched.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, token)) = self.datagrams.watched.pop_first()
        {
            let Some(pending) = self.datagrams.pending.find(now, &token) else { continue };
            let (to, watched) = (pending.to, pending.watched);
            // What was under way on a link that is gone was lost with it.
            if let Some((landmark, _)) = watched.filter(|_| self.neighbours.contains_key(&to)) {
                self.evidence.note(now, landmark, to, false);
            }
        }
    }

    /// Hops that a datagram gets over a distance: half as much again, and some.
    pub(super) fn hops_for(&mut self, cost: Cost) -> u16 {
        let slack = HOPS_SLACK + u16::try_from(self.rng.public_below(u64::from(HOPS_SLACK))).unwrap_or(0);
        cost.0.saturating_add(cost.0 / 2).saturating_add(slack)
    }

    /// Answers over a neighbour's token.
    pub(super) fn answer_token(&mut self, to: PeerId, token: [u8; 8], payload: Bytes) {
        if token != NO_TOKEN {
            self.send(To::One(to), kind::ROUTED_ANSWER, RoutedAnswer { token, payload }.encode());
        }
    }

    /// Answers a datagram. An answer after 30 s is lost.
    ///
    /// # Errors
    /// [`SendError::TooLong`], or [`SendError::NoRoute`] when the link it came over is gone.
    pub fn answer_routed(&mut self, _now: Now, reply: ReturnToken, payload: Bytes) -> Result<(), SendError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(SendError::TooLong);
        }
        if !self.neighbours.contains_key(&reply.neighbour) {
            return Err(SendError::NoRoute);
        }
        let answer = RoutedAnswer { token: reply.token, payload };
        self.send(To::One(reply.neighbour), kind::ROUTED_ANSWER, answer.encode());
        Ok(())
    }

    /// A token of ours for a datagram that goes to `to`.
    pub(super) fn lease(&mut self, now: Instant, asker: Asker, to: PeerId, answers_left: u8) -> [u8; 8] {
        if let Asker::Neighbour(_, NO_TOKEN) = asker {
            return NO_TOKEN;
        }
        let owner = match asker {
            Asker::Ourselves(_) => self.me,
            Asker::Neighbour(peer, _) => peer,
        };
        let mut token = self.rng.public_array();
        while token == NO_TOKEN || self.datagrams.pending.contains(&token) {
            token = self.rng.public_array();
        }
        let pending = Pending { asker, to, answers_left, watched: None };
        self.counters.leases_dropped +=
            u64::from(self.datagrams.pending.insert(owner, now + TOKEN_LIFE, token, pending));
        token
    }

    /// A datagram: ours, or to be passed on.
    pub(super) fn handle_routed(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let Routed { dest, hops_left, token, way, payload } = Routed::decode(body).map_err(Error::Malformed)?;
        if dest == self.me {
            let reply = (token != NO_TOKEN).then_some(ReturnToken { neighbour: from, token });
            self.events.push_back(Event::Datagram { payload, neighbour: from, reply });
            return Ok(());
        }
        let via = self.routed_hop(&dest, &way, Some(&from));
        let (Some((via, cost)), Some(hops_left)) = (via, hops_left.checked_sub(1)) else {
            self.counters.datagrams_dropped += 1;
            return Ok(());
        };
        let hops_left = hops_left.min(self.hops_for(cost));
        let token = self.lease(now, Asker::Neighbour(from, token), via, ANSWERS_MAX);
        self.send(To::One(via), kind::ROUTED, Routed { dest, hops_left, token, way, payload }.encode());
        Ok(())
    }

    /// An answer: only to a datagram that we sent or passed to this neighbour, and not too many.
    pub(super) fn handle_routed_answer(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let RoutedAnswer { token, payload } = RoutedAnswer::decode(body).map_err(Error::Malformed)?;
        let pending = self
            .datagrams
            .pending
            .find(now, &token)
            .filter(|pending| pending.to == from || !defence::on(Defence::AnswerAsked));
        let Some(pending) = pending else {
            self.counters.answers_unsolicited += 1;
            return Ok(());
        };
        pending.answers_left -= 1;
        let (asker, last, watched) = (pending.asker, pending.answers_left == 0, pending.watched);
        if last {
            self.datagrams.pending.remove(&token);
        }
        if let Some((landmark, late)) = watched {
            self.datagrams.watched.remove(&(late, token));
            self.evidence.note(now, landmark, from, true);
        }
        match asker {
            Asker::Ourselves(request) => {
                match watched {
                    Some((landmark, _)) => self.evidence.note_landmark(now, landmark, from, true),
                    None => self.evidence.note_neighbour(now, from, true),
                }
                if !self.handle_registered(now, request, &payload) && !self.handle_place_answer(now, request, &payload)
                {
                    self.events.push_back(Event::Answer { request, payload });
                }
            }
            Asker::Neighbour(peer, token) => {
                self.send(To::One(peer), kind::ROUTED_ANSWER, RoutedAnswer { token, payload }.encode());
            }
        }
        Ok(())
    }
}
