//! Services of this machine on the overlay: `services.d/*.toml` become listeners, each
//! joined to a local socket, and announced through TNS.
//!
//! `file` reads one service file, [`Exposer`] keeps the running ones in step with the
//! folder, [`serve`] answers connections, [`publish`] the records in the zones.

mod exposer;
pub mod file;
pub mod proxy;
mod publish;
mod serve;

pub use exposer::Exposer;
pub use file::{FileError, LocalAddress, Protocol, Service};

use std::time::Duration;

/// Service files that are read. Beyond, the rest is reported and left out.
pub const SERVICES_MAX: usize = 1024;
/// Connections of all services together (INTERFACE.md, "A service file").
pub const CONNECTIONS_MAX: usize = 16_384;
/// How long the local service may take to accept.
pub const LOCAL_TIME_MAX: Duration = Duration::from_secs(10);
/// First pause before a service that could not start tries again; doubles.
pub const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause before a service that could not start tries again.
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a reload waits for services to come up, so that whoever asked sees how they do.
pub const SETTLE_TIME_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
