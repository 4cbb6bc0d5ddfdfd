//! Joins a local socket and an overlay channel: bytes both ways, half-close and reset
//! carried through. One task per connection, no copy beyond the system calls' own.
//!
//! An idle connection holds no buffer: one is taken only when the socket has something,
//! and it grows with traffic from [`READ_LEN_MIN`] to [`READ_LEN_MAX`]. Back-pressure is
//! the channel's bounded queue one way, the socket's buffer the other.
//!
//! Datagrams have a pump of their own: boundaries kept, dropped where there is no room,
//! ended after [`DATAGRAM_IDLE`].

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::time::{Instant, sleep_until};

use crate::channel::{Channel, ChannelError, ChannelReader, ChannelWriter};
use crate::runtime::{STEP_LEN, Steps};

/// Bytes read at first, and from sockets that say little.
const READ_LEN_MIN: usize = 4 * 1024;
/// Bytes read at once from sockets that say much: one step, or two reads would be one.
const READ_LEN_MAX: usize = STEP_LEN;
/// Chunks written to the socket with one system call.
const CHUNKS_PER_WRITE_MAX: usize = 32;
/// Bytes gathered for one write to the socket.
const WRITE_LEN_MAX: usize = 256 * 1024;
/// Bytes of the largest datagram.
const DATAGRAM_LEN_MAX: usize = 65_535;
/// Silence after which a datagram channel ends.
pub const DATAGRAM_IDLE: Duration = Duration::from_secs(60);

/// Bytes that went through, counted while they do.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the local socket to the overlay.
    pub up: AtomicU64,
    /// From the overlay to the local socket.
    pub down: AtomicU64,
}

/// Why a connection ended other than by both sides finishing.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The local side broke it.
    #[error("the local side: {0}")]
    Local(#[from] io::Error),
    /// The overlay side broke it.
    #[error("the far side: {0}")]
    Far(#[from] ChannelError),
}

/// A local stream socket.
pub trait Local: AsFd + Send + Sync {
    /// Waits until it may be read.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Reads what is there into the buffer's spare room; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there.
    fn try_read_buf(&self, buffer: &mut BytesMut) -> io::Result<usize>;
    /// Waits until it may be written.
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Writes as much as it takes.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Implements [`Local`] by the socket's own methods.
macro_rules! local {
    ($socket:ty) => {
        impl Local for $socket {
            fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
                Self::readable(self)
            }
            fn try_read_buf(&self, buffer: &mut BytesMut) -> io::Result<usize> {
                Self::try_read_buf(self, buffer)
            }
            fn writable(&self) -> impl Future<Output = io::Result<()>> + Send {
                Self::writable(self)
            }
            fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                Self::try_write_vectored(self, slices)
            }
        }
    };
}
local!(TcpStream);
local!(UnixStream);

/// Carries bytes both ways until both sides have finished or one breaks; then the other is reset.
///
/// # Errors
/// See [`Broken`]; both sides are closed already.
pub async fn pump(local: impl Local, channel: Channel, traffic: &Traffic) -> Result<(), Broken> {
    let Channel { mut reader, mut writer } = channel;
    let result =
        tokio::try_join!(upward(&local, &mut writer, &traffic.up), downward(&mut reader, &local, &traffic.down));
    match result {
        Ok(((), ())) => Ok(()),
        Err(broken) => {
            writer.reset();
            reset(&local);
            Err(broken)
        }
    }
}

/// Makes the next close of the socket a reset, where the socket knows such a thing (TCP).
pub fn reset(local: &impl AsFd) {
    let _ = SockRef::from(local).set_linger(Some(Duration::ZERO));
}

