//! Links' part of the node: what they report, and every message by its kind.

use bytes::{Bytes, BytesMut};

use super::carriers::Way;
use super::event::Event;
use super::{Node, TowardPeers};
use crate::circuit::{self, CellAction};
use crate::crypto::PeerId;
use crate::dht::Store;
use crate::link::{self, Class};
use crate::routing::{LinkCost, To};
use crate::time::Now;
use crate::wire::kind;

/// The flow of datagrams on a link. Paths count theirs from 0.
const DATAGRAMS_FLOW: u64 = u64::MAX;

impl<S: Store> Node<S> {
    /// Handles everything that links report.
    pub(super) fn drain_links(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Some(event) = self.links.poll_event() {
            busy = true;
            self.on_link_event(now, event);
        }
        busy
    }

    /// One report.
    fn on_link_event(&mut self, now: Now, event: link::Event) {
        match event {
            link::Event::Message { peer, kind, body } => self.on_message(now, peer, kind, body),
            link::Event::Up { peer, conn, outbound, group, rtt, cost: _ } => {
                self.routing.handle_link_up(now, peer, LinkCost::from_rtt(rtt));
                self.contact_up(now, peer);
                self.sessions.handle_neighbour_up(now, &peer);
                self.events.push_back(Event::LinkUp { peer, conn, outbound, group });
            }
            link::Event::Cost { peer, rtt, cost: _ } => {
                self.routing.handle_link_cost(now, peer, LinkCost::from_rtt(rtt))
            }
            link::Event::Down { peer, conn, reason } => {
                self.routing.handle_link_down(now, peer);
                self.paths.handle_link_down(now, peer);
                self.direct.link_down(now.instant);
                if self.routing.next_hops(&peer).is_empty() {
                    self.contact_down(now, peer);
                }
                self.events.push_back(Event::LinkDown { peer, conn, reason });
            }
            link::Event::PeerSeen { peer, conn, group, pin } => {
                self.events.push_back(Event::PeerSeen { peer, conn, group, pin });
            }
            link::Event::Failed { conn, why } => self.events.push_back(Event::ConnFailed { conn, why }),
        }
    }

    /// A message by its kind. A neighbour's nonsense is counted and dropped: its link is authentic, and
    /// closing it would cut off whoever is behind it.
    fn on_message(&mut self, now: Now, peer: PeerId, kind: u8, body: BytesMut) {
        if kind == kind::CELL {
            return self.on_cell(now, peer, body);
        }
        let futile = (self.routing.counters().futile(), self.paths.counters().setups_over_limit);
        let len = body.len();
        match kind {
            0x10..=0x1f | 0x30..=0x3f => {
                if let Err(error) = self.routing.handle_message(now, peer, kind, &body) {
                    self.counters.bad_messages += 1;
                    tracing::debug!(?peer, %error, "bad routing message");
                }
                if kind::is_datagram(kind) {
                    self.drain_routing_out(now, Some(peer));
                }
            }
            0x20..=0x2f => {
                let hops = TowardPeers(&self.routing, &self.links);
                if let Err(error) = self.paths.handle_message(now, peer, kind, &body, &hops) {
                    self.counters.bad_messages += 1;
                    tracing::debug!(?peer, %error, "bad path message");
                }
                // The first cell of a path may follow its opening in the same batch: the session must be there by then.
                self.drain_paths(now);
            }
            _ => self.counters.bad_messages += 1,
        }
        // What exceeds a neighbour's own share is its doing, whomever it serves: it should have refused that itself.
        if futile != (self.routing.counters().futile(), self.paths.counters().setups_over_limit) {
            self.links.waste(now, &peer, len + link::limits::MESSAGE_CHARGE);
        }
    }

    /// A cell: on its way, or for a session here.
    fn on_cell(&mut self, now: Now, peer: PeerId, body: BytesMut) {
        let len = body.len();
        match self.paths.handle_cell(now, peer, body) {
            CellAction::Forward { to, flow, head, body } => {
                self.counters.relayed_bytes += body.len() as u64;
                let interactive = body.len() < super::limits::INTERACTIVE_LEN;
                let class = Class::Cell { flow, interactive, from: Some(peer) };
                // A link that is gone closes its paths at once: nothing to do for this cell.
                let _ = self.links.send(now, &to, class, kind::CELL, &head, body.freeze());
            }
            CellAction::Deliver { path, body, marked } => {
                if let Some(carrier) = self.carriers.carrier(path) {
                    let packet =
                        if body.len() < super::limits::KEPT_LEN_MIN { BytesMut::from(&body[..]) } else { body };
                    self.sessions.handle_packet(now, carrier, packet, marked);
                }
            }
            // The neighbour's own doing. What it passes on for others, and what it answers to them, is not held
            // against it: else a flood would cut off whoever carries it.
            CellAction::Drop => self.links.waste(now, &peer, len + link::limits::MESSAGE_CHARGE),
        }
    }

