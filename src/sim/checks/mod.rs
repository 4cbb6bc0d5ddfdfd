//! What must hold of the whole network. Each check looks from outside at what nodes report
//! of themselves, and says in words what is wrong.
//!
//! Asking every node for every route is most of the work, so it is done once for all checks
//! ([`Look`]), with numbers for machines and no memory per route.

mod bounds;
mod loops;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use tarnet_core::crypto::PeerId;
use tarnet_core::routing;

use crate::network::Network;

/// No machine: routes have up to four next hops.
const NOBODY: u32 = u32::MAX;
/// Next hops of one route, at most.
const HOPS_MAX: usize = routing::limits::ROUTES_MAX;

/// A route of a machine.
struct Route {
    host: u32,
    dest: u32,
    /// Machines that it leads over, the best first; [`NOBODY`] fills up.
    hops: [u32; HOPS_MAX],
}

/// The routes of all machines at one moment.
pub struct Look {
    /// In the order of machines.
    routes: Vec<Route>,
    machines: usize,
    fingerprint: u64,
}

impl Look {
    /// Asks every machine.
    ///
    /// # Errors
    /// A machine has more routes than it may, a route over a link that is not there, or to a machine that never was.
    pub fn at(network: &Network, limits: &routing::Limits) -> Result<Self, String> {
        let hosts = network.hosts();
        let index: HashMap<PeerId, u32> = hosts.iter().zip(0..).map(|(host, at)| (host.peer, at)).collect();
        let mut look = Self { routes: Vec::new(), machines: hosts.len(), fingerprint: 0 };
        let mut hasher = DefaultHasher::new();
        for (host, at) in (0..hosts.len()).zip(0..) {
            let Some(node) = network.node(host) else { continue };
            let begin = look.routes.len();
            let links = bounds::Links::of(node, &index);
            let mut count = 0;
            for route in node.routes() {
                count += 1;
                let hops = links.hops(host, &route)?;
                (at, route.peer_id, route.next_hop).hash(&mut hasher);
                let Some(&dest) = index.get(&route.peer_id) else {
                    if network.is_gone(&route.peer_id) {
                        continue;
                    }
                    return Err(format!("machine {host} has a route to {}, which does not exist", route.peer_id));
                };
                look.routes.push(Route { host: at, dest, hops });
            }
            bounds::check(host, count, links.len(), limits)?;
            // Who passes nothing on ends every loop.
            if !network.forwards(host) {
                look.routes.truncate(begin);
            }
        }
        look.fingerprint = hasher.finish();
        Ok(look)
    }

    /// A number that changes when any route does. Only compared within this process.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Looks for a loop toward any destination.
    ///
    /// # Errors
    /// The destination and the machines on the loop.
    pub fn check_loops(&self) -> Result<(), String> {
        loops::check(self)
    }
}
