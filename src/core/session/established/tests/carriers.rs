//! Carriers that die, come, and go; keys that ratchet; sessions left alone.

use std::time::Duration;

use bytes::Bytes;

use super::net::{Faults, Net, Transfer, request};
use crate::session::Mode;
use crate::session::established::{CarrierId, Event, ResetCause};

#[test]
fn a_transfer_survives_the_death_of_its_carrier() {
    for seed in 0..3 {
        let mut net = Net::new(Faults { loss: 10, ..Faults::clean(10) }, seed);
        let id = net.open(Mode::ReliableOrdered);
        let (mut there, mut back) = (Transfer::new(0, id, 3_000_000), Transfer::new(1, id, 3_000_000));
        let mut carrier = 1;
        let mut next_cut = 1_000_000;
        net.run(Duration::from_secs(120), |net| {
            if there.got.len() > next_cut {
                net.cut.insert(CarrierId(carrier));
                next_cut = usize::MAX;
            }
            if carrier == 1 && net.saw(0, &Event::CarrierDead(CarrierId(1))) {
                carrier = 2;
                for end in &mut net.ends {
                    end.remove_carrier(net.now, CarrierId(1));
                    end.add_carrier(net.now, CarrierId(2));
                }
            }
            there.advance(net) & back.advance(net)
        });
        assert_eq!(carrier, 2, "the carrier never died");
        assert_eq!((there.got.len(), back.got.len()), (3_000_000, 3_000_000));
    }
}

#[test]
fn a_new_carrier_takes_over_while_the_old_one_still_delivers() {
    let mut net = Net::new(Faults { jitter: Duration::from_millis(3), ..Faults::clean(10) }, 1);
    let id = net.open(Mode::ReliableOrdered);
    let mut transfer = Transfer::new(0, id, 6_000_000);
    let mut carrier = 1;
    net.run(Duration::from_secs(60), |net| {
        if transfer.got.len() as u64 > carrier * 500_000 && carrier < 11 {
            carrier += 1;
            net.ends.iter_mut().for_each(|end| end.add_carrier(net.now, CarrierId(carrier)));
        }
        transfer.advance(net)
    });
    assert_eq!(carrier, 11);
    assert!(net.ends.iter().all(|end| end.carriers().count() <= 8));
}

#[test]
fn idle_channels_find_out_that_their_carrier_died() {
    let mut net = Net::new(Faults::clean(10), 1);
    net.open(Mode::ReliableOrdered);
    net.rest(Duration::from_secs(20));
    assert!(!net.events.iter().flatten().any(|event| matches!(event, Event::CarrierDead(_))));
    net.cut.insert(CarrierId(1));
    let before = net.now.instant;
    net.run(Duration::from_secs(10), |net| net.saw(0, &Event::CarrierDead(CarrierId(1))));
    assert!(net.now.instant.saturating_since(before) < Duration::from_secs(5));
}

#[test]
fn channels_fail_after_a_minute_without_a_word_and_the_state_may_go_after_two() {
    let mut net = Net::new(Faults::clean(10), 1);
    let id = net.open(Mode::ReliableOrdered);
    net.cut.insert(CarrierId(1));
    net.rest(Duration::from_secs(55));
    assert!(!net.saw(0, &Event::Reset { channel: id, cause: ResetCause::Lost }));
    net.rest(Duration::from_secs(10));
    for end in 0..2 {
        assert!(net.saw(end, &Event::Reset { channel: id, cause: ResetCause::Lost }), "{end}");
    }
    net.ends.iter_mut().for_each(|end| end.remove_carrier(net.now, CarrierId(1)));
    net.rest(Duration::from_secs(125));
    assert!(net.saw(0, &Event::Expired) && net.saw(1, &Event::Expired));
}

