//! What follows from a change of a destination's routes: it comes up, changes, or is
//! lost; neighbours are told, in good time or at once; time ends what nobody refreshes.

use std::time::Duration;

use super::entry::{Cause, Entry, Told, order};
use super::limits::{
    BAD_NEWS, BATCH_SLACK, EXPIRY, GOOD_NEWS_MAX, GOOD_NEWS_MIN, HOUSEKEEPING, JITTER_PERCENT, LANDMARK_EXPIRY,
    LANDMARK_NEWS, REFRESH_WAIT, SEQUENCE_SETTLE, TOMBSTONE, TOMBSTONE_PER_METRIC, URGENT,
};
use super::table::{Admission, Bounds};
use super::{Event, Routing, Timer, To};
use crate::crypto::PeerId;
use crate::time::Instant;
use crate::wire::kind;
use crate::wire::routing::{ITEMS_MAX, Refill, Retraction, Retractions, Sequence, WANTED_MAX, short};

impl Routing {
    /// Chooses anew among a destination's routes after any of them changed, and does what follows.
    /// `cause` says why a route went, if one did.
    pub(super) fn settle(&mut self, now: Instant, dest: &PeerId, cause: Cause) {
        self.choose(now, dest, cause);
        self.reindex(dest);
        self.fit(now);
    }

    /// Takes note in the table's indices of what a destination is now.
    pub(super) fn reindex(&mut self, dest: &PeerId) {
        let class = self.acquaintances.class(dest);
        self.table.reindex(dest, self.limits.landmarks, class, self.neighbours.contains_key(dest));
    }

    /// Brings the table back into its bounds after a destination became a landmark or ceased to be one.
    fn fit(&mut self, now: Instant) {
        while let Some(dest) = self.table.surplus_landmark(self.limits.landmarks) {
            self.table.demote(&dest, self.neighbours.contains_key(&dest));
        }
        while let Some(dest) = self.table.surplus_near(self.bounds()) {
            self.evict(now, &dest);
        }
        self.drop_surplus(now);
    }

