//! Bounds, and who is hit by them; turns.

use super::*;

/// First messages to Alice's identity, each from a handshake of its own.
fn first_message(descriptor: &Descriptor, seed: u64) -> Vec<u8> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let wanted =
        crate::session::handshake::Wanted { aeads: crate::crypto::Aead::offered(false), proves: false, open: None };
    Initiator::new(descriptor, &wanted, &mut Rng::from_seed(bytes)).unwrap().message([0; 16]).0
}

#[test]
fn half_open_sessions_are_bounded_and_the_oldest_goes() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    let flood = u64::try_from(limits::HALF_OPEN_MAX).unwrap() + 20;
    for seed in 0..flood {
        let (carrier, blob) = (net.nodes[ALICE].next_carrier(), first_message(&descriptor, seed));
        assert!(matches!(net.nodes[ALICE].handle_incoming(net.now, carrier, &blob), Incoming::Accept { .. }));
    }
    assert_eq!(net.nodes[ALICE].half_open.len(), limits::HALF_OPEN_MAX);
    assert_eq!(net.nodes[ALICE].counters().half_open_dropped, 20);
    net.nodes[BOB].write(net.now, ours, Bytes::from_static(b"not hit")).unwrap();
    net.run(DELAY * 4);
    assert_eq!(net.read_all(ALICE, theirs), b"not hit");
    net.run(Duration::from_secs(61));
    assert_eq!((net.nodes[ALICE].half_open.len(), net.nodes[ALICE].status().count()), (0, 1));
    let tags = usize::try_from(limits::RESUME_AHEAD).unwrap();
    assert_eq!((net.nodes[ALICE].by_tag.len(), net.nodes[ALICE].by_first.len()), (tags, 0));
}

#[test]
fn the_work_of_first_messages_is_budgeted() {
    let mut net = Net::new();
    let carrier = net.nodes[ALICE].next_carrier();
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    let mut junk = first_message(&descriptor, 1);
    junk[20] ^= 1;
    net.nodes[ALICE].work = incoming::WorkBudget::new(net.now.instant);
    let before = net.nodes[ALICE].counters();
    // Two owners, one key each: two operations a message.
    let messages = 200;
    for _ in 0..messages {
        assert_eq!(net.nodes[ALICE].handle_incoming(net.now, carrier, &junk), Incoming::Ignore);
    }
    assert_eq!(net.nodes[ALICE].counters().overloaded, before.overloaded);
    net.nodes[ALICE].work.spend_all();
    let good = first_message(&descriptor, 2);
    assert_eq!(net.nodes[ALICE].handle_incoming(net.now, carrier, &good), Incoming::Ignore);
    assert_eq!(net.nodes[ALICE].counters().overloaded, before.overloaded + 1);
    let later = net.now.after(Duration::from_secs(1));
    assert!(matches!(net.nodes[ALICE].handle_incoming(later, carrier, &good), Incoming::Accept { .. }));
}

#[test]
fn connects_that_wait_for_one_handshake_are_bounded() {
    let mut net = Net::new();
    net.weather = Weather::EatsAnswers;
    let waiting = u64::try_from(limits::WAITING_MAX).unwrap();
    for connect in 0..waiting + 3 {
        net.connect(connect, open(80, None, b""));
    }
    net.run(DELAY);
    let refused: Vec<_> = (0..waiting + 3).filter(|connect| net.failed(*connect) == Some(Failure::TooMany)).collect();
    assert_eq!(refused, [waiting + 1, waiting + 2]);
    assert_eq!(net.nodes[BOB].in_use().1, limits::WAITING_MAX + 1);
    net.run(Duration::from_secs(21));
    assert_eq!(net.nodes[BOB].in_use(), (0, 0));
    assert_eq!(net.nodes[BOB].poll_timeout(), net.nodes[BOB].timers.next());
}

