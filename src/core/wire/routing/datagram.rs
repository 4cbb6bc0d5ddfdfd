//! Routed datagrams and their answers.

use bytes::{BufMut, Bytes, BytesMut};

use crate::crypto::PeerId;
use crate::wire::way::Way;
use crate::wire::{Error, Reader};

/// Bytes of a routed datagram's payload, at most.
pub const PAYLOAD_MAX: usize = 20 * 1024;

/// A datagram on its way to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The destination.
    pub dest: PeerId,
    /// How much further it may go.
    pub hops_left: u16,
    /// The previous hop's token for the answer, or zero when none is wanted.
    pub token: [u8; 8],
    /// Where it is, for whoever has it in no table.
    pub way: Way,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Bytes,
}

impl Routed {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(42 + self.way.encoded_len() + self.payload.len());
        out.put_slice(&self.dest.0);
        out.put_u16_le(self.hops_left);
        out.put_slice(&self.token);
        self.way.encode(&mut out);
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none, or a payload that is too long.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        Ok(Self {
            dest: PeerId(reader.array()?),
            hops_left: reader.u16()?,
            token: reader.array()?,
            way: Way::decode(&mut reader)?,
            payload: decode_payload(&mut reader)?,
        })
    }
}

/// The answer to a datagram, one hop back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedAnswer {
    /// The receiver's own token.
    pub token: [u8; 8],
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Bytes,
}

impl RoutedAnswer {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + self.payload.len());
        out.put_slice(&self.token);
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none, or a payload that is too long.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        Ok(Self { token: reader.array()?, payload: decode_payload(&mut reader)? })
    }
}

/// Reads a bounded payload up to the end.
fn decode_payload(reader: &mut Reader<'_>) -> Result<Bytes, Error> {
    let payload = reader.rest();
    if payload.len() > PAYLOAD_MAX {
        return Err(Error::Invalid("length of a routed payload"));
    }
    Ok(Bytes::copy_from_slice(payload))
}
