//! What the node wants done.

use tarnet_core::link::{Error as LinkError, Transmit};
use tarnet_core::node::{Event, Output, Persist};
use tarnet_core::time::Instant;

use super::{Conn, Engine};
use crate::channel::ChannelError;
use crate::records;
use crate::store::{Op, When};

impl Engine {
    /// Does everything that the node wants done; says when it wants to be asked again.
    pub(super) fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.node.poll_output(self.clock.now()) {
                Output::Timeout(deadline) => return deadline,
                Output::Transmit(transmit) => self.transmit(transmit),
                Output::Event(event) => self.on_event(event),
            }
        }
    }

    /// Hands something to a connection. One that is gone reports so by itself.
    fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Batch { conn, batch } => {
                if let Some(found) = self.conns.get(&conn) {
                    let _ = found.handle.batch(batch);
                }
            }
            Transmit::Handshake { conn, frame } => {
                if let Some(found) = self.conns.get(&conn) {
                    let _ = found.handle.handshake(frame);
                }
            }
            Transmit::Established { conn, peer: _, sealer, opener } => {
                if let Some(found) = self.conns.get_mut(&conn) {
                    found.waiting = false;
                    let _ = found.handle.established(sealer, opener);
                }
            }
            Transmit::Mix { conn, open, seal } => {
                if let Some(found) = self.conns.get(&conn) {
                    let _ = found.handle.mix(open, seal);
                }
            }
            Transmit::Unsent { conn, len, bursts } => {
                if let Some(found) = self.conns.get(&conn) {
                    let _ = found.handle.hold_unsent(len, bursts);
                }
            }
            Transmit::Rest { conn, until } => {
                if let Some(found) = self.conns.get(&conn) {
                    found.handle.rest(self.clock.at(until));
                }
            }
            Transmit::Close { conn, reason } => {
                tracing::debug!(?conn, %reason, "closing connection");
                if let Some(Conn { handle, .. }) = self.conns.remove(&conn) {
                    handle.close();
                }
            }
        }
    }

    /// One event of the node.
    fn on_event(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Readable(channel) => self.channels.on_readable(now, &mut self.node, channel),
            Event::Writable(channel) => self.channels.on_writable(now, &mut self.node, channel),
            Event::Finished(channel) => self.channels.on_finished(channel),
            Event::Closed(channel) => self.channels.on_end(channel, None),
            Event::Reset { channel, lost } => {
                let error = if lost { ChannelError::Lost } else { ChannelError::Reset };
                self.channels.on_end(channel, Some(error));
            }
            Event::Incoming { channel, listener, caller } => self.on_incoming(channel, listener, caller),
            Event::LinkUp { peer, conn, outbound, group } => {
                let address = self.conns.get(&conn).map(|found| found.address.clone()).unwrap_or_default();
                tracing::info!(%peer, %address, direction = if outbound { "outbound" } else { "inbound" }, ?group, "link up");
                self.linked.insert(peer, conn);
                self.dialler.peer_up(peer);
            }
            Event::LinkDown { peer, conn, reason } => {
                tracing::info!(%peer, %reason, "link down");
                if self.linked.get(&peer) == Some(&conn) {
                    self.linked.remove(&peer);
                    self.dialler.peer_down(&peer);
                }
            }
            Event::PeerSeen { peer, conn, group, pin: _ } => self.on_peer_seen(peer, conn, group),
            Event::ConnFailed { conn, why } => self.on_conn_failed(conn, &why),
            Event::Dialable { peer, addresses } => self.dialler.offer(peer, &addresses),
            Event::Persist(persist) => self.persist(persist),
            Event::Resolved { .. }
            | Event::Connected { .. }
            | Event::Failed { .. }
            | Event::Pong { .. }
            | Event::Stored { .. }
            | Event::Content { .. }
            | Event::Signed { .. }
            | Event::Hello { .. } => self.on_answer(event),
        }
    }

    /// A handshake failed: the dialler's business, and where it concerns trust, the operator's.
    fn on_conn_failed(&mut self, conn: tarnet_core::link::ConnId, why: &LinkError) {
        if let LinkError::AlreadyLinked(peer) = why {
            // The address leads to a neighbour: the target rests while that link is up.
            return self.dialler.established(conn, *peer);
        }
        if let LinkError::Downgrade(peer) = why {
            tracing::warn!("{why}: refused; if the node there was changed on purpose: tarnet peers forget {peer}");
        }
        if let LinkError::PinMismatch { expected, found } = why {
            // The connection itself is out of the table by now; its target is not.
            let address = self.dialler.uri_of(conn).map_or_else(|| "a peer".into(), |uri| uri.to_string());
            tracing::warn!(
                "{address} answered as {found}, expected {expected}; if the node there was replaced: tarnet peers forget {expected}"
            );
        }
        self.dialler.failed(conn, &why.to_string());
    }

    /// Has something written down.
    fn persist(&mut self, persist: Persist) {
        // What others hear of next must not be forgotten by a crash: it is committed without delay.
        let (op, when) = match persist {
            Persist::Epoch(epoch) => (records::epoch(epoch), When::Now),
            Persist::Acquaintances(known) => (records::acquaintances(&known), When::Soon),
            Persist::SessionKeys(owner, keys) => (records::session_keys(owner, &keys), When::Now),
            Persist::ForgetSessionKeys(owner) => (records::forget_session_keys(owner), When::Soon),
            Persist::Store(op) => (records::store_op(op), When::Soon),
        };
        self.write(vec![op], when);
    }

    /// Queues a write that nobody waits for.
    pub(super) fn write(&self, ops: Vec<Op>, when: When) {
        if self.disk.write(ops, when).is_err() {
            tracing::warn!("the disk does not keep up: a write was dropped");
        }
    }
}
