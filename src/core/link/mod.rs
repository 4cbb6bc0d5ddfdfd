//! Links: authenticated, encrypted, multiplexed connections to neighbours. [`Links`] owns every
//! transport connection from its first handshake message on, and the table of links: one per peer.
//!
//! The shell's part, per connection: tell [`Links::handle_dial`] or [`Links::handle_accept`]; pass frames to
//! [`Links::handle_frame`], one at a time, and read the next only after an answer came
//! ([`Transmit::Handshake`], [`Transmit::Established`] or [`Transmit::Close`]; an initiator gets message 3
//! and [`Transmit::Established`] in direct succession). From then on it seals each [`Transmit::Batch`]
//! with its [`Sealer`] and reports it written by [`Links::handle_ready`], opens frames with its
//! [`Opener`] and passes them to [`Links::handle_plaintext`]. When sealing's opposite fails, the transport
//! ends, or the peer is gone, it closes and says [`Links::handle_closed`].
//!
//! States of a connection: dialing (awaiting message 2), accepted (message 1), answered (message 3),
//! linked; an initiator's link counts only once the responder's first frame has opened. Timers: one deadline
//! per handshake; per link one of liveness, one for the next key agreement if we dialed, one for the next frame at a
//! constant rate; one for the upload limit. Bounds: [`limits`]. Missing on purpose: standby transports.

mod constant;
mod cookie;
mod error;
mod establish;
mod evict;
mod flows;
mod frame;
mod gate;
mod handshake;
pub mod limits;
mod links;
mod liveness;
mod memory;
mod patience;
mod rekey;
mod scheduler;
mod speed;
#[cfg(test)]
mod tests;
mod traffic;
mod upload;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

pub use error::{Bye, Error};
pub use frame::{Opener, Padding, Sealer};
pub use links::Links;
pub use rekey::Mix;

use crate::crypto::{Aead, Group, PeerId, SigningKey};
use crate::time::Instant;

/// A transport connection. The shell numbers them and never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What a node brings to its links.
pub struct Config {
    /// The node's key.
    pub keys: Arc<SigningKey>,
    /// The private network's key: whoever has another one gets no further than message 2.
    pub network_key: Option<[u8; 32]>,
    /// Key agreements that we accept. The hybrid one is chosen whenever both sides have it.
    pub groups: Vec<Group>,
    /// How frames hide their lengths.
    pub padding: Padding,
    /// Whether strangers, who do not know our id, are answered.
    pub open: bool,
    /// Whether AES is in hardware ([`Aead::hardware_aes`]); what builds on it is used where both sides have it.
    pub aes: bool,
    /// Links accepted, at most.
    pub max_inbound: usize,
    /// Links dialed, at most.
    pub max_outbound: usize,
    /// Bytes of frames per second that all links together send, at most.
    pub upload_limit: Option<u64>,
    /// Bytes that wait on all links together, at most, with bookkeeping.
    pub queue_max: usize,
}

/// Whom a dialed address is expected to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// Anybody: first contact.
    None,
    /// Probably this peer; another one ends the attempt with [`Error::HintMismatch`], to be dialed again as new.
    Hint(PeerId),
    /// This peer and no other.
    Required(PeerId),
}

impl Pin {
    /// The peer expected.
    #[must_use]
    pub fn peer(self) -> Option<PeerId> {
        match self {
            Self::None => None,
            Self::Hint(peer) | Self::Required(peer) => Some(peer),
        }
    }

    /// Checks who answered.
    fn check(self, found: PeerId) -> Result<(), Error> {
        match self {
            Self::Hint(expected) if expected != found => Err(Error::HintMismatch { expected, found }),
            Self::Required(expected) if expected != found => Err(Error::PinMismatch { expected, found }),
            Self::None | Self::Hint(_) | Self::Required(_) => Ok(()),
        }
    }
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Before all cells, never dropped: a peer that does not take them in time loses the link.
    Control,
    /// In turn with other flows; the longest loses when the queue is full: cells, and datagrams that may be lost.
    Cell {
        /// Cells of one flow keep their order and share a turn.
        flow: u64,
        /// Goes before bulk as long as it sends little.
        interactive: bool,
        /// The neighbour that it comes from, if it passes through: each has its turn, and a long wait here marks it.
        /// Our own sessions see their queue without.
        from: Option<PeerId>,
    },
}

/// A message that was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// There is no link to that peer (any more).
    #[error("no link to that peer")]
    NoLink,
    /// It is longer than a message of its class may be.
    #[error("message too long")]
    TooLong,
}

