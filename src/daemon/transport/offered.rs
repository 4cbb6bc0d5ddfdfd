//! Which of the addresses that a peer's Hello names are dialled. A Hello is signed, but its peer may put anything into
//! it, and whoever is known may have us look for it: were every address dialled, others could have this machine knock
//! at whatever it alone can reach. So only those count that anybody may dial: of the open Internet (IANA's registries
//! of special-purpose addresses, RFC 6890), or of a network that an interface of ours is in. Names do not count, for
//! they may mean one thing when checked and another when dialled, and asking for them tells others of our peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::limits::ADDRESSES_MAX;
use crate::config::{Host, PeerUri, Scheme};

/// A network: an address in it, and its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Network {
    /// Whether an address is in it.
    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(own, mask), IpAddr::V4(other)) => own & mask == other & mask,
            (Self::V6(own, mask), IpAddr::V6(other)) => own & mask == other & mask,
            _ => false,
        }
    }
}

/// The networks of this machine's interfaces. Those that join two points only, tunnels, are none: what is behind them
/// is somebody else's.
pub(super) fn own_networks() -> Vec<Network> {
    let away = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT;
    let all = getifaddrs().into_iter().flatten().filter(|found| !found.flags.intersects(away));
    let network = |found: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (found.address?, found.netmask?);
        match (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            (Some(address), Some(mask)) => Some(Network::V4(address.ip(), mask.ip())),
            _ => Some(Network::V6(address.as_sockaddr_in6()?.ip(), mask.as_sockaddr_in6()?.ip())),
        }
    };
    all.filter_map(network).collect()
}

/// What is dialled of what a Hello names, at most [`ADDRESSES_MAX`].
pub(super) fn offered(uris: &[String], own: &[Network]) -> Vec<SocketAddr> {
    let address = |uri: &String| match uri.parse::<PeerUri>().ok()? {
        PeerUri { scheme: Scheme::Tcp, host: Host::Address(address, None), port, .. } if port != 0 => {
            Some(SocketAddr::new(address.to_canonical(), port))
        }
        _ => None,
    };
    let fits = |address: &SocketAddr| is_open(address.ip()) || is_near(address.ip(), own);
    uris.iter().take(ADDRESSES_MAX).filter_map(address).filter(fits).collect()
}

/// Whether an address is in a network of ours, and means one machine of it.
fn is_near(address: IpAddr, own: &[Network]) -> bool {
    let one = match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_multicast(),
    };
    one && !address.is_unspecified() && own.iter().any(|network| network.contains(address))
}

/// Whether an address is of the open Internet. Addresses for documentation are, as far as anybody answers there.
fn is_open(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let bench = a == 198 && (18..20).contains(&b);
            !(a == 0 || a >= 224 || shared || bench || v4.is_loopback() || v4.is_private() || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // 6to4 and Teredo hold an IPv4 address, of whatever kind.
            a & 0xe000 == 0x2000 && a != 0x2002 && (a, b) != (0x2001, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is dialled of one URI by a machine of 10.1.0.0/16 and fd00:1::/64.
    fn dialled(uri: &str) -> Option<SocketAddr> {
        let v4 = Network::V4([10, 1, 2, 3].into(), [255, 255, 0, 0].into());
        let v6 = Network::V6("fd00:1::5".parse().unwrap(), "ffff:ffff:ffff:ffff::".parse().unwrap());
        offered(&[uri.to_owned()], &[v4, v6]).first().copied()
    }

    #[test]
    fn addresses_that_anybody_may_dial_are_dialled() {
        for address in ["9.9.9.9:7946", "10.1.77.1:7946", "203.0.113.7:80", "[2a01:4f8::1]:7946", "[fd00:1::9]:7946"] {
            assert_eq!(dialled(&format!("tcp://{address}")), Some(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn others_are_not() {
        let hosts = [
            "127.0.0.1",
            "0.0.0.0",
            "10.2.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "198.18.0.9",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fe80::1%1]",
            "[fd00:2::9]",
            "[ff02::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:192.168.1.1]",
            "[2002:a01:1::1]",
            "[2001:0:1::1]",
            "[64:ff9b::a00:1]",
            "example.org",
            "localhost",
        ];
        for host in hosts {
            assert_eq!(dialled(&format!("tcp://{host}:7946")), None, "{host}");
        }
        assert_eq!(dialled("wss://9.9.9.9"), None);
        assert_eq!(dialled("nonsense"), None);
    }

    #[test]
    fn no_more_than_a_few_are_taken() {
        let many = vec!["tcp://9.9.9.9:7946".to_owned(); 100];
        assert_eq!(offered(&many, &[]).len(), ADDRESSES_MAX);
    }
}
