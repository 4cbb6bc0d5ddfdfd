//! What travels inside sessions: sealed packets that hold frames.
//!
//! A packet is `header (13 bytes) | sealed frames | tag (16 bytes)`. The header is
//! masked with a keyed hash of the tag, so nothing of it shows on the way:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0 | key epoch of the sender, modulo 256 |
//! | 1..5 | circuit number, counted by the sender |
//! | 5..13 | packet number within that circuit |
//!
//! Frames begin with a type byte; numbers are LEB128 unless a width is given.
//!
//! | type | frame | fields |
//! | --- | --- | --- |
//! | 00 | PADDING | zeros to the end of the packet |
//! | 01 | PING | |
//! | 02 | ACK | circuit, largest, delay (µs), marked, first range, count, (gap, range)* |
//! | 03 | OPEN | channel, mode (1), port (1-byte length), label (1 + 1-byte length), early (2-byte length) |
//! | 04 | OPENED | channel |
//! | 05 | REFUSED | channel, reason (1) |
//! | 06, 07 | DATA, with FIN | channel, offset, 2-byte length, bytes |
//! | 08 | MESSAGE | channel, id, total, offset, 2-byte length, bytes |
//! | 09 | MESSAGES_END | channel, count of messages |
//! | 0a | RESET | channel, bytes sent on it in all |
//! | 0b | STOP | channel |
//! | 0c | MAX_DATA | bytes |
//! | 0d | MAX_CHANNEL_DATA | channel, bytes |
//! | 0e | PROOF | 2-byte length, bytes |
//! | 0f | CLOSE | reason (1) |

use bytes::BufMut;

use super::{Error, Reader, put_varint, put_vec16, varint_len};

/// Bytes of a packet's header.
pub const HEADER_LEN: usize = 13;
/// Bytes of a packet's tag.
pub const TAG_LEN: usize = 16;
/// Bytes of the longest message.
pub const MESSAGE_LEN_MAX: u32 = 1 << 20;
/// Ranges that an ACK may hold beside the first.
pub const ACK_RANGES_MAX: usize = 63;

/// A packet's header before masking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Key epoch of the sender, modulo 256.
    pub epoch: u8,
    /// Circuit number.
    pub circuit: u32,
    /// Packet number.
    pub number: u64,
}

impl Header {
    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = self.epoch;
        out[1..5].copy_from_slice(&self.circuit.to_le_bytes());
        out[5..13].copy_from_slice(&self.number.to_le_bytes());
        out
    }

    /// The header of its bytes; every value is one.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let [epoch, c0, c1, c2, c3, n0, n1, n2, n3, n4, n5, n6, n7] = *bytes;
        Self {
            epoch,
            circuit: u32::from_le_bytes([c0, c1, c2, c3]),
            number: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
        }
    }

    /// The nonce of its packet: circuit number, packet number.
    #[must_use]
    pub fn nonce(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..4].copy_from_slice(&self.circuit.to_le_bytes());
        out[4..].copy_from_slice(&self.number.to_le_bytes());
        out
    }
}

/// One frame, borrowing from the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// So many zeros, to the end of the packet (one is the frame's type).
    Padding(usize),
    /// Answer me.
    Ping,
    /// What was received.
    Ack(Ack),
    /// Open a channel.
    Open(Open<'a>),
    /// The channel was accepted.
    Opened {
        /// The channel.
        channel: u64,
    },
    /// The channel was refused.
    Refused {
        /// The channel.
        channel: u64,
        /// The reason's code.
        why: u8,
    },
    /// Bytes of a stream.
    Data {
        /// The channel.
        channel: u64,
        /// Where they belong.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
        /// Whether the stream ends behind them.
        fin: bool,
    },
    /// A message or a fragment of one.
    Message(Message<'a>),
    /// No more messages.
    MessagesEnd {
        /// The channel.
        channel: u64,
        /// Messages sent in all.
        count: u64,
    },
    /// The channel is broken off in both directions.
    Reset {
        /// The channel.
        channel: u64,
        /// Credit used on it in all.
        end: u64,
    },
    /// The sender of this reads no more.
    Stop {
        /// The channel.
        channel: u64,
    },
    /// Credit of the session.
    MaxData(u64),
    /// Credit of a channel.
    MaxChannelData {
        /// The channel.
        channel: u64,
        /// The credit in all.
        max: u64,
    },
    /// Proof of identity.
    Proof(&'a [u8]),
    /// The session ends.
    Close(u8),
}

/// Body of an ACK frame. Ranges are inclusive and descend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Circuit whose packets are acknowledged, by the number of their sender.
    pub circuit: u32,
    /// Time between receiving the largest and sending this, microseconds.
    pub delay_us: u64,
    /// Packets received with a congestion mark on that circuit, in all.
    pub marked: u64,
    /// Received packet numbers, `(first, last)`, newest first; never empty, gaps between.
    pub ranges: smallvec::SmallVec<[(u64, u64); 4]>,
}

/// Body of an OPEN frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open<'a> {
    /// The channel.
    pub channel: u64,
    /// The mode's code.
    pub mode: u8,
    /// The port's text.
    pub port: &'a str,
    /// The label's text.
    pub label: Option<&'a str>,
    /// First data.
    pub early: &'a [u8],
}

