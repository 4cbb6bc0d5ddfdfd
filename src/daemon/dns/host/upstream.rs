//! Whom systemd-resolved asks when no link claims a name: read off the bus, to be asked by us
//! where every question comes to us because our names are too many for a link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use zbus::{Connection, OwnedObjectPath};

use super::bus::{BusError, Object};
use super::resolved::{LINK, MANAGER, NAME};

/// Servers looked at; resolved itself takes at most 256 for a link.
const SERVERS_SEEN_MAX: usize = 64;
/// DNS.
const PORT: u16 = 53;

/// A server as the bus has it: the link's index or 0 for all, the address family, the address.
type Server = (i32, i32, Vec<u8>);

/// The servers for names that no link claims: those of the whole host, else those of the links that take any
/// name, else the fallback ones. In `own` are ours, who are not asked.
///
/// # Errors
/// resolved does not answer.
pub async fn upstream(bus: &Connection, own: i32) -> Result<Vec<SocketAddr>, BusError> {
    let known: Vec<Server> = MANAGER.property(bus, "DNS").await?;
    let mut servers = Vec::new();
    for server in known.iter().filter(|server| server.0 != own).take(SERVERS_SEEN_MAX) {
        if server.0 == 0 || takes_any(bus, server.0).await? {
            servers.push(server);
        }
    }
    let fallback: Vec<Server> = match servers.is_empty() {
        true => MANAGER.property(bus, "FallbackDNS").await?,
        false => Vec::new(),
    };
    servers.extend(&fallback);
    Ok(servers.into_iter().filter_map(place).collect())
}

/// Whether resolved takes servers' word as it is: neither validates answers nor encrypts questions. What we forward
/// would undo either.
///
/// # Errors
/// resolved does not answer.
pub async fn is_plain(bus: &Connection) -> Result<bool, BusError> {
    for name in ["DNSSEC", "DNSOverTLS"] {
        match MANAGER.property::<String>(bus, name).await {
            Ok(value) if value == "no" => {}
            // A version that does not know it does not do it.
            Err(BusError::Unknown(_)) => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Whether a link is asked for names that nobody claims.
async fn takes_any(bus: &Connection, index: i32) -> Result<bool, BusError> {
    let found = MANAGER.call(bus, "GetLink", &(index,)).await?;
    let path: Result<OwnedObjectPath, _> = found.body().deserialize();
    let path = path.map_err(|error| BusError::Failed("GetLink".into(), error.to_string()))?;
    Object { owner: NAME, path: path.as_str(), interface: LINK }.property(bus, "DefaultRoute").await
}

/// Where a server is; `None` for what is no address.
fn place(server: &Server) -> Option<SocketAddr> {
    let (index, _, bytes) = server;
    match bytes.len() {
        4 => Some((Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..]).ok()?), PORT).into()),
        16 => {
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?);
            let scope = if address.is_unicast_link_local() { u32::try_from(*index).ok()? } else { 0 };
            Some(SocketAddrV6::new(address, PORT, 0, scope).into())
        }
        _ => None,
    }
}

/// For the status: the servers, without ports.
#[must_use]
pub fn named(servers: &[SocketAddr]) -> String {
    let named: Vec<String> = servers.iter().map(SocketAddr::ip).map(|server: IpAddr| server.to_string()).collect();
    if named.is_empty() { "nobody".into() } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_bus_has_them() {
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let near: Ipv6Addr = "fe80::1".parse().unwrap();
        assert_eq!(place(&(2, 2, vec![192, 0, 2, 1])), Some("192.0.2.1:53".parse().unwrap()));
        assert_eq!(place(&(2, 10, v6.octets().to_vec())), Some("[2001:db8::1]:53".parse().unwrap()));
        assert_eq!(place(&(7, 10, near.octets().to_vec())), Some(SocketAddrV6::new(near, 53, 0, 7).into()));
        assert_eq!(place(&(-1, 10, near.octets().to_vec())), None);
        assert_eq!(place(&(2, 2, vec![1, 2, 3])), None);
    }
}
