//! Cookies, fresh keys, constant rates, limits of rate and number.

use super::*;
use crate::defence::{Defence, stops};
use crate::link::limits::{COOKIES_ABOVE, HALF_OPEN_MAX, MESSAGE_LEN_MAX, REKEY_GAP_MIN, REKEY_TIME, UNUSED_TIME};
use crate::wire::kind;

const BULK: Class = Class::Cell { flow: 1, interactive: false, from: Some(PeerId([8; 32])) };

/// Connections of many sources that say nothing.
fn crowd(net: &mut Net, n: usize, count: usize) {
    for at in 0..count {
        let conn = net.conn();
        let [high, low] = u16::try_from(at).unwrap().to_be_bytes();
        net.nodes[n].links.handle_accept(net.now, conn, IpAddr::V4(Ipv4Addr::new(10, 2, high, low)));
    }
}

#[test]
fn above_half_of_the_budget_a_first_message_comes_again_with_a_cookie() {
    for (count, cookies) in [(COOKIES_ABOVE - 1, 0), (COOKIES_ABOVE, 1), (HALF_OPEN_MAX - 1, 1)] {
        let mut net = Net::with([config(1), Config { open: false, ..config(2) }]);
        crowd(&mut net, 1, count);
        let pin = Pin::Required(net.id(1));
        let (ours, theirs) = net.dial(0, 1, pin);
        net.run();
        assert!(net.only(0).is_some() && net.only(1).is_some());
        assert_eq!(net.nodes[1].links.counters().cookies_asked, cookies);
        assert_eq!(net.nodes[0].handshakes[&ours] as u64, 2 + cookies, "message 1, maybe again, message 3");
        assert_eq!(net.nodes[1].handshakes[&theirs] as u64, 1 + cookies);
    }
}

#[test]
fn who_does_not_receive_at_its_address_gets_no_public_key_work_done() {
    stops(Defence::HandshakeCookie, || {
        let mut net = Net::new(2);
        crowd(&mut net, 1, COOKIES_ABOVE);
        let (ours, _) = net.dial(0, 1, Pin::None);
        assert!(net.step(), "message 1 arrives");
        let answer = net.wires.get(&(0, ours)).and_then(VecDeque::front);
        matches!(answer, Some(Wire::Handshake(frame)) if frame[0] == 2)
    });
}

#[test]
fn a_dialer_that_is_asked_again_and_again_gives_up() {
    let mut net = Net::new(2);
    let (ours, theirs) = net.dial(0, 1, Pin::None);
    let again = crate::wire::link::encode_again(&[7; 16]);
    for _ in 0..2 {
        net.nodes[0].links.handle_frame(net.now, ours, &again);
        net.pump(0);
    }
    assert_eq!(net.nodes[0].handshakes[&ours], 2, "message 1 went out twice");
    assert!(matches!(net.ended(0, ours), Some(Error::Malformed(_))));
    net.cut.insert((1, theirs));
}

#[test]
fn fresh_keys_are_mixed_in_every_hour_and_no_message_is_lost() {
    let mut net = Net::new(2);
    net.link(0, 1);
    let secrets = |net: &Net| -> Vec<_> {
        let halves = net.nodes.iter().flat_map(|node| node.halves.values());
        halves.map(|(sealer, opener)| (sealer.fingerprint(), opener.fingerprint())).collect()
    };
    let rounds = 40u32;
    let mut sent = 0u32;
    let mut seen = vec![secrets(&net)];
    for hour in 0..rounds {
        // In each hour traffic both ways, delivered in random order, with frames under way whenever keys are agreed.
        for step in 0..120 {
            net.now = net.now.after(REKEY_TIME / 110);
            net.nodes.iter_mut().for_each(|node| node.links.handle_timeout(net.now));
            for _ in 0..4 {
                for (from, to) in [(0, 1), (1, 0)] {
                    net.send(from, to, if step % 3 == 0 { Class::Control } else { BULK }, &sent.to_le_bytes());
                }
                sent += 1;
                for _ in 0..net.rng.public_below(4) {
                    net.step();
                }
            }
            net.run();
        }
        net.run();
        assert!(net.only(0).is_some() && net.only(1).is_some(), "hour {hour}");
        seen.push(secrets(&net));
    }
    for n in [0, 1] {
        assert!(net.nodes[n].links.counters().rekeys >= u64::from(rounds) * 9 / 10);
        let mut got: Vec<u32> =
            net.received(n).iter().map(|body| u32::from_le_bytes(body[body.len() - 4..].try_into().unwrap())).collect();
        got.sort_unstable();
        assert_eq!(got, (0..sent).collect::<Vec<_>>());
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "every hour other keys");
}

