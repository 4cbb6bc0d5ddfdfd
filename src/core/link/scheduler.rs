//! What goes into a link's next batch: control first, then cells. Each source (a neighbour whose cells
//! pass through, or we) has its turn by deficit round robin, and within it each of its flows: who opens many
//! circuits gets no more than who opens one. What is interactive goes before all bulk, up to a quantum per
//! round and source. A cell in transit that waited longer than the delay target is marked. The one copy is
//! into the batch.
//!
//! Bounds: bytes of control (beyond: the caller closes the link), bytes of cells (beyond: the longest flow
//! of the source that holds most loses its oldest, counted). Both charge bookkeeping per message, which
//! bounds flows and sources too.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;

use super::flows::{Flows, Front, Message};
use super::limits::{BATCH_LEN_MAX, CELL_QUEUE_MAX, CONTROL_QUEUE_MAX, QUANTUM};
use super::upload::Pass;
use crate::defence::{self, Defence};
use crate::time::Instant;

/// Cells dropped and marked since the link came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Cells dropped at the queue's bound.
    pub(super) dropped: u64,
    /// Cells marked for their waiting time.
    pub(super) marked: u64,
}

/// What may go into a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Which messages.
    pub(super) pass: Pass,
    /// Where a batch of more than one message ends.
    pub(super) len_max: usize,
    /// Cells in transit that waited longer are marked.
    pub(super) delay_target: Duration,
}

/// Control messages that pile up beyond their bound.
#[derive(Debug)]
pub(super) struct ControlFull;

/// What waits of one source.
#[derive(Default)]
struct Source {
    key: u64,
    flows: Flows,
    /// Bytes that it may still send in this turn; negative after what went first.
    deficit: isize,
    /// Bytes of interactive flows that it may still send before others' bulk in this round.
    allowance: usize,
    /// Whether it is among those that may go first.
    is_first: bool,
}

/// The queues of one link.
#[derive(Default)]
pub(super) struct Scheduler {
    control: VecDeque<Message>,
    control_bytes: usize,
    /// Slots of sources; a free one keeps its memory for the next source.
    sources: Vec<Source>,
    free: Vec<usize>,
    by_key: BTreeMap<u64, usize>,
    /// Slots with interactive flows and an allowance.
    first: VecDeque<usize>,
    /// Slots with anything, in turn.
    turns: VecDeque<usize>,
    cell_bytes: usize,
    /// Whether cells of paths went into the present batch.
    wrote_cells: bool,
    tally: Tally,
}

impl Scheduler {
    /// Queues a control message.
    pub(super) fn push_control(&mut self, message: Message) -> Result<(), ControlFull> {
        self.control_bytes += message.charge();
        self.control.push_back(message);
        if self.control_bytes > CONTROL_QUEUE_MAX && defence::on(Defence::ControlQueue) {
            Err(ControlFull)
        } else {
            Ok(())
        }
    }

    /// Queues a cell of a source; at the bound, the longest flow of the source that holds most loses its oldest.
    pub(super) fn push_cell(&mut self, now: Instant, source: u64, flow: u64, interactive: bool, message: Message) {
        let slot = match self.by_key.get(&source) {
            Some(slot) => *slot,
            None => self.add_source(source),
        };
        self.cell_bytes += message.charge();
        self.sources[slot].flows.push(now, flow, interactive, message);
        if interactive {
            self.put_first(slot);
        }
        while self.cell_bytes > CELL_QUEUE_MAX && defence::on(Defence::CellQueue) {
            self.drop_from_longest();
        }
    }

