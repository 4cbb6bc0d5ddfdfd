//! No routing loop: for each destination, the graph of best next hops and alternates has no
//! cycle, at any moment (RFC 8966 §2.4; the bound that a route must beat only falls along
//! any way that packets may take).

use std::collections::HashMap;

use tarnet_core::crypto::PeerId;

use crate::network::Network;

/// Who may hand a packet to whom, toward one destination.
type Successors = HashMap<usize, Vec<usize>>;

/// Looks for a loop toward any destination; says which.
///
/// # Errors
/// The destination and the machines on the loop.
pub fn check(network: &Network) -> Result<(), String> {
    let hosts = network.hosts();
    let index: HashMap<PeerId, usize> = hosts.iter().enumerate().map(|(i, host)| (host.peer, i)).collect();
    let mut toward: Vec<Successors> = vec![Successors::new(); hosts.len()];
    // Who passes nothing on ends every loop.
    for host in hosts.iter().map(|host| index[&host.peer]).filter(|host| network.forwards(*host)) {
        let Some(node) = network.node(host) else { continue };
        for route in node.routes() {
            let Some(&dest) = index.get(&route.peer_id) else {
                if network.is_gone(&route.peer_id) {
                    continue;
                }
                return Err(format!("machine {host} has a route to {}, which does not exist", route.peer_id));
            };
            let hops = std::iter::once(route.next_hop).chain(route.alternates.iter().map(|(peer, _)| *peer));
            toward[dest].insert(host, hops.filter_map(|peer| index.get(&peer).copied()).collect());
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
        OnTheWay,
        Done,
    }
    let mut marks: HashMap<usize, Mark> = HashMap::from([(dest, Mark::Done)]);
    let mut starts: Vec<usize> = successors.keys().copied().collect();
    starts.sort_unstable();
    for start in starts {
        if marks.contains_key(&start) {
            continue;
        }
        // The way so far: each node with the number of its next successor.
        let mut way = vec![(start, 0)];
        marks.insert(start, Mark::OnTheWay);
        while let Some(&mut (node, ref mut next)) = way.last_mut() {
            let Some(&hop) = successors.get(&node).and_then(|hops| hops.get(*next)) else {
                marks.insert(node, Mark::Done);
                way.pop();
                continue;
            };
            *next += 1;
            match marks.get(&hop) {
                Some(Mark::Done) => {}
                None => {
                    marks.insert(hop, Mark::OnTheWay);
                    way.push((hop, 0));
                }
                Some(Mark::OnTheWay) => {
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

    /// Successors by the machine's place in the list.
    fn of(list: &[&[usize]]) -> Successors {
        list.iter().map(|hops| hops.to_vec()).enumerate().collect()
    }

    #[test]
    fn a_cycle_behind_a_fork_is_found() {
        assert_eq!(cycle(0, &of(&[&[], &[0, 2], &[3], &[0, 4], &[2]])), Some(vec![2, 3, 4]));
    }

    #[test]
    fn ways_that_meet_again_are_no_cycle() {
        assert_eq!(cycle(0, &of(&[&[], &[0], &[0, 1], &[1, 2], &[3, 2]])), None);
    }

    #[test]
    fn a_loop_through_the_destination_ends_there() {
        assert_eq!(cycle(0, &of(&[&[1], &[0]])), None);
    }
}
