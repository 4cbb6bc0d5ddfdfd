//! Streams: bytes once and in order, opening, ending, credit, and what is left behind.

use std::time::Duration;

use bytes::Bytes;

use super::net::{Faults, Net, Transfer, pattern, request};
use crate::session::established::limits::{
    CHANNEL_WINDOW_INITIAL, CHANNEL_WINDOW_MAX, CHANNELS_MAX, SEND_BUFFER_SHARE, SESSION_UNSENT, SESSION_WINDOW,
};
use crate::session::established::{Carried, CarrierId, ChannelId, Event, OpenRequest, ResetCause, WriteError};
use crate::session::{Mode, Refusal};

#[test]
fn a_stream_arrives_once_and_in_order_through_a_bad_network() {
    for seed in 0..4 {
        let faults = Faults { jitter: Duration::from_millis(5), loss: 50, repeat: 50, ..Faults::clean(10) };
        let mut net = Net::new(faults, seed);
        let id = net.open(Mode::ReliableOrdered);
        let mut transfer = Transfer::new(usize::from(seed % 2), id, 2_000_000);
        net.run(Duration::from_secs(120), |net| transfer.advance(net));
    }
}

#[test]
fn both_directions_finish_and_nothing_is_left() {
    let mut net = Net::new(Faults { loss: 30, ..Faults::clean(5) }, 1);
    let id = net.open(Mode::ReliableOrdered);
    let (mut there, mut back) = (Transfer::new(0, id, 300_000), Transfer::new(1, id, 200_000));
    net.run(Duration::from_secs(60), |net| there.advance(net) & back.advance(net));
    net.run(Duration::from_secs(60), |net| {
        let both = |end| net.saw(end, &Event::Finished(id)) && net.saw(end, &Event::Closed(id));
        both(0) && both(1)
    });
    for end in &net.ends {
        assert_eq!((end.channel_count(), end.send_buffered, end.send_unsent), (0, 0, 0));
        assert_eq!((end.flow.unread(), end.flow.tuned), (0, 0));
    }
}

#[test]
fn half_close_lets_the_other_direction_go_on() {
    let mut net = Net::new(Faults::clean(5), 1);
    let id = net.open(Mode::ReliableOrdered);
    net.ends[0].write(id, Bytes::from_static(b"request")).unwrap();
    net.ends[0].finish(net.now, id);
    net.rest(Duration::from_millis(100));
    assert!(!net.saw(1, &Event::Finished(id)), "data is read before the end is told");
    assert_eq!(net.read_all(1, id), ["request"]);
    net.flush();
    assert!(net.saw(1, &Event::Finished(id)));
    assert_eq!(net.ends[0].write(id, Bytes::from_static(b"x")), Err(WriteError::Closed));
    let mut answer = Transfer::new(1, id, 100_000);
    net.run(Duration::from_secs(5), |net| answer.advance(net));
    net.rest(Duration::from_secs(1));
    assert!(net.saw(0, &Event::Closed(id)) && net.saw(1, &Event::Closed(id)));
}

#[test]
fn first_data_is_readable_once_accepted_and_counts_once() {
    for mode in [Mode::ReliableOrdered, Mode::ReliableUnordered, Mode::UnreliableOrdered, Mode::UnreliableUnordered] {
        let mut net = Net::new(Faults { loss: 200, ..Faults::clean(5) }, 3);
        let early = Bytes::from_static(b"GET / HTTP/1.0");
        let id = net.ends[0].open(net.now, OpenRequest { early: early.clone(), ..request(mode) }).unwrap();
        net.run(Duration::from_secs(30), |net| !net.events[1].is_empty());
        assert_eq!(net.events[1], [Event::Incoming { channel: id, open: request(mode) }]);
        assert_eq!(net.ends[1].read(net.now, id), None);
        net.ends[1].accept(net.now, id);
        assert_eq!(net.read_all(1, id), [early]);
        net.run(Duration::from_secs(30), |net| net.saw(0, &Event::Opened(id)));
        net.faults.loss = 0;
        net.ends[0].write(id, Bytes::from_static(b"next")).unwrap();
        net.rest(Duration::from_secs(5));
        assert_eq!(net.read_all(1, id), ["next"]);
    }
}

