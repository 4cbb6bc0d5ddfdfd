//! A label as a DHT block: where it is stored, who seems to sign it, and what makes a
//! reader believe it.
//!
//! The outer signer is a pseudonym that the zone derives for that label alone, so storage
//! nodes can neither link two labels of a zone nor a zone to its owner. The reader trusts
//! only the identity's signature inside.

use super::ZoneLabel;
use crate::crypto::{Context, DhtKey, PublicKey, Purpose, ServiceId, SigningKey, derive, derive_into};
use crate::defence::{self, Defence};
use crate::time::UnixTime;
use crate::wire::Error;
use crate::wire::block::{Block, Invalid, Kind, open, seal};
use crate::wire::names::{Payload, TimedRecord, decode_records, encode_records};

/// What a zone says about a label, proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelBlock {
    /// The records; none: the label was withdrawn.
    pub records: Vec<TimedRecord>,
    /// Higher replaces lower.
    pub sequence: u64,
    /// When it ends.
    pub expiry: UnixTime,
}

/// Why a block says nothing about a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Another kind or key, or out of its time.
    #[error("not a block of this label")]
    Foreign,
    /// Sealed by somebody who does not know zone and label.
    #[error("not sealed for this label")]
    Seal,
    /// The plaintext is malformed.
    #[error("malformed name block: {0}")]
    Malformed(#[from] Error),
    /// The identity inside is not the zone's, or did not sign.
    #[error("not signed by the zone")]
    Forged,
}

/// Where a label is stored.
#[must_use]
pub fn block_key(zone: &ServiceId, label: &ZoneLabel) -> DhtKey {
    let mut key = DhtKey([0; 64]);
    derive_into(Context::NameKey, &[keyed_by(zone), label.as_str().as_bytes()], &mut key.0);
    key
}

/// The zone's part in place and key of its labels: who does not know the zone can neither find nor read them.
fn keyed_by(zone: &ServiceId) -> &[u8] {
    if defence::on(Defence::KeyedLocations) { &zone.0 } else { &[] }
}

/// What a label's block is sealed with.
fn encryption_key(zone: &ServiceId, label: &ZoneLabel) -> [u8; 32] {
    derive(Context::NameEncryption, &[keyed_by(zone), label.as_str().as_bytes()])
}

/// The pseudonym that signs a label's block outside.
pub(super) fn signer(identity: &SigningKey, label: &ZoneLabel) -> SigningKey {
    let label = if defence::on(Defence::Pseudonyms) { label.as_str() } else { "" };
    SigningKey::from_seed(&identity.derive_secret(Context::NameSigner, &[label.as_bytes()]))
}

/// What the identity signs.
fn signed<T>(
    zone: &ServiceId,
    label: &ZoneLabel,
    signer: &PublicKey,
    (sequence, expiry): (u64, UnixTime),
    records: &[u8],
    with: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    let (sequence, expiry) = (sequence.to_le_bytes(), expiry.0.to_le_bytes());
    with(&[&zone.0, label.as_str().as_bytes(), &signer.to_bytes(), &sequence, &expiry, records])
}

/// Makes the block of a label; no records withdraw it. Two signatures, one of them with the identity's key.
///
/// # Errors
/// Records that do not fit into a block.
pub fn create_block(identity: &SigningKey, label: &ZoneLabel, said: &LabelBlock) -> Result<Block, Invalid> {
    let zone = identity.public().service_id();
    let signer = signer(identity, label);
    let records = encode_records(&said.records).map_err(|_| Invalid::Rules("records do not fit into a block"))?;
    let signature = signed(&zone, label, signer.public(), (said.sequence, said.expiry), &records, |fields| {
        identity.sign(Purpose::NameRecords, fields)
    });
    let payload = Payload { identity: identity.public().clone(), signature, records };
    let key = block_key(&zone, label);
    let (sequence, expiry) = (said.sequence, said.expiry);
    let header = crate::wire::block::Header { kind: Kind::Name, key: &key, signer: signer.public(), sequence, expiry };
    let ciphertext = seal(&encryption_key(&zone, label), &header, &payload.encode())?;
    Block::create(Kind::Name, key, &signer, sequence, expiry, ciphertext)
}

