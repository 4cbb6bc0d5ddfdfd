//! The table of all keys of `tarnetd.toml`: name, default, comment, and how the value
//! is read. Everything else (parsing, printing, proposals) works from it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

use tarnet_core::crypto::{Group, PeerId};
use zeroize::Zeroizing;

use super::raw::{Raw, nearest};
use super::types::{Config, DnsMode, NetworkKey, Padding, Switch};
use super::units;
use super::uri::PeerUri;
use crate::store::identity_name;

/// Links of one kind that may be configured.
const LINKS_MAX: usize = 65_536;
/// The least rate that links stay up with, bytes per second.
const RATE_LIMIT_MIN: u64 = 64_000 / 8;
/// The least memory that the daemon works with, bytes.
const MEMORY_LIMIT_MIN: u64 = 32 << 20;
/// The least MTU that IPv6 allows.
const MTU_MIN: u16 = 1280;
/// Bytes of the longest interface name, without its terminator: Linux `IFNAMSIZ`.
const INTERFACE_LEN_MAX: usize = 15;

/// Why a value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bad {
    /// It is wrong: what would be right.
    Value(String),
    /// It restricts or hides, and is not enforced yet.
    NotYet,
}

/// One key.
pub struct Key {
    /// `section.key`.
    pub path: &'static str,
    /// The default, as TOML writes it.
    pub default: &'static str,
    /// What it is for; printed beside it.
    pub comment: &'static str,
    /// Reads the value into its place.
    pub set: fn(&mut Config, &Raw) -> Result<(), Bad>,
}

impl Key {
    /// Section and name.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

/// The table row, written short.
const fn key(
    path: &'static str,
    default: &'static str,
    comment: &'static str,
    set: fn(&mut Config, &Raw) -> Result<(), Bad>,
) -> Key {
    Key { path, default, comment, set }
}

/// Stores a value that was read well.
fn put<T>(place: &mut T, value: Result<T, Bad>) -> Result<(), Bad> {
    *place = value?;
    Ok(())
}

/// A value of the wrong kind.
fn expected<T>(what: &str, raw: &Raw) -> Result<T, Bad> {
    Err(Bad::Value(format!("expected {what}, found {}", raw.kind())))
}

/// `true` or `false`.
fn boolean(raw: &Raw) -> Result<bool, Bad> {
    if let Raw::Bool(value) = raw { Ok(*value) } else { expected("true or false", raw) }
}

/// A text.
fn text(raw: &Raw) -> Result<&str, Bad> {
    if let Raw::Text(value) = raw { Ok(value) } else { expected("a text", raw) }
}

/// A list of texts.
fn list(raw: &Raw) -> Result<&[String], Bad> {
    if let Raw::List(items) = raw { Ok(items) } else { expected("a list of texts", raw) }
}

/// A whole number within bounds; out of them, the error names the nearest valid one.
fn number<T: TryFrom<i64> + Display + PartialOrd>(raw: &Raw, min: T, max: T) -> Result<T, Bad> {
    let Raw::Int(value) = raw else { return expected("a number", raw) };
    let near = if *value < 0 { &min } else { &max };
    match T::try_from(*value) {
        Ok(number) if number < min => Err(Bad::Value(format!("{number} is too small: at least {min}"))),
        Ok(number) if number > max => Err(Bad::Value(format!("{number} is too large: at most {max}"))),
        Ok(number) => Ok(number),
        Err(_) => Err(Bad::Value(format!("{value} is out of range: nearest is {near}"))),
    }
}

/// Text that parses to `T`.
fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, Bad> {
    text.parse().map_err(|_| Bad::Value(format!("{text:?}: expected {what}")))
}

/// A list whose items parse to `T`.
fn parsed_list<T: FromStr>(raw: &Raw, what: &str) -> Result<Vec<T>, Bad> {
    list(raw)?.iter().map(|item| parsed(item, what)).collect()
}

/// Addresses to listen on.
fn addresses(raw: &Raw) -> Result<Vec<SocketAddr>, Bad> {
    parsed_list(raw, "ADDRESS:PORT, such as \"127.0.0.1:1080\" or \"[::1]:1080\"")
}

/// One of a few words.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Bad> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let near = nearest(text, words.iter().map(|(word, _)| *word));
    let near = near.map_or_else(String::new, |word| format!("; did you mean \"{word}\"?"));
    Err(Bad::Value(format!("{text:?} is none of {}{near}", all.join(", "))))
}