/// Body of a MESSAGE frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// The channel.
    pub channel: u64,
    /// Number of the message, counted from zero.
    pub id: u64,
    /// Bytes of the whole message, at most [`MESSAGE_LEN_MAX`].
    pub total: u32,
    /// Where this fragment belongs.
    pub offset: u32,
    /// The fragment.
    pub bytes: &'a [u8],
}

impl Open<'_> {
    /// Appends the frame.
    ///
    /// # Panics
    /// When port or label are longer than 255 bytes or the data is longer than 65,535: their types are shorter.
    pub fn encode(&self, out: &mut impl BufMut) {
        let short = |text: &str| u8::try_from(text.len()).expect("a text of at most 255 bytes");
        out.put_u8(0x03);
        put_varint(out, self.channel);
        out.put_u8(self.mode);
        out.put_u8(short(self.port));
        out.put_slice(self.port.as_bytes());
        out.put_u8(u8::from(self.label.is_some()));
        if let Some(label) = self.label {
            out.put_u8(short(label));
            out.put_slice(label.as_bytes());
        }
        put_vec16(out, self.early);
    }
}

impl Ack {
    /// Most bytes of the frame with so many ranges.
    #[must_use]
    pub const fn len_max(ranges: usize) -> usize {
        1 + 5 + 10 + 10 + 10 + 10 + 1 + ranges * 20
    }

    /// Appends the frame.
    ///
    /// # Panics
    /// When there is no range: whoever acknowledges has received something.
    pub fn encode(&self, out: &mut impl BufMut) {
        let (first, largest) = *self.ranges.first().expect("an acknowledgement has a range");
        out.put_u8(0x02);
        put_varint(out, u64::from(self.circuit));
        put_varint(out, largest);
        put_varint(out, self.delay_us);
        put_varint(out, self.marked);
        put_varint(out, largest - first);
        let rest = &self.ranges[1..self.ranges.len().min(ACK_RANGES_MAX + 1)];
        put_varint(out, rest.len() as u64);
        let mut below = first;
        for &(first, last) in rest {
            put_varint(out, below - last - 2);
            put_varint(out, last - first);
            below = first;
        }
    }

    /// Reads the frame behind its type.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let bad = Error::Invalid("acknowledged range");
        let circuit = u32::try_from(reader.varint()?).map_err(|_| Error::Invalid("circuit number"))?;
        let largest = reader.varint()?;
        let delay_us = reader.varint()?;
        let marked = reader.varint()?;
        let mut first = largest.checked_sub(reader.varint()?).ok_or(bad)?;
        let mut ranges = smallvec::smallvec![(first, largest)];
        let count = usize::try_from(reader.varint()?).map_err(|_| bad)?;
        if count > ACK_RANGES_MAX {
            return Err(Error::Invalid("number of acknowledged ranges"));
        }
        for _ in 0..count {
            let gap = reader.varint()?.checked_add(2).ok_or(bad)?;
            let last = first.checked_sub(gap).ok_or(bad)?;
            first = last.checked_sub(reader.varint()?).ok_or(bad)?;
            ranges.push((first, last));
        }
        Ok(Self { circuit, delay_us, marked, ranges })
    }
}

impl Message<'_> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(0x08);
        put_varint(out, self.channel);
        put_varint(out, self.id);
        put_varint(out, u64::from(self.total));
        put_varint(out, u64::from(self.offset));
        put_vec16(out, self.bytes);
    }

    /// Bytes of the frame but for its payload, at most.
    #[must_use]
    pub const fn overhead(channel: u64, id: u64) -> usize {
        1 + varint_len(channel) + varint_len(id) + 3 + 3 + 2
    }
}

/// Appends a DATA frame's head; `len` bytes must follow.
pub fn put_data_head(out: &mut impl BufMut, channel: u64, offset: u64, len: u16, fin: bool) {
    out.put_u8(0x06 | u8::from(fin));
    put_varint(out, channel);
    put_varint(out, offset);
    out.put_u16_le(len);
}

/// Bytes that [`put_data_head`] appends.
#[must_use]
pub const fn data_head_len(channel: u64, offset: u64) -> usize {
    3 + varint_len(channel) + varint_len(offset)
}

/// Most bytes of any frame with nothing but numbers in it.
pub const FRAME_LEN_SMALL: usize = 21;

