//! The three messages that make a link (SIGMA-I): ephemeral keys in the clear, identities
//! and signatures sealed. A chain of types named after what is awaited, so that a message
//! out of order has no code path:
//!
//! ```text
//! initiator  Initiator ── second ──▶ Verified ── accept ──▶ third, Agreed
//! responder  check_first ▶ respond ──▶ Responder ── third ──▶ Agreed
//! ```
//!
//! The responder signs both offers, the choice, both shares and its key; the initiator all of
//! that, message 2, the responder's id and its key; the traffic keys take everything. The
//! network key goes into the master secret: without it the proof in message 2 does not open.
//! [`Verified`] lets the caller look at who answered before anything of us is revealed.
//! A busy responder may ask for message 1 again with a cookie, which is no part of the transcript.
//! Bounds: three messages of at most 4,096 bytes, and two for a cookie. Missing on purpose: standby transports.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::Error;
use super::frame::{Opener, Padding, Sealer};
use super::{Config, Pin};
use crate::crypto::{
    Aead, AeadKey, AgreementSecret, Context, Group, PeerId, PublicKey, Purpose, Scheme, SharedSecret, SigningKey,
    agree_respond, derive, derive_into, keyed_mac, same_secret,
};
use crate::defence::{self, Defence};
use crate::rng::Rng;
use crate::time::Now;
use crate::wire::link::{
    First, MAC_LEN, Proof, Second, VERSION, decode_again, decode_third, encode_third, with_cookie,
};
use crate::wire::put_vec16;

/// The MAC key target of a first message that expects nobody in particular.
const NOBODY: PeerId = PeerId([0; 32]);
/// Each proof key seals one message.
const PROOF_NONCE: [u8; 12] = [0; 12];

/// What a node brings to every handshake.
pub(super) struct Terms {
    keys: Arc<SigningKey>,
    me: PeerId,
    network_key: Option<Zeroizing<[u8; 32]>>,
    groups: Vec<Group>,
    aeads: &'static [Aead],
    padding: Padding,
    open: bool,
    mac_me: [u8; 32],
}

impl Terms {
    /// The terms that a configuration asks for.
    pub(super) fn new(config: Config) -> Self {
        let me = config.keys.public().peer_id();
        Self {
            me,
            network_key: config.network_key.map(Zeroizing::new),
            groups: config.groups,
            aeads: Aead::offered(config.aes),
            padding: config.padding,
            open: config.open,
            mac_me: mac_key(&me),
            keys: config.keys,
        }
    }

    /// Whether we have the hybrid key agreement.
    pub(super) fn is_hybrid(&self) -> bool {
        self.groups.contains(&Group::X25519MlKem768)
    }

    /// Our own id.
    pub(super) fn me(&self) -> PeerId {
        self.me
    }

    /// How frames are padded.
    pub(super) fn padding(&self) -> Padding {
        self.padding
    }

    /// Our proof over a transcript, sealed.
    fn prove(&self, purpose: Purpose, transcript: &[u8; 32], to: &[u8], key: &AeadKey) -> Vec<u8> {
        let public = self.keys.public();
        let (scheme, key_bytes) = (public.scheme().code(), public.to_bytes());
        let signature = self.keys.sign(purpose, &[transcript, to, &[scheme], &key_bytes]);
        let mut sealed = Proof { scheme, key: key_bytes, signature }.encode();
        let tag = key.seal_in_place(PROOF_NONCE, transcript, &mut sealed);
        sealed.extend_from_slice(&tag);
        sealed
    }
}

/// The MAC key of first messages for `target`.
fn mac_key(target: &PeerId) -> [u8; 32] {
    derive(Context::LinkMac, &[&target.0])
}

/// The MAC at the end of a first message.
fn mac(key: &[u8; 32], body: &[u8]) -> [u8; MAC_LEN] {
    let mut out = [0; MAC_LEN];
    out.copy_from_slice(&keyed_mac(key, body)[..MAC_LEN]);
    out
}

/// What both sides negotiated.
#[derive(Clone, Copy)]
struct Choice {
    version: u8,
    group: Group,
    aead: Aead,
}

/// The master secret and the transcript it belongs to, before the proofs.
struct Keyed {
    choice: Choice,
    master: Zeroizing<[u8; 32]>,
    transcript: [u8; 32],
    responder_key: AeadKey,
    initiator_key: AeadKey,
}

impl Keyed {
    /// The key schedule up to the proofs; `head` is message 2 without its proof.
    fn new(terms: &Terms, choice: Choice, shared: &SharedSecret, first: &[u8], head: &[u8]) -> Self {
        let offer = if defence::on(Defence::OfferInTranscript) { first } else { &[] };
        let transcript = derive(Context::LinkTranscript, &[offer, head]);
        let network_key: &[u8] = terms.network_key.as_ref().map_or(&[], |key| key.as_slice());
        let codes = [choice.version, choice.group.code(), choice.aead.code()];
        let fields = [&codes, shared.as_bytes(), &transcript, network_key];
        let master = Zeroizing::new(derive(Context::LinkHandshake, &fields));
        let mut keys = Zeroizing::new([[0; 32]; 2]);
        derive_into(Context::LinkProof, &[master.as_slice()], keys.as_flattened_mut());
        let [responder_key, initiator_key] = [AeadKey::new(choice.aead, &keys[0]), AeadKey::new(choice.aead, &keys[1])];
        Self { choice, master, transcript, responder_key, initiator_key }
    }