#[test]
fn who_begins_key_agreement_out_of_turn_loses_its_link() {
    let mut net = Net::new(2);
    let share =
        crate::crypto::AgreementSecret::generate(Group::X25519MlKem768, &mut Rng::from_seed([1; 32])).public_share();
    for (from, kind, body, wait) in [
        (1, kind::REKEY, &share[..], REKEY_TIME),
        (0, kind::REKEY, &share[..], REKEY_GAP_MIN / 2),
        (0, kind::REKEY, &share[1..], REKEY_GAP_MIN),
        (0, kind::REKEY_ANSWER, &share[..], REKEY_GAP_MIN),
        (0, kind::REKEY_DONE, &[][..], REKEY_GAP_MIN),
    ] {
        let (ours, theirs) = net.link(0, 1);
        net.advance(wait / 2);
        net.now = net.now.after(wait / 2);
        let conn = if from == 0 { theirs } else { ours };
        let mut batch = BytesMut::new();
        crate::wire::link::put_message(&mut batch, kind, &[], body);
        net.nodes[1 - from].links.handle_plaintext(net.now, conn, batch);
        net.run();
        assert!(net.only(0).is_none() && net.only(1).is_none(), "{kind} from {from}");
    }
}

/// Two nodes that send at that rate, bytes per second.
fn constant(bytes_per_s: u64) -> Net {
    let padding = Padding::Constant { bytes_per_s };
    Net::with([1, 2].map(|seed| Config { padding, ..config(seed) }))
}

#[test]
fn at_a_constant_rate_an_observer_sees_the_same_whatever_is_said() {
    for rate in [8_000, 125_000, 12_500_000] {
        let run = |talk: bool| {
            let mut net = constant(rate);
            net.link(0, 1);
            net.advance(Duration::from_secs(1));
            net.nodes[0].bytes_sent = 0;
            net.nodes[0].batch_lens.clear();
            if talk {
                net.send(0, 1, Class::Control, &vec![1; MESSAGE_LEN_MAX / 8]);
                net.send(0, 1, BULK, &[2; 1200]);
                net.send(0, 1, Class::Control, b"last");
            }
            let mut moments = Vec::new();
            for _ in 0..2000 {
                let before = net.nodes[0].bytes_sent;
                net.advance(Duration::from_millis(1));
                moments.push(net.nodes[0].bytes_sent - before);
            }
            let received: Vec<_> = net.received(1).iter().map(|body| body.len()).collect();
            (moments, received)
        };
        let ((quiet, nothing), (busy, received)) = (run(false), run(true));
        assert_eq!(quiet, busy, "{rate}");
        assert!(nothing.is_empty());
        assert_eq!(received, [MESSAGE_LEN_MAX / 8, 4, 1205], "{rate}: in pieces or whole, control first");
        let sent = quiet.iter().sum::<usize>() as u64;
        assert!(sent.abs_diff(2 * rate) < rate / 10, "{rate}: {sent} in 2 s");
    }
}

#[test]
fn pieces_without_end_or_inside_pieces_cost_the_link() {
    let message = |kind, body: &[u8]| {
        let mut batch = BytesMut::new();
        crate::wire::link::put_message(&mut batch, kind, &[], body);
        batch
    };
    let inner = message(kind::PIECE_LAST, b"x");
    for batches in [
        vec![message(kind::PIECE, &[1; 40_000]); 2],
        vec![message(kind::PIECE_LAST, &inner)],
        vec![message(kind::PIECE_LAST, &[9, 200, 1])],
    ] {
        let mut net = Net::new(2);
        let (ours, _) = net.link(0, 1);
        for batch in batches {
            net.nodes[0].links.handle_plaintext(net.now, ours, batch);
        }
        assert!(matches!(net.ended_now(0, ours), Some(Error::Garbage(_))));
    }
}

