//! No routing loop: for each destination, the graph of best next hops and alternates has no
//! cycle, at any moment (RFC 8966 §2.4; the bound that a route must beat only falls along
//! any way that packets may take).

use std::collections::HashMap;

use tarnet_core::crypto::PeerId;

use crate::network::Network;

/// Who may hand a packet to whom, toward one destination.
type Successors = Vec<Vec<usize>>;

/// Looks for a loop toward any destination; says which.
///
/// # Errors
/// The destination and the machines on the loop.
pub fn check(network: &Network) -> Result<(), String> {
    let hosts = network.hosts();
    let index: HashMap<PeerId, usize> = hosts.iter().enumerate().map(|(i, host)| (host.peer, i)).collect();
    let mut toward: Vec<Successors> = vec![vec![Vec::new(); hosts.len()]; hosts.len()];
    for host in hosts.iter().map(|host| index[&host.peer]) {
        let Some(node) = network.node(host) else { continue };
        for route in node.routes() {
            let Some(&dest) = index.get(&route.peer_id) else {
                return Err(format!("machine {host} has a route to {}, which does not exist", route.peer_id));
            };
            let hops = std::iter::once(route.next_hop).chain(route.alternates.iter().map(|(peer, _)| *peer));
            toward[dest][host] = hops.filter_map(|peer| index.get(&peer).copied()).collect();
        }
    }
    for (dest, successors) in toward.iter().enumerate() {
        if let Some(found) = cycle(dest, successors) {
            return Err(format!("toward machine {dest}: a loop {found:?} at {:?}", network.now().instant));
        }
    }
    Ok(())
}

/// A cycle in a graph that ends at `dest`, if there is one.
fn cycle(dest: usize, successors: &Successors) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnTheWay,
        Done,
    }
    let mut marks = vec![Mark::New; successors.len()];
    marks[dest] = Mark::Done;
    for start in 0..successors.len() {
        // The way so far: each node with the number of its next successor.
        let mut way = vec![(start, 0)];
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::OnTheWay;
        while let Some(&mut (node, ref mut next)) = way.last_mut() {
            let Some(&hop) = successors[node].get(*next) else {
                marks[node] = Mark::Done;
                way.pop();
                continue;
            };
            *next += 1;
            match marks[hop] {
                Mark::Done => {}
                Mark::New => {
                    marks[hop] = Mark::OnTheWay;
                    way.push((hop, 0));
                }
                Mark::OnTheWay => {
                    return Some(way.iter().map(|(node, _)| *node).skip_while(|node| *node != hop).collect());
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_behind_a_fork_is_found() {
        let successors = vec![vec![], vec![0, 2], vec![3], vec![0, 4], vec![2]];
        assert_eq!(cycle(0, &successors), Some(vec![2, 3, 4]));
    }

    #[test]
    fn ways_that_meet_again_are_no_cycle() {
        let successors = vec![vec![], vec![0], vec![0, 1], vec![1, 2], vec![3, 2]];
        assert_eq!(cycle(0, &successors), None);
    }

    #[test]
    fn a_loop_through_the_destination_ends_there() {
        assert_eq!(cycle(0, &vec![vec![1], vec![0]]), None);
    }
}
