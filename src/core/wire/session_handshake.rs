//! Wire forms of how a session begins: the descriptor that a responder publishes, the
//! two handshake messages, the two of a resumption, and the identity proof. They travel
//! as the blobs of a path's set-up (PROTOCOL.md §5, §6), the proof inside the session.
//!
//! ```text
//! descriptor  version 1 | owner kind 1 | owner 32 | node 32 | expiry 8 | trial share 32 | hybrid share 1216
//!             | node scheme 1 | vec16 node key | vec16 signature
//! first       version 1 | kind 1 | attempt 16 | trial answer 32 | trial tag 16 | hybrid answer 1120 | sealed rest
//!  inside     flags 1 | initiator's share 1216 | open? (mode 1 | label 1+n | port 1+n | vec16 early) | zeros to 256
//! answer      version 1 | kind 2 | hybrid answer 1120 | sealed (aead 1 | early 1) 18
//! resume      version 1 | kind 3 | tag 16
//! resumed     version 1 | kind 4 | mac 16
//! proof       scheme 1 | vec16 key | vec16 signature
//! ```
//!
//! `attempt` is fresh for each path that carries a first message and no part of the
//! transcript: it only varies what the path set-up reveals. Texts are bytes here; the
//! session checks ports, labels and modes. Nothing is allocated by a received length.

use bytes::BufMut;

use super::{Error, Reader, put_vec16};
use crate::crypto::{Aead, Group, PeerId, Scheme, ServiceId, TAG_LEN};

/// Version of every message here.
const VERSION: u8 = 1;
/// Bytes of the longest handshake message.
pub const MESSAGE_LEN_MAX: usize = 4_000;
/// Bytes of the longest early data.
pub const EARLY_LEN_MAX: usize = 1_024;
/// Bytes of the longest label: a TNS label.
pub const LABEL_LEN_MAX: usize = 63;
/// Bytes of the longest port.
pub const PORT_LEN_MAX: usize = 64;
/// Bytes of an X25519 share or answer.
pub const TRIAL_LEN: usize = Group::X25519.share_len();
/// Bytes of a hybrid share.
pub const SHARE_LEN: usize = Group::X25519MlKem768.share_len();
/// Bytes of a hybrid answer.
pub const ANSWER_LEN: usize = Group::X25519MlKem768.answer_len();
/// Bytes of an attempt, a trial tag, a resume tag and a resumed MAC.
pub const SHORT_LEN: usize = 16;
/// A first message's sealed part is padded to a multiple of this, so that it does not show the length of a port.
const PAD_TO: usize = 256;
/// Bytes of an answer's sealed part.
pub const SEALED_ANSWER_LEN: usize = 2 + TAG_LEN;

/// Whom a session is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// An identity.
    Service(ServiceId),
    /// A machine.
    Peer(PeerId),
}

impl Owner {
    /// Kind and id, as they are signed, hashed and sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 33] {
        let (kind, id) = match self {
            Self::Service(id) => (1, id.0),
            Self::Peer(id) => (2, id.0),
        };
        let mut out = [kind; 33];
        out[1..].copy_from_slice(&id);
        out
    }

    /// The owner of [`Self::to_bytes`].
    ///
    /// # Errors
    /// Cut short, or an unknown kind.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let kind = reader.u8()?;
        let id = reader.array()?;
        match kind {
            1 => Ok(Self::Service(ServiceId(id))),
            2 => Ok(Self::Peer(PeerId(id))),
            _ => Err(Error::Invalid("owner kind")),
        }
    }
}

/// A key and its signature, of either scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The scheme of both.
    pub scheme: Scheme,
    /// The public key.
    pub key: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Signed {
    /// Appends its wire form.
    fn put(&self, out: &mut impl BufMut) {
        out.put_u8(self.scheme.code());
        put_vec16(out, &self.key);
        put_vec16(out, &self.signature);
    }

    /// Reads its wire form; both lengths are the scheme's.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let scheme = Scheme::from_code(reader.u8()?).ok_or(Error::Invalid("signature scheme"))?;
        let key = reader.vec16()?;
        let signature = reader.vec16()?;
        if key.len() != scheme.public_len() || signature.len() != scheme.signature_len() {
            return Err(Error::Invalid("signature length"));
        }
        Ok(Self { scheme, key: key.to_vec(), signature: signature.to_vec() })
    }

    /// Its wire form alone: an identity proof.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(5 + self.key.len() + self.signature.len());
        self.put(&mut out);
        out
    }

    /// Decodes an identity proof.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let signed = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(signed)
    }
}

/// Where and under which keys somebody takes sessions: part of its published record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Whose sessions.
    pub owner: Owner,
    /// The machine that takes them.
    pub node: PeerId,
    /// Unix seconds until which it may be used; the keys live longer.
    pub expiry: u64,
    /// X25519 key by which a responder finds out cheaply that a message is for it.
    pub trial: [u8; TRIAL_LEN],
    /// X25519 and ML-KEM-768 key that messages are sealed to; [`SHARE_LEN`] bytes.
    pub share: Vec<u8>,
    /// The node's signature over everything above.
    pub node_signature: Signed,
}

