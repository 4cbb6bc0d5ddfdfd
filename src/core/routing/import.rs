//! What neighbours tell: adverts and retractions. Nothing is believed that its
//! destination did not sign and its chain does not prove; a neighbour's own word only
//! ever takes routes over that neighbour away.

use std::sync::Arc;

use super::chain::Verifier;
use super::entry::{Bound, Cause, Entry, Route, order, rank};
use super::limits::{CHAIN_STEPS_PER_VERIFY, GHOST_LIFE, OVER_BUDGET_WAIT, WANTED_WAIT};
use super::neighbour::absorb;
use super::table::Admission;
use super::{Error, Routing, Timer};
use crate::crypto::{Context, PeerId, PublicKey, Purpose, derive};
use crate::defence::{self, Defence};
use crate::time::Instant;
use crate::wire::kind;
use crate::wire::routing::{
    Advert, Item, METRIC_END, OriginProof, Retractions, Sequence, Short, Subject, VICINITY_END, short,
};

/// A route whose destination and proof are settled, but not yet its chain.
struct Claim {
    dest: PeerId,
    sequence: Sequence,
    metric: u16,
    element: [u8; 16],
}

/// The tag by which an advertiser's batch names a next hop: that neighbour knows itself in it, others cannot use it.
pub(super) fn next_hop_tag(advertiser: &PeerId, number: u64, next_hop: &PeerId) -> [u8; 4] {
    let hash = derive(Context::RouteTag, &[&advertiser.0, &number.to_le_bytes(), &next_hop.0]);
    [hash[0], hash[1], hash[2], hash[3]]
}

impl Routing {
    /// A batch of routes.
    pub(super) fn handle_advert(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let (advert, signed) = Advert::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        if neighbour.heard.is_some_and(|heard| advert.number <= heard) && defence::on(Defence::AdvertNumber) {
            return Err(Error::Repeated);
        }
        if advert.marks.start {
            neighbour.received = Default::default();
        }
        absorb(&mut neighbour.received, kind::ADVERT, body);
        let Some(key) = advertiser_key(&advert, &from).or_else(|| neighbour.key.clone()) else {
            self.counters.adverts_keyless += 1;
            return Ok(());
        };
        key.verify(Purpose::RouteAdvert, &[&from.0, signed], &advert.signature).map_err(|_| Error::BadSignature)?;
        neighbour.key = Some(key);
        neighbour.heard = Some(advert.number);
        neighbour.telling = neighbour.telling.wrapping_add(u32::from(advert.marks.start));
        for item in advert.items {
            self.import(now, &from, advert.number, item);
        }
        if advert.marks.end {
            self.end_telling(now, &from);
        }
        Ok(())
    }

    /// A neighbour has told its whole table: what it did not tell does not hold.
    fn end_telling(&mut self, now: Instant, from: &PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(from) else { return };
        neighbour.asked = None;
        self.timers.clear(&Timer::Refill(*from));
        if std::mem::take(&mut neighbour.curtailed) {
            self.timers.set(Timer::Refill(*from), now + OVER_BUDGET_WAIT);
        }
        let telling = neighbour.telling;
        let untold = |entry: &Entry| entry.route(from).is_some_and(|route| route.telling != telling);
        let untold: Vec<PeerId> =
            self.table.entries.iter().filter(|(_, entry)| untold(entry)).map(|(dest, _)| *dest).collect();
        for dest in untold {
            self.retract(now, from, &dest, Cause::Unreachable);
        }
    }

    /// Routes that do not hold any more. One that comes late still takes a route away, which is never wrong for long;
    /// an advert that it overtook is refused, because what that says may have been forgotten, bound and all.
    pub(super) fn handle_retractions(
        &mut self,
        now: Instant,
        from: PeerId,
        kind: u8,
        body: &[u8],
        cause: Cause,
    ) -> Result<(), Error> {
        let retractions = Retractions::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        absorb(&mut neighbour.received, kind, body);
        neighbour.heard = neighbour.heard.max(Some(retractions.number));
        for retraction in retractions.list {
            let Some(dest) = self.table.by_short(&retraction.short) else { continue };
            let route = self.table.entries.get(&dest).and_then(|entry| entry.route(&from));
            if route.is_some_and(|route| route.sequence <= retraction.sequence) {
                self.retract(now, &from, &dest, cause);
            }
        }
        Ok(())
    }

    /// A neighbour's route to a destination does not hold any more.
    fn retract(&mut self, now: Instant, from: &PeerId, dest: &PeerId, cause: Cause) {
        if self.table.entries.get_mut(dest).is_some_and(|entry| entry.drop_route(from)) {
            self.settle(now, dest, cause);
        }
    }

