//! The address plan: which two prefixes are ours, chosen once per installation and kept.
//!
//! IPv4: the configured prefix, or the first candidate that no route and no address of
//! the host overlaps. IPv6: the configured prefix, or a unique local /48 with 40 random
//! bits (RFC 4193 §3.2). Names live in the IPv4 prefix and in the first /64 of the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::address::{SLOT_DNS, SLOT_OURS, Slot};
use super::{TunError, journal};

/// File of the plan, in the TUN's state folder.
pub const PLAN_FILE: &str = "plan.json";

/// A network prefix: an address without host bits and the length of its network part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix<A> {
    /// The network's address.
    pub address: A,
    /// Bits of the network part.
    pub len: u8,
}

/// An IPv4 prefix.
pub type PrefixV4 = Prefix<Ipv4Addr>;
/// An IPv6 prefix.
pub type PrefixV6 = Prefix<Ipv6Addr>;

/// Text that is not a prefix we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a usable prefix: {1}")]
pub struct PrefixError(String, &'static str);

impl PrefixV4 {
    /// Parses `198.18.0.0/15`; lengths 8 to 28, no host bits.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let fail = |why| PrefixError(text.into(), why);
        let (address, len) =
            text.split_once('/').ok_or_else(|| fail("it needs an address and a length, as in 198.18.0.0/15"))?;
        let address: Ipv4Addr = address.parse().map_err(|_| fail("the address is not IPv4"))?;
        let len: u8 = len.parse().map_err(|_| fail("the length is not a number"))?;
        if !(8..=28).contains(&len) {
            return Err(fail("the length must be 8 to 28"));
        }
        let prefix = Self::containing(address, len);
        if prefix.address != address { Err(fail("it has host bits set")) } else { Ok(prefix) }
    }

    /// The prefix of this length that holds `address`.
    #[must_use]
    pub fn containing(address: Ipv4Addr, len: u8) -> Self {
        let mask = u32::MAX.checked_shl(u32::from(32 - len.min(32))).unwrap_or(0);
        Self { address: Ipv4Addr::from(u32::from(address) & mask), len }
    }

    /// How many addresses it has.
    #[must_use]
    pub fn addresses(self) -> u32 {
        1_u32.checked_shl(u32::from(32 - self.len.min(32))).unwrap_or(u32::MAX)
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let len = self.len.min(other.len);
        Self::containing(self.address, len) == Self::containing(other.address, len)
    }
}

impl<A: std::fmt::Display> std::fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl PrefixV6 {
    /// The prefix of this length that holds `address`.
    #[must_use]
    pub fn containing(address: Ipv6Addr, len: u8) -> Self {
        let mask = u128::MAX.checked_shl(u32::from(128 - len.min(128))).unwrap_or(0);
        Self { address: Ipv6Addr::from(u128::from(address) & mask), len }
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let len = self.len.min(other.len);
        Self::containing(self.address, len) == Self::containing(other.address, len)
    }

    /// Parses `fd12:3456:789a::/48`; lengths 16 to 64, no host bits.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let fail = |why| PrefixError(text.into(), why);
        let (address, len) =
            text.split_once('/').ok_or_else(|| fail("it needs an address and a length, as in fd12:3456:789a::/48"))?;
        let address: Ipv6Addr = address.parse().map_err(|_| fail("the address is not IPv6"))?;
        let len: u8 = len.parse().map_err(|_| fail("the length is not a number"))?;
        if !(16..=64).contains(&len) {
            return Err(fail("the length must be 16 to 64"));
        }
        let prefix = Self::containing(address, len);
        if prefix.address != address { Err(fail("it has host bits set")) } else { Ok(prefix) }
    }

    /// A unique local /48 from 40 random bits (RFC 4193 §3.2).
    #[must_use]
    pub fn unique_local(random: [u8; 5]) -> Self {
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..6].copy_from_slice(&random);
        Self { address: octets.into(), len: 48 }
    }
}

/// The plan, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPlan {
    /// The IPv4 prefix that was configured when the choice was made.
    pub configured_ipv4: String,
    /// The IPv4 prefix in use.
    pub ipv4: String,
    /// The IPv6 prefix in use.
    pub ipv6: String,
    /// Key of the address map's hash, in hex.
    secret: String,
}

/// The plan with its parts parsed.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Names' IPv4 prefix.
    pub ipv4: PrefixV4,
    /// The routed IPv6 prefix; names are in its first /64.
    pub ipv6: PrefixV6,
}

