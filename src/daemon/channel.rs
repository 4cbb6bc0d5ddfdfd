//! One overlay connection as the front ends hold it: a byte or message pipe in
//! memory between a front end (TUN flow, SOCKS, expose, control) and the node's task.
//!
//! Both sides share one small queue per direction. A side that adds to an empty queue
//! wakes the other once, so a busy channel costs no message per packet. Bounds:
//! [`QUEUE_BYTES_MAX`] per direction, less where all queues together come near the bound of their
//! [`Pool`]; a writer waits, the node stops pulling from the session, and so the far end's window closes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Bytes one direction of a channel may hold in memory. 512 KiB: the stack's own
/// buffer twice over, so that neither side ever waits for a wake-up in mid-stream.
pub const QUEUE_BYTES_MAX: usize = 512 * 1024;

/// Bytes that one direction may hold however little is free.
pub const QUEUE_BYTES_MIN: usize = 16 * 1024;
/// The part of what is free that one direction may hold.
const POOL_SHARE: usize = 8;
/// Bytes of a pool where none is given.
const POOL_BYTES: usize = 128 * 1024 * 1024;

/// The memory of all queues together. Each may hold a part of what is free (the dynamic thresholds of shared-memory
/// switches): the greedy are hit first, and whoever holds little always finds room. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<PoolInner>);

/// What clones share.
struct PoolInner {
    used: AtomicUsize,
    size: usize,
}

impl Pool {
    /// A pool of `size` bytes. It is overrun by [`QUEUE_BYTES_MIN`] and one chunk for each direction at most.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self(Arc::new(PoolInner { used: AtomicUsize::new(0), size }))
    }

    /// The pool of a daemon whose memory is to stay within `limit`: a quarter, for what waits here waits in the
    /// sessions, the kernel and the flows' buffers, too.
    #[must_use]
    pub fn within_limit(limit: u64) -> Self {
        Self::new(usize::try_from(limit / 4).unwrap_or(usize::MAX))
    }

    /// Bytes that one direction may hold now.
    #[must_use]
    pub fn limit(&self) -> usize {
        let free = self.0.size.saturating_sub(self.used());
        (free / POOL_SHARE).clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX)
    }

    /// Bytes that are held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes come in.
    fn add(&self, bytes: usize) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that came in go.
    fn remove(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

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
    pool: Pool,
}

impl Kicks {
    /// Wake-ups through a queue of `len`, for channels with a pool of their own.
    #[must_use]
    pub fn new(len: usize) -> (Self, mpsc::Receiver<ChannelKey>) {
        Self::within(len, Pool::new(POOL_BYTES))
    }

    /// Wake-ups through a queue of `len`, for channels that hold their bytes in `pool`.
    #[must_use]
    pub fn within(len: usize, pool: Pool) -> (Self, mpsc::Receiver<ChannelKey>) {
        let (keys, received) = mpsc::channel(len);
        (Self { keys, missed: Arc::default(), pool }, received)
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
    /// Whoever adds found no room, and is woken when there is some.
    waiting: bool,
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

impl Drop for Shared {
    fn drop(&mut self) {
        self.kicks.pool.remove(lock(&self.up).bytes + lock(&self.down).bytes);
    }
}

impl Shared {
    /// Bytes that a direction may hold now.
    fn limit(&self) -> usize {
        self.kicks.pool.limit()
    }

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
                let mut down = lock(&self.0.down);
                let room = down.waiting && down.bytes < self.0.limit() / 2;
                down.waiting &= !room;
                drop(down);
                if room {
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
            self.0.kicks.pool.remove(chunk.len());
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
        self.0.kicks.pool.remove(std::mem::take(&mut down.bytes));
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
                if up.bytes < self.shared.limit() {
                    let was_empty = up.queue.is_empty();
                    self.shared.kicks.pool.add(chunk.len());
                    up.bytes += chunk.len();
                    up.queue.push_back(chunk);
                    if !was_empty {
                        return Ok(());
                    }
                    break;
                }
                up.waiting = true;
            }
            self.shared.up_room.notified().await;
        }
        self.shared.kick().await;
        Ok(())
    }

