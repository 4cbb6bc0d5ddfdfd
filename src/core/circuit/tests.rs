//! Set-up, crank-back, cells, teardown, limits and liars.

use std::time::Duration;

use super::test_net::{Known, Net, peer, proof, wish};
use super::*;
use crate::crypto::path_tag;
use crate::wire::kind;
use crate::wire::path::{self, Failed, Label, Open, Opened};

#[test]
fn a_line_carries_cells_both_ways_and_tells_its_length() {
    let mut net = Net::line(6);
    let path = net.open(1, 6);
    assert_eq!(net.opened_hops(1, path), Some(5));
    assert_eq!(net.sent, 10);
    let far = net.incoming(6);
    assert_eq!(net.cell(1, path, b"there"), Some((6, far, false)));
    assert_eq!(net.cell(6, far, b"back"), Some((1, path, false)));
    assert_eq!(net.node(3).transit_count(), 1);
    assert_eq!(net.node(3).counters().cells_forwarded, 2);
    assert_eq!(net.node(3).cell_head(PathId(1)), None);
    net.node(1).close(net.now, path, Reason::Closed);
    net.run();
    assert_eq!(*net.last(6), Event::Closed { path: far, reason: Reason::Closed });
    assert!(matches!(net.last(1), Event::Opened { .. }), "no event for what we closed");
    net.assert_empty();
}

#[test]
fn the_far_end_may_close_and_both_at_once_is_nothing_special() {
    let mut net = Net::line(4);
    let path = net.open(1, 4);
    let far = net.incoming(4);
    net.node(4).close(net.now, far, Reason::Closed);
    net.node(1).close(net.now, path, Reason::Closed);
    net.run();
    net.assert_empty();
    let path = net.open(1, 4);
    net.node(4).close(net.now, net.incoming(4), Reason::Idle);
    net.run();
    assert_eq!(*net.last(1), Event::Closed { path, reason: Reason::Idle });
    net.assert_empty();
}

#[test]
fn a_refusal_reaches_the_opener() {
    let mut net = Net::line(3);
    // The destination cannot prove that it is meant: its reveal hashes to something else.
    let known = Known { net: &net, me: 1 };
    let wish = Wish { proof_hash: [0; 32], ..wish(1, 3) };
    let path = net.node(1).open(net.now, wish, Whereabouts::default(), &known);
    net.run();
    assert_eq!(*net.last(1), Event::Failed { path, reason: Reason::Refused });
    net.assert_empty();
}

#[test]
fn a_branch_without_a_way_is_backed_out_of() {
    let mut net = Net::diamond();
    net.routes.insert((2, 4), vec![]);
    let path = net.open(1, 4);
    assert_eq!(net.opened_hops(1, path), Some(2));
    assert_eq!(net.node(1).counters().cranked_back, 1);
    assert_eq!(net.node(3).transit_count(), 1);
    assert_eq!(net.node(2).transit_count(), 0);
}

#[test]
fn a_silent_branch_gets_the_next_for_company() {
    let mut net = Net::diamond();
    net.silent.insert(2);
    let path = net.open(1, 4);
    assert_eq!(net.opened_hops(1, path), None);
    net.pass(Duration::from_secs(5));
    assert_eq!(net.opened_hops(1, path), Some(2));
}

/// Each hop of a line asks one who swallows everything first. Were the time shared between a hop's branches, less than
/// a hundredth would be left at the end.
#[test]
fn many_silent_branches_on_one_way_cost_half_a_second_each() {
    let mut net = Net::line(7);
    for hop in 1..6u8 {
        net.routes.insert((hop, 7), vec![100 + hop, hop + 1]);
        net.silent.insert(100 + hop);
    }
    let path = net.open(1, 7);
    net.pass(Duration::from_secs(3));
    assert_eq!(net.opened_hops(1, path), Some(6));
    assert_eq!(net.cell(1, path, b"x").map(|(at, ..)| at), Some(7));
    assert!((1..6).all(|hop| net.events[&hop].contains(&Event::Evidence { peer: peer(100 + hop), ok: false })));
    net.node(1).close(net.now, path, Reason::Closed);
    net.run();
    assert!((1..=7).all(|n| net.node(n).transit_count() == 0 && net.node(n).half_open == 0));
}

