//! Networks larger than any table: landmarks, places, and ways by them.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::net::{Net, seeded};
use crate::crypto::{PeerId, Scheme, SigningKey, path_tag};
use crate::rng::Rng;
use crate::routing::entry::rank;
use crate::routing::home::{gap, seat};
use crate::routing::{Acquaintance, Event, Hops, Limits, LookupId};
use crate::wire::routing::short;

/// Tables of eight neighbours and four landmarks.
fn tiny() -> Limits {
    Limits { table: 8, landmarks: 4, tombstones: 32, ..Limits::default() }
}

/// A line of such nodes.
fn line(count: usize) -> Net {
    let mut net = Net::new(count, tiny());
    net.check_loops = false;
    (1..count).for_each(|at| net.link(at - 1, at, 5));
    net
}

/// The nodes of the lowest ranks.
fn lowest(net: &Net, of: std::ops::Range<usize>, count: usize) -> BTreeSet<PeerId> {
    let mut ranked: Vec<_> = of.map(|at| (rank(&short(&net.id(at))), net.id(at))).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(count).map(|(_, peer)| peer).collect()
}

/// The landmarks that a node knows, itself included.
fn known(net: &Net, at: usize) -> BTreeSet<PeerId> {
    let own = net.nodes[at].origin.proof().is_landmark().then(|| net.id(at));
    net.nodes[at].table.landmarks().map(|(_, peer)| peer).chain(own).collect()
}

/// Hops from one node to another by the place of the latter, as a path's set-up would go, first choices only.
fn hops(net: &mut Net, from: usize, to: usize) -> Option<usize> {
    let (now, dest) = (net.now, net.id(to));
    if !net.nodes[from].reaches_far(now, &dest) {
        net.nodes[from].locate(now, LookupId(7), dest);
        net.drain(from);
        net.run_secs(10);
    }
    let way = net.nodes[from].way_to(net.now, &dest);
    let (id, mut at, mut hops) = ([9; 16], from, 0);
    let tag = path_tag(&id, &dest);
    loop {
        match net.nodes[at].next_hops_for_tag(&id, &tag, &way) {
            Hops::Here => return Some(hops),
            Hops::Via(via) => {
                let next = via.first()?.0;
                at = (0..net.nodes.len()).find(|at| net.id(*at) == next)?;
            }
        }
        hops += 1;
        if hops > net.nodes.len() {
            return None;
        }
    }
}

#[test]
fn the_lowest_ranks_of_the_whole_network_become_landmarks() {
    let mut net = line(40);
    net.run_secs(90);
    let lowest = lowest(&net, 0..40, 4);
    for at in 0..40 {
        assert_eq!(known(&net, at), lowest, "at {at}");
        assert!(net.nodes[at].table.near <= 8 && net.nodes[at].table.live() <= 12);
    }
}

#[test]
fn a_network_that_fits_the_table_has_no_landmarks() {
    let mut net = Net::line(12);
    net.run_secs(90);
    assert!((0..12).all(|at| known(&net, at).is_empty() && !net.nodes[at].has_directory()));
}

#[test]
fn without_landmarks_a_node_that_is_reached_says_itself_who_it_is() {
    let mut net = Net::line(12);
    let now = net.now;
    net.nodes[11].set_blob(now, Bytes::from_static(b"hello"));
    net.run_secs(30);
    let (now, dest, silent) = (net.now, net.id(11), net.id(10));
    net.events.clear();
    net.nodes[0].locate(now, LookupId(1), dest);
    net.nodes[0].locate(now, LookupId(2), silent);
    net.nodes[0].locate(now, LookupId(3), PeerId([5; 32]));
    net.drain(0);
    net.run_secs(5);
    let blob = Bytes::from_static(b"hello");
    assert!(net.events.contains(&(0, Event::Located { lookup: LookupId(1), dest, blob })));
    assert!(net.events.contains(&(0, Event::NotLocated { lookup: LookupId(2), dest: silent })));
    assert!(net.events.contains(&(0, Event::NotLocated { lookup: LookupId(3), dest: PeerId([5; 32]) })));
}

