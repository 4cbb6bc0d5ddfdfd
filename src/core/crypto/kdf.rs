//! BLAKE3 as hash, MAC and key derivation. Every derivation has its own context string;
//! all of them are in [`Context`], so that no two uses can meet by accident.

/// What a derivation is for. The string is BLAKE3's `derive_key` context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// PeerId from scheme and node key.
    PeerId,
    /// ServiceId from scheme and identity key.
    ServiceId,
    /// The tag by which a path names its destination.
    PathTag,
    /// The offset of a path's hop count, which only its two ends know.
    PathOffset,
    /// The DHT key of a label in a zone.
    NameKey,
    /// The key that seals what a zone says about a label.
    NameEncryption,
    /// The pseudonymous signer of one label, from the zone's secret.
    NameSigner,
    /// A private network's 32-byte key from a shorter text.
    NetworkKey,
    /// A peer's place in the DHT.
    DhtId,
    /// What tells two signers of one DHT key apart.
    BlockSlot,
    /// The proof of work of a DHT block.
    BlockWork,
    /// The nonce of a DHT block's ciphertext, from header and plaintext.
    BlockNonce,
    /// The signer of a content block, from the hash of the value.
    ContentSigner,
    /// The DHT key of an identity's signed block when it chooses none.
    SignedKey,
    /// The DHT key of a node's Hello.
    HelloKey,
    /// The key that seals a Hello, from the PeerId.
    HelloEncryption,
    /// The signer of a Hello block, from the node's secret.
    HelloSigner,
    /// The digest of a session descriptor.
    SessionDescriptor,
    /// The tag that tells whose key a session's first message is sealed to.
    SessionTrial,
    /// What seals a session's first message.
    SessionFirst,
    /// What seals the answer to a session's first message.
    SessionAnswer,
    /// A session's traffic keys, exporter and resume key.
    SessionTraffic,
    /// What a path set-up for a session reveals to prove that the true destination answered.
    SessionReveal,
    /// The single-use tag by which a session is resumed.
    SessionResume,
    /// The responder's proof that it resumed a session.
    SessionResumed,
    /// The key of the MAC on a first link message, from the PeerId it is for.
    LinkMac,
    /// A link handshake's transcript so far.
    LinkTranscript,
    /// A link handshake's master secret.
    LinkHandshake,
    /// The keys that seal the proofs of a link handshake.
    LinkProof,
    /// A link's first traffic secrets.
    LinkTraffic,
    /// A link's frame key from its traffic secret.
    LinkFrame,
    /// A link's next traffic secret from the last.
    LinkRatchet,
    /// What a fresh key agreement on a link gives each direction.
    LinkRekey,
    /// A link's next traffic secret from the last and what was freshly agreed.
    LinkMix,
    /// The proof that the sender of a first link message receives at its address.
    LinkCookie,
    /// The key of a session's first packets in one direction.
    SessionPacket,
    /// The key that masks a session's packet headers in one direction.
    SessionHeader,
    /// The next packet key of a session from the one before.
    SessionRatchet,
    /// Key of the hash chain that authenticates a destination's metrics.
    RouteChain,
    /// The tag that names the next hop of an advertised route.
    RouteTag,
    /// The order of neighbours at equal metric, per destination.
    RouteOrder,
    /// The place of a landmark among landmarks.
    LandmarkRank,
}

