//! What a zone says about a label.

use bytes::Bytes;

use crate::crypto::ServiceId;

/// One record of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The label is this identity: connections go there.
    Identity(ServiceId),
    /// The label is this zone: what stands left of it is looked up there.
    Zone(ServiceId),
    /// The label is another name.
    Alias(String),
    /// Free text.
    Text(String),
    /// A content block of the DHT, by hash.
    Content([u8; 32]),
    /// Where a public identity is served: an encoded session descriptor. Only under the reserved label `@node`.
    Node(Bytes),
}
