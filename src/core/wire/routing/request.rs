//! What neighbours ask of one another about routes, and the digests that find drift.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Element, OriginProof, Sequence, Short, decode_list, decode_metric, decode_seq};
use crate::crypto::PeerId;
use crate::wire::{Error, Reader, put_varint};

/// Destinations that one REFILL names, at most.
pub const WANTED_MAX: usize = 64;

/// Asks for a route newer than the one named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqRequest {
    /// The destination.
    pub dest: PeerId,
    /// What does not suffice any more.
    pub newer_than: Sequence,
    /// How much further the request may go.
    pub hops_left: u16,
}

impl SeqRequest {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&self.dest.0);
        self.newer_than.encode(&mut out);
        out.put_u16_le(self.hops_left);
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let request = Self {
            dest: PeerId(reader.array()?),
            newer_than: Sequence::decode(&mut reader)?,
            hops_left: reader.u16()?,
        };
        reader.finish()?;
        Ok(request)
    }
}

/// Asks for routes with their proofs: the named ones, or all when none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refill {
    /// At most [`WANTED_MAX`] destinations.
    pub wanted: Vec<Short>,
}

impl Refill {
    /// The message.
    ///
    /// # Panics
    /// With more than [`WANTED_MAX`]: whoever asks counts.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        assert!(self.wanted.len() <= WANTED_MAX, "at most 64 wanted routes");
        let mut out = BytesMut::new();
        put_varint(&mut out, self.wanted.len() as u64);
        self.wanted.iter().for_each(|short| out.put_slice(short));
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let wanted = decode_list(&mut reader, WANTED_MAX, Reader::array)?;
        reader.finish()?;
        Ok(Self { wanted })
    }
}

/// What one end told the other since the last retelling: the sum of the messages' hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// Sum of the hashes.
    pub sum: u64,
    /// Messages.
    pub count: u64,
}

impl Digest {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64_le(self.sum);
        put_varint(&mut out, self.count);
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let digest = Self { sum: reader.u64()?, count: reader.varint()? };
        reader.finish()?;
        Ok(digest)
    }
}

/// Looks for a destination that is in nobody's table nearby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Matches the answer to the question.
    pub nonce: [u8; 8],
    /// The destination.
    pub dest: PeerId,
    /// How much further the probe may go.
    pub hops_left: u16,
}

impl Probe {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&self.nonce);
        out.put_slice(&self.dest.0);
        out.put_u16_le(self.hops_left);
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let probe = Self { nonce: reader.array()?, dest: PeerId(reader.array()?), hops_left: reader.u16()? };
        reader.finish()?;
        Ok(probe)
    }
}

/// The answer to a probe: a route as an advert would carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFound {
    /// The probe's.
    pub nonce: [u8; 8],
    /// The destination's.
    pub proof: OriginProof,
    /// Its sequence number.
    pub seq: u8,
    /// Distance of whoever sends this, below `METRIC_END`.
    pub metric: u16,
    /// The chain's element for (seq, metric).
    pub chain: Element,
}

impl ProbeFound {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&self.nonce);
        self.proof.encode(&mut out);
        out.put_u8(self.seq);
        put_varint(&mut out, u64::from(self.metric));
        out.put_slice(&self.chain);
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let found = Self {
            nonce: reader.array()?,
            proof: OriginProof::decode(&mut reader)?,
            seq: decode_seq(&mut reader)?,
            metric: decode_metric(&mut reader)?,
            chain: reader.array()?,
        };
        reader.finish()?;
        Ok(found)
    }
}
