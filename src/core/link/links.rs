//! The machine that owns connections and links: its state, what is not a handshake and not
//! traffic, and the polls. [`super::establish`] has the handshakes, [`super::traffic`] the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::constant::Constant;
use super::cookie::Cookies;
use super::error::{Bye, Error};
use super::frame::Padding;
use super::gate::Gate;
use super::handshake::{Initiator, Responder, Terms};
use super::limits::FLOOR_LEARNED_MAX;
use super::liveness::{Liveness, cost};
use super::memory::Queued;
use super::patience::Patience;
use super::rekey::Rekey;
use super::scheduler::Scheduler;
use super::speed::Speed;
use super::upload::Upload;
use super::{Config, ConnId, Counters, Event, LinkStatus, Pin, Transmit};
use crate::crypto::{Aead, Group, PeerId};
use crate::defence::{self, Defence};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timers};
use crate::wire::kind;
use crate::wire::link::put_message;

/// A deadline of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The handshake of a connection takes too long.
    Handshake(ConnId),
    /// A link may have to ping, or be dead. May fire early.
    Liveness(ConnId),
    /// Fresh key agreement is due on a link that we dialed.
    Rekey(ConnId),
    /// A frame is due on a link at a constant rate.
    Tick(ConnId),
    /// The upload limit lets more go.
    Upload,
}

/// The state of a connection.
pub(super) enum Conn {
    /// We dialed and await message 2.
    Dialing { initiator: Initiator, pin: Pin, since: Instant },
    /// Accepted, awaiting message 1: nothing is proven.
    Accepted { source: IpAddr, since: Instant },
    /// We answered and await message 3. `step` orders our answer among other events.
    Answered { source: IpAddr, responder: Responder, since: Instant, step: u64 },
    /// The handshake is over.
    Linked(Box<Link>),
}

/// A link, or an initiator's connection that will be one when the responder is heard.
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) pin: Pin,
    pub(super) source: Option<IpAddr>,
    pub(super) outbound: bool,
    pub(super) group: Group,
    pub(super) aead: Aead,
    pub(super) since: Instant,
    /// The step at which it became a link.
    pub(super) confirmed: Option<u64>,
    pub(super) scheduler: Scheduler,
    pub(super) liveness: Liveness,
    pub(super) rekey: Rekey,
    /// How fast the transport takes batches, and whether it may have another.
    pub(super) speed: Speed,
    /// What it may send that serves nobody.
    pub(super) patience: Patience,
    /// Whether it waits in the ring of links with a batch to give.
    pub(super) in_ring: bool,
    /// Whether it waits for the upload limit.
    pub(super) held: bool,
    /// Its ticks, if it sends at a constant rate.
    pub(super) constant: Option<Constant>,
    /// Pieces of messages that came, until the last.
    pub(super) pieces: BytesMut,
    /// When cells were last sent, or it came up.
    pub(super) used: Instant,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
}

impl Link {
    /// What the operator sees of it.
    fn status(&self, conn: ConnId) -> LinkStatus {
        let tally = self.scheduler.tally();
        LinkStatus {
            peer: self.peer,
            conn,
            outbound: self.outbound,
            source: self.source,
            group: self.group,
            aead: self.aead,
            since: self.since,
            rtt: self.liveness.rtt(),
            cost: cost(self.liveness.rtt()),
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            queued_bytes: self.scheduler.waiting(),
            cells_dropped: tally.dropped,
            cells_marked: tally.marked,
        }
    }
}