#[test]
fn everybody_is_reached_by_its_place() {
    let mut net = line(40);
    net.run_secs(120);
    for (from, to) in [(0, 39), (39, 0), (3, 20), (20, 3), (11, 30), (38, 17)] {
        assert_eq!(hops(&mut net, from, to), Some(from.abs_diff(to)), "{from} to {to}");
    }
}

#[test]
fn a_datagram_and_its_answer_travel_by_a_place() {
    let mut net = line(40);
    net.run_secs(120);
    let (now, dest) = (net.now, net.id(35));
    net.nodes[1].locate(now, LookupId(1), dest);
    net.drain(1);
    net.run_secs(3);
    let now = net.now;
    net.nodes[1].send_routed(now, dest, Bytes::from_static(b"far"), true).unwrap();
    net.drain(1);
    net.events.clear();
    net.run_secs(1);
    let arrived = net.events.iter().find_map(|(at, event)| match event {
        Event::Datagram { payload, reply, .. } => Some((*at, payload.clone(), *reply)),
        _ => None,
    });
    let Some((35, payload, Some(reply))) = arrived else { panic!("{arrived:?}") };
    assert_eq!(payload, "far");
    let now = net.now;
    net.nodes[35].answer_routed(now, reply, Bytes::from_static(b"back")).unwrap();
    net.drain(35);
    net.run_secs(1);
    assert!(
        net.events
            .iter()
            .any(|(at, event)| *at == 1 && matches!(event, Event::Answer { payload, .. } if payload == "back"))
    );
}

#[test]
fn whoever_looks_up_a_node_gets_its_blob_and_nobody_is_found_who_is_not_there() {
    let mut net = line(40);
    let now = net.now;
    net.nodes[35].set_blob(now, Bytes::from_static(b"hello"));
    net.drain(35);
    net.run_secs(120);
    let (now, dest, nobody) = (net.now, net.id(35), PeerId([5; 32]));
    net.events.clear();
    net.nodes[1].locate(now, LookupId(1), dest);
    net.nodes[1].locate(now, LookupId(2), nobody);
    net.drain(1);
    net.run_secs(5);
    let blob = Bytes::from_static(b"hello");
    assert!(net.events.contains(&(1, Event::Located { lookup: LookupId(1), dest, blob })));
    assert!(net.events.contains(&(1, Event::NotLocated { lookup: LookupId(2), dest: nobody })));
}

#[test]
fn landmarks_of_two_networks_become_those_of_one() {
    let mut net = Net::new(40, tiny());
    net.check_loops = false;
    (1..40).filter(|at| *at != 20).for_each(|at| net.link(at - 1, at, 5));
    net.run_secs(90);
    assert_eq!(known(&net, 3), lowest(&net, 0..20, 4));
    assert_eq!(known(&net, 33), lowest(&net, 20..40, 4));
    net.link(19, 20, 5);
    net.run_secs(60);
    let all = lowest(&net, 0..40, 4);
    assert!((0..40).all(|at| known(&net, at) == all));
    assert_eq!(hops(&mut net, 2, 37), Some(35));
}

#[test]
fn a_landmark_that_dies_is_replaced_and_places_move() {
    let mut net = line(41);
    net.link(0, 40, 5);
    net.run_secs(120);
    let dead = net.nodes.iter().position(|node| node.origin.proof().is_landmark()).expect("a landmark");
    let (left, right) = ((dead + 40) % 41, (dead + 1) % 41);
    net.cut(dead, left);
    net.cut(dead, right);
    net.run_secs(120);
    assert!(!known(&net, right).contains(&net.id(dead)));
    assert_eq!(known(&net, right).len(), 4);
    let far = (dead + 20) % 41;
    assert_eq!(hops(&mut net, right, far), Some(19));
}

#[test]
fn a_random_graph_is_crossed_with_little_detour() {
    let mut net = Net::new(60, Limits { table: 16, ..tiny() });
    net.check_loops = false;
    let mut rng = seeded(3, "chords");
    for at in 0..60 {
        net.link(at, (at + 1) % 60, 5);
        let other = usize::try_from(rng.public_below(60)).unwrap();
        if other != at && !net.links.contains_key(&(at.min(other), at.max(other))) {
            net.link(at, other, 5);
        }
    }
    net.run_secs(120);
    for at in 0..20 {
        assert!(hops(&mut net, at, 59 - at).is_some_and(|hops| hops <= 12), "{at}");
    }
}

