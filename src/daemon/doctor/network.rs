//! The way to others: ports, bootstrap, links.

use tarnet_api::{self as api, Check};

use crate::config::Config;

/// The state of a listening socket in `/proc/net/tcp` (net/tcp_states.h).
const LISTENING: &str = "0A";

/// The ports that the settings ask for are open.
pub fn ports(config: &Config) -> Check {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let open = listening(&(read("/proc/self/net/tcp") + &read("/proc/self/net/tcp6")));
    let wanted: Vec<_> = config.tcp.listen.iter().chain(&config.socks.listen).filter(|at| at.port() != 0).collect();
    let shown = |at: &[&std::net::SocketAddr]| at.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let closed: Vec<_> = wanted.iter().filter(|at| !open.contains(&at.port())).copied().collect();
    if !closed.is_empty() {
        let mend = "see who has the port with `ss -ltnp`, then restart the daemon";
        return Check::fail("ports", format!("not open: {}", shown(&closed)), mend);
    }
    let inbound: Vec<_> = config.tcp.listen.iter().collect();
    if inbound.is_empty() {
        return Check::ok("ports", "none for links, as the settings say: this node dials out only");
    }
    if inbound.iter().all(|at| at.ip().is_loopback()) {
        let detail = format!("links are accepted at {} only: nobody else can link to this node", shown(&inbound));
        return Check::warn("ports", detail, "name an address of the network in [transport.tcp] listen");
    }
    Check::ok("ports", format!("open: {}", shown(&wanted)))
}

/// The ports of listening sockets.
fn listening(table: &str) -> Vec<u16> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = words.get(1)?.rsplit_once(':')?;
        (*words.get(3)? == LISTENING).then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().filter_map(parse).collect()
}

/// Bootstrap and links, as the node tells them.
#[must_use]
pub fn others(config: &Config, peers: &[api::Peer], links: usize) -> Vec<Check> {
    let dialled: Vec<&api::Peer> = peers.iter().filter(|peer| peer.source == "bootstrap").collect();
    let linked = match links {
        0 => Check::fail("links", "this node is linked to nobody", "name a peer: `tarnet peers add tcp://HOST:7946`"),
        links => Check::ok("links", links.to_string()),
    };
    vec![bootstrap(config.bootstrap.mdns, &dialled, links), linked]
}

/// Whether somebody whom we dial answers.
fn bootstrap(mdns: bool, dialled: &[&api::Peer], links: usize) -> Check {
    let connected = dialled.iter().filter(|peer| peer.state == "connected").count();
    let mend = "check the address and the way to it, or name others in [bootstrap] peers";
    match (dialled.iter().find(|peer| !peer.error.is_empty()), dialled.len()) {
        (_, 0) if mdns => Check::ok("bootstrap", "none configured; neighbours are found by mDNS"),
        (_, 0) if links > 0 => Check::ok("bootstrap", "none configured; others have linked to us"),
        (_, 0) => Check::fail("bootstrap", "none configured, and mDNS is off", "name one in [bootstrap] peers"),
        (_, all) if connected > 0 => Check::ok("bootstrap", format!("{connected} of {all} answer")),
        (Some(peer), all) => {
            Check::fail("bootstrap", format!("none of {all} answers; {}: {}", peer.address, peer.error), mend)
        }
        (None, all) => Check::warn("bootstrap", format!("none of {all} has answered yet"), mend),
    }
}

#[cfg(test)]
mod tests {
    use tarnet_api::Health;

    use super::*;

    #[test]
    fn listening_ports_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            0: 00000000:1F0A 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:1234 0100007F:1F0A 01 00000000:00000000\n\
            0: 00000000000000000000000000000000:0438 00000000000000000000000000000000:0000 0A 0\n";
        assert_eq!(listening(table), [7946, 1080]);
    }

    #[test]
    fn bootstrap_is_well_once_somebody_answers() {
        let peer = |state: &str, error: &str| api::Peer {
            address: "tcp://10.0.0.1:7946".into(),
            state: state.into(),
            error: error.into(),
            ..Default::default()
        };
        let (good, bad, new) = (peer("connected", ""), peer("waiting", "refused"), peer("dialling", ""));
        for (mdns, dialled, links, want) in [
            (true, &[][..], 0, Health::Ok),
            (false, &[], 1, Health::Ok),
            (false, &[], 0, Health::Fail),
            (false, &[&good, &bad], 1, Health::Ok),
            (true, &[&bad, &new], 3, Health::Fail),
            (true, &[&new], 0, Health::Warn),
        ] {
            assert_eq!(bootstrap(mdns, dialled, links).state, want, "{mdns} {dialled:?} {links}");
        }
    }
}