/// What the transport is to do.
pub enum Transmit {
    /// Send this handshake message as one frame.
    Handshake {
        /// On this connection.
        conn: ConnId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// The handshake is over: frames are sealed and opened from now on.
    Established {
        /// On this connection.
        conn: ConnId,
        /// The peer, for logs.
        peer: PeerId,
        /// Seals batches.
        sealer: Sealer,
        /// Opens frames.
        opener: Opener,
    },
    /// Seal and send this batch. Capacity for padding and tag is there. At most two are outstanding, and one more before a close.
    Batch {
        /// On this connection.
        conn: ConnId,
        /// The plaintext.
        batch: BytesMut,
    },
    /// Fresh key agreement, for the two halves of a connection. The opener has it before the reader opens another
    /// frame; the sealer gets it in its place among the batches.
    Mix {
        /// On this connection.
        conn: ConnId,
        /// For [`Opener::mix`].
        open: Option<Mix>,
        /// For [`Sealer::mix`].
        seal: Option<Mix>,
    },
    /// Hold at most so many bytes that are handed to the system and not sent, so that queues stay here.
    Unsent {
        /// On this connection.
        conn: ConnId,
        /// Bytes.
        len: u32,
        /// The link is short and fast: to space out what it sends would cost more than it spares others.
        bursts: bool,
    },
    /// Do not read this connection for a while: it sends what serves nobody.
    Rest {
        /// This connection.
        conn: ConnId,
        /// Until then.
        until: Instant,
    },
    /// Close, after everything before has been sent.
    Close {
        /// This connection.
        conn: ConnId,
        /// For the log.
        reason: Error,
    },
}

/// What the node should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer proved its id. To remember: who answers at the dialed address, and that it has that group.
    PeerSeen {
        /// Who.
        peer: PeerId,
        /// On this connection.
        conn: ConnId,
        /// Once hybrid, it is refused with less: give it back by [`Links::set_floor`] after a restart.
        group: Group,
        /// What was expected; [`Pin::None`] for accepted connections.
        pin: Pin,
    },
    /// A link is up.
    Up {
        /// To this peer.
        peer: PeerId,
        /// Over this connection.
        conn: ConnId,
        /// Whether we dialed.
        outbound: bool,
        /// The key agreement used.
        group: Group,
        /// Round-trip time, from the handshake so far.
        rtt: Duration,
        /// Cost for routing, 1 or more.
        cost: u32,
    },
    /// A link's cost changed enough to matter.
    Cost {
        /// To this peer.
        peer: PeerId,
        /// Smoothed round-trip time.
        rtt: Duration,
        /// Cost for routing, 1 or more.
        cost: u32,
    },
    /// A link is down.
    Down {
        /// To this peer.
        peer: PeerId,
        /// It ran over this connection.
        conn: ConnId,
        /// Why.
        reason: Error,
    },
    /// A message arrived.
    Message {
        /// From this peer.
        peer: PeerId,
        /// Its kind, outside the link's own.
        kind: u8,
        /// Its body, in the memory of its frame.
        body: BytesMut,
    },
    /// A connection ended before it was a link.
    Failed {
        /// This connection.
        conn: ConnId,
        /// Why.
        why: Error,
    },
}

/// A link as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// To this peer.
    pub peer: PeerId,
    /// Over this connection.
    pub conn: ConnId,
    /// Whether we dialed.
    pub outbound: bool,
    /// Where it came from, if accepted.
    pub source: Option<IpAddr>,
    /// The key agreement used.
    pub group: Group,
    /// The AEAD used.
    pub aead: Aead,
    /// When it came up.
    pub since: Instant,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Cost for routing.
    pub cost: u32,
    /// Bytes of frames received.
    pub rx_bytes: u64,
    /// Bytes of frames sent.
    pub tx_bytes: u64,
    /// Bytes waiting, with bookkeeping.
    pub queued_bytes: usize,
    /// Cells dropped at the queue's bound.
    pub cells_dropped: u64,
    /// Cells marked for congestion.
    pub cells_marked: u64,
}

/// Events counted since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// First messages that did not know our id, unanswered.
    pub strangers: u64,
    /// First messages that had to come again with a cookie.
    pub cookies_asked: u64,
    /// Handshakes refused for their source's rate.
    pub rate_limited: u64,
    /// Accepted connections that went for the bound on half-open ones.
    pub half_open_refused: u64,
    /// Handshakes that failed for another reason.
    pub handshakes_failed: u64,
    /// Links closed because an authenticated peer sent a malformed batch.
    pub garbage: u64,
    /// Links closed because control messages piled up.
    pub control_overflows: u64,
    /// Links closed because the peer was silent.
    pub silent: u64,
    /// Cells dropped because all links together held too much.
    pub cells_over_memory: u64,
    /// Links that yielded to newcomers.
    pub links_evicted: u64,
    /// Fresh key agreements completed.
    pub rekeys: u64,
    /// Peers whose floor was forgotten at its bound.
    pub floors_forgotten: u64,
}
