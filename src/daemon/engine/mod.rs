//! The task that owns the node: it feeds inputs from transports and front ends, and
//! carries outputs back. Everything else in the daemon talks to it by bounded queues.
//!
//! A turn: wait for anything; take up to [`EVENTS_LEN_MAX`] of what is there; poll the
//! node's outputs until it asks for time. It never blocks: keys and records are written by
//! the disk's own thread, and answers that promise durability wait for it in tasks.

mod admin;
mod channels;
mod identities;
mod listeners;
mod outputs;
mod requests;

pub use identities::DEFAULT as DEFAULT_IDENTITY;

use std::collections::HashMap;
use std::sync::Arc;

use tarnet_core::crypto::PeerId;
use tarnet_core::dht::MemoryStore;
use tarnet_core::link::ConnId;
use tarnet_core::node::{Input, Node};
use tarnet_core::session::ChannelRef;
use tarnet_core::time::Instant;
use tokio::sync::{mpsc, watch};

use crate::channel::{ChannelKey, Kicks, Pool};
use crate::handle::{Decision, Request};
use crate::store::{Disk, KeyFolder};
use crate::transport::{Clock, ConnEvent, ConnHandle, Dialler};

use channels::Channels;
use identities::Identities;
use listeners::Listeners;
use requests::Requests;

/// Events taken in one turn: enough to batch, few enough to stay fair to timers.
const EVENTS_LEN_MAX: usize = 64;

/// Wake-ups of channels that may wait. Each channel waits for at most two.
pub const KICKS_LEN_MAX: usize = 4096;

/// Decisions of listeners that may wait.
const DECISIONS_LEN_MAX: usize = 1024;

/// A connection of the transports.
struct Conn {
    handle: ConnHandle,
    /// The far end, for people.
    address: String,
    /// Whether we dialled it.
    dialled: bool,
    /// Its reader waits for the node after a frame of the handshake.
    waiting: bool,
}

/// What the engine is made from.
pub struct Parts {
    /// The node.
    pub node: Node<MemoryStore>,
    /// The clock.
    pub clock: Clock,
    /// Dials, and is told what became of it.
    pub dialler: Dialler,
    /// Keys on disk.
    pub keys: KeyFolder,
    /// Everything else on disk.
    pub disk: Disk,
    /// Requests of the front ends.
    pub requests: mpsc::Receiver<Request>,
    /// Events of the connections.
    pub conns: mpsc::Receiver<ConnEvent>,
    /// Known peers, as loaded.
    pub peers: crate::peers::Peers,
    /// The memory of all channels' queues.
    pub pool: Pool,
}

/// The engine.
pub struct Engine {
    node: Node<MemoryStore>,
    clock: Clock,
    dialler: Dialler,
    disk: Disk,
    conns: HashMap<ConnId, Conn>,
    linked: HashMap<PeerId, ConnId>,
    peers: crate::peers::Peers,
    identities: Identities,
    channels: Channels,
    listeners: Listeners,
    requests: Requests,
    started: Instant,
}

/// Everything that wakes the engine.
struct Inboxes {
    requests: mpsc::Receiver<Request>,
    conns: mpsc::Receiver<ConnEvent>,
    kicks: mpsc::Receiver<ChannelKey>,
    decisions: mpsc::Receiver<(ChannelRef, Decision)>,
}

impl Engine {
    /// Runs until `stop` changes. Identities and zones were given to the node before.
    pub async fn run(
        parts: Parts,
        identities: Vec<(String, Arc<tarnet_core::crypto::SigningKey>)>,
        mut stop: watch::Receiver<bool>,
    ) {
        let (kick, kicks) = Kicks::within(KICKS_LEN_MAX, parts.pool);
        let (decide, decisions) = mpsc::channel(DECISIONS_LEN_MAX);
        let mut inboxes = Inboxes { requests: parts.requests, conns: parts.conns, kicks, decisions };
        let mut engine = Self {
            started: parts.clock.now().instant,
            node: parts.node,
            clock: parts.clock,
            dialler: parts.dialler,
            disk: parts.disk,
            conns: HashMap::new(),
            linked: HashMap::new(),
            peers: parts.peers,
            identities: Identities::new(parts.keys, identities),
            channels: Channels::new(kick),
            listeners: Listeners::new(decide),
            requests: Requests::default(),
        };
        engine.turn(&mut inboxes, &mut stop).await;
    }

    /// The loop.
    async fn turn(&mut self, inboxes: &mut Inboxes, stop: &mut watch::Receiver<bool>) {
        let mut conn_events = Vec::with_capacity(EVENTS_LEN_MAX);
        let mut kicks = Vec::with_capacity(EVENTS_LEN_MAX);
        let sleep = tokio::time::sleep_until(self.clock.at(self.started));
        tokio::pin!(sleep);
        loop {
            let deadline = self.drain();
            if let Some(at) = deadline.map(|deadline| self.clock.at(deadline))
                && sleep.deadline() != at
            {
                sleep.as_mut().reset(at);
            }
            tokio::select! {
                _ = stop.changed() => return,
                n = inboxes.conns.recv_many(&mut conn_events, EVENTS_LEN_MAX) => {
                    if n == 0 {
                        return;
                    }
                    for event in conn_events.drain(..) {
                        self.on_conn_event(event);
                    }
                }
                n = inboxes.kicks.recv_many(&mut kicks, EVENTS_LEN_MAX) => {
                    debug_assert_ne!(n, 0, "the engine holds a sender");
                    let now = self.clock.now();
                    for key in kicks.drain(..) {
                        self.channels.on_kick(now, &mut self.node, key);
                    }
                    self.channels.sweep(now, &mut self.node);
                }
                Some((channel, decision)) = inboxes.decisions.recv() => self.on_decision(channel, decision),
                Some(request) = inboxes.requests.recv() => self.on_request(request),
                () = &mut sleep, if deadline.is_some() => self.node.handle_input(self.clock.now(), Input::Timeout),
            }
        }
    }

    /// One event of a connection.
    fn on_conn_event(&mut self, event: ConnEvent) {
        let now = self.clock.now();
        match event {
            ConnEvent::Plaintext(conn, plaintext) => self.node.handle_input(now, Input::Plaintext { conn, plaintext }),
            ConnEvent::Ready(conn) => self.node.handle_input(now, Input::Ready { conn }),
            ConnEvent::Accepted { conn, source, handle } => {
                self.conns.insert(conn, Conn { handle, address: source.to_string(), dialled: false, waiting: false });
                self.node.handle_input(now, Input::Accepted { conn, source: source.ip() });
            }
            ConnEvent::Dialled { conn, address, expect, handle } => {
                self.conns.insert(conn, Conn { handle, address: address.to_string(), dialled: true, waiting: false });
                self.node.handle_input(now, Input::Dialed { conn, pin: expect });
            }
            ConnEvent::HandshakeFrame(conn, frame) => {
                if let Some(found) = self.conns.get_mut(&conn) {
                    found.waiting = true;
                }
                self.node.handle_input(now, Input::Frame { conn, frame });
                // The answer decides how the next frame is read, so it must be out before the reader goes on.
                self.drain();
                if let Some(found) = self.conns.get_mut(&conn)
                    && std::mem::take(&mut found.waiting)
                {
                    let _ = found.handle.proceed();
                }
            }
            ConnEvent::Closed(conn, reason) => {
                tracing::debug!(?conn, %reason, "connection closed");
                self.conns.remove(&conn);
                self.node.handle_input(now, Input::Closed { conn });
            }
        }
    }
}
