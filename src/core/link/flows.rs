//! Messages of a link's queues, and the flows of one source: deficit round robin, interactive before bulk.
//!
//! An interactive flow has its turn before bulk until it has used up a quantum or has nothing more to send;
//! then it is bulk until its turn there has come, so that no flow gains by sending little at a time
//! (RFC 8290 §4.2). Queues hold references to bodies. Work per cell is constant, but for the choice of the
//! longest flow.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::limits::{HEAD_LEN_MAX, MESSAGE_CHARGE, QUANTUM};
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
    pub(super) fn encoded_len(&self) -> usize {
        1 + varint_len(self.len() as u64) + self.len()
    }

    /// What it counts against the bound of its queue.
    pub(super) fn charge(&self) -> usize {
        self.len() + MESSAGE_CHARGE
    }

    /// Appends it to a batch.
    pub(super) fn write(&self, batch: &mut BytesMut) {
        put_message(batch, self.kind, &self.head[..usize::from(self.head_len)], &self.body);
    }

    /// Whether it is a path's cell.
    pub(super) fn is_cell(&self) -> bool {
        self.kind == kind::CELL
    }

    /// Marks it, if it is a cell in transit. Whether it was.
    pub(super) fn mark(&mut self) -> bool {
        let can = self.transit && self.is_cell() && usize::from(self.head_len) > CELL_FLAGS_AT;
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

/// The flows of one source.
#[derive(Default)]
pub(super) struct Flows {
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
    bytes: usize,
}

/// A cell whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front {
    slot: usize,
    /// Bytes that it takes in a batch.
    pub(super) len: usize,
}

impl Flows {
    /// Queues a cell.
    pub(super) fn push(&mut self, now: Instant, flow: u64, interactive: bool, message: Message) {
        let slot = match self.by_id.get(&flow) {
            Some(slot) => *slot,
            None => self.add_flow(flow, interactive),
        };
        self.bytes += message.charge();
        self.lens[slot] += message.charge();
        self.flows[slot].cells.push_back((now, message));
    }

    /// Bytes that wait, with bookkeeping.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an interactive flow may wait.
    pub(super) fn has_interactive(&self) -> bool {
        !self.interactive.is_empty()
    }

    /// The cell whose turn it is, of interactive flows only or of all. It stays until it is taken.
    pub(super) fn front(&mut self, interactive_only: bool) -> Option<Front> {
        loop {
            let is_interactive = self.has_interactive();
            if interactive_only && !is_interactive {
                return None;
            }
            let ring = if is_interactive { &mut self.interactive } else { &mut self.bulk };
            let slot = *ring.front()?;
            let flow = &mut self.flows[slot];
            match flow.cells.front().map(|(_, message)| message.encoded_len()) {
                Some(len) if flow.deficit >= len => return Some(Front { slot, len }),
                Some(_) => {
                    flow.deficit += QUANTUM;
                    ring.pop_front();
                    self.bulk.push_back(slot);
                }
                None => {
                    ring.pop_front();
                    if is_interactive {
                        self.bulk.push_back(slot);
                    } else {
                        self.retire(slot);
                    }
                }
            }
        }
    }

    /// Takes that cell, with the time when it came.
    pub(super) fn take(&mut self, front: Front) -> Option<(Instant, Message)> {
        let flow = &mut self.flows[front.slot];
        let (queued, message) = flow.cells.pop_front()?;
        flow.deficit -= front.len;
        self.lens[front.slot] -= message.charge();
        self.bytes -= message.charge();
        Some((queued, message))
    }

    /// Drops the oldest cell of the longest flow (of several, the one in the lowest slot).
    pub(super) fn drop_from_longest(&mut self) {
        let longest = self.lens.iter().copied().max().unwrap_or(0);
        let loses = |len: &usize| *len == longest || *len > 0 && !defence::on(Defence::LongestFlowLoses);
        let slot = self.lens.iter().position(loses).expect("a flow, as cells are queued");
        let (_, message) = self.flows[slot].cells.pop_front().expect("the longest flow is not empty");
        self.lens[slot] -= message.charge();
        self.bytes -= message.charge();
    }

    /// Whether nothing is known of any flow any more: all slots are free.
    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        let rings = self.interactive.is_empty() && self.bulk.is_empty();
        rings && self.by_id.is_empty() && self.free.len() == self.flows.len()
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
}
