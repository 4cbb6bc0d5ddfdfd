//! Putting fragmented UDP datagrams together, as a machine. Our kernel fragments what is
//! larger than the MTU; TCP never is.
//!
//! Bounds: [`FRAGMENT_BYTES_MAX`] in all, the oldest datagram goes first; [`FRAGMENTS_MAX`]
//! pieces each; overlapping pieces discard the datagram (RFC 5722 §4). Timer: pieces older
//! than [`FRAGMENT_TIMEOUT`] are dropped when the next fragment comes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::limits::{FRAGMENT_BYTES_MAX, FRAGMENT_TIMEOUT, FRAGMENTS_MAX};
use super::packet::Packet;

/// Largest reassembled payload.
const PAYLOAD_MAX: usize = 65_535;

/// Which datagram a fragment belongs to.
type Key = (IpAddr, IpAddr, u32);

/// A datagram of which pieces are missing.
struct Partial {
    since: Instant,
    pieces: BTreeMap<usize, Box<[u8]>>,
    bytes: usize,
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
    /// Takes a fragment; gives the whole transport payload when it was the last one missing.
    pub fn handle_fragment(&mut self, now: Instant, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let fragment = packet.fragment?;
        self.expire(now);
        let key = (packet.source, packet.destination, fragment.id);
        let end = fragment.offset + packet.payload.len();
        let partial =
            self.partials.entry(key).or_insert(Partial { since: now, pieces: BTreeMap::new(), bytes: 0, total: None });
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
        partial.pieces.insert(fragment.offset, packet.payload.into());
        partial.bytes += packet.payload.len();
        self.bytes += packet.payload.len();
        if partial.total == Some(partial.bytes) {
            let whole = self.partials.remove(&key)?;
            self.bytes -= whole.bytes;
            return Some(whole.pieces.into_values().flatten().collect());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tun::packet::Fragment;

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
            assert_eq!(made[2].take(), Some(whole.clone()));
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
}