    /// The traffic secrets after the whole transcript: the initiator's, the responder's.
    fn traffic(&self, transcript: &[u8; 32]) -> [Zeroizing<[u8; 32]>; 2] {
        let mut keys = Zeroizing::new([[0; 32]; 2]);
        derive_into(Context::LinkTraffic, &[self.master.as_slice(), transcript], keys.as_flattened_mut());
        [Zeroizing::new(keys[0]), Zeroizing::new(keys[1])]
    }
}

/// Opens and verifies a peer's proof; says who it is.
fn verify(sealed: &[u8], key: &AeadKey, purpose: Purpose, transcript: &[u8; 32], to: &[u8]) -> Result<PeerId, Error> {
    let mut proof = sealed.to_vec();
    let len = key.open_in_place(PROOF_NONCE, transcript, &mut proof).map_err(|_| Error::NotAuthentic)?;
    let proof = Proof::decode(&proof[..len])?;
    let scheme = Scheme::from_code(proof.scheme).ok_or(Error::NothingInCommon("signature scheme"))?;
    let public = PublicKey::from_bytes(scheme, &proof.key).map_err(|_| Error::BadSignature)?;
    let fields: [&[u8]; 4] = [transcript, to, &[proof.scheme], &proof.key];
    public.verify(purpose, &fields, &proof.signature).map_err(|_| Error::BadSignature)?;
    Ok(public.peer_id())
}

/// A finished handshake.
pub(super) struct Agreed {
    /// The authenticated peer.
    pub(super) peer: PeerId,
    /// The key agreement used.
    pub(super) group: Group,
    /// The AEAD used.
    pub(super) aead: Aead,
    /// Seals what we send.
    pub(super) sealer: Sealer,
    /// Opens what the peer sends.
    pub(super) opener: Opener,
}

/// The initiator, awaiting message 2.
pub(super) struct Initiator {
    pin: Pin,
    secrets: Vec<AgreementSecret>,
    first: Vec<u8>,
    /// Whether the responder was busy, and got the first message again.
    again: bool,
}

impl Initiator {
    /// Begins a handshake: the state and message 1.
    pub(super) fn start(terms: &Terms, pin: Pin, rng: &mut Rng) -> (Self, Vec<u8>) {
        let secrets: Vec<_> = terms.groups.iter().map(|group| AgreementSecret::generate(*group, rng)).collect();
        let offer = First {
            version_min: VERSION,
            version_max: VERSION,
            groups: secrets.iter().map(|secret| (secret.group().code(), secret.public_share())).collect(),
            aeads: terms.aeads.iter().map(|aead| aead.code()).collect(),
            schemes: vec![Scheme::Ed25519.code(), Scheme::FalconEd25519.code()],
            nonce: rng.public_array(),
        };
        let mut first = offer.encode();
        let target = pin.peer().unwrap_or(NOBODY);
        let mac = mac(&mac_key(&target), &first);
        first.extend_from_slice(&mac);
        (Self { pin, secrets, first: first.clone(), again: false }, first)
    }

    /// The first message again, if a busy responder asks for it with a cookie, once.
    pub(super) fn again(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let cookie = decode_again(frame).filter(|_| !self.again)?;
        self.again = true;
        Some(with_cookie(&cookie, &self.first))
    }

    /// Takes message 2: checks the choice, the proof, and that it is not ourselves nor another than the pinned peer.
    pub(super) fn handle_second(self, terms: &Terms, second: &[u8]) -> Result<Verified, Error> {
        let (chosen, head, sealed) = Second::decode(second)?;
        let choice = self.choice(terms, &chosen)?;
        let secret = self.secrets.iter().find(|secret| secret.group() == choice.group).ok_or(Error::NotOffered)?;
        let shared = secret.finish(&chosen.answer)?;
        let keyed = Keyed::new(terms, choice, &shared, &self.first, head);
        let peer = verify(sealed, &keyed.responder_key, Purpose::LinkResponder, &keyed.transcript, &[])?;
        if peer == terms.me {
            return Err(Error::SelfLink);
        }
        if defence::on(Defence::Pin) {
            self.pin.check(peer)?;
        }
        let transcript = derive(Context::LinkTranscript, &[&keyed.transcript, second]);
        Ok(Verified { peer, keyed, transcript })
    }

    /// What the responder chose, if we offered it.
    fn choice(&self, terms: &Terms, chosen: &Second) -> Result<Choice, Error> {
        let aead = Aead::from_code(chosen.aead).filter(|aead| terms.aeads.contains(aead)).ok_or(Error::NotOffered)?;
        let group = Group::from_code(chosen.group).ok_or(Error::NotOffered)?;
        if chosen.version != VERSION {
            return Err(Error::NotOffered);
        }
        Ok(Choice { version: chosen.version, group, aead })
    }
}