impl Descriptor {
    /// Its wire form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_600);
        out.put_u8(VERSION);
        out.put_slice(&self.owner.to_bytes());
        out.put_slice(&self.node.0);
        out.put_u64_le(self.expiry);
        out.put_slice(&self.trial);
        out.put_slice(&self.share);
        self.node_signature.put(&mut out);
        out
    }

    /// Decodes a descriptor; [`Descriptor::verify`] decides whether it holds.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::Invalid("descriptor version"));
        }
        let owner = Owner::read(&mut reader)?;
        let node = PeerId(reader.array()?);
        let expiry = reader.u64()?;
        let trial = reader.array()?;
        let share = reader.take(SHARE_LEN)?.to_vec();
        let node_signature = Signed::read(&mut reader)?;
        reader.finish()?;
        Ok(Self { owner, node, expiry, trial, share, node_signature })
    }
}

/// The initiator's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First<'a> {
    /// Fresh for each path it is sent on.
    pub attempt: [u8; SHORT_LEN],
    /// Everything after the attempt: what the transcript holds and repeats are known by.
    pub transcript: &'a [u8],
    /// Answer to the responder's trial key.
    pub trial: [u8; TRIAL_LEN],
    /// MAC of [`Self::body`] under the trial's secret.
    pub trial_tag: [u8; SHORT_LEN],
    /// What [`Self::trial_tag`] covers: the hybrid answer and the sealed part.
    pub body: &'a [u8],
    /// Answer to the responder's hybrid key.
    pub agreement: &'a [u8],
    /// The sealed [`FirstPayload`].
    pub sealed: &'a [u8],
}

/// The responder's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Answer to the initiator's ephemeral share.
    pub agreement: &'a [u8],
    /// The sealed [`AnswerPayload`]; [`SEALED_ANSWER_LEN`] bytes.
    pub sealed: &'a [u8],
}

/// A message that sets a session up or moves it to a new path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// First message.
    First(First<'a>),
    /// Its answer.
    Answer(Answer<'a>),
    /// Continue the session of this tag on the path that carries this.
    Resume([u8; SHORT_LEN]),
    /// Continued: a MAC that only the session's responder can make.
    Resumed([u8; SHORT_LEN]),
}

impl<'a> Message<'a> {
    /// Decodes a message; what it seals is opened elsewhere.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MESSAGE_LEN_MAX {
            return Err(Error::Invalid("handshake message length"));
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::Invalid("handshake version"));
        }
        let message = match reader.u8()? {
            1 => Self::First(read_first(&mut reader)?),
            2 => Self::Answer(Answer { agreement: reader.take(ANSWER_LEN)?, sealed: reader.take(SEALED_ANSWER_LEN)? }),
            3 => Self::Resume(reader.array()?),
            4 => Self::Resumed(reader.array()?),
            _ => return Err(Error::Invalid("handshake message kind")),
        };
        reader.finish()?;
        Ok(message)
    }

    /// What precedes the transcript of a first message.
    #[must_use]
    pub fn first_head(attempt: [u8; SHORT_LEN]) -> [u8; 2 + SHORT_LEN] {
        let mut head = [1; 2 + SHORT_LEN];
        head[0] = VERSION;
        head[2..].copy_from_slice(&attempt);
        head
    }

    /// Its wire form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::First(first) => {
                out.clear();
                out.put_slice(&Self::first_head(first.attempt));
                out.put_slice(first.transcript);
            }
            Self::Answer(answer) => {
                out.put_u8(2);
                out.put_slice(answer.agreement);
                out.put_slice(answer.sealed);
            }
            Self::Resume(tag) => {
                out.put_u8(3);
                out.put_slice(tag);
            }
            Self::Resumed(mac) => {
                out.put_u8(4);
                out.put_slice(mac);
            }
        }
        out
    }
}

/// Reads a first message behind version and kind.
fn read_first<'a>(reader: &mut Reader<'a>) -> Result<First<'a>, Error> {
    let attempt = reader.array()?;
    let transcript = reader.rest();
    let mut reader = Reader::new(transcript);
    let trial = reader.array()?;
    let trial_tag = reader.array()?;
    let body = reader.rest();
    let (agreement, sealed) = body.split_at_checked(ANSWER_LEN).ok_or(Error::Truncated)?;
    if sealed.len() < SHARE_LEN + 1 + TAG_LEN || !(sealed.len() - TAG_LEN).is_multiple_of(PAD_TO) {
        return Err(Error::Invalid("length of a first message"));
    }
    Ok(First { attempt, transcript, trial, trial_tag, body, agreement, sealed })
}