/// Every transport connection and every link of a node. See the module for how to drive it.
pub struct Links {
    pub(super) terms: Terms,
    pub(super) rng: Rng,
    pub(super) max_inbound: usize,
    pub(super) max_outbound: usize,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    /// Links that are up.
    pub(super) by_peer: BTreeMap<PeerId, ConnId>,
    /// Connections of ours whose responder has not been heard yet.
    pub(super) unconfirmed: BTreeMap<PeerId, ConnId>,
    pub(super) gate: Gate,
    pub(super) cookies: Cookies,
    pub(super) timers: Timers<Timer>,
    pub(super) transmits: VecDeque<Transmit>,
    /// Links with something to send and credit for it.
    pub(super) ring: VecDeque<ConnId>,
    pub(super) upload: Upload,
    pub(super) queue_max: usize,
    /// What the queues of all links hold.
    pub(super) queued: Queued,
    /// Links with something to send that the upload limit does not let go yet.
    pub(super) held: VecDeque<ConnId>,
    pub(super) events: VecDeque<Event>,
    pub(super) counters: Counters,
    /// Counts events whose order decides between simultaneous dials.
    pub(super) step: u64,
    floor_given: BTreeSet<PeerId>,
    floor_learned: BTreeSet<PeerId>,
    /// Order in which floors were learned, for the bound.
    floor_order: VecDeque<PeerId>,
}

impl Links {
    /// A node's links, none yet.
    #[must_use]
    pub fn new(config: Config, rng: Rng) -> Self {
        let (max_inbound, max_outbound) = (config.max_inbound, config.max_outbound);
        let (upload, queue_max) = (Upload::new(config.upload_limit), config.queue_max);
        Self {
            terms: Terms::new(config),
            rng,
            max_inbound,
            max_outbound,
            conns: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            gate: Gate::default(),
            cookies: Cookies::default(),
            timers: Timers::default(),
            transmits: VecDeque::new(),
            ring: VecDeque::new(),
            upload,
            queue_max,
            queued: Queued::default(),
            held: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            step: 0,
            floor_given: BTreeSet::new(),
            floor_learned: BTreeSet::new(),
            floor_order: VecDeque::new(),
        }
    }

    /// Says that a peer is known to have the hybrid group: it is never accepted with less.
    pub fn set_floor(&mut self, peer: PeerId) {
        self.floor_given.insert(peer);
    }

    /// Forgets what is known about a peer, on the operator's word.
    pub fn forget(&mut self, peer: &PeerId) {
        self.floor_given.remove(peer);
        if self.floor_learned.remove(peer) {
            self.floor_order.retain(|known| known != peer);
        }
    }

    /// The transport ended. Nothing happens if it was closed by us.
    pub fn handle_closed(&mut self, _now: Now, conn: ConnId) {
        if self.conns.contains_key(&conn) {
            self.end(conn, Error::Closed, End::Gone);
        }
    }

    /// The transport failed for a reason that it knows, such as a frame that does not open.
    pub fn handle_failed(&mut self, _now: Now, conn: ConnId, why: Error) {
        if self.conns.contains_key(&conn) {
            self.end(conn, why, End::Gone);
        }
    }

    /// Closes the link to a peer on request. False if there is none.
    pub fn close(&mut self, _now: Now, peer: &PeerId) -> bool {
        let conn = self.by_peer.get(peer).copied();
        if let Some(conn) = conn {
            self.end(conn, Error::Asked, End::Bye(Bye::Asked));
        }
        conn.is_some()
    }

    /// Closes everything.
    pub fn close_all(&mut self, _now: Now) {
        for conn in self.conns.keys().copied().collect::<Vec<_>>() {
            self.end(conn, Error::Asked, End::Bye(Bye::Asked));
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What happened. Poll until empty after every handle.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The links that are up, by peer.
    pub fn links(&self) -> impl Iterator<Item = LinkStatus> + '_ {
        self.by_peer.values().filter_map(|conn| match self.conns.get(conn) {
            Some(Conn::Linked(link)) => Some(link.status(*conn)),
            Some(Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. }) | None => None,
        })
    }

