//! Packets built and read back, and broken ones.

mod fuzz;

use proptest::prelude::*;

use super::*;

/// A TCP segment with `flags` and `data`.
fn segment(source: IpAddr, destination: IpAddr, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ip_header(&mut out, source, destination, TCP, 20 + data.len()).unwrap();
    out.extend_from_slice(&[0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, 77, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(data);
    out
}

fn pairs() -> [(IpAddr, IpAddr); 2] {
    let v4 = ("198.18.0.1".parse().unwrap(), "198.18.0.9".parse().unwrap());
    [v4, ("fd00::1".parse().unwrap(), "fd00::9".parse().unwrap())]
}

/// Whether a transport message carries the right checksum: the sum over all of it is then zero.
fn checks(packet: &Packet<'_>) -> bool {
    if packet.protocol == ICMP {
        return fold(add(0, packet.payload)) == 0xffff;
    }
    transport_sum(packet.source, packet.destination, packet.protocol, packet.payload) == 0
}

#[test]
fn datagrams_round_trip_in_both_families_with_right_checksums() {
    for (source, destination) in pairs() {
        for data in [b"".as_slice(), b"x", b"hello", &[0xff; 1400]] {
            let (from, to) = (SocketAddr::new(source, 53), SocketAddr::new(destination, 4096));
            let mut bytes = Vec::new();
            udp(&mut bytes, from, to, data).unwrap();
            let packet = Packet::parse(&bytes).unwrap();
            let datagram = packet.datagram().unwrap();
            assert_eq!((datagram.source, datagram.destination, datagram.payload), (from, to, data));
            assert!(checks(&packet));
            if source.is_ipv4() {
                assert_eq!(fold(add(0, &bytes[..20])), 0xffff);
            }
        }
    }
    let mut out = Vec::new();
    let (from, to) = (SocketAddr::new(pairs()[0].0, 1), SocketAddr::new(pairs()[0].1, 2));
    assert!(udp(&mut out, from, to, &[0; 65_535]).is_none());
}

#[test]
fn a_syn_is_told_from_every_other_segment() {
    for (source, destination) in pairs() {
        for flags in 0..=u8::MAX {
            let bytes = segment(source, destination, flags, b"");
            let read = Packet::parse(&bytes).unwrap().segment().unwrap();
            let (fin, syn, rst, ack) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 16 != 0);
            assert_eq!(read.opens, syn && !fin && !rst && !ack);
            assert_eq!((read.reset, read.sequence, read.destination.port()), (rst, 9, 80));
        }
    }
}

#[test]
fn resets_answer_by_what_was_acknowledged() {
    for (source, destination) in pairs() {
        let mut out = Vec::new();
        let bytes = segment(source, destination, 0x10, b"data");
        reset(&mut out, &Packet::parse(&bytes).unwrap()).unwrap();
        let answer = Packet::parse(&out).unwrap();
        let read = answer.segment().unwrap();
        assert_eq!((read.sequence, read.source.port(), read.destination.port()), (77, 80, 40_000));
        assert!(read.reset && checks(&answer) && answer.payload[13] == 0x04);
        let bytes = segment(source, destination, 0x02, b"");
        reset(&mut out, &Packet::parse(&bytes).unwrap()).unwrap();
        let answer = Packet::parse(&out).unwrap();
        assert_eq!((be32(answer.payload, 8), answer.payload[13]), (Some(10), 0x14));
    }
}

#[test]
fn errors_quote_the_packet_and_come_from_its_destination() {
    for (source, destination) in pairs() {
        for why in [Unreachable::Host, Unreachable::Net, Unreachable::Prohibited, Unreachable::Port] {
            let original = segment(source, destination, 0x02, &[0; 900]);
            let quote = Quote::of(&Packet::parse(&original).unwrap());
            let mut out = Vec::new();
            unreachable(&mut out, &quote, why).unwrap();
            let error = Packet::parse(&out).unwrap();
            assert_eq!((error.source, error.destination), (destination, source));
            assert!(checks(&error) && error.is_icmp_error() && error.echo_request().is_none());
            assert_eq!(error.payload[8..], original[..error.payload.len() - 8]);
            assert!(out.len() <= ICMP_ERROR_MAX);
        }
    }
}

#[test]
fn echoes_are_answered_with_what_they_carried() {
    for (source, destination) in pairs() {
        let (protocol, kind) = if source.is_ipv4() { (ICMP, 8) } else { (ICMP_V6, 128) };
        let mut bytes = Vec::new();
        icmp(&mut bytes, source, destination, protocol, &[kind, 0, 0, 0], b"\x01\x02\x00\x03payload").unwrap();
        let request = Packet::parse(&bytes).unwrap();
        let rest = request.echo_request().unwrap();
        let mut out = Vec::new();
        echo_reply(&mut out, destination, source, rest).unwrap();
        let reply = Packet::parse(&out).unwrap();
        assert!(checks(&reply) && !reply.is_icmp_error() && reply.echo_request().is_none());
        assert_eq!(&reply.payload[4..], rest);
    }
}

#[test]
fn ipv6_fragments_are_seen_behind_extension_headers() {
    let (source, destination) = pairs()[1];
    let mut bytes = Vec::new();
    ip_header(&mut bytes, source, destination, 0, 8 + 8 + 16).unwrap();
    bytes.extend_from_slice(&[44, 0, 1, 4, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[17, 0, 0, 17, 0, 0, 0, 5]);
    bytes.extend_from_slice(&[9; 16]);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.fragment, Some(Fragment { id: 5, offset: 16, more: true }));
    assert_eq!((packet.protocol, packet.payload.len()), (17, 16));
    assert!(packet.datagram().is_none());
}

proptest! {
    /// Reading never panics, and never reads beyond the packet.
    #[test]
    fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in 4_u8..7, cut in 0_usize..200) {
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | (*first & 0x0f);
        }
        let bytes = &bytes[..cut.min(bytes.len())];
        if let Some(packet) = Packet::parse(bytes) {
            prop_assert!(packet.bytes.len() <= bytes.len());
            let _ = (packet.segment(), packet.datagram(), packet.echo_request(), packet.is_icmp_error());
            let mut out = Vec::new();
            let _ = (reset(&mut out, &packet), unreachable(&mut out, &Quote::of(&packet), Unreachable::Host));
        }
    }
}
