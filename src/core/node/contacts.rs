//! Contacts of the DHT beyond routing's table: in a network larger than that, the landmarks'
//! directory says who is near to some places in the DHT, one in each part of it that lies
//! half as far as the one before; at first only of parts of which we know few. So R5N has its
//! buckets on any topology. And when the contacts are enough for blocks to find their places.

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

/// A network has formed around a node when its contacts have not grown for this long. Before, nobody hands blocks to
/// newcomers, which would be everybody to everybody; then all is published again.
const QUIET: Duration = Duration::from_millis(600);
/// Longest wait for that, from the first contact on.
const FORMING_MAX: Duration = Duration::from_secs(6);
/// Longest wait for a first contact.
const ALONE_MAX: Duration = Duration::from_secs(2);

/// Whether the network around us still forms.
pub(super) struct Forming {
    /// When it will have formed, unless more contacts come; none once it has.
    until: Option<Instant>,
    /// When it has formed in any case.
    limit: Option<Instant>,
}

impl Forming {
    /// It does.
    pub(super) fn new(now: Now) -> Self {
        Self { until: Some(now.instant + ALONE_MAX), limit: None }
    }

    /// A contact has come.
    fn grow(&mut self, now: Instant) {
        if self.until.is_some() {
            let limit = *self.limit.get_or_insert(now + FORMING_MAX);
            self.until = Some((now + QUIET).min(limit));
        }
    }

    /// Whether it has formed.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_none()
    }

    /// When it may have formed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    /// Lets time pass; says whether it has formed just now.
    fn ends(&mut self, now: Now) -> bool {
        let ends = self.until.is_some_and(|until| until <= now.instant);
        self.until = self.until.filter(|_| !ends);
        ends
    }
}

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
        if !self.routing.has_directory() || !self.has_dht {
            self.filler.due = now.instant + PAUSE_MIN;
            return;
        }
        let pause = self.filler.pause;
        self.filler.due = now.instant + self.filler.rng.jitter(pause, JITTER_PERCENT);
        self.filler.pause = (pause * 2).min(PAUSE_MAX);
        let own = dht_id(&self.me).0.first_chunk().copied().unwrap_or_default();
        let parts = self.dht.status().size_estimate.max(2).ilog2().min(PARTS_MAX);
        self.routing.list_near(now, own);
        // While a network forms, what is known well is not asked for; later all is, or places would end unrenewed.
        let forms = pause < PAUSE_MAX;
        for bits in (0..parts).filter(|bits| !forms || !self.dht.knows_part(*bits)) {
            let target = self.filler.target(own, bits);
            self.routing.list_near(now, target);
        }
    }

    /// A peer became reachable. What is published is stored again only when the contacts have grown by half since
    /// the last time: storers hand blocks to newly close peers by themselves, and in a large network somebody comes
    /// up all the time.
    pub(super) fn contact_up(&mut self, now: Now, peer: PeerId) {
        if !self.has_dht {
            return;
        }
        let before = self.dht.contacts_len();
        self.dht.contact_up(now, peer);
        let contacts = self.dht.contacts_len();
        if contacts > before {
            self.forming.grow(now.instant);
        }
        if contacts > self.contacts_at_restore + self.contacts_at_restore / 2 {
            self.contacts_at_restore = contacts;
            if self.forming.is_over() {
                self.publisher.handle_network_grown(now);
            }
        }
    }

    /// When the network has formed around us, what was published to the first contacts goes to the nearest ones.
    pub(super) fn end_forming(&mut self, now: Now) {
        if self.forming.ends(now) {
            self.dht.set_handover(true);
            if self.dht.contacts_len() > 1 {
                self.publisher.handle_network_grown(now);
                self.hello.again(now);
            }
        }
    }

    /// A peer went away. After a loss, growth counts from what is left.
    pub(super) fn contact_down(&mut self, now: Now, peer: PeerId) {
        self.dht.contact_down(now, peer);
        self.contacts_at_restore = self.contacts_at_restore.min(self.dht.contacts_len());
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
