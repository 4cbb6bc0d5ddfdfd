//! Links at a constant rate: frames of one length, one per tick, whether there is anything to say or
//! not. Who watches the wire learns nothing of what it carries, nor when. What does not fit into a frame
//! goes in pieces. A tick for which the transport has no room is lost: never is more sent later.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::ConnId;
use super::error::Error;
use super::frame::Padding;
use super::limits::{BATCH_LEN_MAX, TICKS_DUE_MAX};
use super::links::{Conn, Link, Links, Timer};
use super::scheduler::Share;
use super::traffic::Next;
use super::upload::Pass;
use crate::crypto::TAG_LEN;
use crate::time::{Instant, Now};
use crate::wire::link::put_message;
use crate::wire::{self, kind};

/// Bytes around a piece: kind and length.
const PIECE_HEAD_LEN: usize = 4;

/// The sending side of a link at a constant rate.
pub(super) struct Constant {
    /// Frames that are due.
    due: u8,
    /// When the next tick is.
    at: Instant,
    /// Messages that did not fit into a frame: what is left of them.
    rest: BytesMut,
}

impl Constant {
    /// For a link of that padding that comes up at `now`, if its rate is constant.
    pub(super) fn new(now: Instant, padding: Padding) -> Option<Self> {
        padding.interval().map(|interval| Self { due: 0, at: now + interval, rest: BytesMut::new() })
    }

    /// Whether a frame is due.
    pub(super) fn is_due(&self) -> bool {
        self.due > 0
    }
}

impl Links {
    /// Starts the ticks of a link that came up.
    pub(super) fn start_ticks(&mut self, conn: ConnId) {
        let Some(Conn::Linked(link)) = self.conns.get(&conn) else { return };
        if let Some(constant) = &link.constant {
            self.timers.set(Timer::Tick(conn), constant.at);
        }
    }

    /// One more frame is due.
    pub(super) fn tick(&mut self, now: Now, conn: ConnId) {
        let Some(interval) = self.terms.padding().interval() else { return };
        let Some(Conn::Linked(link)) = self.conns.get_mut(&conn) else { return };
        let Some(constant) = &mut link.constant else { return };
        constant.due = (constant.due + 1).min(TICKS_DUE_MAX);
        let late = now.instant - constant.at;
        // After a pause of the whole process, what was missed is not made up for.
        constant.at = if late > interval * u32::from(TICKS_DUE_MAX) { now.instant } else { constant.at } + interval;
        self.timers.set(Timer::Tick(conn), constant.at);
        self.activate(conn);
    }
}

impl Link {
    /// The frame that is due: signs of life, then messages or the next piece of them, or nothing.
    pub(super) fn next_constant(&mut self, now: Now, padding: Padding) -> Option<Next> {
        if !self.constant.as_ref().is_some_and(Constant::is_due) {
            return None;
        }
        let delay_target = self.speed.delay_target();
        let frame_len = padding.frame_len(0);
        let mut batch = BytesMut::with_capacity(frame_len);
        batch.put_u8(0);
        self.put_life(now.instant, &mut batch);
        let constant = self.constant.as_mut()?;
        constant.due -= 1;
        let room = frame_len - TAG_LEN - batch.len();
        let mut cells = false;
        if constant.rest.is_empty() {
            let share = Share { pass: Pass::Cells, len_max: room, delay_target };
            cells = self.scheduler.fill(now.instant, share, &mut constant.rest);
            if constant.rest.len() <= room {
                batch.extend_from_slice(&constant.rest);
                constant.rest.clear();
            }
        }
        if !constant.rest.is_empty() {
            let len = constant.rest.len().min(room - PIECE_HEAD_LEN);
            let piece = constant.rest.split_to(len);
            let kind = if constant.rest.is_empty() { kind::PIECE_LAST } else { kind::PIECE };
            put_message(&mut batch, kind, &[], &piece);
        }
        self.speed.handle_sent(now.instant, frame_len);
        self.tx_bytes += frame_len as u64;
        if cells {
            self.used = now.instant;
        }
        Some(Next { batch, frame_len, deadline_moved: cells && self.liveness.cells_sent(now.instant) })
    }

    /// Takes a piece; gives the messages after the last one.
    pub(super) fn take_piece(&mut self, kind: u8, piece: &[u8]) -> Result<Option<BytesMut>, Error> {
        if self.pieces.len() + piece.len() > BATCH_LEN_MAX {
            return Err(Error::Garbage(wire::Error::Invalid("more pieces than a batch")));
        }
        self.pieces.extend_from_slice(piece);
        Ok((kind == kind::PIECE_LAST).then(|| std::mem::take(&mut self.pieces)))
    }
}

impl Padding {
    /// Time between two frames at a constant rate.
    #[must_use]
    pub fn interval(self) -> Option<Duration> {
        let Self::Constant { bytes_per_s } = self else { return None };
        let us = self.frame_len(0) as u64 * 1_000_000 / bytes_per_s.max(1);
        Some(Duration::from_micros(us.max(1)))
    }
}
