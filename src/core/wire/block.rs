//! The DHT's one block format: what is stored under a key, whoever stores it.
//!
//! ```text
//! version 1 | kind 1 | key 64 | signer scheme 1, public key 32 or 929 | sequence 8
//! | expiry 8 | work 8 | ciphertext 2 + n | signature 64 or 730
//! ```
//!
//! Anyone can check a block without reading it: size, expiry, signature. Signers are Ed25519
//! pseudonyms, except for `signed` blocks, whose signer is the publishing identity. A content
//! block has sequence and expiry 0, so that every honest publisher makes the same one; how long
//! it is kept is a lease outside the block. What the ciphertext holds is its publisher's affair.

use bytes::{BufMut, Bytes};

use super::{Error, Reader, put_vec16};
use crate::crypto::{
    BadSignature, Context, DhtKey, PublicKey, Purpose, Scheme, SigningKey, derive, keyed_mac, record_open, record_seal,
};
use crate::time::UnixTime;

/// The version this node reads and writes.
pub const VERSION: u8 = 1;
/// Longest ciphertext, bytes.
pub const CIPHERTEXT_LEN_MAX: usize = 16 * 1024;
/// Longest plaintext that [`seal`] takes, bytes: the nonce and the tag come on top.
pub const PLAINTEXT_LEN_MAX: usize = CIPHERTEXT_LEN_MAX - NONCE_LEN - TAG_LEN;
/// Longest encoded block, bytes.
pub const BLOCK_LEN_MAX: usize = 2 + 64 + 1 + 929 + 24 + 2 + CIPHERTEXT_LEN_MAX + 730;
/// How far ahead an expiry may lie, seconds: 30 days.
pub const LIFE_S_MAX: u64 = 30 * 24 * 3600;
/// How far clocks may be apart, seconds: 12 hours.
pub const CLOCK_TOLERANCE_S: u64 = 12 * 3600;
/// Bytes of the nonce in front of a sealed plaintext.
const NONCE_LEN: usize = 24;
/// Bytes of the tag behind it.
const TAG_LEN: usize = 16;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A value found by its hash.
    Content,
    /// A value of an identity, under a key that it chose.
    Signed,
    /// Where a node is.
    Hello,
    /// A label of a zone.
    Name,
}

impl Kind {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Content => 1,
            Self::Signed => 2,
            Self::Hello => 3,
            Self::Name => 4,
        }
    }

    /// The kind of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Content),
            2 => Some(Self::Signed),
            3 => Some(Self::Hello),
            4 => Some(Self::Name),
            _ => None,
        }
    }
}

/// Why a block is not stored, passed on or believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The signature does not hold.
    #[error("block has a bad signature")]
    Signature,
    /// It expired, by more than clocks may be apart.
    #[error("block has expired")]
    Expired,
    /// Its expiry is farther ahead than blocks may live.
    #[error("block expires too far ahead")]
    TooFar,
    /// A field has a value that its kind forbids.
    #[error("block breaks the rules of its kind: {0}")]
    Rules(&'static str),
}

impl From<BadSignature> for Invalid {
    fn from(_: BadSignature) -> Self {
        Self::Signature
    }
}

/// Tells the blocks under one key apart: the signer, and for content blocks (whose signer
/// everybody who knows the hash can derive) the ciphertext too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub [u8; 32]);

/// What a block says beside its ciphertext; sealed plaintexts are bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    /// What the block holds.
    pub kind: Kind,
    /// Where it is stored.
    pub key: &'a DhtKey,
    /// Who signs it.
    pub signer: &'a PublicKey,
    /// Its place among the signer's blocks under this key.
    pub sequence: u64,
    /// When it ends.
    pub expiry: UnixTime,
}

impl Header<'_> {
    /// The header's bytes: what the seal authenticates.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.kind.code()];
        out.put_slice(&self.key.0);
        out.put_u8(self.signer.scheme().code());
        out.put_slice(&self.signer.to_bytes());
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.expiry.0);
        out
    }
}

/// One stored block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What it holds.
    pub kind: Kind,
    /// Where it is stored.
    pub key: DhtKey,
    /// Who signed it.
    pub signer: PublicKey,
    /// Higher replaces lower; 0 for content.
    pub sequence: u64,
    /// When it ends, at most 30 days ahead; 0 for content, which lives by its lease.
    pub expiry: UnixTime,
    /// Nonce of its proof of work; 0 where none was needed.
    pub work: u64,
    /// What only readers understand; at most 16 KiB.
    pub ciphertext: Bytes,
    /// The signer's, over everything above.
    pub signature: Bytes,
}

