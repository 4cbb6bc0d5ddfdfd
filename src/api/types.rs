//! The JSON objects. Ids are in their printed form, sizes in bytes, times in the unit of the name.

use serde::{Deserialize, Serialize};

/// `tarnet status`: the node at a glance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// The machine's id.
    pub peer_id: String,
    /// Version of the daemon.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// All identities.
    pub identities: Vec<Identity>,
    /// All links.
    pub links: Vec<Link>,
    /// Destinations in the routing table.
    pub routes: usize,
    /// Circuits by role.
    pub circuits: Circuits,
    /// Open sessions.
    pub sessions: Vec<Session>,
    /// Intercepted flows.
    pub flows: usize,
    /// Open channels.
    pub channels: usize,
    /// The process.
    pub process: Process,
    /// The DHT.
    pub dht: Dht,
    /// The TUN interface.
    pub tun: Tun,
    /// The DNS responder.
    pub dns: Dns,
    /// Addresses of the SOCKS5 proxy.
    #[serde(default)]
    pub socks: Vec<String>,
    /// Bytes moved.
    pub traffic: Traffic,
    /// The identity that the caller acts as when it names none.
    #[serde(default)]
    pub acting: String,
    /// `ahead` or `behind` where this machine's clock seems to be wrong, by what comes from other nodes; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub clock: String,
}

/// An identity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Identity {
    /// Its local name.
    pub name: String,
    /// Its ServiceId.
    pub service_id: String,
    /// `ed25519` or `falcon_ed25519`.
    pub scheme: String,
    /// `public` or `hidden`.
    pub privacy: String,
    /// Introduction points.
    pub intro_points: u32,
    /// Outbound hops.
    pub outbound_hops: u32,
}

/// A link to a neighbour.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Link {
    /// The neighbour.
    pub peer_id: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `tcp`.
    pub transport: String,
    /// Round-trip time, milliseconds.
    pub rtt_ms: f64,
    /// Transports that stand by.
    pub standby: usize,
    /// Remote address.
    pub address: String,
    /// Key agreement, `x25519mlkem768` or `x25519`.
    pub group: String,
}

/// Circuits by role.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Circuits {
    /// That we built or that end here.
    pub own: usize,
    /// That pass through.
    pub transit: usize,
    /// Joined here as rendezvous.
    pub rendezvous: usize,
    /// Introduction circuits held for others.
    pub introduction: usize,
}

/// A session.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Session {
    /// The far side: a ServiceId, PeerId, or empty for an anonymous caller.
    pub target: String,
    /// The acting identity's ServiceId, or empty.
    pub acting: String,
    /// Open channels in it.
    pub channels: usize,
    /// Circuits that carry it.
    pub circuits: usize,
    /// Round-trip time, milliseconds.
    pub rtt_ms: f64,
}

/// The process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open file descriptors.
    pub fds: usize,
    /// Tasks of the runtime.
    pub tasks: usize,
}

/// The DHT.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Dht {
    /// Blocks stored.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Estimated nodes of the network.
    pub size_estimate: u64,
}

/// The TUN interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tun {
    /// Its name.
    pub name: String,
    /// Synthetic IPv4 range.
    pub ipv4: String,
    /// Synthetic IPv6 range.
    pub ipv6: String,
    /// Its MTU.
    pub mtu: u32,
    /// `up`, or why not.
    pub state: String,
    /// The acting identity of the caller's intercepted flows.
    #[serde(default)]
    pub identity: String,
}

/// The DNS responder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// How the host is told.
    pub mode: String,
    /// `up`, or why not.
    pub state: String,
}

/// `tarnet dns status`: how the host resolves names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DnsStatus {
    /// How the host is told: `resolved`, `networkmanager`, `resolvconf`, `direct`, `off`.
    pub mode: String,
    /// `up`, or what is wrong or awaited.
    pub state: String,
    /// Addresses that answer: the link's, then those of `dns.listen`.
    pub servers: Vec<String>,
    /// The suffix under which every name works.
    pub suffix: String,
    /// What was observed and decided, in order, and what has happened since.
    pub why: Vec<DnsReason>,
}

