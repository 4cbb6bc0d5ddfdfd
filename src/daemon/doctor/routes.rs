//! Our routes among the host's, from `/proc/self/net/route` and `ipv6_route` there, for the unit hides the rest of `/proc`. `proc(5)`,
//! linux/route.h, linux/ipv6_route.h

use std::net::{Ipv4Addr, Ipv6Addr};

use tarnet_api::Check;

use crate::tun::plan::{Addresses, Prefix, PrefixV4};

/// The flag of a route that refuses.
const RTF_REJECT: u32 = 0x0200;

/// A route, as much of it as matters here.
#[derive(Debug, PartialEq, Eq)]
struct Route<A> {
    device: String,
    to: Prefix<A>,
    refuses: bool,
}

/// Looks at both families.
pub fn look(device: &str, ours: &Addresses) -> Vec<Check> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (v4, v6) = (routes_v4(&read("/proc/self/net/route")), routes_v6(&read("/proc/self/net/ipv6_route")));
    vec![unreachable(ours, &v4, &v6), overlaps(device, ours.ipv4, &v4)]
}

/// The `unreachable` routes that keep packets in the house while the device is away.
fn unreachable(ours: &Addresses, v4: &[Route<Ipv4Addr>], v6: &[Route<Ipv6Addr>]) -> Check {
    let has_v4 = v4.iter().any(|route| route.refuses && route.to == ours.ipv4);
    // A host without IPv6 has no IPv6 routes at all.
    let has_v6 = v6.is_empty() || v6.iter().any(|route| route.refuses && route.to == ours.ipv6);
    if has_v4 && has_v6 {
        return Check::ok("unreachable routes", "packets to our addresses stay in the house whatever happens");
    }
    let missing = if has_v4 { format!("{}/{}", ours.ipv6.address, ours.ipv6.len) } else { text(ours.ipv4) };
    let detail = format!("there is none for {missing}: without the device its packets would leave");
    Check::fail("unreachable routes", detail, "restart the daemon: systemctl restart tarnetd")
}

/// Routes of others inside our prefix.
fn overlaps(device: &str, ours: PrefixV4, v4: &[Route<Ipv4Addr>]) -> Check {
    let foreign = |route: &&Route<Ipv4Addr>| route.to.len > 0 && route.device != device && !route.refuses;
    match v4.iter().filter(foreign).find(|route| route.to.overlaps(ours)) {
        None => Check::ok("overlaps", format!("no other route leads into {}", text(ours))),
        Some(route) => Check::fail(
            "overlaps",
            format!("the route {} of {} overlaps our {}", text(route.to), route.device, text(ours)),
            "set [tun] ipv4 to a prefix that is free on this host, then restart the daemon",
        ),
    }
}

/// A prefix in its usual form.
fn text(prefix: PrefixV4) -> String {
    format!("{}/{}", prefix.address, prefix.len)
}

/// The IPv4 routes. Numbers are the memory's, in hex.
fn routes_v4(table: &str) -> Vec<Route<Ipv4Addr>> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let address = |at: usize| number(at).map(|number| Ipv4Addr::from(number.to_ne_bytes()));
        let len = u8::try_from(u32::from(address(7)?).count_ones()).ok()?;
        let to = Prefix { address: address(1)?, len };
        Some(Route { device: (*words.first()?).to_owned(), to, refuses: number(3)? & RTF_REJECT != 0 })
    };
    table.lines().filter_map(parse).collect()
}

/// The IPv6 routes.
fn routes_v6(table: &str) -> Vec<Route<Ipv6Addr>> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = u128::from_str_radix(words.first()?, 16).ok()?.into();
        let to = Prefix { address, len: u8::from_str_radix(words.get(1)?, 16).ok()? };
        let refuses = u32::from_str_radix(words.get(8)?, 16).ok()? & RTF_REJECT != 0;
        Some(Route { device: (*words.get(9)?).to_owned(), to, refuses })
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use tarnet_api::Health;

    use super::*;
    use crate::tun::plan::{AddressPlan, PrefixV6};

    /// A table as a running daemon's host has it, on a little-endian machine.
    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        wan0\t00000000\t017100CB\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        tarnet0\t000012C6\t00000000\t0001\t0\t0\t0\t0000FEFF\t0\t0\t0\n\
        *\t000012C6\t00000000\t0201\t0\t0\t-1\t0000FEFF\t0\t0\t0\n";

    fn ours() -> Addresses {
        AddressPlan::choose("198.18.0.0/15", "fd12:3456:789a::/48", &[], [1; 39]).unwrap().addresses().unwrap()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn ours_and_foreign_routes_are_told_apart() {
        let v4 = routes_v4(TABLE);
        assert_eq!(v4.len(), 3);
        assert_eq!(overlaps("tarnet0", ours().ipv4, &v4).state, Health::Ok);
        let with = format!("{TABLE}docker0\t000712C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        let check = overlaps("tarnet0", ours().ipv4, &routes_v4(&with));
        assert!(check.state == Health::Fail && check.detail.contains("198.18.7.0/24 of docker0"), "{check:?}");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_missing_unreachable_route_of_either_family_is_named() {
        let v4 = routes_v4(TABLE);
        let line = "fd123456789a00000000000000000000 30 00000000000000000000000000000000 00 \
            00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        let v6 = routes_v6(line);
        assert_eq!(v6[0].to, PrefixV6::parse("fd12:3456:789a::/48").unwrap());
        assert_eq!(unreachable(&ours(), &v4, &v6).state, Health::Ok);
        assert_eq!(unreachable(&ours(), &v4, &[]).state, Health::Ok);
        assert!(unreachable(&ours(), &v4[..2], &v6).detail.contains("198.18.0.0/15"));
        let other = routes_v6("fe800000000000000000000000000000 40 0 0 0 100 1 0 00000001 wan0\n");
        assert!(unreachable(&ours(), &v4, &other).detail.contains("fd12:3456:789a::/48"));
    }

    #[test]
    fn nonsense_is_no_route() {
        assert!(routes_v4("a b c\n\n*\tzz").is_empty() && routes_v6("x\n").is_empty());
    }
}