impl Block {
    /// Signs a block without proof of work.
    ///
    /// # Errors
    /// [`Invalid::Rules`]: a ciphertext over 16 KiB, a content block with sequence or expiry, a Falcon signer of
    /// anything but a `signed` block.
    pub fn create(
        kind: Kind,
        key: DhtKey,
        signer: &SigningKey,
        sequence: u64,
        expiry: UnixTime,
        ciphertext: Bytes,
    ) -> Result<Self, Invalid> {
        let public = signer.public().clone();
        let block = Self { kind, key, signer: public, sequence, expiry, work: 0, ciphertext, signature: Bytes::new() };
        block.rules()?;
        Ok(block.signed(signer))
    }

    /// The same block with a proof of work of at least `bits`, signed again: what an owner does when its key is
    /// crowded. Tries `tries` nonces from `from` on; `Err` holds the nonce to go on from.
    ///
    /// # Errors
    /// None of the nonces was good enough.
    pub fn with_work(mut self, signer: &SigningKey, bits: u32, from: u64, tries: u64) -> Result<Self, u64> {
        let slot = self.slot();
        let until = from.saturating_add(tries);
        let found = (from..until).find(|nonce| work_bits(&self.key, &slot, self.expiry, *nonce) >= bits);
        self.work = found.ok_or(until)?;
        Ok(self.signed(signer))
    }

    /// Replaces the signature.
    fn signed(mut self, signer: &SigningKey) -> Self {
        let head = self.header().to_bytes();
        self.signature = signer.sign(Purpose::Block, &[&head, &self.work.to_le_bytes(), &self.ciphertext]).into();
        self
    }

    /// Everything beside the ciphertext.
    #[must_use]
    pub fn header(&self) -> Header<'_> {
        Header { kind: self.kind, key: &self.key, signer: &self.signer, sequence: self.sequence, expiry: self.expiry }
    }

    /// Which of the blocks under its key it is.
    #[must_use]
    pub fn slot(&self) -> Slot {
        let (kind, signer) = ([self.kind.code()], self.signer.to_bytes());
        let ciphertext: &[u8] = if self.kind == Kind::Content { &self.ciphertext } else { &[] };
        Slot(derive(Context::BlockSlot, &[&kind, &signer, ciphertext]))
    }

    /// Leading zero bits of its proof of work: the rank among the signers of a full key.
    #[must_use]
    pub fn work_bits(&self) -> u32 {
        work_bits(&self.key, &self.slot(), self.expiry, self.work)
    }

    /// Bytes of its encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        2 + 64 + 1 + self.signer.scheme().public_len() + 24 + 2 + self.ciphertext.len() + self.signature.len()
    }

    /// What its kind forbids, whatever the time.
    fn rules(&self) -> Result<(), Invalid> {
        if self.ciphertext.len() > CIPHERTEXT_LEN_MAX {
            return Err(Invalid::Rules("ciphertext over 16 KiB"));
        }
        if self.kind != Kind::Signed && self.signer.scheme() != Scheme::Ed25519 {
            return Err(Invalid::Rules("pseudonymous signers are Ed25519 keys"));
        }
        if self.kind == Kind::Content && (self.sequence != 0 || self.expiry.0 != 0) {
            return Err(Invalid::Rules("content has neither sequence nor expiry"));
        }
        Ok(())
    }

    /// Checks that its expiry is neither past nor too far ahead; content has none.
    ///
    /// # Errors
    /// [`Invalid::Expired`] and [`Invalid::TooFar`].
    pub fn check_expiry(&self, now: UnixTime) -> Result<(), Invalid> {
        if self.kind == Kind::Content { Ok(()) } else { check_life(self.expiry, now) }
    }

    /// Checks all that can be checked without reading it: rules, expiry, then the signature (one public-key operation).
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn verify(&self, now: UnixTime) -> Result<(), Invalid> {
        self.rules()?;
        self.check_expiry(now)?;
        self.verify_signature()
    }

    /// Checks the signature alone (one public-key operation).
    ///
    /// # Errors
    /// [`Invalid::Signature`].
    pub fn verify_signature(&self) -> Result<(), Invalid> {
        let head = self.header().to_bytes();
        let fields: [&[u8]; 3] = [&head, &self.work.to_le_bytes(), &self.ciphertext];
        Ok(self.signer.verify(Purpose::Block, &fields, &self.signature)?)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out
    }

    /// Appends its bytes.
    pub fn encode_into(&self, out: &mut impl BufMut) {
        out.put_slice(&self.header().to_bytes());
        out.put_u64_le(self.work);
        put_vec16(out, &self.ciphertext);
        out.put_slice(&self.signature);
    }

    /// Reads a block that is all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not a block; nothing about its validity.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let block = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(block)
    }

    /// Reads a block from the front of what is left.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.u8()? != VERSION {
            return Err(Error::Invalid("block version"));
        }
        let kind = Kind::from_code(reader.u8()?).ok_or(Error::Invalid("block kind"))?;
        let key = DhtKey(reader.array()?);
        let scheme = Scheme::from_code(reader.u8()?).ok_or(Error::Invalid("signature scheme"))?;
        let signer = reader.take(scheme.public_len())?;
        let signer = PublicKey::from_bytes(scheme, signer).map_err(|_| Error::Invalid("block signer"))?;
        let (sequence, expiry, work) = (reader.u64()?, UnixTime(reader.u64()?), reader.u64()?);
        let ciphertext = reader.vec16()?;
        if ciphertext.len() > CIPHERTEXT_LEN_MAX {
            return Err(Error::Invalid("block over 16 KiB"));
        }
        let ciphertext = Bytes::copy_from_slice(ciphertext);
        let signature = Bytes::copy_from_slice(reader.take(scheme.signature_len())?);
        Ok(Self { kind, key, signer, sequence, expiry, work, ciphertext, signature })
    }
}

