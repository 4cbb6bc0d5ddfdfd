//! The sending half of a byte stream: what was written and not yet acknowledged, as
//! slices of what the writer gave; small writes are copied together.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::limits::{CHANNEL_WINDOW_INITIAL, SMALL_BUFFER, SMALL_PIECE};
use super::ranges::Ranges;

/// How far the end of the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fin {
    /// More may be written.
    Open,
    /// Must be told.
    Due,
    /// Told.
    Sent,
    /// Known to the peer.
    Acked,
}

/// What to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes; may be none when only the end is told.
    pub len: u16,
    /// Whether the stream ends behind it.
    pub fin: bool,
    /// Bytes that go out for the first time, which cost session credit.
    pub fresh: u64,
}

/// The sending half.
pub struct StreamSend {
    segments: VecDeque<(u64, Bytes)>,
    base: u64,
    sent: u64,
    end: u64,
    acked: Ranges,
    lost: Ranges,
    limit: u64,
    fin: Fin,
    stopped: bool,
}

impl StreamSend {
    /// An empty stream with the initial credit.
    pub fn new() -> Self {
        Self {
            segments: VecDeque::new(),
            base: 0,
            sent: 0,
            end: 0,
            acked: Ranges::default(),
            lost: Ranges::default(),
            limit: CHANNEL_WINDOW_INITIAL,
            fin: Fin::Open,
            stopped: false,
        }
    }

    /// The first `len` bytes travel by other means.
    pub const fn skip(&mut self, len: u64) {
        self.base = len;
        self.sent = len;
        self.end = len;
    }

    /// Appends bytes; the caller has looked at [`StreamSend::buffered`].
    pub fn write(&mut self, bytes: Bytes) {
        if self.fin != Fin::Open || self.stopped || bytes.is_empty() {
            return;
        }
        let start = self.end;
        self.end += bytes.len() as u64;
        if bytes.len() < SMALL_PIECE {
            self.append_small(start, &bytes);
        } else {
            self.segments.push_back((start, bytes));
        }
    }

    /// Appends a small write to the last segment while that one is ours alone and has room, else begins a new one.
    fn append_small(&mut self, start: u64, bytes: &[u8]) {
        if let Some((offset, last)) = self.segments.pop_back() {
            match last.try_into_mut() {
                Ok(mut open) if open.len() + bytes.len() <= open.capacity() && open.capacity() <= 2 * SMALL_BUFFER => {
                    open.extend_from_slice(bytes);
                    return self.segments.push_back((offset, open.freeze()));
                }
                Ok(open) => self.segments.push_back((offset, open.freeze())),
                Err(last) => self.segments.push_back((offset, last)),
            }
        }
        let mut open = BytesMut::with_capacity(SMALL_BUFFER);
        open.extend_from_slice(bytes);
        self.segments.push_back((start, open.freeze()));
    }

