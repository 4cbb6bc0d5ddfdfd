//! Set-ups that keep away from the ways of others: second paths, and paths around what fell silent.

use std::time::Duration;

use super::test_net::{Net, peer, set_up, wish};
use super::*;

/// A path from 1 to `to`, away from the set-ups given.
fn detour(net: &mut Net, set: u16, to: u8, away_from: &[u16], strict: bool) -> PathId {
    let setups = away_from.iter().map(|set| set_up(*set)).collect();
    net.open_as(1, Wish { avoid: Avoid { setups, strict }, ..wish(set, to) })
}

/// Whether a path of node 1 is up, and whether it left the ways to keep away from.
fn parted(net: &Net, wanted: PathId) -> Option<bool> {
    net.events.get(&1)?.iter().find_map(|event| match event {
        Event::Opened { path, parted, .. } if *path == wanted => Some(*parted),
        _ => None,
    })
}

/// 1 - 2 - (3 or 4) - 5.
fn kite() -> Net {
    let mut net = Net::new(5);
    net.routes.extend([((1, 5), vec![2]), ((2, 5), vec![3, 4]), ((3, 5), vec![5]), ((4, 5), vec![5])]);
    net
}

#[test]
fn a_second_path_goes_over_the_other_relay() {
    let mut net = Net::diamond();
    net.open_as(1, wish(1, 4));
    let second = detour(&mut net, 2, 4, &[1], true);
    assert_eq!(parted(&net, second), Some(true));
    assert_eq!([2, 3].map(|relay| net.node(relay).transit_count()), [1, 1]);
    // A third finds no relay that carries neither.
    let third = detour(&mut net, 3, 4, &[1, 2], true);
    assert_eq!(*net.last(1), Event::Failed { path: third, reason: Reason::Unreachable });
    let third = detour(&mut net, 4, 4, &[1, 2], false);
    assert_eq!(parted(&net, third), Some(false));
}

#[test]
fn a_path_parts_behind_the_relay_that_all_must_take() {
    let mut net = kite();
    net.open_as(1, wish(1, 5));
    let second = detour(&mut net, 2, 5, &[1], false);
    assert_eq!(parted(&net, second), Some(true));
    assert_eq!([2, 3, 4].map(|relay| net.node(relay).transit_count()), [2, 1, 1]);
    let apart = detour(&mut net, 3, 5, &[1], true);
    assert_eq!(*net.last(1), Event::Failed { path: apart, reason: Reason::Unreachable });
}

#[test]
fn a_relay_that_carries_the_first_refuses_a_strict_second_that_came_another_way() {
    let mut net = kite();
    net.routes.extend([((1, 5), vec![3, 2]), ((2, 5), vec![3, 4])]);
    net.open_as(1, wish(1, 5));
    let second = detour(&mut net, 2, 5, &[1], true);
    assert_eq!(parted(&net, second), Some(true));
    assert_eq!([2, 3, 4].map(|relay| net.node(relay).transit_count()), [1, 1, 1]);
}

#[test]
fn an_only_way_is_shared_and_says_so() {
    let mut net = Net::line(4);
    net.open_as(1, wish(1, 4));
    let second = detour(&mut net, 2, 4, &[1], false);
    assert_eq!(parted(&net, second), Some(false));
}

#[test]
fn a_neighbour_that_routing_does_not_name_is_tried() {
    let mut net = Net::diamond();
    net.routes.insert((1, 4), vec![4]);
    net.neighbours.insert(1, vec![4, 3]);
    net.open_as(1, wish(1, 4));
    let second = detour(&mut net, 2, 4, &[1], true);
    assert_eq!(parted(&net, second), Some(true));
    assert_eq!(net.node(3).transit_count(), 1);
}

#[test]
fn the_way_of_a_path_that_died_is_the_last_to_try_until_it_is_forgotten() {
    let mut net = kite();
    let first = net.open_as(1, wish(1, 5));
    net.silent.insert(3);
    net.node(1).close(net.now, first, Reason::TimedOut);
    net.run();
    let second = detour(&mut net, 2, 5, &[1], false);
    assert_eq!(parted(&net, second), Some(true));
    net.node(1).close(net.now, second, Reason::Closed);
    net.silent.clear();
    net.pass(Duration::from_secs(31));
    // Trails are swept when the next circuit goes.
    let passing = net.open_as(1, wish(3, 5));
    net.node(1).close(net.now, passing, Reason::Closed);
    net.run();
    let third = detour(&mut net, 4, 5, &[1], false);
    assert_eq!(parted(&net, third), Some(false));
    assert_eq!(net.node(1).cell_head(third).map(|(to, ..)| to), Some(peer(2)));
    assert_eq!(net.cell(1, third, b"x").map(|(at, ..)| at), Some(5));
    assert_eq!(net.node(4).transit_count(), 0);
}

#[test]
fn where_all_ways_were_taken_the_one_taken_first_is_tried_again_first() {
    let mut net = Net::diamond();
    net.open_as(1, wish(1, 4));
    detour(&mut net, 2, 4, &[1], true);
    for (set, away_from, over) in [(3, [2, 1], 2), (4, [1, 2], 3)] {
        let path = detour(&mut net, set, 4, &away_from, false);
        assert_eq!(net.node(1).cell_head(path).map(|(to, ..)| to), Some(peer(over)));
    }
}

#[test]
fn a_second_attempt_goes_around_the_hop_that_does_not_answer_the_first() {
    let mut net = kite();
    net.silent.insert(3);
    let first = net.open_as(1, wish(1, 5));
    assert_eq!(parted(&net, first), None);
    let second = detour(&mut net, 2, 5, &[1], false);
    assert_eq!(parted(&net, second), Some(true));
    assert!(net.node(1).cell_head(second).is_some_and(|(to, ..)| to == peer(2)));
}
