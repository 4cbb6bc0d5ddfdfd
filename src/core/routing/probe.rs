//! Look-ups of peers outside the table: a probe in widening rings, the last resort. Each
//! hop passes a probe on once and remembers whom it asked; an answer counts only from
//! there, only once, and only with the destination's proof and a chain that holds. What is
//! found serves ten minutes and is never advertised.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::chain::Verifier;
use super::leases::Leases;
use super::limits::{ASKERS_MAX, FOUND_LIFE, LOOKUPS_MAX, PROBE_FANOUT, PROBE_LIFE, PROBE_RINGS, PROBE_WAIT};
use super::{Error, Event, Limits, LookupId, Routing, Timer, To};
use crate::crypto::PeerId;
use crate::defence::{self, Defence};
use crate::time::{Instant, Now};
use crate::wire::kind;
use crate::wire::routing::{Probe, ProbeFound, Sequence};

/// A nonce.
type Nonce = [u8; 8];

/// A probe that we sent or passed on.
struct Pending {
    dest: PeerId,
    /// Who asked us; none: we ourselves.
    asker: Option<PeerId>,
    asked: SmallVec<[PeerId; PROBE_FANOUT]>,
    answered: bool,
}

/// A look-up of ours.
struct Lookup {
    askers: BTreeSet<LookupId>,
    rings: usize,
}

/// A route that a probe found.
struct Found {
    via: PeerId,
    sequence: Sequence,
    advertised: u16,
    until: Instant,
}

/// Look-ups, probes on their way, and what they found.
pub(super) struct Probes {
    pending: Leases<Nonce, Pending>,
    lookups: BTreeMap<PeerId, Lookup>,
    found: BTreeMap<PeerId, Found>,
    found_max: usize,
}

impl Probes {
    /// None yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            pending: Leases::new(limits.probes),
            lookups: BTreeMap::new(),
            found: BTreeMap::new(),
            found_max: limits.found,
        }
    }

    /// Removes what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        self.pending.expire(now);
        self.found.retain(|_, found| found.until > now);
    }

    /// Removes what hangs on a neighbour.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.pending.forget(peer);
        self.found.retain(|_, found| found.via != *peer);
    }

    /// The neighbour that leads to a found peer, and its distance.
    pub(super) fn found(&self, dest: &PeerId) -> Option<(PeerId, u16)> {
        self.found.get(dest).map(|found| (found.via, found.advertised))
    }

    /// Found peers.
    pub(super) fn found_dests(&self) -> impl Iterator<Item = &PeerId> {
        self.found.keys()
    }

    /// Keeps a found route unless a better one is at hand; at the bound the one that ends first goes.
    fn keep(&mut self, dest: PeerId, new: Found) {
        let better = |old: &Found| {
            (new.sequence, std::cmp::Reverse(new.advertised)) > (old.sequence, std::cmp::Reverse(old.advertised))
        };
        if self.found.get(&dest).is_some_and(|old| !better(old)) {
            return;
        }
        if !self.found.contains_key(&dest) && self.found.len() >= self.found_max {
            let first = self.found.iter().min_by_key(|(dest, found)| (found.until, **dest)).map(|(dest, _)| *dest);
            first.and_then(|dest| self.found.remove(&dest));
        }
        self.found.insert(dest, new);
    }
}

/// Whether a probe went to that neighbour.
fn was_asked(pending: &Pending, peer: &PeerId) -> bool {
    pending.asked.contains(peer) || !defence::on(Defence::ProbeAsked)
}

impl Routing {
    /// Looks a peer up: [`Event::Found`] at once if there is a next hop, else after a probe's answer;
    /// [`Event::NotFound`] after the last ring, or at once with 64 look-ups on their way.
    pub fn lookup(&mut self, now: Now, lookup: LookupId, dest: PeerId) {
        if self.reaches(&dest) || dest == self.me {
            self.events.push_back(Event::Found { lookup, dest });
            return;
        }
        if let Some(running) = self.probes.lookups.get_mut(&dest)
            && running.askers.len() < ASKERS_MAX
        {
            running.askers.insert(lookup);
            return;
        }
        if self.probes.lookups.contains_key(&dest) || self.probes.lookups.len() >= LOOKUPS_MAX {
            self.events.push_back(Event::NotFound { lookup, dest });
            return;
        }
        self.probes.lookups.insert(dest, Lookup { askers: BTreeSet::from([lookup]), rings: 0 });
        self.next_ring(now.instant, &dest);
    }

    /// Sends the next wider ring's probe, or gives up.
    pub(super) fn next_ring(&mut self, now: Instant, dest: &PeerId) {
        let Some(lookup) = self.probes.lookups.get_mut(dest) else { return };
        let ring = lookup.rings;
        let (Some(hops_left), Some(wait)) = (PROBE_RINGS.get(ring), PROBE_WAIT.get(ring)) else {
            let askers = self.probes.lookups.remove(dest).map(|lookup| lookup.askers).unwrap_or_default();
            self.events.extend(askers.into_iter().map(|lookup| Event::NotFound { lookup, dest: *dest }));
            return;
        };
        lookup.rings += 1;
        self.timers.set(Timer::Probe(*dest), now + *wait);
        let nonce = self.rng.public_array();
        self.spread(now, Probe { nonce, dest: *dest, hops_left: *hops_left }, None);
    }

