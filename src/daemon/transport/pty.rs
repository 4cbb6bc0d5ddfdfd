//! How another transport is added, as a test: links over a pseudo-terminal, as over a serial cable between two machines.
//! A transport is a [`Pipe`] and somebody who opens connections; everything above takes it as it takes TCP.
//!
//! Frames are behind a 2-byte length, little-endian. A hung-up terminal reads as EIO: the far end has closed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use tarnet_core::crypto::PeerId;
use tarnet_core::link::Pin;
use tarnet_core::rng::Rng;
use tarnet_core::session::{Mode, Port};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::*;
use crate::admin::AdminCall;
use crate::config::Settings;
use crate::engine::{Engine, Parts};
use crate::handle::{ConnectRequest, Decision, ListenRequest, NodeHandle, Target};
use crate::store::State;

/// Bytes read at once: what a terminal's queue holds.
const READ_LEN: usize = 4096;

/// One end of a pseudo-terminal as a pipe of frames.
struct PtyPipe(AsyncFd<OwnedFd>);

impl PtyPipe {
    /// Takes a terminal's end over: every byte passes as it is, and nothing blocks.
    #[allow(deprecated, reason = "its heir is unsafe; an OwnedFd stays open for as long as it is registered")]
    fn new(end: OwnedFd) -> io::Result<Self> {
        let mut mode = tcgetattr(&end)?;
        cfmakeraw(&mut mode);
        tcsetattr(&end, SetArg::TCSANOW, &mode)?;
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        AsyncFd::new(end).map(Self)
    }

    /// Both ends of a new terminal.
    fn pair() -> io::Result<(Self, Self)> {
        let pty = nix::pty::openpty(None, None)?;
        Ok((Self::new(pty.slave)?, Self::new(pty.master)?))
    }
}

impl Pipe for PtyPipe {
    type Reader = PtyReader;
    type Writer = PtyWriter;

    fn split(self) -> (PtyReader, PtyWriter) {
        let end = Arc::new(self.0);
        (PtyReader { end: Arc::clone(&end), buffer: BytesMut::new() }, PtyWriter { end })
    }
}

/// The reading half.
struct PtyReader {
    end: Arc<AsyncFd<OwnedFd>>,
    buffer: BytesMut,
}

impl PtyReader {
    /// The next frame, if all of it is there.
    fn cut(&mut self, len_max: usize) -> Result<Option<BytesMut>, PipeError> {
        let Some(prefix) = self.buffer.first_chunk::<2>() else { return Ok(None) };
        let len = usize::from(u16::from_le_bytes(*prefix));
        if len == 0 || len > len_max {
            return Err(PipeError::FrameLength(len));
        }
        if self.buffer.len() < 2 + len {
            return Ok(None);
        }
        self.buffer.advance(2);
        Ok(Some(self.buffer.split_to(len)))
    }
}

impl FrameRead for PtyReader {
    async fn read_frame(&mut self, len_max: usize) -> Result<Option<BytesMut>, PipeError> {
        loop {
            if let Some(frame) = self.cut(len_max)? {
                return Ok(Some(frame));
            }
            let mut bytes = [0; READ_LEN];
            let read = |end: &OwnedFd| match nix::unistd::read(end, &mut bytes) {
                Err(Errno::EIO) => Ok(0),
                other => other.map_err(io::Error::from),
            };
            match self.end.async_io(Interest::READABLE, read).await? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(PipeError::Truncated),
                n => self.buffer.extend_from_slice(&bytes[..n]),
            }
        }
    }
}

/// The writing half.
struct PtyWriter {
    end: Arc<AsyncFd<OwnedFd>>,
}

impl FrameWrite for PtyWriter {
    async fn write_frames(&mut self, frames: &mut Vec<BytesMut>) -> io::Result<()> {
        for frame in frames.drain(..) {
            let len = u16::try_from(frame.len()).map_err(io::Error::other)?;
            let mut rest = Bytes::from([&len.to_le_bytes(), frame.as_ref()].concat());
            while !rest.is_empty() {
                let write = |end: &OwnedFd| nix::unistd::write(end, &rest).map_err(io::Error::from);
                let n = self.end.async_io(Interest::WRITABLE, write).await?;
                rest.advance(n);
            }
        }
        Ok(())
    }

