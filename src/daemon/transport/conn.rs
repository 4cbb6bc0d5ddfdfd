//! One connection: its two tasks, and how they talk to the node's task.
//!
//! Life: the first event is [`ConnEvent::Accepted`] or [`ConnEvent::Dialled`] with the
//! [`ConnHandle`], the last one [`ConnEvent::Closed`], always. During the handshake the
//! reader waits after each frame until it is told [`ConnHandle::proceed`] or
//! [`ConnHandle::established`], so that no frame is taken for what it is not. Then it
//! opens frames; the writer seals batches and answers each with [`ConnEvent::Ready`]
//! once the socket has taken it. Dropping the handle closes: what was queued is still
//! written, for [`CLOSE_GRACE`] at most.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tarnet_core::link::{ConnId, Error as LinkError, Mix, Opener, Pin, Sealer};
use tarnet_core::time::Now;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::clock::Clock;
use super::download::Download;
use super::limits::{CLOSE_GRACE, EVENTS_LEN_MAX, READER_LEN_MAX, WRITER_LEN_MAX};
use super::pipe::{Pipe, PipeError};
use super::tcp::TcpPipe;
use super::{read, write};

/// Seals what one link sends; owned by the connection's writer.
pub trait FrameSealer: Send + 'static {
    /// Turns a batch into a frame, in place.
    fn seal(&mut self, now: Now, batch: BytesMut) -> BytesMut;

    /// Mixes fresh key agreement in, after the next frame.
    fn mix(&mut self, mix: Mix);
}

/// Opens what one link receives; owned by the connection's reader.
pub trait FrameOpener: Send + 'static {
    /// Turns a frame into its batch, in place.
    ///
    /// # Errors
    /// Not the peer's next frame: the connection is over.
    fn open(&mut self, frame: BytesMut) -> Result<BytesMut, LinkError>;

    /// Has fresh key agreement ready for when the peer mixes it in.
    fn mix(&mut self, mix: Mix);
}

impl FrameSealer for Sealer {
    fn seal(&mut self, now: Now, batch: BytesMut) -> BytesMut {
        Self::seal(self, now, batch)
    }

    fn mix(&mut self, mix: Mix) {
        Self::mix(self, mix);
    }
}

impl FrameOpener for Opener {
    fn open(&mut self, frame: BytesMut) -> Result<BytesMut, LinkError> {
        Self::open(self, frame)
    }

    fn mix(&mut self, mix: Mix) {
        Self::mix(self, mix);
    }
}

/// Where a connection came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A peer dialled us from this address.
    Accepted(SocketAddr),
    /// We dialled this address, and expect this node there.
    Dialled(SocketAddr, Pin),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it.
    #[error("closed by the peer")]
    Peer,
    /// The pipe failed or carried nonsense.
    #[error("{0}")]
    Pipe(#[from] PipeError),
    /// A frame did not open.
    #[error("a frame did not open: {0}")]
    Frame(LinkError),
    /// The node asked for it.
    #[error("closed by us")]
    Asked,
}

/// What connections tell the node's task.
pub enum ConnEvent {
    /// A peer dialled us.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// Its source, for rate limits.
        source: SocketAddr,
        /// How to answer it.
        handle: ConnHandle,
    },
    /// We reached an address.
    Dialled {
        /// The connection.
        conn: ConnId,
        /// The address that answered.
        address: SocketAddr,
        /// The node expected there.
        expect: Pin,
        /// How to answer it.
        handle: ConnHandle,
    },
    /// A frame of the handshake. The reader waits for [`ConnHandle::proceed`] or [`ConnHandle::established`].
    HandshakeFrame(ConnId, Bytes),
    /// An opened frame.
    Plaintext(ConnId, BytesMut),
    /// A batch was written: room for one more.
    Ready(ConnId),
    /// It is over.
    Closed(ConnId, CloseReason),
}

/// What the node's task tells a writer.
pub(super) enum ToWriter {
    /// A frame of the handshake, as it is.
    Handshake(Vec<u8>),
    /// From now on batches are sealed with this.
    Established(Box<dyn FrameSealer>),
    /// A batch to seal and write.
    Batch(BytesMut),
    /// Fresh key agreement.
    Mix(Mix),
    /// Hold at most so many bytes in the system unsent; and whether it may send in bursts.
    Unsent(u32, bool),
}

/// What the node's task tells a reader.
pub(super) enum ToReader {
    /// The next frame belongs to the handshake too.
    Proceed,
    /// From now on frames are opened with this.
    Established(Box<dyn FrameOpener>),
    /// Fresh key agreement.
    Mix(Mix),
}

/// The connection is over, or the node overran its credit; drop the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is over")]
pub struct Gone;

/// The node's side of one connection. No call waits. Dropping it closes the connection.
pub struct ConnHandle {
    writer: mpsc::Sender<ToWriter>,
    reader: mpsc::Sender<ToReader>,
    rest: watch::Sender<Option<Instant>>,
    _open: oneshot::Sender<()>,
}

impl ConnHandle {
    /// Sends a frame of the handshake.
    ///
    /// # Errors
    /// The connection is over.
    pub fn handshake(&self, frame: Vec<u8>) -> Result<(), Gone> {
        self.writer.try_send(ToWriter::Handshake(frame)).map_err(|_| Gone)
    }

