//! The filter of peers that a query has visited. Each query spreads the bits by its own
//! id, so that a false positive of one is not one of the next. Advisory: a hop close to the key
//! is asked even if the filter claims it was.

use super::limits::{BLOOM_BITS, BLOOM_PRESET};
use crate::crypto::DhtKey;
use crate::rng::Rng;
use crate::wire::dht::BLOOM_LEN;

/// A filter under a query's id.
#[derive(Clone)]
pub(super) struct Bloom {
    query: u64,
    bits: [u8; BLOOM_LEN],
}

impl Bloom {
    /// The filter of a new query: some random bits, so that it does not look like one.
    pub fn fresh(query: u64, rng: &mut Rng) -> Self {
        let mut bloom = Self { query, bits: [0; BLOOM_LEN] };
        for _ in 0..BLOOM_PRESET {
            bloom.set(usize::try_from(rng.public_below(BLOOM_LEN as u64 * 8)).unwrap_or(0));
        }
        bloom
    }

    /// The filter that came with a query.
    pub const fn of(query: u64, bits: [u8; BLOOM_LEN]) -> Self {
        Self { query, bits }
    }

    /// Its bits, for the next hop.
    pub const fn bits(&self) -> &[u8; BLOOM_LEN] {
        &self.bits
    }

    /// Adds a peer by its place.
    pub fn insert(&mut self, id: &DhtKey) {
        for at in self.positions(id) {
            self.set(at);
        }
    }

    /// Whether a peer was probably added.
    pub fn contains(&self, id: &DhtKey) -> bool {
        self.positions(id).into_iter().all(|at| self.bits[at / 8] & 1 << (at % 8) != 0)
    }

    /// Whether more bits are set than any honest query sets: three quarters.
    pub fn implausible(&self) -> bool {
        self.bits.iter().map(|byte| byte.count_ones()).sum::<u32>() as usize > BLOOM_LEN * 6
    }

    /// Sets one bit.
    fn set(&mut self, at: usize) {
        self.bits[at / 8] |= 1 << (at % 8);
    }

    /// A peer's bits: its id is uniform already, the query's id mixes it anew.
    fn positions(&self, id: &DhtKey) -> [usize; BLOOM_BITS] {
        std::array::from_fn(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&id.0[word * 8..word * 8 + 8]);
            let mixed = mix(u64::from_le_bytes(bytes) ^ self.query);
            usize::try_from(mixed % (BLOOM_LEN as u64 * 8)).unwrap_or(0)
        })
    }
}

/// Spreads 64 bits over 64 bits. splitmix64's finalizer.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> DhtKey {
        DhtKey(crate::crypto::hash_xof64(&n.to_le_bytes()))
    }

    #[test]
    fn added_peers_are_found_and_few_others() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut bloom = Bloom::fresh(7, &mut rng);
        (0..40).for_each(|n| bloom.insert(&id(n)));
        assert!((0..40).all(|n| bloom.contains(&id(n))));
        let wrong = (1000..11_000).filter(|n| bloom.contains(&id(*n))).count();
        assert!(wrong < 100, "{wrong} of 10,000");
    }

    #[test]
    fn a_filter_that_claims_everybody_is_not_believed() {
        assert!(Bloom::of(1, [0xff; BLOOM_LEN]).implausible());
        let mut bloom = Bloom::fresh(7, &mut Rng::from_seed([1; 32]));
        (0..100).for_each(|n| bloom.insert(&id(n)));
        assert!(!bloom.implausible());
    }

    #[test]
    fn another_query_has_other_false_positives() {
        let full: [u8; BLOOM_LEN] = std::array::from_fn(|at| if at % 2 == 0 { 0xff } else { 0 });
        let hits = |query| -> Vec<u64> { (0..5000).filter(|n| Bloom::of(query, full).contains(&id(*n))).collect() };
        assert_ne!(hits(1), hits(2));
    }
}
