//! The session handshake, two messages in one round trip (PROTOCOL.md §6).
//!
//! ```text
//! first   sealed to the responder's published keys (X25519 + ML-KEM-768); holds the initiator's
//!         ephemeral share and the first channel. No forward secrecy until those keys are deleted.
//! answer  the responder's answer to the ephemeral share, sealed under keys that take both agreements:
//!         only who holds the published keys can make it. Everything later has forward secrecy.
//! ```
//!
//! The key schedule takes whom the initiator asked for, the digest of the descriptor it used, and
//! every byte of both messages. A *trial*, one X25519 operation (about 40 µs) and a MAC per candidate
//! key, tells whom a first message is for before any ML-KEM work; nothing in the message names it.
//!
//! The *reveal* of a path set-up is derived from the first message's key and the attempt, so only
//! the initiator and the true responder know it; its hash travels with the set-up.

use zeroize::Zeroizing;

use super::keys::ResponderKey;
use crate::crypto::{
    Aead, AeadKey, AgreementError, AgreementSecret, Context, Group, SharedSecret, TAG_LEN, agree_respond, derive,
    derive_into, hash, keyed_mac, same_secret,
};
use crate::defence::{self, Defence};
use crate::rng::Rng;
use crate::wire;
use crate::wire::session_handshake::{
    Answer, AnswerPayload, Descriptor, First, FirstOpen, FirstPayload, Message, Owner, SEALED_ANSWER_LEN, SHORT_LEN,
};

/// Every message has its own key: one nonce.
const NONCE: [u8; 12] = [0; 12];

/// Why a handshake message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a message, or not the one awaited here.
    #[error("malformed: {0}")]
    Malformed(#[from] wire::Error),
    /// Not made by who holds the keys.
    #[error("not authentic")]
    NotAuthentic,
    /// A key share that must not be used.
    #[error("bad key share: {0}")]
    Agreement(#[from] AgreementError),
    /// An AEAD that we did not offer.
    #[error("the answer chose what was not offered")]
    NotOffered,
}

/// What both sides get out of a handshake; wiped on drop.
pub(super) struct SessionKeys {
    /// Keys of packets from the initiator.
    pub from_initiator: Zeroizing<[u8; 32]>,
    /// Keys of packets from the responder.
    pub from_responder: Zeroizing<[u8; 32]>,
    /// Binds an identity proof to this session.
    pub exporter: Zeroizing<[u8; 32]>,
    /// Makes the tags of resumptions.
    pub resume: Zeroizing<[u8; 32]>,
    /// The AEAD of packets.
    pub aead: Aead,
}

/// A 32-byte derivation that is wiped on drop.
fn secret(context: Context, fields: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(derive(context, fields))
}

/// The first 16 bytes of a derivation.
pub(super) fn short(bytes: [u8; 32]) -> [u8; SHORT_LEN] {
    std::array::from_fn(|at| bytes[at])
}

/// The MAC by which a responder recognises its trial key.
fn trial_tag(shared: &SharedSecret, trial: &[u8], key: &[u8], body: &[u8]) -> [u8; SHORT_LEN] {
    let mac_key = secret(Context::SessionTrial, &[shared.as_bytes(), trial, key]);
    short(keyed_mac(&mac_key, body))
}

/// Both secrets of a first message, and what they are about.
struct FirstSecret {
    key: Zeroizing<[u8; 32]>,
    reveal: Zeroizing<[u8; 32]>,
}

impl FirstSecret {
    /// Derives what seals a first message.
    fn new(trial: &SharedSecret, hybrid: &SharedSecret, descriptor: &DescriptorName, answers: [&[u8]; 2]) -> Self {
        let [trial_answer, agreement] = answers;
        let bound = defence::on(Defence::DescriptorInKeys);
        let (owner, digest) = if bound { (descriptor.owner.to_bytes(), descriptor.digest) } else { ([0; 33], [0; 32]) };
        let fields = [trial.as_bytes(), hybrid.as_bytes(), &owner, &digest, trial_answer, agreement];
        let key = secret(Context::SessionFirst, &fields);
        let reveal = secret(Context::SessionReveal, &[key.as_slice()]);
        Self { key, reveal }
    }

    /// What the path set-up of one attempt reveals.
    fn reveal(&self, attempt: &[u8; SHORT_LEN]) -> [u8; 32] {
        keyed_mac(&self.reveal, attempt)
    }
}

/// Whom a descriptor is of, and which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DescriptorName {
    /// Its owner.
    pub owner: Owner,
    /// Its digest.
    pub digest: [u8; 32],
}

