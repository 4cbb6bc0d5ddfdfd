//! What must not work: repeats, damage, and peers that break the rules.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::net::{Faults, Net, Transfer};
use crate::crypto::Aead;
use crate::session::Mode;
use crate::session::established::packet::Sealer;
use crate::session::established::{CarrierId, CloseCode, Error, Event, Violation};
use crate::time::Instant;
use crate::wire::session_packet::{Ack, Frame, HEADER_LEN, Message, Open};

/// Seals frames as the initiator of [`Net`] would, on a circuit of their own.
struct Liar(Sealer, u64);

impl Liar {
    fn new() -> Self {
        Self(Sealer::new(Instant::ZERO, Aead::Aegis256X2, &[1; 32]), 0)
    }

    fn packet(&mut self, frames: &[u8]) -> BytesMut {
        let mut packet = BytesMut::zeroed(HEADER_LEN);
        packet.put_slice(frames);
        self.1 += 1;
        self.0.seal(Instant::ZERO, 1_000, self.1, &mut packet);
        packet
    }

    fn tell(&mut self, net: &mut Net, frames: &[Frame<'_>]) -> Result<(), Error> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        let packet = self.packet(&bytes);
        net.ends[1].handle_packet(net.now, CarrierId(1), packet, false)
    }
}

fn open_frame(channel: u64, mode: Mode) -> Frame<'static> {
    Frame::Open(Open { channel, mode: mode.code(), port: "1", label: None, early: b"" })
}

#[test]
fn repeated_and_damaged_packets_change_nothing() {
    let mut net = Net::new(Faults::clean(5), 1);
    net.capture = true;
    let id = net.open(Mode::ReliableOrdered);
    let mut transfer = Transfer::new(0, id, 200_000);
    net.run(Duration::from_secs(5), |net| transfer.advance(net));
    net.rest(Duration::from_millis(50));
    let before = net.ends[1].counters().packets_received;
    for (to, carrier, packet) in std::mem::take(&mut net.captured) {
        let mut bad = packet.clone();
        bad[packet.len() / 2] ^= 1;
        assert_eq!(net.ends[to].handle_packet(net.now, carrier, bad, false), Err(Error::Unauthentic));
        assert_eq!(net.ends[to].handle_packet(net.now, CarrierId(9), packet.clone(), false), Err(Error::Repeated));
        let reflected = net.ends[1 - to].handle_packet(net.now, carrier, packet, false);
        assert_eq!(reflected, Err(Error::Unauthentic), "each direction has its own keys");
    }
    assert_eq!(net.ends[1].counters().packets_received, before);
    assert!(net.ends[1].closed().is_none());
    assert_eq!(net.read_all(1, id), Vec::<Bytes>::new());
}

