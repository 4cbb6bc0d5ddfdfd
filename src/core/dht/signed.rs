//! Signed blocks: an identity's value under a key that it chose. Sealed with the hash of the key, so
//! every node that sees the key can read it; who wrote it is certain.

use bytes::Bytes;

use crate::crypto::{Context, DhtKey, ServiceId, SigningKey, derive_into, hash};
use crate::time::UnixTime;
use crate::wire::block::{Block, Header, Invalid, Kind, open, seal};

/// The key of an identity's block when it chooses none.
#[must_use]
pub fn signed_key(identity: &ServiceId) -> DhtKey {
    let mut key = [0; 64];
    derive_into(Context::SignedKey, &[&identity.0], &mut key);
    DhtKey(key)
}

/// An identity's value under a key. A higher sequence replaces a lower one.
///
/// # Errors
/// [`Invalid::Rules`] for a value that does not fit a block.
pub fn seal_signed(
    identity: &SigningKey,
    key: DhtKey,
    sequence: u64,
    expiry: UnixTime,
    value: &[u8],
) -> Result<Block, Invalid> {
    let header = Header { kind: Kind::Signed, key: &key, signer: identity.public(), sequence, expiry };
    let ciphertext = seal(&hash(&key.0), &header, value)?;
    Block::create(Kind::Signed, key, identity, sequence, expiry, ciphertext)
}

/// Who wrote a verified block, and what.
#[must_use]
pub fn open_signed(block: &Block) -> Option<(ServiceId, Bytes)> {
    if block.kind != Kind::Signed {
        return None;
    }
    let value = open(&hash(&block.key.0), block)?;
    Some((block.signer.service_id(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Scheme;
    use crate::rng::Rng;

    #[test]
    fn values_come_back_with_their_writer_under_either_scheme() {
        for scheme in [Scheme::Ed25519, Scheme::FalconEd25519] {
            let identity = SigningKey::generate(scheme, &mut Rng::from_seed([1; 32]));
            let id = identity.public().service_id();
            let block = seal_signed(&identity, signed_key(&id), 3, UnixTime(100), b"value").unwrap();
            assert_eq!(block.verify(UnixTime(5)), Ok(()));
            assert_eq!(open_signed(&block), Some((id, Bytes::from_static(b"value"))));
            let other = Block { kind: Kind::Name, ..block };
            assert_eq!(open_signed(&other), None);
        }
    }
}
