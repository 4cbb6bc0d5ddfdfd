//! Sealing and opening packets: keys per direction that ratchet, masked headers.
//!
//! The sender moves to its next key after `RATCHET_AFTER` or
//! `RATCHET_PACKETS`, once a packet under the present one was acknowledged, so
//! that the two ends are never more than one key apart. The receiver follows only when a
//! packet opens under the next key, and still opens stragglers under the previous one for
//! a grace. Each key is derived from the one before and wiped with it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use zeroize::{Zeroize, Zeroizing};

use super::limits::{PACKET_LEN_MAX, RATCHET_AFTER, RATCHET_GRACE, RATCHET_PACKETS};
use crate::crypto::{Aead, AeadKey, Context, derive, keyed_mac};
use crate::time::Instant;
use crate::wire::session_packet::{HEADER_LEN, Header, TAG_LEN};

/// What the handshake leaves: one secret per direction, and the cipher both ends chose.
pub struct Secrets {
    /// Secret of what we send.
    pub send: Zeroizing<[u8; 32]>,
    /// Secret of what we receive.
    pub recv: Zeroizing<[u8; 32]>,
    /// The cipher.
    pub aead: Aead,
}

/// One packet key and the secret that the next comes from.
struct Epoch {
    secret: Zeroizing<[u8; 32]>,
    key: AeadKey,
}

impl Epoch {
    /// The epoch of a secret.
    fn new(aead: Aead, secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let key = Zeroizing::new(derive(Context::SessionPacket, &[secret.as_slice()]));
        Self { key: AeadKey::new(aead, &key), secret }
    }

    /// The one after it.
    fn next(&self, aead: Aead) -> Self {
        Self::new(aead, derive(Context::SessionRatchet, &[self.secret.as_slice()]))
    }
}

/// XORs the mask that belongs to a tag over a header.
fn mask(key: &[u8; 32], header: &mut [u8], tag: &[u8]) {
    let mask = keyed_mac(key, tag);
    for (byte, mask) in header.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Seals what we send.
pub struct Sealer {
    aead: Aead,
    header_key: Zeroizing<[u8; 32]>,
    epoch: Epoch,
    number: u64,
    since: Instant,
    packets: u64,
    acknowledged: bool,
}

impl Sealer {
    /// A sealer at its first key.
    pub fn new(now: Instant, aead: Aead, secret: &[u8; 32]) -> Self {
        Self {
            aead,
            header_key: Zeroizing::new(derive(Context::SessionHeader, &[secret])),
            epoch: Epoch::new(aead, *secret),
            number: 0,
            since: now,
            packets: 0,
            acknowledged: false,
        }
    }

    /// Seals `packet` in place: [`HEADER_LEN`] bytes of room, then frames. Adds the tag.
    pub fn seal(&mut self, now: Instant, circuit: u32, number: u64, packet: &mut BytesMut) {
        let worn = self.packets >= RATCHET_PACKETS || now.saturating_since(self.since) >= RATCHET_AFTER;
        if worn && self.acknowledged {
            self.ratchet(now);
        }
        let header = Header { epoch: self.number.to_le_bytes()[0], circuit, number };
        let encoded = header.encode();
        let tag = self.epoch.key.seal_in_place(header.nonce(), &encoded, &mut packet[HEADER_LEN..]);
        packet[..HEADER_LEN].copy_from_slice(&encoded);
        mask(&self.header_key, &mut packet[..HEADER_LEN], &tag);
        packet.extend_from_slice(&tag);
        self.packets += 1;
    }

    /// Notes that the peer acknowledged a packet sealed under key `epoch`.
    pub fn handle_acknowledged(&mut self, epoch: u64) {
        self.acknowledged |= epoch == self.number;
    }

    /// Number of the present key.
    pub const fn epoch(&self) -> u64 {
        self.number
    }

    /// Moves to the next key.
    fn ratchet(&mut self, now: Instant) {
        self.epoch = self.epoch.next(self.aead);
        self.number += 1;
        self.since = now;
        self.packets = 0;
        self.acknowledged = false;
    }
}

/// Why a packet does not open. Nothing was changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFailure {
    /// Too short or too long.
    Length,
    /// Not sealed by the peer under a key that we have.
    Unauthentic,
}

/// Opens what we receive.
pub struct Opener {
    aead: Aead,
    header_key: Zeroizing<[u8; 32]>,
    epoch: Epoch,
    next: Epoch,
    previous: Option<(Epoch, Instant)>,
    number: u64,
}

