//! A TCP flow: one [`Stack`] shared by the task that reads the device (packets in) and
//! the flow's own task (bytes to and from its channel, timers). The lock is held for one
//! packet or one chunk, never across a wait.

use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::sync::Notify;

use super::limits::LITTLE_BYTES;
use super::packet::Quote;
use super::stack::{Read, Stack, Transmit};
use crate::channel::{Channel, ChannelError, ChannelReader, ChannelWriter};

/// A flow's connection broke; both directions end.
#[derive(Debug)]
pub struct Ended;

/// What the lock guards.
struct Inner {
    stack: Stack,
    /// When the flow's task will next look at the timers.
    armed: Option<Instant>,
    /// Whether our side has finished its direction: then a closed connection is no broken one.
    finished: bool,
    /// Whether the flow's task waits for bytes of the program: it acknowledges what little comes once that is on its
    /// way, so that nobody waits for the acknowledgement's sake.
    awaits: bool,
}

/// One flow.
pub struct Flow<T> {
    inner: Mutex<Inner>,
    out: T,
    /// Sequence number of its SYN: another one on the same tuple is another connection.
    sequence: u32,
    /// The SYN, to quote in an ICMP error.
    pub quote: Quote,
    readable: Notify,
    writable: Notify,
    timer: Notify,
    over: Notify,
    replaced: Notify,
}

impl<T: Transmit> Flow<T> {
    /// A flow whose SYN is still to be handled.
    #[must_use]
    pub fn new(stack: Stack, out: T, sequence: u32, quote: Quote) -> Self {
        Self {
            inner: Mutex::new(Inner { stack, armed: None, finished: false, awaits: false }),
            out,
            sequence,
            quote,
            readable: Notify::new(),
            writable: Notify::new(),
            timer: Notify::new(),
            over: Notify::new(),
            replaced: Notify::new(),
        }
    }

    /// A packet from our kernel.
    pub fn handle_packet(&self, packet: &[u8]) {
        self.with_inner(|inner, out| {
            inner.stack.take_packet(Instant::now(), packet, out);
            if !(inner.awaits && inner.stack.readable_little()) {
                inner.stack.respond(Instant::now(), out);
            }
        });
    }

    /// Whether a SYN with `sequence` starts another connection: our kernel has forgotten this one.
    #[must_use]
    pub fn replaced_by(&self, sequence: u32) -> bool {
        self.sequence != sequence
    }

    /// Ends the flow silently: another takes its tuple.
    pub fn replace(&self) {
        self.replaced.notify_one();
    }

    /// Waits until [`Self::replace`].
    pub async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// Refuses or resets the connection.
    pub fn abort(&self) {
        self.with(|stack, out| stack.abort(Instant::now(), out));
    }

    /// Connects the program, and carries bytes until both sides are done.
    ///
    /// # Errors
    /// The connection broke; the channel is reset.
    pub async fn carry(&self, channel: Channel) -> Result<(), Ended> {
        self.with(|stack, out| stack.open(Instant::now(), out));
        let Channel { reader, writer } = channel;
        let pumps = async { tokio::try_join!(self.upload(writer), self.download(reader)) };
        let carried = tokio::select! {
            carried = pumps => carried.map(|_| ()),
            () = self.broken() => Err(Ended),
            () = self.timers() => Err(Ended),
        };
        if carried.is_err() {
            self.abort();
            return Err(Ended);
        }
        self.with(|stack, out| stack.linger(Instant::now(), out));
        tokio::select! {
            () = self.closed() => {}
            () = self.timers() => {}
        }
        Ok(())
    }

    /// From the program to the channel.
    async fn upload(&self, mut writer: ChannelWriter) -> Result<(), Ended> {
        loop {
            // What has to wait for room is acknowledged meanwhile, however little it is.
            let room = writer.room().min(LITTLE_BYTES);
            let read = self.with_inner(|inner, out| {
                let read = inner.stack.read();
                if matches!(&read, Read::Bytes(bytes) if bytes.len() > room) {
                    inner.stack.flush(Instant::now(), out);
                }
                inner.awaits = matches!(read, Read::Empty);
                read
            });
            match read {
                Read::Bytes(bytes) if bytes.len() > room => writer.send(bytes).await.map_err(|_| Ended)?,
                Read::Bytes(bytes) => {
                    writer.send(bytes).await.map_err(|_| Ended)?;
                    // The node's task sends it on meanwhile.
                    tokio::task::yield_now().await;
                    self.with(|stack, out| stack.flush(Instant::now(), out));
                }
                Read::Empty => self.readable.notified().await,
                Read::Finished => {
                    writer.finish().await;
                    return Ok(());
                }
                Read::Broken => {
                    writer.reset();
                    return Err(Ended);
                }
            }
        }
    }