    /// Hands routing's messages to the links. A datagram may be lost on its way, and it is somebody else's, so it has
    /// its turn as cells do, apart for each neighbour `from` which it came; all else is control.
    fn drain_routing_out(&mut self, now: Now, from: Option<PeerId>) -> bool {
        let mut busy = false;
        while let Some((to, kind, body)) = self.routing.poll_transmit() {
            busy = true;
            match to {
                To::One(peer) if kind::is_datagram(kind) => {
                    let class = Class::Cell { flow: DATAGRAMS_FLOW, interactive: true, from };
                    let _ = self.links.send(now, &peer, class, kind, &[], body);
                }
                To::One(peer) => self.send_control(now, peer, kind, body),
                To::All => {
                    let peers: Vec<PeerId> = self.links.links().map(|link| link.peer).collect();
                    for peer in peers {
                        self.send_control(now, peer, kind, body.clone());
                    }
                }
            }
        }
        busy
    }

    /// Hands routing's and paths' messages to the links.
    pub(super) fn drain_control(&mut self, now: Now) -> bool {
        let mut busy = self.drain_routing_out(now, None);
        while let Some((peer, kind, body)) = self.paths.poll_transmit() {
            busy = true;
            self.send_control(now, peer, kind, body);
        }
        busy
    }

    /// Sends a control message. A link that went down meanwhile has told, or will tell, everybody concerned.
    fn send_control(&mut self, now: Now, peer: PeerId, kind: u8, body: Bytes) {
        let _ = self.links.send(now, &peer, Class::Control, kind, &[], body);
    }

    /// Takes packets from sessions while their ways have room.
    pub(super) fn pump_sessions(&mut self, now: Now) -> bool {
        let mut busy = false;
        loop {
            let (links, paths, carriers) = (&self.links, &self.paths, &self.carriers);
            let mut ready = |carrier| match carriers.way(carrier) {
                Some(Way::Path(path)) => paths.cell_head(path).is_some_and(|(peer, ..)| links.room(&peer)),
                Some(Way::Loop(_)) => carriers.loop_room(),
                None => false,
            };
            let Some((carrier, packet)) = self.sessions.poll_transmit(now, &mut ready) else { break };
            busy = true;
            match self.carriers.way(carrier) {
                Some(Way::Path(path)) => {
                    if let Some((peer, flow, head)) = self.paths.cell_head(path) {
                        let interactive = packet.len() < super::limits::INTERACTIVE_LEN;
                        let class = Class::Cell { flow, interactive, from: None };
                        let _ = self.links.send(now, &peer, class, kind::CELL, &head, packet.freeze());
                    }
                }
                Some(Way::Loop(other)) => self.carriers.push_loop(other, packet),
                None => {}
            }
        }
        while let Some((carrier, packet)) = self.carriers.pop_loop() {
            busy = true;
            self.sessions.handle_packet(now, carrier, packet, false);
        }
        busy
    }

    /// Handles everything that paths report.
    pub(super) fn drain_paths(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Some(event) = self.paths.poll_event() {
            busy = true;
            self.on_path_event(now, event);
        }
        busy
    }

    /// One report of a path.
    fn on_path_event(&mut self, now: Now, event: circuit::Event) {
        use crate::session::{CircuitFailure, Incoming};
        match event {
            circuit::Event::Incoming { path, from: _, blob } => {
                let carrier = self.sessions.next_carrier();
                match self.sessions.handle_incoming(now, carrier, &blob) {
                    Incoming::Accept { blob, reveal } => {
                        self.carriers.join(carrier, path);
                        self.paths.accept(now, path, blob, reveal);
                    }
                    Incoming::Ignore => self.paths.reject(now, path, circuit::Reason::Refused),
                }
            }
            circuit::Event::Opened { path, blob, hops, parted, rtt } => {
                if let Some(carrier) = self.carriers.carrier(path) {
                    self.hops.insert(carrier, hops);
                    tracing::debug!(?path, hops, ?rtt, "path opened");
                    self.sessions.handle_circuit_opened(now, carrier, &blob, parted);
                    // Who does not say who it is does not show it by a link either.
                    let relayed = hops > 1 && self.sessions.is_named(carrier);
                    if let Some(node) = self.bound_for.get(&carrier).copied().filter(|_| relayed) {
                        self.seek_direct(now, node);
                    }
                }
            }
            circuit::Event::Evidence { peer, ok } => self.routing.handle_delivery(now, peer, ok),
            circuit::Event::Failed { path, reason } => {
                tracing::debug!(?path, ?reason, "path failed");
                let why = match reason {
                    circuit::Reason::Refused => CircuitFailure::Rejected,
                    circuit::Reason::TimedOut => CircuitFailure::Timeout,
                    _ => CircuitFailure::NoRoute,
                };
                if let Some(carrier) = self.carriers.remove_path(path) {
                    self.way_failed(now, carrier);
                    self.sessions.handle_circuit_failed(now, carrier, why);
                }
            }
            circuit::Event::Closed { path, reason } => {
                tracing::debug!(?path, ?reason, "path closed");
                if let Some(carrier) = self.carriers.remove_path(path) {
                    self.hops.remove(&carrier);
                    self.bound_for.remove(&carrier);
                    self.sessions.handle_circuit_closed(now, carrier);
                }
            }
        }
    }
}
