//! The host's routes: what overlaps our prefixes, and the `unreachable` routes under
//! them. Those have the worst possible metric: while the device is up its own routes win,
//! and once it is gone a packet to one of our addresses fails at once instead of following
//! the default route out of the house. They stay when the daemon is killed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::TunError;
use super::limits::MTU_FALLBACK;
use super::overlap::{Taken, Way};
use super::plan::{Addresses, Prefix, PrefixV4, PrefixV6};

/// The metric of the `unreachable` routes: behind everything else.
const METRIC: u32 = u32::MAX;
/// Prefix length of the link's IPv6 network: the first /64 of our prefix.
const LINK_V6_LEN: u8 = 64;

/// Packets that the kernel may queue for us: 128 MiB at the largest, in practice bounded by the flows' windows.
const QUEUE_LEN: u32 = 2_000;

/// A netlink socket and the task that reads it.
pub struct Routes {
    pub(super) handle: Handle,
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

    /// Every prefix in use on the host that is more specific than the default route, except ours: the
    /// `unreachable` routes and whatever hangs from the device `own`. A host without IPv6 has none of its.
    ///
    /// # Errors
    /// Netlink fails.
    pub async fn taken(&self, own: &str) -> Result<Vec<Taken>, TunError> {
        let links = self.links().await?;
        let own = links.iter().find(|(_, name)| name == own).map(|(index, _)| *index);
        let device = |index: Option<u32>| {
            links.iter().find(|(known, _)| Some(*known) == index).map(|(_, name)| name.clone()).unwrap_or_default()
        };
        let mut taken = Vec::new();
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for (wanted, required) in [(v4, true), (v6, false)] {
            let mut routes = pin!(self.handle.route().get(wanted).execute());
            loop {
                match routes.try_next().await {
                    Ok(Some(route)) => taken.extend(route_prefix(&route, own).map(|(way, index)| (way, device(index)))),
                    Ok(None) => break,
                    Err(error) if required => return Err(TunError::from_netlink(error)),
                    Err(_) => break,
                }
            }
        }
        let mut addresses = pin!(self.handle.address().get().execute());
        while let Some(address) = addresses.try_next().await.map_err(TunError::from_netlink)? {
            let index = Some(address.header.index);
            if index != own {
                taken.extend(network(&address).map(|way| (way, device(index))));
            }
        }
        Ok(taken.into_iter().map(|(way, device)| Taken { way, device }).collect())
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

    /// Sets the device's MTU, or a smaller one where the kernel does not take it, and how much it queues for us. The
    /// MTU that it has now.
    ///
    /// # Errors
    /// The device is gone, or takes neither MTU.
    pub async fn size_link(&self, name: &str, mtu: u16) -> Result<u16, TunError> {
        let index = self.index(name).await?.ok_or_else(|| TunError::Device(format!("{name} is gone")))?;
        let link = || LinkUnspec::new_with_index(index);
        let queue = LinkAttribute::TxQueueLen(QUEUE_LEN);
        // Inside a user namespace the kernel keeps its own length, which is enough to work with.
        if let Err(error) = self.handle.link().set(link().append_extra_attribute(queue).build()).execute().await {
            tracing::debug!(%error, "the TUN device keeps its queue length");
        }
        let set = |mtu: u16| self.handle.link().set(link().mtu(mtu.into()).build()).execute();
        match set(mtu).await {
            Ok(()) => Ok(mtu),
            Err(error) if mtu > MTU_FALLBACK => {
                tracing::warn!(%error, mtu, fallback = MTU_FALLBACK, "the TUN device does not take this MTU");
                set(MTU_FALLBACK).await.map(|()| MTU_FALLBACK).map_err(TunError::from_netlink)
            }
            Err(error) => Err(TunError::from_netlink(error)),
        }
    }

    /// Brings the device `name` up with our addresses, and takes away those of an earlier plan. Its IPv6 address
    /// is usable at once, without duplicate address detection, and only for packets to our prefix, whose route
    /// names it: it is deprecated (RFC 4862 §5.5.4), so nothing else picks it. False where IPv6 is switched off.
    ///
    /// # Errors
    /// The device is gone, or the IPv4 address cannot be set.
    pub async fn settle_link(&self, name: &str, addresses: &Addresses) -> Result<bool, TunError> {
        let index = self.index(name).await?.ok_or_else(|| TunError::Device(format!("{name} is gone")))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(up).execute().await.map_err(TunError::from_netlink)?;
        let (v4, v6) = addresses.ours();
        self.remove_stale(index, (v4.into(), addresses.ipv4.len)).await?;
        let add = |address, len| self.handle.address().add(index, address, len).replace();
        add(IpAddr::V4(v4), addresses.ipv4.len).execute().await.map_err(TunError::from_netlink)?;
        let mut request = add(IpAddr::V6(v6), LINK_V6_LEN);
        request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_preferred, lifetime.ifa_valid) = (0, u32::MAX);
        request.message_mut().attributes.push(AddressAttribute::CacheInfo(lifetime));
        let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(addresses.ipv6.address, LINK_V6_LEN);
        let route = route.output_interface(index).pref_source(v6).build();
        let added = match request.execute().await {
            Ok(()) => self.handle.route().add(route).replace().execute().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &added {
            tracing::warn!(%error, "this host has no IPv6: names get IPv4 addresses only");
        }
        Ok(added.is_ok())
    }

    /// Takes every address off a device but `kept` and those that are link-local.
    async fn remove_stale(&self, index: u32, kept: (IpAddr, u8)) -> Result<(), TunError> {
        let mut present = pin!(self.handle.address().get().set_link_index_filter(index).execute());
        let mut stale = Vec::new();
        while let Some(address) = present.try_next().await.map_err(TunError::from_netlink)? {
            let ours = own_address(&address).is_some_and(|own| kept == (own, address.header.prefix_len));
            let link_local = address.header.scope == AddressScope::Link;
            if address.header.index == index && !ours && !link_local {
                stale.push(address);
            }
        }
        for address in stale {
            self.handle.address().del(address).execute().await.map_err(TunError::from_netlink)?;
        }
        Ok(())
    }

    /// Whether the device `name` is there and down, which somebody else did.
    ///
    /// # Errors
    /// Netlink fails.
    pub async fn is_down(&self, name: &str) -> Result<bool, TunError> {
        let links = self.link_messages().await?;
        let own = links.iter().find(|link| link_name(link).is_some_and(|own| own == name));
        Ok(own.is_some_and(|link| !link.header.flags.contains(LinkFlags::Up)))
    }

    /// The index of a device, if it exists.
    async fn index(&self, name: &str) -> Result<Option<u32>, TunError> {
        Ok(self.links().await?.into_iter().find(|(_, own)| own == name).map(|(index, _)| index))
    }

    /// Whether a device exists.
    ///
    /// # Errors
    /// Netlink fails.
    pub async fn exists(&self, name: &str) -> Result<bool, TunError> {
        Ok(self.index(name).await?.is_some())
    }

    /// Index and name of every device.
    async fn links(&self) -> Result<Vec<(u32, String)>, TunError> {
        let links = self.link_messages().await?;
        Ok(links.iter().filter_map(|link| Some((link.header.index, link_name(link)?.to_owned()))).collect())
    }

    /// Every device as the kernel describes it.
    async fn link_messages(&self) -> Result<Vec<LinkMessage>, TunError> {
        self.handle.link().get().execute().try_collect().await.map_err(TunError::from_netlink)
    }
}

/// The name of a device.
fn link_name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The address of an interface itself, not its network or far end.
fn own_address(address: &AddressMessage) -> Option<IpAddr> {
    let find = |local: bool| {
        address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    find(true).or_else(|| find(false))
}

/// The network that an interface's address is in.
fn network(address: &AddressMessage) -> Option<Way> {
    let len = address.header.prefix_len;
    address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V4(network)) => Some(Way::V4(PrefixV4::containing(*network, len))),
        AddressAttribute::Address(IpAddr::V6(network)) => Some(Way::V6(PrefixV6::containing(*network, len))),
        _ => None,
    })
}