#[test]
fn sessions_take_turns_and_a_full_circuit_holds_nobody_else_up() {
    let mut net = Net::new();
    net.parts = false;
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [_, one] = net.channel(1, 80);
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    net.nodes[BOB].connect(net.now, ConnectId(2), Acting::Anonymous, &descriptor, open(80, None, b""));
    net.run(DELAY * 4);
    let (theirs, ..) = net.incoming(ALICE).unwrap();
    net.nodes[ALICE].accept(net.now, theirs);
    net.run(Duration::from_secs(5));
    let two = net.opened(2).unwrap();
    let carrier = |net: &Net, channel: ChannelRef| *net.nodes[BOB].sessions[&channel.session].carriers.first().unwrap();
    let (first, second) = (carrier(&net, one), carrier(&net, two));
    for channel in [one, two] {
        net.nodes[BOB].write(net.now, channel, Bytes::from(vec![1; 60_000])).unwrap();
    }
    let order: Vec<_> = (0..4).map(|_| net.nodes[BOB].poll_transmit(net.now, &mut |_| true).unwrap().0).collect();
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    let mut only_second = |carrier| carrier == second;
    while let Some((carrier, _)) = net.nodes[BOB].poll_transmit(net.now, &mut only_second) {
        assert_eq!(carrier, second);
    }
    assert_eq!(net.nodes[BOB].blocked.len(), 1);
    assert_eq!(net.nodes[BOB].poll_transmit(net.now, &mut |_| true).unwrap().0, first);
}

#[test]
fn a_link_without_room_never_makes_the_table_spin() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [_, ours] = net.channel(1, 80);
    net.nodes[BOB].write(net.now, ours, Bytes::from(vec![1; 200_000])).unwrap();
    for _ in 0..200 {
        net.now = net.now.after(Duration::from_millis(37));
        net.nodes[BOB].handle_timeout(net.now);
        assert!(net.nodes[BOB].poll_transmit(net.now, &mut |_| false).is_none());
        assert!(net.nodes[BOB].poll_timeout().is_none_or(|at| at > net.now.instant));
    }
    assert!(net.nodes[BOB].poll_transmit(net.now, &mut |_| true).is_some());
}

#[test]
fn idle_sessions_cost_no_turns_and_few_timers() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [theirs, ours] = net.channel(1, 80);
    net.run(Duration::from_secs(5));
    for (node, channel) in [(ALICE, theirs), (BOB, ours)] {
        let mut asked = false;
        assert!(net.nodes[node].poll_transmit(net.now, &mut |_| std::mem::replace(&mut asked, true)).is_none());
        assert!(!asked && net.nodes[node].ready.is_empty() && net.nodes[node].blocked.is_empty());
        assert_eq!(net.nodes[node].sessions[&channel.session].turn, Turn::Rests);
    }
}

#[test]
fn at_the_bound_an_idle_session_goes_for_a_new_one() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [_, ours] = net.channel(1, 80);
    assert!(!net.nodes[BOB].drop_idle(net.now));
    net.nodes[BOB].reset(net.now, ours);
    assert!(net.nodes[BOB].drop_idle(net.now));
    assert_eq!((net.nodes[BOB].status().count(), net.nodes[BOB].counters().idle_dropped), (0, 1));
}

#[test]
fn over_the_memory_of_all_the_session_that_holds_most_loses_its_largest_channel() {
    let mut net = Net::new();
    net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
    let [greedy, ours] = net.channel(1, 80);
    let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
    net.nodes[BOB].connect(net.now, ConnectId(2), Acting::Anonymous, &descriptor, open(80, None, b""));
    net.run(DELAY * 4);
    let (modest, ..) = net.incoming(ALICE).unwrap();
    net.nodes[ALICE].accept(net.now, modest);
    net.run(DELAY * 4);
    let two = net.opened(2).unwrap();
    net.nodes[BOB].write(net.now, ours, Bytes::from(vec![1; 200_000])).unwrap();
    net.nodes[BOB].write(net.now, two, Bytes::from(vec![2; 50_000])).unwrap();
    net.run(Duration::from_secs(2));
    assert_eq!(net.nodes[ALICE].relieve(net.now, 300_000), 250_000, "nobody reads");
    assert_eq!(net.nodes[ALICE].counters().broken_for_memory, 0);
    net.nodes[ALICE].relieve(net.now, 100_000);
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[ALICE].counters().broken_for_memory, 1);
    for (node, channel) in [(ALICE, greedy), (BOB, ours)] {
        let broke = |event: &Event| matches!(event, Event::Reset { channel: of, lost: false } if *of == channel);
        assert!(net.events[node].iter().any(broke), "both ends hear of it");
    }
    assert_eq!(net.nodes[ALICE].relieve(net.now, 100_000), 50_000, "what it held is gone");
    assert_eq!(net.read_all(ALICE, modest).len(), 50_000);
}
