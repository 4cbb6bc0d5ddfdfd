//! IP packets of the TUN: reading the fields that the demultiplexer needs, and building
//! the few packets that do not come from the TCP stack (UDP, ICMP, resets).
//!
//! Reading is total: anything that is not a well-formed packet is `None`. Checksums of
//! packets from our own kernel are not verified; ours are always filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMP_V6: u8 = 58;

/// Hop limit of every packet we build.
const HOP_LIMIT: u8 = 64;
/// Extension headers that are walked before a packet counts as malformed.
const EXTENSIONS_MAX: usize = 8;
/// Bytes of an IPv4 header without options.
const V4_HEADER: usize = 20;
/// Bytes of the IPv6 header.
const V6_HEADER: usize = 40;
/// Largest ICMP error (RFC 1812 §4.3.2.3 for IPv4; far under RFC 4443 §2.4's 1280 for IPv6).
const ICMP_ERROR_MAX: usize = 576;

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The sender's identification of the datagram.
    pub id: u32,
    /// Bytes before this fragment's payload.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
}

/// One packet, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Transport protocol number.
    pub protocol: u8,
    /// What follows the IP headers.
    pub payload: &'a [u8],
    /// Set when it is a fragment.
    pub fragment: Option<Fragment>,
    /// The whole packet, without trailing bytes.
    pub bytes: &'a [u8],
}

/// What of a TCP header decides where a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// A SYN without ACK, RST or FIN: the start of a connection.
    pub opens: bool,
    /// RST is set.
    pub reset: bool,
}

/// A UDP datagram, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Why a packet cannot be delivered, as ICMP says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing answers at that address: EHOSTUNREACH.
    Host,
    /// No way to the network: ENETUNREACH.
    Net,
    /// Somebody forbids it: EHOSTUNREACH (IPv4), EACCES (IPv6).
    Prohibited,
    /// Nobody listens on that UDP port: ECONNREFUSED.
    Port,
}

/// A big-endian 16-bit field; `None` beyond the end.
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A big-endian 32-bit field; `None` beyond the end.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Packet<'a> {
    /// Reads the IP headers.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    /// IPv4 (RFC 791 §3.1).
    fn parse_v4(bytes: &'a [u8]) -> Option<Self> {
        let header = usize::from(bytes.first()? & 0x0f) * 4;
        let total = usize::from(be16(bytes, 2)?);
        if header < V4_HEADER || total < header {
            return None;
        }
        let bytes = bytes.get(..total)?;
        let flags = be16(bytes, 6)?;
        let more = flags & 0x2000 != 0;
        let offset = usize::from(flags & 0x1fff) * 8;
        let fragment = (more || offset != 0).then_some(Fragment { id: u32::from(be16(bytes, 4)?), offset, more });
        Some(Self {
            source: Ipv4Addr::from(be32(bytes, 12)?).into(),
            destination: Ipv4Addr::from(be32(bytes, 16)?).into(),
            protocol: *bytes.get(9)?,
            payload: bytes.get(header..)?,
            fragment,
            bytes,
        })
    }

    /// IPv6 and its extension headers (RFC 8200 §3, §4).
    fn parse_v6(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.get(..V6_HEADER + usize::from(be16(bytes, 4)?))?;
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        };
        let (mut protocol, mut at, mut fragment) = (*bytes.get(6)?, V6_HEADER, None);
        for _ in 0..EXTENSIONS_MAX {
            match protocol {
                // Hop-by-hop, routing, destination options.
                0 | 43 | 60 => {
                    protocol = *bytes.get(at)?;
                    at += 8 + usize::from(*bytes.get(at + 1)?) * 8;
                }
                44 => {
                    let field = be16(bytes, at + 2)?;
                    let (offset, more) = (usize::from(field & 0xfff8), field & 1 != 0);
                    fragment = (more || offset != 0).then_some(Fragment { id: be32(bytes, at + 4)?, offset, more });
                    protocol = *bytes.get(at)?;
                    at += 8;
                    if offset != 0 {
                        break;
                    }
                }
                _ => break,
            }
        }
        let (source, destination) = (address(8)?, address(24)?);
        Some(Self { source, destination, protocol, payload: bytes.get(at..)?, fragment, bytes })
    }

    /// Its TCP header; `None` when it is not TCP or malformed.
    #[must_use]
    pub fn segment(&self) -> Option<Segment> {
        let header = usize::from(self.payload.get(12)? >> 4) * 4;
        if self.protocol != TCP || self.fragment.is_some() || header < 20 || header > self.payload.len() {
            return None;
        }
        let flags = *self.payload.get(13)?;
        Some(Segment {
            source: SocketAddr::new(self.source, be16(self.payload, 0)?),
            destination: SocketAddr::new(self.destination, be16(self.payload, 2)?),
            sequence: be32(self.payload, 4)?,
            opens: flags & 0b1_0111 == 0b0_0010,
            reset: flags & 0b0_0100 != 0,
        })
    }

    /// Its UDP datagram; `None` when it is not UDP or malformed.
    #[must_use]
    pub fn datagram(&self) -> Option<Datagram<'a>> {
        if self.protocol != UDP || self.fragment.is_some() {
            return None;
        }
        Datagram::parse(self.source, self.destination, self.payload)
    }

    /// Identifier, sequence and data of an ICMP echo request.
    #[must_use]
    pub fn echo_request(&self) -> Option<&'a [u8]> {
        let kind = match self.protocol {
            ICMP => 8,
            ICMP_V6 => 128,
            _ => return None,
        };
        let matches = self.fragment.is_none() && self.payload.first() == Some(&kind) && self.payload.get(1) == Some(&0);
        matches.then(|| self.payload.get(4..)).flatten().filter(|rest| rest.len() >= 4)
    }

    /// Whether it is an ICMP error, which is never answered with another (RFC 1122 §3.2.2).
    #[must_use]
    pub fn is_icmp_error(&self) -> bool {
        match (self.protocol, self.payload.first()) {
            (ICMP, Some(kind)) => !matches!(kind, 0 | 8 | 13..=18),
            (ICMP_V6, Some(kind)) => *kind < 128,
            _ => false,
        }
    }
}