/// One that is only slow keeps its chance beside the next, and whoever answers first carries the path.
#[test]
fn a_slow_branch_is_kept_beside_the_next_and_closed_once_another_has_answered() {
    let mut net = Net::diamond();
    // 2 has to look elsewhere first; what it finds then comes second.
    net.routes.insert((2, 4), vec![9]);
    net.silent.insert(9);
    let path = net.open(1, 4);
    net.pass(Duration::from_millis(400));
    assert_eq!((net.node(2).half_open, net.node(3).half_open), (1, 0));
    net.pass(Duration::from_millis(200));
    assert_eq!(net.opened_hops(1, path), Some(2));
    assert_eq!((net.node(2).transit_count(), net.node(3).transit_count()), (0, 1));
    assert_eq!(net.cell(1, path, b"x").map(|(at, ..)| at), Some(4));
    // The other way round: the first answers while the second is still looking.
    let mut net = Net::diamond();
    net.routes.insert((2, 4), vec![9, 4]);
    net.routes.insert((3, 4), vec![9]);
    net.silent.insert(9);
    let path = net.open(1, 4);
    net.pass(Duration::from_secs(1));
    assert_eq!(net.opened_hops(1, path), Some(2));
    assert_eq!((net.node(2).transit_count(), net.node(3).transit_count()), (1, 0));
    net.node(1).close(net.now, path, Reason::Closed);
    net.run();
    net.assert_empty();
}

/// However many branches run at once, together they cost no more messages than the set-up may.
#[test]
fn branches_beside_each_other_share_the_budget() {
    let mut net = Net::new(1);
    let open = Open {
        label: Label(0),
        id: SetupId([7; 16]),
        tag: [0; 16],
        proof_hash: [0; 32],
        hop_limit: 9,
        budget: 100,
        patience_ms: 4000,
        avoid: Avoid { setups: [SetupId([1; 16]), SetupId([2; 16])].into_iter().collect(), strict: false },
        way: Way::default(),
        blob: Bytes::new(),
    };
    net.neighbours.insert(1, vec![2, 3, 4, 5]);
    let known = Known { net: &net, me: 1 };
    net.node(1).handle_message(net.now, peer(0), kind::PATH_OPEN, &open.encode(), &known).unwrap();
    let mut given = Vec::new();
    for second in 1..9 {
        while let Some((_, kind, body)) = net.node(1).poll_transmit() {
            if kind == kind::PATH_OPEN {
                given.push(Open::decode(&body).unwrap().budget);
            }
        }
        net.node(1).handle_timeout(net.now.after(Duration::from_secs(second)));
    }
    assert_eq!(given.len(), 4);
    assert_eq!(given.iter().map(|budget| budget + 1).sum::<u16>(), 100, "{given:?}");
    assert!(given[0] > 70 && given[1] > 10, "the best gets most: {given:?}");
}

#[test]
fn a_silent_only_way_times_out_in_ten_seconds_everywhere() {
    let mut net = Net::line(5);
    net.silent.insert(4);
    let path = net.open(1, 5);
    net.pass(Duration::from_secs(10));
    assert_eq!(*net.last(1), Event::Failed { path, reason: Reason::TimedOut });
    net.assert_empty();
}

#[test]
fn an_answer_without_the_proof_is_refused_and_the_next_branch_tried() {
    let mut net = Net::diamond();
    net.liars.insert(2);
    let path = net.open(1, 4);
    assert_eq!(net.node(1).counters().forged, 1);
    assert_eq!(net.opened_hops(1, path), Some(2));
    assert_eq!(net.cell(1, path, b"x").map(|(at, ..)| at), Some(4));
    // The same at a hop that merely carries it.
    let mut net = Net::line(4);
    net.liars.insert(3);
    let path = net.open(1, 4);
    assert_eq!(net.node(2).counters().forged, 1);
    assert_eq!(*net.last(1), Event::Failed { path, reason: Reason::Protocol });
    net.assert_empty();
}

#[test]
fn a_set_up_that_comes_back_is_refused_and_costs_a_bounded_number_of_messages() {
    let mut net = Net::new(6);
    // Everybody points at everybody else, nobody has the destination.
    for from in 1..=5u8 {
        net.routes.insert((from, 6), (1..=5).filter(|n| *n != from).collect());
    }
    let path = net.open(1, 6);
    assert!(matches!(net.last(1), Event::Failed { path: failed, .. } if *failed == path));
    assert!(net.sent < 2 * 5 * 4, "{} messages", net.sent);
    assert!(net.node(2).counters().setups_seen > 0);
    net.assert_empty();
}