/// One observation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DnsReason {
    /// What was looked at.
    pub key: String,
    /// What was found.
    pub value: String,
}

/// Bytes moved since start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Received on links.
    pub rx_bytes: u64,
    /// Sent on links.
    pub tx_bytes: u64,
    /// Passed on for others.
    pub relayed_bytes: u64,
}

/// A row of `tarnet routes`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub peer_id: String,
    /// The best next hop.
    pub next_hop: String,
    /// Its cost.
    pub cost: u32,
    /// Other next hops.
    pub alternates: Vec<Alternate>,
}

/// Another way to a destination.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Alternate {
    /// The next hop.
    pub next_hop: String,
    /// The cost through it.
    pub cost: u32,
}

/// A known peer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Peer {
    /// Its id, empty while unknown.
    pub peer_id: String,
    /// The address or URI.
    pub address: String,
    /// `linked`, `connected`, `dialling`, `waiting`, `known`.
    pub state: String,
    /// Where it comes from: `bootstrap`, `mdns`; of a link who dialled: `inbound`, `outbound`.
    pub source: String,
    /// Last error, empty if none.
    pub error: String,
}

/// A record of a zone of ours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ZoneEntry {
    /// The label, `@` for the apex.
    pub label: String,
    /// `identity`, `zone`, `alias`, `text`, `content`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value.
    pub value: String,
    /// Life, seconds.
    pub ttl_s: u32,
    /// Whether it is published.
    pub public: bool,
    /// Whether `expose` wrote it.
    pub by_expose: bool,
}

/// A node's Hello.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Hello {
    /// The node.
    pub peer_id: String,
    /// Addresses that it advertises.
    pub addresses: Vec<String>,
    /// Transports that it speaks.
    pub transports: Vec<String>,
    /// When it expires, seconds since 1970.
    pub expires_unix: u64,
}

/// `tarnet tns resolve`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Resolution {
    /// The canonical name.
    pub name: String,
    /// What was found.
    pub records: Vec<ResolvedRecord>,
    /// Steps, with `--trace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<TraceStep>,
}

/// A record found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ResolvedRecord {
    /// `identity`, `zone`, `alias`, `text`, `content`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value.
    pub value: String,
    /// Remaining life, seconds.
    pub ttl_s: u32,
    /// The zone that said it.
    pub zone: String,
}

/// One step of a resolution.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TraceStep {
    /// The zone asked.
    pub zone: String,
    /// The label asked for.
    pub label: String,
    /// The DHT key, empty for a zone of our own.
    pub key: String,
    /// What was found.
    pub found: String,
    /// Microseconds that it took.
    pub us: u64,
}

/// One round trip of `tarnet ping`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pong {
    /// Its number, from 1.
    pub seq: u32,
    /// Round-trip time, milliseconds.
    pub rtt_ms: f64,
    /// Links on the path.
    pub hops: u32,
}

/// A service of `tarnet expose list`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Service {
    /// The file's name without `.toml`.
    pub name: String,
    /// The identity.
    pub identity: String,
    /// The tarnet port.
    pub port: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The local service.
    pub local: String,
    /// The TNS label, empty at the apex.
    pub subdomain: String,
    /// Whether it is announced.
    pub publish: bool,
    /// `listening`, or what is wrong.
    pub state: String,
    /// Connections now.
    pub connections: usize,
    /// The identities of those who are connected, as far as they are proven; sorted, at most 64.
    #[serde(default)]
    pub callers: Vec<String>,
    /// The file that says so.
    #[serde(default)]
    pub file: String,
}

/// Where a service file belongs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServicePlace {
    /// The path.
    pub file: String,
}

/// An error answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Failure {
    /// What and why, one line.
    pub error: String,
    /// What to do, one line; may be empty.
    #[serde(default)]
    pub hint: String,
}