    /// See [`Self::settle`].
    fn choose(&mut self, now: Instant, dest: &PeerId, cause: Cause) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        entry.select(now, false);
        match (entry.live, entry.usable > 0) {
            (false, true) => self.come_up(now, dest),
            (true, true) => self.schedule(now, dest),
            (true, false) => self.lose(now, dest, cause),
            (false, false) => {
                if entry.starved.is_none() && !entry.routes.is_empty() && entry.cause == Cause::Unreachable {
                    self.request_sequence(now, dest);
                }
            }
        }
    }

    /// A destination has a route again, or its first.
    fn come_up(&mut self, now: Instant, dest: &PeerId) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        entry.live = true;
        entry.starved = None;
        entry.fresh_at = now;
        if entry.proof.is_landmark() && entry.told.is_none() {
            // Everybody waits for landmarks, over thousands of hops perhaps.
            entry.hold = LANDMARK_NEWS;
        }
        if let Some((_, told, heard)) = self.gone.remove(dest) {
            (entry.told, entry.heard) = (told, heard);
        }
        self.timers.clear(&Timer::Starved(*dest));
        self.lost.remove(&short(dest));
        if !self.neighbours.contains_key(dest) {
            self.events.push_back(Event::RouteUp { dest: *dest });
        }
        self.schedule(now, dest);
        self.answer_lookups(dest);
    }

    /// Plans to tell what changed: a needed sequence at once, a mere refresh in company, the rest damped.
    fn schedule(&mut self, now: Instant, dest: &PeerId) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        let Some(news) = entry.news() else { return };
        let wait = match entry.told {
            Some(told) if told == news && !entry.again => {
                entry.due = None;
                return;
            }
            _ if entry.needed.is_some_and(|needed| news.sequence > needed) => URGENT,
            // A new life, or a landmark that was none: more than a refresh.
            Some(_) if entry.told_epoch != entry.proof.epoch => {
                if entry.proof.is_landmark() {
                    LANDMARK_NEWS
                } else {
                    GOOD_NEWS_MIN
                }
            }
            Some(told) if (told.metric, told.via) == (news.metric, news.via) => REFRESH_WAIT,
            _ => entry.hold,
        };
        let at = now + wait;
        entry.due = Some(entry.due.map_or(at, |due| due.min(at)));
        self.set_adverts(at);
    }

    /// Plans to tell our own route.
    pub(super) fn tell_own(&mut self, now: Instant, wait: Duration) {
        let at = now + wait;
        self.own_due = Some(self.own_due.map_or(at, |due| due.min(at)));
        self.set_adverts(at);
    }

    /// Moves the time of the next batch forward.
    fn set_adverts(&mut self, at: Instant) {
        let at = self.timers.at(&Timer::Adverts).map_or(at, |due| due.min(at));
        self.timers.set(Timer::Adverts, at);
    }

    /// A destination has no usable route any more: retract it, keep its tombstone, ask for it.
    fn lose(&mut self, now: Instant, dest: &PeerId, cause: Cause) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        entry.live = false;
        entry.cause = cause;
        entry.due = None;
        entry.lagging_since = None;
        entry.starved = None;
        let ghost = entry.told.map_or(entry.bound.metric, |told| told.metric);
        entry.ends_at = now + TOMBSTONE + TOMBSTONE_PER_METRIC * u32::from(ghost);
        let starved = !entry.routes.is_empty();
        let (told, heard) = (entry.told.take(), std::mem::take(&mut entry.heard));
        if heard > Sequence::default() {
            self.gone.insert(*dest, (cause, told, heard));
            let at = self.timers.at(&Timer::Retractions).unwrap_or(now + BAD_NEWS);
            self.timers.set(Timer::Retractions, at);
        }
        if !self.neighbours.contains_key(dest) {
            self.events.push_back(Event::RouteDown { dest: *dest });
        }
        if cause == Cause::Unreachable {
            if starved {
                self.request_sequence(now, dest);
            } else {
                self.note_lost(now, dest);
            }
        }
    }

    /// Drops tombstones above their bound.
    pub(super) fn drop_surplus(&mut self, now: Instant) {
        while let Some(dest) = self.table.surplus(self.limits.tombstones) {
            self.counters.tombstones_dropped += 1;
            if let Some(entry) = self.table.entries.get(&dest) {
                self.ghosts.remember(now, short(&dest), entry.bound);
            }
            self.forget(&dest);
        }
    }

    /// Removes a tombstone.
    fn forget(&mut self, dest: &PeerId) {
        self.timers.clear(&Timer::Starved(*dest));
        self.table.remove(dest);
    }

    /// Gives a destination's place away.
    pub(super) fn evict(&mut self, now: Instant, dest: &PeerId) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        entry.routes = Vec::new();
        entry.usable = 0;
        self.counters.evicted += 1;
        self.refused = true;
        self.choose(now, dest, Cause::Withdrawn);
        self.reindex(dest);
    }

    /// Tells retractions.
    pub(super) fn send_retractions(&mut self) {
        let gone = std::mem::take(&mut self.gone);
        for (cause, kind) in [(Cause::Unreachable, kind::UNREACH), (Cause::Withdrawn, kind::WITHDRAW)] {
            let list: Vec<Retraction> = gone
                .iter()
                .filter(|(_, (why, ..))| *why == cause)
                .map(|(dest, (.., heard))| Retraction { short: short(dest), sequence: *heard })
                .collect();
            for chunk in list.chunks(ITEMS_MAX) {
                self.batch += 1;
                self.send(To::All, kind, Retractions { number: self.batch, list: chunk.to_vec() }.encode());
            }
        }
    }

    /// Asks all neighbours for lost destinations: more than four had routes, or have new ones.
    pub(super) fn ask_lost(&mut self) {
        let lost: Vec<_> = std::mem::take(&mut self.lost).into_iter().collect();
        for chunk in lost.chunks(WANTED_MAX) {
            self.send(To::All, kind::REFILL, Refill { wanted: chunk.to_vec() }.encode());
        }
    }

    /// What is to be told now, in the table's order, noted as told. The bool says whether the proof must go along.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(PeerId, bool)> {
        let horizon = now + BATCH_SLACK;
        let mut due = Vec::new();
        if self.own_due.is_some_and(|at| at <= horizon) {
            self.own_due = None;
            let epoch = self.origin.sequence().epoch;
            due.push((self.me, epoch != self.own_told_epoch));
            self.own_told_epoch = epoch;
        }
        let mut next = self.own_due;
        for (dest, entry) in &mut self.table.entries {
            match entry.due {
                Some(at) if at <= horizon => due.push((*dest, note_told(now, entry))),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        if let Some(at) = next {
            self.timers.set(Timer::Adverts, at);
        }
        due
    }

    /// Digests, expiry, cleaning: every half minute.
    pub(super) fn keep_house(&mut self, now: Instant) {
        let wait = self.rng.jitter(HOUSEKEEPING, JITTER_PERCENT);
        self.timers.set(Timer::Housekeeping, now + wait);
        self.evidence.expire(now);
        self.probes.expire(now);
        self.datagrams.expire(now);
        self.directory.expire(now);
        self.ghosts.expire(now);
        let dests: Vec<PeerId> = self.table.entries.keys().copied().collect();
        for dest in dests {
            self.age(now, &dest);
        }
        if self.refused && !self.table.is_crowded(self.bounds(), false) {
            self.refused = false;
            let peers: Vec<PeerId> = self.neighbours.keys().copied().collect();
            peers.iter().for_each(|peer| self.ask_refill(now, peer));
        }
        let settled = self.neighbours.iter().filter(|(_, neighbour)| neighbour.retelling.is_none());
        let digests: Vec<_> = settled.map(|(peer, neighbour)| (*peer, neighbour.sent)).collect();
        for (peer, digest) in digests {
            self.send(To::One(peer), kind::DIGEST, digest.encode());
        }
    }

    /// Lets time act on one destination.
    fn age(&mut self, now: Instant, dest: &PeerId) {
        let Some(entry) = self.table.entries.get_mut(dest) else { return };
        if !entry.live {
            if entry.ends_at > now {
                return;
            }
            if entry.routes.is_empty() {
                self.forget(dest);
            } else {
                // Every ghost of what the bound was about is gone by now (RFC 8966 §3.2.5, source table expiry).
                entry.bound = super::entry::Bound::NONE;
                entry.ends_at = now + TOMBSTONE;
                self.reindex(dest);
                self.revive(now, dest);
            }
        } else if now - entry.fresh_at > if entry.proof.is_landmark() { LANDMARK_EXPIRY } else { EXPIRY } {
            entry.routes = Vec::new();
            entry.usable = 0;
            self.settle(now, dest, Cause::Unreachable);
        } else if entry.lagging_since.is_some_and(|since| now - since >= SEQUENCE_SETTLE) {
            entry.select(now, true);
            self.schedule(now, dest);
            self.reindex(dest);
        }
    }

    /// Takes a destination whose bound has just been lifted, if the table has room for it.
    fn revive(&mut self, now: Instant, dest: &PeerId) {
        let nearest = |entry: &super::Entry| entry.routes.iter().map(|route| (route.metric(), route.via)).min();
        let Some((metric, via)) = self.table.entries.get(dest).and_then(|entry| nearest(entry)) else { return };
        let rank = (metric, order(&self.me, dest), *dest);
        if self.table.admit(self.bounds(), &via, rank, self.neighbours.contains_key(dest)) == Admission::Room {
            self.settle(now, dest, Cause::Unreachable);
        } else {
            self.forget(dest);
        }
    }

    /// The bounds of the vicinity.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { max: self.limits.table, neighbours: self.neighbours.len() }
    }
}

/// Notes that a destination's route is told now. Says whether its proof must go along.
fn note_told(now: Instant, entry: &mut Entry) -> bool {
    entry.due = None;
    entry.again = false;
    let news = entry.news();
    let refresh = |told: &Told| news.is_some_and(|news| (told.metric, told.via) == (news.metric, news.via));
    if !entry.told.as_ref().is_some_and(refresh) {
        let wavering = now - entry.told_at < entry.hold * 8;
        entry.hold = if wavering { (entry.hold * 2).min(GOOD_NEWS_MAX) } else { GOOD_NEWS_MIN };
        entry.told_at = now;
    }
    entry.told = news;
    if news.is_some_and(|news| entry.needed.is_some_and(|needed| news.sequence > needed)) {
        entry.needed = None;
    }
    let first = entry.told_epoch != entry.proof.epoch;
    entry.told_epoch = entry.proof.epoch;
    first
}
