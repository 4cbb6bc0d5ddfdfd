//! What all links together may hold: beyond it, whoever holds most loses first. Cells go from the
//! longest flow of the fullest link; a link whose peer does not take its control messages goes itself.

use bytes::Bytes;

use super::error::Error;
use super::limits::{QUEUE_COPIED_PART, TRANSIT_KEPT_MIN};
use super::links::{Conn, End, Link, Links};
use super::scheduler::Scheduler;

/// What the queues of all links hold, bytes with bookkeeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Queued {
    /// Cells.
    pub(super) cells: usize,
    /// Control messages.
    pub(super) control: usize,
}

impl Queued {
    /// What one link's queues hold.
    pub(super) fn of(scheduler: &Scheduler) -> Self {
        Self { cells: scheduler.cell_bytes(), control: scheduler.control_bytes() }
    }

    /// Counts a link's queues anew: they held `before`, and now `after`.
    pub(super) fn change(&mut self, before: Self, after: Self) {
        self.cells = self.cells - before.cells + after.cells;
        self.control = self.control - before.control + after.control;
    }
}

impl Links {
    /// The body of a cell that is about to wait in a queue. It is a slice of the whole read of the transport, which it
    /// keeps; that of a short one is copied out, and any when many links hold much already.
    pub(super) fn own_body(&self, body: Bytes) -> Bytes {
        let much = self.queued.cells > self.queue_max / QUEUE_COPIED_PART;
        if body.len() < TRANSIT_KEPT_MIN || much { Bytes::copy_from_slice(&body) } else { body }
    }

    /// Makes the greediest lose until all links together hold what they may.
    pub(super) fn keep_queue_bound(&mut self) {
        while self.queued.cells > self.queue_max {
            let Some(link) = self.fullest(|scheduler| scheduler.cell_bytes()) else { return };
            let before = Queued::of(&link.scheduler);
            link.scheduler.drop_from_longest();
            let after = Queued::of(&link.scheduler);
            self.queued.change(before, after);
            self.counters.cells_over_memory += 1;
        }
        while self.queued.control > self.queue_max {
            let Some(peer) = self.fullest(|scheduler| scheduler.control_bytes()).map(|link| link.peer) else { return };
            let Some(conn) = self.by_peer.get(&peer).copied() else { return };
            self.end(conn, Error::ControlOverflow, End::Silently);
        }
    }

    /// The link that holds most.
    fn fullest(&mut self, held: impl Fn(&Scheduler) -> usize) -> Option<&mut Link> {
        let links = self.conns.values_mut().filter_map(|state| match state {
            Conn::Linked(link) => Some(&mut **link),
            Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. } => None,
        });
        links.max_by_key(|link| held(&link.scheduler)).filter(|link| held(&link.scheduler) > 0)
    }
}
