//! The words between the node and its shell.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::crypto::{DhtKey, Group, PeerId, ServiceId};
use crate::dht::{Hello, StoreOp};
use crate::link::{self, ConnId, Pin};
use crate::names::{Answer, TraceStep};
use crate::routing::{Acquaintance, EpochState};
use crate::session::{ChannelRef, ListenerId, Mode, Owner, Port, Refusal, SavedKeys};
use crate::time::Instant;

/// A request of the shell; its answer repeats it. Never reused while under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WantId(pub u64);

/// What comes from the transports.
pub enum Input {
    /// A connection that we dialed is up.
    Dialed {
        /// The connection.
        conn: ConnId,
        /// Who is expected.
        pin: Pin,
    },
    /// A connection was accepted.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// Where it comes from.
        source: std::net::IpAddr,
    },
    /// A frame during the handshake.
    Frame {
        /// The connection.
        conn: ConnId,
        /// The frame.
        frame: Bytes,
    },
    /// An opened frame.
    Plaintext {
        /// The connection.
        conn: ConnId,
        /// Its messages.
        plaintext: BytesMut,
    },
    /// The transport takes another batch.
    Ready {
        /// The connection.
        conn: ConnId,
    },
    /// The connection is gone.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// Nothing but time.
    Timeout,
}

/// What the shell is to do, one thing at a time.
pub enum Output {
    /// For the transports.
    Transmit(link::Transmit),
    /// For whoever asked, or for the log.
    Event(Event),
    /// Nothing more until then, or until an input.
    Timeout(Option<Instant>),
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A name, resolved as the acting identity.
    Name(String),
    /// An identity, with the label that was resolved on the way to it.
    Service(ServiceId, Option<String>),
    /// A machine.
    Peer(PeerId),
}

/// A channel wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The port.
    pub port: Port,
    /// Delivery mode.
    pub mode: Mode,
    /// First data, at most 1,024 bytes.
    pub early: Bytes,
}

/// What became of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The name as it was asked.
    pub name: String,
    /// What it means.
    pub answer: Answer,
    /// How that was found.
    pub trace: Vec<TraceStep>,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WantError {
    /// The acting identity does not exist here.
    #[error("no such identity")]
    UnknownIdentity,
    /// Text that cannot be a name.
    #[error("not a name")]
    BadName,
    /// It does not exist.
    #[error("no such name")]
    NoSuchName,
    /// Names lead in a circle, or too far.
    #[error("the name loops")]
    Loop,
    /// The name could not be looked up in time.
    #[error("the name could not be looked up in time")]
    NameTimeout,
    /// The node cannot be reached.
    #[error("no route to the node")]
    NoRoute,
    /// The far side said no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Nobody answered in time.
    #[error("no answer in time")]
    Timeout,
    /// A bound of ours was reached.
    #[error("too many requests")]
    TooMany,
    /// It is too long to be stored.
    #[error("too long to be stored")]
    TooLong,
}

/// What must be on disk.
#[derive(Debug)]
pub enum Persist {
    /// Routing's epoch.
    Epoch(EpochState),
    /// For how long routing has known landmarks.
    Acquaintances(Vec<Acquaintance>),
    /// A change of the DHT's store.
    Store(StoreOp),
    /// Session keys.
    SessionKeys(Owner, SavedKeys),
    /// Session keys that are not needed any more.
    ForgetSessionKeys(Owner),
}

/// What the node reports.
#[derive(Debug)]
pub enum Event {
    /// A peer proved its id.
    PeerSeen {
        /// Who.
        peer: PeerId,
        /// On this connection.
        conn: ConnId,
        /// With this key agreement, which becomes its floor.
        group: Group,
        /// What was expected.
        pin: Pin,
    },
    /// A link is up.
    LinkUp {
        /// To whom.
        peer: PeerId,
        /// Over this connection.
        conn: ConnId,
        /// Whether we dialed.
        outbound: bool,
        /// The key agreement.
        group: Group,
    },
    /// A link is down.
    LinkDown {
        /// To whom.
        peer: PeerId,
        /// Over this connection.
        conn: ConnId,
        /// Why.
        reason: link::Error,
    },
    /// A peer that relays lead to, or one of a network that we hang on by few links, says where it can be dialled.
    Dialable {
        /// Who.
        peer: PeerId,
        /// Transport URIs, as it signed them; whoever dials them expects that peer.
        addresses: Vec<String>,
    },
    /// A connection did not become a link.
    ConnFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: link::Error,
    },
    /// Write this down.
    Persist(Persist),
    /// A name was resolved, or not.
    Resolved {
        /// The request.
        want: WantId,
        /// What came of it.
        result: Result<Resolution, WantError>,
    },
    /// A channel is open.
    Connected {
        /// The request.
        want: WantId,
        /// The channel.
        channel: ChannelRef,
    },
    /// A request came to nothing.
    Failed {
        /// The request.
        want: WantId,
        /// Why.
        why: WantError,
    },
    /// The far end is there.
    Pong {
        /// The request.
        want: WantId,
        /// Round-trip time.
        rtt: Duration,
        /// Links on the path.
        hops: u16,
    },
    /// A block was stored, on this many other nodes.
    Stored {
        /// The request.
        want: WantId,
        /// Its key.
        key: DhtKey,
        /// Storers that said so.
        replicas: usize,
    },
    /// A content block's value.
    Content {
        /// The request.
        want: WantId,
        /// The value.
        value: Vec<u8>,
    },
    /// Signed values found.
    Signed {
        /// The request.
        want: WantId,
        /// Signer and value of each.
        values: Vec<(ServiceId, Vec<u8>)>,
    },
    /// A Hello found.
    Hello {
        /// The request.
        want: WantId,
        /// The Hello.
        hello: Box<Hello>,
    },
    /// Somebody opens a channel: answer with `accept` or `refuse`.
    Incoming {
        /// The channel.
        channel: ChannelRef,
        /// The listener.
        listener: ListenerId,
        /// The proven caller.
        caller: Option<ServiceId>,
    },
    /// Something can be read.
    Readable(ChannelRef),
    /// Something can be written.
    Writable(ChannelRef),
    /// The far side has finished, and everything was read.
    Finished(ChannelRef),
    /// The channel broke.
    Reset {
        /// The channel.
        channel: ChannelRef,
        /// The way was lost, as opposed to a reset by the far side.
        lost: bool,
    },
    /// Both sides have finished.
    Closed(ChannelRef),
}

/// Counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages of neighbours that made no sense.
    pub bad_messages: u64,
    /// Bytes of cells passed on for others.
    pub relayed_bytes: u64,
    /// DHT messages that had no way.
    pub dht_unsent: u64,
}
