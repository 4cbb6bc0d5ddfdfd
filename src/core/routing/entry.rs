//! One destination: its proof, up to four routes, the feasibility bound, and what we last
//! told of it.
//!
//! A route is usable when it is *feasible* (RFC 8966 §3.5.1): newer than the bound, or of
//! the bound's sequence and `(advertised metric, order of the neighbour)` below
//! `(bound, our own order)`. The bound is the best that we ever used at the newest
//! sequence, so along any chain of usable next hops `(sequence, metric, order)` strictly
//! improves: no loop at any moment, whichever of the routes each node takes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::chain::Verifier;
use super::limits::{GOOD_NEWS_MIN, ROUTES_MAX};
use super::table::TablePlace;
use crate::crypto::{Context, PeerId, derive};
use crate::defence::{self, Defence};
use crate::time::Instant;
use crate::wire::routing::{Element, METRIC_END, OriginProof, Sequence, Short, short};

/// One neighbour's route.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The neighbour.
    pub(super) via: PeerId,
    /// How new it is.
    pub(super) sequence: Sequence,
    /// The metric that the neighbour advertised.
    pub(super) advertised: u16,
    /// Cost of the link to the neighbour.
    pub(super) cost: u16,
    /// The chain's element for (sequence, advertised).
    pub(super) element: Element,
    /// The neighbour's place in this destination's order.
    pub(super) order: u64,
    /// The retelling of the neighbour's table in which it was last heard.
    pub(super) telling: u32,
}

impl Route {
    /// Our distance over it.
    pub(super) fn metric(&self) -> u16 {
        self.advertised.saturating_add(self.cost).min(METRIC_END)
    }
}

/// The best that we ever used: what successors must improve on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    /// The newest sequence used.
    pub(super) sequence: Sequence,
    /// The smallest metric used at that sequence.
    pub(super) metric: u16,
}

impl Bound {
    /// Nothing was used yet.
    pub(super) const NONE: Self = Self { sequence: Sequence { epoch: 0, seq: 0 }, metric: METRIC_END };

    /// Whether a route may be used with that sequence, metric and order of its neighbour, by a node of that order.
    pub(super) fn improved_by(&self, sequence: Sequence, advertised: (u16, u64), order: u64) -> bool {
        sequence > self.sequence
            || !defence::on(Defence::Feasibility)
            || sequence == self.sequence && advertised < (self.metric, order)
    }
}

/// A route as we advertised it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// Its sequence.
    pub(super) sequence: Sequence,
    /// Our distance.
    pub(super) metric: u16,
    /// Our next hop.
    pub(super) via: PeerId,
}

/// Why a destination has no route any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A link broke, or a neighbour said so.
    Unreachable,
    /// It did not fit a table, ours or a neighbour's.
    Withdrawn,
}

/// One destination.
pub(super) struct Entry {
    /// Its newest proof.
    pub(super) proof: Arc<OriginProof>,
    /// Checks its chain.
    pub(super) verifier: Verifier,
    /// What successors must improve on.
    pub(super) bound: Bound,
    /// Our own place in this destination's order.
    pub(super) order: u64,
    /// Usable routes first, the chosen one at the front; at most [`ROUTES_MAX`], and no room for more than there are:
    /// most destinations have two, and tombstones none.
    pub(super) routes: Vec<Route>,
    /// How many of them are usable.
    pub(super) usable: usize,
    /// Whether it counts as reachable; differs from `usable > 0` only while an input is handled.
    pub(super) live: bool,
    /// What neighbours believe of us.
    pub(super) told: Option<Told>,
    /// The newest sequence that any neighbour has heard from us: who asked may know more than all were told.
    pub(super) heard: Sequence,
    /// The epoch whose proof was broadcast.
    pub(super) told_epoch: u32,
    /// Tell again although nothing changed: a neighbour asked.
    pub(super) again: bool,
    /// When to tell neighbours of a change.
    pub(super) due: Option<Instant>,
    /// How long the next change waits.
    pub(super) hold: Duration,
    /// When a change was last told.
    pub(super) told_at: Instant,
    /// When the destination last proved to be alive.
    pub(super) fresh_at: Instant,
    /// Since when a newer sequence than the chosen route's is at hand.
    pub(super) lagging_since: Option<Instant>,
    /// Somebody needs a sequence newer than this.
    pub(super) needed: Option<Sequence>,
    /// The request that was last passed on, and when.
    pub(super) passed: Option<(Sequence, Instant)>,
    /// Requests sent since it has been starved.
    pub(super) starved: Option<u8>,
    /// Why it has no route.
    pub(super) cause: Cause,
    /// When its tombstone goes.
    pub(super) ends_at: Instant,
    /// When its proof was last sent to whoever held an older one.
    pub(super) corrected_at: Option<Instant>,
    /// Its place among landmarks, the lowest first.
    pub(super) rank: u64,
    /// Where the table's indices have it.
    pub(super) place: TablePlace,
}

