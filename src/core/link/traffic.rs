//! Messages over links that are up: what arrives, what is sent, batches, and signs of life.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{Bye, Error};
use super::flows::Message;
use super::frame::Padding;
use super::limits::{BATCH_LEN_MAX, CELL_LEN_MAX, DATAGRAM_LEN_MAX, MESSAGE_LEN_MAX};
use super::links::{Conn, End, Link, Links, Timer};
use super::liveness::{Due, cost};
use super::memory::Queued;
use super::scheduler::Share;
use super::speed::may_burst;
use super::upload::Pass;
use super::{Class, ConnId, Dropped, Event, Transmit};
use crate::crypto::{PeerId, TAG_LEN};
use crate::time::{Instant, Now};
use crate::wire::link::{put_message, take_message};
use crate::wire::{self, kind};

/// Message kinds below this are the link's own.
const LINK_KINDS_END: u8 = 0x10;
/// Bytes of a ping and of a pong in a batch: kind, length, token.
const PING_LEN: usize = 10;

impl Links {
    /// A batch that the connection's opener opened. A batch that is none ends the link: its peer is at fault.
    pub fn handle_plaintext(&mut self, now: Now, conn: ConnId, batch: impl Into<BytesMut>) {
        let mut batch = batch.into();
        let Some(link) = self.link_mut(conn) else { return };
        link.rx_bytes += (1 + batch.len() + TAG_LEN) as u64;
        // Behind a transport that takes nothing everybody waits, also those who ask for room before they send.
        let stuck = !link.speed.has_credit();
        link.liveness.heard(now.instant, stuck);
        let peer = link.peer;
        if stuck {
            self.arm(conn);
        }
        let Some(link) = self.link_mut(conn) else { return };
        if link.confirmed.is_none() {
            if batch.first() == Some(&kind::BYE) {
                return self.read_batch(now, conn, peer, &mut batch);
            }
            self.confirm(now, conn);
        }
        self.read_batch(now, conn, peer, &mut batch);
    }

    /// The transport may take one more batch.
    pub fn handle_ready(&mut self, now: Now, conn: ConnId) {
        let Some(link) = self.link_mut(conn) else { return };
        let waiting = !link.scheduler.is_empty();
        let rtt = link.liveness.rtt();
        if let Some(len) = link.speed.handle_written(now.instant, waiting, rtt) {
            let bursts = may_burst(len, link.liveness.rtt_min());
            self.transmits.push_back(Transmit::Unsent { conn, len, bursts });
        }
        self.activate(conn);
    }

    /// So many bytes of a neighbour's served nobody. Within its budget that is nothing; beyond, its connection rests.
    pub fn waste(&mut self, now: Now, peer: &PeerId, len: usize) {
        let Some(conn) = self.by_peer.get(peer).copied() else { return };
        let Some(link) = self.link_mut(conn) else { return };
        if let Some(until) = link.patience.spend(now.instant, len) {
            self.transmits.push_back(Transmit::Rest { conn, until });
        }
    }