/// The two routes: our IPv4 prefix and our IPv6 prefix, whole.
fn unreachable(addresses: &Addresses) -> [RouteMessage; 2] {
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(addresses.ipv4.address, addresses.ipv4.len);
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(addresses.ipv6.address, addresses.ipv6.len);
    [v4.kind(RouteType::Unreachable).priority(METRIC).build(), v6.kind(RouteType::Unreachable).priority(METRIC).build()]
}

/// The prefix of a route that counts as taken, and its device: not the default route, not one of our
/// `unreachable` routes, not one through our own device.
fn route_prefix(route: &RouteMessage, own: Option<u32>) -> Option<(Way, Option<u32>)> {
    let (mut network, mut metric, mut device) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => network = Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => network = Some(IpAddr::V6(*address)),
            RouteAttribute::Priority(priority) => metric = Some(*priority),
            RouteAttribute::Oif(index) => device = Some(*index),
            // Attributes of the kernel's, not variants of ours.
            _ => {}
        }
    }
    let ours = route.header.kind == RouteType::Unreachable && metric == Some(METRIC);
    let through_us = device.is_some() && device == own;
    let len = route.header.destination_prefix_length;
    let way = match network? {
        IpAddr::V4(network) => Way::V4(Prefix::<Ipv4Addr>::containing(network, len)),
        IpAddr::V6(network) => Way::V6(Prefix::<Ipv6Addr>::containing(network, len)),
    };
    (len > 0 && !ours && !through_us).then_some((way, device))
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
        let taken = |message: &RouteMessage| match route_prefix(message, Some(9)) {
            Some((Way::V4(prefix), _)) => Some((prefix.address.octets(), prefix.len)),
            Some((Way::V6(prefix), _)) => panic!("{prefix}"),
            None => None,
        };
        assert_eq!(taken(&route([198, 18, 5, 0], 24, RouteType::Unicast, 0, 2)), Some(([198, 18, 5, 0], 24)));
        assert_eq!(taken(&route([198, 18, 0, 0], 15, RouteType::Unicast, 0, 9)), None);
        assert_eq!(taken(&route([198, 18, 0, 0], 15, RouteType::Unreachable, METRIC, 1)), None);
        assert_eq!(taken(&route([198, 18, 0, 0], 15, RouteType::Unreachable, 7, 1)), Some(([198, 18, 0, 0], 15)));
        assert_eq!(taken(&route([0, 0, 0, 0], 0, RouteType::Unicast, 0, 2)), None);
    }
}
