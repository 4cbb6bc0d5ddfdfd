//! What a name block holds inside its ciphertext: the records of a label, signed by the
//! identity whose zone it is.
//!
//! ```text
//! version 1 | scheme 1, identity key 32 or 929 | signature 64 or 730 | records 2 + n | zeroes
//! records: number 1, then each: type 1 | ttl 4 | value 2 + n
//! ```
//!
//! The whole is padded with zeroes to 256·2^k bytes, or to all that a block takes, so that a
//! storage node learns next to nothing from its length. An unknown version, scheme or record
//! type is an error: a reader that skipped a type could take a restriction away.

use bytes::{BufMut, Bytes};

use super::block::PLAINTEXT_LEN_MAX;
use super::{Error, Reader, put_vec16};
use crate::crypto::{PublicKey, Scheme, ServiceId};

/// The version this node reads and writes.
pub const VERSION: u8 = 1;
/// Records of one label.
pub const RECORDS_MAX: usize = 32;
/// Longest alias, bytes: the longest name of the DNS.
pub const ALIAS_LEN_MAX: usize = 253;
/// Longest text, bytes.
pub const TEXT_LEN_MAX: usize = 4096;
/// Longest session descriptor, bytes.
pub const NODE_LEN_MAX: usize = 12 * 1024;
/// Longest encoded records, bytes: what a block takes less keys and signatures of the longer scheme.
pub const RECORDS_LEN_MAX: usize = PLAINTEXT_LEN_MAX - 2 - 929 - 730 - 2;
/// Shortest padded length, bytes.
const PADDED_LEN_MIN: usize = 256;

/// One record of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The label is this identity: connections go there.
    Identity(ServiceId),
    /// The label is this zone: what stands left of it is looked up there.
    Zone(ServiceId),
    /// The label is another name.
    Alias(String),
    /// Free text.
    Text(String),
    /// A content block, by the hash of its value.
    Content([u8; 32]),
    /// Where a public identity is served: an encoded session descriptor. Only under the reserved label `@node`.
    Node(Bytes),
}

/// A record and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedRecord {
    /// What it says.
    pub record: Record,
    /// How long a reader may keep it, seconds.
    pub ttl_s: u32,
}

impl Record {
    /// The byte on the wire.
    const fn code(&self) -> u8 {
        match self {
            Self::Identity(_) => 1,
            Self::Zone(_) => 2,
            Self::Alias(_) => 3,
            Self::Text(_) => 4,
            Self::Content(_) => 5,
            Self::Node(_) => 6,
        }
    }

    /// Its bytes.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Identity(id) | Self::Zone(id) => &id.0,
            Self::Alias(text) | Self::Text(text) => text.as_bytes(),
            Self::Content(hash) => hash,
            Self::Node(bytes) => bytes,
        }
    }

    /// Whether it is no longer than its type may be.
    #[must_use]
    pub fn fits(&self) -> bool {
        match self {
            Self::Identity(_) | Self::Zone(_) | Self::Content(_) => true,
            Self::Alias(text) => text.len() <= ALIAS_LEN_MAX,
            Self::Text(text) => text.len() <= TEXT_LEN_MAX,
            Self::Node(bytes) => bytes.len() <= NODE_LEN_MAX,
        }
    }

    /// The value of a type and its bytes.
    fn parse(code: u8, bytes: &[u8]) -> Result<Self, Error> {
        let id = || <[u8; 32]>::try_from(bytes).map_err(|_| Error::Invalid("record value"));
        let text = || std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::Invalid("record text"));
        let value = match code {
            1 => Self::Identity(ServiceId(id()?)),
            2 => Self::Zone(ServiceId(id()?)),
            3 => Self::Alias(text()?),
            4 => Self::Text(text()?),
            5 => Self::Content(id()?),
            6 => Self::Node(Bytes::copy_from_slice(bytes)),
            _ => return Err(Error::Invalid("record type")),
        };
        if value.fits() { Ok(value) } else { Err(Error::Invalid("record too long")) }
    }
}

/// The bytes of the records of a label.
///
/// # Errors
/// More than [`RECORDS_MAX`], one too long, or all together longer than a block takes.
pub fn encode_records(records: &[TimedRecord]) -> Result<Vec<u8>, Error> {
    let number = u8::try_from(records.len()).ok().filter(|_| records.len() <= RECORDS_MAX);
    let mut out = vec![number.ok_or(Error::Invalid("too many records"))?];
    for record in records {
        if !record.record.fits() {
            return Err(Error::Invalid("record too long"));
        }
        out.put_u8(record.record.code());
        out.put_u32_le(record.ttl_s);
        put_vec16(&mut out, record.record.bytes());
    }
    if out.len() > RECORDS_LEN_MAX {
        return Err(Error::Invalid("records too long"));
    }
    Ok(out)
}

