//! Hybrid key agreement: group 1 is X25519 (RFC 7748), group 2 X25519 and ML-KEM-768
//! (FIPS 203) together, secure while either holds. The initiator sends its share, the
//! responder answers; both get the concatenated secrets, which go into a key schedule
//! with the whole transcript.

use libcrux_ml_kem::mlkem768;
use x25519_dalek::{PublicKey as X25519Public, StaticSecret};
use zeroize::Zeroizing;

use crate::rng::Rng;

/// Bytes of an X25519 key.
const X25519_LEN: usize = 32;
/// Bytes of an ML-KEM-768 encapsulation key.
const KEM_KEY_LEN: usize = 1184;
/// Bytes of an ML-KEM-768 ciphertext.
const KEM_CIPHERTEXT_LEN: usize = 1088;
/// Bytes of the seed an ML-KEM key pair is made from.
const KEM_SEED_LEN: usize = 64;

/// Which key agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// X25519 alone.
    X25519,
    /// X25519 and ML-KEM-768.
    X25519MlKem768,
}

impl Group {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::X25519 => 1,
            Self::X25519MlKem768 => 2,
        }
    }

    /// The group of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::X25519),
            2 => Some(Self::X25519MlKem768),
            _ => None,
        }
    }

    /// Bytes of the initiator's share.
    #[must_use]
    pub const fn share_len(self) -> usize {
        match self {
            Self::X25519 => X25519_LEN,
            Self::X25519MlKem768 => X25519_LEN + KEM_KEY_LEN,
        }
    }

    /// Bytes of the responder's answer.
    #[must_use]
    pub const fn answer_len(self) -> usize {
        match self {
            Self::X25519 => X25519_LEN,
            Self::X25519MlKem768 => X25519_LEN + KEM_CIPHERTEXT_LEN,
        }
    }
}

/// A share or answer that must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// It has another length than its group's.
    #[error("key share has the wrong length")]
    Length,
    /// A low-order X25519 point: the secret would not depend on us.
    #[error("key share is a low-order point")]
    LowOrder,
    /// An ML-KEM key that fails FIPS 203's modulus check.
    #[error("key share is not an ML-KEM key")]
    BadKemKey,
}

/// What both sides agreed on: 32 bytes per component, ML-KEM first. Input for a key schedule.
pub struct SharedSecret(Zeroizing<Vec<u8>>);

impl SharedSecret {
    /// The secret's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The secret half of a share. Ephemeral, or a session key that lives some days.
pub struct AgreementSecret {
    x25519: StaticSecret,
    kem: Option<Kem>,
}

/// An ML-KEM key pair and the seed that it came from.
struct Kem {
    seed: Zeroizing<[u8; KEM_SEED_LEN]>,
    pair: Box<mlkem768::MlKem768KeyPair>,
}

impl Kem {
    /// The pair of a seed.
    fn from_seed(seed: Zeroizing<[u8; KEM_SEED_LEN]>) -> Self {
        let pair = Box::new(mlkem768::generate_key_pair(*seed));
        Self { seed, pair }
    }
}

impl AgreementSecret {
    /// Draws a fresh secret.
    pub fn generate(group: Group, rng: &mut Rng) -> Self {
        let x25519 = StaticSecret::from(*rng.secret_array::<X25519_LEN>());
        let kem = (group == Group::X25519MlKem768).then(|| Kem::from_seed(rng.secret_array()));
        Self { x25519, kem }
    }

    /// The group it belongs to.
    #[must_use]
    pub fn group(&self) -> Group {
        if self.kem.is_some() { Group::X25519MlKem768 } else { Group::X25519 }
    }

    /// What the other side needs: the X25519 point, then the ML-KEM key.
    #[must_use]
    pub fn public_share(&self) -> Vec<u8> {
        let mut share = X25519Public::from(&self.x25519).to_bytes().to_vec();
        if let Some(kem) = &self.kem {
            share.extend_from_slice(kem.pair.pk());
        }
        share
    }

    /// The bytes to keep a session key over a restart: 32, or 96 for the hybrid group.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(self.x25519.to_bytes().to_vec());
        if let Some(kem) = &self.kem {
            out.extend_from_slice(kem.seed.as_slice());
        }
        out
    }

    /// The secret of [`Self::to_secret_bytes`]; `None` for another length.
    #[must_use]
    pub fn from_secret_bytes(bytes: &[u8]) -> Option<Self> {
        let (x25519, rest) = bytes.split_first_chunk::<X25519_LEN>()?;
        let kem = match rest.len() {
            0 => None,
            KEM_SEED_LEN => Some(Kem::from_seed(Zeroizing::new(rest.try_into().ok()?))),
            _ => return None,
        };
        Some(Self { x25519: StaticSecret::from(*x25519), kem })
    }