    /// Deadlines that are due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.instant) {
            match timer {
                Timer::Handshake(conn) => self.end(conn, Error::TimedOut, End::Silently),
                Timer::Liveness(conn) => self.check_liveness(now, conn),
                Timer::Rekey(conn) => self.begin_rekey(now, conn),
                Timer::Tick(conn) => self.tick(now, conn),
                Timer::Upload => self.release_held(),
            }
        }
    }

    /// Queues a message to a neighbour; its body is `head` and `body` joined.
    ///
    /// # Errors
    /// See [`Dropped`]. A cell that is queued may still be dropped later, which is counted.
    pub fn send(
        &mut self,
        now: Now,
        peer: &PeerId,
        class: Class,
        kind: u8,
        head: &[u8],
        body: Bytes,
    ) -> Result<(), Dropped> {
        let conn = *self.by_peer.get(peer).ok_or(Dropped::NoLink)?;
        let body = if matches!(class, Class::Cell { from: Some(_), .. }) { self.own_body(body) } else { body };
        let message = Message::new(kind, head, body).ok_or(Dropped::TooLong)?;
        let longest = if kind == kind::CELL { CELL_LEN_MAX } else { DATAGRAM_LEN_MAX };
        let link = self.link_mut(conn).ok_or(Dropped::NoLink)?;
        let before = Queued::of(&link.scheduler);
        let pushed = match class {
            Class::Control if message.len() <= MESSAGE_LEN_MAX => link.scheduler.push_control(message),
            Class::Cell { flow, interactive, from } if message.len() <= longest => {
                let (source, message) = (source_key(from), message.in_transit(from.is_some()));
                link.scheduler.push_cell(now.instant, source, flow, interactive, message);
                Ok(())
            }
            Class::Control | Class::Cell { .. } => return Err(Dropped::TooLong),
        };
        let after = Queued::of(&link.scheduler);
        self.queued.change(before, after);
        if pushed.is_err() {
            self.end(conn, Error::ControlOverflow, End::Silently);
            return Err(Dropped::NoLink);
        }
        self.keep_queue_bound();
        self.activate(conn);
        Ok(())
    }

    /// Whether the link to a peer queues so few cells that sessions may add their own.
    #[must_use]
    pub fn room(&self, peer: &PeerId) -> bool {
        match self.by_peer.get(peer).and_then(|conn| self.conns.get(conn)) {
            Some(Conn::Linked(link)) => link.speed.has_room(link.scheduler.cell_bytes()),
            Some(Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. }) | None => false,
        }
    }

    /// The next thing for a transport. Poll until `None` after every handle and after sending.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit> {
        if let Some(transmit) = self.transmits.pop_front() {
            return Some(transmit);
        }
        let padding = self.terms.padding();
        while let Some(conn) = self.ring.pop_front() {
            let pass = self.upload.check(now.instant);
            let len_max = self.upload.batch_len();
            let Some(link) = self.link_mut(conn) else { continue };
            link.in_ring = false;
            if link.urgency() > pass {
                self.hold(conn, pass);
                continue;
            }
            let before = Queued::of(&link.scheduler);
            let next = link.next_batch(now, padding, pass, len_max);
            let after = Queued::of(&link.scheduler);
            self.queued.change(before, after);
            let Some(next) = next else { continue };
            self.upload.handle_sent(next.frame_len);
            if next.deadline_moved {
                self.arm(conn);
            }
            self.activate(conn);
            return Some(Transmit::Batch { conn, batch: next.batch });
        }
        None
    }

    /// Puts a link that has something to send, and may, into the ring.
    pub(super) fn activate(&mut self, conn: ConnId) {
        let Some(Conn::Linked(link)) = self.conns.get_mut(&conn) else { return };
        let waits = match &link.constant {
            Some(constant) => constant.is_due(),
            None => !link.scheduler.is_empty() || link.liveness.has_message(),
        };
        let held = link.held && link.urgency() == Pass::Cells;
        if waits && link.speed.has_credit() && !link.in_ring && link.confirmed.is_some() && !held {
            link.in_ring = true;
            self.ring.push_back(conn);
        }
    }

    /// Lets a link wait until the upload limit lets more go than `pass`.
    fn hold(&mut self, conn: ConnId, pass: Pass) {
        let Some(link) = self.link_mut(conn) else { return };
        if !std::mem::replace(&mut link.held, true) {
            self.held.push_back(conn);
        }
        if let Some(at) = self.upload.more_at(pass)
            && self.timers.at(&Timer::Upload).is_none_or(|armed| armed > at)
        {
            self.timers.set(Timer::Upload, at);
        }
    }

    /// Gives the links that waited for the upload limit their turn, in the order in which they came.
    fn release_held(&mut self) {
        for conn in std::mem::take(&mut self.held) {
            if let Some(link) = self.link_mut(conn) {
                link.held = false;
                self.activate(conn);
            }
        }
    }

    /// Sets a link's timer, unless it is armed for sooner.
    pub(super) fn arm(&mut self, conn: ConnId) {
        let Some(Conn::Linked(link)) = self.conns.get(&conn) else { return };
        let (timer, deadline) = (Timer::Liveness(conn), link.liveness.deadline());
        if self.timers.at(&timer).is_none_or(|armed| armed > deadline) {
            self.timers.set(timer, deadline);
        }
    }

    /// A link's timer is due: it may be early, a ping may be due, or the link is dead.
    fn check_liveness(&mut self, now: Now, conn: ConnId) {
        let Some(Conn::Linked(link)) = self.conns.get_mut(&conn) else { return };
        match link.liveness.handle_timeout(now.instant, &mut self.rng) {
            Due::Dead => return self.end(conn, Error::Silent, End::Silently),
            Due::Ping => self.activate(conn),
            Due::Nothing => {}
        }
        self.arm(conn);
    }

    /// Every message of a batch, until one ends the link.
    fn read_batch(&mut self, now: Now, conn: ConnId, peer: PeerId, batch: &mut BytesMut) {
        loop {
            let result = match take_message(batch) {
                Ok(None) => return,
                Ok(Some((kind @ (kind::PIECE | kind::PIECE_LAST), body))) => {
                    self.read_piece(now, conn, peer, kind, &body)
                }
                Ok(Some((kind, body))) if kind < LINK_KINDS_END => self.handle_own(now, conn, kind, &body),
                Ok(Some((kind, body))) => {
                    self.events.push_back(Event::Message { peer, kind, body });
                    Ok(())
                }
                Err(error) => Err(Error::Garbage(error)),
            };
            match result {
                Ok(()) => {}
                Err(why @ Error::Bye(_)) => return self.end(conn, why, End::Silently),
                Err(why) => return self.end(conn, why, End::Bye(Bye::Garbage)),
            }
        }
    }

    /// A piece of messages; after the last, all of them. Pieces are never inside pieces.
    fn read_piece(&mut self, now: Now, conn: ConnId, peer: PeerId, kind: u8, piece: &[u8]) -> Result<(), Error> {
        let link = self.link_mut(conn).ok_or(Error::Closed)?;
        let Some(mut whole) = link.take_piece(kind, piece)? else { return Ok(()) };
        while let Some((kind, body)) = take_message(&mut whole).map_err(Error::Garbage)? {
            match kind {
                kind::PIECE | kind::PIECE_LAST => {
                    return Err(Error::Garbage(wire::Error::Invalid("a piece inside pieces")));
                }
                kind if kind < LINK_KINDS_END => self.handle_own(now, conn, kind, &body)?,
                kind => self.events.push_back(Event::Message { peer, kind, body }),
            }
        }
        Ok(())
    }

    /// A message of the link's own.
    fn handle_own(&mut self, now: Now, conn: ConnId, kind: u8, body: &[u8]) -> Result<(), Error> {
        let mut reader = wire::Reader::new(body);
        let link = self.link_mut(conn).ok_or(Error::Closed)?;
        match kind {
            kind::PING => {
                let token = reader.array().map_err(Error::Garbage)?;
                link.liveness.handle_ping(token);
            }
            kind::PONG => {
                let token = reader.array().map_err(Error::Garbage)?;
                let change = link.liveness.handle_pong(now.instant, token);
                let peer = link.peer;
                self.events.extend(change.map(|rtt| Event::Cost { peer, rtt, cost: cost(rtt) }));
            }
            kind::REKEY | kind::REKEY_ANSWER | kind::REKEY_DONE => return self.handle_rekey(now, conn, kind, body),
            kind::BYE => return Err(Error::Bye(Bye::from_code(reader.u8().map_err(Error::Garbage)?))),
            _ => return Err(Error::Garbage(wire::Error::Invalid("kind of a link message"))),
        }
        self.activate(conn);
        reader.finish().map_err(Error::Garbage)
    }
}

