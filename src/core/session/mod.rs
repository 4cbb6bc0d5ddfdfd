//! End-to-end sessions between two identities, and the channels inside them.

mod descriptor;
pub mod established;
mod handshake;
mod keys;
mod listeners;
mod proof;
pub mod table;
mod terms;

pub use crate::wire::session_handshake::{Descriptor, Owner};
pub use descriptor::DescriptorError;
pub use established::{CarrierId, ChannelId, Established, Event, OpenRequest, Secrets, Side};
pub use handshake::HandshakeError;
pub use listeners::{LISTENERS_MAX, Listen, ListenError, ListenerId};
pub use table::{
    Acting, ChannelRef, CircuitFailure, ConnectId, Incoming, SavedKeys, SessionId, SessionStatus, Sessions,
    TooManyIdentities,
};
pub use terms::{Mode, ModeError, Port, PortError, Refusal};
