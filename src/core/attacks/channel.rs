//! Attacks inside an established session: repeated packets, and a channel that would take all there is.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::net::{Faults, Net, Transfer};
use crate::crypto::Aead;
use crate::defence::{Defence, stops};
use crate::session::Mode;
use crate::session::established::packet::Sealer;
use crate::session::established::{CarrierId, Error, Violation};
use crate::time::Instant;
use crate::wire::session_packet::{Frame, HEADER_LEN, Open};

/// Seals frames as the first end of [`Net`] would, on a circuit of their own.
struct Peer {
    sealer: Sealer,
    number: u64,
}

impl Peer {
    /// A peer that follows no rule.
    fn new() -> Self {
        Self { sealer: Sealer::new(Instant::ZERO, Aead::Aegis256X2, &[1; 32]), number: 0 }
    }

    /// Sends frames to the second end.
    fn tell(&mut self, net: &mut Net, frame: &Frame<'_>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let mut packet = BytesMut::zeroed(HEADER_LEN);
        packet.put_slice(&bytes);
        self.number += 1;
        self.sealer.seal(Instant::ZERO, 1_000, self.number, &mut packet);
        net.ends[1].handle_packet(net.now, CarrierId(1), packet, false)
    }
}

/// Opens a stream.
fn open(channel: u64) -> Frame<'static> {
    Frame::Open(Open { channel, mode: Mode::ReliableOrdered.code(), port: "1", label: None, early: b"" })
}

#[test]
fn a_packet_that_is_sent_again_is_not_looked_into_again() {
    stops(Defence::PacketOnce, || {
        let mut net = Net::new(Faults::clean(5), 1);
        net.capture = true;
        let id = net.open(Mode::ReliableOrdered);
        let mut transfer = Transfer::new(0, id, 50_000);
        net.run(Duration::from_secs(5), |net| transfer.advance(net));
        net.rest(Duration::from_millis(50));
        let repeats: Vec<_> = std::mem::take(&mut net.captured);
        let taken = repeats.into_iter().filter(|(to, carrier, packet)| {
            let result = net.ends[*to].handle_packet(net.now, *carrier, packet.clone(), false);
            assert!(matches!(result, Ok(()) | Err(Error::Repeated)), "{result:?}");
            result.is_ok()
        });
        let taken = taken.count();
        assert_eq!(net.read_all(1, id), Vec::<Bytes>::new(), "nothing is heard twice in any case");
        taken > 0
    });
}

#[test]
fn a_channel_that_nobody_reads_leaves_the_others_their_credit() {
    stops(Defence::ChannelCredit, || {
        let mut net = Net::new(Faults::clean(5), 1);
        let mut greedy = Peer::new();
        greedy.tell(&mut net, &open(0)).unwrap();
        greedy.tell(&mut net, &open(2)).unwrap();
        let bytes = vec![1; 16_000];
        // As much as the session as a whole may hold.
        for piece in 0..4194 {
            let data = Frame::Data { channel: 0, offset: piece * 16_000, bytes: &bytes, fin: false };
            if greedy.tell(&mut net, &data).is_err() {
                return false;
            }
        }
        let other = Frame::Data { channel: 2, offset: 0, bytes: &bytes, fin: false };
        greedy.tell(&mut net, &other) == Err(Error::Violation(Violation::Credit))
    });
}

#[test]
fn a_slow_reader_stalls_its_own_channel_only() {
    let mut net = Net::new(Faults::clean(5), 1);
    let (slow, quick) = (net.open(Mode::ReliableOrdered), net.open(Mode::ReliableOrdered));
    let offered = Bytes::from(vec![7; 4 << 20]);
    let mut taken = 0;
    for _ in 0..50 {
        taken += net.ends[0].write(slow, offered.slice(taken..)).unwrap();
        net.rest(Duration::from_millis(20));
    }
    assert!(taken < offered.len(), "what nobody reads is not taken without end");
    let mut transfer = Transfer::new(0, quick, 1 << 20);
    net.run(Duration::from_secs(5), |net| transfer.advance(net));
    let read: usize = net.read_all(1, slow).iter().map(Bytes::len).sum();
    assert!(read > 0, "and its bytes are there when it does read");
}
