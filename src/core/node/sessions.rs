//! Sessions' part of the node: circuits that they need, and what they report.

use super::carriers::Way;
use super::event::{Event, Persist};
use super::{Node, TowardPeers};
use crate::circuit::{Reason, Way as PathWay, Whereabouts, Wish};
use crate::dht::Store;
use crate::session::table::Event as TableEvent;
use crate::session::{Acting, CarrierId, CircuitFailure, Incoming, Owner};
use crate::time::Now;

impl<S: Store> Node<S> {
    /// Handles everything that sessions report.
    pub(super) fn drain_sessions(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Some(event) = self.sessions.poll_event() {
            busy = true;
            self.on_session_event(now, event);
        }
        busy
    }

    /// One report.
    fn on_session_event(&mut self, now: Now, event: TableEvent) {
        match event {
            TableEvent::NeedCircuit { carrier, node, setup, avoid, blob, proof_hash } => {
                self.build_circuit(now, carrier, Wish { id: setup, dest: node, blob, proof_hash, avoid });
            }
            TableEvent::CloseCircuit { carrier } => self.close_circuit(now, carrier),
            TableEvent::DescriptorChanged { owner } => self.descriptor_changed(now, owner),
            TableEvent::Persist { owner, keys } => {
                self.events.push_back(Event::Persist(Persist::SessionKeys(owner, keys)));
            }
            TableEvent::Forget { owner } => self.events.push_back(Event::Persist(Persist::ForgetSessionKeys(owner))),
            TableEvent::Opened { connect, channel } => self.on_connected(now, connect, channel),
            TableEvent::Refused { connect, why } => self.on_refused(now, connect, why),
            TableEvent::Failed { connect, why } => self.on_connect_failed(now, connect, why),
            TableEvent::Incoming { channel, listener, caller } => {
                self.events.push_back(Event::Incoming { channel, listener, caller });
            }
            TableEvent::Readable(channel) => self.events.push_back(Event::Readable(channel)),
            TableEvent::Writable(channel) => self.events.push_back(Event::Writable(channel)),
            TableEvent::Finished(channel) => self.events.push_back(Event::Finished(channel)),
            // What is still written is dropped by the session itself; the writer learns it by the reset.
            TableEvent::Stopped(channel) => self.events.push_back(Event::Reset { channel, lost: false }),
            TableEvent::Reset { channel, lost } => self.events.push_back(Event::Reset { channel, lost }),
            TableEvent::Closed(channel) => self.events.push_back(Event::Closed(channel)),
        }
    }

    /// Builds a circuit of one hop: a path, or the short way to a session of this node.
    fn build_circuit(&mut self, now: Now, carrier: CarrierId, wish: Wish) {
        let node = wish.dest;
        if node != self.me {
            // Once a set-up has failed, what the table says may be a lie: hops that have the node in no table may help.
            let known = self.routing.reaches(&node) && wish.avoid.setups.is_empty();
            let way = if known { PathWay::default() } else { self.routing.way_to(now, &node) };
            let near = self.routing.next_hops(&node).first().map(|(_, cost)| *cost);
            let distance = near.or_else(|| self.routing.distance_over(&way)).map_or(0, |cost| cost.0);
            let hops = TowardPeers(&self.routing, &self.links);
            let path = self.paths.open(now, wish, Whereabouts { way, distance }, &hops);
            self.carriers.join(carrier, path);
            self.bound_for.insert(carrier, node);
            return;
        }
        let other = self.sessions.next_carrier();
        match self.sessions.handle_incoming(now, other, &wish.blob) {
            Incoming::Accept { blob, .. } => {
                self.carriers.join_loop(carrier, other);
                self.hops.insert(carrier, 0);
                self.sessions.handle_circuit_opened(now, carrier, &blob, false);
            }
            Incoming::Ignore => self.sessions.handle_circuit_failed(now, carrier, CircuitFailure::Rejected),
        }
    }

    /// Tears a circuit down that sessions do not need any more.
    fn close_circuit(&mut self, now: Now, carrier: CarrierId) {
        self.hops.remove(&carrier);
        self.bound_for.remove(&carrier);
        match self.carriers.remove(carrier) {
            Some(Way::Path(path)) => self.paths.close(now, path, Reason::Closed),
            Some(Way::Loop(other)) => self.sessions.handle_circuit_closed(now, other),
            None => {}
        }
    }

    /// Publishes a changed descriptor: an identity's in its zone, the node's in its Hello.
    fn descriptor_changed(&mut self, now: Now, owner: Owner) {
        let Some(descriptor) = self.sessions.descriptor(owner) else { return };
        let (encoded, ends) = (bytes::Bytes::from(descriptor.encode()), crate::time::UnixTime(descriptor.expiry));
        match owner {
            Owner::Service(service) => self.publisher.set_node_record(service, encoded, ends),
            Owner::Peer(_) => self.hello.set_descriptor(now, encoded),
        }
    }

    /// Length of the path under a connection's session, links; 0 within this node.
    pub(super) fn path_hops(&self, acting: Acting, owner: Owner) -> u16 {
        let carriers = self.sessions.carriers_to(acting, owner);
        carriers.filter_map(|carrier| self.hops.get(&carrier)).copied().min().unwrap_or(0)
    }
}
