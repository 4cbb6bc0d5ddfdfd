//! What neighbours say to each other: three handshake messages in the clear, the proof of
//! identity sealed inside two of them, and the batches of messages inside sealed frames.
//!
//! | message | bytes |
//! | --- | --- |
//! | first | 1, versions from and to, groups `n (code, share16)`, AEADs `n code`, schemes `n code`, nonce 16, zeros to a multiple of 256, MAC 16 |
//! | second | 2, version, group, AEAD, answer16, nonce 16, sealed proof16 |
//! | third | 3, sealed proof16 |
//! | again | 4, cookie 16: a busy responder asks for the first message once more, with this |
//! | first again | 5, cookie 16, first |
//! | proof | scheme, key16, signature16, zeros to a multiple of 256 |
//! | batch | flags, messages `kind, length varint, body`, then zeros |
//!
//! `name16` is a field behind a 2-byte length. Codes that nobody knows yet pass through an
//! offer untouched; choosing among them is the handshake's business.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Error, Reader, put_varint, put_vec16};

/// The version of the link protocol that this code speaks.
pub const VERSION: u8 = 1;
/// A handshake message is never longer.
pub const HANDSHAKE_LEN_MAX: usize = 4096;
/// Bytes of the MAC at the end of a first message.
pub const MAC_LEN: usize = 16;
/// First messages and proofs are padded to a multiple of this, so that their length tells little.
const PAD_LEN: usize = 256;
/// Entries of any list in an offer.
const OFFER_LEN_MAX: usize = 8;
/// The batch's flag that the sender's next frame is under the next key.
pub const FLAG_RATCHET: u8 = 1;
/// The batch's flag that what both sides agreed anew goes into the key of the sender's next frame.
pub const FLAG_MIX: u8 = 2;

/// First byte of the first message.
const FIRST: u8 = 1;
/// First byte of the second message.
const SECOND: u8 = 2;
/// First byte of the third message.
const THIRD: u8 = 3;
/// First byte of a busy responder's request.
const AGAIN: u8 = 4;
/// First byte of a first message with a cookie before it.
const FIRST_AGAIN: u8 = 5;
/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 16;

/// The first message: everything that the initiator offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// Lowest version spoken.
    pub version_min: u8,
    /// Highest version spoken.
    pub version_max: u8,
    /// Group codes with the initiator's share of each, preferred first; at most 8.
    pub groups: Vec<(u8, Vec<u8>)>,
    /// AEAD codes, preferred first; at most 8.
    pub aeads: Vec<u8>,
    /// Codes of the signature schemes that the initiator can verify; at most 8.
    pub schemes: Vec<u8>,
    /// Makes every offer another.
    pub nonce: [u8; 16],
}

impl First {
    /// Encodes everything but the MAC, which the caller appends.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FIRST, self.version_min, self.version_max];
        out.put_u8(count(&self.groups));
        for (code, share) in &self.groups {
            out.put_u8(*code);
            put_vec16(&mut out, share);
        }
        for list in [&self.aeads, &self.schemes] {
            out.put_u8(count(list));
            out.put_slice(list);
        }
        out.put_slice(&self.nonce);
        let len = (out.len() + MAC_LEN).next_multiple_of(PAD_LEN) - MAC_LEN;
        out.resize(len, 0);
        out
    }

    /// Splits a first message into what the MAC covers and the MAC, after looking at nothing but length and first byte.
    ///
    /// # Errors
    /// Not the length or kind of a first message.
    pub fn split_mac(bytes: &[u8]) -> Result<(&[u8], &[u8; MAC_LEN]), Error> {
        if bytes.len() > HANDSHAKE_LEN_MAX || !bytes.len().is_multiple_of(PAD_LEN) {
            return Err(Error::Invalid("length of a first message"));
        }
        let (body, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(Error::Truncated)?;
        if body.first() != Some(&FIRST) {
            return Err(Error::Invalid("not a first message"));
        }
        Ok((body, mac))
    }

    /// Decodes what [`Self::split_mac`] returned as covered by the MAC.
    ///
    /// # Errors
    /// Any field out of its bounds, or padding that is not what [`Self::encode`] writes.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        if reader.u8()? != FIRST {
            return Err(Error::Invalid("not a first message"));
        }
        let (version_min, version_max) = (reader.u8()?, reader.u8()?);
        let mut groups = Vec::new();
        for _ in 0..offer_len(&mut reader)? {
            groups.push((reader.u8()?, reader.vec16()?.to_vec()));
        }
        let aeads = codes(&mut reader)?;
        let schemes = codes(&mut reader)?;
        let nonce = reader.array()?;
        let used = body.len() - reader.remaining();
        if body.len() + MAC_LEN != (used + MAC_LEN).next_multiple_of(PAD_LEN) {
            return Err(Error::Invalid("padding of a first message"));
        }
        zeros(reader.rest())?;
        Ok(Self { version_min, version_max, groups, aeads, schemes, nonce })
    }
}