/// What names a source of cells to a scheduler: a part of a hash that nobody chooses; 0 for us.
fn source_key(from: Option<PeerId>) -> u64 {
    from.and_then(|peer| peer.0.first_chunk().copied()).map_or(0, u64::from_le_bytes)
}

/// A batch to hand over.
pub(super) struct Next {
    /// The plaintext.
    pub(super) batch: BytesMut,
    /// Bytes that it will have as a frame.
    pub(super) frame_len: usize,
    /// Whether the liveness deadline moved.
    pub(super) deadline_moved: bool,
}

impl Link {
    /// What the upload limit must let through for the link to send what comes first.
    fn urgency(&self) -> Pass {
        if self.constant.is_some() {
            // Every frame is alike, and none may be missing for others' sake.
            Pass::Life
        } else if self.liveness.has_message() {
            Pass::Life
        } else if self.scheduler.has_control() {
            Pass::Control
        } else {
            Pass::Cells
        }
    }

    /// The next batch, if there is anything that may go and credit for it.
    fn next_batch(&mut self, now: Now, padding: Padding, pass: Pass, len_max: usize) -> Option<Next> {
        if !self.speed.has_credit() {
            return None;
        }
        if self.constant.is_some() {
            return self.next_constant(now, padding);
        }
        let len_max = len_max.min(self.speed.batch_len());
        let longest = if self.scheduler.has_control() { BATCH_LEN_MAX } else { len_max.max(CELL_LEN_MAX) };
        let capacity = 1 + 2 * PING_LEN + self.scheduler.waiting().min(longest);
        let mut batch = BytesMut::with_capacity(padding.frame_len(capacity.min(BATCH_LEN_MAX)));
        batch.put_u8(0);
        self.put_life(now.instant, &mut batch);
        let share = Share { pass, len_max, delay_target: self.speed.delay_target() };
        let cells = self.scheduler.fill(now.instant, share, &mut batch);
        if batch.len() == 1 {
            return None;
        }
        let frame_len = padding.frame_len(batch.len());
        self.speed.handle_sent(now.instant, frame_len);
        self.tx_bytes += frame_len as u64;
        if cells {
            self.used = now.instant;
        }
        Some(Next { batch, frame_len, deadline_moved: cells && self.liveness.cells_sent(now.instant) })
    }

    /// Adds the ping and the pong that are due.
    pub(super) fn put_life(&mut self, now: Instant, batch: &mut BytesMut) {
        if let Some(token) = self.liveness.take_pong() {
            put_message(batch, kind::PONG, &[], &token);
        }
        if let Some(token) = self.liveness.take_ping(now) {
            put_message(batch, kind::PING, &[], &token);
        }
    }
}
