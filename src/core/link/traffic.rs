//! Messages over links that are up: what arrives, what is sent, batches, and signs of life.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{Bye, Error};
use super::frame::Padding;
use super::limits::{BATCH_LEN_MAX, BATCHES_OUTSTANDING, CELL_LEN_MAX, MESSAGE_LEN_MAX};
use super::links::{Conn, End, Link, Links, Timer};
use super::liveness::{Due, cost};
use super::scheduler::Message;
use super::{Class, ConnId, Dropped, Event, Transmit};
use crate::crypto::{PeerId, TAG_LEN};
use crate::time::Now;
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
        // What waits behind a transport that takes nothing is unanswered from now on, too.
        let stuck = link.credit == 0 && !link.scheduler.is_empty();
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
    pub fn handle_ready(&mut self, _now: Now, conn: ConnId) {
        let Some(link) = self.link_mut(conn) else { return };
        link.credit = (link.credit + 1).min(BATCHES_OUTSTANDING);
        self.activate(conn);
    }

    /// Deadlines that are due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.instant) {
            match timer {
                Timer::Handshake(conn) => self.end(conn, Error::TimedOut, End::Silently),
                Timer::Liveness(conn) => self.check_liveness(now, conn),
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
        let message = Message::new(kind, head, body).ok_or(Dropped::TooLong)?;
        let link = self.link_mut(conn).ok_or(Dropped::NoLink)?;
        match class {
            Class::Control if message.len() <= MESSAGE_LEN_MAX => {
                if link.scheduler.push_control(message).is_err() {
                    self.end(conn, Error::ControlOverflow, End::Silently);
                    return Err(Dropped::NoLink);
                }
            }
            Class::Cell { flow, interactive } if message.len() <= CELL_LEN_MAX => {
                link.scheduler.push_cell(now.instant, flow, interactive, message);
            }
            Class::Control | Class::Cell { .. } => return Err(Dropped::TooLong),
        }
        self.activate(conn);
        Ok(())
    }

    /// Whether the link to a peer queues so few cells that sessions may add their own.
    #[must_use]
    pub fn room(&self, peer: &PeerId) -> bool {
        match self.by_peer.get(peer).and_then(|conn| self.conns.get(conn)) {
            Some(Conn::Linked(link)) => link.scheduler.has_room(),
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
            let Some(link) = self.link_mut(conn) else { continue };
            link.in_ring = false;
            let Some((batch, deadline_moved)) = link.next_batch(now, padding) else { continue };
            if deadline_moved {
                self.arm(conn);
            }
            self.activate(conn);
            return Some(Transmit::Batch { conn, batch });
        }
        None
    }

    /// Puts a link that has something to send, and may, into the ring.
    pub(super) fn activate(&mut self, conn: ConnId) {
        let Some(Conn::Linked(link)) = self.conns.get_mut(&conn) else { return };
        let waits = !link.scheduler.is_empty() || link.liveness.has_message();
        if waits && link.credit > 0 && !link.in_ring && link.confirmed.is_some() {
            link.in_ring = true;
            self.ring.push_back(conn);
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
            kind::BYE => return Err(Error::Bye(Bye::from_code(reader.u8().map_err(Error::Garbage)?))),
            _ => return Err(Error::Garbage(wire::Error::Invalid("kind of a link message"))),
        }
        self.activate(conn);
        reader.finish().map_err(Error::Garbage)
    }
}

impl Link {
    /// The next batch, if there is anything to send and credit for it; and whether the liveness deadline moved.
    fn next_batch(&mut self, now: Now, padding: Padding) -> Option<(BytesMut, bool)> {
        if self.credit == 0 {
            return None;
        }
        let len_max = (1 + 2 * PING_LEN + self.scheduler.waiting()).min(BATCH_LEN_MAX);
        let mut batch = BytesMut::with_capacity(padding.frame_len(len_max));
        batch.put_u8(0);
        if let Some(token) = self.liveness.take_pong() {
            put_message(&mut batch, kind::PONG, &[], &token);
        }
        if let Some(token) = self.liveness.take_ping(now.instant) {
            put_message(&mut batch, kind::PING, &[], &token);
        }
        let cells = self.scheduler.fill(now.instant, &mut batch);
        if batch.len() == 1 {
            return None;
        }
        self.credit -= 1;
        self.tx_bytes += padding.frame_len(batch.len()) as u64;
        Some((batch, cells && self.liveness.cells_sent(now.instant)))
    }
}
