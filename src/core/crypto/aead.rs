//! Authenticated encryption: ChaCha20-Poly1305 always, AEGIS-256X2 or AES-256-GCM where both
//! ends have AES in hardware (several times faster), XChaCha20-Poly1305 for stored records.

use aegis::aegis256x2::Aegis256X2;
use chacha20poly1305::aead::{Aead as _, AeadInOut, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// Which AEAD a link or session uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aead {
    /// ChaCha20-Poly1305, RFC 8439.
    ChaCha20Poly1305,
    /// AES-256-GCM, NIST SP 800-38D.
    Aes256Gcm,
    /// AEGIS-256X2 with tags of 128 bits, RFC 10032: more than twice as fast as AES-256-GCM.
    Aegis256X2,
}

impl Aead {
    /// What a machine offers, the best first; `aes`: [`Aead::hardware_aes`].
    #[must_use]
    pub const fn offered(aes: bool) -> &'static [Self] {
        if aes { &[Self::Aegis256X2, Self::Aes256Gcm, Self::ChaCha20Poly1305] } else { &[Self::ChaCha20Poly1305] }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
            Self::Aegis256X2 => 3,
        }
    }

    /// The AEAD of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            3 => Some(Self::Aegis256X2),
            _ => None,
        }
    }

    /// Whether this machine has AES and carry-less multiplication in hardware. Only then is what builds on
    /// AES offered: software AES is slow, or not constant in time.
    #[must_use]
    pub fn hardware_aes() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
        }
        #[cfg(target_arch = "aarch64")]
        {
            std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            false
        }
    }
}

/// A sealed message that is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not authentic")]
pub struct OpenError;

/// A key ready for use. Neither printed nor cloned.
pub struct AeadKey(Keyed);

/// The key of one of the AEADs, expanded where it has an expanded form.
enum Keyed {
    /// ChaCha20-Poly1305.
    ChaCha(Box<ChaCha20Poly1305>),
    /// AES-256-GCM.
    Aes(Box<LessSafeKey>),
    /// AEGIS-256X2.
    Aegis(Box<Zeroizing<[u8; 32]>>),
}

/// AEGIS under one nonce: the first twelve bytes of its 32, the others zero.
fn aegis(key: &[u8; 32], nonce: [u8; 12]) -> Aegis256X2<TAG_LEN> {
    let mut wide = [0; 32];
    wide[..12].copy_from_slice(&nonce);
    Aegis256X2::new(key, &wide)
}

impl AeadKey {
    /// Prepares a 32-byte key.
    ///
    /// # Panics
    /// Never: all AEADs take keys of 32 bytes.
    #[must_use]
    pub fn new(aead: Aead, key: &[u8; 32]) -> Self {
        Self(match aead {
            Aead::ChaCha20Poly1305 => Keyed::ChaCha(Box::new(ChaCha20Poly1305::new(key.into()))),
            Aead::Aes256Gcm => {
                let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes");
                Keyed::Aes(Box::new(LessSafeKey::new(key)))
            }
            Aead::Aegis256X2 => Keyed::Aegis(Box::new(Zeroizing::new(*key))),
        })
    }

    /// Encrypts `buf` in place and returns the tag. A nonce must never repeat under one key.
    ///
    /// # Panics
    /// Never below 64 GiB per message, which no buffer of ours reaches.
    pub fn seal_in_place(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        match &self.0 {
            Keyed::ChaCha(key) => {
                let tag = key.encrypt_inout_detached(&nonce.into(), aad, buf.into()).expect("a message below 64 GiB");
                tag.into()
            }
            Keyed::Aes(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), buf).expect("a message below 64 GiB");
                let mut out = [0; TAG_LEN];
                out.copy_from_slice(tag.as_ref());
                out
            }
            Keyed::Aegis(key) => aegis(key, nonce).encrypt_in_place(buf, aad),
        }
    }

    /// Opens ciphertext followed by its tag in place; returns the length of the plaintext at the front.
    ///
    /// # Errors
    /// Not authentic, or shorter than a tag. The buffer's content is then meaningless.
    pub fn open_in_place(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> Result<usize, OpenError> {
        let len = buf.len().checked_sub(TAG_LEN).ok_or(OpenError)?;
        match &self.0 {
            Keyed::ChaCha(key) => {
                let (body, tag) = buf.split_at_mut(len);
                let tag = <[u8; TAG_LEN]>::try_from(&*tag).map_err(|_| OpenError)?;
                key.decrypt_inout_detached(&nonce.into(), aad, body.into(), &tag.into()).map_err(|_| OpenError)?;
            }
            Keyed::Aes(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(aad), buf).map_err(|_| OpenError)?;
            }
            Keyed::Aegis(key) => {
                let (body, tag) = buf.split_at_mut(len);
                let tag = <[u8; TAG_LEN]>::try_from(&*tag).map_err(|_| OpenError)?;
                aegis(key, nonce).decrypt_in_place(body, &tag, aad).map_err(|_| OpenError)?;
            }
        }
        Ok(len)
    }
}

