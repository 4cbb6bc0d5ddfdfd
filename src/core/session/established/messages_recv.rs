//! The receiving half of a message channel: puts fragments together and drops repeats.
//! Unreliable channels are bounded in bytes, where the oldest go; reliable ones by credit.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::limits::{
    DATAGRAM_LEN_MAX, GAPS_MAX, MESSAGE_COST, REASSEMBLY_AFTER, REASSEMBLY_BYTES_MAX, UNREAD_BYTES_MAX,
};
use super::ranges::Ranges;
use super::stream_recv::Violation;
use crate::session::Mode;
use crate::time::Instant;
use crate::wire::session_packet::Message;

/// A message of which some fragments are missing.
struct Partial {
    bytes: Vec<u8>,
    got: Ranges,
    since: Instant,
}

/// The receiving half.
pub struct MessagesRecv {
    mode: Mode,
    partial: BTreeMap<u64, Partial>,
    partial_len: usize,
    ready: VecDeque<Bytes>,
    ready_len: usize,
    /// Reliable: ids whose cost was counted, and of those the complete ones. Unreliable: unused.
    seen: Ranges,
    complete: Ranges,
    /// Ordered: the id after the latest delivered.
    next: u64,
    used: u64,
    consumed: u64,
    count: Option<u64>,
    dropped: u64,
    discard: bool,
}

