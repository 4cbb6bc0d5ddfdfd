//! One established session: packets, loss recovery, congestion control and channels.

mod event;
pub mod limits;

pub use event::{CarrierId, ChannelId, Event, OpenRequest, ResetCause, Side};

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