#[test]
fn an_open_in_the_handshake_needs_no_packet() {
    let mut net = Net::new(Faults::clean(5), 3);
    let open = OpenRequest { early: Bytes::from_static(b"hello"), ..request(Mode::ReliableOrdered) };
    let id = net.ends[0].open_with(net.now, open.clone(), Carried::Delivered).unwrap();
    assert_eq!(net.ends[1].handle_open(net.now, open.clone()), Ok(id));
    assert_eq!(net.ends[1].handle_open(net.now, open), Ok(id), "a repeat changes nothing");
    net.ends[1].accept(net.now, id);
    net.rest(Duration::from_millis(100));
    assert!(net.saw(0, &Event::Opened(id)));
    net.ends[0].write(id, Bytes::from_static(b" world")).unwrap();
    net.rest(Duration::from_millis(100));
    assert_eq!(net.read_all(1, id).concat(), b"hello world");
    let again = net.ends[0].open(net.now, request(Mode::ReliableOrdered)).unwrap();
    net.rest(Duration::from_millis(100));
    assert!(net.events[1].iter().any(|event| matches!(event, Event::Incoming { channel, .. } if *channel == again)));
}

#[test]
fn refusals_reach_the_opener() {
    let mut net = Net::new(Faults { loss: 200, ..Faults::clean(5) }, 4);
    let id = net.ends[0].open(net.now, request(Mode::ReliableOrdered)).unwrap();
    net.run(Duration::from_secs(30), |net| !net.events[1].is_empty());
    net.ends[1].refuse(net.now, id, Refusal::NoListener);
    net.run(Duration::from_secs(30), |net| net.saw(0, &Event::Refused { channel: id, why: Refusal::NoListener }));
    assert_eq!((net.ends[0].channel_count(), net.ends[1].channel_count()), (0, 0));
}

#[test]
fn a_reset_reaches_the_other_side_and_returns_all_credit() {
    for (resetter, seed) in [(0, 1), (1, 2)] {
        let mut net = Net::new(Faults { loss: 50, ..Faults::clean(5) }, seed);
        let id = net.open(Mode::ReliableOrdered);
        for end in 0..2 {
            net.ends[end].write(id, Bytes::from(pattern(200_000, 1))).unwrap();
        }
        net.rest(Duration::from_millis(8));
        net.ends[resetter].reset(net.now, id);
        net.run(Duration::from_secs(30), |net| {
            net.ends.iter().all(|end| end.channel_count() == 0 && end.send_buffered == 0 && end.flow.unread() == 0)
        });
        assert!(net.saw(1 - resetter, &Event::Reset { channel: id, cause: ResetCause::Peer }));
        assert!(!net.events[resetter].iter().any(|event| matches!(event, Event::Reset { .. })));
    }
}

#[test]
fn a_channel_reset_before_its_open_arrives_is_never_seen() {
    let mut net = Net::new(Faults::clean(5), 1);
    let id = net.ends[0].open(net.now, request(Mode::ReliableOrdered)).unwrap();
    net.ends[0].reset(net.now, id);
    net.rest(Duration::from_secs(1));
    assert_eq!(net.events[1], []);
    assert!(net.ends.iter().all(|end| end.channel_count() == 0 && end.peer_channels.len() <= 1));
}

