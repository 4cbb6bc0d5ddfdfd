//! The DNS responder: names of the overlay become synthetic addresses.
//!
//! It answers on the link's second address, inside the daemon (`tun::udp`, `tun::tcp`),
//! and on the extra host addresses of `dns.listen`. `answer` is the codec's side,
//! `responder` decides, `forward` asks others where we are the host's resolver, `stream`
//! frames it over TCP, `listen` holds the host's sockets, `host` tells the host of us.

pub mod answer;
pub mod forward;
pub mod host;
mod listen;
pub mod names;
mod responder;
pub mod stream;

use std::net::SocketAddr;

pub use listen::DnsHandle;
pub use responder::{Responder, Transport};

/// What the responder is to be; the `[dns]` section of the configuration.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// The suffix under which every name also works, as `tarnet.alt`.
    pub suffix: String,
    /// Host addresses to answer on besides the link's.
    pub listen: Vec<SocketAddr>,
    /// Life of positive answers, seconds.
    pub ttl_s: u32,
}
