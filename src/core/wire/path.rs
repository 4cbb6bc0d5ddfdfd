//! Messages that set up, tear down and use label-switched paths.
//!
//! ```text
//! PATH_OPEN    label 4 | id 16 | tag 16 | proof hash 32 | hop limit 2 | budget 2 | patience 2 | avoid 1 + 16 n | way | blob 2 + n
//! PATH_OPENED  label 4 | reveal 32 | hops 2 | parted 1 | blob 2 + n
//! PATH_FAILED  label 4 | reason 1 | budget 2
//! PATH_CLOSE   label 4 | reason 1
//! CELL         label 4 | flags 1 | body (the rest)
//! ```
//!
//! A label names the path on one link, for both directions. Blobs belong to the two ends and
//! mean nothing here. `avoid` counts the set-ups whose ways to keep away from; its highest bit says
//! that whoever carries one of them must refuse.

use bytes::{BufMut, Bytes, BytesMut};

use smallvec::SmallVec;

use super::way::Way;
use super::{Error, Reader, put_vec16};

/// Longest blob, bytes: a session's first message with a hybrid key share and some early data.
pub const BLOB_LEN_MAX: usize = 4096;
/// Bytes in front of a cell's body: label and flags.
pub const CELL_HEAD_LEN: usize = 5;
/// Longest cell body, bytes.
pub const CELL_BODY_LEN_MAX: usize = 16 * 1024;
/// Set-ups that one set-up may name to keep away from.
pub const AVOID_MAX: usize = 4;
/// Bit of the count of set-ups to keep away from: strictly.
const AVOID_STRICT: u8 = 0x80;
/// Flag of a cell that met a queue above its delay target.
pub const CELL_MARKED: u8 = 1;

/// What names a path on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(pub u32);

/// What names a set-up everywhere: fresh and random, drawn by the opener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetupId(pub [u8; 16]);

/// Why a path was not set up, or is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reason {
    /// An end does not need it any more.
    #[error("closed")]
    Closed,
    /// No way to the destination is known.
    #[error("no route to the destination")]
    Unreachable,
    /// A link on the way went down.
    #[error("a link on the way went down")]
    LinkLost,
    /// Nobody answered in time.
    #[error("timed out")]
    TimedOut,
    /// Somebody on the way has as many paths as it takes, or the set-up used up its messages.
    #[error("too many paths")]
    Limit,
    /// The set-up was here before.
    #[error("the set-up came back to where it was")]
    Loop,
    /// The destination does not want it.
    #[error("refused by the destination")]
    Refused,
    /// Nothing was sent for long.
    #[error("idle")]
    Idle,
    /// The destination's proof does not hold, or another rule was broken.
    #[error("protocol violation")]
    Protocol,
}

impl Reason {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Unreachable => 1,
            Self::LinkLost => 2,
            Self::TimedOut => 3,
            Self::Limit => 4,
            Self::Loop => 5,
            Self::Refused => 6,
            Self::Idle => 7,
            Self::Protocol => 8,
        }
    }

    /// The reason of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Closed,
            1 => Self::Unreachable,
            2 => Self::LinkLost,
            3 => Self::TimedOut,
            4 => Self::Limit,
            5 => Self::Loop,
            6 => Self::Refused,
            7 => Self::Idle,
            8 => Self::Protocol,
            _ => return None,
        })
    }
}

/// Other set-ups of the same opener whose ways a set-up keeps away from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Avoid {
    /// They, at most [`AVOID_MAX`], those to keep away from most first.
    pub setups: SmallVec<[SetupId; AVOID_MAX]>,
    /// Who carries one of them, or did lately, refuses; else it goes another way on if there is one.
    pub strict: bool,
}

/// Asks for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The path's name on this link, drawn by the sender.
    pub label: Label,
    /// The set-up.
    pub id: SetupId,
    /// Hash of id and destination: whoever knows the destination recognises it.
    pub tag: [u8; 16],
    /// Hash of what only the destination can reveal.
    pub proof_hash: [u8; 32],
    /// Hops that it may still go; starts at a random offset below the most.
    pub hop_limit: u16,
    /// Set-up messages that may still be sent for it, this one not counted.
    pub budget: u16,
    /// How long the sender waits for an answer, milliseconds.
    pub patience_ms: u16,
    /// Ways to keep away from.
    pub avoid: Avoid,
    /// Where the destination is, for whoever has it in no table.
    pub way: Way,
    /// For the destination.
    pub blob: Bytes,
}

