//! TCP as a pipe: every frame behind a 2-byte length, little-endian. Also over anything
//! else that reads and writes bytes in order, so that tests can use a pipe in memory.
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 2 | length of the frame, 1 to 65,535 |
//! | length | the frame |
//!
//! Frames are cut out of the read buffer without a copy; the buffer grows with traffic
//! and shrinks when it is quiet, so that idle links cost little.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use bytes::{Buf, BytesMut};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use smallvec::SmallVec;
use socket2::{SockRef, TcpKeepalive};
use tarnet_core::link::limits::{UNSENT_MAX, UNSENT_MIN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::limits::{FRAMES_PER_WRITE_MAX, KEEPALIVE_IDLE, READ_LEN_MAX, READ_LEN_MIN, READS_SMALL_MAX, SENT_LEN_MAX};
use super::pipe::{FrameRead, FrameWrite, Pipe, PipeError};

/// A congestion control that paces.
const PACING: &[u8] = b"bbr";
/// One that does not, and that every process may use. tcp(7), TCP_CONGESTION
const UNPACED: &[u8] = b"reno";
/// Bytes of the length before a frame.
const PREFIX_LEN: usize = 2;

/// A byte stream as a pipe of frames.
pub struct TcpPipe<R = OwnedReadHalf, W = OwnedWriteHalf> {
    reader: R,
    writer: W,
}

impl TcpPipe {
    /// Takes over a connected socket and sets its options: no delay, few unsent bytes, keep-alive, and where
    /// there is a bound, how many received bytes the kernel holds.
    #[must_use]
    pub fn new(stream: TcpStream, received_max: Option<usize>) -> Self {
        if let Err(error) = set_options(&stream, received_max) {
            tracing::debug!(%error, "a TCP option could not be set");
        }
        let (reader, writer) = stream.into_split();
        Self { reader, writer }
    }
}

impl<R, W> TcpPipe<R, W> {
    /// A pipe over any two halves.
    pub const fn over(reader: R, writer: W) -> Self {
        Self { reader, writer }
    }
}

/// The writing half of a byte stream, as far as it can say what the system holds unsent.
pub trait SendSide: AsyncWrite + Unpin + Send + Sync + 'static {
    /// Bounds it.
    fn hold_unsent(&self, _len: u32) {}

    /// What the system controls congestion with.
    fn congestion(&self) -> Option<Vec<u8>> {
        None
    }

    /// Has it use another.
    fn set_congestion(&self, _name: &[u8]) {}

    /// Waits until it is below the bound.
    fn sent(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

impl<T: AsyncWrite + Unpin + Send + Sync + 'static> SendSide for tokio::io::WriteHalf<T> {}

impl SendSide for tokio::io::Sink {}

impl SendSide for OwnedWriteHalf {
    /// TCP_NOTSENT_LOWAT: the socket is writable below half of it. tcp(7)
    fn hold_unsent(&self, len: u32) {
        if let Err(error) = SockRef::from(self.as_ref()).set_tcp_notsent_lowat(len) {
            tracing::debug!(%error, "the bound of unsent bytes could not be set");
        }
    }

    fn congestion(&self) -> Option<Vec<u8>> {
        SockRef::from(self.as_ref()).tcp_congestion().ok()
    }

    fn set_congestion(&self, name: &[u8]) {
        if let Err(error) = SockRef::from(self.as_ref()).set_tcp_congestion(name) {
            tracing::debug!(%error, "the congestion control could not be changed");
        }
    }

    /// The runtime believes a socket to be writable until a write fails; only the kernel knows.
    async fn sent(&self) {
        loop {
            let stream: &TcpStream = self.as_ref();
            let asked = stream.try_io(Interest::WRITABLE, || {
                if is_writable(stream) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            });
            if !asked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) || stream.writable().await.is_err()
            {
                return;
            }
        }
    }
}

/// Whether the kernel takes more right now, or has an error to report. Asking makes it tell the runtime when it does.
fn is_writable(stream: &TcpStream) -> bool {
    let mut asked = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO) != Ok(0)
}

/// Sets the options that every connection of ours has.
fn set_options(stream: &TcpStream, received_max: Option<usize>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if let Some(len) = received_max {
        socket.set_recv_buffer_size(len)?;
    }
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
    // Needs CAP_NET_ADMIN, which the daemon has for its device; without it the kernel's own bound stays.
    if let Err(error) = setsockopt(stream, sockopt::SndBufForce, &(SENT_LEN_MAX / 2)) {
        tracing::debug!(%error, "the kernel keeps its own bound of bytes under way");
    }
    socket.set_tcp_notsent_lowat(UNSENT_MIN)
}

impl<R, W> Pipe for TcpPipe<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: SendSide,
{
    type Reader = StreamReader<R>;
    type Writer = StreamWriter<W>;

    fn split(self) -> (Self::Reader, Self::Writer) {
        let reader = StreamReader { stream: self.reader, buffer: BytesMut::new(), room: READ_LEN_MIN, small: 0 };
        (reader, StreamWriter { stream: self.writer, slow: true, paced: None })
    }
}

/// Cuts frames out of a byte stream.
pub struct StreamReader<R> {
    stream: R,
    buffer: BytesMut,
    /// Bytes to make room for per read.
    room: usize,
    /// Small reads in a row.
    small: u32,
}