    /// From the channel to the program.
    async fn download(&self, mut reader: ChannelReader) -> Result<(), Ended> {
        while let Some(mut chunk) = reader.recv().await.map_err(|_| Ended)? {
            loop {
                // As much as is there goes into the buffer before anything is sent: full segments.
                let (rest, end) = self.with(|stack, out| fill(stack, chunk, &mut reader, out))?;
                match (rest, end) {
                    (Some(rest), _) => chunk = rest,
                    (None, Some(Ok(()))) => return self.finish(),
                    (None, Some(Err(_))) => return Err(Ended),
                    (None, None) => break,
                }
                self.writable.notified().await;
            }
        }
        self.finish()
    }

    /// The far side has finished.
    fn finish(&self) -> Result<(), Ended> {
        let mut inner = self.lock();
        inner.finished = true;
        drop(inner);
        self.with(|stack, out| stack.finish(Instant::now(), out));
        Ok(())
    }

    /// Waits until the connection is over although we have not finished: it was reset.
    async fn broken(&self) {
        loop {
            {
                let inner = self.lock();
                if inner.stack.over() && !inner.finished && !inner.stack.readable_bytes() {
                    return;
                }
            }
            self.over.notified().await;
        }
    }

    /// Waits until the connection is over.
    async fn closed(&self) {
        while !self.lock().stack.over() {
            self.over.notified().await;
        }
    }

    /// Runs the stack's timers for ever.
    async fn timers(&self) {
        loop {
            let due = self.lock().armed;
            match due {
                None => self.timer.notified().await,
                Some(due) => {
                    let slept = tokio::time::timeout_at(due.into(), self.timer.notified()).await;
                    if slept.is_err() {
                        self.lock().armed = None;
                        self.with(|stack, out| stack.handle_timeout(Instant::now(), out));
                    }
                }
            }
        }
    }

    /// Runs `act` on the stack, then wakes whoever its outcome concerns.
    fn with<R>(&self, act: impl FnOnce(&mut Stack, &T) -> R) -> R {
        self.with_inner(|inner, out| act(&mut inner.stack, out))
    }

    /// The same for what concerns more than the stack.
    fn with_inner<R>(&self, act: impl FnOnce(&mut Inner, &T) -> R) -> R {
        let mut inner = self.lock();
        let result = act(&mut inner, &self.out);
        let (readable, writable, over) = (inner.stack.readable(), inner.stack.writable(), inner.stack.over());
        let due = inner.stack.poll_timeout(Instant::now());
        // A deadline that moves later is found when the earlier one passes.
        let earlier = due.is_some_and(|due| inner.armed.is_none_or(|armed| due < armed));
        if earlier {
            inner.armed = due;
        }
        drop(inner);
        for (signal, notify) in
            [(readable, &self.readable), (writable, &self.writable), (over, &self.over), (earlier, &self.timer)]
        {
            if signal {
                notify.notify_one();
            }
        }
        result
    }

    /// The stack, for a moment. A poisoned lock means that smoltcp panicked on this flow; the flow ends, the others live.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How a channel's reading ended, if it did.
type End = Option<Result<(), ChannelError>>;

/// Writes `chunk` and whatever the channel has ready into the stack, and sends it. Gives
/// back what did not fit, and how the channel ended.
fn fill(
    stack: &mut Stack,
    chunk: Bytes,
    reader: &mut ChannelReader,
    out: &impl Transmit,
) -> Result<(Option<Bytes>, End), Ended> {
    let mut next = Some(chunk);
    let mut end = None;
    while let Some(mut chunk) = next.take() {
        let taken = stack.write(&chunk).map_err(|_| Ended)?;
        if taken < chunk.len() {
            chunk.advance(taken);
            stack.flush(Instant::now(), out);
            return Ok((Some(chunk), None));
        }
        match ready(reader) {
            Some(Ok(Some(chunk))) => next = Some(chunk),
            Some(Ok(None)) => end = Some(Ok(())),
            Some(Err(error)) => end = Some(Err(error)),
            None => {}
        }
    }
    stack.flush(Instant::now(), out);
    Ok((None, end))
}

/// What the channel has ready, without waiting. [`ChannelReader::recv`] may be dropped.
fn ready(reader: &mut ChannelReader) -> Option<Result<Option<Bytes>, ChannelError>> {
    let receiving = std::pin::pin!(reader.recv());
    match receiving.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(received) => Some(received),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests;