/// The path is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The path's name on this link.
    pub label: Label,
    /// Proof that the destination answered: its hash travelled in [`Open`].
    pub reveal: [u8; 32],
    /// Hops so far, plus an offset that only the two ends know.
    pub hops: u16,
    /// Somebody on the way went on differently from the set-ups to keep away from.
    pub parted: bool,
    /// For the opener.
    pub blob: Bytes,
}

/// The path could not be set up this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// The path's name on this link.
    pub label: Label,
    /// Why.
    pub reason: Reason,
    /// What is left of the budget.
    pub budget: u16,
}

/// The path is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The path's name on this link.
    pub label: Label,
    /// Why.
    pub reason: Reason,
}

/// Reads a blob.
fn read_blob(reader: &mut Reader<'_>) -> Result<Bytes, Error> {
    let blob = reader.vec16()?;
    if blob.len() > BLOB_LEN_MAX {
        return Err(Error::Invalid("path blob over 4 KiB"));
    }
    Ok(Bytes::copy_from_slice(blob))
}

impl Avoid {
    /// Appends them.
    fn encode(&self, out: &mut Vec<u8>) {
        let setups = &self.setups[..self.setups.len().min(AVOID_MAX)];
        let count = u8::try_from(setups.len()).unwrap_or(0);
        out.put_u8(count | if self.strict { AVOID_STRICT } else { 0 });
        setups.iter().for_each(|id| out.put_slice(&id.0));
    }

    /// Reads them.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let first = reader.u8()?;
        let (count, strict) = (usize::from(first & !AVOID_STRICT), first & AVOID_STRICT != 0);
        if count > AVOID_MAX {
            return Err(Error::Invalid("number of set-ups to avoid"));
        }
        let setups = (0..count).map(|_| Ok(SetupId(reader.array()?))).collect::<Result<_, Error>>()?;
        Ok(Self { setups, strict })
    }
}

/// Reads a flag.
fn read_flag(reader: &mut Reader<'_>) -> Result<bool, Error> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::Invalid("path flag")),
    }
}

/// Reads a reason.
fn read_reason(reader: &mut Reader<'_>) -> Result<Reason, Error> {
    Reason::from_code(reader.u8()?).ok_or(Error::Invalid("path reason"))
}

impl Open {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(77 + 16 * self.avoid.setups.len() + self.way.encoded_len() + self.blob.len());
        out.put_u32_le(self.label.0);
        out.put_slice(&self.id.0);
        out.put_slice(&self.tag);
        out.put_slice(&self.proof_hash);
        out.put_u16_le(self.hop_limit);
        out.put_u16_le(self.budget);
        out.put_u16_le(self.patience_ms);
        self.avoid.encode(&mut out);
        self.way.encode(&mut out);
        put_vec16(&mut out, &self.blob);
        out.into()
    }

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let (label, id, tag) = (Label(r.u32()?), SetupId(r.array()?), r.array()?);
        let (proof_hash, hop_limit, budget, patience_ms) = (r.array()?, r.u16()?, r.u16()?, r.u16()?);
        let (avoid, way, blob) = (Avoid::read(&mut r)?, Way::decode(&mut r)?, read_blob(&mut r)?);
        r.finish()?;
        Ok(Self { label, id, tag, proof_hash, hop_limit, budget, patience_ms, avoid, way, blob })
    }
}

impl Opened {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(41 + self.blob.len());
        out.put_u32_le(self.label.0);
        out.put_slice(&self.reveal);
        out.put_u16_le(self.hops);
        out.put_u8(u8::from(self.parted));
        put_vec16(&mut out, &self.blob);
        out.into()
    }

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let (label, reveal, hops, parted) = (Label(r.u32()?), r.array()?, r.u16()?, read_flag(&mut r)?);
        let blob = read_blob(&mut r)?;
        r.finish()?;
        Ok(Self { label, reveal, hops, parted, blob })
    }
}

impl Failed {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(7);
        out.put_u32_le(self.label.0);
        out.put_u8(self.reason.code());
        out.put_u16_le(self.budget);
        out.into()
    }

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let (label, reason, budget) = (Label(r.u32()?), read_reason(&mut r)?, r.u16()?);
        r.finish()?;
        Ok(Self { label, reason, budget })
    }
}

impl Close {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(5);
        out.put_u32_le(self.label.0);
        out.put_u8(self.reason.code());
        out.into()
    }

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let (label, reason) = (Label(r.u32()?), read_reason(&mut r)?);
        r.finish()?;
        Ok(Self { label, reason })
    }
}

/// The bytes in front of a cell's body.
#[must_use]
pub fn cell_head(label: Label, marked: bool) -> [u8; CELL_HEAD_LEN] {
    let [a, b, c, d] = label.0.to_le_bytes();
    [a, b, c, d, u8::from(marked)]
}

