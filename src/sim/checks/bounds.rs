//! Tables within their bounds, and no route over a link that is not there.

use std::collections::HashMap;

use tarnet_core::crypto::PeerId;
use tarnet_core::routing::{self, RouteStatus};

use super::{HOPS_MAX, NOBODY};
use crate::network::SimNode;

/// A node's links, and whose they are.
pub(super) struct Links(Vec<(PeerId, u32)>);

impl Links {
    /// Asks the node.
    pub(super) fn of(node: &SimNode, index: &HashMap<PeerId, u32>) -> Self {
        let whose = |peer: PeerId| (peer, index.get(&peer).copied().unwrap_or(NOBODY));
        let mut links: Vec<(PeerId, u32)> = node.link_status().map(|link| whose(link.peer)).collect();
        links.sort_unstable();
        Self(links)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The machines that a route leads over; who is none any more is left out.
    ///
    /// # Errors
    /// One that is no link.
    pub(super) fn hops(&self, host: usize, route: &RouteStatus) -> Result<[u32; HOPS_MAX], String> {
        let mut hops = [NOBODY; HOPS_MAX];
        let all = std::iter::once(&route.next_hop).chain(route.alternates.iter().map(|(peer, _)| peer));
        let mut places = hops.iter_mut();
        for peer in all {
            let found = self.0.binary_search_by_key(peer, |(link, _)| *link);
            let lost = || format!("machine {host} routes to {} over {peer}, which is no link of it", route.peer_id);
            let machine = self.0[found.map_err(|_| lost())?].1;
            if let Some(place) = if machine == NOBODY { None } else { places.next() } {
                *place = machine;
            }
        }
        Ok(hops)
    }
}

/// Whether a machine has no more routes than it may.
///
/// # Errors
/// It has.
pub(super) fn check(host: usize, routes: usize, links: usize, limits: &routing::Limits) -> Result<(), String> {
    // Neighbours are always usable, whether or not they fit the table; found routes live beside it.
    let most = limits.table + limits.landmarks + limits.found + links;
    if routes > most { Err(format!("machine {host} has {routes} routes, more than {most}")) } else { Ok(()) }
}