#[test]
fn a_reader_who_stops_ends_the_writer_without_a_reset() {
    let mut net = Net::new(Faults::clean(5), 1);
    let id = net.open(Mode::ReliableOrdered);
    net.ends[0].write(id, Bytes::from(pattern(500_000, 1))).unwrap();
    net.ends[1].stop(net.now, id);
    net.rest(Duration::from_secs(1));
    assert!(net.saw(0, &Event::Stopped(id)));
    assert_eq!(net.ends[0].write(id, Bytes::from_static(b"x")), Err(WriteError::Closed));
    net.ends[1].finish(net.now, id);
    net.rest(Duration::from_secs(1));
    net.read_all(0, id);
    net.rest(Duration::from_secs(1));
    assert!(net.ends.iter().all(|end| end.channel_count() == 0), "{:?}", net.events);
    assert_eq!(net.ends[1].flow.unread(), 0);
}

#[test]
fn a_slow_reader_stalls_only_its_channel() {
    let mut net = Net::new(Faults::clean(5), 1);
    let (stalled, lively) = (net.open(Mode::ReliableOrdered), net.open(Mode::ReliableOrdered));
    let mut wrote = 0;
    let mut transfer = Transfer::new(0, lively, 4_000_000);
    net.run(Duration::from_secs(60), |net| {
        wrote += net.ends[0].write(stalled, Bytes::from(vec![7; 65_536])).unwrap();
        transfer.advance(net)
    });
    let held: u64 = net.ends[1].flow.unread();
    assert!(held <= CHANNEL_WINDOW_INITIAL, "{held}");
    assert!(wrote as u64 >= CHANNEL_WINDOW_INITIAL);
    let mut read = 0;
    let until = wrote;
    net.run(Duration::from_secs(60), |net| {
        read += net.read_all(1, stalled).iter().map(Bytes::len).sum::<usize>();
        read == until
    });
}

#[test]
fn windows_grow_for_fast_readers_within_their_bounds() {
    let mut net = Net::new(Faults::clean(20), 1);
    let id = net.open(Mode::ReliableOrdered);
    let mut transfer = Transfer::new(0, id, 30_000_000);
    net.run(Duration::from_secs(60), |net| {
        assert!(net.ends[0].send_buffered <= CHANNEL_WINDOW_MAX && net.ends[1].flow.unread() <= SESSION_WINDOW);
        transfer.advance(net)
    });
    assert!(net.ends[1].flow.tuned > CHANNEL_WINDOW_INITIAL);
    assert!(net.now.instant.as_micros() < 3_000_000, "30 MB took {:?}", net.now.instant);
}

#[test]
fn interactive_channels_go_before_bulk_and_bulk_shares_fairly() {
    let mut net = Net::new(Faults { rate: 10_000_000, queue: 1 << 20, ..Faults::clean(5) }, 1);
    let bulk: Vec<ChannelId> = (0..3).map(|_| net.open(Mode::ReliableOrdered)).collect();
    let typed = net.open(Mode::ReliableOrdered);
    let mut got = [0usize; 3];
    let mut worst = Duration::ZERO;
    for round in 0..40 {
        let asked = net.now.instant;
        net.ends[0].write(typed, Bytes::from_static(b"key")).unwrap();
        let mut answered = false;
        net.run(Duration::from_secs(5), |net| {
            for (id, got) in bulk.iter().zip(&mut got) {
                net.ends[0].write(*id, Bytes::from(vec![1; 65_536])).unwrap();
                *got += net.read_all(1, *id).iter().map(Bytes::len).sum::<usize>();
            }
            answered |= !net.read_all(1, typed).is_empty();
            answered && net.now.instant.saturating_since(asked) > Duration::from_millis(30)
        });
        if round > 10 {
            worst = worst.max(net.now.instant.saturating_since(asked));
        }
    }
    let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
    assert!(least * 10 > most * 8, "{got:?}");
    assert!(worst < Duration::from_millis(200), "{worst:?}");
}

