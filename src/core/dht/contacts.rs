//! Whom the DHT can reach, in buckets by how many leading bits their place shares with
//! ours: k live contacts each, the longest known first, and spares that take the place of one that goes.
//! A contact is here only while the node can reach it; nobody is entered on hearsay.

use std::collections::BTreeMap;

use super::limits::{BUCKET_LEN, SPARE_LEN};
use crate::crypto::{Context, DhtKey, PeerId, derive_into};
use crate::rng::Rng;

/// Distance between two places: XOR, compared as a big-endian number.
pub(super) type Distance = [u8; 64];

/// A peer's place in the DHT.
#[must_use]
pub fn dht_id(peer: &PeerId) -> DhtKey {
    let mut out = [0; 64];
    derive_into(Context::DhtId, &[&peer.0], &mut out);
    DhtKey(out)
}

/// The distance between two places.
pub(super) fn distance(a: &DhtKey, b: &DhtKey) -> Distance {
    std::array::from_fn(|at| a.0[at] ^ b.0[at])
}

/// Leading bits that two places share.
fn shared_bits(a: &DhtKey, b: &DhtKey) -> u32 {
    let mut bits = 0;
    for (a, b) in a.0.iter().zip(b.0) {
        let zeros = (a ^ b).leading_zeros();
        bits += zeros;
        if zeros < 8 {
            break;
        }
    }
    bits
}

/// A reachable peer and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contact {
    /// The peer.
    pub peer: PeerId,
    /// Its place.
    pub id: DhtKey,
}

/// One bucket.
#[derive(Default)]
struct Bucket {
    /// Asked and counted; at most k.
    live: Vec<Contact>,
    /// Known beyond that, oldest first.
    spare: Vec<Contact>,
}

/// All contacts.
pub(super) struct Contacts {
    me: DhtKey,
    buckets: BTreeMap<u32, Bucket>,
    known: BTreeMap<PeerId, u32>,
    spares: usize,
    /// Contacts not remembered because every spare place was taken.
    pub dropped: u64,
}

impl Contacts {
    /// No contacts yet.
    pub fn new(me: DhtKey) -> Self {
        Self { me, buckets: BTreeMap::new(), known: BTreeMap::new(), spares: 0, dropped: 0 }
    }

    /// Enters a contact; `true` when it is live now.
    pub fn insert(&mut self, peer: PeerId) -> bool {
        let id = dht_id(&peer);
        if id == self.me || self.known.contains_key(&peer) {
            return false;
        }
        let at = shared_bits(&self.me, &id);
        let bucket = self.buckets.entry(at).or_default();
        let live = bucket.live.len() < BUCKET_LEN;
        if live {
            bucket.live.push(Contact { peer, id });
        } else if self.spares < SPARE_LEN {
            bucket.spare.push(Contact { peer, id });
            self.spares += 1;
        } else {
            self.dropped += 1;
            return false;
        }
        self.known.insert(peer, at);
        live
    }

    /// Takes a contact out; answers whether it was live, and the spare that took its place.
    pub fn remove(&mut self, peer: &PeerId) -> (bool, Option<PeerId>) {
        let Some(at) = self.known.remove(peer) else { return (false, None) };
        let Some(bucket) = self.buckets.get_mut(&at) else { return (false, None) };
        if let Some(place) = bucket.spare.iter().position(|c| c.peer == *peer) {
            bucket.spare.remove(place);
            self.spares -= 1;
            return (false, None);
        }
        bucket.live.retain(|c| c.peer != *peer);
        let mut next = None;
        if !bucket.spare.is_empty() {
            let contact = bucket.spare.remove(0);
            self.spares -= 1;
            bucket.live.push(contact);
            next = Some(contact.peer);
        }
        (true, next)
    }

    /// Every contact that is asked, in a stable order.
    pub fn live(&self) -> impl Iterator<Item = &Contact> {
        self.buckets.values().flat_map(|bucket| &bucket.live)
    }

    /// Live contacts.
    pub fn len(&self) -> usize {
        self.known.len() - self.spares
    }

    /// Whether all that we know are live: then we see the whole network that routing sees.
    pub fn complete(&self) -> bool {
        self.spares == 0 && self.dropped == 0
    }

    /// The `count` contacts nearest to a key, nearest first.
    pub fn closest(&self, key: &DhtKey, count: usize) -> Vec<Contact> {
        let mut all: Vec<(Distance, &Contact)> = self.live().map(|c| (distance(&c.id, key), c)).collect();
        if count < all.len() {
            all.select_nth_unstable_by_key(count, |(far, _)| *far);
            all.truncate(count);
        }
        all.sort_unstable_by_key(|(far, _)| *far);
        all.into_iter().map(|(_, c)| *c).collect()
    }

    /// How many contacts are nearer to a key than `distance`, counting to `most`.
    pub fn nearer(&self, key: &DhtKey, than: &Distance, most: usize) -> usize {
        self.live().filter(|c| distance(&c.id, key) < *than).take(most).count()
    }

    /// Up to `count` different contacts at random among those that `fits` takes.
    pub fn random(&self, count: usize, rng: &mut Rng, fits: impl Fn(&Contact) -> bool) -> Vec<Contact> {
        let mut all: Vec<Contact> = self.live().filter(|c| fits(c)).copied().collect();
        let count = count.min(all.len());
        for at in 0..count {
            let left = u64::try_from(all.len() - at).unwrap_or(0);
            let other = at + usize::try_from(rng.public_below(left)).unwrap_or(0);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }

    /// Known contacts per bucket, nearest half of the space last: (shared bits, live, known).
    pub fn occupancy(&self) -> impl DoubleEndedIterator<Item = (u32, usize, usize)> + '_ {
        self.buckets.iter().map(|(at, bucket)| (*at, bucket.live.len(), bucket.live.len() + bucket.spare.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> PeerId {
        PeerId(crate::crypto::hash(&n.to_le_bytes()))
    }

    #[test]
    fn buckets_hold_k_and_a_spare_takes_the_place_of_one_that_goes() {
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        (0..300).for_each(|n| {
            contacts.insert(peer(n));
        });
        assert!(contacts.occupancy().all(|(_, live, _)| live <= BUCKET_LEN));
        assert_eq!(contacts.occupancy().map(|(_, _, known)| known).sum::<usize>(), 299);
        assert!(!contacts.complete());
        let (first, before) = (*contacts.live().next().unwrap(), contacts.len());
        let (live, next) = contacts.remove(&first.peer);
        assert!(live && next.is_some());
        assert_eq!(contacts.len(), before);
        assert_eq!(contacts.remove(&first.peer), (false, None));
    }

    #[test]
    fn closest_are_sorted_and_we_are_no_contact_of_our_own() {
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        assert!(!contacts.insert(peer(0)));
        (1..30).for_each(|n| {
            contacts.insert(peer(n));
        });
        let key = DhtKey(crate::crypto::hash_xof64(b"key"));
        let near = contacts.closest(&key, 5);
        let distances: Vec<_> = near.iter().map(|c| distance(&c.id, &key)).collect();
        assert!(distances.is_sorted());
        let last = distances[4];
        assert_eq!(contacts.live().filter(|c| distance(&c.id, &key) <= last).count(), 5);
        assert_eq!(contacts.nearer(&key, &last, 99), 4);
    }

    #[test]
    fn the_spares_are_bounded() {
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        (1..6000).for_each(|n| {
            contacts.insert(peer(n));
        });
        assert_eq!(contacts.spares, SPARE_LEN);
        assert!(contacts.dropped > 1000);
    }
}
