//! Signature schemes: Ed25519 (strict verification), and Falcon-512 padded with Ed25519
//! over the same digest, valid only if both are. Signed bytes are always a purpose and
//! length-prefixed fields, one purpose per message type: no signature of one kind passes
//! for another.
//!
//! Falcon's key generation and signing draw from the operating system inside the C
//! implementation; it offers no other way. Only long-lived identities use it, never
//! anything periodic, and the simulator uses Ed25519.

use ed25519_dalek::Signer;
use pqcrypto_falcon::falconpadded512 as falcon;
use pqcrypto_traits::sign::{DetachedSignature as _, PublicKey as _, SecretKey as _};
use zeroize::Zeroizing;

use super::ids::{PeerId, ServiceId};
use super::kdf::{Context, derive};
use super::stand_in;
use crate::defence::{self, Defence};
use crate::rng::Rng;

/// Bytes of an Ed25519 public key.
const ED25519_LEN: usize = 32;
/// Bytes of an Ed25519 signature.
const ED25519_SIGNATURE_LEN: usize = 64;
/// Bytes of a Falcon-512 public key.
const FALCON_LEN: usize = 897;
/// Bytes of a padded Falcon-512 signature.
const FALCON_SIGNATURE_LEN: usize = 666;

/// What a signature says. The string goes in front of the signed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The responder of a link handshake.
    LinkResponder,
    /// The initiator of a link handshake.
    LinkInitiator,
    /// The signer of a DHT block.
    Block,
    /// A node's Hello, inside its block.
    Hello,
    /// A node's word that it holds the session keys of an identity, or its own.
    SessionDescriptor,
    /// The identity that acts in a session.
    SessionIdentity,
    /// A destination's proof of origin: epoch, chain anchor, flags.
    RouteOrigin,
    /// A neighbour's batch of routes.
    RouteAdvert,
    /// A node's word about where it is.
    RoutePlace,
    /// What a zone says about a label.
    NameRecords,
}

impl Purpose {
    /// The purpose string.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LinkResponder => "tarnet sign link-responder v1",
            Self::LinkInitiator => "tarnet sign link-initiator v1",
            Self::Block => "tarnet sign block v1",
            Self::Hello => "tarnet sign hello v1",
            Self::SessionDescriptor => "tarnet sign session-descriptor v1",
            Self::SessionIdentity => "tarnet sign session-identity v1",
            Self::RouteOrigin => "tarnet sign route-origin v1",
            Self::RouteAdvert => "tarnet sign route-advert v1",
            Self::RoutePlace => "tarnet sign route-place v1",
            Self::NameRecords => "tarnet sign name-records v1",
        }
    }
}

/// A signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Ed25519.
    Ed25519,
    /// Falcon-512 and Ed25519 together.
    FalconEd25519,
}

impl Scheme {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::FalconEd25519 => 2,
        }
    }

    /// The scheme of a byte on the wire; 3 is reserved for FN-DSA.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Ed25519),
            2 => Some(Self::FalconEd25519),
            _ => None,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::FalconEd25519 => "falcon_ed25519",
        }
    }

    /// Bytes of a public key.
    #[must_use]
    pub const fn public_len(self) -> usize {
        match self {
            Self::Ed25519 => ED25519_LEN,
            Self::FalconEd25519 => ED25519_LEN + FALCON_LEN,
        }
    }

    /// Bytes of a signature.
    #[must_use]
    pub const fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 => ED25519_SIGNATURE_LEN,
            Self::FalconEd25519 => ED25519_SIGNATURE_LEN + FALCON_SIGNATURE_LEN,
        }
    }
}

/// A signature that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad signature")]
pub struct BadSignature;

/// Bytes that are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key of that scheme")]
pub struct KeyError;

/// A public key of either scheme.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    ed25519: ed25519_dalek::VerifyingKey,
    falcon: Option<Box<[u8; FALCON_LEN]>>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}, {:02x?}…)", self.scheme().as_str(), &self.ed25519.as_bytes()[..4])
    }
}

/// The digest that every scheme signs.
fn digest(purpose: Purpose, fields: &[&[u8]]) -> [u8; 64] {
    let purpose = if defence::on(Defence::Purposes) { purpose.as_str() } else { "" };
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let mut out = [0; 64];
    hasher.finalize_xof().fill(&mut out);
    out
}

impl PublicKey {
    /// Parses a key.
    ///
    /// # Errors
    /// Another length, or not a point of the curve.
    pub fn from_bytes(scheme: Scheme, bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != scheme.public_len() {
            return Err(KeyError);
        }
        let (ed25519, rest) = bytes.split_first_chunk::<ED25519_LEN>().ok_or(KeyError)?;
        let ed25519 = ed25519_dalek::VerifyingKey::from_bytes(ed25519).map_err(|_| KeyError)?;
        let falcon = match scheme {
            Scheme::Ed25519 => None,
            Scheme::FalconEd25519 => Some(Box::new(<[u8; FALCON_LEN]>::try_from(rest).map_err(|_| KeyError)?)),
        };
        Ok(Self { ed25519, falcon })
    }

