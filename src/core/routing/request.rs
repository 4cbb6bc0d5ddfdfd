//! What neighbours ask of us and we of them: newer sequences, tables, named routes; the
//! digests that find drift; and the correction of who holds an old proof.

use super::entry::{Cause, Route};
use super::limits::{SEQ_REQUEST_HOPS, SEQ_REQUEST_REPEAT, STALE_REPEAT, STARVED_TRIES, STARVED_WAIT, URGENT};
use super::{Error, Routing, Timer, To};
use crate::crypto::PeerId;
use crate::time::Instant;
use crate::wire::kind;
use crate::wire::routing::{Digest, OriginProof, Refill, SeqRequest};

impl Routing {
    /// Asks for a newer sequence of a starved destination, each time of the next best neighbour.
    pub(super) fn request_sequence(&mut self, now: Instant, dest: &PeerId) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        if entry.routes.is_empty() {
            // Nobody to ask: the next route that comes and is not feasible starts anew.
            entry.starved = None;
        }
        let tries = entry.starved.unwrap_or(0);
        if entry.live || entry.routes.is_empty() || tries >= STARVED_TRIES {
            return;
        }
        entry.starved = Some(tries + 1);
        let mut routes: Vec<&Route> = entry.routes.iter().collect();
        routes.sort_by_key(|route| (std::cmp::Reverse(route.sequence), route.metric(), route.order));
        let via = routes[usize::from(tries) % routes.len()].via;
        let request = SeqRequest { dest: *dest, newer_than: entry.bound.sequence, hops_left: SEQ_REQUEST_HOPS };
        self.timers.set(Timer::Starved(*dest), now + STARVED_WAIT * 2u32.pow(u32::from(tries.min(4))));
        self.send(To::One(via), kind::SEQREQ, request.encode());
    }

    /// Somebody needs a newer sequence: of ours, one that we have, or one that we pass the request on for.
    pub(super) fn handle_seq_request(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let request = SeqRequest::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        if !neighbour.seq_requests.take(now, 1) {
            self.counters.requests_over_budget += 1;
            return Ok(());
        }
        if request.dest == self.me {
            self.answer_seq_request(now, &request);
        } else {
            self.pass_seq_request(now, &from, request);
        }
        Ok(())
    }

    /// A request for a sequence of ours: the newest one may do, else the next; 2 s after the last, and less and less often while requests go on.
    fn answer_seq_request(&mut self, now: Instant, request: &SeqRequest) {
        if self.origin.sequence() > request.newer_than {
            self.tell_own(now, URGENT);
        } else if self.origin.sequence() == request.newer_than && self.timers.at(&Timer::Bump).is_none() {
            let earliest = self.origin.changed_at.map_or(now, |changed| changed + self.origin.wait);
            if earliest > now {
                self.timers.set(Timer::Bump, earliest);
            } else {
                self.bump(now);
            }
        }
    }

    /// A request for another's sequence.
    fn pass_seq_request(&mut self, now: Instant, from: &PeerId, request: SeqRequest) {
        let Some(entry) = self.table.entries.get_mut(&request.dest) else { return };
        let needed = entry.needed.map_or(request.newer_than, |needed| needed.min(request.newer_than));
        if request.newer_than.epoch > entry.proof.epoch {
            return;
        }
        entry.needed = Some(needed);
        if entry.usable().iter().any(|route| route.sequence > request.newer_than) {
            // What was told already may not have been usable for the asker then: tell it again.
            entry.again = true;
            self.settle(now, &request.dest, Cause::Unreachable);
            return;
        }
        let repeated = |(sequence, at): (_, Instant)| sequence == request.newer_than && now - at < SEQ_REQUEST_REPEAT;
        let Some(hops_left) = request.hops_left.checked_sub(1) else { return };
        if entry.passed.is_some_and(repeated) {
            return;
        }
        let via = entry.usable().iter().chain(&entry.routes).find(|route| route.via != *from).map(|route| route.via);
        if let Some(via) = via {
            entry.passed = Some((request.newer_than, now));
            self.send(To::One(via), kind::SEQREQ, SeqRequest { hops_left, ..request }.encode());
        }
    }

    /// A neighbour asks for our table, or for named routes.
    pub(super) fn handle_refill(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let refill = Refill::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        let count = u32::try_from(refill.wanted.len()).unwrap_or(u32::MAX);
        let allowed = match count {
            0 => neighbour.refills.take(now, 1),
            count => neighbour.wants.take(now, count),
        };
        if !allowed {
            self.counters.requests_over_budget += 1;
        } else if refill.wanted.is_empty() {
            self.begin_retelling(&from);
        } else if neighbour.retelling.is_none() {
            let table = &self.table;
            let live = |dest: &PeerId| table.entries.get(dest).and_then(|e| e.best()).is_some_and(|b| b.via != from);
            let found = refill.wanted.iter().filter_map(|short| table.by_short(short)).filter(live);
            neighbour.answers.extend(found);
        }
        Ok(())
    }

    /// A neighbour says what it told us; if we heard something else, it tells its table again.
    pub(super) fn handle_digest(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let digest = Digest::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get(&from).ok_or(Error::NotNeighbour)?;
        if digest != neighbour.received && neighbour.asked.is_none() {
            self.counters.drifts += 1;
            self.ask_refill(now, &from);
        }
        Ok(())
    }

    /// A neighbour holds an older proof of a destination, or one from a life that the destination has forgotten:
    /// sends it ours, now and then.
    pub(super) fn correct(&mut self, now: Instant, to: &PeerId, dest: &PeerId) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        if entry.corrected_at.is_some_and(|at| now - at < STALE_REPEAT) {
            return;
        }
        entry.corrected_at = Some(now);
        let proof = entry.proof.clone();
        self.send_correction(*to, dest, &proof);
    }

    /// A neighbour corrects us about a destination: its newest life was forgotten by itself, which it must learn. Passes
    /// the proof on toward it.
    pub(super) fn pass_correction(&mut self, now: Instant, from: &PeerId, dest: &PeerId, proof: &OriginProof) {
        let linked = self.neighbours.contains_key(dest);
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        let next = if linked { Some(*dest) } else { entry.best().map(|best| best.via) };
        if entry.corrected_at.is_some_and(|at| now - at < STALE_REPEAT) {
            return;
        }
        if let Some(next) = next.filter(|next| next != from) {
            entry.corrected_at = Some(now);
            self.send_correction(next, dest, proof);
        }
    }
}
