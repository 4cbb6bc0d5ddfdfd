//! What the tables' bytes mean where it is this room's to say: keys of rows, known peers,
//! places. Values of other rooms (blocks, zone records, session keys) stay opaque here.

use bytes::BufMut;
use tarnet_core::crypto::{DhtKey, Group, PeerId};
use tarnet_core::wire::{Error, Reader, put_varint, put_vec16};

/// The version of the rows that this room writes.
const VERSION: u8 = 1;
/// Addresses remembered per peer; the one used last comes first.
pub const ADDRESSES_MAX: usize = 8;

/// Keys of the `meta` table.
pub mod meta {
    /// The routing room's persisted epoch and sequence.
    pub const ROUTING: &[u8] = b"routing";
    /// The TUN's chosen prefixes.
    pub const PREFIXES: &[u8] = b"prefixes";
    /// The landmarks that this node has known longest.
    pub const LANDMARKS: &[u8] = b"landmarks";
}

/// What we remember of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// The weakest group that it may still use: the strongest it has ever used with us.
    pub floor: Group,
    /// When it was linked last, seconds since 1970.
    pub last_seen_s: u64,
    /// Where it was reached, as URIs without pins, the latest first; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<String>,
}

impl KnownPeer {
    /// Puts an address in front.
    pub fn seen_at(&mut self, address: &str) {
        self.addresses.retain(|known| known != address);
        self.addresses.insert(0, address.to_owned());
        self.addresses.truncate(ADDRESSES_MAX);
    }

    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_u8(match self.floor {
            Group::X25519 => 1,
            Group::X25519MlKem768 => 2,
        });
        out.put_u64_le(self.last_seen_s);
        let addresses = &self.addresses[..self.addresses.len().min(ADDRESSES_MAX)];
        put_varint(&mut out, addresses.len() as u64);
        for address in addresses {
            put_vec16(&mut out, address.as_bytes());
        }
        out
    }

    /// The peer of a row's value.
    ///
    /// # Errors
    /// Not such a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::Invalid("version of a known peer"));
        }
        let floor = match reader.u8()? {
            1 => Group::X25519,
            2 => Group::X25519MlKem768,
            _ => return Err(Error::Invalid("group of a known peer")),
        };
        let last_seen_s = reader.u64()?;
        let count = reader.varint()?;
        if count > ADDRESSES_MAX as u64 {
            return Err(Error::Invalid("addresses of a known peer"));
        }
        let mut addresses = Vec::new();
        for _ in 0..count {
            let text = std::str::from_utf8(reader.vec16()?).map_err(|_| Error::Invalid("text of an address"))?;
            addresses.push(text.to_owned());
        }
        reader.finish()?;
        Ok(Self { floor, last_seen_s, addresses })
    }
}

/// The row key of a stored block: one per key and signer.
#[must_use]
pub fn block_key(key: &DhtKey, signer: &[u8]) -> Vec<u8> {
    [&key.0, signer].concat()
}

/// The row key of a label of an identity's zone. Neither holds a zero byte.
#[must_use]
pub fn zone_key(identity: &str, label: &str) -> Vec<u8> {
    [identity.as_bytes(), &[0], label.as_bytes()].concat()
}

/// The prefix of all row keys of an identity's zone.
#[must_use]
pub fn zone_prefix(identity: &str) -> Vec<u8> {
    [identity.as_bytes(), &[0]].concat()
}

/// Identity and label of a row key.
#[must_use]
pub fn parse_zone_key(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.split_once('\0')
}

/// The row value of a place: the PeerId that answered there first.
#[must_use]
pub fn place_value(peer: &PeerId) -> Vec<u8> {
    peer.0.to_vec()
}

/// The PeerId of a place's row value.
#[must_use]
pub fn parse_place_value(value: &[u8]) -> Option<PeerId> {
    value.try_into().ok().map(PeerId)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn known_peers_round_trip(last_seen_s: u64, hybrid: bool, addresses in prop::collection::vec("\\PC{0,40}", 0..8)) {
            let floor = if hybrid { Group::X25519MlKem768 } else { Group::X25519 };
            let peer = KnownPeer { floor, last_seen_s, addresses };
            let bytes = peer.encode();
            prop_assert_eq!(KnownPeer::decode(&bytes), Ok(peer));
            for cut in 0..bytes.len() {
                prop_assert!(KnownPeer::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_peer_or_an_error(bytes: Vec<u8>) {
            if let Ok(peer) = KnownPeer::decode(&bytes) {
                prop_assert_eq!(peer.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_latest_address_comes_first_and_few_are_kept() {
        let mut peer = KnownPeer { floor: Group::X25519, last_seen_s: 0, addresses: Vec::new() };
        for n in 0..20 {
            peer.seen_at(&format!("tcp://h:{n}"));
        }
        peer.seen_at("tcp://h:15");
        assert_eq!(
            (peer.addresses.len(), peer.addresses[0].as_str(), peer.addresses[1].as_str()),
            (ADDRESSES_MAX, "tcp://h:15", "tcp://h:19")
        );
    }

    #[test]
    fn row_keys_tell_their_parts() {
        assert_eq!(parse_zone_key(&zone_key("alice", "blog")), Some(("alice", "blog")));
        assert!(
            zone_key("alice", "@").starts_with(&zone_prefix("alice"))
                && !zone_key("alice2", "@").starts_with(&zone_prefix("alice"))
        );
        let peer = PeerId([4; 32]);
        assert_eq!(parse_place_value(&place_value(&peer)), Some(peer));
        assert_eq!(parse_place_value(&[1, 2]), None);
        assert_eq!(block_key(&DhtKey([1; 64]), &[2; 32]).len(), 96);
    }
}
