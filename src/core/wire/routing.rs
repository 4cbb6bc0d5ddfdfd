//! Routing messages: adverts and what keeps them true, probes, routed datagrams.
//!
//! ```text
//! ADVERT        flags 1 | number varint | count varint | count items | signature 64
//!   item        0 | short 8 | epoch low 1 | seq 1 | metric varint | next-hop tag 4 | chain 16   (2: a landmark)
//!               1 | proof 118             | seq 1 | metric varint | next-hop tag 4 | chain 16
//!   proof       scheme 1 | key 32 | epoch 4 | anchor 16 | flags 1 | signature 64
//! WITHDRAW, UNREACH   number varint | count varint | count (short 8 | epoch 4 | seq 1)
//! SEQREQ        destination 32 | epoch 4 | seq 1 | hops left 2
//! REFILL        count varint | count shorts 8          (none: everything)
//! DIGEST        sum 8 | count varint
//! PROBE         nonce 8 | destination 32 | hops left 2
//! PROBE_FOUND   nonce 8 | proof 118 | seq 1 | metric varint | chain 16
//! ROUTED        destination 32 | hops left 2 | token 8 (zero: no answer wanted) | way | payload
//! ROUTED_ANSWER token 8 | payload
//! REGISTER      landmark 32 | hops left 2 | token 8 | distance varint | way
//! PLACE         destination 32 | hops left 2 | token 8 | a request of the directory
//! ```
//!
//! A *short* is the beginning of a PeerId: enough to name a destination whose proof the
//! receiver has, and unlike an index it needs no state per link.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, Reader, put_varint};
use crate::crypto::{BadSignature, PeerId, PublicKey, Purpose, Scheme};

mod datagram;
mod place;
mod request;
#[cfg(test)]
mod tests;

pub use datagram::{PAYLOAD_MAX, Routed, RoutedAnswer};
pub use place::{
    BLOB_LEN_MAX, LISTED_MAX, LOCATOR_LEN_MAX, LOCATORS_MAX, Locator, Place, PlaceAnswer, PlaceRequest, Register,
};
pub use request::{Digest, Probe, ProbeFound, Refill, SeqRequest, WANTED_MAX};

/// Metrics are below this; the value itself says unreachable.
pub const METRIC_END: u16 = 4096;
/// Metrics of whoever is no landmark are below this: its chain is shorter, and nobody keeps it from so far away.
pub const VICINITY_END: u16 = 1024;
/// Sequence numbers of one epoch are below this.
pub const SEQ_END: u8 = 16;
/// Items of one ADVERT, or entries of one WITHDRAW or UNREACH, at most.
pub const ITEMS_MAX: usize = 256;
/// Bytes of an encoded [`OriginProof`].
pub const PROOF_LEN: usize = 118;
/// Bytes of an Ed25519 signature.
const SIGNATURE_LEN: usize = 64;

/// The beginning of a PeerId.
pub type Short = [u8; 8];
/// An element of a destination's hash chain.
pub type Element = [u8; 16];

/// The short of a PeerId.
#[must_use]
pub fn short(peer: &PeerId) -> Short {
    let mut out = [0; 8];
    out.copy_from_slice(&peer.0[..8]);
    out
}

/// How new a destination's route is: a later epoch wins, then a later number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence {
    /// Starts of the destination, and exhausted chains.
    pub epoch: u32,
    /// Number within the epoch, below [`SEQ_END`].
    pub seq: u8,
}

impl Sequence {
    /// Reads epoch and number.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self { epoch: reader.u32()?, seq: decode_seq(reader)? })
    }

    /// Appends epoch and number.
    fn encode(self, out: &mut BytesMut) {
        out.put_u32_le(self.epoch);
        out.put_u8(self.seq);
    }
}

/// What a destination signs once per epoch: the anchor of its hash chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginProof {
    /// Ed25519 node key; the PeerId is its hash.
    pub key: [u8; 32],
    /// Grows at each start of the destination.
    pub epoch: u32,
    /// End of the epoch's chain.
    pub anchor: Element,
    /// What the destination says of itself; bits without a meaning yet are kept.
    pub flags: u8,
    /// Over the fields above.
    pub signature: [u8; SIGNATURE_LEN],
}