#[test]
fn a_pause_of_forty_seconds_is_only_a_pause() {
    let mut net = Net::new(Faults::clean(10), 1);
    let id = net.open(Mode::ReliableOrdered);
    net.ends[0].write(id, Bytes::from_static(b"before")).unwrap();
    net.cut.insert(CarrierId(1));
    net.rest(Duration::from_secs(20));
    net.ends[1].write(id, Bytes::from_static(b"meanwhile")).unwrap();
    net.rest(Duration::from_secs(20));
    net.ends.iter_mut().for_each(|end| end.add_carrier(net.now, CarrierId(2)));
    net.rest(Duration::from_secs(1));
    assert_eq!(
        (net.read_all(1, id), net.read_all(0, id)),
        (vec![Bytes::from("before")], vec![Bytes::from("meanwhile")])
    );
}

#[test]
fn keys_ratchet_in_mid_transfer() {
    let mut net = Net::new(Faults { loss: 10, jitter: Duration::from_millis(5), ..Faults::clean(10) }, 1);
    let id = net.open(Mode::ReliableOrdered);
    for _ in 0..5 {
        net.rest(Duration::from_secs(125));
        let mut transfer = Transfer::new(0, id, 500_000);
        transfer.finish = false;
        net.run(Duration::from_secs(60), |net| transfer.advance(net));
    }
    assert!(net.ends[0].sealer.epoch() >= 4 && net.ends[1].sealer.epoch() >= 4);
    assert_eq!(net.ends[0].sealer.epoch(), net.ends[1].opener.epoch());
}

#[test]
fn a_session_without_channels_is_silent_and_reports_idle() {
    let mut net = Net::new(Faults::clean(10), 1);
    let id = net.open(Mode::ReliableOrdered);
    net.ends[0].reset(net.now, id);
    net.rest(Duration::from_secs(5));
    let before = net.bytes_sent;
    net.rest(Duration::from_secs(100));
    assert_eq!(net.bytes_sent, before);
    for events in &net.events {
        assert_eq!(events.iter().filter(|event| **event == Event::Idle).count(), 1);
    }
    assert!(net.ends.iter().all(|end| end.poll_timeout().is_none()), "nothing to wake up for");
}

#[test]
fn an_open_channel_that_says_nothing_costs_little() {
    let mut net = Net::new(Faults::clean(10), 1);
    net.open(Mode::ReliableOrdered);
    net.rest(Duration::from_secs(5));
    let before = net.bytes_sent;
    net.rest(Duration::from_secs(60));
    assert!(net.bytes_sent - before < 60 * 150, "{}", net.bytes_sent - before);
}

#[test]
fn a_proof_arrives_once() {
    let mut net = Net::new(Faults { loss: 300, repeat: 300, ..Faults::clean(10) }, 2);
    net.ends[0].send_proof(Bytes::from(vec![7; 1_700]));
    net.rest(Duration::from_secs(30));
    let proofs = net.events[1].iter().filter(|event| matches!(event, Event::Proof(proof) if proof.len() == 1_700));
    assert_eq!(proofs.count(), 1);
}

#[test]
fn nothing_is_sent_while_the_way_out_is_blocked_and_the_carrier_is_not_blamed() {
    let mut net = Net::new(Faults::clean(10), 2);
    let id = net.open(Mode::ReliableOrdered);
    net.rest(Duration::from_secs(1));
    net.ends[0].write(id, Bytes::from_static(b"wait")).unwrap();
    for _ in 0..600 {
        net.now = net.now.after(Duration::from_millis(100));
        net.ends[0].handle_timeout(net.now);
        assert!(net.ends[0].poll_transmit(net.now, &mut |_| false).is_none());
        assert_ne!(net.ends[0].poll_event(), Some(Event::CarrierDead(CarrierId(1))));
        if net.now.instant.as_micros() > 50_000_000 {
            break;
        }
    }
    net.rest(Duration::from_secs(1));
    assert_eq!(net.read_all(1, id), ["wait"]);
    assert_eq!(net.ends[0].open(net.now, request(Mode::ReliableOrdered)).map(|id| id.0), Ok(2));
}