/// Splits a cell into label, congestion mark and body. Undefined flags do not get through: they could tag a cell.
/// `None` when it is cut short or its body is over 16 KiB.
#[must_use]
pub fn split_cell(mut cell: BytesMut) -> Option<(Label, bool, BytesMut)> {
    let (head, body) = cell.split_first_chunk::<CELL_HEAD_LEN>()?;
    if body.len() > CELL_BODY_LEN_MAX {
        return None;
    }
    let [a, b, c, d, flags] = *head;
    let body = cell.split_off(CELL_HEAD_LEN);
    Some((Label(u32::from_le_bytes([a, b, c, d])), flags & CELL_MARKED != 0, body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A set-up message of given parts.
    fn open(n: u16, blob: Vec<u8>) -> Open {
        Open {
            label: Label(u32::from(n) << 8),
            id: SetupId([n.to_le_bytes()[0]; 16]),
            tag: [2; 16],
            proof_hash: [3; 32],
            hop_limit: n,
            budget: n / 2,
            patience_ms: !n,
            avoid: Avoid {
                setups: (0..n % 5).map(|n| SetupId([n.to_le_bytes()[0]; 16])).collect(),
                strict: n.is_multiple_of(2),
            },
            way: Way::new(vec![super::super::way::Waypoint { short: [5; 8], left: n % 1024 }; usize::from(n % 3)]),
            blob: blob.into(),
        }
    }

    proptest! {
        #[test]
        fn messages_round_trip(n: u16, reveal: [u8; 32], blob in proptest::collection::vec(any::<u8>(), 0..200), code in 0u8..9) {
            let open = open(n, blob.clone());
            prop_assert_eq!(Open::decode(&open.encode()), Ok(open));
            let opened = Opened { label: Label(7), reveal, hops: n, parted: n % 2 == 1, blob: blob.into() };
            prop_assert_eq!(Opened::decode(&opened.encode()), Ok(opened));
            let reason = Reason::from_code(code).unwrap();
            prop_assert_eq!(reason.code(), code);
            let failed = Failed { label: Label(u32::from(n)), reason, budget: n };
            prop_assert_eq!(Failed::decode(&failed.encode()), Ok(failed));
            let close = Close { label: Label(u32::from(n)), reason };
            prop_assert_eq!(Close::decode(&close.encode()), Ok(close));
        }

        #[test]
        fn any_bytes_give_a_message_with_those_bytes_or_an_error(bytes: Vec<u8>, at: u16, flip: u8) {
            let mut altered = open(at, bytes.clone()).encode().to_vec();
            let spot = usize::from(at) % altered.len();
            altered[spot] ^= flip;
            for bytes in [bytes, altered] {
                if let Ok(message) = Open::decode(&bytes) { prop_assert_eq!(&message.encode()[..], &bytes[..]); }
                if let Ok(message) = Opened::decode(&bytes) { prop_assert_eq!(&message.encode()[..], &bytes[..]); }
                if let Ok(message) = Failed::decode(&bytes) { prop_assert_eq!(&message.encode()[..], &bytes[..]); }
                if let Ok(message) = Close::decode(&bytes) { prop_assert_eq!(&message.encode()[..], &bytes[..]); }
                let cell = split_cell(BytesMut::from(&bytes[..]));
                prop_assert_eq!(cell.is_some(), bytes.len() >= CELL_HEAD_LEN);
            }
        }
    }

    #[test]
    fn every_truncation_and_extension_is_an_error() {
        let whole = open(9, vec![1; 30]).encode();
        for len in 0..whole.len() {
            assert!(Open::decode(&whole[..len]).is_err());
        }
        assert_eq!(Open::decode(&[&whole[..], &[0]].concat()), Err(Error::Trailing));
        assert!(Open::decode(&open(1, vec![0; BLOB_LEN_MAX + 1]).encode()).is_err());
        assert_eq!(Close::decode(&[0, 0, 0, 0, 9]), Err(Error::Invalid("path reason")));
    }

    #[test]
    fn cells_keep_their_mark_and_lose_undefined_flags() {
        let cell = [&cell_head(Label(0x0102_0304), true)[..], b"body"].concat();
        assert_eq!(cell[..5], [4, 3, 2, 1, 1]);
        assert_eq!(split_cell(cell[..].into()), Some((Label(0x0102_0304), true, BytesMut::from(&b"body"[..]))));
        assert_eq!(split_cell(BytesMut::from(&[1, 0, 0, 0, 0xfe][..])), Some((Label(1), false, BytesMut::new())));
        assert_eq!(split_cell(BytesMut::zeroed(CELL_HEAD_LEN + CELL_BODY_LEN_MAX + 1)), None);
    }
}
