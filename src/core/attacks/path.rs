//! Attacks on paths: relays that answer for others, other people's labels, repeats, and greed.

use bytes::Bytes;

use super::test_net::{Known, Net, peer};
use super::*;
use crate::crypto::path_tag;
use crate::defence::{Defence, stops, without};
use crate::rng::Rng;
use crate::wire::kind;
use crate::wire::path::{self, Label, Open, SetupId};

/// A set-up by hand, on the label `label` of a neighbour.
fn set_up(label: u32, id: u8, dest: u8) -> Open {
    let id = SetupId([id; 16]);
    let tag = path_tag(&id.0, &peer(dest));
    let (proof_hash, blob) = (test_net::proof().1, Bytes::new());
    let (hop_limit, budget, patience_ms, avoid) = (16, 64, 9000, Default::default());
    Open { label: Label(label), id, tag, proof_hash, hop_limit, budget, patience_ms, avoid, way: Way::default(), blob }
}

/// Lets `from` send a set-up to `to`, and everything that follows happen.
fn send(net: &mut Net, from: u8, to: u8, open: &Open) {
    let known = Known { net, me: to };
    net.node(to).handle_message(net.now, peer(from), kind::PATH_OPEN, &open.encode(), &known).unwrap();
    net.run();
}

#[test]
fn a_relay_that_answers_in_the_place_of_the_destination_gets_no_path() {
    for liar in [2, 3] {
        stops(Defence::PathReveal, || {
            let mut net = Net::line(4);
            net.liars.insert(liar);
            let path = net.open(1, 4);
            net.opened_hops(1, path).is_some()
        });
    }
}

#[test]
fn a_neighbour_cannot_close_a_path_of_others() {
    stops(Defence::LabelOfLink, || {
        let mut net = Net::line(5);
        let path = net.open(1, 5);
        let leg = net.node(3).legs.of_peer(&peer(2))[0];
        let close = path::Close { label: leg.label, reason: Reason::Closed }.encode();
        let known = Known { net: &net, me: 3 };
        net.node(3).handle_message(net.now, peer(9), kind::PATH_CLOSE, &close, &known).unwrap();
        net.run();
        net.cell(1, path, b"still").is_none()
    });
}

#[test]
fn a_neighbour_cannot_put_cells_into_a_path_of_others() {
    stops(Defence::LabelOfLink, || {
        let mut net = Net::line(5);
        net.open(1, 5);
        let leg = net.node(3).legs.of_peer(&peer(2))[0];
        let cell = Bytes::from(path::cell_head(leg.label, false).to_vec());
        net.node(3).handle_cell(net.now, peer(9), cell) != CellAction::Drop
    });
}

#[test]
fn a_set_up_that_is_sent_again_makes_no_second_path() {
    stops(Defence::SetupOnce, || {
        let mut net = Net::line(3);
        for label in [7, 8] {
            send(&mut net, 1, 2, &set_up(label, 1, 3));
        }
        net.events[&3].iter().filter(|event| matches!(event, Event::Incoming { .. })).count() == 2
    });
}

#[test]
fn one_set_up_does_not_become_many_where_routes_run_in_circles() {
    stops(Defence::SetupOnce, || {
        let mut net = Net::new(6);
        for from in 1..=5u8 {
            net.routes.insert((from, 6), (1..=5).filter(|n| *n != from).collect());
        }
        net.open(1, 6);
        net.sent > 40
    });
}

#[test]
fn a_neighbour_sets_up_so_many_paths_per_second_and_others_are_not_concerned() {
    stops(Defence::SetupRate, || {
        let mut net = Net::line(3);
        for n in 0..200u8 {
            send(&mut net, 1, 2, &set_up(u32::from(n), n, 9));
        }
        let path = net.open(3, 2);
        assert!(net.opened_hops(3, path).is_some());
        net.node(2).counters().setups_over_limit == 0
    });
}

#[test]
fn a_neighbour_that_brings_many_paths_leaves_room_for_those_of_others() {
    stops(Defence::PathShare, || {
        let mut net = Net::with_limits(4, Limits { transit_max: 8, per_neighbour_max: 4, ..Limits::default() });
        net.nodes.insert(4, Paths::new(peer(4), Rng::from_seed([4; 32]), Limits::default()).into());
        net.routes.extend([((1, 4), vec![2]), ((3, 4), vec![2]), ((2, 4), vec![4])]);
        for n in 0..20u8 {
            send(&mut net, 1, 2, &set_up(u32::from(n), n, 4));
        }
        assert!(net.node(2).transit_count() <= 8);
        let honest = net.open(3, 4);
        net.opened_hops(3, honest).is_none()
    });
}

#[test]
fn an_answer_that_nobody_waits_for_opens_nothing() {
    // Without the proof; who answers for a set-up that was answered, or was never sent there, is a stray all the same.
    without(Defence::PathReveal, || {
        let mut net = Net::line(4);
        let path = net.open(1, 4);
        let answered = net.node(2).legs.of_peer(&peer(3))[0].label.0;
        for (from, label) in [(1, 1), (3, 1 << 31), (3, answered)] {
            let opened = path::Opened {
                label: Label(label),
                reveal: [1; 32],
                hops: 0,
                parted: false,
                blob: Bytes::from_static(b"me!"),
            };
            let known = Known { net: &net, me: 2 };
            net.node(2).handle_message(net.now, peer(from), kind::PATH_OPENED, &opened.encode(), &known).unwrap();
        }
        net.run();
        assert_eq!(net.node(2).counters().strays, 3);
        assert_eq!(net.events[&1].iter().filter(|event| matches!(event, Event::Opened { .. })).count(), 1);
        assert!(net.cell(1, path, b"fine").is_some());
    });
}
