//! One overlay connection as the front ends hold it: a byte or message pipe in
//! memory between a front end (TUN flow, SOCKS, expose, control) and the node's task.
//!
//! Both sides share one small queue per direction. A side that adds to an empty queue
//! wakes the other once, so a busy channel costs no message per packet. Bounds:
//! [`QUEUE_BYTES_MAX`] per direction; a writer waits, the node stops pulling from the
//! session, and so the far end's window closes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Bytes one direction of a channel may hold in memory. 512 KiB: the stack's own
/// buffer twice over, so that neither side ever waits for a wake-up in mid-stream.
pub const QUEUE_BYTES_MAX: usize = 512 * 1024;

/// Why a channel ended other than by both sides finishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The far side, or its local service, reset the connection.
    #[error("reset by the far side")]
    Reset,
    /// The way died and no other was found in time.
    #[error("the way to the far side was lost")]
    Lost,
    /// The node is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Names one channel in the node's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey(pub u64);

/// How front ends wake the node's task. A wake-up that finds the queue full is not lost: the node's task is told
/// to look at every channel.
#[derive(Clone)]
pub struct Kicks {
    keys: mpsc::Sender<ChannelKey>,
    missed: Arc<AtomicBool>,
}

impl Kicks {
    /// Wake-ups through a queue of `len`.
    #[must_use]
    pub fn new(len: usize) -> (Self, mpsc::Receiver<ChannelKey>) {
        let (keys, received) = mpsc::channel(len);
        (Self { keys, missed: Arc::default() }, received)
    }

    /// Wakes the node's task without waiting.
    fn kick_now(&self, key: ChannelKey) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.keys.try_send(key) {
            self.missed.store(true, Ordering::Release);
        }
    }

    /// Whether a wake-up found the queue full since the last call.
    #[must_use]
    pub fn take_missed(&self) -> bool {
        self.missed.load(Ordering::Acquire) && self.missed.swap(false, Ordering::AcqRel)
    }
}

/// One direction's queue.
#[derive(Default)]
struct Direction {
    queue: VecDeque<Bytes>,
    bytes: usize,
    finished: bool,
    discarded: bool,
    error: Option<ChannelError>,
}

/// What both ends share.
struct Shared {
    key: ChannelKey,
    /// From the front end to the node.
    up: Mutex<Direction>,
    /// From the node to the front end.
    down: Mutex<Direction>,
    up_room: Notify,
    down_data: Notify,
    kicks: Kicks,
}

/// Locks a direction; a poisoned lock only means that another thread panicked between two plain stores.
fn lock(direction: &Mutex<Direction>) -> MutexGuard<'_, Direction> {
    direction.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The front end's side: reader and writer can be split to two tasks.
pub struct Channel {
    /// Bytes and messages from the far side.
    pub reader: ChannelReader,
    /// Bytes and messages to the far side.
    pub writer: ChannelWriter,
}

/// Receives from the far side. Dropping it discards what is still to come.
pub struct ChannelReader(Arc<Shared>);

/// Sends to the far side. Dropping it without [`ChannelWriter::finish`] resets the channel.
pub struct ChannelWriter {
    shared: Arc<Shared>,
    done: bool,
}

/// The node's side.
pub struct ChannelEnd(Arc<Shared>);

/// Makes the two sides of a channel. `kicks` receives the key whenever the node's side has
/// something to do: new bytes up, or room down.
#[must_use]
pub fn channel(key: ChannelKey, kicks: Kicks) -> (Channel, ChannelEnd) {
    let shared = Arc::new(Shared {
        key,
        up: Mutex::default(),
        down: Mutex::default(),
        up_room: Notify::new(),
        down_data: Notify::new(),
        kicks,
    });
    let front = Channel {
        reader: ChannelReader(Arc::clone(&shared)),
        writer: ChannelWriter { shared: Arc::clone(&shared), done: false },
    };
    (front, ChannelEnd(shared))
}

impl Shared {
    /// Wakes the node's task for this channel. Waits only when the node is far behind.
    async fn kick(&self) {
        let _ = self.kicks.keys.send(self.key).await;
    }
}

impl ChannelReader {
    /// The next chunk (stream) or message, or `None` once the far side has finished.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The channel was reset, lost, or the daemon stops.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, ChannelError> {
        loop {
            if let Some(result) = self.try_recv() {
                // The node waits for room only when the queue was full: wake it at half.
                let crossed = matches!(&result, Ok(Some(chunk)) if {
                    let left = lock(&self.0.down).bytes;
                    left < QUEUE_BYTES_MAX / 2 && left + chunk.len() >= QUEUE_BYTES_MAX / 2
                });
                if crossed {
                    self.0.kicks.kick_now(self.0.key);
                }
                return result;
            }
            self.0.down_data.notified().await;
        }
    }

    /// Like [`Self::recv`] without waiting: `None` when nothing is there yet.
    fn try_recv(&mut self) -> Option<Result<Option<Bytes>, ChannelError>> {
        let mut down = lock(&self.0.down);
        if let Some(chunk) = down.queue.pop_front() {
            down.bytes -= chunk.len();
            return Some(Ok(Some(chunk)));
        }
        if let Some(error) = down.error {
            return Some(Err(error));
        }
        down.finished.then_some(Ok(None))
    }
}

