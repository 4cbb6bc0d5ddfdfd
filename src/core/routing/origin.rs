//! What this node says of itself: an epoch that grows at each start, sequence numbers
//! within it, the chain that authenticates them, the signed proof of its anchor.
//!
//! The epoch is persisted by whoever receives [`super::Event::Persist`]. If that state is
//! lost, neighbours answer our old epoch with the proof they hold: it is signed by
//! ourselves, so we believe it and go one above.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::chain::{Chain, unroll};
use super::limits::{BUMP_MAX, BUMP_MIN};
use crate::crypto::{PeerId, Purpose, SigningKey};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::routing::{Element, FLAG_LANDMARK, Locator, OriginProof, Place, SEQ_END, Sequence};

/// What must survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpochState {
    /// The epoch last used; 0 when none was.
    pub epoch: u32,
}

/// Our own route.
pub(super) struct Origin {
    keys: Arc<SigningKey>,
    me: PeerId,
    rng: Rng,
    sequence: Sequence,
    elements: Zeroizing<Vec<Element>>,
    proof: Arc<OriginProof>,
    /// When the sequence last changed.
    pub(super) changed_at: Option<Instant>,
    /// How long a requested sequence waits after the last: doubles while requests go on, because each is told to
    /// the whole network.
    pub(super) wait: Duration,
}

impl Origin {
    /// Begins the epoch after `last`.
    pub(super) fn new(keys: Arc<SigningKey>, rng: Rng, last: EpochState) -> Self {
        let me = keys.public().peer_id();
        let proof = OriginProof { key: [0; 32], epoch: 0, anchor: [0; 16], flags: 0, signature: [0; 64] };
        let mut origin = Self {
            keys,
            me,
            rng,
            sequence: Sequence::default(),
            elements: Zeroizing::default(),
            proof: Arc::new(proof),
            changed_at: None,
            wait: BUMP_MIN,
        };
        origin.begin_epoch(last.epoch.saturating_add(1), 0);
        origin
    }

    /// Draws and signs a new chain.
    fn begin_epoch(&mut self, epoch: u32, flags: u8) {
        let key = self.keys.public().to_bytes().try_into().expect("node keys are Ed25519");
        let mut proof = OriginProof { key, epoch, anchor: [0; 16], flags, signature: [0; 64] };
        let chain = Chain::new(&self.me, epoch, proof.span());
        let secret = self.rng.secret_array();
        let (elements, anchor) = unroll(&chain, *secret);
        proof.anchor = anchor;
        let signature = self.keys.sign(Purpose::RouteOrigin, &[&OriginProof::signed_fields(epoch, &anchor, flags)]);
        proof.signature = signature.try_into().expect("node keys are Ed25519");
        self.proof = Arc::new(proof);
        self.elements = Zeroizing::new(elements);
        self.sequence = Sequence { epoch, seq: 0 };
    }

    /// Goes to the next sequence number. True when that began a new epoch, which must be persisted.
    pub(super) fn bump(&mut self, now: Instant) -> bool {
        let hurried = self.changed_at.is_some_and(|changed| now - changed < self.wait * 4);
        self.wait = if hurried { (self.wait * 2).min(BUMP_MAX) } else { BUMP_MIN };
        self.changed_at = Some(now);
        if self.sequence.seq + 1 < SEQ_END {
            self.sequence.seq += 1;
            return false;
        }
        self.begin_epoch(self.sequence.epoch.saturating_add(1), self.proof.flags);
        true
    }

    /// Becomes a landmark or ceases to be one: in a new epoch, which must be persisted.
    pub(super) fn set_landmark(&mut self, now: Instant, landmark: bool) {
        self.changed_at = Some(now);
        let flags = if landmark { FLAG_LANDMARK } else { 0 };
        self.begin_epoch(self.sequence.epoch.saturating_add(1), flags);
    }

    /// Looks at a proof about ourselves. If we signed it in a life that we have forgotten, begins an epoch above it and says so.
    pub(super) fn remember(&mut self, now: Instant, proof: &OriginProof) -> bool {
        let forgotten = proof.key == self.proof.key
            && (proof.epoch > self.sequence.epoch
                || proof.epoch == self.sequence.epoch && proof.anchor != self.proof.anchor);
        if !forgotten || proof.verify().is_err() {
            return false;
        }
        self.changed_at = Some(now);
        self.begin_epoch(proof.epoch.saturating_add(1), self.proof.flags);
        true
    }

    /// Our newest sequence.
    pub(super) fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Our proof.
    pub(super) fn proof(&self) -> &Arc<OriginProof> {
        &self.proof
    }

    /// The chain's element for our newest sequence and metric 0.
    pub(super) fn element(&self) -> Element {
        self.elements[usize::from(self.sequence.seq)]
    }

    /// Signs where this node is.
    pub(super) fn sign_place(&self, counter: u32, locators: Vec<Locator>, blob: Bytes) -> Option<Place> {
        let sequence = u64::from(self.sequence.epoch) << 32 | u64::from(counter);
        Place::sign(&self.keys, sequence, locators, blob)
    }

    /// Signs a batch of routes, as this node.
    pub(super) fn sign_advert(&self, unsigned: &[u8]) -> [u8; 64] {
        let signature = self.keys.sign(Purpose::RouteAdvert, &[&self.me.0, unsigned]);
        signature.try_into().expect("node keys are Ed25519")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Scheme;
    use crate::routing::chain::Verifier;

    /// An origin in its epoch after `last`.
    fn origin(last: u32, seed: u8) -> Origin {
        let keys = SigningKey::generate(Scheme::Ed25519, &mut Rng::from_seed([1; 32]));
        Origin::new(Arc::new(keys), Rng::from_seed([seed; 32]), EpochState { epoch: last })
    }

    #[test]
    fn every_sequence_is_proven_and_the_epoch_follows_the_last_one() {
        let mut origin = origin(4, 2);
        let mut epochs = 0;
        for _ in 0..40 {
            let proof = origin.proof().clone();
            assert_eq!(proof.verify(), Ok(()));
            let mut verifier = Verifier::new(&origin.me, &proof);
            assert!(verifier.check(origin.sequence().seq, 0, &origin.element()));
            let before = origin.sequence();
            epochs += u32::from(origin.bump(Instant::ZERO));
            assert!(origin.sequence() > before);
        }
        assert_eq!((epochs, origin.sequence().epoch), (2, 7));
    }

    #[test]
    fn a_forgotten_life_is_believed_only_with_our_signature() {
        let (mut now, before) = (origin(0, 2), origin(6, 3));
        let mut forged = (**before.proof()).clone();
        forged.epoch += 1;
        assert!(!now.remember(Instant::ZERO, &forged));
        assert!(now.remember(Instant::ZERO, before.proof()));
        assert_eq!(now.sequence().epoch, 8);
        assert!(!now.remember(Instant::ZERO, before.proof()));
        let (mut again, twin) = (origin(0, 4), origin(0, 5));
        assert!(again.remember(Instant::ZERO, twin.proof()));
    }
}
