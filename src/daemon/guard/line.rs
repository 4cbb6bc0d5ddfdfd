//! Messages on a Unix socket: four bytes of length, JSON, and at most one descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Bytes of the longest message: all petnames, each of the longest kind.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Descriptors that may come with one read; all but the first are closed.
const DESCRIPTORS_MAX: usize = 4;

/// One end of a connection.
pub struct Line {
    stream: UnixStream,
    read: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl Line {
    /// Over a connected socket.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new(), descriptor: None }
    }

    /// Sends a message, with a descriptor or without.
    ///
    /// # Errors
    /// The far end is gone, or the message is too long.
    pub async fn send<T: Serialize>(&mut self, message: &T, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
        }
        let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_be_bytes();
        let raw: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let head = [IoSlice::new(&length)];
        let socket = self.stream.as_raw_fd();
        let sent = self.stream.async_io(Interest::WRITABLE, || {
            Ok(sendmsg::<UnixAddr>(socket, &head, rights, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT, None)?)
        });
        let sent = sent.await?;
        self.stream.write_all(&length[sent..]).await?;
        self.stream.write_all(&body).await
    }

    /// The next message and the descriptor that came with it; `None` when the far end is gone. Cancel-safe.
    ///
    /// # Errors
    /// The message is too long or no message, or the socket fails.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some((message, self.descriptor.take())));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// A message that is there in full.
    fn whole<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((head, rest)) = self.read.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.read.drain(..4 + length);
        Ok(Some(message))
    }

    /// Reads on. False at the end.
    async fn more(&mut self) -> io::Result<bool> {
        let socket = self.stream.as_raw_fd();
        let (read, kept) = (&mut self.read, &mut self.descriptor);
        let receive = || {
            let mut bytes = vec![0; READ_BYTES];
            let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            let received = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut space), flags)?;
            for message in received.cmsgs()? {
                let ControlMessageOwned::ScmRights(descriptors) = message else { continue };
                for number in descriptors {
                    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
                    #[allow(unsafe_code)]
                    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                    kept.get_or_insert(descriptor);
                }
            }
            let length = received.bytes;
            read.extend_from_slice(&bytes[..length]);
            Ok(length)
        };
        Ok(self.stream.async_io(Interest::READABLE, receive).await? > 0)
    }
}
