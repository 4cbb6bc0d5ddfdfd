//! Seeded randomness. The shell seeds one [`Rng`] per node from the operating system,
//! the simulator from its seed; every machine owns a generator forked from its parent's
//! by label, so activity in one never shifts the draws of another. Public draws (seen on
//! the wire) and secret draws (keys) come from separate streams: what is published never
//! helps to guess a secret.
//!
//! Built on BLAKE3's extendable output: a key per stream, a counter per refill, and the
//! key replaced at each refill so that an earlier state cannot be computed from a later one.

use std::time::Duration;

use zeroize::{Zeroize, Zeroizing};

use crate::time::micros;

/// Bytes drawn from BLAKE3 at once per stream.
const BUFFER_LEN: usize = 512;

/// One stream of random bytes.
struct Stream {
    key: [u8; 32],
    buffer: [u8; BUFFER_LEN],
    used: usize,
}

impl Stream {
    /// A stream from its key; nothing is drawn yet.
    fn new(key: [u8; 32]) -> Self {
        Self { key, buffer: [0; BUFFER_LEN], used: BUFFER_LEN }
    }

    /// Draws the next buffer and replaces the key.
    fn refill(&mut self) {
        let mut output = blake3::Hasher::new_keyed(&self.key).finalize_xof();
        output.fill(&mut self.key);
        output.fill(&mut self.buffer);
        self.used = 0;
    }

    /// Fills `out`, wiping what was handed out.
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == BUFFER_LEN {
                self.refill();
            }
            let n = out.len().min(BUFFER_LEN - self.used);
            let (head, rest) = out.split_at_mut(n);
            let source = &mut self.buffer[self.used..self.used + n];
            head.copy_from_slice(source);
            source.zeroize();
            self.used += n;
            out = rest;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.key.zeroize();
        self.buffer.zeroize();
    }
}

/// A seeded generator with a public and a secret stream.
pub struct Rng {
    fork_key: Zeroizing<[u8; 32]>,
    forks: u64,
    public: Stream,
    secret: Stream,
}

impl Rng {
    /// A generator that depends on nothing but `seed`.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let derive = |context: &str| blake3::derive_key(context, seed.as_slice());
        Self {
            fork_key: Zeroizing::new(derive("tarnet rng fork v1")),
            forks: 0,
            public: Stream::new(derive("tarnet rng public v1")),
            secret: Stream::new(derive("tarnet rng secret v1")),
        }
    }

    /// A child generator: depends on our seed, the label, and how many were forked before.
    pub fn fork(&mut self, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.fork_key);
        hasher.update(&self.forks.to_le_bytes());
        hasher.update(label.as_bytes());
        self.forks += 1;
        Self::from_seed(*hasher.finalize().as_bytes())
    }

    /// Public random bytes.
    pub fn fill_public(&mut self, out: &mut [u8]) {
        self.public.fill(out);
    }

    /// Public random bytes by value.
    pub fn public_array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.public.fill(&mut out);
        out
    }

    /// A public random number.
    pub fn public_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.public_array())
    }

    /// A public random number.
    pub fn public_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.public_array())
    }

    /// A public random number in `0..bound`; 0 for a bound of 0. The bias is below 2^-32 for bounds below 2^32.
    pub fn public_below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.public_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Secret random bytes, for keys.
    pub fn secret_array<const N: usize>(&mut self) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        self.secret.fill(out.as_mut_slice());
        out
    }

    /// `duration` moved at random by up to `percent` either way.
    pub fn jitter(&mut self, duration: Duration, percent: u32) -> Duration {
        let base = micros(duration);
        let span = base / 100 * u64::from(percent.min(100));
        Duration::from_micros(base - span + self.public_below(2 * span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_draws_and_forks_differ() {
        let (mut a, mut b) = (Rng::from_seed([1; 32]), Rng::from_seed([1; 32]));
        assert_eq!(a.public_array::<600>(), b.public_array::<600>());
        assert_eq!(*a.secret_array::<32>(), *b.secret_array::<32>());
        let (mut c, mut d) = (a.fork("x"), a.fork("x"));
        assert_ne!(c.public_u64(), d.public_u64());
        assert_eq!(b.fork("x").public_array::<64>(), Rng::from_seed([1; 32]).fork("x").public_array::<64>());
    }

    #[test]
    fn draws_of_one_stream_do_not_shift_the_other() {
        let (mut a, mut b) = (Rng::from_seed([2; 32]), Rng::from_seed([2; 32]));
        a.public_u64();
        assert_eq!(*a.secret_array::<32>(), *b.secret_array::<32>());
    }

    #[test]
    fn numbers_stay_below_their_bound_and_jitter_within_its_span() {
        let mut rng = Rng::from_seed([3; 32]);
        for bound in [1, 2, 3, 1000, u64::MAX] {
            assert!(rng.public_below(bound) < bound);
        }
        assert_eq!(rng.public_below(0), 0);
        for _ in 0..1000 {
            let got = rng.jitter(Duration::from_secs(10), 25);
            assert!(got >= Duration::from_millis(7500) && got <= Duration::from_millis(12_500));
        }
    }
}