#[test]
fn the_budget_ends_a_set_up() {
    let net = Net::line(3);
    let open = Open {
        label: Label(0),
        id: SetupId([7; 16]),
        tag: path_tag(&[7; 16], &peer(3)),
        proof_hash: [0; 32],
        hop_limit: 9,
        budget: 0,
        patience_ms: 9000,
        avoid: Avoid::default(),
        way: Way::default(),
        blob: Bytes::new(),
    };
    let known = Known { net: &net, me: 2 };
    for (n, open) in [open.clone(), Open { hop_limit: 0, budget: 9, ..open }].into_iter().enumerate() {
        let n = u8::try_from(n).unwrap();
        let open = Open { id: SetupId([n; 16]), tag: path_tag(&[n; 16], &peer(3)), ..open };
        net.node(2).handle_message(net.now, peer(1), kind::PATH_OPEN, &open.encode(), &known).unwrap();
        let (to, kind, body) = net.node(2).poll_transmit().unwrap();
        assert_eq!((to, kind), (peer(1), kind::PATH_FAILED));
        assert_eq!(Failed::decode(&body).unwrap().reason, Reason::Limit);
    }
    net.assert_empty();
}

#[test]
fn another_neighbour_can_neither_use_close_nor_answer_a_label() {
    let mut net = Net::line(5);
    let path = net.open(1, 5);
    let far = net.incoming(5);
    let leg = net.node(3).legs.of_peer(&peer(2))[0];
    let before = net.node(3).counters().cells_dropped;
    for other in [4, 1, 9] {
        let cell = Bytes::from(path::cell_head(leg.label, false).to_vec());
        assert_eq!(net.node(3).handle_cell(net.now, peer(other), cell), CellAction::Drop);
        let known = Known { net: &net, me: 3 };
        let close = path::Close { label: leg.label, reason: Reason::Closed }.encode();
        net.node(3).handle_message(net.now, peer(other), kind::PATH_CLOSE, &close, &known).unwrap();
        let opened =
            Opened { label: leg.label, reveal: proof().0, hops: 0, parted: false, blob: Bytes::new() }.encode();
        net.node(3).handle_message(net.now, peer(other), kind::PATH_OPENED, &opened, &known).unwrap();
        let failed = Failed { label: leg.label, reason: Reason::Closed, budget: 0 }.encode();
        net.node(3).handle_message(net.now, peer(other), kind::PATH_FAILED, &failed, &known).unwrap();
    }
    net.run();
    assert_eq!(net.node(3).counters().cells_dropped, before + 3);
    assert_eq!(net.node(3).counters().strays, 6);
    assert_eq!(net.cell(1, path, b"still"), Some((5, far, false)));
}

#[test]
fn a_label_of_the_wrong_side_or_in_use_is_an_error() {
    let mut net = Net::line(3);
    net.open(1, 3);
    let taken = net.node(2).legs.of_peer(&peer(1))[0].label;
    let known = Known { net: &net, me: 2 };
    for label in [taken, Label(taken.0 ^ 1 << 31)] {
        let open = Open {
            label,
            id: SetupId([1; 16]),
            tag: [0; 16],
            proof_hash: [0; 32],
            hop_limit: 1,
            budget: 1,
            patience_ms: 1,
            avoid: Avoid::default(),
            way: Way::default(),
            blob: Bytes::new(),
        };
        assert!(net.node(2).handle_message(net.now, peer(1), kind::PATH_OPEN, &open.encode(), &known).is_err());
    }
}

#[test]
fn marks_survive_the_relay_and_cells_before_the_answer_do_not() {
    let mut net = Net::line(3);
    let path = net.open(1, 3);
    let (to, _, mut head) = net.node(1).cell_head(path).unwrap();
    head[4] |= path::CELL_MARKED;
    assert_eq!(to, peer(2));
    let action = net.node(2).handle_cell(net.now, peer(1), Bytes::from(head.to_vec()));
    let CellAction::Forward { head, .. } = action else { panic!("{action:?}") };
    let action = net.node(3).handle_cell(net.now, peer(2), Bytes::from(head.to_vec()));
    assert!(matches!(action, CellAction::Deliver { marked: true, .. }));
    net.silent.insert(3);
    net.open(1, 3);
    let legs = net.node(2).legs.of_peer(&peer(1));
    let shut = |leg: &&legs::Leg| net.node(2).legs.entry(leg).unwrap().switch == legs::Switch::Shut;
    let shut = *legs.iter().find(shut).unwrap();
    let cell = Bytes::from(path::cell_head(shut.label, false).to_vec());
    assert_eq!(net.node(2).handle_cell(net.now, peer(1), cell), CellAction::Drop);
}

