//! End-to-end sessions between two identities, and the channels inside them.

pub mod established;
mod terms;

pub use established::{CarrierId, ChannelId, Event, OpenRequest, Side};
pub use terms::{Mode, Port, PortError, Refusal};
