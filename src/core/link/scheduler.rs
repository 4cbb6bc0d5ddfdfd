//! What goes into a link's next batch: control first, then cells by deficit round robin over
//! flows. An interactive flow has its turn before bulk until it has used up a quantum or has
//! nothing more to send; then it is bulk until its turn there has come, so that no flow gains by
//! sending little at a time (RFC 8290 §4.2). A cell in transit that waited longer than the delay
//! target is marked. Queues hold references to bodies; the one copy is into the batch. Work per message is constant, but for a scan of
//! queue lengths per cell dropped.
//!
//! Bounds: bytes of control (beyond: the caller closes the link), bytes of cells (beyond: the
//! longest flow loses its oldest cells, counted). Both charge bookkeeping per message, which
//! bounds flows too.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::limits::{
    BATCH_LEN_MAX, CELL_QUEUE_LOW, CELL_QUEUE_MAX, CONTROL_QUEUE_MAX, HEAD_LEN_MAX, MESSAGE_CHARGE, QUANTUM,
};
use super::upload::Pass;
use crate::defence::{self, Defence};
use crate::time::Instant;
use crate::wire::link::put_message;
use crate::wire::{kind, varint_len};

/// The byte of a cell's head that holds its flags.
const CELL_FLAGS_AT: usize = 4;
/// The cell flag that says: it waited too long somewhere.
const CELL_MARKED: u8 = 1;

/// A message in a queue.
pub(super) struct Message {
    kind: u8,
    head_len: u8,
    head: [u8; HEAD_LEN_MAX],
    body: Bytes,
    /// It passes through: where it comes from does not see how long it waits here.
    transit: bool,
}

impl Message {
    /// A message; `None` when its head is longer than heads may be.
    pub(super) fn new(kind: u8, head: &[u8], body: Bytes) -> Option<Self> {
        let mut kept = [0; HEAD_LEN_MAX];
        kept.get_mut(..head.len())?.copy_from_slice(head);
        Some(Self { kind, head_len: u8::try_from(head.len()).ok()?, head: kept, body, transit: false })
    }

    /// The message, in transit or not.
    pub(super) fn in_transit(self, transit: bool) -> Self {
        Self { transit, ..self }
    }

    /// Bytes of head and body.
    pub(super) fn len(&self) -> usize {
        usize::from(self.head_len) + self.body.len()
    }

    /// Bytes in a batch.
    fn encoded_len(&self) -> usize {
        1 + varint_len(self.len() as u64) + self.len()
    }

    /// What it counts against the bound of its queue.
    fn charge(&self) -> usize {
        self.len() + MESSAGE_CHARGE
    }

    /// Appends it to a batch.
    fn write(&self, batch: &mut BytesMut) {
        put_message(batch, self.kind, &self.head[..usize::from(self.head_len)], &self.body);
    }

    /// Marks it, if it is a cell in transit. Whether it was.
    fn mark(&mut self) -> bool {
        let can = self.transit && self.kind == kind::CELL && usize::from(self.head_len) > CELL_FLAGS_AT;
        if can {
            self.head[CELL_FLAGS_AT] |= CELL_MARKED;
        }
        can
    }
}

/// The queue of one flow.
#[derive(Default)]
struct Flow {
    id: u64,
    cells: VecDeque<(Instant, Message)>,
    /// Bytes that it may still send in this turn.
    deficit: usize,
}

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

/// The queues of one link.
#[derive(Default)]
pub(super) struct Scheduler {
    control: VecDeque<Message>,
    control_bytes: usize,
    /// Slots of flows; a free one keeps its queue's memory for the next flow.
    flows: Vec<Flow>,
    /// Charged bytes by slot, apart from the flows so that the longest is found fast.
    lens: Vec<usize>,
    free: Vec<usize>,
    by_id: BTreeMap<u64, usize>,
    /// Slots whose turn comes first.
    interactive: VecDeque<usize>,
    /// Slots whose turn comes when no interactive flow waits.
    bulk: VecDeque<usize>,
    cell_bytes: usize,
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