/// A length that was decoded, and so is at most that of the longest message.
fn length(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl MessagesRecv {
    /// An empty channel.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            partial: BTreeMap::new(),
            partial_len: 0,
            ready: VecDeque::new(),
            ready_len: 0,
            seen: Ranges::default(),
            complete: Ranges::default(),
            next: 0,
            used: 0,
            consumed: 0,
            count: None,
            dropped: 0,
            discard: false,
        }
    }

    /// Takes a fragment, whose payload is `bytes`; gives by how much the used credit rose.
    ///
    /// # Errors
    /// See [`Violation`].
    pub fn insert(&mut self, now: Instant, message: &Message<'_>, bytes: Bytes, limit: u64) -> Result<u64, Violation> {
        if message.id == u64::MAX || self.count.is_some_and(|count| message.id >= count) {
            return Err(Violation::FinalSize);
        }
        if !self.mode.reliable() && length(message.total) > DATAGRAM_LEN_MAX {
            return Err(Violation::Fragment);
        }
        let rise = if self.mode.reliable() { self.count_cost(message, limit)? } else { 0 };
        let late = self.mode.ordered() && message.id < self.next;
        if late || self.complete.contains(message.id) {
            return Ok(rise);
        }
        if message.offset == 0 && bytes.len() as u64 == u64::from(message.total) {
            self.deliver(message.id, bytes);
        } else {
            self.insert_partial(now, message, &bytes)?;
        }
        Ok(rise)
    }

    /// Counts a message's cost when it is first heard of.
    fn count_cost(&mut self, message: &Message<'_>, limit: u64) -> Result<u64, Violation> {
        if self.seen.contains(message.id) {
            return Ok(0);
        }
        let cost = u64::from(message.total) + MESSAGE_COST;
        if self.used + cost > limit {
            return Err(Violation::Credit);
        }
        self.seen.insert(message.id, message.id + 1);
        if self.seen.len() > GAPS_MAX {
            return Err(Violation::Gaps);
        }
        self.used += cost;
        Ok(cost)
    }

    /// Adds a fragment to its message.
    fn insert_partial(&mut self, now: Instant, message: &Message<'_>, bytes: &[u8]) -> Result<(), Violation> {
        if !self.mode.reliable() {
            self.evict_partial(now, length(message.total));
        }
        let total = length(message.total);
        let start = length(message.offset);
        let end = start + bytes.len();
        let partial = self.partial.entry(message.id).or_insert_with(|| {
            self.partial_len += total;
            Partial { bytes: vec![0; total], got: Ranges::default(), since: now }
        });
        if partial.bytes.len() != total {
            return Err(Violation::Fragment);
        }
        partial.bytes[start..end].copy_from_slice(bytes);
        partial.got.insert(start as u64, end as u64);
        if partial.got.covers(0, total as u64)
            && let Some(partial) = self.partial.remove(&message.id)
        {
            self.partial_len -= total;
            self.deliver(message.id, Bytes::from(partial.bytes));
        }
        Ok(())
    }

    /// Makes room for a message of `total` bytes: those that waited too long go, then the oldest.
    fn evict_partial(&mut self, now: Instant, total: usize) {
        while let Some(entry) = self.partial.first_entry() {
            let waited = now.saturating_since(entry.get().since);
            if waited < REASSEMBLY_AFTER && self.partial_len + total <= REASSEMBLY_BYTES_MAX {
                return;
            }
            self.partial_len -= entry.remove().bytes.len();
            self.dropped += 1;
        }
    }

    /// Queues a complete message for reading.
    fn deliver(&mut self, id: u64, bytes: Bytes) {
        if self.mode.reliable() {
            self.complete.insert(id, id + 1);
        }
        if self.mode.ordered() {
            self.next = id + 1;
            while let Some(entry) = self.partial.first_entry().filter(|entry| *entry.key() < id) {
                self.partial_len -= entry.remove().bytes.len();
                self.dropped += 1;
            }
        }
        if self.discard {
            self.consumed += if self.mode.reliable() { bytes.len() as u64 + MESSAGE_COST } else { 0 };
            return;
        }
        self.ready_len += bytes.len();
        self.ready.push_back(bytes);
        while !self.mode.reliable() && self.ready_len > UNREAD_BYTES_MAX && self.ready.len() > 1 {
            self.ready_len -= self.ready.pop_front().map_or(0, |old| old.len());
            self.dropped += 1;
        }
    }

    /// The next message.
    pub fn read(&mut self) -> Option<Bytes> {
        let bytes = self.ready.pop_front()?;
        self.ready_len -= bytes.len();
        if self.mode.reliable() {
            self.consumed += bytes.len() as u64 + MESSAGE_COST;
        }
        Some(bytes)
    }

    /// The peer sent `count` messages in all.
    ///
    /// # Errors
    /// That contradicts what it said or sent.
    pub fn end(&mut self, count: u64) -> Result<(), Violation> {
        if self.count.is_some_and(|known| known != count) || count < self.seen.end() {
            return Err(Violation::FinalSize);
        }
        self.count = Some(count);
        Ok(())
    }

    /// Nobody will read: drops what is there and what comes.
    pub fn discard(&mut self) {
        self.discard = true;
        while self.read().is_some() {}
    }

    /// The channel is gone with `end` of credit used in all: gives what was not yet counted.
    ///
    /// # Errors
    /// The end contradicts what was received.
    pub const fn cut(&mut self, end: u64, limit: u64) -> Result<u64, Violation> {
        if end > limit {
            return Err(Violation::Credit);
        }
        let Some(rise) = end.checked_sub(self.used) else { return Err(Violation::FinalSize) };
        self.used = end;
        Ok(rise)
    }

    /// Credit given back in all.
    pub const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Credit used and not given back.
    pub const fn unread(&self) -> u64 {
        self.used - self.consumed
    }

    /// Bytes held: complete messages with bookkeeping, and incomplete ones.
    pub fn held(&self) -> u64 {
        (self.ready_len + self.partial_len) as u64 + MESSAGE_COST * (self.ready.len() + self.partial.len()) as u64
    }

    /// Whether there is something to read.
    pub fn readable(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Messages dropped here: incomplete for too long, or unread for too many newer ones.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether everything up to the end is complete; an unreliable channel ends when it is told.
    pub fn ended(&self) -> bool {
        self.count.is_some_and(|count| !self.mode.reliable() || self.complete.covers(0, count))
    }

    /// Whether everything up to the end was read.
    pub fn done(&self) -> bool {
        self.ended() && self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(
        recv: &mut MessagesRecv,
        at: u64,
        id: u64,
        total: u32,
        offset: u32,
        bytes: &'static [u8],
    ) -> Result<u64, Violation> {
        let message = Message { channel: 0, id, total, offset, bytes };
        recv.insert(Instant::from_micros(at), &message, Bytes::from_static(bytes), 10_000)
    }

    #[test]
    fn fragments_in_any_order_give_a_message_once() {
        let mut recv = MessagesRecv::new(Mode::ReliableUnordered);
        assert_eq!(put(&mut recv, 0, 1, 6, 3, b"def"), Ok(6 + MESSAGE_COST));
        assert_eq!(put(&mut recv, 0, 0, 0, 0, b""), Ok(MESSAGE_COST));
        assert_eq!(put(&mut recv, 0, 1, 6, 0, b"abc"), Ok(0));
        assert_eq!(put(&mut recv, 0, 1, 6, 0, b"abcdef"), Ok(0));
        assert_eq!(recv.read().unwrap(), "");
        assert_eq!(recv.read().unwrap(), "abcdef");
        assert_eq!(recv.read(), None);
        assert!(!recv.done());
        recv.end(2).unwrap();
        assert!(recv.done() && recv.unread() == 0);
        assert_eq!(put(&mut recv, 0, 2, 0, 0, b""), Err(Violation::FinalSize));
    }

    #[test]
    fn late_messages_of_an_ordered_channel_are_dropped() {
        let mut recv = MessagesRecv::new(Mode::UnreliableOrdered);
        put(&mut recv, 0, 0, 4, 0, b"ab").unwrap();
        put(&mut recv, 0, 2, 1, 0, b"2").unwrap();
        put(&mut recv, 0, 1, 1, 0, b"1").unwrap();
        put(&mut recv, 0, 0, 4, 2, b"cd").unwrap();
        assert_eq!(recv.read().unwrap(), "2");
        assert_eq!((recv.read(), recv.partial.len(), recv.dropped()), (None, 0, 1));
    }

    #[test]
    fn unread_and_incomplete_messages_are_bounded() {
        static BIG: [u8; 60_000] = [0; 60_000];
        let mut recv = MessagesRecv::new(Mode::UnreliableUnordered);
        for id in 0..100 {
            put(&mut recv, 0, id, 60_000, 0, &BIG).unwrap();
            put(&mut recv, 0, 1_000 + id, 60_000, 0, &BIG[..9]).unwrap();
        }
        assert!(recv.ready_len <= UNREAD_BYTES_MAX && recv.partial_len <= REASSEMBLY_BYTES_MAX);
        put(&mut recv, 6_000_000, 2_000, 60_000, 0, &BIG[..9]).unwrap();
        assert_eq!(recv.partial.len(), 1);
    }

    #[test]
    fn a_fragment_of_another_length_and_too_much_credit_are_violations() {
        let mut recv = MessagesRecv::new(Mode::ReliableUnordered);
        put(&mut recv, 0, 0, 6, 0, b"abc").unwrap();
        assert_eq!(put(&mut recv, 0, 0, 7, 3, b"def"), Err(Violation::Fragment));
        assert_eq!(put(&mut recv, 0, 1, 60_000, 0, b""), Err(Violation::Credit));
        let mut recv = MessagesRecv::new(Mode::UnreliableUnordered);
        assert_eq!(put(&mut recv, 0, 1, 65_536, 0, b"long"), Ok(0));
        assert_eq!(put(&mut recv, 0, 2, 65_537, 0, b"too long"), Err(Violation::Fragment));
    }
}
