//! Routes of the host that overlap our prefixes. At start they make us take another prefix;
//! later they take traffic for names away from us, which nothing of ours can prevent: it is
//! warned of once for each, and `status` says so for as long as it lasts. And the device
//! itself: one that somebody sets down is set up again, for while it is down the host's
//! resolver asks others for our names.
//!
//! Timer: a change is looked at when the routes have rested for [`ROUTES_REST`]. The kernel's
//! queue of changes is the only one; when it overflows, that is a change too.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::time::{sleep, timeout};

use super::limits::ROUTES_REST;
use super::plan::{Addresses, PrefixV4, PrefixV6};
use super::routes::Routes;

/// Multicast groups of changes to devices, addresses and routes (`RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `_ROUTE`,
/// and those of IPv6).
const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;
/// The type of a message about a device that is there (`RTM_NEWLINK`), and where in the message it stands.
const NEW_LINK: (u16, usize) = (16, 4);
/// Overlaps that are named and remembered; a router with a full table has no place for us anyway.
const OVERLAPS_MAX: usize = 16;

/// A prefix of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Of IPv4.
    V4(PrefixV4),
    /// Of IPv6.
    V6(PrefixV6),
}

/// A prefix in use on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The prefix.
    pub way: Way,
    /// The device it leads to; empty: none.
    pub device: String,
}

impl Taken {
    /// Its prefix, where it is one of IPv4.
    #[must_use]
    pub fn v4(&self) -> Option<PrefixV4> {
        match self.way {
            Way::V4(prefix) => Some(prefix),
            Way::V6(_) => None,
        }
    }

    /// Whether it takes something from us.
    fn overlaps(&self, addresses: &Addresses) -> bool {
        match self.way {
            Way::V4(prefix) => prefix.overlaps(addresses.ipv4),
            Way::V6(prefix) => prefix.overlaps(addresses.ipv6),
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.way {
            Way::V4(prefix) => write!(f, "{prefix}")?,
            Way::V6(prefix) => write!(f, "{prefix}")?,
        }
        if self.device.is_empty() { Ok(()) } else { write!(f, " dev {}", self.device) }
    }
}

/// What overlaps now; clones share it.
#[derive(Clone, Default)]
pub struct Overlaps(Arc<Mutex<BTreeSet<String>>>);

impl Overlaps {
    /// One line that names what overlaps; `None` when nothing does.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let present = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let named: Vec<&str> = present.iter().map(String::as_str).collect();
        (!named.is_empty()).then(|| format!("overlapped by {}", named.join(", ")))
    }

    /// Takes note of what is in use now; what is new is warned of.
    fn update(&self, taken: &[Taken], addresses: &Addresses) {
        let overlapping = taken.iter().filter(|taken| taken.overlaps(addresses));
        let now: BTreeSet<String> = overlapping.map(ToString::to_string).take(OVERLAPS_MAX).collect();
        let mut present = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for new in now.difference(&present) {
            tracing::warn!(
                route = new,
                "a route of this host overlaps the synthetic addresses: traffic for names may go there; remove it, or set tun.ipv4 and tun.ipv6"
            );
        }
        if now.is_empty() && !present.is_empty() {
            tracing::info!("no route of this host overlaps the synthetic addresses any more");
        }
        *present = now;
    }
}

/// Keeps `overlaps` true and the device up until netlink fails. Needs to be dropped to end.
pub async fn watch(overlaps: Overlaps, routes: Arc<Routes>, own: String, addresses: Addresses) {
    let Some(mut changes) = changes() else { return };
    loop {
        match routes.taken(&own).await {
            Ok(taken) => overlaps.update(&taken, &addresses),
            Err(error) => tracing::debug!(%error, "the routes could not be read"),
        }
        let mut next = changed(&mut changes).await;
        loop {
            match next {
                None => {
                    tracing::warn!("the routes of this host are not watched any more");
                    return;
                }
                Some(Change::Device) => keep_up(&routes, &own, &addresses).await,
                Some(Change::Other) => {}
            }
            match timeout(ROUTES_REST, changed(&mut changes)).await {
                Ok(change) => next = change,
                Err(_) => break,
            }
        }
        // A socket that fails for ever must not spin.
        sleep(ROUTES_REST).await;
    }
}

/// Sets the device up again if it is down.
async fn keep_up(routes: &Routes, own: &str, addresses: &Addresses) {
    if !matches!(routes.is_down(own).await, Ok(true)) {
        return;
    }
    match routes.settle_link(own, addresses).await {
        Ok(_) => tracing::warn!(device = own, "the TUN device was set down; it is up again"),
        Err(error) => tracing::error!(%error, device = own, "the TUN device was set down and does not come up"),
    }
}

/// A socket that hears of changes.
fn changes() -> Option<TokioSocket> {
    let open = || {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        Ok::<_, std::io::Error>(socket)
    };
    open().inspect_err(|error| tracing::warn!(%error, "the routes of this host cannot be watched")).ok()
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// A device, or more than the kernel kept for us.
    Device,
    /// Something else.
    Other,
}

/// Waits for a change. `None` when the socket is of no more use.
async fn changed(socket: &mut TokioSocket) -> Option<Change> {
    match socket.recv_from_full().await {
        Ok((message, _)) => {
            let (new_link, at) = NEW_LINK;
            let kind = message.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
            Some(if kind == Some(new_link) { Change::Device } else { Change::Other })
        }
        Err(error) => (error.raw_os_error() == Some(libc::ENOBUFS)).then_some(Change::Device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, device: &str) -> Taken {
        let way = if text.contains(':') {
            Way::V6(PrefixV6::parse(text).unwrap())
        } else {
            Way::V4(PrefixV4::parse(text).unwrap())
        };
        Taken { way, device: device.into() }
    }

    #[test]
    fn what_overlaps_is_named_while_it_lasts_in_both_families() {
        let ipv4 = PrefixV4::parse("198.18.0.0/15").unwrap();
        let addresses = Addresses { ipv4, ipv6: PrefixV6::parse("fd12:3456:789a::/48").unwrap() };
        let overlaps = Overlaps::default();
        overlaps.update(&[taken("10.0.0.0/8", "eth0"), taken("fd12:3456:789b::/48", "eth0")], &addresses);
        assert_eq!(overlaps.line(), None);
        let both = [taken("198.19.7.0/24", "vpn0"), taken("fd12:3456:789a:1::/64", "")];
        overlaps.update(&both, &addresses);
        assert_eq!(overlaps.line().unwrap(), "overlapped by 198.19.7.0/24 dev vpn0, fd12:3456:789a:1::/64");
        overlaps.update(&both[..1], &addresses);
        assert_eq!(overlaps.line().unwrap(), "overlapped by 198.19.7.0/24 dev vpn0");
        let many: Vec<Taken> = (0..200).map(|n| taken(&format!("198.18.{n}.0/24"), "eth0")).collect();
        overlaps.update(&many, &addresses);
        assert_eq!(overlaps.line().unwrap().matches("dev").count(), OVERLAPS_MAX);
        overlaps.update(&[], &addresses);
        assert_eq!(overlaps.line(), None);
    }
}