/// What a block says about a label. The outer signature is not looked at: who could forge it gains nothing.
///
/// # Errors
/// See [`Rejected`].
pub fn open_block(now: UnixTime, zone: &ServiceId, label: &ZoneLabel, block: &Block) -> Result<LabelBlock, Rejected> {
    if block.kind != Kind::Name || block.key != block_key(zone, label) || block.check_expiry(now).is_err() {
        return Err(Rejected::Foreign);
    }
    let plaintext = open(&encryption_key(zone, label), block).ok_or(Rejected::Seal)?;
    let payload = Payload::decode(&plaintext)?;
    if payload.identity.service_id() != *zone {
        return Err(Rejected::Forged);
    }
    let time = (block.sequence, block.expiry);
    signed(zone, label, &block.signer, time, &payload.records, |fields| {
        payload.identity.verify(Purpose::NameRecords, fields, &payload.signature)
    })
    .map_err(|_| Rejected::Forged)?;
    let records = decode_records(&payload.records)?;
    Ok(LabelBlock { records, sequence: block.sequence, expiry: block.expiry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Scheme;
    use crate::rng::Rng;
    use crate::wire::block::Header;
    use crate::wire::names::Record;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn said(text: &str) -> LabelBlock {
        let records = vec![TimedRecord { record: Record::Text(text.into()), ttl_s: 60 }];
        LabelBlock { records, sequence: 5, expiry: UnixTime(NOW.0 + 3600) }
    }

    #[test]
    fn who_knows_zone_and_label_reads_it_in_both_schemes() {
        let mut rng = Rng::from_seed([1; 32]);
        for scheme in [Scheme::Ed25519, Scheme::FalconEd25519] {
            let key = SigningKey::generate(scheme, &mut rng);
            let zone = key.public().service_id();
            let label = ZoneLabel::new("blog").unwrap();
            let block = create_block(&key, &label, &said("hi")).unwrap();
            assert_eq!(block.verify(NOW), Ok(()));
            assert_eq!(open_block(NOW, &zone, &label, &block), Ok(said("hi")));
            let other = ZoneLabel::new("blag").unwrap();
            assert_eq!(open_block(NOW, &zone, &other, &block), Err(Rejected::Foreign));
            let late = UnixTime(NOW.0 + 3600 + 13 * 3600);
            assert_eq!(open_block(late, &zone, &label, &block), Err(Rejected::Foreign));
        }
    }

    #[test]
    fn labels_of_a_zone_share_neither_key_nor_signer_nor_length() {
        let key = SigningKey::from_seed(&[1; 32]);
        let (a, b) = (ZoneLabel::new("a").unwrap(), ZoneLabel::new("b").unwrap());
        let first = create_block(&key, &a, &said("x")).unwrap();
        let second = create_block(&key, &b, &said("xxxxxxxxxxx")).unwrap();
        assert_ne!(first.key, second.key);
        assert_ne!(first.signer, second.signer);
        assert_ne!(&first.signer, key.public());
        assert_eq!(first.ciphertext.len(), second.ciphertext.len());
        assert_eq!(create_block(&key, &a, &said("x")).unwrap(), first, "the same block each time");
    }

    #[test]
    fn one_who_knows_zone_and_label_cannot_forge() {
        let key = SigningKey::from_seed(&[1; 32]);
        let zone = key.public().service_id();
        let label = ZoneLabel::new("blog").unwrap();
        let block = create_block(&key, &label, &said("hi")).unwrap();
        let encryption = encryption_key(&zone, &label);
        let plaintext = open(&encryption, &block).unwrap();
        let mallory = SigningKey::from_seed(&[2; 32]);
        let seal_as = |signer: &SigningKey, sequence, plaintext: &[u8]| {
            let expiry = block.expiry;
            let header = Header { kind: Kind::Name, key: &block.key, signer: signer.public(), sequence, expiry };
            let ciphertext = seal(&encryption, &header, plaintext).unwrap();
            Block::create(Kind::Name, block.key, signer, sequence, expiry, ciphertext).unwrap()
        };
        // The same words under another signer, or another sequence.
        let pseudonym = signer(&key, &label);
        for forged in
            [seal_as(&mallory, 5, &plaintext), seal_as(&mallory, 6, &plaintext), seal_as(&pseudonym, 6, &plaintext)]
        {
            assert_eq!(forged.verify(NOW), Ok(()));
            assert_eq!(open_block(NOW, &zone, &label, &forged), Err(Rejected::Forged));
        }
        // Other words, signed by Mallory under her own name or the zone's.
        let mut payload = Payload::decode(&plaintext).unwrap();
        payload.records = encode_records(&said("no").records).unwrap();
        assert_eq!(open_block(NOW, &zone, &label, &seal_as(&mallory, 5, &payload.encode())), Err(Rejected::Forged));
        payload.identity = mallory.public().clone();
        assert_eq!(open_block(NOW, &zone, &label, &seal_as(&mallory, 5, &payload.encode())), Err(Rejected::Forged));
        // Junk that is not even sealed.
        let junk = Block { ciphertext: vec![0; 300].into(), ..block.clone() };
        assert_eq!(open_block(NOW, &zone, &label, &junk), Err(Rejected::Seal));
    }
}
