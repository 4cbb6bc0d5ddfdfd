//! Where a peer may be reached: `tcp://host:7946`, `tcp://[fe80::1%eth0]:7946`,
//! `wss://host/tarnet`, each with an optional `#<peer id>` (or `/#<peer id>`) that pins
//! the node that must answer.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use tarnet_core::crypto::PeerId;

/// Tarnet's TCP port, used when a URI names none.
pub const PORT_DEFAULT: u16 = 7946;

/// Bytes of the longest URI.
const URI_LEN_MAX: usize = 1024;

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Tcp,
    /// WebSocket.
    Ws,
    /// WebSocket in TLS.
    Wss,
}

/// A host by name or by address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address, with the interface that a link-local one needs (name or number).
    Address(IpAddr, Option<String>),
}

/// A place to dial, with the node expected there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerUri {
    /// The transport.
    pub scheme: Scheme,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// The path of a WebSocket, with its slash; empty for TCP.
    pub path: String,
    /// The node that must answer.
    pub pin: Option<PeerId>,
}

/// Text that is no such place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// The scheme is missing or unknown.
    #[error("expected tcp://, ws:// or wss://")]
    Scheme,
    /// The host is missing or malformed.
    #[error("{0:?} is no host; IPv6 addresses stand in brackets: tcp://[fe80::1%eth0]:7946")]
    Host(String),
    /// The port is no port.
    #[error("{0:?} is no port: expected 1 to 65535")]
    Port(String),
    /// What follows `#` is no peer id.
    #[error("what follows '#' is no peer id: it has 64 hex digits")]
    Pin,
    /// A path where there can be none.
    #[error("a tcp:// address has no path")]
    Path,
    /// Too long.
    #[error("longer than 1024 bytes")]
    Length,
}

impl Scheme {
    /// The text before `://`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port meant when none is given.
    #[must_use]
    pub const fn port_default(self) -> u16 {
        match self {
            Self::Tcp => PORT_DEFAULT,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

impl PeerUri {
    /// A TCP address without a pin.
    #[must_use]
    pub fn tcp(host: Host, port: u16) -> Self {
        Self { scheme: Scheme::Tcp, host, port, path: String::new(), pin: None }
    }

    /// The same place without its pin: what tells two targets apart.
    #[must_use]
    pub fn place(&self) -> Self {
        Self { pin: None, ..self.clone() }
    }
}

/// Parses `host`, `host:port`, `[v6%zone]:port`.
fn authority(text: &str, scheme: Scheme) -> Result<(Host, u16), UriError> {
    let bad_host = || UriError::Host(text.to_owned());
    let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
        let (inner, rest) = inner.split_once(']').ok_or_else(bad_host)?;
        let (address, zone) = match inner.split_once('%') {
            Some((address, zone)) => (address, Some(zone.strip_prefix("25").filter(|z| !z.is_empty()).unwrap_or(zone))),
            None => (inner, None),
        };
        let address = IpAddr::V6(address.parse().map_err(|_| bad_host())?);
        if zone.is_some_and(|zone| zone.is_empty() || zone.len() > 15 || zone.contains(['/', '%', ':'])) {
            return Err(bad_host());
        }
        (Host::Address(address, zone.map(str::to_owned)), rest)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        (host_name(name).ok_or_else(bad_host)?, rest)
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| UriError::Port(port.to_owned()))?,
        None if rest.is_empty() => scheme.port_default(),
        None => return Err(bad_host()),
    };
    Ok((host, port))
}

/// A DNS name (letters, digits, `-`, `_`, dots; 253 bytes) or an IPv4 address.
fn host_name(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse() {
        return Some(Host::Address(IpAddr::V4(address), None));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let fits = text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label);
    fits.then(|| Host::Name(text.to_ascii_lowercase()))
}

impl FromStr for PeerUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > URI_LEN_MAX {
            return Err(UriError::Length);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let schemes = [Scheme::Tcp, Scheme::Ws, Scheme::Wss];
        let scheme = schemes.into_iter().find(|known| known.as_str() == scheme).ok_or(UriError::Scheme)?;
        let (rest, pin) = match rest.split_once('#') {
            Some((rest, pin)) => (rest, Some(pin.parse().map_err(|_| UriError::Pin)?)),
            None => (rest, None),
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority_text, path) = rest.split_at(end);
        let path = if path == "/" { "" } else { path };
        if scheme == Scheme::Tcp && !path.is_empty() {
            return Err(UriError::Path);
        }
        if path.chars().any(|c| c.is_control() || c == ' ') {
            return Err(UriError::Path);
        }
        let (host, port) = authority(authority_text, scheme)?;
        Ok(Self { scheme, host, port, path: path.to_owned(), pin })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address), _) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address), None) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V6(address), Some(zone)) => write!(f, "[{address}%{zone}]"),
        }
    }
}

impl fmt::Display for PeerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.scheme == Scheme::Tcp || self.port != self.scheme.port_default() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)?;
        self.pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uris_print_as_they_were_meant() {
        let pin = "ab".repeat(32);
        for (text, printed) in [
            ("tcp://host:7946".into(), "tcp://host:7946".to_owned()),
            ("tcp://Host.Example".into(), "tcp://host.example:7946".into()),
            ("tcp://192.0.2.1:1".into(), "tcp://192.0.2.1:1".into()),
            ("tcp://[fe80::1%eth0]:7946".into(), "tcp://[fe80::1%eth0]:7946".into()),
            ("tcp://[fe80::1%25eth0]".into(), "tcp://[fe80::1%eth0]:7946".into()),
            (format!("tcp://h:1/#{pin}"), format!("tcp://h:1#{pin}")),
            (format!("wss://relay.example.org/tarnet#{pin}"), format!("wss://relay.example.org/tarnet#{pin}")),
            ("ws://h:8080/x".into(), "ws://h:8080/x".into()),
        ] {
            let uri: PeerUri = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(uri.to_string(), printed);
            assert_eq!(printed.parse(), Ok(uri));
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "host:7946",
            "udp://h:1",
            "tcp://",
            "tcp://:1",
            "tcp://h:0",
            "tcp://h:65536",
            "tcp://h:1/path",
            "tcp://h:1#ab",
            "tcp://fe80::1:7946",
            "tcp://[fe80::1",
            "tcp://[fe80::1]x",
            "tcp://[fe80::1%]:1",
            "tcp://[fe80::1%a/b]:1",
            "tcp://a b:1",
        ] {
            assert!(text.parse::<PeerUri>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_uri_or_an_error(text in "(tcp|wss)://\\PC{0,40}") {
            if let Ok(uri) = text.parse::<PeerUri>() {
                prop_assert_eq!(uri.to_string().parse(), Ok(uri));
            }
        }
    }
}