    async fn shutdown(&mut self) {}
}

/// A node of its own in this process, without any socket.
struct Machine {
    me: PeerId,
    node: NodeHandle,
    transport: Transport,
    folder: PathBuf,
    _stop: watch::Sender<bool>,
}

impl Machine {
    /// Starts a node whose state is new.
    async fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tarnet-pty-{}-{name}", std::process::id()));
        let state = State::open(&folder).unwrap();
        let clock = Clock::start();
        let config = Settings::defaults().config().unwrap();
        let loaded = crate::start::load(&config, &state.keys, &state.disk, clock.now()).await.unwrap();
        let (transport, conns) = Transport::new(clock);
        let dialler = Dialler::new(transport.clone(), 1, Rng::from_seed([1; 32]));
        let (node, requests) = NodeHandle::new();
        let (keys, disk) = (state.keys.clone(), state.disk.clone());
        let me = loaded.node.me();
        let pool = crate::channel::Pool::new(1 << 24);
        let parts = Parts { node: loaded.node, clock, dialler, keys, disk, requests, conns, peers: loaded.peers, pool };
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Engine::run(parts, loaded.identities, stopped));
        Self { me, node, transport, folder, _stop: stop }
    }

    /// The peers that it is linked to.
    async fn links(&self) -> Vec<String> {
        let (reply, answer) = oneshot::channel();
        self.node.control(AdminCall::Status(reply)).await.unwrap();
        answer.await.unwrap().unwrap().links.into_iter().map(|link| link.peer_id).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Bytes that tell where they belong.
fn pattern() -> Bytes {
    (0..300_000_usize).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

#[tokio::test]
async fn two_nodes_link_and_talk_over_a_pseudo_terminal() {
    let (alice, bob) = (Machine::start("alice").await, Machine::start("bob").await);
    let (ours, theirs) = PtyPipe::pair().unwrap();
    let nowhere = "0.0.0.0:0".parse().unwrap();
    alice.transport.start(theirs, Origin::Accepted(nowhere), ());
    bob.transport.start(ours, Origin::Dialled(nowhere, Pin::Required(alice.me)), ());
    let linked = async {
        while bob.links().await != [alice.me.to_string()] || alice.links().await != [bob.me.to_string()] {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), linked).await.expect("a link over the terminal");

    let (port, mode) = (Port::from(7), Mode::ReliableOrdered);
    let (allow, label) = (Vec::new(), None);
    let listen = ListenRequest {
        identity: "peer".into(),
        label,
        port: port.clone(),
        mode,
        allow,
        await_caller: false,
        connections_max: 0,
    };
    let mut listener = alice.node.listen(listen).await.unwrap();
    let echo = tokio::spawn(async move {
        let incoming = listener.incoming.recv().await.unwrap();
        let (deliver, delivered) = oneshot::channel();
        assert!(incoming.decide.send(Decision::Accept(deliver)).is_ok());
        let mut channel = delivered.await.unwrap();
        while let Some(chunk) = channel.reader.recv().await.unwrap() {
            channel.writer.send(chunk).await.unwrap();
        }
        channel.writer.finish().await;
    });
    let connect =
        ConnectRequest { acting: "default".into(), target: Target::Peer(alice.me), port, mode, early: Bytes::new() };
    let mut channel = timeout(Duration::from_secs(10), bob.node.connect(connect)).await.unwrap().unwrap();
    channel.writer.send(pattern()).await.unwrap();
    channel.writer.finish().await;
    let mut got = BytesMut::new();
    while let Some(chunk) = timeout(Duration::from_secs(20), channel.reader.recv()).await.unwrap().unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert!(got == pattern(), "{} bytes", got.len());
    echo.await.unwrap();
}
