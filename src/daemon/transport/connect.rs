//! One attempt to reach a target: look the name up, try its addresses staggered
//! (RFC 8305, "happy eyeballs"), and take the first that answers.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::limits::{ADDRESSES_MAX, CONNECT_TIME_MAX, EYEBALL_DELAY};
use crate::config::{Host, PeerUri};

/// Where to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A host, looked up at each attempt.
    Uri(PeerUri),
    /// Addresses that are known to belong together.
    Addresses(Vec<SocketAddr>),
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("{0}: cannot be looked up: {1}")]
    Lookup(String, io::Error),
    /// There is no such network interface (now).
    #[error("there is no network interface {0}")]
    Interface(String),
    /// No address answered; the last error.
    #[error("{0}: {1}")]
    Refused(SocketAddr, io::Error),
    /// No address at all.
    #[error("there is no address to dial")]
    NoAddress,
    /// Nothing answered in time.
    #[error("no answer within {} s", CONNECT_TIME_MAX.as_secs())]
    Timeout,
}

/// Connects to a place, within [`CONNECT_TIME_MAX`]. May be dropped.
///
/// # Errors
/// See [`ConnectError`].
pub(super) async fn connect(place: &Place) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let attempt = async {
        let mut addresses = match place {
            Place::Uri(uri) => look_up(&uri.host, uri.port).await?,
            Place::Addresses(addresses) => addresses.clone(),
        };
        addresses = interleave(addresses);
        addresses.truncate(ADDRESSES_MAX);
        race(addresses).await
    };
    timeout(CONNECT_TIME_MAX, attempt).await.unwrap_or(Err(ConnectError::Timeout))
}

/// Connects to a host of the clearnet, within [`CONNECT_TIME_MAX`]. May be dropped.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_host(host: &Host, port: u16) -> Result<TcpStream, ConnectError> {
    let place = Place::Uri(PeerUri::tcp(host.clone(), port));
    connect(&place).await.map(|(stream, _)| stream)
}

/// The addresses of a host, by the system's resolver.
///
/// # Errors
/// The name has none, or the interface of a link-local address is not there.
pub async fn look_up(host: &Host, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    match host {
        Host::Address(address, zone) => Ok(vec![scoped(*address, zone.as_deref(), port)?]),
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), port))
            .await
            .map(Iterator::collect)
            .map_err(|error| ConnectError::Lookup(name.clone(), error)),
    }
}

/// An address with the interface that it belongs to, by name or number.
fn scoped(address: IpAddr, zone: Option<&str>, port: u16) -> Result<SocketAddr, ConnectError> {
    let (IpAddr::V6(v6), Some(zone)) = (address, zone) else { return Ok(SocketAddr::new(address, port)) };
    let scope = match zone.parse() {
        Ok(number) => number,
        Err(_) => nix::net::if_::if_nametoindex(zone).map_err(|_| ConnectError::Interface(zone.to_owned()))?,
    };
    Ok(SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope)))
}

/// Alternates between the families, in the order given within each; the first one's family leads. RFC 8305 §4.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let lead = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == lead);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut out = Vec::new();
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return out;
        }
        out.extend(pair.0);
        out.extend(pair.1);
    }
}

/// Tries the addresses one after another without waiting long for any; the first connection wins.
async fn race(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut rest = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut last = ConnectError::NoAddress;
    loop {
        let started = rest
            .next()
            .map(|address| running.spawn(async move { (TcpStream::connect(address).await, address) }))
            .is_some();
        if !started && running.is_empty() {
            return Err(last);
        }
        let answer = tokio::select! {
            answer = running.join_next() => answer,
            () = sleep(EYEBALL_DELAY), if started => None,
        };
        match answer {
            Some(Ok((Ok(stream), address))) => return Ok((stream, address)),
            Some(Ok((Err(error), address))) => last = ConnectError::Refused(address, error),
            Some(Err(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = parse(&["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1"]);
        assert_eq!(interleave(mixed), parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(interleave(Vec::new()), []);
    }

    #[test]
    fn zones_are_names_or_numbers() {
        let address = "fe80::1".parse().unwrap();
        assert!(matches!(scoped(address, Some("7"), 1), Ok(SocketAddr::V6(v6)) if v6.scope_id() == 7));
        assert!(matches!(scoped(address, Some("lo"), 1), Ok(SocketAddr::V6(v6)) if v6.scope_id() > 0));
        assert!(matches!(scoped(address, Some("no-such-if"), 1), Err(ConnectError::Interface(_))));
    }

    #[tokio::test]
    async fn a_refusing_address_does_not_keep_the_next_waiting() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let started = tokio::time::Instant::now();
        let (_, address) = connect(&Place::Addresses(vec![dead, good])).await.unwrap();
        assert_eq!(address, good);
        assert!(started.elapsed() < EYEBALL_DELAY);
        assert!(matches!(connect(&Place::Addresses(vec![dead])).await, Err(ConnectError::Refused(..))));
        assert!(matches!(connect(&Place::Addresses(Vec::new())).await, Err(ConnectError::NoAddress)));
    }
}
