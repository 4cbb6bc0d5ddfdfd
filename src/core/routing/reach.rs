//! The answers to "which next hops lead there".

use super::entry::Entry;
use super::limits::ROUTES_MAX;
use super::{Cost, Hops, NextHops, RouteStatus, Routing};
use crate::crypto::{PeerId, path_tag};

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

    /// Next hops toward the peer that a path names by its tag. Looks at every known peer.
    #[must_use]
    pub fn next_hops_for_tag(&self, id: &[u8; 16], tag: &[u8; 16]) -> Hops {
        let is_it = |peer: &&PeerId| path_tag(id, peer) == *tag;
        if is_it(&&self.me) {
            return Hops::Here;
        }
        let live = self.table.entries.iter().filter(|(_, entry)| entry.live).map(|(dest, _)| dest);
        let known = self.neighbours.keys().chain(live).chain(self.probes.found_dests());
        Hops::Via(known.into_iter().find(is_it).map_or_else(NextHops::new, |dest| self.next_hops(dest)))
    }

    /// Whether there is any next hop toward a peer.
    #[must_use]
    pub fn reaches(&self, dest: &PeerId) -> bool {
        self.neighbours.contains_key(dest)
            || self.table.entries.get(dest).is_some_and(|entry| entry.live)
            || !self.next_hops(dest).is_empty()
    }

    /// The table, links included, by destination.
    pub fn routes(&self) -> impl Iterator<Item = RouteStatus> + '_ {
        self.contacts().filter_map(|dest| {
            let mut hops = self.next_hops(&dest).into_iter();
            let (next_hop, cost) = hops.next()?;
            Some(RouteStatus { peer_id: dest, next_hop, cost, alternates: hops.collect() })
        })
    }

    /// Every peer with a route or a link, by id.
    pub fn contacts(&self) -> impl Iterator<Item = PeerId> + '_ {
        let is_live = |dest: &PeerId| self.table.entries.get(dest).is_some_and(|entry: &Entry| entry.live);
        let bare = self.neighbours.keys().filter(move |peer| !is_live(peer));
        let live = self.table.entries.iter().filter(|(_, entry)| entry.live).map(|(dest, _)| dest);
        live.chain(bare).copied()
    }
}
