//! Which of the addresses that a peer's Hello names are dialled. A Hello is signed, but its peer may put anything into
//! it, and whoever is known may have us look for it: were every address dialled, others could have this machine knock
//! at whatever it alone can reach. So only those of the open Internet count (IANA's registries of special-purpose
//! addresses, RFC 6890), of each machine one, and few. Who is on the same network is found by mDNS. Names do not
//! count, for they may mean one thing when checked and another when dialled, and asking for them tells others of our
//! peers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::limits::OFFER_ADDRESSES_MAX;
use crate::config::{Host, PeerUri, Scheme};

/// What is dialled of what a Hello names, at most [`OFFER_ADDRESSES_MAX`].
pub(super) fn offered(uris: &[String]) -> Vec<SocketAddr> {
    let address = |uri: &String| match uri.parse::<PeerUri>().ok()? {
        PeerUri { scheme: Scheme::Tcp, host: Host::Address(address, None), port, .. } if port != 0 => {
            Some(SocketAddr::new(address.to_canonical(), port))
        }
        _ => None,
    };
    let mut seen = BTreeSet::new();
    let fits = |address: &SocketAddr| is_open(address.ip()) && seen.insert(address.ip());
    uris.iter().filter_map(address).filter(fits).take(OFFER_ADDRESSES_MAX).collect()
}

/// Whether an address is of the open Internet. Addresses for documentation are, as far as anybody answers there.
fn is_open(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocols = (a, b, c) == (192, 0, 0);
            let bench = a == 198 && (18..20).contains(&b);
            !(a == 0
                || a >= 224
                || shared
                || protocols
                || bench
                || v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local())
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

    /// What is dialled of one URI.
    fn dialled(uri: &str) -> Option<SocketAddr> {
        offered(&[uri.to_owned()]).first().copied()
    }

    #[test]
    fn addresses_that_anybody_may_dial_are_dialled() {
        for address in ["9.9.9.9:7946", "203.0.113.7:80", "[2a01:4f8::1]:7946"] {
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
            "10.1.77.1",
            "192.0.0.8",
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
        let many: Vec<String> = (1..100).map(|at| format!("tcp://9.9.9.{at}:7946")).collect();
        assert_eq!(offered(&many).len(), OFFER_ADDRESSES_MAX);
        let same = vec!["tcp://9.9.9.9:7946".to_owned(), "tcp://9.9.9.9:7947".to_owned()];
        assert_eq!(offered(&same).len(), 1);
    }
}
