//! No routing loop: for each destination, the graph of best next hops and alternates has no
//! cycle, at any moment (RFC 8966 §2.4; the bound that a route must beat only falls along
//! any way that packets may take).

use super::{Look, NOBODY};

/// Looks for a loop toward any destination; says which.
///
/// # Errors
/// The destination and the machines on the loop.
pub(super) fn check(look: &Look) -> Result<(), String> {
    // Routes by destination: those of `dest` are `order[starts[dest]..starts[dest + 1]]`.
    let mut starts = vec![0_usize; look.machines + 1];
    look.routes.iter().for_each(|route| starts[route.dest as usize + 1] += 1);
    (1..starts.len()).for_each(|at| starts[at] += starts[at - 1]);
    let (mut order, mut free) = (vec![0_u32; look.routes.len()], starts.clone());
    for (route, at) in look.routes.iter().zip(0..) {
        let place = &mut free[route.dest as usize];
        order[*place] = at;
        *place += 1;
    }
    let mut walk = Walk { look, marks: vec![Mark::Unseen; look.machines], route_of: vec![NOBODY; look.machines] };
    for dest in 0..look.machines {
        if let Some(found) = walk.cycle(dest, &order[starts[dest]..starts[dest + 1]]) {
            return Err(format!("toward machine {dest}: a loop {found:?}"));
        }
    }
    Ok(())
}

/// What is known of a machine, toward one destination.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    /// Nothing.
    Unseen,
    /// The search is beyond it.
    OnTheWay,
    /// No loop from here.
    Done,
}

/// A search; between two destinations nothing is marked.
struct Walk<'a> {
    look: &'a Look,
    marks: Vec<Mark>,
    /// The route of each machine toward the destination.
    route_of: Vec<u32>,
}

impl Walk<'_> {
    /// A cycle among the routes to `dest`, which ends all of them, if there is one.
    fn cycle(&mut self, dest: usize, routes: &[u32]) -> Option<Vec<usize>> {
        for &at in routes {
            let host = self.look.routes[at as usize].host as usize;
            (self.route_of[host], self.marks[host]) = (at, Mark::Unseen);
        }
        self.marks[dest] = Mark::Done;
        let found = routes.iter().find_map(|&at| self.search(self.look.routes[at as usize].host as usize));
        for &at in routes {
            let host = self.look.routes[at as usize].host as usize;
            (self.route_of[host], self.marks[host]) = (NOBODY, Mark::Unseen);
        }
        self.marks[dest] = Mark::Unseen;
        found
    }

    /// Depth first from one machine.
    fn search(&mut self, start: usize) -> Option<Vec<usize>> {
        if self.marks[start] != Mark::Unseen {
            return None;
        }
        // The way so far: each machine with the number of its next hop to look at.
        let mut way = vec![(start, 0)];
        self.marks[start] = Mark::OnTheWay;
        while let Some(&mut (host, ref mut next)) = way.last_mut() {
            let route = self.look.routes.get(self.route_of[host] as usize);
            let hop = route.and_then(|route| route.hops.get(*next)).map(|hop| *hop as usize);
            *next += 1;
            let Some(hop) = hop.filter(|hop| *hop < self.marks.len()) else {
                self.marks[host] = Mark::Done;
                way.pop();
                continue;
            };
            match self.marks[hop] {
                Mark::Done => {}
                // Whoever has no route ends it.
                Mark::Unseen if self.route_of[hop] == NOBODY => {}
                Mark::Unseen => {
                    self.marks[hop] = Mark::OnTheWay;
                    way.push((hop, 0));
                }
                Mark::OnTheWay => {
                    return Some(way.iter().map(|(host, _)| *host).skip_while(|host| *host != hop).collect());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HOPS_MAX, Route};
    use super::*;

    /// Routes toward two destinations, by the machine's place in each list.
    fn of(lists: [&[&[u32]]; 2]) -> Result<(), String> {
        let hops = |list: &[u32]| std::array::from_fn::<u32, HOPS_MAX, _>(|at| list.get(at).copied().unwrap_or(NOBODY));
        let mut routes = Vec::new();
        for host in 0..lists[0].len() {
            for (dest, list) in lists.iter().enumerate().filter(|(_, list)| !list[host].is_empty()) {
                let (host, dest, hops) = (host.try_into().unwrap(), dest.try_into().unwrap(), hops(list[host]));
                routes.push(Route { host, dest, hops });
            }
        }
        check(&Look { routes, machines: lists[0].len(), fingerprint: 0 })
    }

    /// No routes of five machines.
    const NONE: &[&[u32]] = &[&[], &[], &[], &[], &[]];

    #[test]
    fn a_cycle_behind_a_fork_is_found() {
        let found = of([&[&[], &[0, 2], &[3], &[0, 4], &[2]], NONE]);
        assert_eq!(found, Err("toward machine 0: a loop [2, 3, 4]".to_owned()));
    }

    #[test]
    fn ways_that_meet_again_are_no_cycle() {
        assert_eq!(of([&[&[], &[0], &[0, 1], &[1, 2], &[3, 2]], NONE]), Ok(()));
    }

    #[test]
    fn a_loop_through_the_destination_ends_there() {
        assert_eq!(of([&[&[1], &[0], &[], &[], &[]], NONE]), Ok(()));
    }

    #[test]
    fn ways_toward_one_machine_are_no_ways_toward_another() {
        assert_eq!(of([&[&[], &[0], &[1], &[2], &[]], &[&[2], &[], &[3], &[1], &[]]]), Ok(()));
        let found = of([&[&[], &[0], &[1], &[2], &[]], &[&[2], &[], &[3], &[0], &[]]]);
        assert_eq!(found, Err("toward machine 1: a loop [0, 2, 3]".to_owned()));
    }
}