    /// One item of a batch.
    fn import(&mut self, now: Instant, from: &PeerId, number: u64, item: Item) {
        let poison = item.tag == next_hop_tag(from, number, &self.me);
        let cost = self.neighbours.get(from).map_or(METRIC_END, |neighbour| neighbour.cost);
        let dest = match &item.subject {
            Subject::Known { short, epoch_low, landmark } => {
                let metric = if poison { METRIC_END } else { item.metric.saturating_add(cost) };
                match self.resolve(now, from, short, *epoch_low, *landmark, metric) {
                    Some(dest) => dest,
                    None => return,
                }
            }
            Subject::Proven(proof) => match self.prove(now, from, proof, item.metric >= METRIC_END) {
                Some(dest) => dest,
                None => return,
            },
        };
        let span = match &item.subject {
            Subject::Proven(proof) => proof.span(),
            Subject::Known { .. } => self.table.entries.get(&dest).map_or(METRIC_END, |entry| entry.span()),
        };
        if poison || item.metric.saturating_add(cost) >= span {
            self.retract(now, from, &dest, Cause::Unreachable);
            return;
        }
        let epoch = match &item.subject {
            Subject::Proven(proof) => proof.epoch,
            Subject::Known { .. } => self.table.entries.get(&dest).map_or(0, |entry| entry.proof.epoch),
        };
        // Who heard metric 0 from a destination could repeat it; only the destination itself may say so.
        if (item.metric == 0) != (dest == *from) && defence::on(Defence::MetricZero) {
            self.counters.items_unproven += 1;
            return;
        }
        let sequence = Sequence { epoch, seq: item.seq };
        self.claim(now, from, Claim { dest, sequence, metric: item.metric, element: item.chain }, item.subject);
    }

    /// The destination of a short. Unknown ones that the table would take, and those whose proof has changed, are
    /// asked for.
    fn resolve(
        &mut self,
        now: Instant,
        from: &PeerId,
        short: &Short,
        epoch_low: u8,
        landmark: bool,
        metric: u16,
    ) -> Option<PeerId> {
        let Some(dest) = self.table.by_short(short) else {
            let nearest = (metric, 0, PeerId([0; 32]));
            let near = self.table.admit(self.bounds(), from, nearest, false) != Admission::Refused;
            let class = self.acquaintances.class_of_short(short);
            let kept = landmark && self.table.is_kept(self.limits.landmarks, rank(short), &PeerId([0; 32]), class);
            if (near && metric < VICINITY_END || kept) && *short != crate::wire::routing::short(&self.me) {
                self.want(now, from, *short, WANTED_WAIT);
            }
            return None;
        };
        let epoch = self.table.entries.get(&dest)?.proof.epoch;
        if epoch.to_le_bytes()[0] != epoch_low {
            self.want(now, from, *short, WANTED_WAIT);
            return None;
        }
        Some(dest)
    }

    /// Checks a proof. Gives its destination if it is another's, signed, and not older than what we have.
    fn prove(&mut self, now: Instant, from: &PeerId, proof: &OriginProof, corrects: bool) -> Option<PeerId> {
        let dest = proof.peer_id();
        if dest == self.me {
            if self.origin.remember(now, proof) {
                self.persist_epoch();
                self.set_refresh(now);
                self.tell_own(now, super::limits::URGENT);
            }
            return None;
        }
        let known = self.table.entries.get(&dest).map(|entry| entry.proof.clone());
        if known.as_ref().is_some_and(|known| **known == *proof) {
            return Some(dest);
        }
        let older = known.as_ref().is_some_and(|known| proof.epoch <= known.epoch);
        if !self.afford(now, from, 1) {
            return None;
        }
        if proof.verify().is_err() {
            self.counters.items_unproven += 1;
            return None;
        }
        if corrects && known.is_some_and(|known| proof.epoch >= known.epoch) {
            self.pass_correction(now, from, &dest, proof);
            return None;
        }
        if older {
            self.counters.items_stale += 1;
            self.correct(now, from, &dest);
            return None;
        }
        Some(dest)
    }

    /// Takes from the neighbour's verification budget; if it is used up, asks for its table again later.
    fn afford(&mut self, now: Instant, from: &PeerId, price: u32) -> bool {
        let Some(neighbour) = self.neighbours.get_mut(from) else { return false };
        if neighbour.verifications.take(now, price) {
            return true;
        }
        self.counters.items_over_budget += 1;
        neighbour.curtailed = true;
        if self.timers.at(&Timer::Refill(*from)).is_none() {
            self.timers.set(Timer::Refill(*from), now + OVER_BUDGET_WAIT);
        }
        false
    }

