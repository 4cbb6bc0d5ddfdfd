//! Transports: dumb pipes for frames (PROTOCOL.md §2). A connection is a reading and a
//! writing task of its own, which open and seal its frames, so that the cryptography of
//! different links runs on different cores. They talk to the task that owns the node by
//! bounded queues: [`ConnEvent`] to it, [`ConnHandle`] from it. No transport knows what
//! it carries.
//!
//! [`Transport`] starts connections over any [`Pipe`]; [`tcp`] is the pipe over TCP;
//! [`listen`] accepts; [`dial`] keeps a retry loop per target; [`mdns`] finds neighbours
//! on the local network. WebSocket and WebRTC are not there yet.

mod backoff;
mod clock;
mod conn;
mod connect;
pub mod dial;
mod download;
pub mod limits;
pub mod listen;
pub mod mdns;
mod offered;
mod pipe;
mod read;
pub mod tcp;
mod write;

pub use clock::Clock;
pub(crate) use conn::AbortOnDrop;
pub use conn::{CloseReason, ConnEvent, ConnHandle, FrameOpener, FrameSealer, Origin, Transport};
pub use connect::{ConnectError, connect_host, look_up};
pub use dial::{DialError, Dialler};
pub use pipe::{FrameRead, FrameWrite, Pipe, PipeError};
pub use tcp::TcpPipe;

#[cfg(test)]
mod pty;
#[cfg(test)]
mod tests;
