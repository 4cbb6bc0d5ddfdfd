//! One service file, parsed once into types (INTERFACE.md, "A service file").

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tarnet_core::crypto::ServiceId;
use tarnet_core::session::{Mode, Port};

use crate::config::raw::{self, Raw, nearest};
use crate::config::{Host, PeerUri};
use crate::store::identity_name;

/// Bytes of the longest label (RFC 1035 §2.3.4).
const LABEL_LEN_MAX: usize = 63;
/// Names and ids in one allow list.
const ALLOW_LEN_MAX: usize = 256;
/// Every key of a service file.
const KEYS: [&str; 10] = [
    "local",
    "protocol",
    "port",
    "identity",
    "publish",
    "subdomain",
    "name",
    "allow",
    "max_connections",
    "proxy_protocol",
];

/// What is wrong with a service file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {what}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// What the local service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The delivery mode of its channels.
    #[must_use]
    pub const fn mode(self) -> Mode {
        match self {
            Self::Tcp => Mode::ReliableOrdered,
            Self::Udp => Mode::UnreliableUnordered,
        }
    }
}

/// Where the local service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddress {
    /// A host and port.
    Inet(Host, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for LocalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err("a Unix socket needs an absolute path".into())
            };
        }
        let expected = || format!("{text:?}: expected HOST:PORT or \"unix:/path\"");
        let has_port =
            text.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && !host.ends_with(':'));
        let uri: PeerUri = format!("tcp://{text}").parse().map_err(|_| expected())?;
        if has_port && uri.pin.is_none() { Ok(Self::Inet(uri.host, uri.port)) } else { Err(expected()) }
    }
}

/// Somebody who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// An identity.
    Service(ServiceId),
    /// A name, resolved in the zone of the service's identity.
    Name(String),
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The file's name without `.toml`.
    pub name: String,
    /// The local service.
    pub local: LocalAddress,
    /// What it speaks.
    pub protocol: Protocol,
    /// The tarnet port.
    pub port: Port,
    /// The identity that it is served as.
    pub identity: String,
    /// Whether it is announced.
    pub publish: bool,
    /// The TNS label; absent: the apex.
    pub subdomain: Option<String>,
    /// Who may connect; empty: anyone.
    pub allow: Vec<Allowed>,
    /// Connections at once; 0: the node-wide bound.
    pub connections_max: usize,
    /// Whether the local service gets a PROXY v2 header.
    pub proxy_protocol: bool,
}

impl Service {
    /// Parses the file at `path` with this `text`.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn parse(path: &std::path::Path, text: &str) -> Result<Self, FileError> {
        let error = |line: usize, what: String| FileError { path: path.to_owned(), line, what };
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .ok_or_else(|| error(1, "the file's name is no text".into()))?;
        let entries = raw::parse(text, &|_| false).map_err(|problem| error(problem.line, problem.what))?;
        let mut draft = Draft::default();
        for entry in &entries {
            draft
                .set(&entry.path, &entry.value)
                .map_err(|what| error(entry.line, format!("`{}`: {what}", entry.path)))?;
        }
        draft.finish(name).map_err(|what| error(entries.last().map_or(1, |entry| entry.line), what))
    }
}

/// What the file has said so far.
#[derive(Default)]
struct Draft {
    local: Option<LocalAddress>,
    protocol: Option<Protocol>,
    port: Option<Port>,
    identity: Option<String>,
    publish: Option<bool>,
    subdomain: Option<String>,
    allow: Vec<Allowed>,
    connections_max: usize,
    proxy_protocol: bool,
}

impl Draft {
    /// Takes one key over.
    fn set(&mut self, key: &str, value: &Raw) -> Result<(), String> {
        match key {
            "local" => self.local = Some(text(value)?.parse()?),
            "protocol" => self.protocol = Some(protocol(text(value)?)?),
            "port" => self.port = Some(port(value)?),
            "identity" => {
                identity_name(text(value)?).map_err(|error| error.to_string())?;
                self.identity = Some(text(value)?.to_owned());
            }
            "publish" => self.publish = Some(boolean(value)?),
            "subdomain" | "name" if self.subdomain.is_some() => {
                return Err("`name` and `subdomain` are the same key".into());
            }
            "subdomain" | "name" => self.subdomain = Some(label(text(value)?)?),
            "allow" => self.allow = allow(value)?,
            "max_connections" => self.connections_max = count(value)?,
            "proxy_protocol" => self.proxy_protocol = boolean(value)?,
            _ => {
                let near = nearest(key, KEYS).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(format!("unknown key{near}"));
            }
        }
        Ok(())
    }

