//! Contacts of the DHT beyond routing's table: in a network larger than that, the landmarks'
//! directory says who is near to some places in the DHT, one in each part of it that lies
//! half as far as the one before. So R5N has its buckets on any topology.

use std::time::Duration;

use super::Node;
use crate::crypto::PeerId;
use crate::dht::{Store, dht_id};
use crate::rng::Rng;
use crate::time::{Instant, Now};

/// First pause between two rounds; doubles up to [`PAUSE_MAX`]. A network that forms changes fast.
const PAUSE_MIN: Duration = Duration::from_secs(15);
/// Longest pause. Places are believed for an hour.
const PAUSE_MAX: Duration = Duration::from_secs(20 * 60);
/// Parts of the DHT that are asked for at most: more would be empty in any network.
const PARTS_MAX: u32 = 24;
/// How far pauses move at random, percent.
const JITTER_PERCENT: u32 = 25;

/// When to ask, and for what.
pub(super) struct Filler {
    rng: Rng,
    due: Instant,
    pause: Duration,
}

impl Filler {
    /// Asks soon.
    pub(super) fn new(now: Now, mut rng: Rng) -> Self {
        let due = now.instant + rng.jitter(PAUSE_MIN, JITTER_PERCENT);
        Self { rng, due, pause: PAUSE_MIN }
    }

    /// When to ask next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.due)
    }

    /// A place in the part of the DHT that shares exactly `bits` bits with ours.
    fn target(&mut self, own: [u8; 16], bits: u32) -> [u8; 16] {
        let random = u128::from_be_bytes(self.rng.public_array());
        let own = u128::from_be_bytes(own);
        let below = u128::MAX.checked_shr(bits + 1).unwrap_or(0);
        let flipped = own ^ (below + 1);
        (flipped & !below | random & below).to_be_bytes()
    }
}

impl<S: Store> Node<S> {
    /// Asks the directory for contacts, when it is time.
    pub(super) fn fill_contacts(&mut self, now: Now) {
        if self.filler.due > now.instant {
            return;
        }
        if !self.routing.has_directory() {
            self.filler.due = now.instant + PAUSE_MIN;
            return;
        }
        self.filler.due = now.instant + self.filler.rng.jitter(self.filler.pause, JITTER_PERCENT);
        self.filler.pause = (self.filler.pause * 2).min(PAUSE_MAX);
        let own = dht_id(&self.me).0.first_chunk().copied().unwrap_or_default();
        let parts = self.dht.status().size_estimate.max(2).ilog2().min(PARTS_MAX);
        self.routing.list_near(now, own);
        for bits in 0..parts {
            let target = self.filler.target(own, bits);
            self.routing.list_near(now, target);
        }
    }

    /// The directory's answer: each has a way now.
    pub(super) fn on_listed(&mut self, now: Now, peers: &[PeerId]) {
        for peer in peers {
            self.contact_up(now, *peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_share_so_many_bits_with_us() {
        let mut filler = Filler::new(Now::ZERO, Rng::from_seed([1; 32]));
        let own = [0xa5; 16];
        for bits in [0, 1, 7, 40, 127] {
            let target = filler.target(own, bits);
            assert_eq!((u128::from_be_bytes(target) ^ u128::from_be_bytes(own)).leading_zeros(), bits);
        }
    }
}