    /// No more will be written.
    pub fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Due;
        }
    }

    /// The peer reads no more: what was not sent is dropped, the end is told.
    pub fn stop(&mut self) {
        self.stopped = true;
        if self.end > self.sent {
            self.end = self.sent;
            while self.segments.back().is_some_and(|(offset, _)| *offset >= self.end) {
                self.segments.pop_back();
            }
            if let Some((offset, last)) = self.segments.back_mut() {
                last.truncate(usize::try_from(self.end - *offset).unwrap_or(usize::MAX));
            }
        }
        self.finish();
    }

    /// Whether the peer reads no more.
    pub const fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether nothing more may be written.
    pub fn closed(&self) -> bool {
        self.fin != Fin::Open
    }

    /// What to send next, at most `max` bytes, of which at most `credit` for the first time.
    pub fn next(&mut self, max: usize, credit: u64) -> Option<Chunk> {
        let max = u64::try_from(max.min(usize::from(u16::MAX))).unwrap_or(0);
        if let Some((start, end)) = self.lost.first() {
            let take = (end - start).min(max);
            if take == 0 {
                return None;
            }
            self.lost.remove(start, start + take);
            return Some(self.chunk(start, take, 0));
        }
        let room = (self.limit - self.sent.min(self.limit)).min(credit).min(self.end - self.sent).min(max);
        if room == 0 && !(self.fin == Fin::Due && self.sent == self.end) {
            return None;
        }
        let start = self.sent;
        self.sent += room;
        Some(self.chunk(start, room, room))
    }

    /// The chunk at `offset`, with the end if it reaches it.
    fn chunk(&mut self, offset: u64, len: u64, fresh: u64) -> Chunk {
        let fin = matches!(self.fin, Fin::Due | Fin::Sent) && offset + len == self.end;
        if fin {
            self.fin = Fin::Sent;
        }
        Chunk { offset, len: u16::try_from(len).unwrap_or(u16::MAX), fin, fresh }
    }

    /// Copies the bytes of a chunk.
    pub fn copy(&self, offset: u64, len: u16, out: &mut impl BufMut) {
        let end = offset + u64::from(len);
        let first = self.segments.partition_point(|(start, bytes)| start + bytes.len() as u64 <= offset);
        for (start, bytes) in self.segments.range(first..) {
            if *start >= end {
                break;
            }
            let from = usize::try_from(offset.saturating_sub(*start)).unwrap_or(usize::MAX);
            let to = usize::try_from(end - *start).unwrap_or(usize::MAX).min(bytes.len());
            out.put_slice(&bytes[from..to]);
        }
    }

    /// A chunk arrived.
    pub fn handle_acked(&mut self, offset: u64, len: u16, fin: bool) {
        let end = offset + u64::from(len);
        self.acked.insert(offset.max(self.base), end);
        self.lost.remove(offset, end);
        if fin {
            self.fin = Fin::Acked;
        }
        if let Some((start, end)) = self.acked.first()
            && start <= self.base
        {
            self.acked.pop_first();
            self.base = end;
            while self.segments.front().is_some_and(|(start, bytes)| start + bytes.len() as u64 <= end) {
                self.segments.pop_front();
            }
        }
    }

    /// A chunk was lost: what of it did not arrive otherwise travels again.
    pub fn handle_lost(&mut self, offset: u64, len: u16, fin: bool) {
        let (start, end) = (offset.max(self.base), offset + u64::from(len));
        self.lost.insert(start, end);
        let overlap: smallvec::SmallVec<[(u64, u64); 4]> =
            self.acked.ascending().skip_while(|range| range.1 <= start).take_while(|range| range.0 < end).collect();
        for (start, end) in overlap {
            self.lost.remove(start, end);
        }
        if fin && self.fin == Fin::Sent {
            self.fin = Fin::Due;
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
            || (self.end > self.sent && self.sent < self.limit)
            || (self.fin == Fin::Due && self.sent == self.end)
    }

    /// Bytes held.
    pub const fn buffered(&self) -> u64 {
        self.end - self.base
    }

    /// Bytes that wait for their first or another sending.
    pub const fn unsent(&self) -> u64 {
        self.end - self.sent
    }

    /// Bytes sent in all.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether everything, the end included, has arrived.
    pub fn done(&self) -> bool {
        self.fin == Fin::Acked && self.base == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(stream: &StreamSend, chunk: Chunk) -> Vec<u8> {
        let mut out = Vec::new();
        stream.copy(chunk.offset, chunk.len, &mut out);
        out
    }

    #[test]
    fn small_writes_are_joined_and_large_ones_are_slices() {
        let mut stream = StreamSend::new();
        for byte in 0..200u8 {
            stream.write(Bytes::copy_from_slice(&[byte; 10]));
        }
        assert_eq!(stream.segments.len(), 1);
        stream.write(Bytes::from(vec![7; 5_000]));
        stream.write(Bytes::from_static(b"end"));
        assert_eq!((stream.segments.len(), stream.buffered()), (3, 7_003));
        let chunk = stream.next(60_000, u64::MAX).unwrap();
        let got = copy(&stream, chunk);
        assert_eq!(
            (got.len(), &got[1_990..2_001], &got[7_000..]),
            (7_003, &[&[199; 10][..], &[7]].concat()[..], &b"end"[..])
        );
    }

    #[test]
    fn only_what_was_lost_and_not_acknowledged_travels_again() {
        let mut stream = StreamSend::new();
        stream.write(Bytes::from(vec![1; 3_000]));
        stream.finish();
        let parts: Vec<_> = (0..3).map(|_| stream.next(1_000, u64::MAX).unwrap()).collect();
        assert!(parts[2].fin && !parts[1].fin && !stream.wants());
        stream.handle_acked(1_000, 1_000, false);
        stream.handle_lost(0, 3_000, true);
        assert_eq!(stream.next(5_000, 0), Some(Chunk { offset: 0, len: 1_000, fin: false, fresh: 0 }));
        assert_eq!(stream.next(5_000, 0), Some(Chunk { offset: 2_000, len: 1_000, fin: true, fresh: 0 }));
        stream.handle_acked(2_000, 1_000, true);
        assert!(!stream.done());
        stream.handle_acked(0, 1_000, false);
        assert!(stream.done() && stream.segments.is_empty() && stream.buffered() == 0);
    }

    #[test]
    fn credit_stops_what_is_new_only() {
        let mut stream = StreamSend::new();
        stream.write(Bytes::from(vec![1; 300 * 1024]));
        let mut sent = 0;
        while let Some(chunk) = stream.next(16_000, u64::MAX) {
            sent += chunk.fresh;
        }
        assert_eq!(sent, CHANNEL_WINDOW_INITIAL);
        assert!(!stream.wants());
        stream.handle_lost(0, 10, false);
        assert_eq!(stream.next(100, 0).unwrap().len, 10);
        assert!(stream.raise(CHANNEL_WINDOW_INITIAL + 5) && !stream.raise(1));
        assert_eq!(stream.next(100, 3).unwrap().len, 3);
        assert_eq!(stream.next(100, 3).unwrap().len, 2);
    }

    #[test]
    fn a_stopped_stream_drops_what_was_not_sent() {
        let mut stream = StreamSend::new();
        stream.write(Bytes::from(vec![1; 5_000]));
        stream.next(2_000, u64::MAX);
        stream.stop();
        stream.write(Bytes::from_static(b"more"));
        assert_eq!((stream.buffered(), stream.unsent()), (2_000, 0));
        assert_eq!(stream.next(100, 0), Some(Chunk { offset: 2_000, len: 0, fin: true, fresh: 0 }));
    }
}
