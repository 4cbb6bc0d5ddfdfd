//! What the guard holds, and what it says to a packet.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::Name;
use tarnet_core::crypto::ServiceId;

use crate::dns::answer::{self, Answer, encode_udp, question};
use crate::dns::forward::Forwarder;
use crate::dns::names::{self, Asked};
use crate::tun::Device;
use crate::tun::packet::{self, Datagram, Packet, Quote, Unreachable};
use crate::tun::plan::Addresses;

pub use crate::tun::PACKET_BYTES_MAX;

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// The top-level domain that is asked of nobody (RFC 9476 §2).
const ALT: &str = "alt";

/// What is held for the daemon.
pub struct Held {
    /// The device.
    pub device: Device,
    /// What is ours.
    pub known: Arc<Known>,
    /// Who is asked for other names; `None`: nobody.
    pub forwarder: Option<Arc<Forwarder>>,
}

/// What is ours.
#[derive(Debug, Clone)]
pub struct Known {
    /// Our prefixes.
    pub addresses: Addresses,
    /// The labels of our suffix.
    pub suffix: Vec<String>,
    /// The names of the acting identity's zone.
    pub petnames: BTreeSet<String>,
}

/// What to do about a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nothing,
    /// Send this back.
    Packet(Vec<u8>),
    /// Ask others.
    Ask(Question),
}

/// A question that is not for us.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// The message.
    pub message: Vec<u8>,
    /// Who asks.
    pub from: SocketAddr,
    /// Whom he asked: us.
    pub to: SocketAddr,
}

impl Known {
    /// What to do about a packet from our kernel. Connections that the daemon had are reset: they are lost.
    pub fn reply(&self, forwards: bool, bytes: &[u8]) -> Reply {
        let Some(packet) = Packet::parse(bytes) else { return Reply::Nothing };
        let strays = !self.addresses.routes(packet.destination) || packet.source.is_unspecified();
        let later = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
        if strays || later || packet.is_icmp_error() {
            return Reply::Nothing;
        }
        let (v4, v6) = self.addresses.dns();
        let to_dns = packet.destination == v4 || packet.destination == v6;
        if let Some(datagram) = packet.datagram().filter(|datagram| to_dns && datagram.destination.port() == DNS_PORT) {
            return self.dns_reply(forwards, &datagram);
        }
        let mut out = Vec::new();
        let built = match packet.segment() {
            Some(segment) if segment.reset => return Reply::Nothing,
            Some(segment) if !segment.opens => packet::reset(&mut out, &packet),
            _ => packet::unreachable(&mut out, &Quote::of(&packet), Unreachable::Host),
        };
        built.map_or(Reply::Nothing, |()| Reply::Packet(out))
    }

    /// What to say to a question: nothing is known of names that may be ours, and nobody else hears of them.
    fn dns_reply(&self, forwards: bool, datagram: &Datagram<'_>) -> Reply {
        let Ok(request) = Message::from_vec(datagram.payload) else { return Reply::Nothing };
        if request.metadata.message_type == MessageType::Response {
            return Reply::Nothing;
        }
        let foreign = question(&request).is_some_and(|query| !self.owns(query.name()));
        if forwards && foreign {
            let message = datagram.payload.to_vec();
            return Reply::Ask(Question { message, from: datagram.source, to: datagram.destination });
        }
        let message = answer::message(&request, Answer::Code(ResponseCode::ServFail), &Name::root());
        let mut out = Vec::new();
        let built = encode_udp(&request, &message)
            .and_then(|answer| packet::udp(&mut out, datagram.destination, datagram.source, &answer));
        built.map_or(Reply::Nothing, |()| Reply::Packet(out))
    }