#[test]
fn a_lost_link_closes_both_sides_at_once_and_is_walked_around_while_opening() {
    let mut net = Net::line(5);
    let path = net.open(1, 5);
    let far = net.incoming(5);
    net.link_down(3, 4);
    assert_eq!(*net.last(1), Event::Closed { path, reason: Reason::LinkLost });
    assert_eq!(*net.last(5), Event::Closed { path: far, reason: Reason::LinkLost });
    net.assert_empty();

    let mut net = Net::diamond();
    net.silent.insert(2);
    let path = net.open(1, 4);
    net.link_down(1, 2);
    assert_eq!(net.opened_hops(1, path), Some(2));
}

#[test]
fn an_idle_path_ends_after_ten_minutes_and_a_used_one_does_not() {
    let mut net = Net::line(3);
    let path = net.open(1, 3);
    net.pass(Duration::from_secs(590));
    assert!(net.cell(1, path, b"x").is_some());
    let far = net.incoming(3);
    assert!(net.cell(3, far, b"x").is_some());
    net.pass(Duration::from_secs(590));
    assert_eq!(net.node(2).transit_count(), 1);
    net.pass(Duration::from_secs(20));
    assert_eq!(*net.last(1), Event::Closed { path, reason: Reason::Idle });
    net.assert_empty();
}

#[test]
fn every_limit_refuses_the_one_who_is_over_it() {
    let limits = Limits { transit_max: 3, per_neighbour_max: 2, own_max: 4, ..Limits::default() };
    let mut net = Net::with_limits(4, limits);
    net.routes = Net::line(4).routes;
    let paths: Vec<_> = (0..3).map(|_| net.open(1, 4)).collect();
    assert!(net.opened_hops(1, paths[1]).is_some());
    assert_eq!(*net.last(1), Event::Failed { path: paths[2], reason: Reason::Limit });
    assert_eq!(net.node(2).counters().setups_over_limit, 1);
    // A closed one makes room again.
    net.node(1).close(net.now, paths[0], Reason::Closed);
    net.run();
    let again = net.open(1, 4);
    assert!(net.opened_hops(1, again).is_some());
    // Own paths.
    for _ in 0..2 {
        net.open(1, 2);
    }
    let over = net.open(1, 2);
    assert_eq!(*net.last(1), Event::Failed { path: over, reason: Reason::Limit });
}

#[test]
fn set_ups_of_one_neighbour_are_limited_per_second() {
    let mut net = Net::line(2);
    let opened = |net: &mut Net| {
        let path = net.open(1, 2);
        let up = net.opened_hops(1, path).is_some();
        net.node(1).close(net.now, path, Reason::Closed);
        net.run();
        up
    };
    assert!((0..128).all(|_| opened(&mut net)));
    assert!(!opened(&mut net));
    net.pass(Duration::from_secs(1));
    assert_eq!((0..64).filter(|_| opened(&mut net)).count(), 32);
}

#[test]
fn a_label_rests_for_a_minute() {
    let mut net = Net::line(2);
    let path = net.open(1, 2);
    let leg = net.node(2).legs.of_peer(&peer(1))[0];
    net.node(1).close(net.now, path, Reason::Closed);
    net.run();
    assert!(net.node(2).legs.rests(&leg));
    net.node(2).legs.release(net.now.after(Duration::from_secs(60)).instant);
    assert!(!net.node(2).legs.rests(&leg));
}

proptest::proptest! {
    #[test]
    fn nonsense_from_a_neighbour_never_panics_and_leaves_paths_alone(
        messages in proptest::collection::vec((0x20u8..0x25, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120)), 0..40)
    ) {
        let mut net = Net::line(4);
        let path = net.open(1, 4);
        for (kind, body) in messages {
            let known = Known { net: &net, me: 2 };
            let _ = net.node(2).handle_message(net.now, peer(7), kind, &body, &known);
            net.node(2).handle_cell(net.now, peer(7), Bytes::from(body));
        }
        while net.node(2).poll_transmit().is_some() {}
        proptest::prop_assert!(net.cell(1, path, b"fine").is_some());
    }
}
