//! The receiving half of a byte stream: bytes once and in order. What arrives in order is
//! handed out as slices of the packets; small pieces are copied together, so that what is
//! held is never much larger than what it counts for.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::limits::{GAPS_MAX, SMALL_BUFFER, SMALL_PIECE};
use crate::defence::{self, Defence};

/// How a peer broke the rules of a stream or message channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More than the credit.
    #[error("the peer sent more than its credit")]
    Credit,
    /// Bytes behind the end, or two ends.
    #[error("the peer changed the length of a channel")]
    FinalSize,
    /// More gaps than a sender can make.
    #[error("the peer left too many gaps")]
    Gaps,
    /// A fragment that does not fit its message.
    #[error("the peer changed the length of a message")]
    Fragment,
}

/// The receiving half.
pub struct StreamRecv {
    ready: VecDeque<Bytes>,
    small: BytesMut,
    ready_len: u64,
    received: u64,
    later: BTreeMap<u64, Bytes>,
    highest: u64,
    end: Option<u64>,
    consumed: u64,
    discard: bool,
}

impl StreamRecv {
    /// An empty stream.
    pub fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            small: BytesMut::new(),
            ready_len: 0,
            received: 0,
            later: BTreeMap::new(),
            highest: 0,
            end: None,
            consumed: 0,
            discard: false,
        }
    }

    /// Takes bytes at `offset`; gives by how much the highest offset rose, which costs credit up to `limit`.
    ///
    /// # Errors
    /// See [`Violation`].
    pub fn insert(&mut self, offset: u64, bytes: Bytes, fin: bool, limit: u64) -> Result<u64, Violation> {
        let end = offset + bytes.len() as u64;
        if end > limit && defence::on(Defence::ChannelCredit) {
            return Err(Violation::Credit);
        }
        if self.end.is_some_and(|known| end > known || (fin && end != known)) || (fin && end < self.highest) {
            return Err(Violation::FinalSize);
        }
        if fin {
            self.end = Some(end);
        }
        let rise = end.saturating_sub(self.highest);
        self.highest += rise;
        if offset > self.received {
            self.insert_later(offset, bytes)?;
        } else if end > self.received {
            self.append(bytes.slice(usize::try_from(self.received - offset).unwrap_or(usize::MAX)..));
            self.drain_later();
        }
        Ok(rise)
    }

    /// Appends the next bytes in order.
    fn append(&mut self, bytes: Bytes) {
        self.received += bytes.len() as u64;
        if self.discard {
            self.consumed += bytes.len() as u64;
            return;
        }
        self.ready_len += bytes.len() as u64;
        if bytes.len() >= SMALL_PIECE {
            self.flush_small();
            return self.ready.push_back(bytes);
        }
        if self.small.len() + bytes.len() > SMALL_BUFFER {
            self.flush_small();
        }
        self.small.extend_from_slice(&bytes);
    }

    /// Moves the small pieces behind the others.
    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            let piece = std::mem::take(&mut self.small);
            self.ready.push_back(piece.freeze());
        }
    }

    /// Keeps bytes behind a gap; those next to each other and small are joined.
    fn insert_later(&mut self, offset: u64, bytes: Bytes) -> Result<(), Violation> {
        if bytes.is_empty() {
            return Ok(());
        }
        let len = bytes.len();
        if let Some((start, before)) = self.later.range_mut(..=offset).next_back() {
            let before_end = start + before.len() as u64;
            if before_end >= offset + len as u64 {
                return Ok(());
            }
            if before_end == offset && before.len() + len <= SMALL_BUFFER {
                let mut joined = BytesMut::with_capacity(before.len() + len);
                joined.extend_from_slice(before);
                joined.extend_from_slice(&bytes);
                *before = joined.freeze();
                return Ok(());
            }
        }
        if self.later.len() >= GAPS_MAX {
            return Err(Violation::Gaps);
        }
        let bytes = if len < SMALL_PIECE { Bytes::copy_from_slice(&bytes) } else { bytes };
        let longer = self.later.get(&offset).is_some_and(|known| known.len() >= len);
        if !longer {
            self.later.insert(offset, bytes);
        }
        Ok(())
    }

    /// Appends what a filled gap has set free.
    fn drain_later(&mut self) {
        while let Some(entry) = self.later.first_entry() {
            if *entry.key() > self.received {
                return;
            }
            let (offset, bytes) = entry.remove_entry();
            let skip = usize::try_from(self.received - offset).unwrap_or(usize::MAX);
            if skip < bytes.len() {
                self.append(bytes.slice(skip..));
            }
        }
    }

    /// The next bytes in order.
    pub fn read(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.flush_small();
        }
        let bytes = self.ready.pop_front()?;
        self.ready_len -= bytes.len() as u64;
        self.consumed += bytes.len() as u64;
        Some(bytes)
    }

    /// Nobody will read: drops what is there and what comes.
    pub fn discard(&mut self) {
        self.discard = true;
        self.consumed += self.ready_len;
        self.ready_len = 0;
        self.ready.clear();
        self.small = BytesMut::new();
    }

    /// The channel is gone with `end` bytes sent in all: gives what was not yet counted as received.
    ///
    /// # Errors
    /// The end contradicts what was received.
    pub fn cut(&mut self, end: u64, limit: u64) -> Result<u64, Violation> {
        if end < self.highest || self.end.is_some_and(|known| known != end) {
            return Err(Violation::FinalSize);
        }
        if end > limit {
            return Err(Violation::Credit);
        }
        let rise = end - self.highest;
        self.highest = end;
        self.end = Some(end);
        Ok(rise)
    }

    /// Bytes read in all.
    pub const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes that cost credit so far and were not read.
    pub const fn unread(&self) -> u64 {
        self.highest - self.consumed
    }

    /// Whether there is something to read.
    pub const fn readable(&self) -> bool {
        self.ready_len > 0
    }

    /// Whether the end is known.
    pub const fn ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether everything up to the end was read.
    pub fn done(&self) -> bool {
        self.end == Some(self.consumed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(stream: &mut StreamRecv) -> Vec<u8> {
        std::iter::from_fn(|| stream.read()).flatten().collect()
    }

    proptest! {
        #[test]
        fn any_order_and_overlap_gives_the_bytes_once(pieces in prop::collection::vec((0usize..3_000, 1usize..2_000), 0..60)) {
            let source: Vec<u8> = (0..5_000u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            let mut stream = StreamRecv::new();
            let mut got = Vec::new();
            for (start, len) in pieces {
                let piece = Bytes::copy_from_slice(&source[start..start + len]);
                stream.insert(start as u64, piece, false, 5_000).unwrap();
                got.extend(drain(&mut stream));
            }
            for start in (0..5_000).step_by(1_000) {
                let piece = Bytes::copy_from_slice(&source[start..start + 1_000]);
                stream.insert(start as u64, piece, start == 4_000, 5_000).unwrap();
            }
            got.extend(drain(&mut stream));
            prop_assert!(got == source && stream.done() && stream.later.is_empty() && stream.unread() == 0);
        }
    }

    #[test]
    fn bytes_beyond_credit_or_end_are_violations() {
        let mut stream = StreamRecv::new();
        let bytes = || Bytes::from_static(b"0123456789");
        assert_eq!(stream.insert(1, bytes(), false, 10), Err(Violation::Credit));
        assert_eq!(stream.insert(0, bytes(), true, 10), Ok(10));
        assert_eq!(stream.insert(0, bytes(), true, 10), Ok(0));
        assert_eq!(stream.insert(1, bytes(), false, 20), Err(Violation::FinalSize));
        assert_eq!(stream.insert(0, Bytes::from_static(b"x"), true, 20), Err(Violation::FinalSize));
        assert_eq!(stream.cut(11, 20), Err(Violation::FinalSize));
    }

    #[test]
    fn gaps_are_bounded_and_neighbours_are_joined() {
        let mut stream = StreamRecv::new();
        for at in 1..2_000u64 {
            stream.insert(at, Bytes::from_static(b"x"), false, u64::MAX).unwrap();
        }
        assert_eq!(stream.later.len(), 1);
        let result =
            (0..).find_map(|at| stream.insert(10_000 + 2 * at, Bytes::from_static(b"x"), false, u64::MAX).err());
        assert_eq!(result, Some(Violation::Gaps));
        assert_eq!(stream.later.len(), GAPS_MAX);
    }
}
