//! Putting fragmented UDP datagrams together, as a machine, and taking packets apart. Our
//! kernel fragments what is larger than the MTU, and so do we; TCP never is.
//!
//! Bounds: [`FRAGMENT_BYTES_MAX`] in all, the oldest datagram goes first; [`FRAGMENTS_MAX`]
//! pieces each; overlapping pieces discard the datagram (RFC 5722 §4). Timer: pieces older
//! than [`FRAGMENT_TIMEOUT`] are dropped when the next fragment comes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::limits::{FRAGMENT_BYTES_MAX, FRAGMENT_TIMEOUT, FRAGMENTS_MAX};
use super::packet::{Packet, Quote};

/// Largest reassembled payload.
const PAYLOAD_MAX: usize = 65_535;
/// Bytes of the IPv4 header of a packet of ours.
const V4_HEADER: usize = 20;
/// Bytes of the IPv6 header.
const V6_HEADER: usize = 40;
/// Bytes of IPv6's fragment header (RFC 8200 §4.5).
const V6_FRAGMENT: usize = 8;

/// Which datagram a fragment belongs to.
type Key = (IpAddr, IpAddr, u32);

/// A datagram of which pieces are missing.
struct Partial {
    since: Instant,
    pieces: BTreeMap<usize, Box<[u8]>>,
    bytes: usize,
    /// The piece with the transport header, which alone may be quoted in an ICMP error (RFC 1122 §3.2.2).
    first: Option<Quote>,
    /// Length of the whole, once its last piece came.
    total: Option<usize>,
}

/// Datagrams of which pieces are missing.
#[derive(Default)]
pub struct Fragments {
    partials: BTreeMap<Key, Partial>,
    bytes: usize,
    /// Datagrams given up: expired, overlapping or beyond a bound.
    pub dropped: u64,
}

impl Fragments {
    /// Takes a fragment; gives the whole transport payload, and what to quote of it, when it was the last one missing.
    pub fn handle_fragment(&mut self, now: Instant, packet: &Packet<'_>) -> Option<(Vec<u8>, Quote)> {
        let fragment = packet.fragment?;
        self.expire(now);
        let key = (packet.source, packet.destination, fragment.id);
        let end = fragment.offset + packet.payload.len();
        let fresh = Partial { since: now, pieces: BTreeMap::new(), bytes: 0, first: None, total: None };
        let partial = self.partials.entry(key).or_insert(fresh);
        let misplaced = partial.total.is_some_and(|total| end > total || (!fragment.more && end != total))
            || (fragment.more && !packet.payload.len().is_multiple_of(8))
            || packet.payload.is_empty()
            || end > PAYLOAD_MAX
            || partial.pieces.len() >= FRAGMENTS_MAX
            || overlaps(&partial.pieces, fragment.offset, end);
        if misplaced {
            self.drop_partial(&key);
            return None;
        }
        if !fragment.more {
            partial.total = Some(end);
        }
        if fragment.offset == 0 {
            partial.first = Some(Quote::of(packet));
        }
        partial.pieces.insert(fragment.offset, packet.payload.into());
        partial.bytes += packet.payload.len();
        self.bytes += packet.payload.len();
        if partial.total == Some(partial.bytes) {
            let whole = self.partials.remove(&key)?;
            self.bytes -= whole.bytes;
            return Some((whole.pieces.into_values().flatten().collect(), whole.first?));
        }
        self.shrink();
        None
    }

    /// Drops what is too old.
    fn expire(&mut self, now: Instant) {
        let old = |partial: &Partial| now.saturating_duration_since(partial.since) > FRAGMENT_TIMEOUT;
        let expired: Vec<Key> = self.partials.iter().filter(|(_, partial)| old(partial)).map(|(key, _)| *key).collect();
        expired.iter().for_each(|key| self.drop_partial(key));
    }

    /// Drops the oldest until the bound holds.
    fn shrink(&mut self) {
        while self.bytes > FRAGMENT_BYTES_MAX {
            let Some(key) = self.partials.iter().min_by_key(|(_, partial)| partial.since).map(|(key, _)| *key) else {
                return;
            };
            self.drop_partial(&key);
        }
    }

    /// Gives a datagram up.
    fn drop_partial(&mut self, key: &Key) {
        if let Some(partial) = self.partials.remove(key) {
            self.bytes -= partial.bytes;
            self.dropped += 1;
        }
    }
}

/// Whether `start..end` meets a piece that is there.
fn overlaps(pieces: &BTreeMap<usize, Box<[u8]>>, start: usize, end: usize) -> bool {
    pieces.range(..end).next_back().is_some_and(|(offset, piece)| offset + piece.len() > start)
}