/// Flag of a proof: everybody keeps a route to this destination.
pub const FLAG_LANDMARK: u8 = 1;

impl OriginProof {
    /// Whether everybody keeps a route to this destination.
    #[must_use]
    pub fn is_landmark(&self) -> bool {
        self.flags & FLAG_LANDMARK != 0
    }

    /// Metrics of this destination are below this, in this epoch.
    #[must_use]
    pub fn span(&self) -> u16 {
        if self.is_landmark() { METRIC_END } else { VICINITY_END }
    }

    /// Whose proof it is, if the key is one: the hash needs no curve.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        PublicKey::peer_id_of(Scheme::Ed25519, &self.key)
    }

    /// The bytes that the signature covers.
    #[must_use]
    pub fn signed_fields(epoch: u32, anchor: &Element, flags: u8) -> [u8; 21] {
        let mut out = [0; 21];
        out[..4].copy_from_slice(&epoch.to_le_bytes());
        out[4..20].copy_from_slice(anchor);
        out[20] = flags;
        out
    }

    /// The key, if it is one.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        PublicKey::from_bytes(Scheme::Ed25519, &self.key).ok()
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BadSignature`], also when the key is none.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let fields = Self::signed_fields(self.epoch, &self.anchor, self.flags);
        PublicKey::verify_by(&self.key, Purpose::RouteOrigin, &[&fields], &self.signature)
    }

    /// Reads a proof.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.u8()? != Scheme::Ed25519.code() {
            return Err(Error::Invalid("scheme of an origin proof"));
        }
        Ok(Self {
            key: reader.array()?,
            epoch: reader.u32()?,
            anchor: reader.array()?,
            flags: reader.u8()?,
            signature: reader.array()?,
        })
    }

    /// Appends the proof.
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(Scheme::Ed25519.code());
        out.put_slice(&self.key);
        out.put_u32_le(self.epoch);
        out.put_slice(&self.anchor);
        out.put_u8(self.flags);
        out.put_slice(&self.signature);
    }
}

/// Which destination an item is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One whose proof the receiver has.
    Known {
        /// The beginning of its PeerId.
        short: Short,
        /// Low byte of the epoch: tells a receiver with an older proof that it needs the new one.
        epoch_low: u8,
        /// Whether the proof says that it is a landmark: tells a receiver without it whether to ask.
        landmark: bool,
    },
    /// Any, with its proof.
    Proven(Box<OriginProof>),
}

/// One route of an advert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The destination.
    pub subject: Subject,
    /// Its sequence number.
    pub seq: u8,
    /// The advertiser's distance, at most [`METRIC_END`] (unreachable).
    pub metric: u16,
    /// Names the advertiser's next hop to that next hop itself: poison reverse.
    pub tag: [u8; 4],
    /// The chain's element for (seq, metric).
    pub chain: Element,
}

impl Item {
    /// Reads an item.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let subject = match reader.u8()? {
            form @ (0 | 2) => Subject::Known { short: reader.array()?, epoch_low: reader.u8()?, landmark: form == 2 },
            1 => Subject::Proven(Box::new(OriginProof::decode(reader)?)),
            _ => return Err(Error::Invalid("form of an item")),
        };
        Ok(Self {
            subject,
            seq: decode_seq(reader)?,
            metric: decode_metric(reader)?,
            tag: reader.array()?,
            chain: reader.array()?,
        })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut BytesMut) {
        match &self.subject {
            Subject::Known { short, epoch_low, landmark } => {
                out.put_u8(if *landmark { 2 } else { 0 });
                out.put_slice(short);
                out.put_u8(*epoch_low);
            }
            Subject::Proven(proof) => {
                out.put_u8(1);
                proof.encode(out);
            }
        }
        out.put_u8(self.seq);
        put_varint(out, u64::from(self.metric));
        out.put_slice(&self.tag);
        out.put_slice(&self.chain);
    }
}

/// Where a batch stands in a retelling of the whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The first batch: what was told before is told anew.
    pub start: bool,
    /// The last batch: what was not told since the first does not hold any more.
    pub end: bool,
}

/// A signed batch of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// Place in a retelling.
    pub marks: Marks,
    /// Grows with every batch of the advertiser.
    pub number: u64,
    /// At most [`ITEMS_MAX`] routes.
    pub items: Vec<Item>,
    /// The advertiser's, over everything before it.
    pub signature: [u8; SIGNATURE_LEN],
}

impl Advert {
    /// The unsigned part: what the signature covers.
    ///
    /// # Panics
    /// With more than [`ITEMS_MAX`] items: whoever builds a batch counts.
    #[must_use]
    pub fn encode_unsigned(marks: Marks, number: u64, items: &[Item]) -> BytesMut {
        assert!(items.len() <= ITEMS_MAX, "a batch of at most 256 items");
        let mut out = BytesMut::new();
        out.put_u8(u8::from(marks.start) | u8::from(marks.end) << 1);
        put_varint(&mut out, number);
        put_varint(&mut out, items.len() as u64);
        items.iter().for_each(|item| item.encode(&mut out));
        out
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Self::encode_unsigned(self.marks, self.number, &self.items);
        out.put_slice(&self.signature);
        out.freeze()
    }

    /// Reads the message; also gives the bytes that the signature covers.
    ///
    /// # Errors
    /// Bytes that are no advert.
    pub fn decode(body: &[u8]) -> Result<(Self, &[u8]), Error> {
        let signed = body.get(..body.len().saturating_sub(SIGNATURE_LEN)).unwrap_or_default();
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        if flags > 3 {
            return Err(Error::Invalid("flags of an advert"));
        }
        let marks = Marks { start: flags & 1 != 0, end: flags & 2 != 0 };
        let number = reader.varint()?;
        let items = decode_list(&mut reader, ITEMS_MAX, Item::decode)?;
        let signature = reader.array()?;
        reader.finish()?;
        Ok((Self { marks, number, items, signature }, signed))
    }
}

/// A route that does not hold any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retraction {
    /// The destination.
    pub short: Short,
    /// What was advertised last.
    pub sequence: Sequence,
}

/// The body of WITHDRAW and UNREACH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retractions {
    /// Its place among the advertiser's batches: it takes back what those before it say, also if they come later.
    pub number: u64,
    /// At most [`ITEMS_MAX`].
    pub list: Vec<Retraction>,
}

impl Retractions {
    /// Appends all.
    ///
    /// # Panics
    /// With more than [`ITEMS_MAX`]: whoever builds a batch counts.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        assert!(self.list.len() <= ITEMS_MAX, "a batch of at most 256 retractions");
        let mut out = BytesMut::new();
        put_varint(&mut out, self.number);
        put_varint(&mut out, self.list.len() as u64);
        for retraction in &self.list {
            out.put_slice(&retraction.short);
            retraction.sequence.encode(&mut out);
        }
        out.freeze()
    }

    /// Reads all.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let number = reader.varint()?;
        let list = decode_list(&mut reader, ITEMS_MAX, |reader| {
            Ok(Retraction { short: reader.array()?, sequence: Sequence::decode(reader)? })
        })?;
        reader.finish()?;
        Ok(Self { number, list })
    }
}

/// Reads a sequence number of an epoch.
fn decode_seq(reader: &mut Reader<'_>) -> Result<u8, Error> {
    let seq = reader.u8()?;
    if seq < SEQ_END { Ok(seq) } else { Err(Error::Invalid("sequence number of a route")) }
}

/// Reads a metric.
fn decode_metric(reader: &mut Reader<'_>) -> Result<u16, Error> {
    let metric = u16::try_from(reader.varint()?).unwrap_or(u16::MAX);
    if metric <= METRIC_END { Ok(metric) } else { Err(Error::Invalid("metric of a route")) }
}

/// Reads a counted list of at most `max` elements.
fn decode_list<'a, T>(
    reader: &mut Reader<'a>,
    max: usize,
    mut element: impl FnMut(&mut Reader<'a>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if count > max {
        return Err(Error::Invalid("length of a list"));
    }
    (0..count).map(|_| element(reader)).collect()
}