/// Key of the answer's sealed part, and later of the traffic.
fn answer_key(
    first: &FirstSecret,
    ephemeral: &SharedSecret,
    first_hash: &[u8; 32],
    agreement: &[u8],
) -> Zeroizing<[u8; 32]> {
    secret(Context::SessionAnswer, &[first.key.as_slice(), ephemeral.as_bytes(), first_hash, agreement])
}

/// The session's keys: over the answer's key and the hash of every byte of both messages.
fn session_keys(answer_key: &[u8; 32], first_hash: &[u8; 32], answer: &[u8], aead: Aead) -> SessionKeys {
    let mut out = Zeroizing::new([0; 128]);
    derive_into(Context::SessionTraffic, &[answer_key, first_hash, &hash(answer), &[aead.code()]], out.as_mut_slice());
    let part = |n: usize| Zeroizing::new(std::array::from_fn(|at| out[n * 32 + at]));
    SessionKeys { from_initiator: part(0), from_responder: part(1), exporter: part(2), resume: part(3), aead }
}

/// The initiator's side, from its first message to the answer.
pub(super) struct Initiator {
    secret: FirstSecret,
    ephemeral: AgreementSecret,
    aeads: &'static [Aead],
    first_hash: [u8; 32],
    transcript: Vec<u8>,
}

/// What an initiator wants besides the keys.
pub(super) struct Wanted<'a> {
    /// The AEADs offered for the session ([`Aead::offered`]).
    pub aeads: &'static [Aead],
    /// An identity proof will follow.
    pub proves: bool,
    /// The first channel.
    pub open: Option<FirstOpen<'a>>,
}

impl Initiator {
    /// Seals a first message to a descriptor, which the caller has verified.
    ///
    /// # Errors
    /// The descriptor's keys must not be used.
    pub fn new(descriptor: &Descriptor, wanted: &Wanted<'_>, rng: &mut Rng) -> Result<Self, HandshakeError> {
        let (trial_answer, trial) = agree_respond(Group::X25519, &descriptor.trial, rng)?;
        let (agreement, hybrid) = agree_respond(Group::X25519MlKem768, &descriptor.share, rng)?;
        let name = DescriptorName { owner: descriptor.owner, digest: descriptor.digest() };
        let secret = FirstSecret::new(&trial, &hybrid, &name, [&trial_answer, &agreement]);
        let ephemeral = AgreementSecret::generate(Group::X25519MlKem768, rng);
        let share = ephemeral.public_share();
        let offers = |aead| wanted.aeads.contains(&aead);
        let (gcm, aegis) = (offers(Aead::Aes256Gcm), offers(Aead::Aegis256X2));
        let payload = FirstPayload { gcm, aegis, proves: wanted.proves, share: &share, open: wanted.open };
        let mut sealed = payload.encode();
        let tag = AeadKey::new(Aead::ChaCha20Poly1305, &secret.key).seal_in_place(NONCE, &[], &mut sealed);
        let body = [agreement, sealed, tag.to_vec()].concat();
        let trial_tag = trial_tag(&trial, &trial_answer, &descriptor.trial, &body);
        let transcript = [trial_answer, trial_tag.to_vec(), body].concat();
        Ok(Self { secret, ephemeral, aeads: wanted.aeads, first_hash: hash(&transcript), transcript })
    }

    /// The message for one attempt, and the hash of what its path set-up must reveal.
    pub fn message(&self, attempt: [u8; SHORT_LEN]) -> (Vec<u8>, [u8; 32]) {
        let mut blob = Vec::with_capacity(2 + SHORT_LEN + self.transcript.len());
        blob.extend_from_slice(&Message::first_head(attempt));
        blob.extend_from_slice(&self.transcript);
        (blob, hash(&self.secret.reveal(&attempt)))
    }

    /// Takes an answer: the keys, and whether the first channel was taken. May be tried again with another answer.
    ///
    /// # Errors
    /// Anything but the answer of who holds the descriptor's keys.
    pub fn finish(&self, answer: &[u8]) -> Result<(SessionKeys, bool), HandshakeError> {
        let Message::Answer(Answer { agreement, sealed }) = Message::decode(answer)? else {
            return Err(HandshakeError::NotAuthentic);
        };
        let shared = self.ephemeral.finish(agreement)?;
        let key = answer_key(&self.secret, &shared, &self.first_hash, agreement);
        let mut payload = sealed.to_vec();
        let len = AeadKey::new(Aead::ChaCha20Poly1305, &key)
            .open_in_place(NONCE, &[], &mut payload)
            .map_err(|_| HandshakeError::NotAuthentic)?;
        let payload = AnswerPayload::decode(&payload[..len])?;
        if !self.aeads.contains(&payload.aead) {
            return Err(HandshakeError::NotOffered);
        }
        Ok((session_keys(&key, &self.first_hash, answer, payload.aead), payload.early_taken))
    }
}