/// Seals a stored record with XChaCha20-Poly1305; the tag follows the ciphertext.
///
/// # Panics
/// Never: records are at most 16 KiB.
#[must_use]
pub fn record_seal(key: &[u8; 32], nonce: [u8; 24], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.encrypt(&nonce.into(), Payload { msg: plaintext, aad }).expect("a record far below 64 GiB")
}

/// Opens what [`record_seal`] made; `None` when it is not authentic.
#[must_use]
pub fn record_open(key: &[u8; 32], nonce: [u8; 24], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt(&nonce.into(), Payload { msg: sealed, aad }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_messages_open_and_altered_ones_do_not() {
        for aead in Aead::offered(true).iter().copied() {
            assert_eq!(Aead::from_code(aead.code()), Some(aead));
            let key = AeadKey::new(aead, &[7; 32]);
            let mut buf = b"hello world".to_vec();
            let tag = key.seal_in_place([1; 12], b"aad", &mut buf);
            buf.extend_from_slice(&tag);
            for at in 0..buf.len() {
                let mut bad = buf.clone();
                bad[at] ^= 1;
                assert_eq!(key.open_in_place([1; 12], b"aad", &mut bad), Err(OpenError));
            }
            assert!(key.open_in_place([2; 12], b"aad", &mut buf.clone()).is_err());
            assert!(key.open_in_place([1; 12], b"other", &mut buf.clone()).is_err());
            assert!(key.open_in_place([1; 12], b"aad", &mut [0; 15]).is_err());
            assert_eq!(key.open_in_place([1; 12], b"aad", &mut buf), Ok(11));
            assert_eq!(&buf[..11], b"hello world");
        }
    }

    /// RFC 8439 §2.8.2: the first bytes of the ciphertext and the tag.
    #[test]
    fn chacha_known_answer() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.".to_vec();
        let tag = AeadKey::new(Aead::ChaCha20Poly1305, &key).seal_in_place(nonce, &aad, &mut text);
        assert_eq!(text[..8], [0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb]);
        assert_eq!(tag[..8], [0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a]);
    }

    /// GCM specification, test case 14: AES-256, zero key and nonce, one zero block.
    #[test]
    fn aes_gcm_known_answer() {
        let mut text = [0; 16];
        let tag = AeadKey::new(Aead::Aes256Gcm, &[0; 32]).seal_in_place([0; 12], b"", &mut text);
        assert_eq!(text[..8], [0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e]);
        assert_eq!(tag[..8], [0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0]);
    }

    /// RFC 10032, AEGIS-256X2, test vectors 1 and 2; and that our nonces are the first bytes of its.
    #[test]
    fn aegis_known_answer() {
        let key: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let nonce: [u8; 32] = std::array::from_fn(|i| 0x10 + u8::try_from(i).unwrap());
        let tag = Aegis256X2::<TAG_LEN>::new(&key, &nonce).encrypt_in_place(&mut [], b"");
        assert_eq!(tag[..8], [0x62, 0xcd, 0xba, 0xb0, 0x84, 0xc8, 0x3d, 0xac]);
        let mut text: Vec<u8> = std::iter::repeat_n([4, 5, 6, 7], 30).flatten().collect();
        let _ = Aegis256X2::<TAG_LEN>::new(&key, &nonce).encrypt_in_place(&mut text, &[1, 2, 3, 4, 1, 2, 3, 4]);
        assert_eq!(text[..8], [0x72, 0x12, 0x0c, 0x2e, 0xa8, 0x23, 0x61, 0x80]);

        let mut wide = [0; 32];
        wide[..12].copy_from_slice(&[9; 12]);
        let (mut ours, mut theirs) = ([3; 40], [3; 40]);
        let tag = AeadKey::new(Aead::Aegis256X2, &key).seal_in_place([9; 12], b"aad", &mut ours);
        assert_eq!(tag, Aegis256X2::<TAG_LEN>::new(&key, &wide).encrypt_in_place(&mut theirs, b"aad"));
        assert_eq!(ours, theirs);
    }

    #[test]
    fn records_open_only_under_their_key_nonce_and_context() {
        let sealed = record_seal(&[1; 32], [2; 24], b"k", b"value");
        assert_eq!(record_open(&[1; 32], [2; 24], b"k", &sealed).as_deref(), Some(&b"value"[..]));
        assert!(record_open(&[1; 32], [2; 24], b"x", &sealed).is_none());
        assert!(record_open(&[9; 32], [2; 24], b"k", &sealed).is_none());
    }
}