    /// Queues a cell; at the bound, the longest flow loses its oldest.
    pub(super) fn push_cell(&mut self, now: Instant, flow: u64, interactive: bool, message: Message) {
        let slot = match self.by_id.get(&flow) {
            Some(slot) => *slot,
            None => self.add_flow(flow, interactive),
        };
        self.cell_bytes += message.charge();
        self.lens[slot] += message.charge();
        self.flows[slot].cells.push_back((now, message));
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

    /// Whether sessions may add cells of their own, on a link with batches of `batch_len`: one ahead.
    pub(super) fn has_room(&self, batch_len: usize) -> bool {
        self.cell_bytes < batch_len.min(CELL_QUEUE_LOW)
    }

    /// Bytes that wait, with bookkeeping: an upper bound of what a batch could take.
    pub(super) fn waiting(&self) -> usize {
        self.control_bytes + self.cell_bytes
    }

    /// Cells dropped and marked so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Appends to the batch what comes next, until it is full or nothing waits that may go. Whether cells went in.
    pub(super) fn fill(&mut self, now: Instant, share: Share, batch: &mut BytesMut) -> bool {
        let start = batch.len();
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
        let before = batch.len();
        while share.pass >= Pass::Cells && self.next_cell(now, share.delay_target, &full, batch) {}
        batch.len() > before
    }

    /// Gives the flow whose turn it is its turn; false when the batch is full or no cell waits.
    fn next_cell(
        &mut self,
        now: Instant,
        delay_target: Duration,
        full: &impl Fn(&BytesMut, usize) -> bool,
        batch: &mut BytesMut,
    ) -> bool {
        let from_interactive = !self.interactive.is_empty();
        let ring = if from_interactive { &mut self.interactive } else { &mut self.bulk };
        let Some(&slot) = ring.front() else { return false };
        let flow = &mut self.flows[slot];
        let Some((_, message)) = flow.cells.front() else {
            ring.pop_front();
            if from_interactive {
                self.bulk.push_back(slot);
            } else {
                self.retire(slot);
            }
            return true;
        };
        let len = message.encoded_len();
        if flow.deficit < len {
            flow.deficit += QUANTUM;
            ring.pop_front();
            self.bulk.push_back(slot);
            return true;
        }
        if full(batch, len) {
            return false;
        }
        flow.deficit -= len;
        if let Some((queued, mut message)) = flow.cells.pop_front() {
            self.lens[slot] -= message.charge();
            self.cell_bytes -= message.charge();
            if now - queued > delay_target && message.mark() {
                self.tally.marked += 1;
            }
            message.write(batch);
        }
        true
    }

    /// A slot for a flow that had nothing queued.
    fn add_flow(&mut self, id: u64, interactive: bool) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flows.push(Flow::default());
            self.lens.push(0);
            self.flows.len() - 1
        });
        self.flows[slot].id = id;
        self.flows[slot].deficit = QUANTUM;
        self.by_id.insert(id, slot);
        let ring = if interactive { &mut self.interactive } else { &mut self.bulk };
        ring.push_back(slot);
        slot
    }

    /// Frees the slot of a flow that has nothing queued and is in no ring.
    fn retire(&mut self, slot: usize) {
        self.by_id.remove(&self.flows[slot].id);
        self.free.push(slot);
    }

    /// Drops the oldest cell of the longest flow (of several, the one in the lowest slot).
    fn drop_from_longest(&mut self) {
        let longest = self.lens.iter().copied().max().unwrap_or(0);
        let loses = |len: &usize| *len == longest || *len > 0 && !defence::on(Defence::LongestFlowLoses);
        let slot = self.lens.iter().position(loses).expect("a flow, as cells are queued");
        let (_, message) = self.flows[slot].cells.pop_front().expect("the longest flow is not empty");
        self.lens[slot] -= message.charge();
        self.cell_bytes -= message.charge();
        self.tally.dropped += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{BATCH_LEN_SLOW, DELAY_TARGET};
    use super::*;
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
        scheduler.push_cell(at(0), 1, false, cell(1, 2000));
        scheduler.push_cell(at(0), 2, true, cell(2, 100));
        scheduler.push_control(Message::new(kind::ADVERT, &[], Bytes::from_static(&[3])).unwrap()).unwrap();
        assert_eq!(drain(&mut scheduler, at(0)), [3, 2, 1]);
        assert_eq!(scheduler.waiting(), 0);
    }

    #[test]
    fn flows_share_by_bytes_not_by_cells() {
        let mut scheduler = Scheduler::default();
        for _ in 0..20 {
            scheduler.push_cell(at(0), 1, false, cell(1, 16_000));
        }
        for _ in 0..300 {
            scheduler.push_cell(at(0), 2, false, cell(2, 1000));
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
            scheduler.push_cell(at(0), 1, true, cell(1, 4000));
            scheduler.push_cell(at(0), 2, false, cell(2, 4000));
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
            scheduler.push_cell(at(0), 2, false, cell(200 + n, 2000));
        }
        for n in 0..2000u32 {
            scheduler.push_cell(at(0), 1, false, cell(u8::try_from(n % 200).unwrap(), 2000));
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
            scheduler.push_cell(at(0), flow, flow % 2 == 0, cell(1, 0));
        }
        assert!(scheduler.flows.len() <= 10_000 && scheduler.cell_bytes <= CELL_QUEUE_MAX);
        let kept = drain(&mut scheduler, at(0)).len();
        assert!(kept <= CELL_QUEUE_MAX / MESSAGE_CHARGE);
        scheduler.fill(at(0), ALL, &mut BytesMut::new());
        assert!(scheduler.by_id.is_empty() && scheduler.interactive.is_empty() && scheduler.bulk.is_empty());
        assert_eq!(scheduler.free.len(), scheduler.flows.len());
    }

    #[test]
    fn cells_that_waited_are_marked_and_only_cells() {
        let mut scheduler = Scheduler::default();
        scheduler.push_cell(at(0), 1, false, cell(1, 10));
        scheduler.push_cell(at(2), 1, false, cell(2, 10));
        scheduler.push_cell(at(0), 2, false, Message::new(kind::ROUTED, &HEAD, Bytes::from_static(&[3])).unwrap());
        let got = batch(&mut scheduler, at(7));
        assert_eq!(got, [(kind::CELL, 0x81, 1), (kind::CELL, 0x80, 2), (kind::ROUTED, 0x80, 3)]);
        assert_eq!(scheduler.tally(), Tally { dropped: 0, marked: 1 });
    }

    #[test]
    fn a_flow_that_sends_little_at_a_time_takes_turns_with_bulk() {
        let mut scheduler = Scheduler::default();
        let short = Share { len_max: BATCH_LEN_SLOW, ..ALL };
        let mut bytes = [0usize; 3];
        for _ in 0..400 {
            while scheduler.by_id.get(&1).is_none_or(|slot| scheduler.lens[*slot] < 40_000) {
                scheduler.push_cell(at(0), 1, false, cell(1, 2000));
            }
            // One quantum at a time, as an interactive flow: it never has more than one turn's worth.
            (0..7).for_each(|_| scheduler.push_cell(at(0), 2, true, cell(2, 2000)));
            for (_, _, tag) in batch_of(&mut scheduler, at(0), short) {
                bytes[usize::from(tag)] += 2000;
            }
        }
        assert!(bytes[1] * 10 > (bytes[1] + bytes[2]) * 4, "{bytes:?}");
    }

    #[test]
    fn short_batches_take_at_least_one_message_and_a_share_keeps_the_rest_back() {
        let mut scheduler = Scheduler::default();
        for tag in [1, 2, 3] {
            scheduler.push_cell(at(0), 1, false, cell(tag, 16_000));
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
        let own = |scheduler: &mut Scheduler| scheduler.push_cell(at(0), 1, false, cell(1, 10).in_transit(false));
        own(&mut scheduler);
        scheduler.push_cell(at(0), 2, false, cell(2, 10));
        let slow = Share { delay_target: DELAY_TARGET * 3, ..ALL };
        assert_eq!(batch_of(&mut scheduler, at(15), slow), [(kind::CELL, 0x80, 1), (kind::CELL, 0x80, 2)]);
        own(&mut scheduler);
        scheduler.push_cell(at(0), 2, false, cell(2, 10));
        assert_eq!(batch_of(&mut scheduler, at(16), slow), [(kind::CELL, 0x80, 1), (kind::CELL, 0x81, 2)]);
    }

    #[test]
    fn control_beyond_its_bound_is_reported_and_room_follows_the_queue() {
        let mut scheduler = Scheduler::default();
        let control = || Message::new(kind::ADVERT, &[], Bytes::from(vec![0; 60_000])).unwrap();
        let taken = (0..100).take_while(|_| scheduler.push_control(control()).is_ok()).count();
        assert_eq!(taken, CONTROL_QUEUE_MAX / (60_000 + MESSAGE_CHARGE));
        assert!(scheduler.has_room(BATCH_LEN_MAX));
        (0..40).for_each(|_| scheduler.push_cell(at(0), 1, false, cell(1, 2000)));
        assert!(!scheduler.has_room(BATCH_LEN_MAX));
        assert!(Message::new(1, &[0; HEAD_LEN_MAX + 1], Bytes::new()).is_none());
    }
}