impl Context {
    /// The context string.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerId => "tarnet peer-id v1",
            Self::ServiceId => "tarnet service-id v1",
            Self::PathTag => "tarnet path tag v1",
            Self::PathOffset => "tarnet path offset v1",
            Self::NameKey => "tarnet tns dht-key v1",
            Self::NameEncryption => "tarnet tns enc-key v1",
            Self::NameSigner => "tarnet tns signer v1",
            Self::NetworkKey => "tarnet link network-key v1",
            Self::DhtId => "tarnet dht id v1",
            Self::BlockSlot => "tarnet block slot v1",
            Self::BlockWork => "tarnet block work v1",
            Self::BlockNonce => "tarnet block nonce v1",
            Self::ContentSigner => "tarnet content signer v1",
            Self::SignedKey => "tarnet signed dht-key v1",
            Self::HelloKey => "tarnet hello dht-key v1",
            Self::HelloEncryption => "tarnet hello enc-key v1",
            Self::HelloSigner => "tarnet hello signer v1",
            Self::SessionDescriptor => "tarnet session descriptor v1",
            Self::SessionTrial => "tarnet session trial v1",
            Self::SessionFirst => "tarnet session first v1",
            Self::SessionAnswer => "tarnet session answer v1",
            Self::SessionTraffic => "tarnet session traffic v1",
            Self::SessionReveal => "tarnet session reveal v1",
            Self::SessionResume => "tarnet session resume v1",
            Self::SessionResumed => "tarnet session resumed v1",
            Self::LinkMac => "tarnet link mac v1",
            Self::LinkTranscript => "tarnet link transcript v1",
            Self::LinkHandshake => "tarnet link handshake v1",
            Self::LinkProof => "tarnet link proof v1",
            Self::LinkTraffic => "tarnet link traffic v1",
            Self::LinkFrame => "tarnet link frame v1",
            Self::LinkRatchet => "tarnet link ratchet v1",
            Self::LinkRekey => "tarnet link rekey v1",
            Self::LinkMix => "tarnet link mix v1",
            Self::LinkCookie => "tarnet link cookie v1",
            Self::SessionPacket => "tarnet session packet-key v1",
            Self::SessionHeader => "tarnet session header-key v1",
            Self::SessionRatchet => "tarnet session ratchet v1",
            Self::RouteChain => "tarnet routing chain v1",
            Self::RouteTag => "tarnet routing next-hop tag v1",
            Self::RouteOrder => "tarnet routing order v1",
            Self::LandmarkRank => "tarnet routing landmark rank v1",
        }
    }
}

/// A hasher in derivation mode over length-prefixed fields.
fn hasher(context: Context, fields: &[&[u8]]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key(context.as_str());
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hasher
}

/// Derives 32 bytes from the fields; each is length-prefixed, so no two lists of fields collide.
#[must_use]
pub fn derive(context: Context, fields: &[&[u8]]) -> [u8; 32] {
    *hasher(context, fields).finalize().as_bytes()
}

/// Derives as many bytes as `out` holds.
pub fn derive_into(context: Context, fields: &[&[u8]], out: &mut [u8]) {
    hasher(context, fields).finalize_xof().fill(out);
}

/// BLAKE3 keyed hash: a MAC.
#[must_use]
pub fn keyed_mac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, data).as_bytes()
}

/// BLAKE3.
#[must_use]
pub fn hash(data: &[u8]) -> [u8; 32] {
    *blake3::hash(data).as_bytes()
}

/// BLAKE3 with 64 bytes of output: DHT keys.
#[must_use]
pub fn hash_xof64(data: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    blake3::Hasher::new().update(data).finalize_xof().fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(derive(Context::PeerId, &[b"ab", b"c"]), derive(Context::PeerId, &[b"a", b"bc"]));
        assert_ne!(derive(Context::PeerId, &[b"a"]), derive(Context::ServiceId, &[b"a"]));
    }

    #[test]
    fn longer_output_begins_with_the_shorter() {
        let mut long = [0; 64];
        derive_into(Context::PathTag, &[b"x"], &mut long);
        assert_eq!(derive(Context::PathTag, &[b"x"]), long[..32]);
        assert_eq!(hash(b"x"), hash_xof64(b"x")[..32]);
    }

    /// From BLAKE3's published test vectors: the empty input.
    #[test]
    fn blake3_known_answer() {
        let want = [0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6];
        assert_eq!(hash(b"")[..8], want);
    }
}
