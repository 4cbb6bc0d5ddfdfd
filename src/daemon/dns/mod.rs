//! The DNS responder: names of the overlay become synthetic addresses.
//!
//! It answers on the link's second address, inside the daemon (`tun::udp`, `tun::tcp`),
//! and on the extra host addresses of `dns.listen`. `answer` is the codec's side,
//! `responder` decides, `stream` frames it over TCP, `listen` holds the host's sockets.
//! Telling the host's own resolver of us is deliberately not here: see [`Mode`].

mod answer;
mod listen;
pub mod names;
mod responder;
pub mod stream;

use std::net::SocketAddr;
use std::str::FromStr;

pub use listen::DnsHandle;
pub use responder::{Responder, Transport};

/// What the responder is to be; the `[dns]` section of the configuration.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// How the host is told.
    pub mode: Mode,
    /// The suffix under which every name also works, as `tarnet.alt`.
    pub suffix: String,
    /// Host addresses to answer on besides the link's.
    pub listen: Vec<SocketAddr>,
    /// Life of positive answers, seconds.
    pub ttl_s: u32,
}

/// How the host's resolver is told of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whatever the host has. Nothing is wired yet: it acts as `off`, and says so.
    Auto,
    /// The host is left alone; the responder answers whoever asks it.
    Off,
}

/// A mode that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// Known, but not built.
    #[error(
        "dns.mode {0:?} is not supported yet; use \"auto\" or \"off\", and point the host's resolver at the link's second address"
    )]
    NotYet(String),
    /// Unknown.
    #[error(
        "dns.mode {0:?}: it is one of \"auto\", \"resolved\", \"networkmanager\", \"resolvconf\", \"direct\", \"off\""
    )]
    Unknown(String),
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "resolved" | "networkmanager" | "resolvconf" | "direct" => Err(ModeError::NotYet(text.into())),
            _ => Err(ModeError::Unknown(text.into())),
        }
    }
}

impl Mode {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }

    /// What it means on this host, for `tarnet dns status`.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Auto => "the host's resolver is left alone: wiring it is not supported yet, so auto acts as off",
            Self::Off => "the host's resolver is left alone, as configured",
        }
    }
}