impl<R: AsyncRead + Unpin> StreamReader<R> {
    /// Cuts the next whole frame, if it is there; else says how many bytes it will have, prefix included.
    fn cut(&mut self, len_max: usize) -> Result<Result<BytesMut, usize>, PipeError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_LEN>() else { return Ok(Err(PREFIX_LEN)) };
        let len = usize::from(u16::from_le_bytes(*prefix));
        if len == 0 || len > len_max {
            return Err(PipeError::FrameLength(len));
        }
        if self.buffer.len() < PREFIX_LEN + len {
            return Ok(Err(PREFIX_LEN + len));
        }
        self.buffer.advance(PREFIX_LEN);
        Ok(Ok(self.buffer.split_to(len)))
    }

    /// Reads what is there, at least until a frame of `wanted` bytes may be whole; false at the end.
    async fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let missing = wanted.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.max(self.room / 2) {
            self.buffer.reserve(missing.max(self.room));
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let n = self.stream.read_buf(&mut self.buffer).await?;
        self.adapt(n, room);
        Ok(n > 0)
    }

    /// Grows the room after a read that filled it, shrinks it after many small ones.
    fn adapt(&mut self, n: usize, room: usize) {
        if n == room {
            self.room = (self.room * 4).min(READ_LEN_MAX);
            self.small = 0;
        } else if n >= self.room / 8 {
            self.small = 0;
        } else {
            self.small += 1;
            if self.small >= READS_SMALL_MAX {
                self.small = 0;
                self.room = (self.room / 2).max(READ_LEN_MIN);
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
            }
        }
    }
}

impl<R: AsyncRead + Unpin + Send + 'static> FrameRead for StreamReader<R> {
    async fn read_frame(&mut self, len_max: usize) -> Result<Option<BytesMut>, PipeError> {
        loop {
            let wanted = match self.cut(len_max)? {
                Ok(frame) => return Ok(Some(frame)),
                Err(wanted) => wanted,
            };
            if !self.fill(wanted).await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(PipeError::Truncated) };
            }
        }
    }
}

/// Writes frames to a byte stream.
pub struct StreamWriter<W> {
    stream: W,
    /// The link is slow: what was written counts as sent only when the kernel has sent most of it, so that what comes
    /// next is decided as late as can be.
    slow: bool,
    /// What spaced out what is sent, while bursts may be.
    paced: Option<Vec<u8>>,
}

impl<W: SendSide> StreamWriter<W> {
    /// BBR sends by a timer, a few segments at a time; on a short and fast link that costs both ends a seventh of their
    /// processor and spares nobody a queue. What does not pace is left alone.
    fn allow_bursts(&mut self, bursts: bool) {
        if let Some(paced) = self.paced.take_if(|_| !bursts) {
            self.stream.set_congestion(&paced);
        } else if bursts && self.paced.is_none() {
            self.paced = self.stream.congestion().filter(|name| name.starts_with(PACING));
            if self.paced.is_some() {
                self.stream.set_congestion(UNPACED);
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> StreamWriter<W> {
    /// Writes up to [`FRAMES_PER_WRITE_MAX`] frames with as few system calls as the socket allows.
    async fn write_some(&mut self, frames: &[BytesMut]) -> io::Result<()> {
        let prefix = |frame: &BytesMut| u16::try_from(frame.len()).map(u16::to_le_bytes);
        let prefixes: SmallVec<[[u8; PREFIX_LEN]; FRAMES_PER_WRITE_MAX]> = frames
            .iter()
            .map(prefix)
            .collect::<Result<_, _>>()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a frame is longer than 65,535 bytes"))?;
        let mut slices: SmallVec<[IoSlice<'_>; 2 * FRAMES_PER_WRITE_MAX]> = SmallVec::new();
        for (prefix, frame) in prefixes.iter().zip(frames) {
            slices.push(IoSlice::new(prefix));
            slices.push(IoSlice::new(frame));
        }
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match self.stream.write_vectored(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => IoSlice::advance_slices(&mut rest, n),
            }
        }
        Ok(())
    }
}

impl<W: SendSide> FrameWrite for StreamWriter<W> {
    async fn write_frames(&mut self, frames: &mut Vec<BytesMut>) -> io::Result<()> {
        for some in frames.chunks(FRAMES_PER_WRITE_MAX) {
            self.write_some(some).await?;
        }
        frames.clear();
        if self.slow {
            self.stream.sent().await;
        }
        Ok(())
    }

    fn hold_unsent(&mut self, len: u32, bursts: bool) {
        self.slow = len < UNSENT_MAX;
        self.stream.hold_unsent(len);
        self.allow_bursts(bursts);
    }

    async fn shutdown(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};

    use super::*;

    /// A socket that swallows everything, and says what it was set to.
    struct Socket(Arc<Mutex<Vec<u8>>>);

    impl AsyncWrite for Socket {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl SendSide for Socket {
        fn congestion(&self) -> Option<Vec<u8>> {
            Some(self.0.lock().unwrap().clone())
        }

        fn set_congestion(&self, name: &[u8]) {
            *self.0.lock().unwrap() = name.to_vec();
        }
    }

    /// What a socket of that congestion control has after each of the words of the link.
    fn after(first: &[u8], words: &[bool]) -> Vec<Vec<u8>> {
        let name = Arc::new(Mutex::new(first.to_vec()));
        let mut writer = StreamWriter { stream: Socket(name.clone()), slow: true, paced: None };
        let mut say = |bursts: &bool| {
            writer.hold_unsent(UNSENT_MAX, *bursts);
            name.lock().unwrap().clone()
        };
        words.iter().map(&mut say).collect()
    }

    #[test]
    fn what_paces_is_put_aside_while_bursts_may_be_and_comes_back() {
        assert_eq!(
            after(b"bbr2", &[false, true, true, false, true]),
            [&b"bbr2"[..], b"reno", b"reno", b"bbr2", b"reno"]
        );
        assert_eq!(after(b"cubic", &[true, false]), [b"cubic", b"cubic"]);
    }
}
