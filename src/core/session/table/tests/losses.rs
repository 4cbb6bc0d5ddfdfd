//! Circuits that die, answers that are eaten, nodes that restart: a pause, never a reset, while there is a way.

use super::*;

/// Bytes that tell where they belong.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

#[test]
fn a_transfer_survives_the_death_of_its_circuits_byte_for_byte() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    let sent = pattern(3_000_000);
    let (mut at, mut got, mut cuts) = (0, Vec::new(), 0);
    for round in 0..600 {
        if at < sent.len() {
            at += net.nodes[BOB].write(net.now, ours, Bytes::copy_from_slice(&sent[at..])).unwrap();
        }
        net.run(DELAY);
        got.extend(net.read_all(ALICE, theirs));
        if matches!(round, 3 | 5 | 9) {
            cuts += 1;
            net.cut();
        }
        if got.len() == sent.len() {
            break;
        }
    }
    assert_eq!(cuts, 3);
    assert!((4..=7).contains(&net.setups.len()), "{} set-ups", net.setups.len());
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    assert!(net.events.iter().flatten().all(|event| !matches!(event, Event::Reset { .. })));
}

#[test]
fn a_way_found_within_a_minute_continues_the_session() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.weather = Weather::NoRoute;
    net.cut();
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"patience")).unwrap();
    net.run(Duration::from_secs(50));
    net.weather = Weather::Fair;
    net.run(Duration::from_secs(7));
    assert_eq!(net.read_all(ALICE, theirs), b"patience");
}

#[test]
fn a_route_that_comes_back_is_used_at_once() {
    let mut net = Net::new();
    let machine = signing_key(1).public().peer_id();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.nodes[ALICE].listen(listen(Owner::Peer(machine), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.weather = Weather::NoRoute;
    net.cut();
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"patience")).unwrap();
    net.run(Duration::from_secs(30));
    let descriptor = net.descriptor(ALICE, Owner::Peer(machine));
    net.nodes[BOB].connect(net.now, ConnectId(2), Net::acting(BOB), &descriptor, open(80, None, b""));
    net.run(Duration::from_secs(1));
    net.weather = Weather::Fair;
    net.nodes[BOB].handle_route_up(net.now, &machine);
    net.run(DELAY * 6);
    assert_eq!(net.read_all(ALICE, theirs), b"patience");
    assert!(net.incoming(ALICE).is_some());
}

#[test]
fn no_way_for_a_minute_resets_channels_as_lost_at_both_ends() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.weather = Weather::NoRoute;
    net.cut();
    net.run(Duration::from_secs(130));
    for (node, channel) in [(ALICE, theirs), (BOB, ours)] {
        let lost = |event: &Event| matches!(event, Event::Reset { channel: reset, lost: true } if *reset == channel);
        assert!(net.events[node].iter().any(lost), "node {node}");
        assert_eq!((net.nodes[node].in_use(), net.nodes[node].status().count()), ((0, 0), 0));
    }
}

#[test]
fn an_eaten_answer_is_given_again_and_the_first_data_arrives_once() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.weather = Weather::EatsAnswers;
    net.connect(1, open(80, None, b"once"));
    net.run(DELAY);
    net.weather = Weather::Fair;
    net.run(Duration::from_secs(2));
    let (theirs, ..) = net.incoming(ALICE).unwrap();
    assert!(net.incoming(ALICE).is_none());
    net.nodes[ALICE].accept(net.now, theirs);
    assert_eq!(net.read_all(ALICE, theirs), b"once");
    net.nodes[ALICE].write(net.now, theirs, Bytes::from_static(b"welcome")).unwrap();
    net.run(Duration::from_secs(2));
    let ours = net.opened(1).unwrap();
    assert_eq!(net.read_all(BOB, ours), b"welcome");
    assert_eq!(net.setups.len(), 3, "the first message, its repeat, a second circuit");
    assert_ne!(net.setups[0].2, net.setups[1].2, "each attempt has its own path proof");
}

#[test]
fn no_route_fails_within_seconds_and_silence_within_twenty() {
    let mut net = Net::new();
    net.weather = Weather::NoRoute;
    net.connect(1, open(80, None, b""));
    net.run(Duration::from_secs(4));
    assert_eq!(net.failed(1), Some(Failure::NoRoute));
    net.weather = Weather::EatsAnswers;
    net.connect(2, open(80, None, b""));
    net.run(Duration::from_secs(19));
    assert_eq!(net.failed(2), None);
    net.run(Duration::from_secs(2));
    assert_eq!(net.failed(2), Some(Failure::Timeout));
    assert_eq!(net.nodes[BOB].in_use(), (0, 0));
}

#[test]
fn a_listener_that_never_decides_times_the_caller_out_and_lets_go() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.connect(1, open(80, None, b""));
    net.run(Duration::from_secs(21));
    assert_eq!(net.failed(1), Some(Failure::Timeout));
    assert!(net.events[ALICE].iter().any(|event| matches!(event, Event::Reset { .. })));
    assert_eq!((net.nodes[ALICE].in_use().1, net.nodes[BOB].in_use().1), (0, 0));
}

