//! What the front ends (TUN, DNS, SOCKS5, expose, control) ask of the node, over a
//! bounded mailbox. One task ([`crate::engine`]) owns the node; every other holds a
//! [`NodeHandle`], which is cheap to clone.

use bytes::Bytes;
use tarnet_core::crypto::{PeerId, ServiceId};
use tarnet_core::names::Record;
use tarnet_core::session::{Mode, Port, Refusal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::channel::Channel;

/// Requests that may wait for the node. Front ends wait when it is full.
pub const MAILBOX_LEN_MAX: usize = 1024;

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A TNS name as the user wrote it, canonical or not (`blog.alice`, `blog.alice.tarnet.alt.`,
    /// `blog.<ServiceId>`, a bare ServiceId), resolved in the acting identity's zone.
    Name(String),
    /// An identity, without a label.
    Service(ServiceId),
    /// A machine.
    Peer(PeerId),
}

/// A connection wanted by a front end.
#[derive(Debug, Clone)]
pub struct ConnectRequest {
    /// Name of the acting identity (`default`, `work`).
    pub acting: String,
    /// Whom to connect to.
    pub target: Target,
    /// The tarnet port.
    pub port: Port,
    /// Delivery mode.
    pub mode: Mode,
    /// First data, sent inside the OPEN; at most 1,024 bytes, may be empty.
    pub early: Bytes,
}

/// Why a connection was not made. The front ends map this to errnos, ICMP and SOCKS replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The acting identity does not exist here.
    #[error("no such identity")]
    UnknownIdentity,
    /// The name does not exist in the acting identity's view.
    #[error("no such name")]
    NoSuchName,
    /// The name could not be looked up in time.
    #[error("the name could not be looked up in time")]
    NameTimeout,
    /// The node that serves it cannot be reached.
    #[error("no route to the node")]
    NoRoute,
    /// The far side said no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Nobody answered within 20 s.
    #[error("no answer in time")]
    Timeout,
    /// A bound of our own was reached.
    #[error("too many connections")]
    TooMany,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Why a name was not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The acting identity does not exist here.
    #[error("no such identity")]
    UnknownIdentity,
    /// Text that cannot be a name.
    #[error("not a name")]
    BadName,
    /// It does not exist.
    #[error("no such name")]
    NoSuchName,
    /// Too many steps or a loop.
    #[error("the name loops")]
    Loop,
    /// No answer in time; the look-up goes on behind it.
    #[error("no answer in time")]
    Timeout,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The canonical name.
    pub name: String,
    /// The zone that held the records.
    pub zone: ServiceId,
    /// The records found.
    pub records: Vec<ResolvedRecord>,
    /// The identity it leads to, if it leads to one.
    pub service: Option<ServiceId>,
    /// The last label resolved inside the final zone, if any.
    pub label: Option<String>,
    /// Steps taken, for `--trace`.
    pub trace: Vec<TraceStep>,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedRecord {
    /// The record.
    pub record: Record,
    /// Seconds that it may still be cached.
    pub ttl_s: u32,
}

/// One step of a resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceStep {
    /// The zone asked.
    pub zone: ServiceId,
    /// The label asked for.
    pub label: String,
    /// The DHT key, in hex; empty when answered from a zone of our own.
    pub key: String,
    /// What was found, for people.
    pub found: String,
    /// Microseconds that it took.
    pub us: u64,
}

/// A service that a front end wants to answer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRequest {
    /// Name of the identity that listens; `peer` for the node itself.
    pub identity: String,
    /// The TNS label it listens under; absent: unlabelled.
    pub label: Option<String>,
    /// The tarnet port.
    pub port: Port,
    /// Delivery mode.
    pub mode: Mode,
    /// Who may connect; empty: anyone.
    pub allow: Vec<ServiceId>,
    /// Wait for the caller's proof of its identity also where anyone may connect.
    pub await_caller: bool,
    /// Connections at once; 0: the node-wide bound.
    pub connections_max: usize,
}

/// Why listening failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// The identity does not exist here.
    #[error("no such identity")]
    UnknownIdentity,
    /// Somebody listens on that identity, label and port already.
    #[error("that port is taken")]
    Taken,
    /// The bound on listeners was reached.
    #[error("too many listeners")]
    TooMany,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// A connection that waits for the listener's decision.
pub struct Incoming {
    /// The proven identity of the caller; absent: anonymous.
    pub caller: Option<ServiceId>,
    /// Answer: a channel comes back when accepted.
    pub decide: oneshot::Sender<Decision>,
}

