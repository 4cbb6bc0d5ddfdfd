//! A second circuit: when it is asked for, away from what, what it is good for, and what it must not cost.

use super::*;
use crate::session::table::limits::{RESUME_AHEAD, STANDBY_AFTER};

/// A channel whose session has two circuits.
fn with_two() -> (Net, [ChannelRef; 2]) {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let ends = net.channel(1, 80);
    net.run(STANDBY_AFTER * 2);
    assert_eq!(net.circuits_of_bob().len(), 2);
    (net, ends)
}

#[test]
fn a_session_with_channels_has_a_second_circuit_after_a_while_away_from_the_first() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.channel(1, 80);
    assert_eq!(net.circuits_of_bob().len(), 1);
    net.run(STANDBY_AFTER * 2);
    assert_eq!(net.circuits_of_bob().len(), 2);
    let (avoid, _) = &net.detours[1];
    assert_eq!((&avoid.setups[..], avoid.strict), (&[net.detours[0].1][..], true));
    net.run(Duration::from_secs(600));
    assert_eq!(net.setups.len(), 2, "two are enough");
}

#[test]
fn what_is_over_at_once_asks_for_no_second_circuit() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [_, ours] = net.channel(1, 80);
    net.nodes[BOB].reset(net.now, ours);
    net.run(Duration::from_secs(30));
    assert_eq!(net.setups.len(), 1);
}

#[test]
fn a_closed_circuit_costs_no_set_up_before_the_other_goes_on() {
    let (mut net, [theirs, ours]) = with_two();
    let first = net.circuits_of_bob()[0];
    net.cut_one(first);
    net.nodes[ALICE].write(net.now, theirs, Bytes::from_static(b"on and on")).unwrap();
    net.run(DELAY * 2);
    assert_eq!(net.read_all(BOB, ours), b"on and on");
    net.run(Duration::from_secs(1));
    assert_eq!(net.circuits_of_bob().len(), 2, "and there is a second one again");
    let (avoid, _) = net.detours.last().unwrap();
    assert!(avoid.setups.contains(&net.detours[1].1), "away from the one that lives");
}

#[test]
fn a_circuit_that_is_no_other_way_is_given_back_and_asked_for_ever_less() {
    let mut net = Net::new();
    net.parts = false;
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.run(Duration::from_secs(600));
    assert_eq!(net.circuits_of_bob().len(), 1);
    assert_eq!(net.nodes[ALICE].in_use().0, 1);
    assert!((8..40).contains(&net.setups.len()), "{} set-ups in ten minutes", net.setups.len());
    // Tags were left for when it matters.
    net.cut();
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"there")).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.read_all(ALICE, theirs), b"there");
}

#[test]
fn second_circuits_that_never_come_leave_tags_for_the_first() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.weather = Weather::Silence;
    net.run(Duration::from_secs(3_600));
    assert!((4..=usize::try_from(RESUME_AHEAD).unwrap()).contains(&net.setups.len()), "{}", net.setups.len());
    net.weather = Weather::Fair;
    net.cut();
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"there")).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.read_all(ALICE, theirs), b"there");
}

#[test]
fn a_circuit_without_room_does_not_silence_the_other() {
    let (mut net, [theirs, ours]) = with_two();
    let second = net.circuits_of_bob()[1];
    net.nodes[BOB].write(net.now, ours, Bytes::from(vec![1; 300_000])).unwrap();
    while net.nodes[BOB].poll_transmit(net.now, &mut |_| false).is_some() {}
    // A packet comes on the other circuit: it must be acknowledged there.
    let (_, at_alice) = net.circuits[&(BOB, second)];
    net.nodes[ALICE].write(net.now, theirs, Bytes::from_static(b"hello")).unwrap();
    let mut sent = Vec::new();
    while let Some(packet) = net.nodes[ALICE].poll_transmit(net.now, &mut |carrier| carrier == at_alice) {
        sent.push(packet);
    }
    for (_, bytes) in sent.into_iter().filter(|(carrier, _)| *carrier == at_alice) {
        net.nodes[BOB].handle_packet(net.now, second, bytes, false);
    }
    net.now = net.now.after(Duration::from_millis(50));
    net.nodes[BOB].handle_timeout(net.now);
    let packet = net.nodes[BOB].poll_transmit(net.now, &mut |carrier| carrier == second);
    assert_eq!(packet.map(|(carrier, _)| carrier), Some(second));
}

#[test]
fn when_no_circuit_answers_another_is_asked_for_beside_the_first_that_hangs() {
    let (mut net, [theirs, ours]) = with_two();
    for carrier in net.circuits_of_bob() {
        net.silence(carrier);
    }
    net.weather = Weather::Silence;
    let before = net.setups.len();
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"hello")).unwrap();
    net.run(Duration::from_secs(2));
    let tried = net.setups.len() - before;
    assert!((2..=3).contains(&tried), "{tried} set-ups");
    let [(_, one), (avoid, _)] = &net.detours[before..before + 2] else { panic!("two set-ups") };
    assert!(avoid.setups.contains(one), "around the way of the first");
    net.weather = Weather::Fair;
    net.run(Duration::from_secs(12));
    assert_eq!(net.read_all(ALICE, theirs), b"hello");
}