impl Drop for ChannelReader {
    /// Nobody reads any more: what is there, and what still comes, is discarded.
    fn drop(&mut self) {
        let mut down = lock(&self.0.down);
        down.discarded = true;
        down.queue.clear();
        down.bytes = 0;
        drop(down);
        self.0.kicks.kick_now(self.0.key);
    }
}

impl ChannelWriter {
    /// Queues a chunk (stream) or one message, waiting while the queue is full. Cancel-safe:
    /// a cancelled call queued nothing.
    ///
    /// # Errors
    /// The channel was reset, lost, or the daemon stops.
    pub async fn send(&mut self, chunk: Bytes) -> Result<(), ChannelError> {
        loop {
            {
                let mut up = lock(&self.shared.up);
                if let Some(error) = up.error {
                    return Err(error);
                }
                if up.bytes < QUEUE_BYTES_MAX {
                    let was_empty = up.queue.is_empty();
                    up.bytes += chunk.len();
                    up.queue.push_back(chunk);
                    if !was_empty {
                        return Ok(());
                    }
                    break;
                }
            }
            self.shared.up_room.notified().await;
        }
        self.shared.kick().await;
        Ok(())
    }

    /// Bytes that can be queued now without waiting.
    #[must_use]
    pub fn room(&self) -> usize {
        QUEUE_BYTES_MAX.saturating_sub(lock(&self.shared.up).bytes)
    }

    /// Ends our direction after what is queued: the far side reads end-of-stream.
    pub async fn finish(&mut self) {
        self.done = true;
        lock(&self.shared.up).finished = true;
        self.shared.kick().await;
    }

    /// Breaks the channel both ways at once: the far side sees a reset.
    pub fn reset(mut self) {
        self.abort();
    }

    /// Marks our direction as broken and wakes the node.
    fn abort(&mut self) {
        self.done = true;
        lock(&self.shared.up).error = Some(ChannelError::Reset);
        self.shared.kicks.kick_now(self.shared.key);
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        if !self.done {
            self.abort();
        }
    }
}

impl ChannelEnd {
    /// The channel's name.
    #[must_use]
    pub fn key(&self) -> ChannelKey {
        self.0.key
    }

    /// Takes the next chunk from the front end.
    pub fn take(&mut self) -> Option<Bytes> {
        let mut up = lock(&self.0.up);
        let chunk = up.queue.pop_front()?;
        let was_full = up.bytes >= QUEUE_BYTES_MAX;
        up.bytes -= chunk.len();
        let room = was_full && up.bytes < QUEUE_BYTES_MAX;
        drop(up);
        if room {
            self.0.up_room.notify_one();
        }
        Some(chunk)
    }

    /// Puts back the part of a chunk that the session could not take yet.
    pub fn untake(&mut self, rest: Bytes) {
        let mut up = lock(&self.0.up);
        up.bytes += rest.len();
        up.queue.push_front(rest);
    }

    /// Whether the front end has finished its direction and everything was taken.
    #[must_use]
    pub fn finished(&self) -> bool {
        let up = lock(&self.0.up);
        up.finished && up.queue.is_empty()
    }

    /// Whether the front end broke the channel.
    #[must_use]
    pub fn aborted(&self) -> bool {
        lock(&self.0.up).error.is_some()
    }

    /// Bytes that the front end's queue still takes.
    #[must_use]
    pub fn room(&self) -> usize {
        QUEUE_BYTES_MAX.saturating_sub(lock(&self.0.down).bytes)
    }

    /// Gives a chunk or message to the front end. The caller has asked [`Self::room`].
    pub fn give(&mut self, chunk: Bytes) {
        let mut down = lock(&self.0.down);
        if down.discarded {
            return;
        }
        down.bytes += chunk.len();
        down.queue.push_back(chunk);
        drop(down);
        self.0.down_data.notify_one();
    }

    /// Tells the front end that the far side has finished.
    pub fn finish(&mut self) {
        lock(&self.0.down).finished = true;
        self.0.down_data.notify_one();
    }

    /// Breaks the channel both ways with `error`; what was given before is still read.
    pub fn fail(&mut self, error: ChannelError) {
        lock(&self.0.down).error = Some(error);
        lock(&self.0.up).error = Some(error);
        self.0.down_data.notify_one();
        self.0.up_room.notify_one();
    }
}

impl Drop for ChannelEnd {
    /// The node's side is gone: whoever still waits learns it.
    fn drop(&mut self) {
        if !lock(&self.0.down).finished {
            self.fail(ChannelError::Stopping);
        }
    }
}
