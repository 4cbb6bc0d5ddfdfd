//! The sending half of a message channel: fragments of at most a packet each. Reliable
//! messages are kept until every fragment has arrived; others are forgotten as they leave,
//! and the oldest unsent ones yield when too many wait.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::limits::{MESSAGE_COST, MESSAGES_WINDOW_INITIAL, UNSENT_BYTES_MAX};
use super::ranges::Ranges;

/// A fragment to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The message.
    pub id: u64,
    /// Bytes of the whole message.
    pub total: u32,
    /// Where the fragment begins.
    pub offset: u32,
    /// Its length.
    pub len: u16,
    /// Session credit it costs: the whole message's, with its first fragment.
    pub fresh: u64,
}

/// A message that has not left completely, or not arrived.
struct Outgoing {
    bytes: Bytes,
    sent: u32,
    acked: Ranges,
}

/// The sending half.
pub struct MessagesSend {
    reliable: bool,
    /// Messages not yet sent completely, by id, contiguous.
    queue: VecDeque<Outgoing>,
    queue_len: u64,
    /// Id of the first in the queue.
    next: u64,
    /// Reliable messages sent and not yet arrived.
    flying: BTreeMap<u64, Outgoing>,
    flying_len: u64,
    lost: VecDeque<(u64, u32, u16)>,
    used: u64,
    limit: u64,
    dropped: u64,
    finished: bool,
    end: End,
    stopped: bool,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not told.
    Untold,
    /// Told.
    Sent,
    /// Known to the peer.
    Acked,
}

