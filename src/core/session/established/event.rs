//! What an established session tells the layer above, and the words of its interface.

use bytes::Bytes;

use crate::session::{Mode, Port, Refusal};

/// What carries a session: a path or circuit, named by whoever adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CarrierId(pub u64);

/// One channel within one session; even ones were opened by the session's initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u64);

/// Which end of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Sent the first message; builds the carriers and keeps them alive.
    Initiator,
    /// Answered it.
    Responder,
}

/// What the opener of a channel asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// The port to reach.
    pub port: Port,
    /// The label that was dialled in front of the identity's name, if any; at most 255 bytes.
    pub label: Option<String>,
    /// How the channel delivers.
    pub mode: Mode,
    /// First data: for `ro` the first bytes of the stream, else the first message if not empty. At most 8 KiB.
    pub early: Bytes,
}

/// Why a reset happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetCause {
    /// The far side reset the channel.
    Peer,
    /// No carrier worked for too long, or the session closed under it.
    Lost,
}

/// Something the layer above must know. Poll after every other call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer opens a channel: answer with `accept` or `refuse`. First data is already readable once accepted.
    Incoming {
        /// The new channel.
        channel: ChannelId,
        /// What it asks for; its `early` is empty here and comes out of `read`.
        open: OpenRequest,
    },
    /// Our channel was accepted.
    Opened(ChannelId),
    /// Our channel was refused and is gone.
    Refused {
        /// The channel.
        channel: ChannelId,
        /// Why.
        why: Refusal,
    },
    /// There is something to read where there was nothing.
    Readable(ChannelId),
    /// There is room to write where there was too little.
    Writable(ChannelId),
    /// Everything up to the peer's FIN has been read.
    Finished(ChannelId),
    /// The peer reads no more; what is written is discarded.
    Stopped(ChannelId),
    /// The channel broke and is gone.
    Reset {
        /// The channel.
        channel: ChannelId,
        /// Why.
        cause: ResetCause,
    },
    /// Both sides finished and all is delivered; the channel is gone.
    Closed(ChannelId),
    /// The peer's proof of its identity.
    Proof(Bytes),
    /// A carrier stopped answering; its frames travel again on the next one.
    CarrierDead(CarrierId),
    /// A carrier has not answered two probes, and there is no other: one is wanted, whatever becomes of this.
    CarrierSilent(CarrierId),
    /// No channel was open for a minute.
    Idle,
    /// No carrier worked for two minutes: the state may go.
    Expired,
    /// The session ended: by the peer, or because the peer misbehaved.
    SessionClosed(CloseCode),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseCode {
    /// It was no longer needed.
    #[error("closed")]
    Done,
    /// The other side broke the protocol.
    #[error("protocol violation")]
    Violation,
}

impl CloseCode {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Violation => 1,
        }
    }

    /// The code of a byte on the wire; an unknown one is a violation.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            _ => Self::Violation,
        }
    }
}