impl Entry {
    /// A destination without routes.
    pub(super) fn new(now: Instant, me: &PeerId, dest: &PeerId, proof: Arc<OriginProof>, verifier: Verifier) -> Self {
        Self {
            proof,
            verifier,
            bound: Bound::NONE,
            order: order(me, dest),
            routes: Vec::new(),
            usable: 0,
            live: false,
            told: None,
            heard: Sequence::default(),
            told_epoch: 0,
            again: false,
            due: None,
            hold: GOOD_NEWS_MIN,
            told_at: Instant::ZERO,
            fresh_at: now,
            lagging_since: None,
            needed: None,
            passed: None,
            starved: None,
            cause: Cause::Unreachable,
            ends_at: now,
            corrected_at: None,
            rank: rank(&short(dest)),
            place: TablePlace::default(),
        }
    }

    /// Metrics of a live route are below this.
    pub(super) fn span(&self) -> u16 {
        self.proof.span()
    }

    /// The chosen route.
    pub(super) fn best(&self) -> Option<&Route> {
        if self.usable > 0 { self.routes.first() } else { None }
    }

    /// Routes that may be used, the chosen one first.
    pub(super) fn usable(&self) -> &[Route] {
        &self.routes[..self.usable]
    }

    /// The neighbour's route.
    pub(super) fn route(&self, via: &PeerId) -> Option<&Route> {
        self.routes.iter().find(|route| route.via == *via)
    }

    /// Removes the neighbour's route.
    pub(super) fn drop_route(&mut self, via: &PeerId) -> bool {
        let before = self.routes.len();
        self.routes.retain(|route| route.via != *via);
        self.usable = self.usable.min(self.routes.len());
        if self.routes.is_empty() {
            self.routes = Vec::new();
        }
        self.routes.len() < before
    }

    /// Adds or replaces a neighbour's route. When there are four others, the least useful of all five goes.
    pub(super) fn put_route(&mut self, route: Route) {
        self.drop_route(&route.via.clone());
        if self.routes.len() < ROUTES_MAX {
            self.routes.reserve_exact(1);
            self.routes.push(route);
            return;
        }
        let worth = |route: &Route| (!self.feasible(route), Reverse(route.sequence), route.metric(), route.order);
        let worst = (0..self.routes.len()).max_by_key(|at| worth(&self.routes[*at]));
        if let Some(at) = worst.filter(|at| worth(&route) < worth(&self.routes[*at])) {
            self.routes[at] = route;
        }
    }

    /// Whether a route may be used: see the head of this file.
    pub(super) fn feasible(&self, route: &Route) -> bool {
        self.improves(route.sequence, route.advertised, route.order)
    }

    /// Whether a neighbour of that order may be a successor with that sequence and metric.
    pub(super) fn improves(&self, sequence: Sequence, advertised: u16, order: u64) -> bool {
        self.bound.improved_by(sequence, (advertised, order), self.order)
    }

    /// Chooses among the feasible routes: the shortest, or the shortest of the newest sequence if that is `forced`
    /// or somebody needs it; then moves the bound, which may make others unusable.
    pub(super) fn select(&mut self, now: Instant, forced: bool) {
        let current = self.best().map(|route| route.via);
        let span = self.span();
        let reach = |route: &&Route| self.feasible(route) && route.metric() < span;
        let Some(newest) = self.routes.iter().filter(reach).map(|route| route.sequence).max() else {
            self.usable = 0;
            return;
        };
        let forced = forced || self.needed.is_some_and(|needed| newest > needed);
        let rank = |route: &&Route| (route.metric(), Reverse(route.sequence), Some(route.via) != current, route.order);
        let candidates = self.routes.iter().filter(reach).filter(|route| !forced || route.sequence == newest);
        let Some(chosen) = candidates.min_by_key(rank).cloned() else { return };
        self.lagging_since = if chosen.sequence < newest { self.lagging_since.or(Some(now)) } else { None };
        if chosen.sequence > self.bound.sequence {
            self.bound = Bound { sequence: chosen.sequence, metric: chosen.metric() };
        } else {
            self.bound.metric = self.bound.metric.min(chosen.metric());
        }
        let mut routes = std::mem::take(&mut self.routes);
        let usable = |route: &Route| self.feasible(route) && route.metric() < span;
        routes.sort_by_key(|route| (!usable(route), route.via != chosen.via, route.metric(), route.order));
        self.usable = routes.iter().filter(|route| usable(route)).count();
        self.routes = routes;
    }