#[test]
fn a_cancelled_connect_is_never_mentioned_again() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    for run_first in [Duration::ZERO, DELAY * 2] {
        net.connect(1, open(80, None, b""));
        net.connect(2, open(80, None, b""));
        net.run(run_first);
        net.nodes[BOB].cancel(net.now, ConnectId(1));
        net.run(DELAY * 4);
        let channels: Vec<_> = std::iter::from_fn(|| net.incoming(ALICE)).collect();
        for (channel, ..) in channels {
            net.nodes[ALICE].accept(net.now, channel);
        }
        net.run(DELAY * 4);
        assert!(net.opened(1).is_none() && net.opened(2).is_some());
        assert_eq!(net.nodes[ALICE].in_use().1, net.nodes[BOB].in_use().1);
        net.events.iter_mut().for_each(Vec::clear);
    }
}

/// Replaces Alice's node by one that was started with what she had written down.
fn restart(net: &mut Net, keep: bool) {
    let saved: BTreeMap<Owner, SavedKeys> = net.nodes[ALICE].export_keys().collect();
    let of = |owner: &Owner| saved.get(owner).filter(|_| keep).map(|keys| keys.0.clone());
    let node = net.nodes[ALICE].node;
    let mut again = Sessions::new(
        net.now,
        Config { node_key: signing_key(1), aes: true, saved: of(&Owner::Peer(node)) },
        Rng::from_seed([77; 32]),
    );
    again.add_identity(net.now, signing_key(11), of(&Net::owner(ALICE)).as_deref().map(Vec::as_slice)).unwrap();
    again.listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.nodes[ALICE] = again;
    net.packets.clear();
    let gone: Vec<_> = net.circuits.keys().filter(|(node, _)| *node == BOB).copied().collect();
    net.circuits.clear();
    for (node, carrier) in gone {
        net.nodes[node].handle_circuit_closed(net.now, carrier);
    }
}

#[test]
fn a_cached_descriptor_connects_right_after_a_restart_with_its_first_data_once() {
    let mut net = Net::new();
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    restart(&mut net, true);
    net.nodes[BOB].connect(net.now, ConnectId(1), Net::acting(BOB), &descriptor, open(80, None, b"again"));
    net.run(DELAY * 4);
    let (theirs, ..) = net.incoming(ALICE).unwrap();
    assert!(net.incoming(ALICE).is_none());
    net.nodes[ALICE].accept(net.now, theirs);
    assert_eq!(net.read_all(ALICE, theirs), b"again");
}

#[test]
fn a_node_that_forgot_its_keys_says_so_and_its_old_sessions_end_soon() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [_, ours] = net.channel(1, 80);
    let stale = net.descriptor(ALICE, Net::owner(ALICE));
    restart(&mut net, false);
    net.run(Duration::from_secs(6));
    let lost = |event: &Event| matches!(event, Event::Reset { channel, lost: true } if *channel == ours);
    assert!(net.events[BOB].iter().any(lost));
    net.nodes[BOB].connect(net.now, ConnectId(2), Net::acting(BOB), &stale, open(80, None, b""));
    net.run(DELAY);
    assert_eq!(net.failed(2), Some(Failure::Rejected));
}

#[test]
fn connects_do_not_wait_for_a_session_that_the_far_node_forgot() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.channel(1, 80);
    restart(&mut net, true);
    net.run(DELAY);
    net.connect(2, open(80, None, b"new"));
    net.run(DELAY * 4);
    let (theirs, ..) = net.incoming(ALICE).expect("a new session beside the one that is given up");
    net.nodes[ALICE].accept(net.now, theirs);
    net.run(Duration::from_secs(6));
    assert!(net.opened(2).is_some());
    assert_eq!(net.nodes[BOB].status().count(), 1);
}

#[test]
fn a_connect_that_waits_in_a_forgotten_session_tries_a_new_one() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.connect(1, open(80, None, b""));
    net.run(DELAY * 4);
    restart(&mut net, true);
    net.run(DELAY * 8);
    let incoming: Vec<_> = std::iter::from_fn(|| net.incoming(ALICE)).collect();
    let (theirs, ..) = *incoming.last().unwrap();
    net.nodes[ALICE].accept(net.now, theirs);
    net.run(DELAY * 4);
    assert!(net.opened(1).is_some());
}

#[test]
fn a_connect_does_not_wait_until_open_channels_give_a_forgotten_session_up() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.channel(1, 80);
    // The connect comes in while the session does not know yet that it was forgotten.
    net.connect(2, open(80, None, b"new"));
    restart(&mut net, true);
    net.run(DELAY * 8);
    let (theirs, ..) = net.incoming(ALICE).expect("a new session beside the one that still tries");
    net.nodes[ALICE].accept(net.now, theirs);
    net.run(DELAY * 4);
    assert!(net.opened(2).is_some());
    assert_eq!(net.read_all(ALICE, theirs), b"new");
    assert!(net.incoming(ALICE).is_none());
}

#[test]
fn a_removed_identity_takes_its_sessions_along() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.channel(1, 80);
    net.nodes[BOB].remove_identity(net.now, Net::identity(BOB));
    net.connect(2, open(80, None, b""));
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[BOB].in_use(), (0, 0));
    assert_eq!(net.failed(2), Some(Failure::UnknownIdentity));
    assert!(net.events[BOB].iter().any(|event| matches!(event, Event::Forget { .. })));
    assert_eq!(net.nodes[BOB].descriptor(Net::owner(BOB)), None);
}