    /// Lets the reader go on after a frame of the handshake that did not end it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn proceed(&self) -> Result<(), Gone> {
        self.reader.try_send(ToReader::Proceed).map_err(|_| Gone)
    }

    /// The handshake is over: hands the keys to the two tasks. Call it after the last [`Self::handshake`].
    ///
    /// # Errors
    /// The connection is over.
    pub fn established(&self, sealer: impl FrameSealer, opener: impl FrameOpener) -> Result<(), Gone> {
        self.writer.try_send(ToWriter::Established(Box::new(sealer))).map_err(|_| Gone)?;
        self.reader.try_send(ToReader::Established(Box::new(opener))).map_err(|_| Gone)
    }

    /// Sends a batch. The node has credit for a few; each [`ConnEvent::Ready`] is one more.
    ///
    /// # Errors
    /// The connection is over.
    pub fn batch(&self, batch: BytesMut) -> Result<(), Gone> {
        self.writer.try_send(ToWriter::Batch(batch)).map_err(|_| Gone)
    }

    /// Hands fresh key agreement to the two tasks.
    ///
    /// # Errors
    /// The connection is over.
    pub fn mix(&self, open: Option<Mix>, seal: Option<Mix>) -> Result<(), Gone> {
        open.map_or(Ok(()), |mix| self.reader.try_send(ToReader::Mix(mix)).map_err(|_| Gone))?;
        seal.map_or(Ok(()), |mix| self.writer.try_send(ToWriter::Mix(mix)).map_err(|_| Gone))
    }

    /// Bounds the bytes that the system holds unsent, and says whether it may send in bursts.
    ///
    /// # Errors
    /// The connection is over.
    pub fn hold_unsent(&self, len: u32, bursts: bool) -> Result<(), Gone> {
        self.writer.try_send(ToWriter::Unsent(len, bursts)).map_err(|_| Gone)
    }

    /// Reads nothing more until then.
    pub fn rest(&self, until: Instant) {
        let _ = self.rest.send(Some(until));
    }

    /// Closes the connection after what is queued.
    pub fn close(self) {}
}

/// Starts connections. Cheap to clone; one per daemon.
#[derive(Clone)]
pub struct Transport {
    events: mpsc::Sender<ConnEvent>,
    next: Arc<AtomicU64>,
    clock: Clock,
    download: Download,
}

/// The tasks' ends of a [`ConnHandle`].
struct Mailboxes {
    writer: mpsc::Receiver<ToWriter>,
    reader: mpsc::Receiver<ToReader>,
    rest: watch::Receiver<Option<Instant>>,
    closed: oneshot::Receiver<()>,
}

impl Transport {
    /// A transport, and the events of all its connections for the node's task.
    #[must_use]
    pub fn new(clock: Clock) -> (Self, mpsc::Receiver<ConnEvent>) {
        let (events, received) = mpsc::channel(EVENTS_LEN_MAX);
        (Self { events, next: Arc::default(), clock, download: Download::default() }, received)
    }

    /// Limits what all its connections together receive, bytes per second. Before the first is started.
    #[must_use]
    pub fn with_download_limit(self, bytes_per_s: Option<u64>) -> Self {
        Self { download: Download::new(self.clock, bytes_per_s), ..self }
    }

    /// A connected socket as a pipe, with the options that every connection of ours has.
    #[must_use]
    pub fn tcp(&self, stream: TcpStream) -> TcpPipe {
        TcpPipe::new(stream, self.download.buffer_len())
    }

    /// Starts the tasks of a connection. The returned one ends with it; `guard` is dropped then.
    pub fn start<P: Pipe>(&self, pipe: P, origin: Origin, guard: impl Send + 'static) -> (ConnId, JoinHandle<()>) {
        let conn = ConnId(self.next.fetch_add(1, Ordering::Relaxed));
        let this = self.clone();
        let task = tokio::spawn(async move {
            run_conn(this, conn, pipe, origin).await;
            drop(guard);
        });
        (conn, task)
    }
}

/// The two ends of a connection's mailboxes.
fn mailboxes() -> (ConnHandle, Mailboxes) {
    let (to_writer, writer) = mpsc::channel(WRITER_LEN_MAX);
    let (to_reader, reader) = mpsc::channel(READER_LEN_MAX);
    let (to_rest, rest) = watch::channel(None);
    let (open, closed) = oneshot::channel();
    let handle = ConnHandle { writer: to_writer, reader: to_reader, rest: to_rest, _open: open };
    (handle, Mailboxes { writer, reader, rest, closed })
}

/// Runs one connection from its first event to its last. Reader and writer are tasks of their own, so that
/// sealing and opening run on two cores.
async fn run_conn<P: Pipe>(transport: Transport, conn: ConnId, pipe: P, origin: Origin) {
    let (handle, mail) = mailboxes();
    let first = match origin {
        Origin::Accepted(source) => ConnEvent::Accepted { conn, source, handle },
        Origin::Dialled(address, expect) => ConnEvent::Dialled { conn, address, expect, handle },
    };
    let Transport { events, clock, download, .. } = transport;
    if events.send(first).await.is_err() {
        return;
    }
    let (reader, writer) = pipe.split();
    let mut reading =
        AbortOnDrop(tokio::spawn(read::run(conn, reader, (mail.reader, mail.rest), events.clone(), download)));
    let mut closed = mail.closed;
    let reason = tokio::select! {
        reason = &mut reading.0 => reason.unwrap_or(CloseReason::Asked),
        reason = write::run(conn, writer, mail.writer, events.clone(), clock) => reason,
        () = async { let _ = (&mut closed).await; tokio::time::sleep(CLOSE_GRACE).await } => CloseReason::Asked,
    };
    drop(reading);
    let _ = events.send(ConnEvent::Closed(conn, reason)).await;
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
