//! The words of the table's interface.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::crypto::{PeerId, ServiceId};
use crate::session::{CarrierId, ChannelId, ListenerId, Owner, Refusal};
use crate::wire::path::{Avoid, SetupId};

/// One session of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One channel of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelRef {
    /// Its session.
    pub session: SessionId,
    /// Its number there.
    pub channel: ChannelId,
}

/// One request to connect, named by whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectId(pub u64);

/// Who acts in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acting {
    /// One of our identities, which the session proves to its responder.
    Identity(ServiceId),
    /// Nobody in particular.
    Anonymous,
}

/// Why a circuit that was asked for does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitFailure {
    /// There is no way to the node.
    NoRoute,
    /// Nobody answered.
    Timeout,
    /// The node answered that it does not want it.
    Rejected,
}

/// Why a connect failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no way to the node.
    #[error("no route to the node")]
    NoRoute,
    /// Nobody answered in time.
    #[error("no answer in time")]
    Timeout,
    /// The node does not take sessions under that descriptor: look it up again, past the cache.
    #[error("the node does not take sessions under that descriptor")]
    Rejected,
    /// The descriptor's keys must not be used.
    #[error("the descriptor is unusable")]
    BadDescriptor,
    /// The acting identity does not exist here.
    #[error("no such identity")]
    UnknownIdentity,
    /// A bound of our own was reached.
    #[error("too many connections")]
    TooMany,
}

/// Session keys to keep over a restart. Secret: never printed, wiped on drop.
pub struct SavedKeys(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for SavedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SavedKeys(…)")
    }
}

/// Something the node must do or pass on. Poll after every other call.
#[derive(Debug)]
pub enum Event {
    /// Build a circuit; answer with `handle_circuit_opened` or `handle_circuit_failed`.
    NeedCircuit {
        /// What it will be called here.
        carrier: CarrierId,
        /// Where to; may be this very node.
        node: PeerId,
        /// The set-up's id, fresh.
        setup: SetupId,
        /// Set-ups of the same session whose ways to keep away from.
        avoid: Avoid,
        /// What to carry there.
        blob: Bytes,
        /// Hash of what the true destination reveals.
        proof_hash: [u8; 32],
    },
    /// Tear a circuit down, or stop building it. It is forgotten here.
    CloseCircuit {
        /// Which.
        carrier: CarrierId,
    },
    /// The descriptor to publish changed: see [`super::Sessions::descriptor`].
    DescriptorChanged {
        /// Whose.
        owner: Owner,
    },
    /// Write down session keys before the descriptor is published.
    Persist {
        /// Whose.
        owner: Owner,
        /// What to give back after a restart.
        keys: SavedKeys,
    },
    /// Delete the session keys written down.
    Forget {
        /// Whose.
        owner: Owner,
    },
    /// A connect succeeded.
    Opened {
        /// Which.
        connect: ConnectId,
        /// Its channel.
        channel: ChannelRef,
    },
    /// The far side said no to a connect.
    Refused {
        /// Which.
        connect: ConnectId,
        /// Why.
        why: Refusal,
    },
    /// A connect failed before the far side could say anything.
    Failed {
        /// Which.
        connect: ConnectId,
        /// Why.
        why: Failure,
    },
    /// Somebody opens a channel: answer with `accept` or `refuse`.
    Incoming {
        /// The channel.
        channel: ChannelRef,
        /// Whom it is for.
        listener: ListenerId,
        /// Who calls, if it has proven that by now.
        caller: Option<ServiceId>,
    },
    /// There is something to read where there was nothing.
    Readable(ChannelRef),
    /// There is room to write where there was too little.
    Writable(ChannelRef),
    /// Everything up to the far side's FIN has been read.
    Finished(ChannelRef),
    /// The far side reads no more.
    Stopped(ChannelRef),
    /// The channel broke and is gone.
    Reset {
        /// The channel.
        channel: ChannelRef,
        /// No way was found for too long, as opposed to a reset by the far side.
        lost: bool,
    },
    /// Both sides finished and all is delivered; the channel is gone.
    Closed(ChannelRef),
}

/// What to do with a path set-up from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Accept the path with this answer and proof.
    Accept {
        /// The answer.
        blob: Bytes,
        /// What the set-up's hash is of.
        reveal: [u8; 32],
    },
    /// Not for us, not any more, or too much: reject it, always in the same way.
    Ignore,
}

/// A session, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// Which.
    pub session: SessionId,
    /// Whom it was opened to: the far side if we are the initiator, else ourselves.
    pub owner: Owner,
    /// Who acts in it: our identity if we are the initiator, else the proven caller.
    pub acting: Acting,
    /// Whether we opened it.
    pub initiator: bool,
    /// Its channels.
    pub channels: usize,
    /// Circuits that carry it now.
    pub carriers: usize,
    /// Round-trip time of the best of them.
    pub rtt: Option<Duration>,
}

/// What was dropped, and what went wrong. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Path set-ups that were for none of our keys, malformed, or replayed.
    pub ignored: u64,
    /// First messages dropped because answering costs too much already.
    pub overloaded: u64,
    /// Half-open sessions dropped for newer ones.
    pub half_open_dropped: u64,
    /// Idle sessions dropped for newer ones.
    pub idle_dropped: u64,
    /// Answers to our handshakes and resumptions that were not authentic.
    pub bad_answers: u64,
    /// Identity proofs that did not hold.
    pub bad_proofs: u64,
    /// Packets that did not open, or came on unknown circuits.
    pub bad_packets: u64,
    /// Channels refused at a bound.
    pub channels_refused: u64,
    /// Channels broken off because all together held too much.
    pub broken_for_memory: u64,
}
