//! Spoiled packets: read or not, answered within bounds, and fragments that never fit together.

use std::time::{Duration, Instant};

use super::*;
use crate::fuzz::{TARGETS, engine::Fuzz};
use crate::tun::fragments::Fragments;
use crate::tun::journal;

/// Honest packets, some of them fragments.
fn samples() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (source, destination) in pairs() {
        out.extend([segment(source, destination, 2, b""), segment(source, destination, 0x18, &[7; 300])]);
        let mut packet = Vec::new();
        udp(&mut packet, SocketAddr::new(source, 40_000), SocketAddr::new(destination, 53), &[1; 200]).unwrap();
        out.push(packet.clone());
        if source.is_ipv4() {
            // Its first and its last half.
            packet[6] = 0x20;
            out.push(packet.clone());
            packet[6..8].copy_from_slice(&[0, 26]);
            out.push(packet.clone());
        }
        echo_reply(&mut packet, source, destination, &[0, 1, 0, 2, 9, 9]).unwrap();
        out.push(packet.clone());
        let quote = Quote::of(&Packet::parse(&out[0]).unwrap());
        unreachable(&mut packet, &quote, Unreachable::Port).unwrap();
        out.push(packet);
    }
    out
}

#[test]
fn spoiled_packets_are_read_and_answered_within_bounds() {
    let mut fuzz = Fuzz::new("packets", TARGETS);
    let samples = samples();
    let (mut fragments, start) = (Fragments::default(), Instant::now());
    let (mut out, mut step) = (Vec::new(), 0u32);
    let rows = journal::encode_all(&[]);
    while fuzz.goes_on() {
        let sample = fuzz.pick(&samples).clone();
        let bytes = fuzz.spoil(&sample);
        assert!(journal::decode_all(&[&rows[..], &bytes].concat()).entries.len() <= bytes.len());
        let Some(packet) = Packet::parse(&bytes) else { continue };
        assert!(packet.payload.len() <= bytes.len());
        let _ = (packet.segment(), packet.datagram(), packet.is_icmp_error());
        if let Some(rest) = packet.echo_request() {
            echo_reply(&mut out, packet.destination, packet.source, rest);
        }
        let _ = reset(&mut out, &packet);
        for why in [Unreachable::Host, Unreachable::Net, Unreachable::Prohibited, Unreachable::Port] {
            if unreachable(&mut out, &Quote::of(&packet), why).is_some() {
                assert!(out.len() <= 1280, "an error is no larger than any link takes (RFC 4443 §2.4)");
                assert!(Packet::parse(&out).is_some_and(|error| error.is_icmp_error()), "and is one");
            }
        }
        step += 1;
        let whole = fragments.handle_fragment(start + Duration::from_millis(10) * step, &packet);
        assert!(whole.is_none_or(|(whole, _)| whole.len() <= 65_535));
    }
}
