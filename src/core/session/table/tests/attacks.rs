//! What must never be possible, tried. PROTOCOL.md §9.

use super::*;

/// A net with a listener at Alice's, and Bob's first message to her.
fn with_first_message() -> (Net, Bytes) {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.connect(1, open(80, None, b"pay 100"));
    net.run(Duration::ZERO);
    let blob = net.setups[0].2.clone();
    (net, blob)
}

/// Hands a blob to Alice as if it came on a new path.
fn replay(net: &mut Net, blob: &[u8]) -> Incoming {
    let carrier = net.nodes[ALICE].next_carrier();
    net.nodes[ALICE].handle_incoming(net.now, carrier, blob)
}

#[test]
fn a_replayed_first_message_opens_nothing_and_soon_gets_nothing() {
    let (mut net, blob) = with_first_message();
    assert!(net.incoming(ALICE).is_some());
    // Before the initiator was heard, the stored answer goes to whoever repeats; it is of no use without the keys.
    let Incoming::Accept { blob: answer, .. } = replay(&mut net, &blob) else { panic!("no stored answer") };
    let Incoming::Accept { blob: again, .. } = replay(&mut net, &blob) else { panic!("no stored answer") };
    assert_eq!(answer, again);
    assert_eq!(net.nodes[ALICE].status().count(), 1);
    net.run(DELAY * 4);
    // Bob was heard: silence from now on.
    assert_eq!(replay(&mut net, &blob), Incoming::Ignore);
    net.run(Duration::from_secs(200));
    assert_eq!(replay(&mut net, &blob), Incoming::Ignore);
    assert!(net.incoming(ALICE).is_none());
}

#[test]
fn a_first_message_whose_initiator_is_never_heard_is_answered_for_a_minute() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    net.weather = Weather::EatsAnswers;
    net.connect(1, open(80, None, b""));
    net.run(DELAY);
    let blob = net.setups[0].2.clone();
    net.nodes[BOB].cancel(net.now, ConnectId(1));
    net.run(Duration::from_secs(59));
    assert!(matches!(replay(&mut net, &blob), Incoming::Accept { .. }));
    net.run(Duration::from_secs(2));
    assert_eq!(replay(&mut net, &blob), Incoming::Ignore);
    assert_eq!(net.nodes[ALICE].status().count(), 0);
}

#[test]
fn a_repeats_circuit_carries_nothing_until_the_initiator_uses_it() {
    let (mut net, blob) = with_first_message();
    let (theirs, ..) = net.incoming(ALICE).unwrap();
    let thief = net.nodes[ALICE].next_carrier();
    assert!(matches!(net.nodes[ALICE].handle_incoming(net.now, thief, &blob), Incoming::Accept { .. }));
    net.nodes[ALICE].accept(net.now, theirs);
    net.nodes[ALICE].write(net.now, theirs, Bytes::from_static(b"secret")).unwrap();
    while let Some((carrier, bytes)) = net.nodes[ALICE].poll_transmit(net.now, &mut |_| true) {
        assert_ne!(carrier, thief);
        let (to, carrier) = net.circuits[&(ALICE, carrier)];
        net.packets.push_back(Packet { at: net.now.instant + DELAY, to, carrier, bytes });
    }
    // What the thief makes up on it changes nothing.
    net.nodes[ALICE].handle_packet(net.now, thief, BytesMut::from(&[7; 100][..]), false);
    assert_eq!(net.nodes[ALICE].counters().bad_packets, 1);
    net.run(DELAY * 4);
    let ours = net.opened(1).unwrap();
    assert_eq!(net.read_all(BOB, ours), b"secret");
}

#[test]
fn an_impostor_on_the_way_cannot_answer() {
    let mut net = Net::new();
    net.weather = Weather::Impostor;
    net.connect(1, open(80, None, b"secret"));
    net.run(Duration::from_secs(21));
    assert_eq!(net.failed(1), Some(Failure::Timeout));
    assert!(net.opened(1).is_none() && net.nodes[BOB].counters().bad_answers > 2);
    assert_eq!(net.nodes[BOB].in_use(), (0, 0));
}