impl Addresses {
    /// The IPv4 address of a slot.
    #[must_use]
    pub fn v4(&self, slot: Slot) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.ipv4.address).wrapping_add(slot.0))
    }

    /// The IPv6 address of a slot.
    #[must_use]
    pub fn v6(&self, slot: Slot) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.ipv6.address) | u128::from(slot.0))
    }

    /// The slot of an address: of one that is ours, whether or not a name has it.
    #[must_use]
    pub fn slot(&self, address: IpAddr) -> Option<Slot> {
        match address {
            IpAddr::V4(address) => {
                let offset = u32::from(address).checked_sub(u32::from(self.ipv4.address))?;
                (offset < self.ipv4.addresses()).then_some(Slot(offset))
            }
            IpAddr::V6(address) => {
                let offset = u128::from(address).checked_sub(u128::from(self.ipv6.address))?;
                u32::try_from(offset).ok().map(Slot)
            }
        }
    }

    /// Whether an address is inside what we route, even where no slot can be.
    #[must_use]
    pub fn routes(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.slot(address).is_some(),
            IpAddr::V6(address) => {
                (u128::from(address) ^ u128::from(self.ipv6.address)) >> (128 - u32::from(self.ipv6.len)) == 0
            }
        }
    }

    /// Addresses of these prefixes.
    ///
    /// # Errors
    /// The text is no prefix that can be used.
    pub fn parse(ipv4: &str, ipv6: &str) -> Result<Self, PrefixError> {
        Ok(Self { ipv4: PrefixV4::parse(ipv4)?, ipv6: PrefixV6::parse(ipv6)? })
    }

    /// Our own addresses on the link. That of IPv6 is link-local, made from our prefix: an address of wider
    /// scope would be taken for ordinary packets of the host while its own are still being tried (RFC 6724 §5).
    #[must_use]
    pub fn ours(&self) -> (Ipv4Addr, Ipv6Addr) {
        (self.v4(Slot(SLOT_OURS)), link_local(self.ipv6.address))
    }

    /// What `status` shows: the first addresses of both prefixes.
    #[must_use]
    pub fn shown(&self) -> (Ipv4Addr, Ipv6Addr) {
        (self.v4(Slot(SLOT_OURS)), self.v6(Slot(SLOT_OURS)))
    }

    /// The DNS server's addresses.
    #[must_use]
    pub fn dns(&self) -> (Ipv4Addr, Ipv6Addr) {
        (self.v4(Slot(SLOT_DNS)), self.v6(Slot(SLOT_DNS)))
    }
}

/// The address on our link while `address` lies in its prefix: link-local, with the prefix's first 64 bits in it.
#[must_use]
pub fn link_local(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from((0xfe80 << 112) | u128::from(address) >> 64 | u128::from(SLOT_OURS))
}

/// The IPv4 prefixes to try, in order. `seed` picks the ones in the private ranges, so that
/// two installations rarely choose alike. Never link-local, loopback, 240/4 or documentation ranges.
fn candidates(configured: PrefixV4, seed: [u8; 2]) -> Vec<PrefixV4> {
    let fixed = [Ipv4Addr::new(198, 18, 0, 0), Ipv4Addr::new(198, 19, 0, 0)];
    let tens = (0..=u8::MAX).map(|step| Ipv4Addr::new(10, seed[0].wrapping_add(step), 0, 0));
    let twelves = (0..16).map(|step| Ipv4Addr::new(172, 16 + (seed[1].wrapping_add(step) & 15), 0, 0));
    let chosen = fixed.into_iter().chain(tens).chain(twelves).map(|address| Prefix { address, len: 16 });
    std::iter::once(configured).chain(chosen).collect()
}

