//! The host's routes: what overlaps our prefixes, and the `unreachable` routes under
//! them. Those have the worst possible metric: while the device is up its own routes win,
//! and once it is gone a packet to one of our addresses fails at once instead of following
//! the default route out of the house. They stay when the daemon is killed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::TunError;
use super::plan::{Addresses, Prefix, PrefixV4};

/// The metric of the `unreachable` routes: behind everything else.
const METRIC: u32 = u32::MAX;
/// Prefix length of the link's IPv6 network: the first /64 of our prefix.
const LINK_V6_LEN: u8 = 64;

/// A netlink socket and the task that reads it.
pub struct Routes {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Routes {
    /// Opens the netlink socket. Needs a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub fn open() -> Result<Self, TunError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(TunError::from_device)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Every IPv4 prefix in use on the host that is more specific than the default route,
    /// except ours: the `unreachable` routes and whatever hangs from the device `own`.
    ///
    /// # Errors
    /// Netlink fails.
    pub async fn taken_v4(&self, own: &str) -> Result<Vec<PrefixV4>, TunError> {
        let own = self.index(own).await?;
        let mut taken = Vec::new();
        let mut routes = pin!(self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute());
        while let Some(route) = routes.try_next().await.map_err(TunError::from_netlink)? {
            taken.extend(route_prefix(&route, own));
        }
        let mut addresses = pin!(self.handle.address().get().execute());
        while let Some(address) = addresses.try_next().await.map_err(TunError::from_netlink)? {
            if Some(address.header.index) == own {
                continue;
            }
            taken.extend(address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(network)) => {
                    Some(Prefix::containing(*network, address.header.prefix_len))
                }
                _ => None,
            }));
        }
        Ok(taken)
    }

    /// Adds the `unreachable` routes; those of an earlier run are taken over.
    ///
    /// # Errors
    /// [`TunError::NotPermitted`] without the capability, or the IPv4 route cannot be added.
    /// A host without IPv6 is no error.
    pub async fn block(&self, addresses: &Addresses) -> Result<(), TunError> {
        let [v4, v6] = unreachable(addresses);
        self.handle.route().add(v4).replace().execute().await.map_err(TunError::from_netlink)?;
        if let Err(error) = self.handle.route().add(v6).replace().execute().await {
            tracing::debug!(%error, "no unreachable route for IPv6");
        }
        Ok(())
    }

    /// Removes the `unreachable` routes; missing ones are no error.
    pub async fn unblock(&self, addresses: &Addresses) {
        for route in unreachable(addresses) {
            if let Err(error) = self.handle.route().del(route).execute().await {
                tracing::debug!(%error, "an unreachable route was not there to remove");
            }
        }
    }

    /// Gives the device `name` our IPv6 address, usable at once: without duplicate address
    /// detection, during which a program could not connect. False where IPv6 is switched off.
    pub async fn add_link_v6(&self, name: &str, addresses: &Addresses) -> bool {
        let Ok(Some(index)) = self.index(name).await else { return false };
        let mut request = self.handle.address().add(index, addresses.ours().1.into(), LINK_V6_LEN).replace();
        request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        let added = request.execute().await;
        if let Err(error) = &added {
            tracing::warn!(%error, "this host has no IPv6: names get IPv4 addresses only");
        }
        added.is_ok()
    }

    /// The index of a device, if it exists.
    async fn index(&self, name: &str) -> Result<Option<u32>, TunError> {
        let mut links = pin!(self.handle.link().get().execute());
        while let Some(link) = links.try_next().await.map_err(TunError::from_netlink)? {
            if link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfName(own) if own == name)) {
                return Ok(Some(link.header.index));
            }
        }
        Ok(None)
    }
}

/// The two routes: our IPv4 prefix and our IPv6 prefix, whole.
fn unreachable(addresses: &Addresses) -> [RouteMessage; 2] {
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(addresses.ipv4.address, addresses.ipv4.len);
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(addresses.ipv6.address, addresses.ipv6.len);
    [v4.kind(RouteType::Unreachable).priority(METRIC).build(), v6.kind(RouteType::Unreachable).priority(METRIC).build()]
}

/// The prefix of an IPv4 route that counts as taken: not the default route, not one of our
/// `unreachable` routes, not one through our own device.
fn route_prefix(route: &RouteMessage, own: Option<u32>) -> Option<PrefixV4> {
    let (mut network, mut metric, mut device) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => network = Some(*address),
            RouteAttribute::Priority(priority) => metric = Some(*priority),
            RouteAttribute::Oif(index) => device = Some(*index),
            // Attributes of the kernel's, not variants of ours.
            _ => {}
        }
    }
    let ours = route.header.kind == RouteType::Unreachable && metric == Some(METRIC);
    let through_us = device.is_some() && device == own;
    let len = route.header.destination_prefix_length;
    (len > 0 && !ours && !through_us).then(|| Prefix::containing(network.unwrap_or(Ipv4Addr::UNSPECIFIED), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A route as the kernel reports it.
    fn route(network: [u8; 4], len: u8, kind: RouteType, metric: u32, device: u32) -> RouteMessage {
        let builder = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network.into(), len);
        builder.kind(kind).priority(metric).output_interface(device).build()
    }

    #[test]
    fn only_foreign_routes_more_specific_than_default_count_as_taken() {
        let taken =
            |message: &RouteMessage| route_prefix(message, Some(9)).map(|prefix| (prefix.address.octets(), prefix.len));
        assert_eq!(taken(&route([198, 18, 5, 0], 24, RouteType::Unicast, 0, 2)), Some(([198, 18, 5, 0], 24)));
        assert_eq!(taken(&route([198, 18, 0, 0], 15, RouteType::Unicast, 0, 9)), None);
        assert_eq!(taken(&route([198, 18, 0, 0], 15, RouteType::Unreachable, METRIC, 1)), None);
        assert_eq!(taken(&route([198, 18, 0, 0], 15, RouteType::Unreachable, 7, 1)), Some(([198, 18, 0, 0], 15)));
        assert_eq!(taken(&route([0, 0, 0, 0], 0, RouteType::Unicast, 0, 2)), None);
    }
}