    /// Its bytes: Ed25519, then Falcon.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.ed25519.to_bytes().to_vec();
        if let Some(falcon) = &self.falcon {
            out.extend_from_slice(falcon.as_slice());
        }
        out
    }

    /// Its scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        if self.falcon.is_some() { Scheme::FalconEd25519 } else { Scheme::Ed25519 }
    }

    /// The id of the machine whose node key this is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        Self::peer_id_of(self.scheme(), &self.to_bytes())
    }

    /// The id of the machine whose node key has these bytes, whether or not they are a key.
    #[must_use]
    pub fn peer_id_of(scheme: Scheme, bytes: &[u8]) -> PeerId {
        PeerId(derive(Context::PeerId, &[&[scheme.code()], bytes]))
    }

    /// The id of the identity whose key this is.
    #[must_use]
    pub fn service_id(&self) -> ServiceId {
        ServiceId(derive(Context::ServiceId, &[&[self.scheme().code()], &self.to_bytes()]))
    }

    /// Checks the signature of an Ed25519 key by its bytes.
    ///
    /// # Errors
    /// [`BadSignature`], also when they are no key.
    pub fn verify_by(key: &[u8; 32], purpose: Purpose, fields: &[&[u8]], sig: &[u8; 64]) -> Result<(), BadSignature> {
        if stand_in::on() {
            let holds = stand_in::sign(key, &digest(purpose, fields)) == *sig;
            return if holds { Ok(()) } else { Err(BadSignature) };
        }
        Self::from_bytes(Scheme::Ed25519, key).map_err(|_| BadSignature)?.verify(purpose, fields, sig)
    }

    /// Checks a signature: every component must hold.
    ///
    /// # Errors
    /// [`BadSignature`], also for another length.
    pub fn verify(&self, purpose: Purpose, fields: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        if signature.len() != self.scheme().signature_len() {
            return Err(BadSignature);
        }
        if !defence::on(Defence::Signature(purpose)) {
            return Ok(());
        }
        let digest = digest(purpose, fields);
        let (ed25519, rest) = signature.split_first_chunk::<ED25519_SIGNATURE_LEN>().ok_or(BadSignature)?;
        if stand_in::on() {
            let holds = stand_in::sign(self.ed25519.as_bytes(), &digest) == *ed25519;
            return if holds { Ok(()) } else { Err(BadSignature) };
        }
        let ed25519 = ed25519_dalek::Signature::from_bytes(ed25519);
        self.ed25519.verify_strict(&digest, &ed25519).map_err(|_| BadSignature)?;
        if let Some(key) = &self.falcon {
            let key = falcon::PublicKey::from_bytes(key.as_slice()).map_err(|_| BadSignature)?;
            let signature = falcon::DetachedSignature::from_bytes(rest).map_err(|_| BadSignature)?;
            falcon::verify_detached_signature(&signature, &digest, &key).map_err(|_| BadSignature)?;
        }
        Ok(())
    }
}

/// A long-term secret key: a node's, an identity's, or a pseudonym's. Neither printed nor cloned; wiped on drop.
pub struct SigningKey {
    ed25519: ed25519_dalek::SigningKey,
    falcon: Option<Zeroizing<Vec<u8>>>,
    public: PublicKey,
}

impl SigningKey {
    /// Draws a fresh key.
    pub fn generate(scheme: Scheme, rng: &mut Rng) -> Self {
        let seed = rng.secret_array::<ED25519_LEN>();
        match scheme {
            Scheme::Ed25519 => Self::from_seed(&seed),
            Scheme::FalconEd25519 => {
                let (public, secret) = falcon::keypair();
                let mut key = Self::from_seed(&seed);
                key.attach_falcon(public.as_bytes(), Zeroizing::new(secret.as_bytes().to_vec()))
                    .expect("a key pair that was just made");
                key
            }
        }
    }