    /// What an advert would say now.
    pub(super) fn news(&self) -> Option<Told> {
        self.best().map(|route| Told { sequence: route.sequence, metric: route.metric(), via: route.via })
    }

    /// One neighbour hears of our route now, the others in their time: when it ends, that one must hear of it too.
    pub(super) fn show(&mut self) {
        let news = self.news();
        if news.is_some() && news != self.told {
            self.told = news;
            self.again = true;
        }
    }
}

/// The peer that has this short, among a map's keys. A short is how an id begins, so the map's order finds it.
pub(super) fn by_short<'a, V>(map: &'a BTreeMap<PeerId, V>, wanted: &Short) -> Option<(&'a PeerId, &'a V)> {
    let mut first = PeerId([0; 32]);
    first.0[..wanted.len()].copy_from_slice(wanted);
    map.range(first..).next().filter(|(peer, _)| short(peer) == *wanted)
}

/// Where a landmark stands among landmarks that are equally long known: the lowest are kept.
pub(super) fn rank(short: &Short) -> u64 {
    let hash = derive(Context::LandmarkRank, &[short]);
    hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// A neighbour's place in a destination's order: breaks ties of equal metric without favour.
pub(super) fn order(peer: &PeerId, dest: &PeerId) -> u64 {
    let hash = derive(Context::RouteOrder, &[&peer.0, &dest.0]);
    hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of our order 50 without routes.
    fn entry() -> Entry {
        let dest = PeerId([1; 32]);
        let proof = OriginProof { key: [0; 32], epoch: 1, anchor: [0; 16], flags: 0, signature: [0; 64] };
        let verifier = Verifier::new(&dest, &proof);
        let mut entry = Entry::new(Instant::ZERO, &PeerId([0; 32]), &dest, Arc::new(proof), verifier);
        entry.order = 50;
        entry
    }

    /// A route over neighbour `via` at link cost 1.
    fn route(via: u8, seq: u8, advertised: u16, order: u64) -> Route {
        let sequence = Sequence { epoch: 1, seq };
        Route { via: PeerId([via; 32]), sequence, advertised, cost: 1, element: [0; 16], order, telling: 0 }
    }

    #[test]
    fn a_longer_route_of_the_same_sequence_is_no_successor_but_a_newer_one_is() {
        let mut entry = entry();
        entry.put_route(route(2, 0, 3, 0));
        entry.select(Instant::ZERO, false);
        assert_eq!(entry.bound.metric, 4);
        entry.put_route(route(3, 0, 5, 0));
        entry.drop_route(&PeerId([2; 32]));
        entry.select(Instant::ZERO, false);
        assert_eq!(entry.usable, 0);
        entry.put_route(route(3, 1, 5, 0));
        entry.select(Instant::ZERO, false);
        assert_eq!((entry.usable, entry.bound.metric), (1, 6));
    }

    #[test]
    fn equal_distance_is_feasible_for_the_neighbour_before_us_in_order_only() {
        let mut entry = entry();
        entry.put_route(route(2, 0, 3, 0));
        entry.put_route(route(3, 0, 4, 49));
        entry.put_route(route(4, 0, 4, 51));
        entry.select(Instant::ZERO, false);
        let vias: Vec<u8> = entry.usable().iter().map(|route| route.via.0[0]).collect();
        assert_eq!(vias, [2, 3]);
    }

    #[test]
    fn the_shorter_old_route_stays_until_a_newer_one_is_needed() {
        let mut entry = entry();
        entry.put_route(route(2, 0, 3, 0));
        entry.select(Instant::ZERO, false);
        entry.put_route(route(3, 1, 8, 0));
        entry.select(Instant::ZERO, false);
        assert_eq!((entry.usable, entry.news().unwrap().metric), (2, 4));
        entry.needed = Some(Sequence { epoch: 1, seq: 0 });
        entry.select(Instant::ZERO, false);
        assert_eq!((entry.usable, entry.news().unwrap().metric), (1, 9));
    }

    #[test]
    fn a_fifth_route_displaces_the_least_useful() {
        let mut entry = entry();
        for via in 2..6 {
            entry.put_route(route(via, 0, u16::from(via), 0));
        }
        entry.select(Instant::ZERO, false);
        entry.put_route(route(9, 0, 100, 0));
        assert!(entry.route(&PeerId([9; 32])).is_none());
        entry.put_route(route(9, 0, 1, 0));
        assert!(entry.route(&PeerId([9; 32])).is_some() && entry.route(&PeerId([5; 32])).is_none());
    }
}
