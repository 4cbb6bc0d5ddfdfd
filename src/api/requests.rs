//! Bodies of requests.

use serde::{Deserialize, Serialize};

/// `POST /v1/identities`, `PUT /v1/identities/NAME`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {
    /// Local name.
    #[serde(default)]
    pub name: String,
    /// Signature scheme; default `falcon_ed25519`.
    pub scheme: Option<String>,
    /// `public` or `hidden`.
    pub privacy: Option<String>,
    /// Introduction points.
    pub intro_points: Option<u32>,
    /// Outbound hops.
    pub outbound_hops: Option<u32>,
}

/// `PUT /v1/zones/IDENTITY/LABEL`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordRequest {
    /// `identity`, `zone`, `alias`, `text`, `content`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value.
    pub value: String,
    /// Publish it.
    #[serde(default)]
    pub public: bool,
    /// Life of a published record, seconds.
    pub ttl_s: Option<u32>,
    /// Also a label that shadows names of the Internet.
    #[serde(default)]
    pub force: bool,
}

/// `POST /v1/services`: a service file that is to be; nothing is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRequest {
    /// The file's name without `.toml`.
    pub name: String,
    /// What would be in it.
    pub text: String,
}

/// `POST /v1/resolve`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The name.
    pub name: String,
    /// Acting identity; default `default`.
    pub identity: Option<String>,
    /// Resolve in this zone, a ServiceId.
    pub zone: Option<String>,
    /// Answer with the steps.
    #[serde(default)]
    pub trace: bool,
}

/// `POST /v1/connect`, `/v1/ping`, `/v1/bench`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// TNS name, ServiceId or PeerId.
    pub target: String,
    /// The port.
    #[serde(default)]
    pub port: String,
    /// `ro`, `ru`, `uo`, `uu`.
    pub mode: Option<String>,
    /// Acting identity.
    pub identity: Option<String>,
    /// First data, of `/v1/connect` alone: at most [`EARLY_LEN_MAX`] bytes, which travel with the question for the
    /// connection; in message modes the first message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub early: Vec<u8>,
}

/// Bytes of first data that travel with any question for a connection.
pub const EARLY_LEN_MAX: usize = 1_024;

/// `POST /v1/listen`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenRequest {
    /// An identity's name, or `peer`.
    pub identity: String,
    /// The port.
    pub port: String,
    /// `ro`, `ru`, `uo`, `uu`.
    pub mode: Option<String>,
}

/// `POST /v1/peers`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRequest {
    /// The address to dial.
    pub uri: String,
}

/// `POST /v1/dht/signed`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRequest {
    /// The identity that signs.
    pub identity: Option<String>,
    /// The value.
    pub value: String,
    /// Life, seconds.
    pub ttl_s: Option<u32>,
}

/// Answer with a hash or key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Hash {
    /// Hex digits.
    pub hash: String,
}

/// A signed value found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SignedValue {
    /// Who signed it, a ServiceId.
    pub signer: String,
    /// The value, as text where it is text.
    pub value: String,
}

/// `tarnet bench`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Bench {
    /// Bytes moved.
    pub bytes: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Throughput.
    pub mbit_per_s: f64,
    /// Round-trip times.
    pub rtt_ms: Percentiles,
}

/// Percentiles of a sample.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 99th.
    pub p99: f64,
}

/// Answer of a change that has nothing to say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Done {}

/// Answer of `reload`: warnings about files that were skipped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// One line each.
    pub warnings: Vec<String>,
}