impl<'a> Frame<'a> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Padding(len) => out.put_bytes(0, *len),
            Self::Ping => out.put_u8(0x01),
            Self::Ack(ack) => ack.encode(out),
            Self::Open(open) => open.encode(out),
            Self::Opened { channel } => put_numbers(out, 0x04, &[*channel]),
            Self::Refused { channel, why } => {
                put_numbers(out, 0x05, &[*channel]);
                out.put_u8(*why);
            }
            Self::Data { channel, offset, bytes, fin } => {
                let len = u16::try_from(bytes.len()).expect("data of at most 65,535 bytes");
                put_data_head(out, *channel, *offset, len, *fin);
                out.put_slice(bytes);
            }
            Self::Message(message) => message.encode(out),
            Self::MessagesEnd { channel, count } => put_numbers(out, 0x09, &[*channel, *count]),
            Self::Reset { channel, end } => put_numbers(out, 0x0a, &[*channel, *end]),
            Self::Stop { channel } => put_numbers(out, 0x0b, &[*channel]),
            Self::MaxData(max) => put_numbers(out, 0x0c, &[*max]),
            Self::MaxChannelData { channel, max } => put_numbers(out, 0x0d, &[*channel, *max]),
            Self::Proof(proof) => {
                out.put_u8(0x0e);
                put_vec16(out, proof);
            }
            Self::Close(code) => {
                out.put_u8(0x0f);
                out.put_u8(*code);
            }
        }
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// Cut short, an unknown type, or a field out of its bounds.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(match reader.u8()? {
            0x00 => {
                let rest = reader.rest();
                if rest.iter().any(|byte| *byte != 0) {
                    return Err(Error::Invalid("padding"));
                }
                Self::Padding(rest.len() + 1)
            }
            0x01 => Self::Ping,
            0x02 => Self::Ack(Ack::decode(reader)?),
            0x03 => Self::Open(decode_open(reader)?),
            0x04 => Self::Opened { channel: reader.varint()? },
            0x05 => Self::Refused { channel: reader.varint()?, why: reader.u8()? },
            0x06 => decode_data(reader, false)?,
            0x07 => decode_data(reader, true)?,
            0x08 => Self::Message(decode_message(reader)?),
            0x09 => Self::MessagesEnd { channel: reader.varint()?, count: reader.varint()? },
            0x0a => Self::Reset { channel: reader.varint()?, end: reader.varint()? },
            0x0b => Self::Stop { channel: reader.varint()? },
            0x0c => Self::MaxData(reader.varint()?),
            0x0d => Self::MaxChannelData { channel: reader.varint()?, max: reader.varint()? },
            0x0e => Self::Proof(reader.vec16()?),
            0x0f => Self::Close(reader.u8()?),
            _ => return Err(Error::Invalid("frame type")),
        })
    }
}

/// Appends a frame of a type and numbers.
fn put_numbers(out: &mut impl BufMut, kind: u8, numbers: &[u64]) {
    out.put_u8(kind);
    for number in numbers {
        put_varint(out, *number);
    }
}

/// Reads an OPEN behind its type.
fn decode_open<'a>(reader: &mut Reader<'a>) -> Result<Open<'a>, Error> {
    let channel = reader.varint()?;
    let mode = reader.u8()?;
    let port = decode_text(reader)?;
    let label = match reader.u8()? {
        0 => None,
        1 => Some(decode_text(reader)?),
        _ => return Err(Error::Invalid("label flag")),
    };
    Ok(Open { channel, mode, port, label, early: reader.vec16()? })
}

/// Reads text behind a 1-byte length.
fn decode_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Error> {
    let len = usize::from(reader.u8()?);
    std::str::from_utf8(reader.take(len)?).map_err(|_| Error::Invalid("text"))
}

/// Reads a DATA frame behind its type.
fn decode_data<'a>(reader: &mut Reader<'a>, fin: bool) -> Result<Frame<'a>, Error> {
    let channel = reader.varint()?;
    let offset = reader.varint()?;
    let bytes = reader.vec16()?;
    if offset.checked_add(bytes.len() as u64).is_none() {
        return Err(Error::Invalid("offset"));
    }
    Ok(Frame::Data { channel, offset, bytes, fin })
}

/// Reads a MESSAGE frame behind its type.
fn decode_message<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, Error> {
    let short = |value: u64| {
        let value = u32::try_from(value).ok().filter(|value| *value <= MESSAGE_LEN_MAX);
        value.ok_or(Error::Invalid("message length"))
    };
    let channel = reader.varint()?;
    let id = reader.varint()?;
    let total = short(reader.varint()?)?;
    let offset = short(reader.varint()?)?;
    let bytes = reader.vec16()?;
    if u64::from(offset) + bytes.len() as u64 > u64::from(total) {
        return Err(Error::Invalid("fragment"));
    }
    Ok(Message { channel, id, total, offset, bytes })
}

#[cfg(test)]
mod tests;