    /// The Ed25519 key of a 32-byte seed: pseudonyms that are derived, never drawn.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey { ed25519: ed25519.verifying_key(), falcon: None };
        Self { ed25519, falcon: None, public }
    }

    /// A key of one's own under another's public half: all that an impostor has.
    #[cfg(test)]
    pub(crate) fn claiming(seed: &[u8; 32], public: &PublicKey) -> Self {
        Self { public: public.clone(), ..Self::from_seed(seed) }
    }

    /// Adds the Falcon half.
    fn attach_falcon(&mut self, public: &[u8], secret: Zeroizing<Vec<u8>>) -> Result<(), KeyError> {
        falcon::SecretKey::from_bytes(&secret).map_err(|_| KeyError)?;
        self.public.falcon = Some(Box::new(public.try_into().map_err(|_| KeyError)?));
        self.falcon = Some(secret);
        Ok(())
    }

    /// The bytes to keep it: scheme, Ed25519 seed, then Falcon's public and secret key.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![self.public.scheme().code()]);
        out.extend_from_slice(self.ed25519.as_bytes());
        if let (Some(secret), Some(public)) = (&self.falcon, &self.public.falcon) {
            out.extend_from_slice(public.as_slice());
            out.extend_from_slice(secret);
        }
        out
    }

    /// The key of [`Self::to_secret_bytes`].
    ///
    /// # Errors
    /// Another length, an unknown scheme, or halves that do not belong together.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let (scheme, rest) = bytes.split_first().ok_or(KeyError)?;
        let (seed, rest) = rest.split_first_chunk::<ED25519_LEN>().ok_or(KeyError)?;
        let mut key = Self::from_seed(seed);
        match Scheme::from_code(*scheme).ok_or(KeyError)? {
            Scheme::Ed25519 if rest.is_empty() => Ok(key),
            Scheme::Ed25519 => Err(KeyError),
            Scheme::FalconEd25519 => {
                let (public, secret) = rest.split_at_checked(FALCON_LEN).ok_or(KeyError)?;
                key.attach_falcon(public, Zeroizing::new(secret.to_vec()))?;
                let probe = key.sign(Purpose::LinkResponder, &[]);
                key.public.verify(Purpose::LinkResponder, &[], &probe).map_err(|_| KeyError)?;
                Ok(key)
            }
        }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the fields for a purpose: 64 bytes, or 730 with Falcon.
    ///
    /// # Panics
    /// Never: the Falcon half was parsed when the key was made.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, fields: &[&[u8]]) -> Vec<u8> {
        let digest = digest(purpose, fields);
        if stand_in::on() {
            return stand_in::sign(self.public.ed25519.as_bytes(), &digest).to_vec();
        }
        let mut out = self.ed25519.sign(&digest).to_bytes().to_vec();
        if let Some(secret) = &self.falcon {
            let secret = falcon::SecretKey::from_bytes(secret).expect("a key that was parsed before");
            out.extend_from_slice(falcon::detached_sign(&digest, &secret).as_bytes());
        }
        out
    }

    /// Derives a secret from the key's seed for a context and fields: keys that only the owner can make.
    #[must_use]
    pub fn derive_secret(&self, context: Context, fields: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut all = Vec::with_capacity(fields.len() + 1);
        all.push(self.ed25519.as_bytes().as_slice());
        all.extend_from_slice(fields);
        Zeroizing::new(derive(context, &all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_hold_for_their_purpose_and_fields_only() {
        let mut rng = Rng::from_seed([8; 32]);
        for scheme in [Scheme::Ed25519, Scheme::FalconEd25519] {
            let key = SigningKey::generate(scheme, &mut rng);
            let signature = key.sign(Purpose::LinkResponder, &[b"a", b"b"]);
            assert_eq!(signature.len(), scheme.signature_len());
            let public = PublicKey::from_bytes(scheme, &key.public().to_bytes()).unwrap();
            assert_eq!(public.verify(Purpose::LinkResponder, &[b"a", b"b"], &signature), Ok(()));
            assert!(public.verify(Purpose::LinkInitiator, &[b"a", b"b"], &signature).is_err());
            assert!(public.verify(Purpose::LinkResponder, &[b"ab", b""], &signature).is_err());
            for at in [0, 63, signature.len() - 1] {
                let mut bad = signature.clone();
                bad[at] ^= 1;
                assert!(public.verify(Purpose::LinkResponder, &[b"a", b"b"], &bad).is_err());
            }
        }
    }

    #[test]
    fn a_falcon_key_without_its_falcon_half_is_another_key() {
        let mut rng = Rng::from_seed([9; 32]);
        let key = SigningKey::generate(Scheme::FalconEd25519, &mut rng);
        let bytes = key.public().to_bytes();
        let half = PublicKey::from_bytes(Scheme::Ed25519, &bytes[..32]).unwrap();
        assert_ne!(half.service_id(), key.public().service_id());
        let signature = key.sign(Purpose::LinkResponder, &[]);
        assert!(key.public().verify(Purpose::LinkResponder, &[], &signature[..64]).is_err());
    }

    #[test]
    fn secret_bytes_round_trip_and_mixed_halves_are_refused() {
        let mut rng = Rng::from_seed([10; 32]);
        for scheme in [Scheme::Ed25519, Scheme::FalconEd25519] {
            let key = SigningKey::generate(scheme, &mut rng);
            let again = SigningKey::from_secret_bytes(&key.to_secret_bytes()).unwrap();
            assert_eq!(again.public(), key.public());
        }
        let (a, b) = (
            SigningKey::generate(Scheme::FalconEd25519, &mut rng),
            SigningKey::generate(Scheme::FalconEd25519, &mut rng),
        );
        let mut mixed = a.to_secret_bytes().to_vec();
        mixed[33..33 + FALCON_LEN].copy_from_slice(b.public().falcon.as_ref().unwrap().as_slice());
        assert!(SigningKey::from_secret_bytes(&mixed).is_err());
        assert!(SigningKey::from_secret_bytes(&[3; 33]).is_err());
        assert!(SigningKey::from_secret_bytes(&[]).is_err());
    }

    #[test]
    fn peer_and_service_ids_of_one_key_differ() {
        let key = SigningKey::from_seed(&[1; 32]);
        assert_ne!(key.public().peer_id().0, key.public().service_id().0);
    }
}
