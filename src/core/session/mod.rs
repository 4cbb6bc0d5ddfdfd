//! End-to-end sessions between two identities, and the channels inside them.

mod terms;

pub use terms::{Mode, Port, PortError, Refusal};