#[test]
fn the_upload_limit_holds_over_all_links_and_control_does_not_wait_behind_cells() {
    let rate = 1_250_000;
    let mut net = Net::with([Config { upload_limit: Some(rate), ..config(1) }, config(2), config(3)]);
    net.link(0, 1);
    net.link(0, 2);
    net.nodes[0].bytes_sent = 0;
    let mut controls = 0;
    for tenth in 0..1000u64 {
        for to in [1, 2] {
            while net.nodes[0].links.room(&net.id(to)) {
                net.send(0, to, BULK, &[1; 15_800]);
            }
        }
        if tenth % 10 == 0 {
            net.send(0, 1, Class::Control, b"now");
            net.run();
            controls += 1;
            assert_eq!(net.received(1).iter().filter(|body| &body[..] == b"now").count(), controls, "at once");
        }
        net.advance(Duration::from_millis(10));
    }
    let sent = net.nodes[0].bytes_sent as u64;
    assert!(sent.abs_diff(10 * rate) <= 10 * rate / 20, "{sent} in 10 s");
    let cells: Vec<_> = [1, 2].iter().map(|n| net.received(*n).iter().filter(|body| body.len() > 3).count()).collect();
    assert!(cells[0].abs_diff(cells[1]) < cells[0] / 20, "links share: {cells:?}");
}

#[test]
fn a_full_node_lets_an_unused_link_go_for_a_newcomer_and_never_a_used_one() {
    let mut net = Net::with((1..=4).map(|seed| Config { max_inbound: 2, ..config(seed) }));
    let (_, used) = net.link(1, 0);
    let (_, idle) = net.link(2, 0);
    let try_newcomer = |net: &mut Net| net.link(3, 0).0;
    let refused = try_newcomer(&mut net);
    assert_eq!(net.ended(3, refused), Some(Error::Bye(Bye::TooManyLinks)), "both are new themselves");
    for _ in 0..10 {
        net.advance(UNUSED_TIME / 8);
        net.send(0, 1, BULK, b"of use");
    }
    try_newcomer(&mut net);
    assert_eq!(net.ended(0, idle), Some(Error::TooManyLinks));
    assert_eq!(net.ended(0, used), None);
    assert_eq!(net.nodes[0].links.links().count(), 2);
    assert_eq!(net.nodes[0].links.counters().links_evicted, 1);
    let (again, _) = net.link(2, 0);
    assert_eq!(net.ended(2, again), Some(Error::Bye(Bye::TooManyLinks)), "the newcomer has its time");
}

#[test]
fn a_source_that_holds_more_than_its_part_yields_first() {
    let mut net = Net::with((1..=20).map(|seed| Config { max_inbound: 16, ..config(seed) }));
    let dial = |net: &mut Net, from: usize, source: u8| {
        net.advance(Duration::from_secs(1));
        let conns = net.dial_from(from, 0, Pin::None, super::source(source));
        net.run();
        conns.1
    };
    let greedy: Vec<_> = (1..=14).map(|from| dial(&mut net, from, 100)).collect();
    let others = [dial(&mut net, 15, 101), dial(&mut net, 16, 102)];
    // The greedy one's links are even in use.
    (1..=14).for_each(|to| net.send(0, to, BULK, b"x"));
    let more = dial(&mut net, 17, 100);
    assert_eq!(net.ended(0, more), Some(Error::TooManyLinks), "its own number does not help it");
    for (from, source) in [(18, 103), (19, 104)] {
        let conn = dial(&mut net, from, source);
        assert_eq!(net.ended(0, conn), None);
    }
    assert!(others.iter().all(|conn| net.ended(0, *conn).is_none()));
    assert_eq!(greedy.iter().filter(|conn| net.ended(0, **conn).is_some()).count(), 2);
}