/// The initiator, knowing who answered and not yet having revealed itself.
pub(super) struct Verified {
    peer: PeerId,
    keyed: Keyed,
    transcript: [u8; 32],
}

impl Verified {
    /// Who answered.
    pub(super) fn peer(&self) -> PeerId {
        self.peer
    }

    /// The key agreement chosen.
    pub(super) fn group(&self) -> Group {
        self.keyed.choice.group
    }

    /// Reveals who we are: message 3, and the link's keys.
    pub(super) fn accept(self, now: Now, terms: &Terms) -> (Vec<u8>, Agreed) {
        let sealed = terms.prove(Purpose::LinkInitiator, &self.transcript, &self.peer.0, &self.keyed.initiator_key);
        let third = encode_third(&sealed);
        let transcript = derive(Context::LinkTranscript, &[&self.transcript, &third]);
        let [ours, theirs] = self.keyed.traffic(&transcript);
        let Choice { aead, group, .. } = self.keyed.choice;
        let sealer = Sealer::new(now, aead, ours, terms.padding);
        (third, Agreed { peer: self.peer, group, aead, sealer, opener: Opener::new(aead, theirs) })
    }
}

/// Checks a first message as cheaply as can be: length, kind, and that it knows our id, or that we
/// answer strangers. A node that does also answers a first message for somebody else: the initiator, who
/// pinned that other, ends it and can say who lives here now. Nothing was kept, nothing may be sent on error.
pub(super) fn check_first(terms: &Terms, first: &[u8]) -> Result<(), Error> {
    let (body, got) = First::split_mac(first)?;
    if same_secret(&mac(&terms.mac_me, body), got) || terms.open { Ok(()) } else { Err(Error::Stranger) }
}

/// The responder, awaiting message 3.
pub(super) struct Responder {
    keyed: Keyed,
    transcript: [u8; 32],
}

impl Responder {
    /// Answers a checked first message: the state and message 2. One key agreement and one signature.
    pub(super) fn respond(terms: &Terms, first: &[u8], rng: &mut Rng) -> Result<(Self, Vec<u8>), Error> {
        let (body, _) = First::split_mac(first)?;
        let offer = First::decode(body)?;
        let choice = choose(terms, &offer)?;
        let code = choice.group.code();
        let share = offer.groups.iter().find(|(group, _)| *group == code).map_or(&[][..], |(_, share)| share);
        let (answer, shared) = agree_respond(choice.group, share, rng)?;
        let second =
            Second { version: VERSION, group: code, aead: choice.aead.code(), answer, nonce: rng.public_array() };
        let mut second = second.encode();
        let keyed = Keyed::new(terms, choice, &shared, first, &second);
        let sealed = terms.prove(Purpose::LinkResponder, &keyed.transcript, &[], &keyed.responder_key);
        put_vec16(&mut second, &sealed);
        let transcript = derive(Context::LinkTranscript, &[&keyed.transcript, &second]);
        Ok((Self { keyed, transcript }, second))
    }

    /// Takes message 3: who the initiator is, and the link's keys.
    pub(super) fn handle_third(self, now: Now, terms: &Terms, third: &[u8]) -> Result<Agreed, Error> {
        let sealed = decode_third(third)?;
        let peer = verify(sealed, &self.keyed.initiator_key, Purpose::LinkInitiator, &self.transcript, &terms.me.0)?;
        if peer == terms.me {
            return Err(Error::SelfLink);
        }
        let transcript = derive(Context::LinkTranscript, &[&self.transcript, third]);
        let [theirs, ours] = self.keyed.traffic(&transcript);
        let Choice { aead, group, .. } = self.keyed.choice;
        let sealer = Sealer::new(now, aead, ours, terms.padding);
        Ok(Agreed { peer, group, aead, sealer, opener: Opener::new(aead, theirs) })
    }
}

/// Chooses from an offer: the hybrid group before X25519 if both sides have it, and the best AEAD that both offer.
fn choose(terms: &Terms, offer: &First) -> Result<Choice, Error> {
    if offer.version_min > VERSION || offer.version_max < VERSION {
        return Err(Error::NothingInCommon("version"));
    }
    if !offer.schemes.contains(&terms.keys.public().scheme().code()) {
        return Err(Error::NothingInCommon("signature scheme"));
    }
    let offered = |group: &Group| offer.groups.iter().any(|(code, _)| *code == group.code());
    let group = terms.groups.iter().copied().filter(offered).max().ok_or(Error::NothingInCommon("key agreement"))?;
    let aead = terms.aeads.iter().copied().find(|aead| offer.aeads.contains(&aead.code()));
    Ok(Choice { version: VERSION, group, aead: aead.ok_or(Error::NothingInCommon("AEAD"))? })
}

#[cfg(test)]
mod tests;