    /// Smoothed round-trip time to a linked peer.
    #[must_use]
    pub fn rtt(&self, peer: &PeerId) -> Option<Duration> {
        match self.conns.get(self.by_peer.get(peer)?)? {
            Conn::Linked(link) => Some(link.liveness.rtt()),
            Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. } => None,
        }
    }

    /// What was counted since start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Our own id.
    #[must_use]
    pub fn me(&self) -> PeerId {
        self.terms.me()
    }

    /// Whether `peer` must not be accepted with `group`. Never by a node that is itself configured without the hybrid
    /// agreement: it is we who came with less then, and no peer can answer with more.
    pub(super) fn is_below_floor(&self, peer: &PeerId, group: Group) -> bool {
        let known = self.floor_given.contains(peer) || self.floor_learned.contains(peer);
        known && group < Group::X25519MlKem768 && self.terms.is_hybrid() && defence::on(Defence::GroupFloor)
    }

    /// Learns the floor of a peer from a link. At the bound, the one learned first is forgotten.
    pub(super) fn learn_floor(&mut self, peer: PeerId, group: Group) {
        if group < Group::X25519MlKem768 || self.floor_given.contains(&peer) || !self.floor_learned.insert(peer) {
            return;
        }
        self.floor_order.push_back(peer);
        if self.floor_order.len() > FLOOR_LEARNED_MAX
            && let Some(first) = self.floor_order.pop_front()
        {
            self.floor_learned.remove(&first);
            self.counters.floors_forgotten += 1;
        }
    }

    /// The link on a connection whose handshake is over.
    pub(super) fn link_mut(&mut self, conn: ConnId) -> Option<&mut Link> {
        match self.conns.get_mut(&conn) {
            Some(Conn::Linked(link)) => Some(link),
            Some(Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. }) | None => None,
        }
    }

    /// Ends a connection, whatever its state.
    pub(super) fn end(&mut self, conn: ConnId, why: Error, end: End) {
        let link = match self.conns.remove(&conn) {
            None => return,
            Some(Conn::Linked(link)) => link,
            Some(Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. }) => {
                return self.fail(conn, why, end);
            }
        };
        self.queued.change(Queued::of(&link.scheduler), Queued::default());
        let table = if link.confirmed.is_some() { &mut self.by_peer } else { &mut self.unconfirmed };
        if table.get(&link.peer) == Some(&conn) {
            table.remove(&link.peer);
        }
        if let End::Bye(bye) = end {
            self.transmits.push_back(Transmit::Batch { conn, batch: last_words(self.terms.padding(), bye) });
        }
        if link.confirmed.is_none() {
            return self.fail(conn, why, end);
        }
        self.timers.clear(&Timer::Liveness(conn));
        self.timers.clear(&Timer::Rekey(conn));
        self.timers.clear(&Timer::Tick(conn));
        self.count(&why, true);
        if !matches!(end, End::Gone) {
            self.transmits.push_back(Transmit::Close { conn, reason: why.clone() });
        }
        self.events.push_back(Event::Down { peer: link.peer, conn, reason: why });
    }

    /// Ends a connection that is no link and whose state has been taken already.
    pub(super) fn fail(&mut self, conn: ConnId, why: Error, end: End) {
        self.timers.clear(&Timer::Handshake(conn));
        self.count(&why, false);
        if !matches!(end, End::Gone) {
            self.transmits.push_back(Transmit::Close { conn, reason: why.clone() });
        }
        self.events.push_back(Event::Failed { conn, why });
    }

    /// Counts the end of a connection.
    fn count(&mut self, why: &Error, was_linked: bool) {
        let counter = match why {
            Error::Stranger => &mut self.counters.strangers,
            Error::RateLimited => &mut self.counters.rate_limited,
            Error::HalfOpenFull => &mut self.counters.half_open_refused,
            Error::Garbage(_) => &mut self.counters.garbage,
            Error::ControlOverflow => &mut self.counters.control_overflows,
            Error::Silent => &mut self.counters.silent,
            _ if was_linked => return,
            _ => &mut self.counters.handshakes_failed,
        };
        *counter += 1;
    }
}

/// The batch that says why a link ends.
pub(super) fn last_words(padding: Padding, bye: Bye) -> BytesMut {
    let mut batch = BytesMut::with_capacity(padding.frame_len(1 + 3));
    batch.put_u8(0);
    put_message(&mut batch, kind::BYE, &[], &[bye.code()]);
    batch
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The transport is gone already.
    Gone,
    /// Without a byte.
    Silently,
    /// With a last word to the peer, if there is a link.
    Bye(Bye),
}
