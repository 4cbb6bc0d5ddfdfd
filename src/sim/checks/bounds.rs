//! Tables within their bounds, and no route over a link that is not there.

use std::collections::BTreeSet;

use tarnet_core::crypto::PeerId;
use tarnet_core::routing;

use crate::network::Network;

/// Looks at every node.
///
/// # Errors
/// Which table is too long, or which route leads nowhere.
pub fn check(network: &Network, limits: &routing::Limits) -> Result<(), String> {
    for host in 0..network.hosts().len() {
        let Some(node) = network.node(host) else { continue };
        let links: BTreeSet<PeerId> = node.link_status().map(|link| link.peer).collect();
        let mut routes = 0;
        for route in node.routes() {
            routes += 1;
            let hops = std::iter::once(route.next_hop).chain(route.alternates.iter().map(|(peer, _)| *peer));
            for hop in hops {
                if !links.contains(&hop) {
                    return Err(format!(
                        "machine {host} routes to {} over {hop}, which is no link of it",
                        route.peer_id
                    ));
                }
            }
        }
        // Neighbours are always usable, whether or not they fit the table; found routes live beside it.
        let most = limits.table + limits.landmarks + limits.found + links.len();
        if routes > most {
            return Err(format!("machine {host} has {routes} routes, more than {most}"));
        }
    }
    Ok(())
}