/// Reads the records of a label.
///
/// # Errors
/// Bytes that are not such a list.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<TimedRecord>, Error> {
    if bytes.len() > RECORDS_LEN_MAX {
        return Err(Error::Invalid("records too long"));
    }
    let mut r = Reader::new(bytes);
    let number = usize::from(r.u8()?);
    if number > RECORDS_MAX {
        return Err(Error::Invalid("too many records"));
    }
    let mut records = Vec::with_capacity(number);
    for _ in 0..number {
        let (code, ttl_s) = (r.u8()?, r.u32()?);
        records.push(TimedRecord { record: Record::parse(code, r.vec16()?)?, ttl_s });
    }
    r.finish()?;
    Ok(records)
}

/// The plaintext of a name block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The key of the identity whose zone it is.
    pub identity: PublicKey,
    /// Its signature over zone, label, signer, sequence, expiry and records.
    pub signature: Vec<u8>,
    /// The encoded records.
    pub records: Vec<u8>,
}

/// Length after padding of a plaintext of `len` bytes.
fn padded_len(len: usize) -> usize {
    len.next_power_of_two().clamp(PADDED_LEN_MIN, PLAINTEXT_LEN_MAX)
}

impl Payload {
    /// Its bytes, padded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.identity.scheme().code()];
        out.extend_from_slice(&self.identity.to_bytes());
        out.extend_from_slice(&self.signature);
        put_vec16(&mut out, &self.records);
        out.resize(padded_len(out.len()), 0);
        out
    }

    /// Reads a plaintext that is all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not one; nothing about the signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(Error::Invalid("name block version"));
        }
        let scheme = Scheme::from_code(r.u8()?).ok_or(Error::Invalid("signature scheme"))?;
        let identity = PublicKey::from_bytes(scheme, r.take(scheme.public_len())?);
        let identity = identity.map_err(|_| Error::Invalid("identity key"))?;
        let signature = r.take(scheme.signature_len())?.to_vec();
        let records = r.vec16()?.to_vec();
        if records.len() > RECORDS_LEN_MAX {
            return Err(Error::Invalid("records too long"));
        }
        if padded_len(bytes.len() - r.remaining()) != bytes.len() || r.rest().iter().any(|byte| *byte != 0) {
            return Err(Error::Invalid("padding"));
        }
        Ok(Self { identity, signature, records })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{Purpose, SigningKey};

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(|id| Record::Identity(ServiceId(id))),
            any::<[u8; 32]>().prop_map(|id| Record::Zone(ServiceId(id))),
            "[a-z.]{0,253}".prop_map(Record::Alias),
            "\\PC{0,99}".prop_map(Record::Text),
            any::<[u8; 32]>().prop_map(Record::Content),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Record::Node(bytes.into())),
        ]
    }

    proptest! {
        #[test]
        fn records_round_trip(values in prop::collection::vec((record(), any::<u32>()), 0..=RECORDS_MAX)) {
            let records: Vec<_> = values.into_iter().map(|(record, ttl_s)| TimedRecord { record, ttl_s }).collect();
            let bytes = encode_records(&records).unwrap();
            prop_assert_eq!(decode_records(&bytes), Ok(records));
            for len in 0..bytes.len() {
                prop_assert!(decode_records(&bytes[..len]).is_err());
            }
        }

        #[test]
        fn any_bytes_give_records_with_those_bytes_or_an_error(bytes: Vec<u8>, number in 0u8..3, code in 0u8..8) {
            let mut framed = vec![number, code, 0, 0, 0, 0];
            put_vec16(&mut framed, &bytes);
            for bytes in [bytes, framed] {
                if let Ok(records) = decode_records(&bytes) {
                    prop_assert_eq!(encode_records(&records).unwrap(), bytes.clone());
                }
                let _ = Payload::decode(&bytes);
            }
        }

        #[test]
        fn payloads_round_trip_and_one_changed_byte_is_another_payload_or_an_error(len in 0usize..3000, at: usize, flip in 1u8..) {
            let key = SigningKey::from_seed(&[3; 32]);
            let signature = key.sign(Purpose::NameRecords, &[]);
            let payload = Payload { identity: key.public().clone(), signature, records: vec![7; len] };
            let mut bytes = payload.encode();
            prop_assert!(bytes.len().is_power_of_two() && bytes.len() >= 256);
            prop_assert_eq!(Payload::decode(&bytes), Ok(payload.clone()));
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(other) = Payload::decode(&bytes) {
                prop_assert_eq!(other.encode(), bytes);
                prop_assert_ne!(other, payload);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let record = |record| TimedRecord { record, ttl_s: 1 };
        assert!(encode_records(&vec![record(Record::Content([0; 32])); RECORDS_MAX + 1]).is_err());
        assert!(encode_records(&[record(Record::Text("x".repeat(TEXT_LEN_MAX + 1)))]).is_err());
        assert!(encode_records(&vec![record(Record::Text("x".repeat(TEXT_LEN_MAX))); 4]).is_err());
        assert_eq!(padded_len(PLAINTEXT_LEN_MAX), PLAINTEXT_LEN_MAX);
    }
}
