//! The block that the daemon prints at start.

use std::fmt::Display;

use crate::config::{Config, Paths};

/// What the settings alone do not say.
pub struct Facts<'a> {
    /// ServiceId of the default identity.
    pub address: &'a str,
    /// The machine's id.
    pub peer_id: &'a str,
    /// The TUN, in words.
    pub tun: String,
    /// The DNS responder, in words.
    pub dns: String,
    /// Addresses of the SOCKS5 proxy.
    pub socks: Vec<String>,
}

/// Items separated by commas, or a word for none.
fn list<T: Display>(items: &[T], none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The whole block.
#[must_use]
pub fn banner(config: &Config, paths: &Paths, facts: &Facts<'_>) -> String {
    let on = |yes: bool| if yes { "enabled" } else { "disabled" };
    let rows = [
        ("Address", facts.address.to_owned()),
        ("PeerId", facts.peer_id.to_owned()),
        ("Data", paths.state_dir.display().to_string()),
        ("Config", paths.config.display().to_string()),
        ("TCP", list(&config.tcp.listen, "not listening")),
        ("Public", list(&config.tcp.advertise, "not advertised")),
        ("Links", format!("max {} inbound, {} outbound", config.node.max_inbound, config.node.max_outbound)),
        ("Bandwidth", "up unlimited / down unlimited".to_owned()),
        ("mDNS", on(config.bootstrap.mdns).to_owned()),
        ("IPC", paths.socket.display().to_string()),
        ("SOCKS5", list(&facts.socks, "disabled")),
        ("TUN", facts.tun.clone()),
        ("DNS", facts.dns.clone()),
        (
            "Expose",
            if config.expose.enabled { paths.services(config).display().to_string() } else { "disabled".to_owned() },
        ),
        ("Bootstrap", list(&config.bootstrap.peers, "none")),
    ];
    let mut out = String::from("=== tarnetd ===\n");
    for (name, value) in rows {
        out.push_str(&format!("{name}: {value}\n"));
    }
    out
}
