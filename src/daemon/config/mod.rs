//! Settings of the daemon: `tarnetd.toml`, `TARNET_*` variables and flags become one
//! [`Config`] of parsed types. [`keys`] is the one table of all keys, with defaults and
//! comments; precedence is flag, variable, file, default.
//!
//! A setting that restricts or hides and is not there yet is refused, never ignored.

mod error;
mod flags;
mod keys;
mod load;
mod paths;
pub mod raw;
mod types;
pub mod units;
mod uri;

pub use error::{Error, Origin};
pub use flags::Flags;
pub use load::{Environment, Settings};
pub use paths::{PathError, Paths};
pub use types::{
    Bench, Bootstrap, Config, Dns, DnsMode, Expose, Link, Log, Metrics, NetworkKey, Node, Padding, Prefix, Socks,
    Switch, Tcp, Tun, WebRtc, WebSocket,
};
pub use uri::{Host, PORT_DEFAULT, PeerUri, Scheme, UriError};

#[cfg(test)]
mod tests;