/// Sends a packet of ours, without extension headers, in pieces of at most `mtu` bytes.
pub fn split(whole: &[u8], mtu: usize, id: u32, mut send: impl FnMut(&[u8])) {
    let v4 = whole.first().is_some_and(|version| version >> 4 == 4);
    let (header, extra) = if v4 { (V4_HEADER, 0) } else { (V6_HEADER, V6_FRAGMENT) };
    let Some((head, payload)) = whole.split_at_checked(header) else { return };
    let room = mtu.saturating_sub(header + extra) / 8 * 8;
    if room == 0 {
        return;
    }
    let mut packet = Vec::with_capacity(mtu);
    for (number, piece) in payload.chunks(room).enumerate() {
        let more = u16::from((number + 1) * room < payload.len());
        // A packet is at most 64 KiB, so offsets fit: in eighths for IPv4, in the upper 13 bits for IPv6.
        let offset = u16::try_from(number * room).unwrap_or(u16::MAX);
        let length = u16::try_from(piece.len() + extra).unwrap_or(u16::MAX);
        packet.clear();
        packet.extend_from_slice(head);
        if v4 {
            let total = length.saturating_add(20);
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            packet[4..6].copy_from_slice(&id.to_be_bytes()[2..]);
            packet[6..8].copy_from_slice(&((more << 13) | (offset / 8)).to_be_bytes());
            super::packet::fill_v4_checksum(&mut packet);
        } else {
            let protocol = std::mem::replace(&mut packet[6], 44);
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            packet.extend_from_slice(&[protocol, 0]);
            packet.extend_from_slice(&(offset | more).to_be_bytes());
            packet.extend_from_slice(&id.to_be_bytes());
        }
        packet.extend_from_slice(piece);
        send(&packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tun::packet::{self, Fragment};

    fn piece(id: u32, offset: usize, more: bool, payload: &[u8]) -> Packet<'_> {
        let address: IpAddr = "198.18.0.1".parse().unwrap();
        let fragment = Some(Fragment { id, offset, more });
        Packet { source: address, destination: address, protocol: 17, payload, fragment, bytes: payload }
    }

    #[test]
    fn pieces_in_any_order_make_the_datagram_once() {
        let whole: Vec<u8> = (0..40).collect();
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut fragments = Fragments::default();
            let now = Instant::now();
            let mut made = order.map(|at: usize| {
                let (start, end) = (at * 16, (at * 16 + 16).min(40));
                fragments.handle_fragment(now, &piece(7, start, end < 40, &whole[start..end]))
            });
            assert_eq!(made[2].take().map(|(whole, _)| whole), Some(whole.clone()));
            assert!(made[0].is_none() && made[1].is_none() && fragments.bytes == 0 && fragments.partials.is_empty());
        }
    }

    #[test]
    fn overlaps_and_age_discard_and_memory_is_bounded() {
        let now = Instant::now();
        let mut fragments = Fragments::default();
        assert!(fragments.handle_fragment(now, &piece(1, 0, true, &[0; 16])).is_none());
        assert!(fragments.handle_fragment(now, &piece(1, 8, false, &[0; 16])).is_none());
        assert_eq!((fragments.dropped, fragments.bytes), (1, 0));
        for id in 0..100 {
            fragments.handle_fragment(now, &piece(id, 0, true, &[0; 60_000]));
            assert!(fragments.bytes <= FRAGMENT_BYTES_MAX);
        }
        fragments.handle_fragment(now + FRAGMENT_TIMEOUT * 2, &piece(1000, 0, true, &[0; 8]));
        assert_eq!(fragments.bytes, 8);
    }

    #[test]
    fn a_packet_that_was_taken_apart_comes_together_again_in_both_families() {
        let data: Vec<u8> = (0..250_u8).cycle().take(20_000).collect();
        for (from, to) in [("198.18.0.9:7", "198.18.0.1:40000"), ("[fd00::9]:7", "[fd00::1]:40000")] {
            let mut whole = Vec::new();
            packet::udp(&mut whole, from.parse().unwrap(), to.parse().unwrap(), &data).unwrap();
            for mtu in [1_280, 1_500, 9_000] {
                let (mut fragments, mut got, mut pieces) = (Fragments::default(), None, 0);
                split(&whole, mtu, 0x0001_0203, |bytes| {
                    assert!(bytes.len() <= mtu && got.is_none());
                    let piece = Packet::parse(bytes).unwrap();
                    assert_eq!(piece.bytes.len(), bytes.len());
                    got = fragments.handle_fragment(Instant::now(), &piece);
                    pieces += 1;
                });
                let (payload, _) = got.unwrap();
                assert!(pieces > 1);
                let header = whole.len() - payload.len();
                assert_eq!(payload, whole[header..]);
            }
        }
        split(&[], 1_500, 1, |_| panic!("nothing to send"));
        split(&[0x45; 40], 20, 1, |_| panic!("no room"));
    }
}