/// Names a first message, whichever attempt carries it.
pub(super) fn first_hash(first: &First<'_>) -> [u8; 32] {
    hash(first.transcript)
}

/// A first message that one of our keys opened.
pub(super) struct Unlocked {
    secret: FirstSecret,
    first_hash: [u8; 32],
    payload: Zeroizing<Vec<u8>>,
}

/// Whether a first message is sealed to this key: one X25519 operation and a MAC.
pub(super) fn trial(key: &ResponderKey, first: &First<'_>) -> Option<SharedSecret> {
    let shared = key.trial.finish(&first.trial).ok()?;
    let tag = trial_tag(&shared, &first.trial, &key.descriptor.trial, first.body);
    same_secret(&tag, &first.trial_tag).then_some(shared)
}

/// Opens a first message whose [`trial`] succeeded.
///
/// # Errors
/// Whoever made it knew the trial key only.
pub(super) fn unlock(key: &ResponderKey, trial: &SharedSecret, first: &First<'_>) -> Result<Unlocked, HandshakeError> {
    let hybrid = key.hybrid.finish(first.agreement)?;
    let secret = FirstSecret::new(trial, &hybrid, &key.name, [&first.trial, first.agreement]);
    let mut payload = Zeroizing::new(first.sealed.to_vec());
    let len = AeadKey::new(Aead::ChaCha20Poly1305, &secret.key)
        .open_in_place(NONCE, &[], &mut payload)
        .map_err(|_| HandshakeError::NotAuthentic)?;
    payload.truncate(len);
    Ok(Unlocked { secret, first_hash: first_hash(first), payload })
}

/// An answered handshake on the responder's side.
pub(super) struct Answered {
    /// The answer to send.
    pub blob: Vec<u8>,
    /// The session's keys.
    pub keys: SessionKeys,
}

impl Unlocked {
    /// What the initiator wants.
    ///
    /// # Errors
    /// An initiator that breaks the protocol.
    pub fn payload(&self) -> Result<FirstPayload<'_>, HandshakeError> {
        Ok(FirstPayload::decode(&self.payload)?)
    }

    /// What the path set-up of that attempt reveals.
    pub fn reveal(&self, attempt: &[u8; SHORT_LEN]) -> [u8; 32] {
        self.secret.reveal(attempt)
    }

    /// The key to answer later attempts of the same message with.
    pub fn reveal_key(&self) -> Zeroizing<[u8; 32]> {
        self.secret.reveal.clone()
    }

    /// Answers.
    ///
    /// # Errors
    /// The initiator's share must not be used.
    pub fn answer(&self, payload: AnswerPayload, rng: &mut Rng) -> Result<Answered, HandshakeError> {
        let (agreement, shared) = agree_respond(Group::X25519MlKem768, self.payload()?.share, rng)?;
        let key = answer_key(&self.secret, &shared, &self.first_hash, &agreement);
        let mut sealed = [0; SEALED_ANSWER_LEN];
        let (text, tag) = sealed.split_at_mut(SEALED_ANSWER_LEN - TAG_LEN);
        text.copy_from_slice(&payload.encode());
        tag.copy_from_slice(&AeadKey::new(Aead::ChaCha20Poly1305, &key).seal_in_place(NONCE, &[], text));
        let blob = Message::Answer(Answer { agreement: &agreement, sealed: &sealed }).encode();
        let keys = session_keys(&key, &self.first_hash, &blob, payload.aead);
        Ok(Answered { blob, keys })
    }
}

/// The reveal of a repeated first message's attempt.
pub(super) fn reveal_again(reveal_key: &[u8; 32], attempt: &[u8; SHORT_LEN]) -> [u8; 32] {
    keyed_mac(reveal_key, attempt)
}

/// One resumption of a session: message, answer and path proof of the `n`th try.
pub(super) struct Resumption {
    /// What finds the session; used once.
    pub tag: [u8; SHORT_LEN],
    /// What the path set-up reveals.
    pub reveal: [u8; 32],
    /// What the answer must say.
    pub mac: [u8; SHORT_LEN],
}

impl Resumption {
    /// The `n`th resumption of the session with that resume key.
    pub fn new(resume: &[u8; 32], n: u64) -> Self {
        let n = n.to_le_bytes();
        Self {
            tag: short(derive(Context::SessionResume, &[resume, &n])),
            reveal: derive(Context::SessionReveal, &[resume, &n]),
            mac: short(derive(Context::SessionResumed, &[resume, &n])),
        }
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