/// The second message but for its sealed proof: what the responder chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Second {
    /// The version chosen.
    pub version: u8,
    /// Code of the group chosen.
    pub group: u8,
    /// Code of the AEAD chosen.
    pub aead: u8,
    /// The responder's answer to the initiator's share.
    pub answer: Vec<u8>,
    /// Makes every choice another.
    pub nonce: [u8; 16],
}

impl Second {
    /// Encodes the part before the sealed proof, which the caller appends with [`put_vec16`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SECOND, self.version, self.group, self.aead];
        put_vec16(&mut out, &self.answer);
        out.put_slice(&self.nonce);
        out
    }

    /// Decodes a second message: the choice, the bytes that held it, and the sealed proof.
    ///
    /// # Errors
    /// Not a second message.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8], &[u8]), Error> {
        let mut reader = handshake(bytes, SECOND)?;
        let (version, group, aead) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let answer = reader.vec16()?.to_vec();
        let nonce = reader.array()?;
        let head = &bytes[..bytes.len() - reader.remaining()];
        let sealed = reader.vec16()?;
        reader.finish()?;
        Ok((Self { version, group, aead, answer, nonce }, head, sealed))
    }
}

/// A busy responder's request for the first message with a cookie.
#[must_use]
pub fn encode_again(cookie: &[u8; COOKIE_LEN]) -> Vec<u8> {
    [&[AGAIN][..], cookie].concat()
}

/// The cookie of a busy responder's request; `None` for any other message.
#[must_use]
pub fn decode_again(bytes: &[u8]) -> Option<[u8; COOKIE_LEN]> {
    bytes.strip_prefix(&[AGAIN])?.try_into().ok()
}

/// A first message, MAC included, with the cookie that its responder asked for.
#[must_use]
pub fn with_cookie(cookie: &[u8; COOKIE_LEN], first: &[u8]) -> Vec<u8> {
    [&[FIRST_AGAIN][..], cookie, first].concat()
}

/// Splits a cookie off a first message that has one.
#[must_use]
pub fn split_cookie(bytes: &[u8]) -> (Option<&[u8; COOKIE_LEN]>, &[u8]) {
    match bytes.strip_prefix(&[FIRST_AGAIN]).and_then(<[u8]>::split_first_chunk) {
        Some((cookie, first)) => (Some(cookie), first),
        None => (None, bytes),
    }
}

/// The third message around its sealed proof.
#[must_use]
pub fn encode_third(sealed: &[u8]) -> Vec<u8> {
    let mut out = vec![THIRD];
    put_vec16(&mut out, sealed);
    out
}

/// The sealed proof inside a third message.
///
/// # Errors
/// Not a third message.
pub fn decode_third(bytes: &[u8]) -> Result<&[u8], Error> {
    let mut reader = handshake(bytes, THIRD)?;
    let sealed = reader.vec16()?;
    reader.finish()?;
    Ok(sealed)
}

/// Who one is, with the signature that proves it: the plaintext of what handshake messages seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Code of the signature scheme.
    pub scheme: u8,
    /// Public node key.
    pub key: Vec<u8>,
    /// Signature over the transcript.
    pub signature: Vec<u8>,
}

impl Proof {
    /// Encodes and pads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.scheme];
        put_vec16(&mut out, &self.key);
        put_vec16(&mut out, &self.signature);
        out.resize(out.len().next_multiple_of(PAD_LEN), 0);
        out
    }

    /// Decodes an opened proof.
    ///
    /// # Errors
    /// Not a proof, or padded in another way.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let scheme = reader.u8()?;
        let (key, signature) = (reader.vec16()?.to_vec(), reader.vec16()?.to_vec());
        let used = bytes.len() - reader.remaining();
        if bytes.len() != used.next_multiple_of(PAD_LEN) {
            return Err(Error::Invalid("padding of a proof"));
        }
        zeros(reader.rest())?;
        Ok(Self { scheme, key, signature })
    }
}

