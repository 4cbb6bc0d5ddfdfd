//! Ids, signature schemes, key agreement, AEAD and the key schedule. Every primitive
//! comes from a maintained crate; this room fixes how they are used: one context string
//! per derivation, one purpose per signature, length-prefixed fields everywhere.

mod aead;
mod agree;
mod ids;
mod kdf;
mod sign;
#[cfg(feature = "stand-in")]
pub mod stand_in;
#[cfg(not(feature = "stand-in"))]
mod stand_in;

pub use aead::{Aead, AeadKey, OpenError, TAG_LEN, record_open, record_seal};
pub use agree::{AgreementError, AgreementSecret, Group, SharedSecret, agree_respond};
pub use ids::{DhtKey, IdError, PeerId, ServiceId, path_tag};
pub use kdf::{Context, derive, derive_into, hash, hash_xof64, keyed_mac};
pub use sign::{BadSignature, KeyError, PublicKey, Purpose, Scheme, SigningKey};
pub(crate) use stand_in::on as stands_in;
pub use subtle::ConstantTimeEq;

/// Whether two secrets of public length are equal, in constant time.
#[must_use]
pub fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
