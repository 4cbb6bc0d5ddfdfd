//! What the kernel gives us: the capability, the device node, the device, IPv6.

use std::net::IpAddr;
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::unistd::{AccessFlags, access};
use tarnet_api::Check;

use crate::config::{Config, Switch};
use crate::tun::TunHandle;

/// The device node of TUN devices.
const NODE: &str = "/dev/net/tun";
/// The bit of CAP_NET_ADMIN (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;
/// What mends a device that is gone.
const RESTART: &str = "restart the daemon: systemctl restart tarnetd";

/// Looks at all of it.
pub fn look(config: &Config, tun: &Result<Arc<TunHandle>, String>) -> Vec<Check> {
    if config.tun.enabled == Switch::Off {
        return vec![Check::ok("tun", "switched off in the settings, and DNS with it")];
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut checks = vec![capability(&status), node()];
    match tun {
        Ok(tun) => checks.extend([device(tun), ipv6(tun)]),
        Err(why) => checks.push(Check::fail("tun", format!("there is no device: {why}"), RESTART)),
    }
    checks
}

/// CAP_NET_ADMIN, as `/proc/self/status` tells it. `proc(5)`
fn capability(status: &str) -> Check {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if effective >> CAP_NET_ADMIN & 1 == 1 {
        return Check::ok("capability", "CAP_NET_ADMIN");
    }
    let mend = "run the packaged service, or `setcap cap_net_admin+ep` on tarnetd, or say [tun] enabled = false";
    Check::warn("capability", "without CAP_NET_ADMIN there is neither TUN nor DNS", mend)
}

/// The device node.
fn node() -> Check {
    match access(NODE, AccessFlags::R_OK | AccessFlags::W_OK) {
        Ok(()) => Check::ok("device node", NODE),
        Err(nix::errno::Errno::ENOENT) => Check::fail("device node", format!("{NODE} is missing"), "modprobe tun"),
        Err(error) => {
            Check::fail("device node", format!("{NODE}: {error}"), format!("chmod 0666 {NODE} (as udev ships it)"))
        }
    }
}

/// The device: there, up, and with its addresses.
fn device(tun: &TunHandle) -> Check {
    let name = tun.name();
    let fail = |what: String| Check::fail("tun", what, RESTART);
    let Ok(all) = getifaddrs() else { return fail("the kernel lists no devices".into()) };
    let ours: Vec<_> = all.filter(|entry| entry.interface_name == name).collect();
    if ours.is_empty() || tun.state() == "down" {
        return fail(format!("the device {name} is gone"));
    }
    if !ours.iter().any(|entry| entry.flags.contains(InterfaceFlags::IFF_UP)) {
        return Check::fail("tun", format!("the device {name} is down"), format!("ip link set {name} up"));
    }
    let has = |wanted: IpAddr| {
        ours.iter().filter_map(|entry| entry.address.as_ref()).any(|address| match wanted {
            IpAddr::V4(wanted) => address.as_sockaddr_in().is_some_and(|address| address.ip() == wanted),
            IpAddr::V6(wanted) => address.as_sockaddr_in6().is_some_and(|address| address.ip() == wanted),
        })
    };
    let (v4, v6) = tun.book().addresses().ours();
    let wanted: Vec<IpAddr> = [Some(v4.into()), tun.ipv6().map(|_| v6.into())].into_iter().flatten().collect();
    match wanted.iter().find(|address| !has(**address)) {
        Some(missing) => fail(format!("the device {name} has lost its address {missing}")),
        None => {
            let addresses: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            Check::ok("tun", format!("{name} {} mtu {}", addresses.join(" "), tun.mtu()))
        }
    }
}

/// IPv6 on the device.
fn ipv6(tun: &TunHandle) -> Check {
    match tun.ipv6() {
        Some(_) => Check::ok("ipv6", "names have IPv6 addresses"),
        None => Check::warn(
            "ipv6",
            "this host has IPv6 switched off: names have IPv4 addresses only",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, then restart the daemon",
        ),
    }
}

#[cfg(test)]
mod tests {
    use tarnet_api::Health;

    use super::*;

    #[test]
    fn the_capability_is_read_from_its_bit() {
        assert_eq!(capability("Name:\tx\nCapEff:\t0000000000001000\n").state, Health::Ok);
        assert_eq!(capability("CapEff:\t000001ffffffffff\n").state, Health::Ok);
        for status in ["CapEff:\t0000000000000fff\n", "", "CapEff:\tnonsense\n"] {
            assert_eq!(capability(status).state, Health::Warn, "{status:?}");
        }
    }
}