/// Appends one message to a batch; its body is `head` and `body` joined.
pub fn put_message(batch: &mut impl BufMut, kind: u8, head: &[u8], body: &[u8]) {
    batch.put_u8(kind);
    put_varint(batch, (head.len() + body.len()) as u64);
    batch.put_slice(head);
    batch.put_slice(body);
}

/// Takes the next message off an opened batch (without its flags): kind and body, which shares the
/// batch's memory. `None` at the end: nothing is left, or padding begins (kind 0).
///
/// # Errors
/// The batch ends inside a message. The rest of it means nothing.
pub fn next_message(batch: &mut Bytes) -> Result<Option<(u8, Bytes)>, Error> {
    let Some((kind, at, len)) = message_head(batch)? else { return Ok(None) };
    batch.advance(at);
    Ok(Some((kind, batch.split_to(len))))
}

/// Like [`next_message`], for a batch whose messages may be changed in place.
///
/// # Errors
/// As [`next_message`].
pub fn take_message(batch: &mut BytesMut) -> Result<Option<(u8, BytesMut)>, Error> {
    let Some((kind, at, len)) = message_head(batch)? else { return Ok(None) };
    batch.advance(at);
    Ok(Some((kind, batch.split_to(len))))
}

/// The kind of a batch's first message, where its body begins and how long it is; `None` at the end or at padding.
fn message_head(batch: &[u8]) -> Result<Option<(u8, usize, usize)>, Error> {
    let mut reader = Reader::new(batch);
    if reader.remaining() == 0 {
        return Ok(None);
    }
    let kind = reader.u8()?;
    if kind == 0 {
        return Ok(None);
    }
    let len = usize::try_from(reader.varint()?).map_err(|_| Error::Truncated)?;
    let left = reader.remaining();
    if len > left {
        return Err(Error::Truncated);
    }
    Ok(Some((kind, batch.len() - left, len)))
}

/// A reader behind the first byte of a handshake message of the given kind.
fn handshake(bytes: &[u8], kind: u8) -> Result<Reader<'_>, Error> {
    if bytes.len() > HANDSHAKE_LEN_MAX {
        return Err(Error::Invalid("length of a handshake message"));
    }
    let mut reader = Reader::new(bytes);
    if reader.u8()? != kind {
        return Err(Error::Invalid("handshake message out of order"));
    }
    Ok(reader)
}

/// The length byte of one of our own lists, which are short.
fn count<T>(list: &[T]) -> u8 {
    u8::try_from(list.len()).expect("an offer of at most 8 entries")
}

/// The length of a list in an offer.
fn offer_len(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let len = usize::from(reader.u8()?);
    if len > OFFER_LEN_MAX { Err(Error::Invalid("offer too long")) } else { Ok(len) }
}

/// A list of codes in an offer.
fn codes(reader: &mut Reader<'_>) -> Result<Vec<u8>, Error> {
    let len = offer_len(reader)?;
    Ok(reader.take(len)?.to_vec())
}