/// From the socket to the channel.
async fn upward(local: &impl Local, writer: &mut ChannelWriter, count: &AtomicU64) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    let mut room = READ_LEN_MIN;
    let mut steps = Steps::default();
    loop {
        local.readable().await?;
        // What is read holds its whole buffer until it is sent: no larger one where memory is short.
        room = room.min((writer.limit() / 4).max(READ_LEN_MIN));
        if buffer.capacity() < room / 2 {
            buffer.reserve(room);
        }
        let spare = buffer.capacity();
        match local.try_read_buf(&mut buffer) {
            Ok(0) => {
                writer.finish().await;
                return Ok(());
            }
            Ok(n) => {
                crate::lookout::note(n);
                count.fetch_add(n as u64, Ordering::Relaxed);
                if n == spare {
                    room = (room * 4).min(READ_LEN_MAX);
                } else if n < room / 8 {
                    room = (room / 2).max(READ_LEN_MIN);
                }
                writer.send(buffer.split().freeze()).await?;
                steps.carry(n).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => buffer = BytesMut::new(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        tokio::task::consume_budget().await;
    }
}

/// Chunks on their way to the socket.
type Chunks = SmallVec<[Bytes; CHUNKS_PER_WRITE_MAX]>;

/// From the channel to the socket.
async fn downward(reader: &mut ChannelReader, local: &impl Local, count: &AtomicU64) -> Result<(), Broken> {
    let mut chunks = Chunks::new();
    loop {
        let mut next = Some(reader.recv().await);
        let mut bytes = 0;
        let end = loop {
            match next {
                Some(Ok(Some(chunk))) => {
                    bytes += chunk.len();
                    chunks.push(chunk);
                }
                Some(Ok(None)) => break Some(Ok(())),
                Some(Err(error)) => break Some(Err(error)),
                None => break None,
            }
            if chunks.len() == CHUNKS_PER_WRITE_MAX || bytes >= WRITE_LEN_MAX {
                break None;
            }
            next = at_once(reader.recv()).await;
        };
        write_all(local, &mut chunks).await?;
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        match end {
            None => {}
            Some(Ok(())) => {
                // ENOTCONN here means that the program is gone already: nobody is left to tell.
                let _ = SockRef::from(local).shutdown(Shutdown::Write);
                return Ok(());
            }
            Some(Err(error)) => return Err(error.into()),
        }
        tokio::task::consume_budget().await;
    }
}

/// Writes all chunks in as few system calls as the socket allows, and empties the list.
async fn write_all(local: &impl Local, chunks: &mut Chunks) -> io::Result<()> {
    let mut first = 0;
    while first < chunks.len() {
        let slices: SmallVec<[IoSlice<'_>; CHUNKS_PER_WRITE_MAX]> =
            chunks[first..].iter().map(|chunk| IoSlice::new(chunk)).collect();
        let written = local.try_write_vectored(&slices);
        drop(slices);
        match written {
            Ok(0) if chunks[first..].iter().any(|chunk| !chunk.is_empty()) => {
                return Err(io::ErrorKind::WriteZero.into());
            }
            Ok(mut n) => {
                while first < chunks.len() && n >= chunks[first].len() {
                    n -= chunks[first].len();
                    first += 1;
                }
                if n > 0 {
                    chunks[first].advance(n);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => local.writable().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunks.clear();
    Ok(())
}

/// What the future gives without waiting; it is dropped otherwise.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Carries datagrams both ways between a connected socket and a channel of messages, until
/// the far side finishes or nothing came either way for [`DATAGRAM_IDLE`].
///
/// # Errors
/// The channel broke.
pub async fn pump_datagrams(local: UdpSocket, channel: Channel, traffic: &Traffic) -> Result<(), Broken> {
    let Channel { mut reader, mut writer } = channel;
    let mut buffer = BytesMut::new();
    let mut idle_at = Instant::now() + DATAGRAM_IDLE;
    loop {
        tokio::select! {
            message = reader.recv() => match message {
                Ok(Some(message)) => {
                    traffic.down.fetch_add(message.len() as u64, Ordering::Relaxed);
                    // Loss is what datagrams expect, from a service that is just restarting for one.
                    let _ = local.send(&message).await;
                }
                Ok(None) => break,
                Err(error) => return Err(error.into()),
            },
            ready = local.readable() => {
                if ready.is_ok() {
                    send_datagrams(&local, &mut writer, &mut buffer, &traffic.up).await?;
                }
            }
            () = sleep_until(idle_at) => break,
        }
        idle_at = Instant::now() + DATAGRAM_IDLE;
    }
    writer.finish().await;
    Ok(())
}

/// Sends every datagram that is there; drops what the channel has no room for.
async fn send_datagrams(
    local: &UdpSocket,
    writer: &mut ChannelWriter,
    buffer: &mut BytesMut,
    count: &AtomicU64,
) -> Result<(), ChannelError> {
    loop {
        buffer.reserve(DATAGRAM_LEN_MAX);
        match local.try_recv_buf(buffer) {
            Ok(n) if writer.room() > 0 => {
                crate::lookout::note(n);
                count.fetch_add(n as u64, Ordering::Relaxed);
                // A datagram rarely fills the room made for the largest: what is kept is its own size.
                let message = Bytes::copy_from_slice(buffer);
                buffer.clear();
                writer.send(message).await?;
            }
            Ok(_) => buffer.clear(),
            // The error of an earlier send (the service is not there): told once, then cleared by the kernel.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => {
                *buffer = BytesMut::new();
                return Ok(());
            }
        }
        tokio::task::consume_budget().await;
    }
}

#[cfg(test)]
mod tests;
