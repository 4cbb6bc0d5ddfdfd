//! Why a connection never became a link, or stopped being one. Sorted by blame.

use crate::crypto::PeerId;
use crate::wire;

/// The end of a connection, or of the attempt at one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Malformed: bytes that are not the message that was due.
    #[error("malformed: {0}")]
    Malformed(#[from] wire::Error),
    /// Malformed: an authenticated peer sent a batch that is none.
    #[error("the peer sent a malformed batch: {0}")]
    Garbage(wire::Error),

    /// Misbehaved: a sealed proof that does not open. Someone in between, another network key, or damage.
    #[error("the peer's proof does not open (another network key, or someone in between)")]
    NotAuthentic,
    /// Misbehaved: a proof whose signature does not hold.
    #[error("the peer's signature does not hold")]
    BadSignature,
    /// Misbehaved: a key share that must not be used.
    #[error("the peer's key share is unusable: {0}")]
    BadShare(#[from] crate::crypto::AgreementError),
    /// Misbehaved: the responder chose what was not offered.
    #[error("the peer chose something that was not offered")]
    NotOffered,
    /// Misbehaved: a peer that has the hybrid key agreement came without it.
    #[error("{0} has post-quantum key agreement and came without it")]
    Downgrade(PeerId),
    /// Misbehaved: a frame that is not authentic, out of order, or empty.
    #[error("a frame is not authentic")]
    BadFrame,

    /// Incompatible: a first message for somebody else, and strangers are not answered.
    #[error("the first message does not know our id")]
    Stranger,
    /// Incompatible: no common version, group, AEAD or signature scheme.
    #[error("nothing in common with the peer: {0}")]
    NothingInCommon(&'static str),
    /// Incompatible: another peer answered than the pinned one.
    #[error("expected {expected}, but {found} answered")]
    PinMismatch {
        /// Who was pinned.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// Incompatible: another peer answered than the hint said. Dial again as a new peer.
    #[error("the address was {expected}'s, now {found} answers there")]
    HintMismatch {
        /// Who was hinted at.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },

    /// Misuse: the connection leads to ourselves.
    #[error("the address leads to ourselves")]
    SelfLink,
    /// Misuse: there is a live link to that peer already.
    #[error("already linked to {0}")]
    AlreadyLinked(PeerId),

    /// Limit reached: too many handshakes from that source.
    #[error("too many handshakes from that source")]
    RateLimited,
    /// Limit reached: too many handshakes at once.
    #[error("too many handshakes at once")]
    HalfOpenFull,
    /// Limit reached: the configured number of links.
    #[error("as many links as configured")]
    TooManyLinks,
    /// Limit reached: the peer does not take our control messages in time.
    #[error("control messages pile up")]
    ControlOverflow,
    /// Limit reached: the handshake took too long.
    #[error("the handshake took too long")]
    TimedOut,

    /// The peer said nothing for too long.
    #[error("the peer is silent")]
    Silent,
    /// The transport closed.
    #[error("the transport closed")]
    Closed,
    /// Another connection to the same peer took its place.
    #[error("replaced by another connection to the same peer")]
    Replaced,
    /// The peer closed the link and said why.
    #[error("the peer closed the link: {0}")]
    Bye(Bye),
    /// Our side was asked to close it.
    #[error("closed on request")]
    Asked,
}

/// Why a peer closes a link, one byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bye {
    /// It was asked to, or shuts down.
    #[error("it was asked to")]
    Asked,
    /// It has as many links as it wants.
    #[error("it has too many links")]
    TooManyLinks,
    /// It keeps another connection to us.
    #[error("it keeps another connection")]
    Replaced,
    /// It did not understand us.
    #[error("it did not understand us")]
    Garbage,
    /// A reason of a later version.
    #[error("reason {0}")]
    Other(u8),
}

impl Bye {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Asked => 1,
            Self::TooManyLinks => 2,
            Self::Replaced => 3,
            Self::Garbage => 4,
            Self::Other(code) => code,
        }
    }

    /// The reason of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Asked,
            2 => Self::TooManyLinks,
            3 => Self::Replaced,
            4 => Self::Garbage,
            other => Self::Other(other),
        }
    }
}