    /// Bytes that may wait in this direction now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.shared.limit()
    }

    /// Bytes that can be queued now without waiting.
    #[must_use]
    pub fn room(&self) -> usize {
        self.shared.limit().saturating_sub(lock(&self.shared.up).bytes)
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
        up.bytes -= chunk.len();
        self.0.kicks.pool.remove(chunk.len());
        let room = up.waiting && up.bytes < self.0.limit();
        up.waiting &= !room;
        drop(up);
        if room {
            self.0.up_room.notify_one();
        }
        Some(chunk)
    }

    /// Puts back the part of a chunk that the session could not take yet.
    pub fn untake(&mut self, rest: Bytes) {
        let mut up = lock(&self.0.up);
        self.0.kicks.pool.add(rest.len());
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

    /// Bytes that the front end's queue still takes. Where it takes none, the key comes when it does again.
    #[must_use]
    pub fn room(&self) -> usize {
        let mut down = lock(&self.0.down);
        let room = self.0.limit().saturating_sub(down.bytes);
        down.waiting |= room == 0;
        room
    }

    /// Gives a chunk or message to the front end. The caller has asked [`Self::room`].
    pub fn give(&mut self, chunk: Bytes) {
        let mut down = lock(&self.0.down);
        if down.discarded {
            return;
        }
        self.0.kicks.pool.add(chunk.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(len: usize) -> Bytes {
        Bytes::from(vec![0; len])
    }

    #[tokio::test]
    async fn the_greedy_wait_when_memory_is_short_and_the_modest_do_not() {
        let pool = Pool::new(1 << 20);
        let (kicks, mut kicked) = Kicks::within(64, pool.clone());
        let mut held = Vec::new();
        // Writers that write as long as they may, while nobody reads.
        for key in 0..64 {
            let (mut front, end) = channel(ChannelKey(key), kicks.clone());
            while front.writer.room() > 0 {
                front.writer.send(chunk(4_096)).await.unwrap();
            }
            held.push((front, end));
            while kicked.try_recv().is_ok() {}
        }
        assert!(pool.used() <= (1 << 20) + 64 * QUEUE_BYTES_MIN, "{}", pool.used());
        assert_eq!(pool.limit(), QUEUE_BYTES_MIN);
        // One that comes last finds its least.
        let (mut front, mut end) = channel(ChannelKey(99), kicks);
        front.writer.send(chunk(QUEUE_BYTES_MIN - 1)).await.unwrap();
        assert_eq!(end.take().unwrap().len(), QUEUE_BYTES_MIN - 1);
        // What is dropped is given back, and there is room for all that one may ever hold.
        drop(held);
        assert_eq!((pool.used(), front.writer.room()), (0, (1 << 20) / POOL_SHARE));
        end.give(chunk(10));
        drop(front);
        drop(end);
        assert_eq!(pool.used(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_woken_also_when_the_limit_has_moved() {
        let pool = Pool::new(1 << 20);
        let (kicks, mut kicked) = Kicks::within(64, pool.clone());
        let (mut front, mut end) = channel(ChannelKey(1), kicks);
        while front.writer.room() > 0 {
            front.writer.send(chunk(4_096)).await.unwrap();
        }
        let mut blocked = Box::pin(front.writer.send(chunk(1)));
        assert!(futures_util::poll!(&mut blocked).is_pending());
        // Others take the memory: this queue is now far beyond its limit, and drains past the new one.
        pool.add(1 << 20);
        while end.take().is_some() {}
        assert!(blocked.await.is_ok());
        // The node finds no room for the front end, and is told when the reader has made some.
        while end.room() > 0 {
            end.give(chunk(4_096));
        }
        while kicked.try_recv().is_ok() {}
        pool.remove(1 << 20);
        while kicked.try_recv().is_err() {
            assert!(front.reader.recv().await.unwrap().is_some());
        }
        assert!(end.room() > 0);
    }
}