/// A setting that is not enforced yet: anything but its default is refused.
fn not_yet(raw: &Raw, default: &str) -> Result<(), Bad> {
    let empty: Raw = super::raw::parse_value(default).ok_or(Bad::NotYet)?;
    let same_kind = std::mem::discriminant(raw) == std::mem::discriminant(&empty);
    if *raw == empty {
        Ok(())
    } else if same_kind {
        Err(Bad::NotYet)
    } else {
        expected(empty.kind(), raw)
    }
}

/// A rate limit, bytes per second; nothing: none.
fn limit(raw: &Raw) -> Result<Option<u64>, Bad> {
    match text(raw)? {
        "" => Ok(None),
        text => match units::rate(text).map_err(|error| Bad::Value(error.to_string()))? {
            rate if rate < RATE_LIMIT_MIN => Err(Bad::Value("too slow to keep links up: at least \"64kbit\"".into())),
            rate => Ok(Some(rate)),
        },
    }
}

/// A size of memory.
fn memory(raw: &Raw) -> Result<u64, Bad> {
    let bytes = units::size(text(raw)?).map_err(|error| Bad::Value(error.to_string()))?;
    if bytes < MEMORY_LIMIT_MIN {
        return Err(Bad::Value(format!("too small: at least \"{}MiB\"", MEMORY_LIMIT_MIN >> 20)));
    }
    Ok(bytes)
}

/// The key of a private network: 64 hex digits, or nothing.
fn network_key(raw: &Raw) -> Result<Option<NetworkKey>, Bad> {
    let text = text(raw)?;
    match text.parse::<PeerId>() {
        _ if text.is_empty() => Ok(None),
        // 64 hex digits, the form of a PeerId.
        Ok(PeerId(key)) => Ok(Some(NetworkKey { bytes: Zeroizing::new(key), stretched: false })),
        Err(_) => {
            NetworkKey::stretch(text).map(Some).ok_or_else(|| Bad::Value("a key is at most 1,024 bytes of text".into()))
        }
    }
}

/// Padding of frames.
fn padding(raw: &Raw) -> Result<Padding, Bad> {
    let text = text(raw)?;
    if let Some(rate) = text.strip_prefix("constant:") {
        return match units::rate(rate).map_err(|error| Bad::Value(error.to_string()))? {
            rate if rate < RATE_LIMIT_MIN => Err(Bad::Value("too slow to keep links up: at least \"64kbit\"".into())),
            rate => Ok(Padding::Constant(rate)),
        };
    }
    word(text, &[("off", Padding::Off), ("buckets", Padding::Buckets)])
}

/// Key agreement groups: at least one, none twice.
fn groups(raw: &Raw) -> Result<Vec<Group>, Bad> {
    let words = [("x25519mlkem768", Group::X25519MlKem768), ("x25519", Group::X25519)];
    let groups: Vec<Group> = list(raw)?.iter().map(|item| word(item, &words)).collect::<Result<_, _>>()?;
    let twice = groups.iter().enumerate().any(|(at, group)| groups[..at].contains(group));
    if groups.is_empty() || twice {
        return Err(Bad::Value("name each group once, and at least one".into()));
    }
    Ok(groups)
}

/// Peers to dial.
fn peers(raw: &Raw) -> Result<Vec<PeerUri>, Bad> {
    list(raw)?
        .iter()
        .map(|item| item.parse().map_err(|error: super::uri::UriError| Bad::Value(format!("{item:?}: {error}"))))
        .collect()
}

/// Public addresses, `host:port` each.
fn advertise(raw: &Raw) -> Result<Vec<PeerUri>, Bad> {
    list(raw)?.iter().map(|item| parsed(&format!("tcp://{item}"), "HOST:PORT")).collect()
}

/// `"auto"`, `true` or `false`.
fn switch(raw: &Raw) -> Result<Switch, Bad> {
    match raw {
        Raw::Bool(true) => Ok(Switch::On),
        Raw::Bool(false) => Ok(Switch::Off),
        Raw::Text(text) if text == "auto" => Ok(Switch::Auto),
        Raw::Text(_) | Raw::Int(_) | Raw::List(_) | Raw::Map(_) => {
            Err(Bad::Value("expected \"auto\", true or false".into()))
        }
    }
}

/// The name of a network interface.
fn interface(raw: &Raw) -> Result<String, Bad> {
    let name = text(raw)?;
    let fits = (1..=INTERFACE_LEN_MAX).contains(&name.len()) && name != "." && name != "..";
    if !fits || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        return Err(Bad::Value(format!("expected 1 to {INTERFACE_LEN_MAX} bytes without '/', ':' and spaces")));
    }
    Ok(name.into())
}

/// A text that must not be empty.
fn name(raw: &Raw) -> Result<String, Bad> {
    match text(raw)? {
        "" => Err(Bad::Value("must not be empty".into())),
        text => Ok(text.into()),
    }
}

