//! Content blocks: a value under its hash. Everything about them follows from the hash, so every
//! honest publisher makes the same block, and who does not know the hash can neither find nor read it.

use bytes::Bytes;

use crate::crypto::{Context, DhtKey, SigningKey, derive, hash, hash_xof64};
use crate::time::UnixTime;
use crate::wire::block::{Block, Header, Invalid, Kind, open, seal};

/// Where the value with a hash is stored.
#[must_use]
pub fn content_key(value_hash: &[u8; 32]) -> DhtKey {
    DhtKey(hash_xof64(value_hash))
}

/// The block of a value, and the hash by which it is found.
///
/// # Errors
/// [`Invalid::Rules`] for a value that does not fit a block.
pub fn seal_content(value: &[u8]) -> Result<([u8; 32], Block), Invalid> {
    let value_hash = hash(value);
    let (key, signer) =
        (content_key(&value_hash), SigningKey::from_seed(&derive(Context::ContentSigner, &[&value_hash])));
    let header = Header { kind: Kind::Content, key: &key, signer: signer.public(), sequence: 0, expiry: UnixTime(0) };
    let ciphertext = seal(&value_hash, &header, value)?;
    Ok((value_hash, Block::create(Kind::Content, key, &signer, 0, UnixTime(0), ciphertext)?))
}

/// The value of a block that was found under a hash; `None` when it is anything but that value.
#[must_use]
pub fn open_content(value_hash: &[u8; 32], block: &Block) -> Option<Bytes> {
    let value = open(value_hash, block)?;
    (hash(&value) == *value_hash).then(|| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_makes_the_same_block_and_reads_it_by_its_hash() {
        let (value_hash, block) = seal_content(b"value").unwrap();
        assert_eq!(seal_content(b"value").unwrap(), (value_hash, block.clone()));
        assert_eq!(block.verify(UnixTime(5)), Ok(()));
        assert_eq!(open_content(&value_hash, &block).unwrap(), &b"value"[..]);
        assert_eq!(block.key, content_key(&value_hash));
        assert_eq!(open_content(&[0; 32], &block), None);
    }

    #[test]
    fn a_block_with_another_value_under_the_hash_is_not_taken() {
        let (value_hash, honest) = seal_content(b"value").unwrap();
        let signer = SigningKey::from_seed(&derive(Context::ContentSigner, &[&value_hash]));
        let ciphertext = seal(&value_hash, &honest.header(), b"junk").unwrap();
        let forged = Block::create(Kind::Content, honest.key, &signer, 0, UnixTime(0), ciphertext).unwrap();
        assert_eq!(forged.verify(UnixTime(5)), Ok(()));
        assert_ne!(forged.slot(), honest.slot());
        assert_eq!(open_content(&value_hash, &forged), None);
    }
}