    /// The service, with its defaults.
    fn finish(self, name: &str) -> Result<Service, String> {
        let local =
            self.local.ok_or("`local` is missing: where the local service listens, such as \"127.0.0.1:4001\"")?;
        let protocol = self.protocol.unwrap_or(Protocol::Tcp);
        if protocol == Protocol::Udp && matches!(local, LocalAddress::Unix(_)) {
            return Err("protocol \"udp\" needs HOST:PORT, not a Unix socket".into());
        }
        if protocol == Protocol::Udp && self.proxy_protocol {
            return Err("`proxy_protocol` is for protocol \"tcp\" only".into());
        }
        let default_port =
            || Port::new(name).map_err(|error| format!("the file's name is no port ({error}): set `port`"));
        Ok(Service {
            name: name.to_owned(),
            local,
            protocol,
            port: self.port.map_or_else(default_port, Ok)?,
            identity: self.identity.unwrap_or_else(|| "default".into()),
            publish: self.publish.unwrap_or(true),
            subdomain: self.subdomain,
            allow: self.allow,
            connections_max: self.connections_max,
            proxy_protocol: self.proxy_protocol,
        })
    }
}

/// A text.
fn text(value: &Raw) -> Result<&str, String> {
    if let Raw::Text(text) = value { Ok(text) } else { Err(format!("expected a text, found {}", value.kind())) }
}

/// `true` or `false`.
fn boolean(value: &Raw) -> Result<bool, String> {
    if let Raw::Bool(value) = value {
        Ok(*value)
    } else {
        Err(format!("expected true or false, found {}", value.kind()))
    }
}

/// A number of connections.
fn count(value: &Raw) -> Result<usize, String> {
    let expected = || format!("expected 0 to {}", super::CONNECTIONS_MAX);
    let Raw::Int(number) = value else { return Err(expected()) };
    usize::try_from(*number).ok().filter(|count| *count <= super::CONNECTIONS_MAX).ok_or_else(expected)
}

/// `tcp` or `udp`.
fn protocol(text: &str) -> Result<Protocol, String> {
    let all = [Protocol::Tcp, Protocol::Udp];
    all.into_iter().find(|known| known.as_str() == text).ok_or_else(|| format!("{text:?}: expected \"tcp\" or \"udp\""))
}

/// A tarnet port: a number or a name.
fn port(value: &Raw) -> Result<Port, String> {
    match value {
        Raw::Int(number) => u16::try_from(*number).map(Port::from).map_err(|_| "expected 0 to 65535, or a name".into()),
        Raw::Text(text) => Port::new(text).map_err(|error| error.to_string()),
        Raw::Bool(_) | Raw::List(_) | Raw::Map(_) => {
            Err(format!("expected a number or a name, found {}", value.kind()))
        }
    }
}

/// One TNS label, lower-cased.
fn label(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte != b'-');
    if text.is_empty()
        || text.len() > LABEL_LEN_MAX
        || !text.bytes().all(fits)
        || !outer(text.bytes().next())
        || !outer(text.bytes().last())
    {
        return Err(format!(
            "{text:?}: expected one label: 1 to {LABEL_LEN_MAX} letters, digits, '-' or '_' (other scripts in their xn-- form)"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// ServiceIds and names.
fn allow(value: &Raw) -> Result<Vec<Allowed>, String> {
    let Raw::List(items) = value else {
        return Err(format!("expected a list of ServiceIds or names, found {}", value.kind()));
    };
    if items.len() > ALLOW_LEN_MAX {
        return Err(format!("at most {ALLOW_LEN_MAX} entries"));
    }
    let one = |item: &String| match item.parse() {
        Ok(service) => Ok(Allowed::Service(service)),
        Err(_) if item.is_empty() || item.len() > 253 || item.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err(format!("{item:?} is neither a ServiceId nor a name"))
        }
        Err(_) => Ok(Allowed::Name(item.clone())),
    };
    items.iter().map(one).collect()
}