    /// The secret that an answer agrees on. A wrong ML-KEM ciphertext gives another secret, not an error
    /// (implicit rejection): the key schedule then fails to authenticate.
    ///
    /// # Errors
    /// See [`AgreementError`].
    pub fn finish(&self, answer: &[u8]) -> Result<SharedSecret, AgreementError> {
        let (x25519, ciphertext) = answer.split_first_chunk::<X25519_LEN>().ok_or(AgreementError::Length)?;
        let mut secret = Zeroizing::new(Vec::with_capacity(2 * X25519_LEN));
        if let Some(kem) = &self.kem {
            let ciphertext = mlkem768::MlKem768Ciphertext::try_from(ciphertext).map_err(|_| AgreementError::Length)?;
            secret.extend_from_slice(&*Zeroizing::new(mlkem768::decapsulate(kem.pair.private_key(), &ciphertext)));
        } else if !ciphertext.is_empty() {
            return Err(AgreementError::Length);
        }
        diffie_hellman(&self.x25519, *x25519, &mut secret)?;
        Ok(SharedSecret(secret))
    }
}

/// Appends the X25519 secret.
fn diffie_hellman(secret: &StaticSecret, public: [u8; 32], out: &mut Vec<u8>) -> Result<(), AgreementError> {
    let shared = secret.diffie_hellman(&X25519Public::from(public));
    if !shared.was_contributory() {
        return Err(AgreementError::LowOrder);
    }
    out.extend_from_slice(shared.as_bytes());
    Ok(())
}

/// Answers a share: the answer to send, and the secret. The group is told by the caller, which negotiated it.
///
/// # Errors
/// See [`AgreementError`].
pub fn agree_respond(group: Group, share: &[u8], rng: &mut Rng) -> Result<(Vec<u8>, SharedSecret), AgreementError> {
    if share.len() != group.share_len() {
        return Err(AgreementError::Length);
    }
    let (x25519, kem_key) = share.split_first_chunk::<X25519_LEN>().ok_or(AgreementError::Length)?;
    let ephemeral = StaticSecret::from(*rng.secret_array::<X25519_LEN>());
    let mut answer = X25519Public::from(&ephemeral).to_bytes().to_vec();
    let mut secret = Zeroizing::new(Vec::with_capacity(2 * X25519_LEN));
    if group == Group::X25519MlKem768 {
        let key = mlkem768::MlKem768PublicKey::try_from(kem_key).map_err(|_| AgreementError::Length)?;
        if !mlkem768::validate_public_key(&key) {
            return Err(AgreementError::BadKemKey);
        }
        let (ciphertext, shared) = mlkem768::encapsulate(&key, *rng.secret_array());
        answer.extend_from_slice(ciphertext.as_slice());
        secret.extend_from_slice(&*Zeroizing::new(shared));
    }
    diffie_hellman(&ephemeral, *x25519, &mut secret)?;
    Ok((answer, SharedSecret(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_in_both_groups_also_after_a_restart() {
        let mut rng = Rng::from_seed([5; 32]);
        for group in [Group::X25519, Group::X25519MlKem768] {
            let secret = AgreementSecret::generate(group, &mut rng);
            let share = secret.public_share();
            assert_eq!(share.len(), group.share_len());
            let (answer, theirs) = agree_respond(group, &share, &mut rng).unwrap();
            assert_eq!(answer.len(), group.answer_len());
            let again = AgreementSecret::from_secret_bytes(&secret.to_secret_bytes()).unwrap();
            assert_eq!(again.group(), group);
            assert_eq!(again.finish(&answer).unwrap().as_bytes(), theirs.as_bytes());
            let mut altered = answer.clone();
            altered[40 % answer.len()] ^= 1;
            assert_ne!(secret.finish(&altered).map(|s| s.as_bytes().to_vec()), Ok(theirs.as_bytes().to_vec()));
        }
    }

    #[test]
    fn bad_shares_are_refused() {
        let mut rng = Rng::from_seed([6; 32]);
        let error = |group, share: &[u8], rng: &mut Rng| agree_respond(group, share, rng).map(|_| ()).unwrap_err();
        assert_eq!(error(Group::X25519, &[0; 32], &mut rng), AgreementError::LowOrder);
        assert_eq!(error(Group::X25519, &[1; 31], &mut rng), AgreementError::Length);
        assert_eq!(error(Group::X25519MlKem768, &[9; 32], &mut rng), AgreementError::Length);
        let mut share = AgreementSecret::generate(Group::X25519MlKem768, &mut rng).public_share();
        share[32..].fill(0xff);
        assert_eq!(error(Group::X25519MlKem768, &share, &mut rng), AgreementError::BadKemKey);
        assert!(AgreementSecret::from_secret_bytes(&[0; 40]).is_none());
    }
}