/// Checks that an expiry or a lease is neither past nor too far ahead, with 12 hours of tolerance.
///
/// # Errors
/// [`Invalid::Expired`] and [`Invalid::TooFar`].
pub fn check_life(expiry: UnixTime, now: UnixTime) -> Result<(), Invalid> {
    if expiry.0.saturating_add(CLOCK_TOLERANCE_S) <= now.0 {
        return Err(Invalid::Expired);
    }
    if expiry.0 > now.0.saturating_add(LIFE_S_MAX + CLOCK_TOLERANCE_S) {
        return Err(Invalid::TooFar);
    }
    Ok(())
}

/// Leading zero bits of a nonce's proof of work over key, slot and expiry.
fn work_bits(key: &DhtKey, slot: &Slot, expiry: UnixTime, nonce: u64) -> u32 {
    let digest = derive(Context::BlockWork, &[&key.0, &slot.0, &expiry.0.to_le_bytes(), &nonce.to_le_bytes()]);
    let zeros = digest.iter().position(|byte| *byte != 0).unwrap_or(digest.len());
    let rest = digest.get(zeros).map_or(0, |byte| byte.leading_zeros());
    u32::try_from(zeros).unwrap_or(0) * 8 + rest
}

/// Seals a plaintext for a block's readers: nonce, ciphertext, tag. The nonce is a keyed hash of header and plaintext,
/// so that the same block comes out the same and no nonce meets two plaintexts; the header is authenticated.
///
/// # Errors
/// [`Invalid::Rules`] for a plaintext over [`PLAINTEXT_LEN_MAX`].
pub fn seal(encryption: &[u8; 32], header: &Header<'_>, plaintext: &[u8]) -> Result<Bytes, Invalid> {
    if plaintext.len() > PLAINTEXT_LEN_MAX {
        return Err(Invalid::Rules("plaintext too long for a block"));
    }
    let head = header.to_bytes();
    let digest = keyed_mac(&derive(Context::BlockNonce, &[encryption, &head]), plaintext);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&digest[..NONCE_LEN]);
    let mut out = nonce.to_vec();
    out.extend_from_slice(&record_seal(encryption, nonce, &head, plaintext));
    Ok(out.into())
}

/// Opens what [`seal`] made; `None` when it was not made for this key and header.
#[must_use]
pub fn open(encryption: &[u8; 32], block: &Block) -> Option<Vec<u8>> {
    let (nonce, sealed) = block.ciphertext.split_first_chunk::<NONCE_LEN>()?;
    record_open(encryption, *nonce, &block.header().to_bytes(), sealed)
}

#[cfg(test)]
mod tests;
