//! SOCKS5 (RFC 1928, RFC 1929): programs that speak it reach the overlay by name. The user
//! name is the acting identity; the password is ignored. CONNECT only.
//!
//! [`codec`] parses and writes messages and knows no socket; [`Front`] serves. BIND, UDP
//! ASSOCIATE and GSSAPI are deliberately missing.

pub mod codec;
mod server;
mod target;

pub use server::Front;
pub use target::{AddressBook, NoAddresses, Owner};

use std::time::Duration;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 16_384;
/// How long a program may take from its first byte to its request.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of the longest message: a user name and a password.
pub const MESSAGE_LEN_MAX: usize = 513;

#[cfg(test)]
mod tests;
