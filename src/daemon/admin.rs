//! Administrative requests to the node: what the control socket needs beyond
//! resolving, connecting and listening.

use tarnet_api as api;
use tarnet_core::crypto::{DhtKey, PeerId, Scheme, ServiceId};
use tarnet_core::names::Record;
use tokio::sync::oneshot;

/// Why an administrative call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It is refused, with the reason.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("timed out")]
    TimedOut,
    /// The state could not be written.
    #[error("could not be written to disk: {0}")]
    Disk(String),
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, AdminError>>;

/// One administrative request, with the place for its answer.
pub enum AdminCall {
    /// The node at a glance; the front ends fill in their own fields afterwards.
    Status(Reply<api::Status>),
    /// The distance-vector table.
    Routes(Reply<Vec<api::Route>>),
    /// Links and known peers.
    Peers(Reply<Vec<api::Peer>>),
    /// Dial this URI now and remember it.
    PeerAdd(String, Reply<()>),
    /// Forget a peer's pin and addresses.
    PeerForget(PeerId, Reply<()>),
    /// Make an identity.
    IdentityCreate {
        /// Its name.
        name: String,
        /// Signature scheme.
        scheme: Scheme,
        /// Where the answer goes.
        reply: Reply<api::Identity>,
    },
    /// All identities.
    IdentityList(Reply<Vec<api::Identity>>),
    /// Delete one; `default` is refused.
    IdentityDelete(String, Reply<()>),
    /// The secret key file of one, for backup.
    IdentityExport(String, Reply<Vec<u8>>),
    /// Take one from an exported file under a name.
    IdentityImport(String, Vec<u8>, Reply<api::Identity>),
    /// Replace the records of one type under a label of an identity's zone.
    RecordSet {
        /// The identity.
        identity: String,
        /// The label, `@` for the apex.
        label: String,
        /// The new record.
        record: Record,
        /// Whether it is published.
        public: bool,
        /// Life of a published record, seconds.
        ttl_s: u32,
        /// Whether `expose` wrote it.
        by_expose: bool,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Remove all records of a label; only those of `expose` when `by_expose`.
    RecordRemove {
        /// The identity.
        identity: String,
        /// The label.
        label: String,
        /// Remove only what `expose` wrote.
        by_expose: bool,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Everything in an identity's zone.
    RecordList(String, Reply<Vec<api::ZoneEntry>>),
    /// Store a content block; answers with its hash in hex.
    DhtPut(Vec<u8>, Reply<String>),
    /// Find a content block by hash.
    DhtGet([u8; 32], Reply<Vec<u8>>),
    /// Store a signed block of an identity under a key; answers with the key.
    DhtPutSigned {
        /// The identity.
        identity: String,
        /// The key; absent: derived from the identity.
        key: Option<DhtKey>,
        /// The value.
        value: Vec<u8>,
        /// Life, seconds.
        ttl_s: u32,
        /// Where the answer goes.
        reply: Reply<DhtKey>,
    },
    /// Find the signed blocks under a key: signer and value.
    DhtGetSigned(DhtKey, Reply<Vec<(ServiceId, Vec<u8>)>>),
    /// Find a node's Hello.
    DhtHello(PeerId, Reply<api::Hello>),
}

impl AdminCall {
    /// Whether it may change what a zone of ours holds, or which zones there are.
    #[must_use]
    pub const fn changes_zones(&self) -> bool {
        matches!(
            self,
            Self::RecordSet { .. }
                | Self::RecordRemove { .. }
                | Self::IdentityCreate { .. }
                | Self::IdentityDelete(..)
                | Self::IdentityImport(..)
        )
    }
}