/// The channel that a first message opens, as text and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstOpen<'a> {
    /// The delivery mode's code.
    pub mode: u8,
    /// The label carried, if any; at most [`LABEL_LEN_MAX`] bytes, not empty.
    pub label: Option<&'a str>,
    /// The port; at most [`PORT_LEN_MAX`] bytes.
    pub port: &'a str,
    /// The first data; at most [`EARLY_LEN_MAX`] bytes.
    pub early: &'a [u8],
}

/// What a first message seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstPayload<'a> {
    /// The initiator offers AES-256-GCM.
    pub gcm: bool,
    /// The initiator offers AEGIS-256X2.
    pub aegis: bool,
    /// The initiator will prove an identity; otherwise it stays anonymous.
    pub proves: bool,
    /// The initiator's ephemeral hybrid share; [`SHARE_LEN`] bytes.
    pub share: &'a [u8],
    /// The first channel, if it wants one at once.
    pub open: Option<FirstOpen<'a>>,
}

/// Flag: AES-256-GCM is offered.
const FLAG_GCM: u8 = 1;
/// Flag: an identity proof will follow.
const FLAG_PROVES: u8 = 2;
/// Flag: a channel is opened.
const FLAG_OPEN: u8 = 4;
/// Flag: AEGIS-256X2 is offered.
const FLAG_AEGIS: u8 = 8;

/// Appends text of at most 255 bytes behind its length.
fn put_text(out: &mut impl BufMut, text: &str) {
    out.put_u8(u8::try_from(text.len()).expect("labels and ports are shorter than 256 bytes"));
    out.put_slice(text.as_bytes());
}

/// Reads text of at most `len_max` bytes behind its length.
fn read_text<'a>(reader: &mut Reader<'a>, len_max: usize) -> Result<&'a str, Error> {
    let len = usize::from(reader.u8()?);
    if len > len_max {
        return Err(Error::Invalid("text too long"));
    }
    std::str::from_utf8(reader.take(len)?).map_err(|_| Error::Invalid("text is not UTF-8"))
}

impl<'a> FirstPayload<'a> {
    /// Its wire form, padded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2_560);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let offers = flag(self.gcm, FLAG_GCM) | flag(self.aegis, FLAG_AEGIS);
        out.put_u8(offers | flag(self.proves, FLAG_PROVES) | flag(self.open.is_some(), FLAG_OPEN));
        out.put_slice(self.share);
        if let Some(open) = &self.open {
            out.put_u8(open.mode);
            put_text(&mut out, open.label.unwrap_or_default());
            put_text(&mut out, open.port);
            put_vec16(&mut out, open.early);
        }
        out.resize(out.len().next_multiple_of(PAD_TO), 0);
        out
    }

    /// Decodes it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        if flags & !(FLAG_GCM | FLAG_PROVES | FLAG_OPEN | FLAG_AEGIS) != 0 {
            return Err(Error::Invalid("flags of a first message"));
        }
        let share = reader.take(SHARE_LEN)?;
        let open = if flags & FLAG_OPEN == 0 { None } else { Some(read_open(&mut reader)?) };
        let padding = reader.rest();
        if !bytes.len().is_multiple_of(PAD_TO) || padding.len() >= PAD_TO || padding.iter().any(|byte| *byte != 0) {
            return Err(Error::Invalid("padding of a first message"));
        }
        let has = |flag: u8| flags & flag != 0;
        Ok(Self { gcm: has(FLAG_GCM), aegis: has(FLAG_AEGIS), proves: has(FLAG_PROVES), share, open })
    }

    /// Whether the initiator would take `aead` for the session.
    #[must_use]
    pub const fn offers(&self, aead: Aead) -> bool {
        match aead {
            Aead::ChaCha20Poly1305 => true,
            Aead::Aes256Gcm => self.gcm,
            Aead::Aegis256X2 => self.aegis,
        }
    }
}

/// Reads the channel that a first message opens.
fn read_open<'a>(reader: &mut Reader<'a>) -> Result<FirstOpen<'a>, Error> {
    let mode = reader.u8()?;
    let label = read_text(reader, LABEL_LEN_MAX)?;
    let port = read_text(reader, PORT_LEN_MAX)?;
    let early = reader.vec16()?;
    if early.len() > EARLY_LEN_MAX {
        return Err(Error::Invalid("early data too long"));
    }
    Ok(FirstOpen { mode, label: (!label.is_empty()).then_some(label), port, early })
}

/// What an answer seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerPayload {
    /// The AEAD of the session.
    pub aead: Aead,
    /// The channel and data of the first message were taken; otherwise they must be sent again under the final keys.
    pub early_taken: bool,
}

impl AnswerPayload {
    /// Its wire form.
    #[must_use]
    pub fn encode(self) -> [u8; 2] {
        [self.aead.code(), u8::from(self.early_taken)]
    }

    /// Decodes it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let aead = Aead::from_code(reader.u8()?).ok_or(Error::Invalid("AEAD"))?;
        let early_taken = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Error::Invalid("early data answer")),
        };
        reader.finish()?;
        Ok(Self { aead, early_taken })
    }
}

#[cfg(test)]
#[path = "session_handshake_tests.rs"]
mod tests;
