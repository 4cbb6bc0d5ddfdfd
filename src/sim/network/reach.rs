//! Who can be dialled, and the links that nodes open by themselves to peers that only relays led to.
//!
//! Without NATs asked for, machines say no address and links are those of the cables. With them, each machine is of one
//! class; a machine that a node names by its address is dialled over a way of its own, as long as the fastest way over
//! cables. One dial answers, or does not: there is no second, as for the daemon's offers.
//!
//! Bounds: one such way for a pair of machines, however often it is dialled.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tarnet_core::crypto::PeerId;
use tarnet_core::rng::Rng;

use super::conns::Cable;
use super::{MILLION, Network, Shape};

/// The port that every machine listens on.
const PORT: u16 = 7946;
/// Of machines behind a NAT, one in so many tells the address of its NAT all the same.
const UNAWARE_PART: u64 = 4;

/// How a machine is reached from outside. What filters is the NAT of RFC 5382 §5: a connection from inside passes, and
/// nothing that nobody asked for comes in, nor is it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Over its cables only; it says no address.
    Cabled,
    /// By everybody, at an address that it says.
    Open,
    /// By nobody, behind a NAT; it says no address.
    Behind,
    /// By nobody, behind a NAT; it says an address at which nothing answers.
    Unaware,
}

impl Reach {
    /// The class of the next machine, where so many of a million are behind NATs.
    pub(super) fn draw(parts: u32, rng: &mut Rng) -> Self {
        if rng.public_below(u64::from(MILLION)) >= u64::from(parts) {
            return Self::Open;
        }
        if rng.public_below(UNAWARE_PART) == 0 { Self::Unaware } else { Self::Behind }
    }

    /// Whether nobody can dial it, because of a NAT.
    #[must_use]
    pub fn is_natted(self) -> bool {
        matches!(self, Self::Behind | Self::Unaware)
    }

    /// What a machine says of where it can be dialled.
    pub(super) fn advertise(self, address: IpAddr) -> Vec<String> {
        match self {
            Self::Cabled | Self::Behind => Vec::new(),
            Self::Open | Self::Unaware => vec![format!("tcp://{address}:{PORT}")],
        }
    }
}

/// The address of a machine, its own for each.
pub(super) fn address(host: usize) -> IpAddr {
    let [_, a, b, c] = u32::try_from(host).unwrap_or(u32::MAX).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, a, b, c))
}

/// The machine at an address that a node names.
fn machine(uri: &str) -> Option<usize> {
    let socket: std::net::SocketAddrV4 = uri.strip_prefix("tcp://")?.parse().ok()?;
    let [net, a, b, c] = socket.ip().octets();
    let host = u32::from_be_bytes([0, a, b, c]);
    (net == 10 && socket.port() == PORT).then(|| usize::try_from(host).ok()).flatten()
}

impl Network {
    /// A peer says where it can be dialled: that is tried once.
    pub(super) fn offer(&mut self, host: usize, peer: PeerId, addresses: &[String]) {
        let there = |uri: &String| machine(uri).filter(|at| *at < self.hosts.len() && *at != host);
        let Some(to) = addresses.iter().find_map(there) else { return };
        let joins = |cable: &usize| {
            let cable = &self.cables[*cable];
            cable.pin.is_some() && (cable.ends == [host, to] || cable.ends == [to, host] && cable.conn.is_some())
        };
        let known = self.hosts[host].cables.iter().copied().find(joins);
        let Some(cable) = known.or_else(|| self.lay(host, to)) else { return };
        if self.cables[cable].conn.is_none() {
            self.cables[cable].pin = Some(peer);
            self.plan_dial(cable, Duration::ZERO);
        }
    }

    /// A way between two machines beside the cables.
    fn lay(&mut self, from: usize, to: usize) -> Option<usize> {
        let delay = self.delays().fastest(from, to)?;
        let cable = self.cables.len();
        self.cables.push(Cable::over([from, to], Shape::with_delay(delay)));
        self.hosts[from].cables.push(cable);
        self.hosts[to].cables.push(cable);
        Some(cable)
    }

    /// Links that nodes opened by themselves and that are up: who dialled, and whom.
    #[must_use]
    pub fn direct_links(&self) -> Vec<[usize; 2]> {
        let up = |cable: &usize| self.cables[*cable].pin.is_some() && self.is_linked(*cable);
        (0..self.cables.len()).filter(up).map(|cable| self.cables[cable].ends).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_their_machine() {
        for host in [0, 1, 300, 70_000] {
            assert_eq!(machine(&Reach::Open.advertise(address(host))[0]), Some(host));
        }
        for other in ["tcp://10.0.0.1:80", "ws://10.0.0.1:7946", "tcp://11.0.0.1:7946", "tcp://name:7946", ""] {
            assert_eq!(machine(other), None, "{other}");
        }
        assert!(Reach::Behind.advertise(address(1)).is_empty());
    }

    #[test]
    fn as_many_are_behind_nats_as_asked() {
        let mut rng = Rng::from_seed([1; 32]);
        let drawn: Vec<Reach> = (0..4000).map(|_| Reach::draw(600_000, &mut rng)).collect();
        let count = |reach| drawn.iter().filter(|drawn| **drawn == reach).count();
        assert!((1500..1700).contains(&count(Reach::Open)) && (500..700).contains(&count(Reach::Unaware)));
        assert_eq!(count(Reach::Cabled), 0);
    }
}