/// An identity, or nothing.
fn optional_identity(raw: &Raw) -> Result<String, Bad> {
    match text(raw)? {
        "" => Ok(String::new()),
        identity => {
            identity_name(identity).map_err(|error| Bad::Value(error.to_string()))?;
            Ok(identity.into())
        }
    }
}

/// Users of the host, each with an identity.
fn users(raw: &Raw) -> Result<BTreeMap<String, String>, Bad> {
    let Raw::Map(users) = raw else { return expected("a table such as { \"marty\" = \"work\" }", raw) };
    for (user, identity) in users {
        identity_name(identity).map_err(|error| Bad::Value(error.to_string()))?;
        if user.is_empty() {
            return Err(Bad::Value("a user has no name".into()));
        }
    }
    Ok(users.clone())
}

/// `None` for an empty text, else what it parses to.
fn optional<T: FromStr>(raw: &Raw, what: &str) -> Result<Option<T>, Bad> {
    match text(raw)? {
        "" => Ok(None),
        text => parsed(text, what).map(Some),
    }
}

/// How the host is told of our DNS.
fn dns_mode(raw: &Raw) -> Result<DnsMode, Bad> {
    word(text(raw)?, &DnsMode::WORDS)
}

/// A DNS suffix without its dots around.
fn suffix(raw: &Raw) -> Result<String, Bad> {
    let suffix = text(raw)?.trim_matches('.').to_ascii_lowercase();
    let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if suffix.len() > 200 || !suffix.split('.').all(label) {
        return Err(Bad::Value("expected a DNS suffix such as \"tarnet.alt\"".into()));
    }
    Ok(suffix)
}

/// A log level, or directives with one per module.
fn log_level(raw: &Raw) -> Result<String, Bad> {
    let levels = ["error", "warn", "info", "debug", "trace", "off"].map(|level| (level, ()));
    let text = text(raw)?;
    for part in text.split(',') {
        word(part.rsplit_once('=').map_or(part, |(_, level)| level).trim(), &levels)?;
    }
    Ok(text.into())
}

