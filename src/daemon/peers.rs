//! What is remembered of peers: who answered at a bootstrap address without a pin (trust on
//! first use), the least key agreement that each peer was seen with, and when.
//!
//! Bound: [`PEERS_MAX`]; the one seen longest ago goes first.

use std::collections::BTreeMap;

use tarnet_core::crypto::{Group, PeerId};
use tarnet_core::time::UnixTime;

use crate::config::PeerUri;
use crate::store::records::{KnownPeer, parse_place_value, place_value};
use crate::store::{Op, Table};

/// Peers remembered.
const PEERS_MAX: usize = 4096;

/// Known peers and places.
#[derive(Default)]
pub struct Peers {
    known: BTreeMap<PeerId, KnownPeer>,
    /// By URI without its pin.
    places: BTreeMap<String, PeerId>,
}

impl Peers {
    /// What the database holds.
    #[must_use]
    pub fn load(peers: &[(Vec<u8>, Vec<u8>)], places: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let known = peers
            .iter()
            .filter_map(|(key, value)| Some((PeerId(key.as_slice().try_into().ok()?), KnownPeer::decode(value).ok()?)));
        let places = places
            .iter()
            .filter_map(|(key, value)| Some((String::from_utf8(key.clone()).ok()?, parse_place_value(value)?)));
        Self { known: known.collect(), places: places.collect() }
    }

    /// Peers that are refused with less than the hybrid key agreement.
    pub fn hybrid(&self) -> impl Iterator<Item = PeerId> {
        self.known.iter().filter(|(_, known)| known.floor == Group::X25519MlKem768).map(|(peer, _)| *peer)
    }

    /// Everybody remembered.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &KnownPeer)> {
        self.known.iter()
    }

    /// Who answered at this address before.
    #[must_use]
    pub fn remembered(&self, uri: &PeerUri) -> Option<PeerId> {
        self.places.get(&uri.place().to_string()).copied()
    }

    /// A peer proved its id at an address.
    pub fn seen(&mut self, now: UnixTime, peer: PeerId, group: Group, address: &str) -> Vec<Op> {
        let mut ops = Vec::new();
        let full = self.known.len() >= PEERS_MAX && !self.known.contains_key(&peer);
        if full
            && let Some(oldest) = self.known.iter().min_by_key(|(_, known)| known.last_seen_s).map(|(peer, _)| *peer)
        {
            self.known.remove(&oldest);
            ops.push(Op::Remove(Table::Peers, oldest.0.to_vec()));
        }
        let known = self.known.entry(peer).or_insert(KnownPeer { floor: group, last_seen_s: 0, addresses: Vec::new() });
        known.floor = known.floor.max(group);
        known.last_seen_s = now.0;
        if !address.is_empty() {
            known.seen_at(address);
        }
        ops.push(Op::Put(Table::Peers, peer.0.to_vec(), known.encode()));
        ops
    }

    /// A peer answered at a bootstrap address that has no pin: it is expected there from now on.
    pub fn pin(&mut self, uri: &PeerUri, peer: PeerId) -> Vec<Op> {
        let place = uri.place().to_string();
        if uri.pin.is_some() || self.places.contains_key(&place) {
            return Vec::new();
        }
        let op = Op::Put(Table::Places, place.clone().into_bytes(), place_value(&peer));
        self.places.insert(place, peer);
        vec![op]
    }

    /// Forgets a peer and every address that it was expected at; `None` if it is not known.
    pub fn forget(&mut self, peer: &PeerId) -> Option<Vec<Op>> {
        let places: Vec<String> =
            self.places.iter().filter(|(_, known)| *known == peer).map(|(place, _)| place.clone()).collect();
        let known = self.known.remove(peer).is_some();
        if !known && places.is_empty() {
            return None;
        }
        let mut ops = vec![Op::Remove(Table::Peers, peer.0.to_vec())];
        for place in places {
            self.places.remove(&place);
            ops.push(Op::Remove(Table::Places, place.into_bytes()));
        }
        Some(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_its_first_peer_until_it_is_forgotten() {
        let mut peers = Peers::default();
        let uri: PeerUri = "tcp://192.0.2.1:7946".parse().unwrap();
        let (first, second) = (PeerId([1; 32]), PeerId([2; 32]));
        assert_eq!(peers.pin(&uri, first).len(), 1);
        assert!(peers.pin(&uri, second).is_empty());
        assert_eq!(peers.remembered(&uri), Some(first));
        assert!(peers.forget(&second).is_none());
        assert!(peers.forget(&first).is_some());
        assert_eq!(peers.remembered(&uri), None);
    }

    #[test]
    fn a_peers_floor_only_rises() {
        let mut peers = Peers::default();
        let peer = PeerId([1; 32]);
        peers.seen(UnixTime(1), peer, Group::X25519MlKem768, "192.0.2.1:7946");
        peers.seen(UnixTime(2), peer, Group::X25519, "192.0.2.1:7946");
        assert_eq!(peers.hybrid().collect::<Vec<_>>(), [peer]);
    }
}
