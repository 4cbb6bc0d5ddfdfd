//! Random bytes, truncations and bit flips to everything that reads what others wrote. Here: every
//! decoder. What runs inside a machine is with that machine's tests (`link::tests::fuzz`,
//! `session::established::tests::fuzz`, `node::tests::fuzz`): `cargo test -p tarnet-core fuzz`.
//!
//! A decoder gives a value or an error, never a panic. What it accepts encodes to the same bytes:
//! so a value holds no more than its bytes did, and nothing was allocated for a length that they
//! only claimed.

mod decoders;
pub(crate) mod engine;
pub(crate) mod samples;

/// The fuzz tests of the core, which share the time.
pub(crate) const TARGETS: u32 = 5;
