//! The three message modes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::net::{Faults, Net, pattern};
use crate::session::Mode;
use crate::session::established::limits::{DATAGRAM_LEN_MAX, MESSAGE_LEN_MAX, PACKET_LEN_MAX};
use crate::session::established::{Event, WriteError};

/// Messages of many sizes, numbered in front.
fn samples(count: u32) -> Vec<Bytes> {
    let sizes = [0, 1, 500, 16_300, 16_400, 40_000, DATAGRAM_LEN_MAX - 4];
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
        // A datagram that is written while many wait makes the oldest yield: that is another test's subject.
        while let Some(message) = next.filter(|_| mode.reliable() || net.ends[0].send_buffered < 128 << 10) {
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

/// Row 10 of the data path: the longest messages over a path that loses one packet in twenty.
#[test]
fn the_longest_messages_of_each_mode_at_five_percent_loss() {
    let faults = Faults { loss: 50, repeat: 20, jitter: Duration::from_millis(2), ..Faults::clean(10) };
    let numbered = |len: usize, count: u32| -> Vec<Bytes> {
        let body = pattern(len - 4, 7);
        (0..count).map(|number| Bytes::from([&number.to_le_bytes()[..], &body].concat())).collect()
    };
    let number = |message: &Bytes| u32::from_le_bytes(message[..4].try_into().unwrap());
    let reliable = numbered(MESSAGE_LEN_MAX, 12);
    let mut got = transfer(&mut Net::new(faults, 1), Mode::ReliableUnordered, &reliable);
    got.sort_by_key(number);
    assert!(got == reliable, "ru lost or doubled some: {}", got.len());
    let mut net = Net::new(faults, 2);
    let stream = Bytes::from(reliable.concat());
    let got = transfer_stream(&mut net, &stream);
    assert!(got == stream, "ro lost or doubled some: {}", got.len());
    let datagrams = numbered(DATAGRAM_LEN_MAX, 300);
    // In order, as a path keeps packets: what overtakes makes the others late.
    let faults = Faults { jitter: Duration::ZERO, ..faults };
    for mode in [Mode::UnreliableOrdered, Mode::UnreliableUnordered] {
        let got = transfer(&mut Net::new(faults, 3), mode, &datagrams);
        let numbers: Vec<u32> = got.iter().map(number).collect();
        assert!(got.iter().zip(&numbers).all(|(message, number)| *message == datagrams[*number as usize]), "{mode}");
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "{mode} doubled some");
        assert!(numbers.is_sorted() || !mode.ordered(), "{mode}");
        // Five packets each: 0.95^5 of them arrive whole; of the ordered ones, fewer.
        assert!(got.len() > if mode.ordered() { 100 } else { 200 }, "{mode}: {} of 300", got.len());
    }
}

/// Sends bytes over a stream from the first end; gives what arrived.
fn transfer_stream(net: &mut Net, bytes: &Bytes) -> Vec<u8> {
    let id = net.open(Mode::ReliableOrdered);
    let (mut left, mut got) = (bytes.clone(), Vec::new());
    net.run(Duration::from_secs(300), |net| {
        let taken = net.ends[0].write(id, left.clone()).unwrap_or(0);
        left = left.slice(taken..);
        if left.is_empty() {
            net.ends[0].finish(net.now, id);
        }
        got.extend(net.read_all(1, id).concat());
        net.flush();
        net.saw(1, &Event::Finished(id))
    });
    got
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
    let id = net.open(Mode::UnreliableOrdered);
    assert_eq!(net.ends[0].write(id, Bytes::from(vec![0; DATAGRAM_LEN_MAX + 1])), Err(WriteError::TooLong));
    assert_eq!(net.ends[0].write(id, Bytes::from(vec![0; DATAGRAM_LEN_MAX])), Ok(DATAGRAM_LEN_MAX));
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