impl Opener {
    /// An opener at its first key.
    pub fn new(aead: Aead, secret: &[u8; 32]) -> Self {
        let epoch = Epoch::new(aead, *secret);
        Self {
            aead,
            header_key: Zeroizing::new(derive(Context::SessionHeader, &[secret])),
            next: epoch.next(aead),
            epoch,
            previous: None,
            number: 0,
        }
    }

    /// Opens `packet` in place and gives its header and frames. `pto` lengthens the grace of the previous key.
    ///
    /// # Errors
    /// See [`OpenFailure`].
    pub fn open(&mut self, now: Instant, pto: Duration, mut packet: BytesMut) -> Result<(Header, Bytes), OpenFailure> {
        if packet.len() < HEADER_LEN + TAG_LEN || packet.len() > PACKET_LEN_MAX {
            return Err(OpenFailure::Length);
        }
        if self.previous.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.previous = None;
        }
        let tag_at = packet.len() - TAG_LEN;
        let (sealed, tag) = packet.split_at_mut(tag_at);
        mask(&self.header_key, &mut sealed[..HEADER_LEN], tag);
        let mut body = packet.split_off(HEADER_LEN);
        let encoded: [u8; HEADER_LEN] = packet[..].try_into().map_err(|_| OpenFailure::Length)?;
        let header = Header::decode(&encoded);
        let ahead = header.epoch.wrapping_sub(self.number.to_le_bytes()[0]);
        let epoch = match (ahead, &self.previous) {
            (0, _) => &self.epoch,
            (1, _) => &self.next,
            (u8::MAX, Some((previous, _))) => previous,
            _ => return Err(OpenFailure::Unauthentic),
        };
        let len = epoch.key.open_in_place(header.nonce(), &encoded, &mut body).map_err(|_| OpenFailure::Unauthentic)?;
        if ahead == 1 {
            self.ratchet(now + RATCHET_GRACE.max(pto * 3));
        }
        body.truncate(len);
        Ok((header, body.freeze()))
    }

    /// Moves to the next key, which the peer uses.
    fn ratchet(&mut self, previous_until: Instant) {
        let after = self.next.next(self.aead);
        let present = std::mem::replace(&mut self.next, after);
        let mut previous = std::mem::replace(&mut self.epoch, present);
        previous.secret.zeroize();
        self.previous = Some((previous, previous_until));
        self.number += 1;
    }

    /// Number of the present key.
    #[cfg(test)]
    pub const fn epoch(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Sealer, Opener) {
        let secret = [7; 32];
        let aead = Aead::ChaCha20Poly1305;
        (Sealer::new(Instant::ZERO, aead, &secret), Opener::new(aead, &secret))
    }

    fn seal(sealer: &mut Sealer, at: u64, number: u64) -> BytesMut {
        let mut packet = BytesMut::zeroed(HEADER_LEN);
        packet.extend_from_slice(b"frames");
        sealer.seal(Instant::from_micros(at), 1, number, &mut packet);
        packet
    }

    #[test]
    fn a_packet_opens_and_any_flipped_bit_stops_it() {
        let (mut sealer, mut opener) = pair();
        let packet = seal(&mut sealer, 0, 5);
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opener.open(Instant::ZERO, Duration::ZERO, bad), Err(OpenFailure::Unauthentic));
        }
        let (header, body) = opener.open(Instant::ZERO, Duration::ZERO, packet).unwrap();
        assert_eq!((header.circuit, header.number, &body[..]), (1, 5, &b"frames"[..]));
    }

    #[test]
    fn nothing_of_the_header_shows() {
        let (mut sealer, _) = pair();
        let (a, b) = (seal(&mut sealer, 0, 1), seal(&mut sealer, 0, 2));
        assert!(a[..5] != b[..5], "the same epoch and circuit look alike");
    }

    #[test]
    fn keys_ratchet_once_acknowledged_and_stragglers_open_for_a_grace() {
        let (mut sealer, mut opener) = pair();
        let late = 121_000_000;
        let straggler = seal(&mut sealer, 0, 1);
        let lost = seal(&mut sealer, 0, 2);
        assert_eq!(opener.open(Instant::ZERO, Duration::ZERO, seal(&mut sealer, late, 3)).unwrap().0.epoch, 0);
        sealer.handle_acknowledged(0);
        let new = seal(&mut sealer, late, 4);
        assert_eq!(sealer.epoch(), 1);
        assert!(opener.open(Instant::from_micros(late), Duration::ZERO, new).is_ok());
        assert_eq!(opener.epoch(), 1);
        assert!(opener.open(Instant::from_micros(late), Duration::ZERO, straggler).is_ok());
        let after = Instant::from_micros(late + 11_000_000);
        assert_eq!(opener.open(after, Duration::ZERO, lost), Err(OpenFailure::Unauthentic));
    }
}
