//! The settings as types: what is in here is valid. One struct per section.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tarnet_core::crypto::Group;
use zeroize::Zeroizing;

use super::uri::PeerUri;

/// All settings of the daemon. `Config::default()` is empty, not the defaults: see `Settings`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[link]`.
    pub link: Link,
    /// `[bootstrap]`.
    pub bootstrap: Bootstrap,
    /// `[transport.tcp]`.
    pub tcp: Tcp,
    /// `[transport.ws]`.
    pub ws: WebSocket,
    /// `[transport.webrtc]`.
    pub webrtc: WebRtc,
    /// `[socks]`.
    pub socks: Socks,
    /// `[tun]`.
    pub tun: Tun,
    /// `[dns]`.
    pub dns: Dns,
    /// `[expose]`.
    pub expose: Expose,
    /// `[bench]`.
    pub bench: Bench,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[log]`.
    pub log: Log,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Whether strangers who do not know our PeerId get an answer.
    pub open: bool,
    /// Bytes of all buffers and tables.
    pub memory_limit: u64,
    /// Links accepted.
    pub max_inbound: usize,
    /// Links that the daemon opens by itself.
    pub max_outbound: usize,
    /// Whether peers that relays lead to are dialled where their Hello says so.
    pub direct: bool,
    /// Bytes per second that all links together may send.
    pub upload_limit: Option<u64>,
    /// Bytes per second that all links together may receive.
    pub download_limit: Option<u64>,
    /// The key of a private network.
    pub network_key: Option<NetworkKey>,
}

/// The key of a private network: 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkKey {
    /// What goes into the links' key schedule.
    pub bytes: Zeroizing<[u8; 32]>,
    /// It comes from a text, and can be guessed as that text can.
    pub stretched: bool,
}

impl NetworkKey {
    /// Bytes of the longest text that is stretched.
    const TEXT_LEN_MAX: usize = 1024;

    /// The key of a text that is not 32 random bytes: Argon2id makes guessing it dear (19 MiB, 2 passes, RFC 9106
    /// and the crate's default), but it stays as weak as the text. Every node of the network must get the same
    /// key from it, so the salt is a constant.
    #[must_use]
    pub fn stretch(text: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        let short = text.len() <= Self::TEXT_LEN_MAX;
        let stretched = argon2::Argon2::default().hash_password_into(
            text.as_bytes(),
            b"tarnet link network-key v1",
            key.as_mut_slice(),
        );
        (short && stretched.is_ok()).then_some(Self { bytes: key, stretched: true })
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkKey(..)")
    }
}

/// How frames are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// Not at all.
    Off,
    /// To the next of a few sizes.
    #[default]
    Buckets,
    /// Frames of one length at a constant rate on each link, bytes per second.
    Constant(u64),
}

/// `[link]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Padding of frames.
    pub padding: Padding,
    /// Key agreement, preferred first.
    pub groups: Vec<Group>,
}

/// `[bootstrap]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bootstrap {
    /// Peers to dial.
    pub peers: Vec<PeerUri>,
    /// Whether neighbours on the local network are sought.
    pub mdns: bool,
}

/// `[transport.tcp]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tcp {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Public addresses for our Hello.
    pub advertise: Vec<PeerUri>,
}

/// `[transport.ws]`. Its other keys are refused until the transport is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebSocket {
    /// The path of the upgrade request.
    pub path: String,
}

/// `[transport.webrtc]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebRtc {
    /// Whether it may be used.
    pub enabled: bool,
    /// STUN servers, as written.
    pub stun: Vec<String>,
}

/// `[socks]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Socks {
    /// Addresses to listen on; empty: off.
    pub listen: Vec<SocketAddr>,
    /// Whether names and addresses that are not ours are dialled directly.
    pub allow_clearnet: bool,
}

/// Off, on, or on where it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Switch {
    /// Where the capability is there.
    #[default]
    Auto,
    /// Fail without it.
    On,
    /// Never.
    Off,
}

/// An address and the length of its network part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix<A> {
    /// The first address.
    pub address: A,
    /// Bits of the network part.
    pub length: u8,
}

/// Text that is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ADDRESS/LENGTH with all host bits zero")]
pub struct PrefixError;

/// Parses `address/length` and checks that no host bit is set.
fn prefix<A: FromStr + Into<IpAddr> + Copy>(text: &str) -> Result<Prefix<A>, PrefixError> {
    let (address, length) = text.split_once('/').ok_or(PrefixError)?;
    let address: A = address.parse().map_err(|_| PrefixError)?;
    let length: u8 = length.parse().map_err(|_| PrefixError)?;
    let (bits, width) = match address.into() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let host_bits_zero = length > 0 && bits.checked_shl(length.into()).unwrap_or(0) == 0;
    (length <= width && host_bits_zero).then_some(Prefix { address, length }).ok_or(PrefixError)
}

impl FromStr for Prefix<Ipv4Addr> {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        prefix(text)
    }
}

impl FromStr for Prefix<Ipv6Addr> {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        prefix(text)
    }
}

impl<A: fmt::Display> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// `[tun]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tun {
    /// Whether there is a TUN interface.
    pub enabled: Switch,
    /// Its name.
    pub name: String,
    /// Synthetic IPv4 addresses, the first candidate.
    pub ipv4: Option<Prefix<Ipv4Addr>>,
    /// Synthetic IPv6 addresses; absent: a random ULA /48, made once.
    pub ipv6: Option<Prefix<Ipv6Addr>>,
    /// MTU, bytes.
    pub mtu: u16,
    /// The acting identity of intercepted flows.
    pub identity: String,
    /// The acting identity by the user (name or uid) that owns the socket.
    pub users: BTreeMap<String, String>,
    /// The acting identity of forwarded flows, as containers' are; empty: they are refused.
    pub forwarded: String,
}

/// How the host learns of our DNS responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsMode {
    /// The best way that this host has.
    #[default]
    Auto,
    /// systemd-resolved.
    Resolved,
    /// NetworkManager.
    NetworkManager,
    /// resolvconf.
    Resolvconf,
    /// `/etc/resolv.conf` itself.
    Direct,
    /// Not at all.
    Off,
}

impl DnsMode {
    /// Every mode with the word for it.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("auto", Self::Auto),
        ("resolved", Self::Resolved),
        ("networkmanager", Self::NetworkManager),
        ("resolvconf", Self::Resolvconf),
        ("direct", Self::Direct),
        ("off", Self::Off),
    ];
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// False only by `--no-dns`: neither answers nor touches the host.
    pub enabled: bool,
    /// How the host learns of it.
    pub mode: DnsMode,
    /// The suffix under which every name also works, without leading or trailing dot.
    pub suffix: String,
    /// Extra addresses to serve on.
    pub listen: Vec<SocketAddr>,
    /// Life of positive answers.
    pub ttl: Duration,
}

/// `[expose]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expose {
    /// False only by `--no-expose`.
    pub enabled: bool,
    /// Another folder than `services.d`.
    pub dir: Option<PathBuf>,
}

/// `[bench]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bench {
    /// Whether `tarnet bench` of others is answered.
    pub allow: bool,
}

/// `[metrics]`. The listening address is refused until it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metrics;

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// A level, or directives (`info,tarnet_daemon::socks=debug`).
    pub level: String,
}
