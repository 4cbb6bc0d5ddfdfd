//! The answers to "which next hops lead there".

use super::limits::{OTHERS_LOOKED_AT, ROUTES_MAX};
use super::{Cost, Hops, NextHops, RouteStatus, Routing};
use crate::crypto::{PeerId, path_tag};
use crate::time::Now;
use crate::wire::routing::Short;
use crate::wire::way::Way;

impl Routing {
    /// Next hops toward a peer, best first: its own link, feasible routes, else a route that a probe found.
    /// Empty for ourselves and for whom nobody here knows.
    #[must_use]
    pub fn next_hops(&self, dest: &PeerId) -> NextHops {
        let mut ranked: Vec<(u16, PeerId, Cost)> = Vec::with_capacity(ROUTES_MAX + 1);
        let mut add = |via: PeerId, metric: u16| {
            ranked.push((metric.saturating_add(self.evidence.penalty(dest, &via)), via, Cost(metric)));
        };
        if let Some(neighbour) = self.neighbours.get(dest) {
            add(*dest, neighbour.cost);
        }
        if let Some(entry) = self.table.entries.get(dest) {
            entry.usable().iter().filter(|route| route.via != *dest).for_each(|route| add(route.via, route.metric()));
        }
        if ranked.is_empty()
            && let Some((via, advertised)) = self.probes.found(dest)
            && let Some(neighbour) = self.neighbours.get(&via)
        {
            ranked.push((advertised, via, Cost(advertised.saturating_add(neighbour.cost))));
        }
        ranked.sort_by_key(|(rank, _, _)| *rank);
        ranked.into_iter().take(ROUTES_MAX).map(|(_, via, cost)| (via, cost)).collect()
    }

    /// Next hops for a single datagram toward a peer that came from one neighbour, if from any: best first. One that
    /// was seen to swallow what goes there comes after everything else, ways that could loop and any neighbour
    /// included: where a liar's short distance makes all true ones infeasible, or hides them from those whose own way
    /// leads over us, these are the only way on. A datagram goes few hops more than its route has.
    #[must_use]
    pub(super) fn datagram_hops(&mut self, dest: &PeerId, from: Option<&PeerId>) -> NextHops {
        let usable = self.next_hops(dest);
        let entry = self.table.entries.get(dest).into_iter();
        let unfit =
            entry.flat_map(|entry| &entry.routes[entry.usable..]).map(|route| (route.via, Cost(route.metric())));
        let all: NextHops = usable.into_iter().chain(unfit).collect();
        let (last, mut first): (NextHops, NextHops) =
            all.iter().copied().partition(|(via, _)| self.evidence.penalty(dest, via) > 0);
        if first.iter().all(|(via, _)| Some(via) == from)
            && let Some(cost) = all.iter().map(|(_, cost)| *cost).max()
        {
            let start = PeerId(self.rng.public_array());
            first.extend(self.others(&start, Some(dest)).map(|via| (via, cost)));
        }
        in_order(first, last, from)
    }

    /// Some neighbours from one on, in the order of their ids, that were not seen to swallow what goes to a peer.
    fn others<'a>(&'a self, start: &PeerId, dest: Option<&'a PeerId>) -> impl Iterator<Item = PeerId> + 'a {
        let some = self.neighbours.range(*start..).chain(self.neighbours.range(..*start)).take(OTHERS_LOOKED_AT);
        some.map(|(via, _)| *via).filter(move |via| match dest {
            Some(dest) => self.evidence.penalty(dest, via) == 0,
            None => !self.evidence.is_silent(via),
        })
    }

    /// The next hop of a datagram that carries a way, from one neighbour if from any.
    pub(super) fn routed_hop(&mut self, dest: &PeerId, way: &Way, from: Option<&PeerId>) -> Option<(PeerId, Cost)> {
        let fits = |(via, _): &(PeerId, Cost)| Some(via) != from;
        let delivers = |hop: &(PeerId, Cost)| fits(hop) && self.evidence.penalty(dest, &hop.0) == 0;
        let known = self.next_hops(dest).into_iter().find(delivers);
        let known = known.or_else(|| self.toward_way(way).into_iter().find(fits));
        known.or_else(|| self.datagram_hops(dest, from).first().copied())
    }

    /// Next hops toward the peer that a path names by its tag. Looks at every known peer.
    #[must_use]
    pub fn next_hops_for_tag(&self, id: &[u8; 16], tag: &[u8; 16], way: &Way) -> Hops {
        let is_it = |peer: &&PeerId| path_tag(id, peer) == *tag;
        if is_it(&&self.me) {
            return Hops::Here;
        }
        let live = self.table.entries.iter().filter(|(_, entry)| entry.live).map(|(dest, _)| dest);
        let known = self.neighbours.keys().chain(live).chain(self.probes.found_dests());
        let dest = known.into_iter().find(is_it);
        // A set-up passes each hop once, so it may also try what could loop otherwise: where a liar's short distance
        // makes all true ones infeasible, these are the only way on.
        let usable = dest.map_or_else(NextHops::new, |dest| self.next_hops(dest));
        let entry = dest.and_then(|dest| self.table.entries.get(dest)).into_iter();
        let unfit = entry.flat_map(|entry| &entry.routes[entry.usable..]);
        let unfit = unfit.map(|route| (route.via, Cost(route.metric())));
        let all: NextHops = usable.into_iter().chain(self.toward_way(way)).chain(unfit).collect();
        // Who was seen to swallow what goes there costs the time of others.
        let swallows = |via: &PeerId| match dest {
            Some(dest) => self.evidence.penalty(dest, via) > 0,
            None => self.evidence.is_silent(via),
        };
        let (last, mut first): (NextHops, NextHops) = all.into_iter().partition(|(via, _)| swallows(via));
        if first.is_empty()
            && let Some((_, cost)) = last.first().copied()
        {
            let mut start = [0; 32];
            start[..16].copy_from_slice(id);
            first.extend(self.others(&PeerId(start), dest).map(|via| (via, cost)));
        }
        Hops::Via(in_order(first, last, None))
    }