#[test]
fn a_place_names_the_hops_next_to_its_node() {
    let mut net = line(40);
    net.run_secs(120);
    let (now, dest) = (net.now, net.id(20));
    net.nodes[0].locate(now, LookupId(7), dest);
    net.drain(0);
    net.run_secs(2);
    let way = net.nodes[0].way_to(net.now, &dest);
    let named = |at: usize| {
        let point = way.points().iter().find(|point| point.short == short(&net.id(at)));
        point.is_some_and(|point| usize::from(point.left) == at.abs_diff(20))
    };
    assert!((17..20).all(named) || (21..24).all(named), "{way:?}");
}

/// A key whose rank as a landmark is below `bound`: ground out.
fn ground(rng: &mut Rng, bound: u64) -> SigningKey {
    loop {
        let key = SigningKey::generate(Scheme::Ed25519, rng);
        if rank(&short(&key.public().peer_id())) < bound {
            return key;
        }
    }
}

/// A line that is two hours old is joined all along by nodes of ground out ranks, which pass nothing on. How many of
/// its landmarks every honest node still has at least, and how many of some pairs reach each other.
fn overrun(acquaintance: Duration) -> (usize, usize) {
    let limits = Limits { acquaintance, ..tiny() };
    let mut net = Net::new(40, limits);
    net.check_loops = false;
    (1..40).for_each(|at| net.link(at - 1, at, 5));
    net.run_secs(7200);
    let honest = lowest(&net, 0..40, 4);
    let bound = (0..40).map(|at| rank(&short(&net.id(at)))).min().unwrap();
    let mut rng = seeded(3, "ground");
    for at in (1..40).step_by(5) {
        let new = net.add(ground(&mut rng, bound), limits);
        net.greedy.insert(new);
        net.nodes[new].set_landmark(net.now.instant, true);
        net.link(new, at, 5);
    }
    // Until all have registered once more.
    net.run_secs(2800);
    let kept = (0..40).map(|at| known(&net, at).intersection(&honest).count()).min().unwrap();
    let pairs = [(0, 39), (39, 0), (3, 20), (20, 3), (11, 30), (38, 17), (5, 35), (33, 2)];
    (kept, pairs.into_iter().filter(|(from, to)| hops(&mut net, *from, *to) == Some(from.abs_diff(*to))).count())
}

#[test]
fn ground_out_ranks_take_half_of_an_older_networks_landmarks_at_most() {
    // First choices alone: the table of eight is full of those who joined.
    let (kept, reached) = overrun(Duration::from_secs(60));
    assert!(kept == 2 && reached >= 7, "{kept} kept, {reached} reached");
    let (kept, reached) = overrun(Duration::from_secs(1 << 30));
    assert!(kept == 0 && reached < 4, "the attack itself: {kept} kept, {reached} reached");
}

#[test]
fn places_are_kept_by_the_nearest_of_all_landmarks_and_of_those_known_longest() {
    let mut net = Net::new(60, Limits { landmarks: 24, ..tiny() });
    net.check_loops = false;
    (1..60).for_each(|at| net.link(at - 1, at, 5));
    net.run_secs(180);
    let all: Vec<PeerId> = known(&net, 0).into_iter().collect();
    assert!(all.len() >= 20, "{}", all.len());
    let long: Vec<PeerId> = all.iter().step_by(2).copied().collect();
    let saved: Vec<Acquaintance> = long.iter().map(|peer| Acquaintance { peer: *peer, minutes: 9 * 24 * 60 }).collect();
    net.nodes[0].remember_acquaintances(&saved);
    net.run_secs(11);
    for of in 0..20 {
        let sought = [of * 13; 16];
        let nearest = |mut peers: Vec<PeerId>| {
            peers.sort_by_key(|peer| gap(&seat(peer), &sought));
            peers.truncate(5);
            peers
        };
        let chosen = net.nodes[0].directories(&sought, 5);
        let wanted: BTreeSet<PeerId> = nearest(all.clone()).into_iter().chain(nearest(long.clone())).collect();
        assert_eq!(chosen.iter().copied().collect::<BTreeSet<_>>(), wanted);
        assert_eq!((chosen.len(), chosen[0]), (wanted.len(), nearest(long.clone())[0]));
    }
}
