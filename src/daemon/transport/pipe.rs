//! What a transport is: something that reads and writes whole frames.

use std::future::Future;
use std::io;

use bytes::BytesMut;

/// Why a pipe ended.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// The operating system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer sent a frame of no length or longer than allowed here.
    #[error("the peer sent a frame of {0} bytes")]
    FrameLength(usize),
    /// The peer closed in the middle of a frame.
    #[error("the peer closed in the middle of a frame")]
    Truncated,
}

/// The reading half.
pub trait FrameRead: Send + 'static {
    /// The next frame, at most `len_max` bytes; `None` when the peer has closed.
    fn read_frame(&mut self, len_max: usize) -> impl Future<Output = Result<Option<BytesMut>, PipeError>> + Send;
}

/// The writing half.
pub trait FrameWrite: Send + 'static {
    /// Writes all of `frames` in order and empties it. Each has 1 to 65,535 bytes.
    fn write_frames(&mut self, frames: &mut Vec<BytesMut>) -> impl Future<Output = io::Result<()>> + Send;

    /// Bounds the bytes that were written and that the system has not sent, where it can; and says whether the system
    /// may send in bursts.
    fn hold_unsent(&mut self, _len: u32, _bursts: bool) {}

    /// Tells the peer that no more will come.
    fn shutdown(&mut self) -> impl Future<Output = ()> + Send;
}

/// A connection that carries frames.
pub trait Pipe: Send + 'static {
    /// Its reading half.
    type Reader: FrameRead;
    /// Its writing half.
    type Writer: FrameWrite;

    /// Both halves, for two tasks.
    fn split(self) -> (Self::Reader, Self::Writer);
}