    /// A route whose proof holds: checks its place in the table and its chain, and takes it.
    fn claim(&mut self, now: Instant, from: &PeerId, claim: Claim, subject: Subject) {
        let known = self.table.entries.get(&claim.dest);
        let newer = known.is_none_or(|entry| entry.proof.epoch < claim.sequence.epoch);
        let verifier = match (&subject, known) {
            (Subject::Proven(proof), _) if newer => Verifier::new(&claim.dest, proof),
            (_, Some(entry)) => entry.verifier.clone(),
            (_, None) => return,
        };
        let landmark = match &subject {
            Subject::Proven(proof) => proof.is_landmark(),
            Subject::Known { .. } => known.is_some_and(|entry| entry.proof.is_landmark()),
        };
        let admission = self.admission(from, &claim, landmark);
        if admission == Admission::Refused {
            self.counters.refused += 1;
            self.refused = true;
            self.retract(now, from, &claim.dest, Cause::Withdrawn);
            return;
        }
        // Asked for again only where there would be room: not for all that was evicted.
        if self.is_haunted(now, from, &claim) {
            self.counters.refused += 1;
            self.refused = true;
            self.want(now, from, short(&claim.dest), GHOST_LIFE);
            return;
        }
        let price = verifier.price(claim.sequence.seq, claim.metric) / CHAIN_STEPS_PER_VERIFY;
        if !self.afford(now, from, price) {
            return;
        }
        let mut verifier = verifier;
        if !verifier.check(claim.sequence.seq, claim.metric, &claim.element) && defence::on(Defence::RouteChain) {
            self.counters.items_unproven += 1;
            return;
        }
        if let Admission::Instead(victim) = admission {
            self.evict(now, &victim);
        }
        self.take(now, from, &claim, verifier, if newer { Some(subject) } else { None });
    }

    /// Whether the table takes this destination, and what has to go for it.
    fn admission(&self, from: &PeerId, claim: &Claim, landmark: bool) -> Admission {
        if landmark && self.keeps_landmark(&claim.dest) {
            return Admission::Room;
        }
        let usable = |entry: &Entry| entry.improves(claim.sequence, claim.metric, order(from, &claim.dest));
        if self.table.entries.get(&claim.dest).is_some_and(|entry| entry.live || !usable(entry)) {
            return Admission::Room;
        }
        let Some(neighbour) = self.neighbours.get(from) else { return Admission::Refused };
        let rank = (claim.metric.saturating_add(neighbour.cost), order(&self.me, &claim.dest), claim.dest);
        let is_link = self.neighbours.contains_key(&claim.dest);
        self.table.admit(self.bounds(), from, rank, is_link)
    }

    /// Whether a route of a destination that we have just forgotten may lead over ourselves.
    fn is_haunted(&self, now: Instant, from: &PeerId, claim: &Claim) -> bool {
        if self.table.entries.contains_key(&claim.dest) {
            return false;
        }
        let (theirs, ours) = (order(from, &claim.dest), order(&self.me, &claim.dest));
        let improves = |bound: Bound| bound.improved_by(claim.sequence, (claim.metric, theirs), ours);
        self.ghosts.bound(now, &short(&claim.dest)).is_some_and(|bound| !improves(bound))
    }

    /// Enters a proven route.
    fn take(&mut self, now: Instant, from: &PeerId, claim: &Claim, verifier: Verifier, subject: Option<Subject>) {
        let Some(neighbour) = self.neighbours.get(from) else { return };
        let (cost, telling) = (neighbour.cost, neighbour.telling);
        if let Some(Subject::Proven(proof)) = subject {
            let proof = Arc::new(*proof);
            let fresh = || Entry::new(now, &self.me, &claim.dest, proof.clone(), verifier.clone());
            if !self.table.entries.contains_key(&claim.dest) {
                let bound = self.ghosts.bound(now, &short(&claim.dest));
                self.table.insert(claim.dest, Entry { bound: bound.unwrap_or(Bound::NONE), ..fresh() });
            }
            if let Some(entry) = self.table.entries.get_mut(&claim.dest) {
                entry.proof = proof;
                // Their elements belong to another chain, which the new proof does not authenticate.
                entry.routes.retain(|route| route.sequence.epoch == claim.sequence.epoch);
                entry.usable = 0;
            }
        }
        let Some(entry) = self.table.entries.get_mut(&claim.dest) else { return };
        entry.verifier = verifier;
        let newest = entry.routes.iter().map(|route| route.sequence).max().unwrap_or_default();
        if claim.sequence > newest.max(entry.bound.sequence) {
            entry.fresh_at = now;
        }
        entry.put_route(Route {
            via: *from,
            sequence: claim.sequence,
            advertised: claim.metric,
            cost,
            element: claim.element,
            order: order(from, &claim.dest),
            telling,
        });
        self.settle(now, &claim.dest, Cause::Unreachable);
    }
}

/// The advertiser's key, if the batch begins with its own proof.
fn advertiser_key(advert: &Advert, from: &PeerId) -> Option<PublicKey> {
    let Subject::Proven(proof) = &advert.items.first()?.subject else { return None };
    proof.public_key().filter(|key| key.peer_id() == *from)
}