/// The listener's answer to an [`Incoming`].
pub enum Decision {
    /// OPENED: the channel is sent through here.
    Accept(oneshot::Sender<Channel>),
    /// REFUSED with this reason.
    Refuse(Refusal),
}

/// An active listener. Dropping it stops listening; open channels live on.
pub struct Listener {
    /// Connections to decide about, oldest first; bounded by [`BACKLOG_LEN_MAX`], beyond which the node refuses.
    pub incoming: mpsc::Receiver<Incoming>,
}

/// Undecided connections per listener.
pub const BACKLOG_LEN_MAX: usize = 1024;

/// A request in the node's mailbox.
pub enum Request {
    /// Resolve a name as an identity.
    Resolve {
        /// Name of the acting identity.
        acting: String,
        /// The name.
        name: String,
        /// Resolve in this zone instead of the acting identity's.
        zone: Option<ServiceId>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Resolved, ResolveError>>,
    },
    /// Open a channel.
    Connect {
        /// What is wanted.
        request: ConnectRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Channel, ConnectError>>,
    },
    /// Listen.
    Listen {
        /// What is wanted.
        request: ListenRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Listener, ListenError>>,
    },
    /// Prove that the far end is there: one round trip over the overlay.
    Ping {
        /// Name of the acting identity.
        acting: String,
        /// Whom.
        target: Target,
        /// Where the answer goes: round-trip time and hops.
        reply: oneshot::Sender<Result<Pong, ConnectError>>,
    },
    /// Everything else: administration, answered in one piece.
    Control(Box<crate::admin::AdminCall>),
}

/// Answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// Round-trip time.
    pub rtt: std::time::Duration,
    /// Length of the path, links.
    pub hops: u16,
}

/// The front ends' end of the mailbox.
#[derive(Clone)]
pub struct NodeHandle {
    mailbox: mpsc::Sender<Request>,
    /// Counts the calls that may have changed a zone of ours, from 1.
    zones: watch::Sender<u64>,
}

impl NodeHandle {
    /// A handle, and the mailbox for the task that owns the node (or for a test double).
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (mailbox, requests) = mpsc::channel(MAILBOX_LEN_MAX);
        (Self { mailbox, zones: watch::Sender::new(1) }, requests)
    }

    /// Resolves `name` as `acting`. The node answers within 4 s.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn resolve(&self, acting: &str, name: &str) -> Result<Resolved, ResolveError> {
        self.resolve_in(acting, name, None).await
    }

    /// Resolves `name` as `acting`, starting in `zone`.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn resolve_in(
        &self,
        acting: &str,
        name: &str,
        zone: Option<ServiceId>,
    ) -> Result<Resolved, ResolveError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Resolve { acting: acting.into(), name: name.into(), zone, reply };
        self.mailbox.send(request).await.map_err(|_| ResolveError::Stopping)?;
        answer.await.unwrap_or(Err(ResolveError::Stopping))
    }

    /// Opens a channel; the node answers within 20 s. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, request: ConnectRequest) -> Result<Channel, ConnectError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Request::Connect { request, reply }).await.map_err(|_| ConnectError::Stopping)?;
        answer.await.unwrap_or(Err(ConnectError::Stopping))
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn listen(&self, request: ListenRequest) -> Result<Listener, ListenError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Request::Listen { request, reply }).await.map_err(|_| ListenError::Stopping)?;
        answer.await.unwrap_or(Err(ListenError::Stopping))
    }

    /// One overlay round trip.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn ping(&self, acting: &str, target: Target) -> Result<Pong, ConnectError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Ping { acting: acting.into(), target, reply };
        self.mailbox.send(request).await.map_err(|_| ConnectError::Stopping)?;
        answer.await.unwrap_or(Err(ConnectError::Stopping))
    }

    /// Sends an administrative call; `None` when the daemon is stopping.
    pub async fn control(&self, call: crate::admin::AdminCall) -> Option<()> {
        let changes_zones = call.changes_zones();
        self.mailbox.send(Request::Control(Box::new(call))).await.ok()?;
        if changes_zones {
            self.zones.send_modify(|calls| *calls += 1);
        }
        Some(())
    }

    /// Changes whenever a zone of ours may have. The mailbox keeps its order, so whoever asks for the zone
    /// after a change is told of it.
    #[must_use]
    pub fn zones(&self) -> watch::Receiver<u64> {
        self.zones.subscribe()
    }
}