/// Checks that padding is zero, so that a message has one encoding.
fn zeros(padding: &[u8]) -> Result<(), Error> {
    if padding.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Error::Invalid("padding is not zero")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first() -> impl Strategy<Value = First> {
        let groups = prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8);
        let codes = || prop::collection::vec(any::<u8>(), 0..8);
        (any::<u8>(), any::<u8>(), groups, codes(), codes(), any::<[u8; 16]>()).prop_map(
            |(version_min, version_max, groups, aeads, schemes, nonce)| First {
                version_min,
                version_max,
                groups,
                aeads,
                schemes,
                nonce,
            },
        )
    }

    proptest! {
        #[test]
        fn handshake_messages_round_trip(first in first(), a: Vec<u8>, b: Vec<u8>, nonce: [u8; 16]) {
            let mut bytes = first.encode();
            prop_assert_eq!(First::decode(&bytes), Ok(first));
            bytes.extend_from_slice(&[7; MAC_LEN]);
            prop_assert_eq!(First::split_mac(&bytes), Ok((&bytes[..bytes.len() - MAC_LEN], &[7; MAC_LEN])));

            let second = Second { version: 1, group: 2, aead: 1, answer: a.clone(), nonce };
            let head = second.encode();
            let mut bytes = head.clone();
            put_vec16(&mut bytes, &b);
            prop_assert_eq!(Second::decode(&bytes), Ok((second, &head[..], &b[..])));
            let third = encode_third(&b);
            prop_assert_eq!(decode_third(&third), Ok(&b[..]));
            let proof = Proof { scheme: 2, key: a, signature: b };
            prop_assert_eq!(Proof::decode(&proof.encode()), Ok(proof));
            prop_assert_eq!(decode_again(&encode_again(&nonce)), Some(nonce));
            let again = with_cookie(&nonce, &head);
            prop_assert_eq!(split_cookie(&again), (Some(&nonce), &head[..]));
            prop_assert_eq!((split_cookie(&head), decode_again(&head)), ((None, &head[..]), None));
        }

        #[test]
        fn any_bytes_decode_to_an_error_or_to_themselves(mut bytes: Vec<u8>, kind in 0u8..4, len in 0usize..600) {
            bytes.resize(len.max(1), 0);
            bytes[0] = kind;
            if let Ok(first) = First::decode(&bytes) {
                prop_assert_eq!(&first.encode(), &bytes);
            }
            if let Ok((second, head, sealed)) = Second::decode(&bytes) {
                let mut again = second.encode();
                prop_assert_eq!(&again[..], head);
                put_vec16(&mut again, sealed);
                prop_assert_eq!(&again, &bytes);
            }
            if let Ok(sealed) = decode_third(&bytes) {
                prop_assert_eq!(&encode_third(sealed), &bytes);
            }
            if let Ok(proof) = Proof::decode(&bytes) {
                prop_assert_eq!(&proof.encode(), &bytes);
            }
            let mut batch = Bytes::from(bytes);
            while let Ok(Some(_)) = next_message(&mut batch) {}
        }

        #[test]
        fn a_cut_or_altered_message_is_an_error_or_itself(first in first(), at: prop::sample::Index, bit in 0u8..8) {
            let bytes = first.encode();
            prop_assert!(First::decode(&bytes[..at.index(bytes.len())]).is_err());
            let mut altered = bytes.clone();
            altered[at.index(bytes.len())] ^= 1 << bit;
            if let Ok(other) = First::decode(&altered) {
                prop_assert_eq!(other.encode(), altered);
            }
        }

        #[test]
        fn batches_give_back_their_messages(messages: Vec<(u8, Vec<u8>, Vec<u8>)>, padding in 0usize..40) {
            let mut batch = Vec::new();
            for (kind, head, body) in &messages {
                put_message(&mut batch, (*kind).max(1), head, body);
            }
            batch.resize(batch.len() + padding, 0);
            let (mut batch, mut owned) = (Bytes::from(batch.clone()), BytesMut::from(&batch[..]));
            for (kind, head, body) in messages {
                let (got, bytes) = next_message(&mut batch).unwrap().unwrap();
                prop_assert_eq!((got, &bytes[..]), (kind.max(1), &[head, body].concat()[..]));
                let (got, taken) = take_message(&mut owned).unwrap().unwrap();
                prop_assert_eq!((got, &taken[..]), (kind.max(1), &bytes[..]));
            }
            prop_assert_eq!(next_message(&mut batch), Ok(None));
            prop_assert_eq!(take_message(&mut owned), Ok(None));
        }
    }

    #[test]
    fn a_message_longer_than_its_batch_is_an_error() {
        assert_eq!(next_message(&mut Bytes::from_static(&[9, 3, 1, 2])), Err(Error::Truncated));
        assert_eq!(next_message(&mut Bytes::from_static(&[9])), Err(Error::Truncated));
        let huge = [&[9u8][..], &[0xff; 9], &[1]].concat();
        assert_eq!(next_message(&mut Bytes::from(huge)), Err(Error::Truncated));
    }

    #[test]
    fn an_overlong_handshake_message_is_refused_by_length() {
        let mut long = vec![0; HANDSHAKE_LEN_MAX + 256];
        for kind in [FIRST, SECOND, THIRD] {
            long[0] = kind;
            assert!(First::split_mac(&long).is_err());
            assert!(Second::decode(&long).is_err());
            assert!(decode_third(&long).is_err());
        }
    }
}