    /// The line of the resolve socket for a question (see [`crate::resolve`]): ours and not now, or not ours.
    pub fn line(&self, question: &str) -> &'static str {
        let words: Vec<&str> = question.splitn(4, ' ').collect();
        let ours = match words.as_slice() {
            [_, "addr", address] => address.parse().is_ok_and(|address| self.addresses.routes(address)),
            [_, name] => Name::from_utf8(name).is_ok_and(|name| self.owns(&name)),
            _ => false,
        };
        if ours { "fail" } else { "none" }
    }

    /// Whether a name may be ours.
    fn owns(&self, name: &Name) -> bool {
        match names::sort(name, &self.suffix) {
            Asked::Suffix | Asked::Suffixed(_) => true,
            Asked::Foreign => false,
            Asked::Bare(name) => {
                let label = name.rsplit('.').next().unwrap_or_default();
                label == ALT || self.petnames.contains(label) || label.parse::<ServiceId>().is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::RecordType;

    use super::*;

    /// The guard of a zone with `alice`.
    fn known() -> Known {
        let addresses = Addresses::parse("198.18.0.0/15", "fd12:3456:789a::/48").unwrap();
        Known { addresses, suffix: names::suffix_labels("tarnet.alt"), petnames: BTreeSet::from(["alice".into()]) }
    }

    /// What it says to a packet.
    fn said(forwards: bool, bytes: &[u8]) -> Reply {
        known().reply(forwards, bytes)
    }

    #[test]
    fn the_resolve_socket_says_what_is_ours_and_no_more() {
        for (line, answer) in [
            ("@ alice", "fail"),
            ("@ Blog.Alice.", "fail"),
            ("@ x.tarnet.alt", "fail"),
            ("@ www.example.org", "none"),
            ("@ addr 198.18.3.4", "fail"),
            ("@ addr fd12:3456:789a::9", "fail"),
            ("@ addr 192.0.2.1", "none"),
            ("self", "none"),
            ("", "none"),
            ("@ a b c", "none"),
        ] {
            assert_eq!(known().line(line), answer, "{line:?}");
        }
    }

    /// A question in a packet to the responder.
    fn asks(name: &str) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let mut out = Vec::new();
        let (from, to) = ("198.18.0.1:4000".parse().unwrap(), "198.18.0.2:53".parse().unwrap());
        packet::udp(&mut out, from, to, &message.to_vec().unwrap()).unwrap();
        out
    }

    /// A TCP header with these flags, in a packet.
    fn segment(destination: &str, flags: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let from = "198.18.0.1:4000".parse().unwrap();
        packet::udp(&mut out, from, destination.parse().unwrap(), &[0; 12]).unwrap();
        out[9] = packet::TCP;
        out[20 + 12..20 + 14].copy_from_slice(&[0x50, flags]);
        out
    }

    #[test]
    fn names_of_ours_fail_and_others_go_where_they_are_forwarded() {
        for (name, ours) in [
            ("alice.", true),
            ("blog.ALICE.", true),
            ("nobody.tarnet.alt.", true),
            ("tarnet.alt.", true),
            ("anything.alt.", true),
            ("www.example.org.", false),
            ("alice.example.org.", false),
            ("1.0.18.198.in-addr.arpa.", false),
        ] {
            let Reply::Packet(packet) = said(false, &asks(name)) else { panic!("{name}") };
            let datagram = Packet::parse(&packet).unwrap().datagram().unwrap();
            assert_eq!(datagram.destination.to_string(), "198.18.0.1:4000");
            let answer = Message::from_vec(datagram.payload).unwrap();
            assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::ServFail), "{name}");
            assert_eq!(answer.queries.len(), 1);
            match said(true, &asks(name)) {
                Reply::Ask(question) => assert!(!ours && question.from.port() == 4000, "{name}"),
                reply => assert!(ours && matches!(reply, Reply::Packet(_)), "{name}"),
            }
        }
    }

    #[test]
    fn who_connects_is_told_at_once_and_what_was_connected_is_reset() {
        let kind = |reply: Reply| match reply {
            Reply::Packet(packet) => {
                let packet = Packet::parse(&packet).unwrap();
                (packet.protocol, packet.payload[..2].to_vec())
            }
            reply => panic!("{reply:?}"),
        };
        assert_eq!(kind(said(false, &segment("198.18.9.9:80", 0x02))), (packet::ICMP, vec![3, 1]));
        assert_eq!(kind(said(false, &segment("198.18.0.2:53", 0x02))).0, packet::ICMP);
        assert_eq!(kind(said(false, &segment("198.18.9.9:80", 0x10))).0, packet::TCP);
        let mut datagram = Vec::new();
        packet::udp(&mut datagram, "198.18.0.1:9".parse().unwrap(), "198.18.9.9:443".parse().unwrap(), b"x").unwrap();
        let Reply::Packet(error) = said(false, &datagram) else { panic!() };
        // An error about an error, a reset for a reset, and what is not for us are left alone.
        assert_eq!(said(false, &error), Reply::Nothing);
        assert_eq!(said(false, &segment("198.18.9.9:80", 0x04)), Reply::Nothing);
        assert_eq!(said(false, &segment("192.0.2.1:80", 0x02)), Reply::Nothing);
    }

    proptest::proptest! {
        #[test]
        fn anything_may_come(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), v4: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = if v4 { 0x45 } else { 0x60 };
            }
            let _ = said(true, &bytes);
            if bytes.len() > 40 && v4 {
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
                bytes[6..8].fill(0);
                bytes[16..20].copy_from_slice(&[198, 18, 0, 2]);
                let _ = said(true, &bytes);
            }
        }
    }
}