#[test]
fn an_answer_to_another_handshake_is_refused() {
    let (mut net, blob) = with_first_message();
    let Incoming::Accept { blob: answer, .. } = replay(&mut net, &blob) else { panic!("no stored answer") };
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    net.nodes[BOB].connect(net.now, ConnectId(2), Acting::Anonymous, &descriptor, open(80, None, b""));
    let Some(Event::NeedCircuit { carrier, .. }) = net.nodes[BOB].poll_event() else { panic!("no circuit wanted") };
    net.nodes[BOB].handle_circuit_opened(net.now, carrier, &answer, false);
    assert_eq!(net.nodes[BOB].counters().bad_answers, 1);
    assert!(net.opened(2).is_none());
}

#[test]
fn nobody_else_takes_a_first_message() {
    let (mut net, blob) = with_first_message();
    let carrier = net.nodes[BOB].next_carrier();
    assert_eq!(net.nodes[BOB].handle_incoming(net.now, carrier, &blob), Incoming::Ignore);
}

#[test]
fn a_resumption_is_good_once() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.cut();
    net.run(DELAY * 4);
    assert_eq!(net.setups.len(), 2);
    let resume = net.setups[1].2.clone();
    assert_eq!(replay(&mut net, &resume), Incoming::Ignore);
    let mut guess = resume.to_vec();
    guess[5] ^= 1;
    assert_eq!(replay(&mut net, &guess), Incoming::Ignore);
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"still ours")).unwrap();
    net.run(DELAY * 4);
    assert_eq!(net.read_all(ALICE, theirs), b"still ours");
}

#[test]
fn a_resumption_that_somebody_else_answers_is_tried_again() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.weather = Weather::Impostor;
    net.cut();
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"for alice")).unwrap();
    net.run(Duration::from_secs(5));
    assert!(net.nodes[BOB].counters().bad_answers > 1);
    net.weather = Weather::Fair;
    net.run(Duration::from_secs(6));
    assert_eq!(net.read_all(ALICE, theirs), b"for alice");
}

#[test]
fn resumptions_lost_on_the_way_do_not_use_the_session_up() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    for _ in 0..5 {
        net.weather = Weather::EatsAnswers;
        net.cut();
        net.run(Duration::from_secs(40));
        net.weather = Weather::Fair;
        net.run(Duration::from_secs(8));
        net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"x")).unwrap();
        net.run(DELAY * 4);
        assert_eq!(net.read_all(ALICE, theirs), b"x");
    }
}

#[test]
fn packets_of_one_session_do_not_open_in_another() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    net.nodes[BOB].connect(net.now, ConnectId(2), Acting::Anonymous, &descriptor, open(80, None, b""));
    net.run(DELAY * 4);
    let (second, ..) = net.incoming(ALICE).unwrap();
    net.nodes[ALICE].accept(net.now, second);
    net.run(DELAY * 4);
    let other = net.nodes[ALICE].sessions[&second.session].carriers.first().copied().unwrap();
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"mine")).unwrap();
    let (_, packet) = net.nodes[BOB].poll_transmit(net.now, &mut |_| true).unwrap();
    let before = net.nodes[ALICE].counters().bad_packets;
    net.nodes[ALICE].handle_packet(net.now, other, packet.clone(), false);
    assert_eq!(net.nodes[ALICE].counters().bad_packets, before + 1);
    assert!(net.nodes[ALICE].read(net.now, second).is_none());
    let right = net.nodes[ALICE].sessions[&theirs.session].carriers.first().copied().unwrap();
    net.nodes[ALICE].handle_packet(net.now, right, packet, false);
    assert_eq!(net.read_all(ALICE, theirs), b"mine");
}

#[test]
fn nonsense_is_ignored_in_every_place() {
    let (mut net, blob) = with_first_message();
    let mut rng = Rng::from_seed([3; 32]);
    for at in 0..400 {
        let mut bad = blob.to_vec();
        let flip = 18 + usize::try_from(rng.public_below(blob.len() as u64 - 18)).unwrap();
        bad[flip] ^= 1 << (at % 8);
        if at % 3 == 0 {
            bad.truncate(flip);
        }
        assert_eq!(replay(&mut net, &bad), Incoming::Ignore);
    }
    assert_eq!(replay(&mut net, &[]), Incoming::Ignore);
    net.nodes[ALICE].handle_circuit_opened(net.now, CarrierId(9_999), &blob, false);
    net.nodes[ALICE].handle_circuit_failed(net.now, CarrierId(9_999), CircuitFailure::Timeout);
    net.nodes[ALICE].handle_circuit_closed(net.now, CarrierId(9_999));
    net.nodes[ALICE].handle_packet(net.now, CarrierId(9_999), BytesMut::new(), true);
    assert_eq!(net.nodes[ALICE].status().count(), 1);
}
