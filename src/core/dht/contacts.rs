//! Whom the DHT can reach, by their places. A contact is here only while the node can reach it; nobody is entered on
//! hearsay. Routing bounds how many there are; what R5N's buckets are for, that there is always room for those near to
//! us, is kept: where all places are taken, the bucket (by leading bits shared with our place) with most contacts yields.

use std::collections::BTreeMap;

use super::limits::{BUCKET_LEN, CONTACTS_LEN};
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

/// All contacts.
pub(super) struct Contacts {
    me: DhtKey,
    places: BTreeMap<PeerId, DhtKey>,
    /// The same, sorted by place: those that share leading bits lie together.
    sorted: Vec<Contact>,
    /// Contacts by the leading bits that they share with us.
    buckets: BTreeMap<u32, usize>,
    /// Contacts not remembered because every place was taken.
    pub dropped: u64,
}

impl Contacts {
    /// No contacts yet.
    pub fn new(me: DhtKey) -> Self {
        Self { me, places: BTreeMap::new(), sorted: Vec::new(), buckets: BTreeMap::new(), dropped: 0 }
    }

    /// Enters a contact; `true` when it is new here.
    pub fn insert(&mut self, peer: PeerId) -> bool {
        let id = dht_id(&peer);
        if id == self.me || self.places.contains_key(&peer) {
            return false;
        }
        if self.sorted.len() >= CONTACTS_LEN {
            self.dropped += 1;
            let rare = self.buckets.get(&shared_bits(&self.me, &id)).is_none_or(|count| *count < BUCKET_LEN);
            let Some(other) = self.of_largest_bucket().filter(|_| rare) else { return false };
            self.remove(&other);
        }
        let at = self.sorted.partition_point(|c| c.id < id);
        self.sorted.insert(at, Contact { peer, id });
        self.places.insert(peer, id);
        *self.buckets.entry(shared_bits(&self.me, &id)).or_default() += 1;
        true
    }

    /// A contact of the bucket with most.
    fn of_largest_bucket(&self) -> Option<PeerId> {
        let (largest, _) = self.buckets.iter().max_by_key(|(_, count)| **count)?;
        self.sorted.iter().find(|c| shared_bits(&self.me, &c.id) == *largest).map(|c| c.peer)
    }

    /// Takes a contact out; answers whether it was one.
    pub fn remove(&mut self, peer: &PeerId) -> bool {
        let Some(id) = self.places.remove(peer) else { return false };
        if let Ok(at) = self.sorted.binary_search_by_key(&id, |c| c.id) {
            self.sorted.remove(at);
        }
        let bucket = shared_bits(&self.me, &id);
        if let Some(count) = self.buckets.get_mut(&bucket) {
            *count -= 1;
            if *count == 0 {
                self.buckets.remove(&bucket);
            }
        }
        true
    }

    /// Contacts.
    pub const fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are so few, in every bucket, that these must be all.
    pub fn complete(&self) -> bool {
        self.dropped == 0 && self.buckets.values().all(|count| *count <= BUCKET_LEN)
    }

    /// The `count` contacts nearest to a key, nearest first.
    pub fn closest(&self, key: &DhtKey, count: usize) -> Vec<Contact> {
        let mut out = Vec::with_capacity(count.min(self.sorted.len()));
        gather(&self.sorted, 0, key, count, &mut out);
        out
    }

    /// How many contacts are nearer to a key than `distance`, counting to `most`.
    pub fn nearer(&self, key: &DhtKey, than: &Distance, most: usize) -> usize {
        self.closest(key, most).iter().take_while(|c| distance(&c.id, key) < *than).count()
    }

    /// Up to `count` different contacts at random among those that `fits` takes.
    pub fn random(&self, count: usize, rng: &mut Rng, fits: impl Fn(&Contact) -> bool) -> Vec<Contact> {
        let mut left: Vec<usize> = (0..self.sorted.len()).collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !left.is_empty() {
            let at = rng.public_below(u64::try_from(left.len()).unwrap_or(1));
            let at = left.swap_remove(usize::try_from(at).unwrap_or(0));
            chosen.extend(self.sorted.get(at).filter(|c| fits(c)));
        }
        chosen
    }

