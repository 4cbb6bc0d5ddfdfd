//! Descriptors: who takes sessions where and under which keys, signed by that node. An
//! identity publishes its descriptor inside its own signed record, so both must agree:
//! the identity that this node holds its keys, the node that it serves this identity.
//! Nobody can pass off another's keys or node as theirs.

use std::time::Duration;

use crate::crypto::{Context, PeerId, PublicKey, Purpose, SigningKey, derive};
use crate::time::UnixTime;
use crate::wire::session_handshake::{Descriptor, Owner, Signed};

/// How long a fresh descriptor may be used: rotation takes at most 27 h, records live on in caches for some hours.
pub(super) const LIFETIME: Duration = Duration::from_secs(36 * 3_600);
/// How far clocks may be apart, PROTOCOL.md §1. Keys live this much longer than their descriptor.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(12 * 3_600);

/// Why a descriptor must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// The signature does not hold, or the key is not that node's.
    #[error("the node's signature does not hold")]
    Signature,
    /// It names a machine as owner, but another machine holds the keys.
    #[error("a machine's sessions are taken by another machine")]
    Owner,
    /// It expired, or expires later than any honest one would.
    #[error("it is out of date")]
    Expired,
}

/// What an owner's keys are, before anybody signs for them.
pub(super) struct Keys {
    /// X25519 trial key.
    pub trial: [u8; 32],
    /// Hybrid share.
    pub share: Vec<u8>,
}

impl Descriptor {
    /// Signs for `keys` of `owner`, taken at `node_key`'s machine until `expiry`.
    pub(super) fn sign(owner: Owner, node_key: &SigningKey, expiry: UnixTime, keys: Keys) -> Self {
        let public = node_key.public();
        let mut descriptor = Self {
            owner,
            node: public.peer_id(),
            expiry: expiry.0,
            trial: keys.trial,
            share: keys.share,
            node_signature: Signed { scheme: public.scheme(), key: public.to_bytes(), signature: Vec::new() },
        };
        descriptor.node_signature.signature =
            descriptor.with_fields(|fields| node_key.sign(Purpose::SessionDescriptor, fields));
        descriptor
    }

    /// Checks that the node signed, that a machine speaks for itself only, and the dates as far as clocks allow.
    ///
    /// # Errors
    /// See [`DescriptorError`].
    pub fn verify(&self, now: UnixTime) -> Result<(), DescriptorError> {
        if matches!(self.owner, Owner::Peer(peer) if peer != self.node) {
            return Err(DescriptorError::Owner);
        }
        let tolerance = CLOCK_TOLERANCE.as_secs();
        let latest = now.0.saturating_add(LIFETIME.as_secs()).saturating_add(tolerance);
        if self.expiry.saturating_add(tolerance) < now.0 || self.expiry > latest {
            return Err(DescriptorError::Expired);
        }
        let signed = &self.node_signature;
        let key = PublicKey::from_bytes(signed.scheme, &signed.key).map_err(|_| DescriptorError::Signature)?;
        if key.peer_id() != self.node {
            return Err(DescriptorError::Signature);
        }
        self.with_fields(|fields| key.verify(Purpose::SessionDescriptor, fields, &signed.signature))
            .map_err(|_| DescriptorError::Signature)
    }

    /// Names this very descriptor in a handshake's transcript.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        derive(Context::SessionDescriptor, &[&self.encode()])
    }

    /// Calls `f` with what the node signs.
    fn with_fields<T>(&self, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        let PeerId(node) = self.node;
        f(&[&self.owner.to_bytes(), &node, &self.expiry.to_le_bytes(), &self.trial, &self.share])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{AgreementSecret, Group, Scheme, ServiceId};
    use crate::rng::Rng;

    fn keys(rng: &mut Rng) -> Keys {
        let trial = AgreementSecret::generate(Group::X25519, rng).public_share().try_into().unwrap();
        Keys { trial, share: AgreementSecret::generate(Group::X25519MlKem768, rng).public_share() }
    }

    fn signed() -> (Descriptor, SigningKey, Rng) {
        let mut rng = Rng::from_seed([1; 32]);
        let node_key = SigningKey::generate(Scheme::Ed25519, &mut rng);
        let keys = keys(&mut rng);
        let owner = Owner::Service(ServiceId([7; 32]));
        (Descriptor::sign(owner, &node_key, UnixTime(1_000_000), keys), node_key, rng)
    }

    #[test]
    fn a_signed_descriptor_holds_and_any_changed_field_breaks_it() {
        let (descriptor, ..) = signed();
        let now = UnixTime(1_000_000);
        assert_eq!(descriptor.verify(now), Ok(()));
        let bytes = descriptor.encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let holds = Descriptor::decode(&bad).is_ok_and(|bad| bad.verify(now).is_ok());
            assert!(!holds, "byte {at}");
        }
    }

    #[test]
    fn dates_are_checked_with_twelve_hours_of_tolerance() {
        let (descriptor, ..) = signed();
        let tolerance = CLOCK_TOLERANCE.as_secs();
        assert_eq!(descriptor.verify(UnixTime(1_000_000 + tolerance)), Ok(()));
        assert_eq!(descriptor.verify(UnixTime(1_000_001 + tolerance)), Err(DescriptorError::Expired));
        let early = 1_000_000 - LIFETIME.as_secs() - tolerance;
        assert_eq!(descriptor.verify(UnixTime(early)), Ok(()));
        assert_eq!(descriptor.verify(UnixTime(early - 1)), Err(DescriptorError::Expired));
    }

    #[test]
    fn a_machine_speaks_for_itself_only() {
        let (_, node_key, mut rng) = signed();
        let me = node_key.public().peer_id();
        let own = Descriptor::sign(Owner::Peer(me), &node_key, UnixTime(0), keys(&mut rng));
        assert_eq!(own.verify(UnixTime(0)), Ok(()));
        let other = Descriptor::sign(Owner::Peer(PeerId([9; 32])), &node_key, UnixTime(0), keys(&mut rng));
        assert_eq!(other.verify(UnixTime(0)), Err(DescriptorError::Owner));
    }
}