/// Length of a message, which [`super::limits::MESSAGE_LEN_MAX`] bounds.
fn length(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// What is sent of so many bytes at once when there is so much room.
fn piece(left: u32, max: usize) -> u16 {
    u16::try_from(left).unwrap_or(u16::MAX).min(u16::try_from(max).unwrap_or(u16::MAX))
}

/// Credit that a message costs.
fn cost(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + MESSAGE_COST
}

impl MessagesSend {
    /// An empty channel with the initial credit.
    pub fn new(reliable: bool) -> Self {
        Self {
            reliable,
            queue: VecDeque::new(),
            queue_len: 0,
            next: 0,
            flying: BTreeMap::new(),
            flying_len: 0,
            lost: VecDeque::new(),
            used: 0,
            limit: MESSAGES_WINDOW_INITIAL,
            dropped: 0,
            finished: false,
            end: End::Untold,
            stopped: false,
        }
    }

    /// The first message, of this cost, travels by other means.
    pub const fn skip(&mut self, cost: u64) {
        self.next = 1;
        self.used = cost;
    }

    /// Appends a message; the caller has looked at its length and, if reliable, at [`MessagesSend::buffered`].
    pub fn write(&mut self, bytes: Bytes) {
        if self.finished {
            return;
        }
        self.queue_len += cost(&bytes);
        self.queue.push_back(Outgoing { bytes, sent: 0, acked: Ranges::default() });
        while !self.reliable && self.queue_len > UNSENT_BYTES_MAX as u64 && self.queue.len() > 1 {
            if let Some(old) = self.queue.pop_front() {
                self.queue_len -= cost(&old.bytes);
                self.next += 1;
                self.dropped += 1;
            }
        }
    }

    /// No more will be written.
    pub const fn finish(&mut self) {
        self.finished = true;
    }

    /// The peer reads no more: what was not sent is dropped.
    pub fn stop(&mut self) {
        self.stopped = true;
        let keep = usize::from(self.reliable && self.queue.front().is_some_and(|first| first.sent > 0));
        for old in self.queue.drain(keep..) {
            self.queue_len -= cost(&old.bytes);
        }
        self.finish();
    }

    /// Whether the peer reads no more.
    pub const fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether nothing more may be written.
    pub const fn closed(&self) -> bool {
        self.finished
    }

    /// The fragment to send next, with at most `max` bytes of payload and `credit` of the session's.
    pub fn next(&mut self, max: usize, credit: u64) -> Option<Fragment> {
        if let Some(fragment) = self.next_lost(max) {
            return Some(fragment);
        }
        let first = self.queue.front_mut()?;
        let total = length(&first.bytes);
        let fresh = if first.sent == 0 && self.reliable { cost(&first.bytes) } else { 0 };
        if fresh > credit || (self.reliable && self.used + fresh > self.limit) {
            return None;
        }
        let left = total - first.sent;
        // A message that fits a packet is not torn apart to fill up this one.
        let len = piece(left, max);
        if (len == 0 && total > 0) || (u32::from(len) < left && max < 1_024) {
            return None;
        }
        let fragment = Fragment { id: self.next, total, offset: first.sent, len, fresh };
        first.sent += u32::from(len);
        self.used += fresh;
        if first.sent == total {
            self.next += 1;
            if let Some(sent) = self.queue.pop_front() {
                self.queue_len -= cost(&sent.bytes);
                if self.reliable {
                    self.flying_len += cost(&sent.bytes);
                    self.flying.insert(fragment.id, sent);
                }
            }
        }
        Some(fragment)
    }

    /// A fragment that was lost and is still wanted.
    fn next_lost(&mut self, max: usize) -> Option<Fragment> {
        while let Some((id, offset, len)) = self.lost.pop_front() {
            let front = if id == self.next { self.queue.front() } else { None };
            let Some(message) = self.flying.get(&id).or(front) else { continue };
            if message.acked.covers(u64::from(offset), u64::from(offset) + u64::from(len)) && len > 0 {
                continue;
            }
            let take = piece(u32::from(len), max);
            if take == 0 && len > 0 {
                self.lost.push_front((id, offset, len));
                return None;
            }
            if take < len {
                self.lost.push_front((id, offset + u32::from(take), len - take));
            }
            return Some(Fragment { id, total: length(&message.bytes), offset, len: take, fresh: 0 });
        }
        None
    }

    /// The first message's bytes, to hold on to while `next` may let go of them.
    pub fn front(&self) -> Option<Bytes> {
        self.queue.front().map(|message| message.bytes.clone())
    }

    /// A fragment arrived.
    pub fn handle_acked(&mut self, id: u64, offset: u32, len: u16) {
        let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(len));
        if let Some(message) = self.flying.get_mut(&id) {
            message.acked.insert(start, end);
            if message.acked.covers(0, message.bytes.len() as u64) {
                self.flying_len -= cost(&message.bytes);
                self.flying.remove(&id);
            }
        } else if id == self.next
            && let Some(message) = self.queue.front_mut()
        {
            message.acked.insert(start, end);
        }
    }

    /// A fragment was lost.
    pub fn handle_lost(&mut self, id: u64, offset: u32, len: u16) {
        if self.flying.contains_key(&id) || (id == self.next && !self.queue.is_empty()) {
            self.lost.push_back((id, offset, len));
        }
    }

    /// Raises the credit; false if it was as high already.
    pub const fn raise(&mut self, limit: u64) -> bool {
        let more = limit > self.limit;
        if more {
            self.limit = limit;
        }
        more
    }

    /// Whether something could be sent with session credit.
    pub fn wants(&self) -> bool {
        !self.lost.is_empty()
            || self
                .queue
                .front()
                .is_some_and(|first| !self.reliable || first.sent > 0 || self.used + cost(&first.bytes) <= self.limit)
    }

    /// Whether the end must be told: the count of messages, once all have left.
    pub fn take_end(&mut self) -> bool {
        let due = self.finished && self.queue.is_empty() && self.end == End::Untold;
        if due {
            self.end = End::Sent;
        }
        due
    }

    /// Messages sent in all.
    pub const fn count(&self) -> u64 {
        self.next
    }

    /// The peer knows the end.
    pub const fn handle_end_acked(&mut self) {
        self.end = End::Acked;
    }

    /// Bytes and overhead held.
    pub const fn buffered(&self) -> u64 {
        self.queue_len + self.flying_len
    }

    /// Bytes and overhead not sent.
    pub const fn unsent(&self) -> u64 {
        self.queue_len
    }

    /// Credit used in all.
    pub const fn sent(&self) -> u64 {
        self.used
    }

    /// Messages that yielded to newer ones before they were sent.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether everything, the end included, has arrived or will not.
    pub fn done(&self) -> bool {
        self.end == End::Acked && self.queue.is_empty() && self.flying.is_empty()
    }

    /// The bytes of a fragment, out of `held` (what [`MessagesSend::front`] gave) if the message was let go of.
    pub fn bytes<'a>(&'a self, fragment: &Fragment, held: Option<&'a Bytes>) -> &'a [u8] {
        let start = usize::try_from(fragment.offset).unwrap_or(usize::MAX);
        let range = start..start.saturating_add(usize::from(fragment.len));
        let front = if fragment.id == self.next { self.queue.front() } else { None };
        let kept = self.flying.get(&fragment.id).or(front).map(|message| &message.bytes);
        kept.or(held).and_then(|bytes| bytes.get(range)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reliable_messages_are_kept_until_all_fragments_arrive() {
        let mut send = MessagesSend::new(true);
        send.write(Bytes::from(vec![1; 40_000]));
        send.write(Bytes::from_static(b""));
        send.finish();
        let parts: Vec<_> = std::iter::from_fn(|| send.next(16_000, u64::MAX)).collect();
        assert_eq!(
            parts.iter().map(|part| (part.id, part.len)).collect::<Vec<_>>(),
            [(0, 16_000), (0, 16_000), (0, 8_000), (1, 0)]
        );
        assert!(send.take_end() && !send.take_end());
        send.handle_acked(0, 0, 16_000);
        send.handle_lost(0, 16_000, 16_000);
        send.handle_lost(1, 0, 0);
        assert_eq!(send.next(10_000, 0).map(|part| (part.offset, part.len)), Some((16_000, 10_000)));
        assert_eq!(send.next(10_000, 0).map(|part| (part.offset, part.len)), Some((26_000, 6_000)));
        assert_eq!(send.next(10_000, 0).map(|part| part.id), Some(1));
        send.handle_acked(0, 16_000, 16_000);
        send.handle_acked(0, 32_000, 8_000);
        send.handle_acked(1, 0, 0);
        send.handle_end_acked();
        assert!(send.done() && send.buffered() == 0);
    }

    #[test]
    fn unreliable_messages_yield_to_newer_ones() {
        let mut send = MessagesSend::new(false);
        for _ in 0..30 {
            send.write(Bytes::from(vec![1; 60_000]));
        }
        assert!(send.dropped() > 10 && send.unsent() <= UNSENT_BYTES_MAX as u64);
        let held = send.front();
        let part = send.next(65_535, 0).unwrap();
        assert_eq!((part.id, send.bytes(&part, held.as_ref()).len()), (send.dropped(), 60_000));
    }
}