impl<'a> Datagram<'a> {
    /// Reads a UDP header and its payload (RFC 768).
    #[must_use]
    pub fn parse(source: IpAddr, destination: IpAddr, payload: &'a [u8]) -> Option<Self> {
        let length = usize::from(be16(payload, 4)?);
        Some(Self {
            source: SocketAddr::new(source, be16(payload, 0)?),
            destination: SocketAddr::new(destination, be16(payload, 2)?),
            payload: payload.get(8..length)?,
        })
    }
}

/// Writes the IP header for `payload_len` bytes of `protocol`; `None` when the families differ or it is too long.
fn ip_header(out: &mut Vec<u8>, source: IpAddr, destination: IpAddr, protocol: u8, payload_len: usize) -> Option<()> {
    out.clear();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(V4_HEADER + payload_len).ok()?;
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&total.to_be_bytes());
            // Identification 0 with "don't fragment" set: it is never fragmented (RFC 6864 §4.1).
            out.extend_from_slice(&[0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
            fill_v4_checksum(out);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&u16::try_from(payload_len).ok()?.to_be_bytes());
            out.extend_from_slice(&[protocol, HOP_LIMIT]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        _ => return None,
    }
    Some(())
}

/// Fills in the checksum of an IPv4 header without options, the start of `packet`.
pub fn fill_v4_checksum(packet: &mut [u8]) {
    if let Some(header) = packet.get_mut(..V4_HEADER) {
        header[10..12].fill(0);
        let sum = !fold(add(0, header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Builds a UDP packet into `out`; `None` when it does not fit one packet.
pub fn udp(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr, data: &[u8]) -> Option<()> {
    let length = u16::try_from(data.len() + 8).ok()?;
    ip_header(out, source.ip(), destination.ip(), UDP, usize::from(length))?;
    let start = out.len();
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(data);
    let sum = transport_sum(source.ip(), destination.ip(), UDP, &out[start..]);
    // A sum of zero means "none" on the wire and is sent as all ones (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    out[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Builds an ICMP error about `original` into `out`, as if its destination had sent it.
/// `original` may be cut after [`super::limits::QUOTE_BYTES_MAX`] bytes.
pub fn unreachable(out: &mut Vec<u8>, original: &Quote, why: Unreachable) -> Option<()> {
    let (protocol, kind, code) = match (original.destination, why) {
        (IpAddr::V4(_), Unreachable::Net) => (ICMP, 3, 0),
        (IpAddr::V4(_), Unreachable::Host) => (ICMP, 3, 1),
        (IpAddr::V4(_), Unreachable::Port) => (ICMP, 3, 3),
        (IpAddr::V4(_), Unreachable::Prohibited) => (ICMP, 3, 13),
        (IpAddr::V6(_), Unreachable::Net) => (ICMP_V6, 1, 0),
        (IpAddr::V6(_), Unreachable::Prohibited) => (ICMP_V6, 1, 1),
        (IpAddr::V6(_), Unreachable::Host) => (ICMP_V6, 1, 3),
        (IpAddr::V6(_), Unreachable::Port) => (ICMP_V6, 1, 4),
    };
    let quoted = &original.head[..original.head.len().min(ICMP_ERROR_MAX - V6_HEADER - 8)];
    let head = [kind, code, 0, 0, 0, 0, 0, 0];
    icmp(out, original.destination, original.source, protocol, &head, quoted)
}

/// Builds the answer to an echo request into `out`; `rest` is what [`Packet::echo_request`] gave.
pub fn echo_reply(out: &mut Vec<u8>, source: IpAddr, destination: IpAddr, rest: &[u8]) -> Option<()> {
    let (protocol, kind) = if source.is_ipv4() { (ICMP, 0) } else { (ICMP_V6, 129) };
    icmp(out, source, destination, protocol, &[kind, 0, 0, 0], rest)
}

/// Builds an ICMP message from its head, whose checksum field is zero, and its body.
fn icmp(out: &mut Vec<u8>, source: IpAddr, destination: IpAddr, protocol: u8, head: &[u8], body: &[u8]) -> Option<()> {
    ip_header(out, source, destination, protocol, head.len() + body.len())?;
    let start = out.len();
    out.extend_from_slice(head);
    out.extend_from_slice(body);
    let sum = if protocol == ICMP {
        !fold(add(0, &out[start..]))
    } else {
        transport_sum(source, destination, protocol, &out[start..])
    };
    out[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Builds the reset that answers a segment of no connection (RFC 9293 §3.5.2).
pub fn reset(out: &mut Vec<u8>, packet: &Packet<'_>) -> Option<()> {
    let (sequence, acknowledged) = (be32(packet.payload, 4)?, be32(packet.payload, 8)?);
    let (header, flags) = (usize::from(packet.payload.get(12)? >> 4) * 4, *packet.payload.get(13)?);
    let data = u32::try_from(packet.payload.len().checked_sub(header)?).ok()?;
    ip_header(out, packet.destination, packet.source, TCP, 20)?;
    let start = out.len();
    out.extend_from_slice(packet.payload.get(2..4)?);
    out.extend_from_slice(packet.payload.get(..2)?);
    if flags & 0x10 != 0 {
        out.extend_from_slice(&acknowledged.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0, 0x50, 0x04]);
    } else {
        let controls = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        out.extend_from_slice(&[0, 0, 0, 0]);
        out.extend_from_slice(&sequence.wrapping_add(data).wrapping_add(controls).to_be_bytes());
        out.extend_from_slice(&[0x50, 0x14]);
    }
    out.extend_from_slice(&[0; 6]);
    let sum = transport_sum(packet.destination, packet.source, TCP, &out[start..]);
    out[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// The head of a packet, kept to quote it in an ICMP error later.
#[derive(Debug, Clone)]
pub struct Quote {
    source: IpAddr,
    destination: IpAddr,
    head: Box<[u8]>,
}

impl Quote {
    /// Keeps the first [`super::limits::QUOTE_BYTES_MAX`] bytes of a packet.
    #[must_use]
    pub fn of(packet: &Packet<'_>) -> Self {
        let length = packet.bytes.len().min(super::limits::QUOTE_BYTES_MAX);
        Self { source: packet.source, destination: packet.destination, head: packet.bytes[..length].into() }
    }
}

/// Adds `bytes` to a ones'-complement sum (RFC 1071).
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let sum = pairs.iter().fold(sum, |sum, pair| sum + u64::from(u16::from_be_bytes(*pair)));
    last.first().map_or(sum, |last| sum + (u64::from(*last) << 8))
}

/// Folds a sum to 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum of a transport message under its pseudo-header (RFC 8200 §8.1, RFC 9293 §3.1).
fn transport_sum(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let octets = |sum: u64, address: IpAddr| match address {
        IpAddr::V4(address) => add(sum, &address.octets()),
        IpAddr::V6(address) => add(sum, &address.octets()),
    };
    let sum = octets(octets(u64::from(protocol), source), destination);
    // The length is added as two 16-bit words; a message of one packet fits the lower.
    let length = u64::try_from(message.len()).unwrap_or(0);
    !fold(add(sum + length, message))
}

#[cfg(test)]
mod tests;