#[test]
fn ten_thousand_channels_one_after_another_leave_nothing() {
    let mut net = Net::new(Faults::clean(1), 1);
    for round in 0..10_000u64 {
        let id = net.ends[0]
            .open(net.now, OpenRequest { early: Bytes::from_static(b"ask"), ..request(Mode::ReliableOrdered) })
            .unwrap();
        net.ends[0].finish(net.now, id);
        net.rest(Duration::from_millis(2));
        net.ends[1].accept(net.now, id);
        assert_eq!(net.read_all(1, id), ["ask"], "{round}");
        net.ends[1].write(id, Bytes::from_static(b"answer")).unwrap();
        net.ends[1].finish(net.now, id);
        net.rest(Duration::from_millis(3));
        assert_eq!(net.read_all(0, id), ["answer"]);
        if round % 100 == 99 {
            net.events = [Vec::new(), Vec::new()];
        }
    }
    net.rest(Duration::from_secs(2));
    for end in &net.ends {
        assert_eq!((end.channel_count(), end.send_buffered, end.flow.unread()), (0, 0, 0));
        assert!(
            end.peer_channels.len() <= 1 && end.control.is_empty() && end.interactive.is_empty() && end.bulk.is_empty()
        );
        assert!(end.carriers.iter().all(|carrier| carrier.recovery.span() == 0));
    }
}

#[test]
fn more_channels_than_the_bound_are_refused() {
    let mut net = Net::new(Faults::clean(1), 1);
    for _ in 0..CHANNELS_MAX {
        net.ends[0].open(net.now, request(Mode::ReliableOrdered)).unwrap();
    }
    assert_eq!(net.ends[0].open(net.now, request(Mode::ReliableOrdered)), Err(Refusal::TooMany));
    let id = net.ends[1].open(net.now, request(Mode::ReliableOrdered)).unwrap();
    net.rest(Duration::from_secs(2));
    assert!(net.saw(1, &Event::Refused { channel: id, why: Refusal::TooMany }));
    assert!(net.ends.iter().all(|end| end.channel_count() <= CHANNELS_MAX));
}

#[test]
fn writers_are_told_when_there_is_room_again() {
    let mut net = Net::new(Faults::clean(5), 1);
    let id = net.open(Mode::ReliableOrdered);
    let room = net.ends[0].write_room(id);
    assert_eq!(net.ends[0].write(id, Bytes::from(vec![1; room + 5])), Ok(room));
    assert_eq!(net.ends[0].write(id, Bytes::from_static(b"x")), Ok(0));
    net.run(Duration::from_secs(5), |net| {
        net.read_all(1, id);
        net.saw(0, &Event::Writable(id))
    });
    assert!(net.ends[0].write_room(id) > 0);
    assert_eq!(net.ends[0].carriers().collect::<Vec<_>>(), [(CarrierId(1), true)]);
}

#[test]
fn readers_who_read_nothing_leave_the_others_their_speed() {
    let mut net = Net::new(Faults::clean(5), 1);
    let idle: Vec<ChannelId> = (0..200).map(|_| net.open(Mode::ReliableOrdered)).collect();
    for _ in 0..20 {
        for id in &idle {
            while net.ends[0].write(*id, Bytes::from(vec![1; 65_536])).unwrap() > 0 {}
        }
        net.rest(Duration::from_millis(50));
    }
    let (unsent, held) = (net.ends[0].send_unsent, net.ends[0].send_buffered);
    assert!(unsent == held && unsent <= SESSION_UNSENT + 200 * SEND_BUFFER_SHARE, "{unsent} of {held} bytes");

    let id = net.open(Mode::ReliableOrdered);
    let (mut transfer, begun) = (Transfer::new(0, id, 8_000_000), net.now.instant);
    // Who writes is told of room as soon as something left.
    net.run(Duration::from_secs(60), |net| {
        loop {
            let (written, done) = (transfer.written, transfer.advance(net));
            if done || transfer.written == written {
                return done;
            }
        }
    });
    let took = net.now.instant - begun;
    assert!(took < Duration::from_millis(500), "eight megabytes over a round trip of ten milliseconds: {took:?}");
}