    /// Whether anything waits.
    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.cell_bytes == 0
    }

    /// Whether control messages wait.
    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Bytes that wait, with bookkeeping: an upper bound of what a batch could take.
    pub(super) fn waiting(&self) -> usize {
        self.control_bytes + self.cell_bytes
    }

    /// Bytes of cells that wait, with bookkeeping.
    pub(super) fn cell_bytes(&self) -> usize {
        self.cell_bytes
    }

    /// Bytes of control messages that wait, with bookkeeping.
    pub(super) fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// Cells dropped and marked so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Appends to the batch what comes next, until it is full or nothing waits that may go. Whether
    /// cells of paths went in.
    pub(super) fn fill(&mut self, now: Instant, share: Share, batch: &mut BytesMut) -> bool {
        let start = batch.len();
        self.wrote_cells = false;
        let full = |batch: &BytesMut, len: usize| {
            let end = batch.len() + len;
            end > BATCH_LEN_MAX || batch.len() > start && end > share.len_max
        };
        while share.pass >= Pass::Control
            && let Some(message) = self.control.front()
        {
            if full(batch, message.encoded_len()) {
                return false;
            }
            message.write(batch);
            self.control_bytes -= message.charge();
            self.control.pop_front();
        }
        while share.pass >= Pass::Cells && self.next_cell(now, share.delay_target, &full, batch) {}
        self.wrote_cells
    }

    /// Gives the source whose turn it is its turn; false when the batch is full or no cell waits.
    fn next_cell(
        &mut self,
        now: Instant,
        delay_target: Duration,
        full: &impl Fn(&BytesMut, usize) -> bool,
        batch: &mut BytesMut,
    ) -> bool {
        while let Some(&slot) = self.first.front() {
            let source = &mut self.sources[slot];
            match source.flows.front(true) {
                Some(front) if front.len <= source.allowance => {
                    if full(batch, front.len) {
                        return false;
                    }
                    source.allowance -= front.len;
                    source.deficit -= front.len.cast_signed();
                    self.write(now, delay_target, slot, front, batch);
                    return true;
                }
                Some(_) | None => {
                    source.is_first = false;
                    self.first.pop_front();
                }
            }
        }
        let Some(&slot) = self.turns.front() else { return false };
        let source = &mut self.sources[slot];
        match source.flows.front(false) {
            None => {
                self.turns.pop_front();
                self.by_key.remove(&source.key);
                self.free.push(slot);
            }
            Some(front) if source.deficit < front.len.cast_signed() => {
                (source.deficit, source.allowance) = (source.deficit + QUANTUM.cast_signed(), QUANTUM);
                self.turns.rotate_left(1);
                self.put_first(slot);
            }
            Some(front) => {
                if full(batch, front.len) {
                    return false;
                }
                source.deficit -= front.len.cast_signed();
                self.write(now, delay_target, slot, front, batch);
            }
        }
        true
    }

    /// Takes a source's cell into the batch.
    fn write(&mut self, now: Instant, delay_target: Duration, slot: usize, front: Front, batch: &mut BytesMut) {
        let Some((queued, mut message)) = self.sources[slot].flows.take(front) else { return };
        self.cell_bytes -= message.charge();
        if now - queued > delay_target && message.mark() {
            self.tally.marked += 1;
        }
        self.wrote_cells |= message.is_cell();
        message.write(batch);
    }

    /// Lets a source go first with what is interactive, if it may.
    fn put_first(&mut self, slot: usize) {
        let source = &mut self.sources[slot];
        if source.flows.has_interactive() && source.allowance > 0 && !source.is_first {
            source.is_first = true;
            self.first.push_back(slot);
        }
    }

    /// A slot for a source that had nothing queued.
    fn add_source(&mut self, key: u64) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sources.push(Source::default());
            self.sources.len() - 1
        });
        let source = &mut self.sources[slot];
        (source.key, source.deficit, source.allowance) = (key, QUANTUM.cast_signed(), QUANTUM);
        self.by_key.insert(key, slot);
        self.turns.push_back(slot);
        slot
    }

    /// Drops the oldest cell of the longest flow of the source that holds most (of several, the one in the lowest slot).
    pub(super) fn drop_from_longest(&mut self) {
        let most = self.sources.iter().map(|source| source.flows.bytes()).max().unwrap_or(0);
        let slot = self.sources.iter().position(|source| source.flows.bytes() == most && most > 0);
        let flows = &mut self.sources[slot.expect("a source, as cells are queued")].flows;
        flows.drop_from_longest();
        self.cell_bytes = self.cell_bytes - most + flows.bytes();
        self.tally.dropped += 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::limits::{BATCH_LEN_SLOW, DELAY_TARGET, HEAD_LEN_MAX, MESSAGE_CHARGE};
    use super::*;
    use crate::wire::kind;
    use crate::wire::link::next_message;

    const HEAD: [u8; 5] = [1, 2, 3, 4, 0x80];
    const ALL: Share = Share { pass: Pass::Cells, len_max: BATCH_LEN_MAX, delay_target: DELAY_TARGET };

    fn cell(tag: u8, len: usize) -> Message {
        Message::new(kind::CELL, &HEAD, Bytes::from(vec![tag; len])).unwrap().in_transit(true)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    /// One batch: kind, flags of a cell and last byte of every message.
    fn batch(scheduler: &mut Scheduler, now: Instant) -> Vec<(u8, u8, u8)> {
        batch_of(scheduler, now, ALL)
    }

    /// The same, of what the share lets through.
    fn batch_of(scheduler: &mut Scheduler, now: Instant, share: Share) -> Vec<(u8, u8, u8)> {
        let mut batch = BytesMut::new();
        scheduler.fill(now, share, &mut batch);
        assert!(batch.len() <= BATCH_LEN_MAX);
        let mut batch = batch.freeze();
        let mut out = Vec::new();
        while let Some((kind, body)) = next_message(&mut batch).unwrap() {
            out.push((kind, body.get(4).copied().unwrap_or(0), body.last().copied().unwrap_or(0)));
        }
        out
    }

    /// Tags of everything that waits, in order.
    fn drain(scheduler: &mut Scheduler, now: Instant) -> Vec<u8> {
        let mut tags = Vec::new();
        while !scheduler.is_empty() {
            tags.extend(batch(scheduler, now).into_iter().map(|(_, _, tag)| tag));
        }
        tags
    }

    #[test]
    fn control_goes_first_then_interactive_then_bulk() {
        let mut scheduler = Scheduler::default();
        scheduler.push_cell(at(0), 1, 1, false, cell(1, 2000));
        scheduler.push_cell(at(0), 1, 2, true, cell(2, 100));
        scheduler.push_control(Message::new(kind::ADVERT, &[], Bytes::from_static(&[3])).unwrap()).unwrap();
        assert_eq!(drain(&mut scheduler, at(0)), [3, 2, 1]);
        assert_eq!(scheduler.waiting(), 0);
    }

    #[test]
    fn flows_share_by_bytes_not_by_cells() {
        let mut scheduler = Scheduler::default();
        for _ in 0..20 {
            scheduler.push_cell(at(0), 1, 1, false, cell(1, 16_000));
        }
        for _ in 0..300 {
            scheduler.push_cell(at(0), 1, 2, false, cell(2, 1000));
        }
        let mut bytes = [0usize; 3];
        while bytes[1] < 200_000 {
            for (_, _, tag) in batch(&mut scheduler, at(0)) {
                bytes[usize::from(tag)] += if tag == 1 { 16_000 } else { 1000 };
            }
        }
        assert!(bytes[1].abs_diff(bytes[2]) <= 3 * QUANTUM, "{bytes:?}");
    }

    #[test]
    fn an_interactive_flow_that_floods_becomes_bulk() {
        let mut scheduler = Scheduler::default();
        for _ in 0..100 {
            scheduler.push_cell(at(0), 1, 1, true, cell(1, 4000));
            scheduler.push_cell(at(0), 1, 2, false, cell(2, 4000));
        }
        let tags = drain(&mut scheduler, at(0));
        let ones = tags[..100].iter().filter(|tag| **tag == 1).count();
        assert!((45..=60).contains(&ones), "{ones}");
        assert_eq!(tags.len(), 200);
    }

    #[test]
    fn the_longest_flow_loses_its_oldest_and_others_lose_nothing() {
        let mut scheduler = Scheduler::default();
        for n in 0..50 {
            scheduler.push_cell(at(0), 1, 2, false, cell(200 + n, 2000));
        }
        for n in 0..2000u32 {
            scheduler.push_cell(at(0), 1, 1, false, cell(u8::try_from(n % 200).unwrap(), 2000));
        }
        assert!(scheduler.cell_bytes <= CELL_QUEUE_MAX);
        let dropped = usize::try_from(scheduler.tally().dropped).unwrap();
        let tags = drain(&mut scheduler, at(0));
        assert_eq!(tags.iter().filter(|tag| **tag >= 200).count(), 50);
        let flood: Vec<_> = tags.into_iter().filter(|tag| *tag < 200).collect();
        assert_eq!(flood.len() + dropped, 2000);
        assert_eq!(flood.last(), Some(&199), "the newest stays");
        assert!(flood.len() > 350);
    }

    #[test]
    fn empty_flows_are_forgotten_and_tiny_cells_are_bounded_in_number() {
        let mut scheduler = Scheduler::default();
        for flow in 0..10_000 {
            scheduler.push_cell(at(0), 1, flow, flow % 2 == 0, cell(1, 0));
        }
        assert!(scheduler.cell_bytes <= CELL_QUEUE_MAX);
        let kept = drain(&mut scheduler, at(0)).len();
        assert!(kept <= CELL_QUEUE_MAX / MESSAGE_CHARGE);
        scheduler.fill(at(0), ALL, &mut BytesMut::new());
        assert!(scheduler.by_key.is_empty() && scheduler.first.is_empty() && scheduler.turns.is_empty());
        assert_eq!(scheduler.free.len(), scheduler.sources.len());
        assert!(scheduler.sources.iter().all(|source| source.flows.is_forgotten()));
    }

    #[test]
    fn cells_that_waited_are_marked_and_only_cells() {
        let mut scheduler = Scheduler::default();
        scheduler.push_cell(at(0), 1, 1, false, cell(1, 10));
        scheduler.push_cell(at(2), 1, 1, false, cell(2, 10));
        scheduler.push_cell(at(0), 1, 2, false, Message::new(kind::ROUTED, &HEAD, Bytes::from_static(&[3])).unwrap());
        let got = batch(&mut scheduler, at(7));
        assert_eq!(got, [(kind::CELL, 0x81, 1), (kind::CELL, 0x80, 2), (kind::ROUTED, 0x80, 3)]);
        assert_eq!(scheduler.tally(), Tally { dropped: 0, marked: 1 });
    }

    #[test]
    fn a_flow_that_sends_little_at_a_time_takes_turns_with_bulk() {
        let mut scheduler = Scheduler::default();
        let short = Share { len_max: BATCH_LEN_SLOW, ..ALL };
        let (mut bytes, mut waiting) = ([0usize; 3], 0);
        for _ in 0..400 {
            while waiting < 20 {
                scheduler.push_cell(at(0), 1, 1, false, cell(1, 2000));
                waiting += 1;
            }
            // One quantum at a time, as an interactive flow: it never has more than one turn's worth.
            (0..7).for_each(|_| scheduler.push_cell(at(0), 1, 2, true, cell(2, 2000)));
            for (_, _, tag) in batch_of(&mut scheduler, at(0), short) {
                bytes[usize::from(tag)] += 2000;
                waiting -= u32::from(tag == 1);
            }
        }
        assert!(bytes[1] * 10 > (bytes[1] + bytes[2]) * 4, "{bytes:?}");
    }

    #[test]
    fn who_opens_many_circuits_gets_no_more_than_who_opens_one() {
        let mut scheduler = Scheduler::default();
        for round in 0..40 {
            for flow in 0..100 {
                scheduler.push_cell(at(round), 1, flow, flow % 2 == 0, cell(1, 2000));
            }
            if round % 2 == 0 {
                scheduler.push_cell(at(round), 2, 1000, false, cell(2, 15_000));
            }
            assert!(scheduler.cell_bytes <= CELL_QUEUE_MAX);
        }
        assert!(scheduler.tally().dropped > 1000);
        let (mut bytes, mut honest) = ([0; 3], 0);
        while !scheduler.is_empty() && honest < 20 {
            for (_, _, tag) in batch(&mut scheduler, at(50)) {
                bytes[usize::from(tag)] += if tag == 1 { 2000 } else { 15_000 };
                honest += u32::from(tag == 2);
            }
        }
        assert_eq!(bytes[2], 20 * 15_000, "the one circuit lost nothing");
        assert!(bytes[1] <= bytes[2] + 2 * QUANTUM + BATCH_LEN_MAX, "alike but for the last batch: {bytes:?}");
    }

    #[test]
    fn short_batches_take_at_least_one_message_and_a_share_keeps_the_rest_back() {
        let mut scheduler = Scheduler::default();
        for tag in [1, 2, 3] {
            scheduler.push_cell(at(0), 1, 1, false, cell(tag, 16_000));
        }
        scheduler.push_control(Message::new(kind::ADVERT, &[], Bytes::from(vec![9; 20_000])).unwrap()).unwrap();
        scheduler.push_control(Message::new(kind::ADVERT, &[], Bytes::from_static(&[8])).unwrap()).unwrap();
        let short = Share { len_max: BATCH_LEN_SLOW, ..ALL };
        let tags = |scheduler: &mut Scheduler, share| {
            batch_of(scheduler, at(0), share).iter().map(|cell| cell.2).collect::<Vec<_>>()
        };
        assert!(tags(&mut scheduler, Share { pass: Pass::Life, ..short }).is_empty());
        assert_eq!(tags(&mut scheduler, Share { pass: Pass::Control, ..short }), [9]);
        assert!(scheduler.has_control());
        assert_eq!(tags(&mut scheduler, Share { pass: Pass::Control, ..short }), [8]);
        assert!(tags(&mut scheduler, Share { pass: Pass::Control, ..short }).is_empty());
        assert_eq!([(); 3].map(|()| tags(&mut scheduler, short)), [[1], [2], [3]]);
    }

    #[test]
    fn our_own_cells_are_not_marked_and_a_slow_link_marks_later() {
        let mut scheduler = Scheduler::default();
        let own = |scheduler: &mut Scheduler| scheduler.push_cell(at(0), 1, 1, false, cell(1, 10).in_transit(false));
        own(&mut scheduler);
        scheduler.push_cell(at(0), 1, 2, false, cell(2, 10));
        let slow = Share { delay_target: DELAY_TARGET * 3, ..ALL };
        assert_eq!(batch_of(&mut scheduler, at(15), slow), [(kind::CELL, 0x80, 1), (kind::CELL, 0x80, 2)]);
        own(&mut scheduler);
        scheduler.push_cell(at(0), 1, 2, false, cell(2, 10));
        assert_eq!(batch_of(&mut scheduler, at(16), slow), [(kind::CELL, 0x80, 1), (kind::CELL, 0x81, 2)]);
    }

    #[test]
    fn control_beyond_its_bound_is_reported() {
        let mut scheduler = Scheduler::default();
        let control = || Message::new(kind::ADVERT, &[], Bytes::from(vec![0; 60_000])).unwrap();
        let taken = (0..100).take_while(|_| scheduler.push_control(control()).is_ok()).count();
        assert_eq!(taken, CONTROL_QUEUE_MAX / (60_000 + MESSAGE_CHARGE));
        (0..40).for_each(|_| scheduler.push_cell(at(0), 1, 1, false, cell(1, 2000)));
        assert!(scheduler.cell_bytes() >= 40 * 2000 && scheduler.control_bytes() > CONTROL_QUEUE_MAX);
        assert!(Message::new(1, &[0; HEAD_LEN_MAX + 1], Bytes::new()).is_none());
    }
}