    /// Ends look-ups of a peer that has become reachable.
    pub(super) fn answer_lookups(&mut self, dest: &PeerId) {
        if let Some(lookup) = self.probes.lookups.remove(dest) {
            self.timers.clear(&Timer::Probe(*dest));
            self.events.extend(lookup.askers.into_iter().map(|lookup| Event::Found { lookup, dest: *dest }));
        }
    }

    /// Sends a probe to neighbours other than who asked, eight of them at random if there are more.
    fn spread(&mut self, now: Instant, probe: Probe, asker: Option<PeerId>) {
        let mut others: Vec<PeerId> = self.neighbours.keys().copied().filter(|peer| Some(*peer) != asker).collect();
        let mut asked = SmallVec::new();
        while asked.len() < PROBE_FANOUT && !others.is_empty() {
            let at = self.rng.public_below(u64::try_from(others.len()).unwrap_or(u64::MAX));
            asked.push(others.swap_remove(usize::try_from(at).unwrap_or(0)));
        }
        for peer in &asked {
            self.send(To::One(*peer), kind::PROBE, probe.encode());
        }
        let pending = Pending { dest: probe.dest, asker, asked, answered: false };
        let owner = asker.unwrap_or(self.me);
        let dropped = self.probes.pending.insert(owner, now + PROBE_LIFE, probe.nonce, pending);
        self.counters.leases_dropped += u64::from(dropped);
    }

    /// A probe: answered if we are or have its destination, else passed on once.
    pub(super) fn handle_probe(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let probe = Probe::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        if !neighbour.probes.take(now, 1) {
            self.counters.requests_over_budget += 1;
            return Ok(());
        }
        if self.probes.pending.contains(&probe.nonce) {
            return Ok(());
        }
        if let Some(found) = self.own_answer(&from, &probe) {
            self.send(To::One(from), kind::PROBE_FOUND, found.encode());
        } else if let Some(hops_left) = probe.hops_left.checked_sub(1).filter(|left| *left > 0) {
            self.spread(now, Probe { hops_left, ..probe }, Some(from));
        }
        Ok(())
    }

    /// What we know of a probe's destination: ourselves, or a table's route that does not lead back.
    fn own_answer(&self, from: &PeerId, probe: &Probe) -> Option<ProbeFound> {
        let nonce = probe.nonce;
        if probe.dest == self.me {
            let proof = (**self.origin.proof()).clone();
            let seq = self.origin.sequence().seq;
            return Some(ProbeFound { nonce, proof, seq, metric: 0, chain: self.origin.element() });
        }
        let entry = self.table.entries.get(&probe.dest)?;
        let best = entry.best().filter(|best| best.via != *from)?;
        Some(ProbeFound {
            nonce,
            proof: (*entry.proof).clone(),
            seq: best.sequence.seq,
            metric: best.metric(),
            chain: entry.verifier.import(&best.element, best.cost),
        })
    }

    /// The answer to a probe: only to one of ours or that we passed on, from a neighbour that we asked, once, and proven.
    pub(super) fn handle_probe_found(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let found = ProbeFound::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        let pending = self.probes.pending.find(now, &found.nonce);
        let Some(pending) = pending.filter(|pending| !pending.answered && was_asked(pending, &from)) else {
            self.counters.found_unsolicited += 1;
            return Ok(());
        };
        let (dest, asker, cost) = (pending.dest, pending.asker, neighbour.cost);
        if !neighbour.verifications.take(now, 2) {
            self.counters.requests_over_budget += 1;
            return Ok(());
        }
        let mut verifier = Verifier::new(&dest, &found.proof);
        let is_dest = found.proof.peer_id() == dest;
        let metric = found.metric.saturating_add(cost);
        if !is_dest
            || (found.metric == 0) != (dest == from)
            || metric >= found.proof.span()
            || found.proof.verify().is_err()
            || !verifier.check(found.seq, found.metric, &found.chain)
        {
            self.counters.items_unproven += 1;
            return Ok(());
        }
        pending.answered = true;
        let sequence = Sequence { epoch: found.proof.epoch, seq: found.seq };
        let until = now + FOUND_LIFE;
        self.probes.keep(dest, Found { via: from, sequence, advertised: found.metric, until });
        if let Some(asker) = asker {
            let chain = verifier.import(&found.chain, cost);
            self.send(To::One(asker), kind::PROBE_FOUND, ProbeFound { metric, chain, ..found }.encode());
        } else {
            self.answer_lookups(&dest);
        }
        Ok(())
    }
}