#[test]
fn every_broken_rule_closes_the_session_and_names_itself() {
    let ack =
        |circuit, last| Frame::Ack(Ack { circuit, delay_us: 0, marked: 0, ranges: [(0, last)].as_slice().into() });
    let data = |channel, offset| Frame::Data { channel, offset, bytes: b"x", fin: false };
    let stream = || open_frame(0, Mode::ReliableOrdered);
    let message = Frame::Message(Message { channel: 0, id: 0, total: 1, offset: 0, bytes: b"x" });
    let cases: Vec<(Vec<Frame<'_>>, Error)> = vec![
        (vec![ack(0, 1_000)], Error::Misbehaved("acknowledges what was never sent")),
        (vec![ack(7, 0)], Error::Misbehaved("unknown circuit")),
        (vec![open_frame(1, Mode::ReliableOrdered)], Error::Misbehaved("channel number of the other side")),
        (vec![data(4, 0)], Error::Misbehaved("channel was never opened")),
        (vec![data(1, 0)], Error::Misbehaved("channel was never opened")),
        (vec![Frame::Refused { channel: 1, why: 1 }], Error::Misbehaved("channel was never opened")),
        (vec![stream(), Frame::Refused { channel: 0, why: 1 }], Error::Misbehaved("refuses an open channel")),
        (vec![stream(), Frame::Refused { channel: 0, why: 99 }], Error::Misbehaved("unknown refusal")),
        (vec![stream(), data(0, 1 << 20)], Error::Violation(Violation::Credit)),
        (vec![stream(), message.clone()], Error::Misbehaved("message on a byte channel")),
        (vec![open_frame(0, Mode::UnreliableUnordered), data(0, 0)], Error::Misbehaved("bytes on a message channel")),
        (vec![stream(), data(0, 9), Frame::Reset { channel: 0, end: 3 }], Error::Violation(Violation::FinalSize)),
        (vec![stream(), Frame::Reset { channel: 0, end: u64::MAX }], Error::Violation(Violation::Credit)),
    ];
    for (frames, want) in cases {
        let mut net = Net::new(Faults::clean(5), 1);
        assert_eq!(Liar::new().tell(&mut net, &frames), Err(want), "{frames:?}");
        assert_eq!(net.ends[1].closed(), Some(CloseCode::Violation));
        net.rest(Duration::from_secs(1));
        assert!(net.saw(0, &Event::SessionClosed(CloseCode::Violation)), "the peer is told");
        assert_eq!(Liar::new().tell(&mut net, &[Frame::Ping]), Err(Error::Closed));
    }
}

#[test]
fn session_credit_bounds_what_many_channels_hold() {
    let mut net = Net::new(Faults::clean(5), 1);
    let mut liar = Liar::new();
    let bytes = vec![1; 16_000];
    let mut held = 0;
    let refused = (0..5_000u64).find_map(|index| {
        let channel = index * 2;
        liar.tell(&mut net, &[open_frame(channel, Mode::ReliableOrdered)]).unwrap();
        (0..16).find_map(|piece| {
            let data = Frame::Data { channel, offset: piece * 16_000, bytes: &bytes, fin: false };
            held += 16_000;
            liar.tell(&mut net, &[data]).err()
        })
    });
    assert_eq!(refused, Some(Error::Violation(Violation::Credit)));
    assert!(held <= 64 * 1024 * 1024 + 16_000);
}

#[test]
fn a_flood_of_opens_is_bounded() {
    let mut net = Net::new(Faults::clean(5), 1);
    let mut liar = Liar::new();
    net.ends[1].remove_carrier(net.now, CarrierId(1));
    let result =
        (0..200_000u64).find_map(|index| liar.tell(&mut net, &[open_frame(index * 2, Mode::ReliableOrdered)]).err());
    assert_eq!(result, Some(Error::Misbehaved("too many answers provoked")));
}

proptest! {
    #[test]
    fn authentic_nonsense_never_panics(packets in prop::collection::vec((0u8..0x10, prop::collection::vec(0u8..8, 0..20)), 1..30)) {
        let mut net = Net::new(Faults::clean(5), 1);
        let mut liar = Liar::new();
        let _ = liar.tell(&mut net, &[open_frame(0, Mode::ReliableOrdered), open_frame(2, Mode::ReliableUnordered)]);
        for (kind, mut bytes) in packets {
            bytes.insert(0, kind);
            let packet = liar.packet(&bytes);
            let result = net.ends[1].handle_packet(net.now, CarrierId(1), packet, false);
            prop_assert!(net.ends[1].closed().is_some() || !result.is_err_and(|error| error.fatal()));
            net.ends[1].handle_timeout(net.now);
            while net.ends[1].poll_transmit(net.now, &mut |_| true).is_some() {}
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes: Vec<u8>) {
        let mut net = Net::new(Faults::clean(5), 1);
        let result = net.ends[1].handle_packet(net.now, CarrierId(1), BytesMut::from(&bytes[..]), false);
        prop_assert_eq!(result, Err(Error::Unauthentic));
    }
}
