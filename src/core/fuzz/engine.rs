//! What every fuzz test runs on: a time to run, a seed to repeat it by, and ways to spoil bytes.
//!
//! `TARNET_FUZZ_SECONDS` is the time of all targets of a test program together (10 s unless
//! set); `TARNET_FUZZ_SEED` repeats a run. Every run begins with another seed and says it, so a
//! failure shows how to come back to it. This file depends on nothing: the daemon's tests and the
//! end-to-end tests use it too.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// Seconds that all targets of a test program take together, unless the environment says otherwise.
const SECONDS: f64 = 10.0;
/// Rounds that a target has at least, however slow the machine is.
const ROUNDS_MIN: u64 = 20;
/// The longest run of random bytes.
const RANDOM_LEN_MAX: usize = 600;

/// One target's run.
pub struct Fuzz {
    name: &'static str,
    seed: u64,
    state: u64,
    rounds: u64,
    until: Instant,
}

impl Fuzz {
    /// A run of the target `name`, one of `targets` that share the time.
    #[allow(clippy::disallowed_methods, reason = "how long to try is a matter of this machine's clock")]
    pub fn new(name: &'static str, targets: u32) -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seconds = number("TARNET_FUZZ_SECONDS").unwrap_or(SECONDS) / f64::from(targets);
        let seed = std::env::var("TARNET_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        println!("fuzz {name}: TARNET_FUZZ_SEED={seed}, {seconds} s");
        let until = Instant::now() + Duration::from_secs_f64(seconds.max(0.0));
        Self { name, seed, state: seed, rounds: 0, until }
    }

    /// Whether there is another round.
    #[allow(clippy::disallowed_methods, reason = "as above")]
    pub fn goes_on(&mut self) -> bool {
        let more = self.rounds < ROUNDS_MIN || Instant::now() < self.until;
        self.rounds += u64::from(more);
        more
    }

    /// The next random number (SplitMix64).
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a length").max(1);
        usize::try_from(self.number() % end).expect("below a length")
    }

    /// Random bytes.
    pub fn bytes(&mut self) -> Vec<u8> {
        let len = self.below(RANDOM_LEN_MAX);
        (0..len).map(|_| self.byte()).collect()
    }

    /// One of a list.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// Random bytes, or a sample that was spoiled: never the sample itself.
    pub fn spoil(&mut self, sample: &[u8]) -> Vec<u8> {
        if sample.is_empty() || self.below(16) == 0 {
            let mut bytes = self.bytes();
            bytes.push(self.byte());
            return bytes;
        }
        let mut bytes = sample.to_vec();
        for _ in 0..=self.below(3) {
            self.spoil_once(&mut bytes);
        }
        if bytes == sample {
            let at = self.below(bytes.len());
            bytes[at] ^= 1 << self.below(8);
        }
        bytes
    }

    /// One random change.
    fn spoil_once(&mut self, bytes: &mut Vec<u8>) {
        let (at, other) = (self.below(bytes.len()), self.below(bytes.len() + 1));
        match self.below(9) {
            0..=2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            3 if at < bytes.len() => bytes[at] = *self.pick(&[0, 1, 0x7f, 0x80, 0xfe, 0xff]),
            4 => bytes.truncate(other),
            5 => bytes.insert(other, self.byte()),
            6 => bytes.extend_from_within(at.min(other)..other.max(at)),
            7 => drop(bytes.drain(at.min(other)..other.max(at).min(bytes.len()))),
            // A length: two bytes that say more than there is, or nothing.
            _ if at + 2 <= bytes.len() => bytes[at..at + 2].fill(*self.pick(&[0, 0xff])),
            _ => bytes.push(self.byte()),
        }
    }

    /// A random byte.
    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}

impl Drop for Fuzz {
    fn drop(&mut self) {
        let Self { name, seed, rounds, .. } = self;
        let what = if std::thread::panicking() { "failed in round" } else { "rounds:" };
        println!("fuzz {name}: {what} {rounds}, TARNET_FUZZ_SEED={seed}");
    }
}
