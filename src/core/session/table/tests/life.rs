//! Connections as they should be.

use super::*;

#[test]
fn a_connection_takes_one_round_trip_and_carries_its_first_data() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.connect(1, open(80, None, b"GET /"));
    net.run(Duration::ZERO);
    let (theirs, _, caller) = net.incoming(ALICE).expect("a channel with the set-up itself");
    assert_eq!(caller, None);
    net.nodes[ALICE].accept(net.now, theirs);
    assert_eq!(net.read_all(ALICE, theirs), b"GET /");
    net.nodes[ALICE].write(net.now, theirs, Bytes::from_static(b"200 OK")).unwrap();
    net.run(DELAY * 2);
    let ours = net.opened(1).unwrap();
    assert_eq!(net.read_all(BOB, ours), b"200 OK");
}

#[test]
fn both_ends_finish_and_everything_is_gone_a_minute_later() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.nodes[BOB].finish(net.now, ours);
    net.run(DELAY * 4);
    assert!(net.events[ALICE].iter().any(|event| matches!(event, Event::Finished(channel) if *channel == theirs)));
    net.nodes[ALICE].finish(net.now, theirs);
    net.run(DELAY * 8);
    for (node, channel) in [(ALICE, theirs), (BOB, ours)] {
        assert!(net.events[node].iter().any(|event| matches!(event, Event::Closed(closed) if *closed == channel)));
    }
    net.run(Duration::from_secs(70));
    for node in &net.nodes {
        assert_eq!((node.in_use(), node.status().count()), ((0, 0), 0));
    }
    assert!(net.circuits.is_empty());
}

#[test]
fn the_next_connection_is_one_open_in_the_same_session() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [_, first] = net.channel(1, 80);
    assert!(net.nodes[BOB].has_session(Net::acting(BOB), Net::owner(ALICE)));
    assert!(net.nodes[BOB].known_descriptor(Net::acting(BOB), Net::owner(ALICE)).is_some());
    assert!(net.nodes[BOB].known_descriptor(Acting::Anonymous, Net::owner(ALICE)).is_none());
    let [_, second] = net.channel(2, 80);
    assert_eq!((first.session, net.setups.len()), (second.session, 1));
    assert_ne!(first.channel, second.channel);
}

#[test]
fn sessions_are_not_shared_between_acting_identities() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [_, first] = net.channel(1, 80);
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    net.nodes[BOB].connect(net.now, ConnectId(2), Acting::Anonymous, &descriptor, open(80, None, b""));
    net.run(DELAY * 4);
    let (theirs, ..) = net.incoming(ALICE).unwrap();
    net.nodes[ALICE].accept(net.now, theirs);
    net.run(DELAY * 4);
    assert_ne!(net.opened(2).unwrap().session, first.session);
}

#[test]
fn connects_that_come_during_the_handshake_share_it() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    for connect in 1..=3 {
        net.connect(connect, open(80, None, b"x"));
    }
    net.run(DELAY * 4);
    assert_eq!(net.setups.len(), 1);
    let channels: Vec<_> = std::iter::from_fn(|| net.incoming(ALICE)).collect();
    assert_eq!(channels.len(), 3);
    for (channel, ..) in channels {
        net.nodes[ALICE].accept(net.now, channel);
        assert_eq!(net.read_all(ALICE, channel), b"x");
    }
    net.run(DELAY * 4);
    assert!((1..=3).all(|connect| net.opened(connect).is_some()));
}

#[test]
fn first_data_that_does_not_fit_travels_under_the_final_keys() {
    static LONG: [u8; 3_000] = [7; 3_000];
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.connect(1, open(80, None, &LONG));
    net.run(DELAY * 4);
    let (theirs, ..) = net.incoming(ALICE).unwrap();
    net.nodes[ALICE].accept(net.now, theirs);
    assert_eq!(net.read_all(ALICE, theirs), LONG);
}

#[test]
fn refusals_say_why() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(Listen { label: Some("blog".into()), ..listen(Net::owner(ALICE), 80) }).unwrap();
    net.connect(1, open(81, None, b""));
    net.connect(2, open(80, Some("shop"), b""));
    net.connect(3, OpenRequest { mode: Mode::UnreliableUnordered, ..open(80, Some("blog"), b"") });
    net.connect(4, open(80, Some("blog"), b""));
    net.run(DELAY * 4);
    let (theirs, ..) = net.incoming(ALICE).unwrap();
    net.nodes[ALICE].refuse(net.now, theirs, Refusal::LocalUnreachable);
    net.run(DELAY * 4);
    let refusals = [Refusal::NoListener, Refusal::NoListener, Refusal::ModeMismatch, Refusal::LocalUnreachable];
    for (connect, why) in (1..).zip(refusals) {
        assert_eq!(net.refused(connect), Some(why), "connect {connect}");
    }
    assert_eq!(net.nodes[BOB].in_use().1, 0);
}