#[test]
fn a_dialed_link_without_use_yields_to_a_new_dial_once_that_is_answered() {
    let mut net = Net::with((1..=4).map(|seed| Config { max_outbound: 1, ..config(seed) }));
    let (old, _) = net.link(0, 1);
    let (refused, _) = net.link(0, 2);
    assert_eq!(net.ended(0, refused), Some(Error::TooManyLinks));
    net.advance(UNUSED_TIME);
    let (dead, _) = net.dial(0, 3, Pin::Required(PeerId([9; 32])));
    net.run();
    assert!(matches!(net.ended(0, dead), Some(Error::PinMismatch { .. })));
    assert_eq!(net.ended(0, old), None, "an attempt that fails costs nobody a link");
    net.link(0, 2);
    assert_eq!(net.ended(0, old), Some(Error::TooManyLinks));
    assert_eq!(net.only(0).unwrap().peer, net.id(2));
}

#[test]
fn of_some_dialed_links_the_one_that_nobody_uses_can_be_ended() {
    let mut net = Net::with((1..=4).map(config));
    let (first, _) = net.link(0, 1);
    let (second, _) = net.link(0, 2);
    let (other, _) = net.link(0, 3);
    let some = [net.id(1), net.id(2)];
    let now = net.now;
    assert!(!net.nodes[0].links.end_unused(now, &some), "young links may still become useful");
    net.advance(UNUSED_TIME);
    net.send(0, 1, BULK, &[1; 100]);
    let now = net.now;
    assert!(net.nodes[0].links.end_unused(now, &some) && !net.nodes[0].links.end_unused(now, &some));
    net.run();
    assert_eq!(net.ended(0, second), Some(Error::TooManyLinks));
    assert!(net.ended(0, first).is_none() && net.ended(0, other).is_none());
}

#[test]
fn what_all_links_hold_is_bounded_and_the_greediest_lose_first() {
    let max = 1 << 20;
    let mut net = Net::with((1..=6).map(|seed| Config { queue_max: max, ..config(seed) }));
    for to in 1..6 {
        net.link(0, to);
    }
    net.ready = false;
    // Node 1 gets little and fills its credit first; the others get more than all may hold.
    (0..20).for_each(|_| net.send(0, 1, BULK, &[1; 2000]));
    for _ in 0..300 {
        (2..6).for_each(|to| net.send(0, to, BULK, &[2; 2000]));
        let held: usize = net.nodes[0].links.links().map(|link| link.queued_bytes).sum();
        assert!(held <= max, "{held}");
    }
    assert!(net.nodes[0].links.counters().cells_over_memory > 100);
    let modest = net.nodes[0].links.links().find(|link| link.peer == net.id(1)).unwrap();
    assert_eq!(modest.cells_dropped, 0);
    // Control messages that pile up beyond it cost the link whose peer does not take them.
    for _ in 0..25 {
        let (peer, now) = (net.id(3), net.now);
        let body = Bytes::from(vec![3; 50_000]);
        let _ = net.nodes[0].links.send(now, &peer, Class::Control, kind::ADVERT, &[], body);
    }
    net.run();
    let left: Vec<_> = net.nodes[0].links.links().map(|link| link.peer).collect();
    assert_eq!(left.len(), 4);
    assert!(!left.contains(&net.id(3)));
    let peers: Vec<_> = left.clone();
    peers.iter().for_each(|peer| assert!(net.nodes[0].links.close(net.now, peer)));
    assert_eq!(net.nodes[0].links.queued, Default::default(), "the count comes back to nothing");
}

#[test]
fn a_short_cell_that_waits_does_not_keep_the_frame_that_it_came_in() {
    let mut net = Net::new(2);
    net.link(0, 1);
    net.ready = false;
    let (peer, now) = (net.id(1), net.now);
    let frame = Bytes::from(vec![7; 60_000]);
    (0..50).for_each(|n| {
        let body = frame.slice(n * 100..n * 100 + 100);
        net.nodes[0].links.send(now, &peer, BULK, kind::CELL, &[1, 0, 0, 0, 0], body).unwrap();
    });
    assert!(frame.is_unique(), "no cell refers to it");
    let long = frame.slice(..9000);
    net.nodes[0].links.send(now, &peer, BULK, kind::CELL, &[1, 0, 0, 0, 0], long).unwrap();
    assert!(!frame.is_unique(), "a long one is not copied");
}