impl AddressPlan {
    /// Makes a plan: the first candidate that overlaps none of `taken`.
    ///
    /// # Errors
    /// A configured prefix is malformed, or everything is taken.
    pub fn choose(ipv4: &str, ipv6: &str, taken: &[PrefixV4], random: [u8; 39]) -> Result<Self, TunError> {
        let configured = PrefixV4::parse(ipv4)?;
        let chosen = candidates(configured, [random[0], random[1]])
            .into_iter()
            .find(|candidate| !taken.iter().any(|taken| taken.overlaps(*candidate)))
            .ok_or(TunError::NoPrefix)?;
        let ipv6 = if ipv6.is_empty() {
            let [_, _, bits @ ..] = random;
            PrefixV6::unique_local([bits[0], bits[1], bits[2], bits[3], bits[4]])
        } else {
            PrefixV6::parse(ipv6)?
        };
        Ok(Self {
            configured_ipv4: ipv4.into(),
            ipv4: chosen.to_string(),
            ipv6: ipv6.to_string(),
            secret: random[7..].iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Whether this plan still serves a configuration: an unchanged IPv4 wish, and the IPv6 prefix if one is configured.
    #[must_use]
    pub fn serves(&self, ipv4: &str, ipv6: &str) -> bool {
        self.configured_ipv4 == ipv4 && (ipv6.is_empty() || PrefixV6::parse(ipv6) == PrefixV6::parse(&self.ipv6))
    }

    /// Its prefixes.
    ///
    /// # Errors
    /// The stored text is damaged.
    pub fn addresses(&self) -> Result<Addresses, TunError> {
        Ok(Addresses::parse(&self.ipv4, &self.ipv6)?)
    }

    /// The key of the address map's hash.
    #[must_use]
    pub fn secret(&self) -> [u8; 32] {
        tarnet_core::crypto::hash(self.secret.as_bytes())
    }

    /// Reads the plan of a state folder; `None` when there is none, or it is damaged (then a new one is made).
    #[must_use]
    pub fn load(folder: &Path) -> Option<Self> {
        let plan: Self = serde_json::from_slice(&std::fs::read(folder.join(PLAN_FILE)).ok()?).ok()?;
        plan.addresses().is_ok().then_some(plan)
    }

    /// Stores the plan.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn store(&self, folder: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        journal::replace(&folder.join(PLAN_FILE), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> PrefixV4 {
        PrefixV4::parse(text).unwrap()
    }

    #[test]
    fn taken_prefix_makes_way_for_the_next_candidate() {
        let choose = |taken: &[&str]| {
            let taken: Vec<PrefixV4> = taken.iter().map(|text| v4(text)).collect();
            AddressPlan::choose("198.18.0.0/15", "", &taken, [7; 39]).map(|plan| plan.ipv4)
        };
        assert_eq!(choose(&["192.168.1.0/24"]).unwrap(), "198.18.0.0/15");
        assert_eq!(choose(&["198.19.7.0/24"]).unwrap(), "198.18.0.0/16");
        assert_eq!(choose(&["198.18.0.0/15"]).unwrap(), "10.7.0.0/16");
        assert_eq!(choose(&["198.18.0.0/15", "10.0.0.0/8"]).unwrap(), "172.23.0.0/16");
        assert!(matches!(choose(&["198.18.0.0/15", "10.0.0.0/8", "172.16.0.0/12"]), Err(TunError::NoPrefix)));
    }

    #[test]
    fn a_slot_is_one_number_in_both_families() {
        let plan = AddressPlan::choose("198.18.0.0/15", "", &[], [9; 39]).unwrap();
        let addresses = plan.addresses().unwrap();
        for slot in [1, 2, 3, 255, 256, 131_070].map(Slot) {
            assert_eq!(addresses.slot(addresses.v4(slot).into()), Some(slot));
            assert_eq!(addresses.slot(addresses.v6(slot).into()), Some(slot));
        }
        assert_eq!(addresses.v4(Slot(2)).to_string(), "198.18.0.2");
        assert_eq!(addresses.slot("198.20.0.0".parse().unwrap()), None);
        assert_eq!(addresses.slot("198.17.255.255".parse().unwrap()), None);
        assert!(addresses.routes("fd09:909:909:77::1".parse().unwrap()));
        assert!(!addresses.routes("fd09:909:90a::1".parse().unwrap()));
        assert_eq!(addresses.ours().1.to_string(), "fe80::fd09:909:909:1");
    }

    #[test]
    fn prefixes_with_host_bits_or_odd_lengths_are_refused() {
        for text in ["198.18.0.1/15", "198.18.0.0", "198.18.0.0/29", "198.18.0.0/x", "fd00::/48"] {
            assert!(PrefixV4::parse(text).is_err(), "{text}");
        }
        for text in ["fd00::1/48", "fd00::/65", "fd00::", "10.0.0.0/8"] {
            assert!(PrefixV6::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_plan_survives_its_file() {
        let folder = std::env::temp_dir().join(format!("tarnet-plan-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let plan = AddressPlan::choose("198.18.0.0/15", "fd12:3456:789a::/48", &[], [1; 39]).unwrap();
        plan.store(&folder).unwrap();
        assert_eq!(AddressPlan::load(&folder).as_ref(), Some(&plan));
        assert!(plan.serves("198.18.0.0/15", "") && plan.serves("198.18.0.0/15", "fd12:3456:789a:0::/48"));
        assert!(!plan.serves("10.9.0.0/16", ""));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