    /// Whether more contacts share exactly so many leading bits with us than a bucket has room for in any case: enough,
    /// and more than [`Self::complete`] takes for all.
    pub fn is_full(&self, bits: u32) -> bool {
        self.buckets.get(&bits).is_some_and(|count| *count > BUCKET_LEN)
    }

    /// Contacts per bucket, those nearest to us last: (shared bits, contacts).
    pub fn occupancy(&self) -> impl DoubleEndedIterator<Item = (u32, usize)> + '_ {
        self.buckets.iter().map(|(at, count)| (*at, *count))
    }
}

/// Adds the nearest of `sorted`, whose first `bit` bits are the same, until there are `count`: first all of the half that
/// shares one more bit with the key.
fn gather(sorted: &[Contact], bit: usize, key: &DhtKey, count: usize, out: &mut Vec<Contact>) {
    if out.len() >= count || sorted.is_empty() {
        return;
    }
    if sorted.len() <= FEW || bit >= PLACE_BITS {
        let mut few = sorted.to_vec();
        few.sort_unstable_by_key(|c| distance(&c.id, key));
        out.extend(few.into_iter().take(count - out.len()));
        return;
    }
    let is_set = |place: &DhtKey| place.0[bit / 8] >> (7 - bit % 8) & 1 == 1;
    let (zero, one) = sorted.split_at(sorted.partition_point(|c| !is_set(&c.id)));
    let (first, second) = if is_set(key) { (one, zero) } else { (zero, one) };
    gather(first, bit + 1, key, count, out);
    gather(second, bit + 1, key, count, out);
}

/// So few contacts are sorted rather than parted further.
const FEW: usize = 8;
/// Bits of a place.
const PLACE_BITS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> PeerId {
        PeerId(crate::crypto::hash(&n.to_le_bytes()))
    }

    #[test]
    fn a_contact_counts_once_and_goes_as_it_came() {
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        (0..300).for_each(|n| {
            contacts.insert(peer(n));
        });
        assert!(!contacts.insert(peer(7)));
        assert_eq!((contacts.len(), contacts.occupancy().map(|(_, count)| count).sum::<usize>()), (299, 299));
        assert!(!contacts.complete());
        assert!(contacts.remove(&peer(7)) && !contacts.remove(&peer(7)));
        (0..280).for_each(|n| {
            contacts.remove(&peer(n));
        });
        assert!(contacts.len() == 20 && contacts.complete());
    }

    #[test]
    fn a_bucket_is_full_with_more_than_it_takes_to_look_like_all() {
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        let far: Vec<PeerId> =
            (1..200).map(peer).filter(|peer| shared_bits(&contacts.me, &dht_id(peer)) == 0).take(21).collect();
        far[..20].iter().for_each(|peer| assert!(contacts.insert(*peer)));
        assert!(!contacts.is_full(0) && contacts.complete());
        contacts.insert(far[20]);
        assert!(contacts.is_full(0) && !contacts.is_full(1) && !contacts.complete());
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
        assert_eq!(contacts.sorted.iter().filter(|c| distance(&c.id, &key) <= last).count(), 5);
        assert_eq!(contacts.nearer(&key, &last, 99), 4);
    }

    #[test]
    fn the_closest_are_those_that_a_sort_gives() {
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        (1..700).for_each(|n| {
            contacts.insert(peer(n));
        });
        for n in 0..50u32 {
            let key = DhtKey(crate::crypto::hash_xof64(&n.to_le_bytes()));
            let mut all = contacts.sorted.clone();
            all.sort_by_key(|c| distance(&c.id, &key));
            for count in [0, 1, 8, 20, 1000] {
                assert_eq!(contacts.closest(&key, count), all[..count.min(all.len())]);
            }
        }
    }

    #[test]
    fn contacts_are_bounded_and_those_near_to_us_find_room() {
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        (1..6000).for_each(|n| {
            contacts.insert(peer(n));
        });
        assert_eq!(contacts.len(), CONTACTS_LEN);
        assert!(contacts.dropped > 1000);
        let near = |n: &u32| shared_bits(&contacts.me, &dht_id(&peer(*n))) >= 9;
        let all: Vec<u32> = (1..6000).filter(near).collect();
        assert!(!all.is_empty() && all.iter().all(|n| contacts.places.contains_key(&peer(*n))));
    }
}