#[test]
fn a_listener_with_a_list_opens_nothing_before_the_proof() {
    let mut net = Net::new();
    let allow = vec![Net::identity(BOB)];
    net.nodes[ALICE].listen(Listen { allow, ..listen(Net::owner(ALICE), 80) }).unwrap();
    net.connect(1, open(80, None, b"early"));
    net.run(DELAY / 2);
    assert!(net.incoming(ALICE).is_none());
    net.run(DELAY * 4);
    let (theirs, _, caller) = net.incoming(ALICE).unwrap();
    assert_eq!(caller, Some(Net::identity(BOB)));
    net.nodes[ALICE].accept(net.now, theirs);
    assert_eq!(net.read_all(ALICE, theirs), b"early");
}

#[test]
fn strangers_and_the_anonymous_are_not_allowed() {
    let mut net = Net::new();
    let allow = vec![ServiceId([9; 32])];
    net.nodes[ALICE].listen(Listen { allow, ..listen(Net::owner(ALICE), 80) }).unwrap();
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    net.connect(1, open(80, None, b""));
    net.nodes[BOB].connect(net.now, ConnectId(2), Acting::Anonymous, &descriptor, open(80, None, b""));
    net.run(DELAY * 8);
    assert_eq!((net.refused(1), net.refused(2)), (Some(Refusal::NotAllowed), Some(Refusal::NotAllowed)));
    assert!(net.incoming(ALICE).is_none());
}

#[test]
fn a_changed_list_holds_for_channels_to_come() {
    let mut net = Net::new();
    let listener = net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.nodes[ALICE].set_allow(listener, vec![ServiceId([9; 32])]);
    net.connect(2, open(80, None, b""));
    net.run(DELAY * 4);
    assert_eq!(net.refused(2), Some(Refusal::NotAllowed));
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"still here")).unwrap();
    net.run(DELAY * 4);
    assert_eq!(net.read_all(ALICE, theirs), b"still here");
}

#[test]
fn a_listener_may_wait_for_the_caller() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(Listen { await_caller: true, ..listen(Net::owner(ALICE), 80) }).unwrap();
    net.connect(1, open(80, None, b""));
    net.run(DELAY * 4);
    assert_eq!(net.incoming(ALICE).unwrap().2, Some(Net::identity(BOB)));
}

#[test]
fn a_node_reaches_itself_and_its_neighbours_machine() {
    let mut net = Net::new();
    for (node, target) in [(BOB, BOB), (BOB, ALICE)] {
        let owner = Owner::Peer(net.nodes[target].node);
        net.nodes[target].listen(listen(owner, 22)).unwrap();
        let descriptor = net.descriptor(target, owner);
        let connect = ConnectId(100 + u64::try_from(target).unwrap());
        net.nodes[node].connect(net.now, connect, Net::acting(node), &descriptor, open(22, None, b"hello"));
        net.run(DELAY * 4);
        let (theirs, ..) = net.incoming(target).unwrap();
        net.nodes[target].accept(net.now, theirs);
        assert_eq!(net.read_all(target, theirs), b"hello");
        net.run(DELAY * 4);
        assert!(net.opened(connect.0).is_some());
    }
}

#[test]
fn channels_per_listener_are_bounded_and_come_back() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(Listen { channels_max: 1, ..listen(Net::owner(ALICE), 80) }).unwrap();
    let [theirs, _] = net.channel(1, 80);
    net.connect(2, open(80, None, b""));
    net.run(DELAY * 4);
    assert_eq!(net.refused(2), Some(Refusal::TooMany));
    net.nodes[ALICE].reset(net.now, theirs);
    net.run(DELAY * 4);
    assert!(net.events[BOB].iter().any(|event| matches!(event, Event::Reset { lost: false, .. })));
    net.channel(3, 80);
}

#[test]
fn keys_rotate_and_are_announced_while_old_descriptors_work() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let old = net.descriptor(ALICE, Net::owner(ALICE));
    net.run(Duration::from_secs(27 * 3_600));
    let announced = |event: &Event| matches!(event, Event::DescriptorChanged { owner } if *owner == Net::owner(ALICE));
    assert!(net.events[ALICE].iter().any(announced));
    assert!(net.events[ALICE].iter().any(|event| matches!(event, Event::Persist { .. })));
    assert_ne!(net.descriptor(ALICE, Net::owner(ALICE)), old);
    net.nodes[BOB].connect(net.now, ConnectId(1), Net::acting(BOB), &old, open(80, None, b""));
    net.run(DELAY * 4);
    assert!(net.incoming(ALICE).is_some());
}

#[test]
fn status_tells_who_talks_to_whom() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.channel(1, 80);
    for node in [ALICE, BOB] {
        let status = net.nodes[node].status().next().unwrap();
        assert_eq!((status.owner, status.acting), (Net::owner(ALICE), Net::acting(BOB)));
        assert_eq!((status.channels, status.carriers, status.initiator), (1, 1, node == BOB));
        assert!(status.rtt.unwrap() >= DELAY * 2);
    }
}