    /// Next hops along a way: toward the known waypoint that makes the whole shortest, then toward others.
    #[must_use]
    pub(super) fn toward_way(&self, way: &Way) -> NextHops {
        let mut ranked: Vec<(u16, PeerId, u16)> = Vec::new();
        for point in way.points() {
            let Some(dest) = self.known_short(&point.short) else { continue };
            for (via, cost) in self.next_hops(&dest) {
                let whole = cost.0.saturating_add(point.left);
                ranked.push((whole.saturating_add(self.evidence.penalty(&dest, &via)), via, whole));
            }
        }
        ranked.sort_unstable();
        let mut hops = NextHops::new();
        for (_, via, cost) in ranked {
            if hops.len() < ROUTES_MAX && hops.iter().all(|(known, _)| *known != via) {
                hops.push((via, Cost(cost)));
            }
        }
        hops
    }

    /// The neighbour or live destination of a short.
    pub(super) fn known_short(&self, wanted: &Short) -> Option<PeerId> {
        let live = |dest: &PeerId| self.table.entries.get(dest).is_some_and(|entry| entry.live);
        let listed = self.table.by_short(wanted).filter(|dest| live(dest) || self.neighbours.contains_key(dest));
        listed.or_else(|| self.linked_shorts.get(wanted).copied())
    }

    /// Where a peer is, if it is in no table of ours and its place is known.
    #[must_use]
    pub fn way_to(&mut self, now: Now, dest: &PeerId) -> Way {
        self.directory.places.find(now.instant, dest).map(|known| known.way.clone()).unwrap_or_default()
    }

    /// How far a peer is by its way, if any of that is known.
    #[must_use]
    pub fn distance_over(&self, way: &Way) -> Option<Cost> {
        self.toward_way(way).first().map(|(_, cost)| *cost)
    }

    /// Whether there is any next hop toward a peer.
    #[must_use]
    pub fn reaches(&self, dest: &PeerId) -> bool {
        self.neighbours.contains_key(dest)
            || self.table.entries.get(dest).is_some_and(|entry| entry.live)
            || !self.next_hops(dest).is_empty()
    }

    /// Whether there is any next hop toward a peer, over its place too.
    #[must_use]
    pub fn reaches_far(&mut self, now: Now, dest: &PeerId) -> bool {
        self.reaches(dest) || {
            let way = self.way_to(now, dest);
            !self.toward_way(&way).is_empty()
        }
    }

    /// The table, links included, by destination.
    pub fn routes(&self) -> impl Iterator<Item = RouteStatus> + '_ {
        self.contacts().filter_map(|dest| {
            let mut hops = self.next_hops(&dest).into_iter();
            let (next_hop, cost) = hops.next()?;
            Some(RouteStatus { peer_id: dest, next_hop, cost, alternates: hops.collect() })
        })
    }

    /// Landmarks that are kept, and whether we are one ourselves.
    #[must_use]
    pub fn landmarks(&self) -> (usize, bool) {
        (self.table.landmarks_len(), self.origin.proof().is_landmark())
    }

    /// What neighbours were told: destinations and our distances, ourselves not among them.
    pub fn told(&self) -> impl Iterator<Item = (PeerId, u16)> + '_ {
        self.table.entries.iter().filter_map(|(dest, entry)| Some((*dest, entry.told.as_ref()?.metric)))
    }

    /// Every peer with a route or a link, by id.
    pub fn contacts(&self) -> impl Iterator<Item = PeerId> + '_ {
        let is_live = |dest: &PeerId| self.table.entries.get(dest).is_some_and(|entry| entry.live);
        let bare = self.neighbours.keys().filter(move |peer| !is_live(peer));
        let live = self.table.entries.iter().filter(|(_, entry)| entry.live).map(|(dest, _)| dest);
        live.chain(bare).copied()
    }
}

/// The first few of some next hops, each once and not back where it came from. The best of those that come last keeps a
/// place: what was seen of it may be wrong, or over.
fn in_order(first: NextHops, last: NextHops, from: Option<&PeerId>) -> NextHops {
    let mut hops = NextHops::new();
    let mut add = |hop: (PeerId, Cost), max: usize| {
        if hops.len() < max && Some(&hop.0) != from && hops.iter().all(|(via, _)| *via != hop.0) {
            hops.push(hop);
        }
    };
    let kept = usize::from(!last.is_empty());
    first.into_iter().for_each(|hop| add(hop, ROUTES_MAX - kept));
    last.into_iter().for_each(|hop| add(hop, ROUTES_MAX));
    hops
}
