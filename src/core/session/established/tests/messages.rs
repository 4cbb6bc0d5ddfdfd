//! The three message modes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::net::{Faults, Net, pattern};
use crate::session::Mode;
use crate::session::established::limits::{MESSAGE_LEN_MAX, PACKET_LEN_MAX};
use crate::session::established::{Event, WriteError};

/// Messages of many sizes, numbered in front.
fn samples(count: u32) -> Vec<Bytes> {
    let sizes = [0, 1, 500, 16_300, 16_400, 40_000, MESSAGE_LEN_MAX - 4];
    let one = |number: u32| [&number.to_le_bytes()[..], &pattern(sizes[number as usize % sizes.len()], 3)].concat();
    (0..count).map(|number| Bytes::from(one(number))).collect()
}

/// Sends messages of a mode from the first end; gives what arrived.
fn transfer(net: &mut Net, mode: Mode, messages: &[Bytes]) -> Vec<Bytes> {
    let id = net.open(mode);
    let mut got = Vec::new();
    let mut left = messages.iter();
    let mut next = left.next();
    net.run(Duration::from_secs(300), |net| {
        while let Some(message) = next {
            if net.ends[0].write(id, message.clone()).unwrap() < message.len() {
                break;
            }
            next = left.next();
            if !mode.reliable() {
                break;
            }
        }
        if next.is_none() {
            net.ends[0].finish(net.now, id);
        }
        got.extend(net.read_all(1, id));
        net.flush();
        net.saw(1, &Event::Finished(id))
    });
    got
}

#[test]
fn reliable_messages_arrive_whole_and_once_in_any_order() {
    let faults = Faults { jitter: Duration::from_millis(8), loss: 50, repeat: 50, ..Faults::clean(10) };
    for seed in 0..3 {
        let mut net = Net::new(faults, seed);
        let sent = samples(60);
        let mut got = transfer(&mut net, Mode::ReliableUnordered, &sent);
        assert_ne!(got, sent, "nothing was reordered: the network is too good");
        got.sort_by_key(|message| u32::from_le_bytes(message[..4].try_into().unwrap()));
        assert_eq!(got, sent);
        net.ends[1].finish(net.now, crate::session::ChannelId(0));
        net.rest(Duration::from_secs(5));
        net.read_all(0, crate::session::ChannelId(0));
        net.rest(Duration::from_secs(5));
        assert!(
            net.ends.iter().all(|end| end.channel_count() == 0 && end.send_buffered == 0 && end.flow.unread() == 0)
        );
    }
}

#[test]
fn unreliable_messages_arrive_whole_at_most_once_and_mostly() {
    for mode in [Mode::UnreliableUnordered, Mode::UnreliableOrdered] {
        let mut net =
            Net::new(Faults { loss: 20, repeat: 50, jitter: Duration::from_millis(2), ..Faults::clean(10) }, 5);
        let sent = samples(200);
        let got = transfer(&mut net, mode, &sent);
        let numbers: Vec<u32> =
            got.iter().map(|message| u32::from_le_bytes(message[..4].try_into().unwrap())).collect();
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
        assert!(got.iter().zip(&numbers).all(|(message, number)| *message == sent[*number as usize]));
        assert!(got.len() > 100, "{mode}: {}", got.len());
        assert_eq!(numbers.is_sorted(), mode.ordered(), "{mode}");
    }
}

#[test]
fn lost_datagrams_are_not_sent_again() {
    let mut net = Net::new(Faults::clean(10), 5);
    let id = net.open(Mode::UnreliableUnordered);
    net.rest(Duration::from_millis(100));
    net.faults.loss = 1_000;
    net.ends[0].write(id, Bytes::from_static(b"gone")).unwrap();
    net.rest(Duration::from_millis(50));
    net.faults.loss = 0;
    net.ends[0].write(id, Bytes::from_static(b"here")).unwrap();
    net.rest(Duration::from_secs(5));
    assert_eq!(net.read_all(1, id), ["here"]);
}

#[test]
fn a_flood_of_datagrams_is_bounded_at_both_ends() {
    let mut net = Net::new(Faults { rate: 1_000_000, queue: 200_000, ..Faults::clean(10) }, 5);
    let id = net.open(Mode::UnreliableUnordered);
    for _ in 0..1_000 {
        assert_eq!(net.ends[0].write(id, Bytes::from(vec![1; 10_000])), Ok(10_000));
    }
    assert!(net.ends[0].send_buffered < 1_200_000);
    net.rest(Duration::from_secs(10));
    let unread: usize = net.read_all(1, id).iter().map(Bytes::len).sum();
    assert!((500_000..=1_048_576).contains(&unread), "{unread}");
    assert!(net.largest_len <= PACKET_LEN_MAX);
    net.ends[0].reset(net.now, id);
    net.rest(Duration::from_secs(5));
    assert!(net.ends[0].counters().messages_dropped > 800);
}

#[test]
fn a_message_longer_than_the_bound_is_refused() {
    let mut net = Net::new(Faults::clean(10), 5);
    let id = net.open(Mode::ReliableUnordered);
    assert_eq!(net.ends[0].write(id, Bytes::from(vec![0; MESSAGE_LEN_MAX + 1])), Err(WriteError::TooLong));
}

#[test]
fn a_message_writer_without_room_is_told_when_the_message_fits() {
    let mut net = Net::new(Faults::clean(10), 5);
    let id = net.open(Mode::ReliableUnordered);
    let message = Bytes::from(vec![1; 60_000]);
    while net.ends[0].write(id, message.clone()).unwrap() > 0 {}
    net.run(Duration::from_secs(5), |net| {
        net.read_all(1, id);
        net.saw(0, &Event::Writable(id))
    });
    assert_eq!(net.ends[0].write(id, message.clone()), Ok(message.len()));
}