/// Every key, in the order in which they are printed.
pub const KEYS: &[Key] = &[
    key("node.open", "true", "false: stay silent to whoever does not know our PeerId", |c, v| {
        put(&mut c.node.open, boolean(v))
    }),
    key("node.memory_limit", "\"512MiB\"", "of all buffers and tables; the greedy are hit first", |c, v| {
        put(&mut c.node.memory_limit, memory(v))
    }),
    key("node.max_inbound", "128", "links accepted", |c, v| put(&mut c.node.max_inbound, number(v, 0, LINKS_MAX))),
    key("node.max_outbound", "48", "links the daemon opens by itself", |c, v| {
        put(&mut c.node.max_outbound, number(v, 0, LINKS_MAX))
    }),
    key(
        "node.direct",
        "true",
        "link up directly with peers that say where they can be dialled; half of max_outbound",
        |c, v| put(&mut c.node.direct, boolean(v)),
    ),
    key("node.upload_limit", "\"\"", "\"10Mbit\", \"1MB/s\"; empty: none", |c, v| {
        put(&mut c.node.upload_limit, limit(v))
    }),
    key("node.download_limit", "\"\"", "", |c, v| put(&mut c.node.download_limit, limit(v))),
    key("node.network_key", "\"\"", "non-empty: a private network; only nodes with the same key can link", |c, v| {
        put(&mut c.node.network_key, network_key(v))
    }),
    key("link.padding", "\"buckets\"", "\"off\", \"buckets\", \"constant:RATE\"", |c, v| {
        put(&mut c.link.padding, padding(v))
    }),
    key("link.groups", "[\"x25519mlkem768\", \"x25519\"]", "key agreement, preferred first", |c, v| {
        put(&mut c.link.groups, groups(v))
    }),
    key(
        "bootstrap.peers",
        "[]",
        "\"tcp://host:7946\", \"wss://host/tarnet\", \"tcp://[fe80::1%eth0]:7946\"; append \"#<peer id>\" to pin the node that must answer",
        |c, v| put(&mut c.bootstrap.peers, peers(v)),
    ),
    key("bootstrap.mdns", "true", "seek and announce on the local network", |c, v| {
        put(&mut c.bootstrap.mdns, boolean(v))
    }),
    key("transport.tcp.listen", "[\"0.0.0.0:7946\", \"[::]:7946\"]", "", |c, v| put(&mut c.tcp.listen, addresses(v))),
    key("transport.tcp.advertise", "[]", "public addresses to put into our Hello; empty: none", |c, v| {
        put(&mut c.tcp.advertise, advertise(v))
    }),
    key(
        "transport.ws.listen",
        "[]",
        "\"127.0.0.1:8080\": plain ws:// for a reverse proxy to put TLS before",
        |_, v| not_yet(v, "[]"),
    ),
    key("transport.ws.path", "\"/tarnet\"", "", |c, v| {
        not_yet(v, "\"/tarnet\"").and_then(|()| put(&mut c.ws.path, name(v)))
    }),
    key("transport.ws.trusted_proxies", "[]", "addresses whose forwarding header names the real source", |_, v| {
        not_yet(v, "[]")
    }),
    key("transport.ws.advertise", "[]", "\"wss://relay.example.org/tarnet\"", |_, v| not_yet(v, "[]")),
    key("transport.webrtc.enabled", "true", "", |c, v| put(&mut c.webrtc.enabled, boolean(v))),
    key("transport.webrtc.stun", "[]", "\"stun:host:port\"", |c, v| {
        put(&mut c.webrtc.stun, list(v).map(<[String]>::to_vec))
    }),
    key("socks.listen", "[\"127.0.0.1:1080\", \"[::1]:1080\"]", "", |c, v| put(&mut c.socks.listen, addresses(v))),
    key(
        "socks.allow_clearnet",
        "false",
        "a name that TNS does not know: refuse (default) or dial it directly",
        |c, v| put(&mut c.socks.allow_clearnet, boolean(v)),
    ),
    key(
        "tun.enabled",
        "\"auto\"",
        "\"auto\": where the capability is there; true: fail without it; false: never",
        |c, v| put(&mut c.tun.enabled, switch(v)),
    ),
    key("tun.name", "\"tarnet0\"", "", |c, v| put(&mut c.tun.name, interface(v))),
    key(
        "tun.ipv4",
        "\"198.18.0.0/15\"",
        "synthetic addresses; where a route already overlaps, the next free candidate is taken and kept",
        |c, v| put(&mut c.tun.ipv4, optional(v, "a prefix such as \"198.18.0.0/15\"")),
    ),
    key("tun.ipv6", "\"\"", "empty: a random ULA /48, made once per installation", |c, v| {
        put(&mut c.tun.ipv6, optional(v, "a prefix such as \"fd00:1:2::/48\""))
    }),
    key("tun.mtu", "65535", "flows end here, so as large as the device takes", |c, v| {
        put(&mut c.tun.mtu, number(v, MTU_MIN, u16::MAX))
    }),
    key("tun.identity", "\"default\"", "the acting identity of intercepted flows", |c, v| {
        put(&mut c.tun.identity, name(v))
    }),
    key("tun.users", "{}", "{ \"marty\" = \"work\" }: the acting identity by the uid that owns the socket", |c, v| {
        put(&mut c.tun.users, users(v))
    }),
    key(
        "tun.forwarded",
        "\"\"",
        "the acting identity of forwarded flows (containers, hosts that route through this one); empty: they are refused",
        |c, v| put(&mut c.tun.forwarded, optional_identity(v)),
    ),
    key(
        "dns.mode",
        "\"auto\"",
        "\"resolved\", \"networkmanager\", \"resolvconf\", \"direct\"; \"off\" leaves the host alone (the responder still answers on the link's second address)",
        |c, v| put(&mut c.dns.mode, dns_mode(v)),
    ),
    key(
        "dns.suffix",
        "\"tarnet.alt\"",
        "every name also works as NAME.tarnet.alt, whatever the host's resolver does",
        |c, v| put(&mut c.dns.suffix, suffix(v)),
    ),
    key("dns.listen", "[]", "extra addresses to serve on, e.g. \"127.0.0.1:5353\"", |c, v| {
        put(&mut c.dns.listen, addresses(v))
    }),
    key("dns.ttl", "\"60s\"", "of positive answers; negative ones 5 s", |c, v| {
        put(&mut c.dns.ttl, units::duration(text(v)?).map_err(|error| Bad::Value(error.to_string())))
    }),
    key("expose.dir", "\"\"", "other folder than services.d", |c, v| put(&mut c.expose.dir, optional(v, "a folder"))),
    key("bench.allow", "false", "answer `tarnet bench` of others", |c, v| put(&mut c.bench.allow, boolean(v))),
    key("metrics.listen", "\"\"", "\"127.0.0.1:9746\": Prometheus text; also always on the control socket", |_, v| {
        not_yet(v, "\"\"")
    }),
    key(
        "log.level",
        "\"info\"",
        "error, warn, info, debug, trace; one module: \"info,tarnet_daemon::socks=debug\"",
        |c, v| put(&mut c.log.level, log_level(v)),
    ),
];
