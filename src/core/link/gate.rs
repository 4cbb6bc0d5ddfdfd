//! The gate before public-key work: a token bucket per source. A source is an IPv4 address
//! or an IPv6 /64. The table holds only sources whose bucket is not full again, so it needs
//! no other expiry; at its bound, sources that it does not know are refused and counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::limits::{HANDSHAKE_BURST, HANDSHAKES_PER_SECOND, SOURCES_MAX};
use crate::time::Instant;

/// Microseconds of refill that one handshake costs.
const TOKEN_US: u64 = 1_000_000 / HANDSHAKES_PER_SECOND;
/// Microseconds after which any bucket is full again.
const FULL_US: u64 = TOKEN_US * HANDSHAKE_BURST;

/// Where handshakes come from, as far as limits go: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl Source {
    /// The address as 16 bytes, an IPv4 one mapped into IPv6.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }
}

impl From<IpAddr> for Source {
    /// Cuts an IPv6 address to its /64; an IPv4-mapped one counts as IPv4.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))),
        }
    }
}

/// Token buckets by source: for each, when it will be full again.
#[derive(Default)]
pub(super) struct Gate {
    full_at: BTreeMap<Source, Instant>,
    swept: Instant,
}

impl Gate {
    /// Takes a token of the source's bucket; false if there is none.
    pub(super) fn admit(&mut self, now: Instant, source: Source) -> bool {
        if self.full_at.len() >= SOURCES_MAX {
            self.sweep(now);
        }
        let known = self.full_at.get(&source).copied();
        if known.is_none() && self.full_at.len() >= SOURCES_MAX {
            return false;
        }
        let full_at = known.unwrap_or(now).max(now) + Duration::from_micros(TOKEN_US);
        if full_at > now + Duration::from_micros(FULL_US) {
            return false;
        }
        self.full_at.insert(source, full_at);
        true
    }

    /// Forgets full buckets, at most once per refill time, so that the work stays in proportion.
    fn sweep(&mut self, now: Instant) {
        if now - self.swept >= Duration::from_micros(FULL_US) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(10_000_000 + ms * 1000)
    }

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_source_has_a_burst_of_five_and_twenty_a_second() {
        let mut gate = Gate::default();
        let admitted = |gate: &mut Gate, now| (0..100).filter(|_| gate.admit(now, source("192.0.2.1"))).count();
        assert_eq!(admitted(&mut gate, at(0)), 5);
        assert_eq!(admitted(&mut gate, at(49)), 0);
        assert_eq!(admitted(&mut gate, at(50)), 1);
        assert_eq!(admitted(&mut gate, at(10_000)), 5);
        let steady: usize = (0..1000).map(|ms| admitted(&mut gate, at(20_000 + ms))).sum();
        assert_eq!(steady, 5 + 19);
        assert!(gate.admit(at(20_999), source("192.0.2.2")), "another source is not concerned");
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_mapped_addresses_are_ipv4() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded_and_recovers() {
        let mut gate = Gate::default();
        let many = |gate: &mut Gate, now, net: u128| {
            (0..2 * SOURCES_MAX as u128)
                .filter(|n| gate.admit(now, Source::from(IpAddr::V6(Ipv6Addr::from_bits((net + n) << 64)))))
                .count()
        };
        assert_eq!(many(&mut gate, at(0), 0), SOURCES_MAX);
        assert!(gate.full_at.len() <= SOURCES_MAX);
        assert_eq!(many(&mut gate, at(1000), 1 << 40), SOURCES_MAX);
    }
}
