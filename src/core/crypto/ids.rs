//! Ids of machines, identities and DHT records, and their printed forms.
//!
//! A [`PeerId`] prints as 64 hex digits, a [`ServiceId`] as 52 characters of Crockford
//! base32 (decoded leniently: case, O for 0, I and L for 1), a [`DhtKey`] as 128 hex digits.

use std::fmt;
use std::str::FromStr;

use super::kdf::{Context, derive};

/// Crockford's base32 digits.
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of a printed [`ServiceId`].
const SERVICE_ID_LEN: usize = 52;

/// Text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It has another length.
    #[error("has the wrong length")]
    Length,
    /// It holds a character that ids do not use.
    #[error("holds a character that ids do not use")]
    Character,
}

/// A machine: the hash of its node key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

/// An identity: the hash of its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub [u8; 32]);

/// A place in the DHT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DhtKey(pub [u8; 64]);

/// Writes bytes as hex digits.
fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Parses exactly `N` bytes of hex digits.
fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    if text.len() != 2 * N {
        return Err(IdError::Length);
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(pair).map_err(|_| IdError::Character)?;
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return Err(IdError::Character);
        }
        *byte = u8::from_str_radix(digits, 16).map_err(|_| IdError::Character)?;
    }
    Ok(out)
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PeerId {
    /// The first 8 bytes: enough to tell peers apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerId(")?;
        write_hex(&self.0[..8], f)?;
        f.write_str(")")
    }
}

impl FromStr for PeerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for DhtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for DhtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DhtKey(")?;
        write_hex(&self.0[..8], f)?;
        f.write_str(")")
    }
}

impl FromStr for DhtKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 256 bits in 52 digits of 5: the first digit holds the topmost bit alone.
        let mut acc = 0u32;
        let mut bits = 4;
        let mut text = String::with_capacity(SERVICE_ID_LEN);
        for byte in self.0 {
            acc = acc << 8 | u32::from(byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                text.push(char::from(BASE32[(acc >> bits & 31) as usize]));
            }
            acc &= (1 << bits) - 1;
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for ServiceId {
    /// The first characters: enough to tell identities apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "ServiceId({})", &text[..16])
    }
}

/// The value of a lenient Crockford digit.
fn base32_value(digit: u8) -> Result<u32, IdError> {
    let digit = match digit.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    let at = BASE32.iter().position(|known| *known == digit).ok_or(IdError::Character)?;
    u32::try_from(at).map_err(|_| IdError::Character)
}

impl FromStr for ServiceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != SERVICE_ID_LEN {
            return Err(IdError::Length);
        }
        let mut out = Vec::with_capacity(33);
        let (mut acc, mut bits) = (0u32, 0u32);
        for digit in text.bytes() {
            acc = acc << 5 | base32_value(digit)?;
            bits += 5;
            // 260 bits come in; the topmost 4 are padding and must be zero.
            if out.is_empty() && bits == 5 {
                if acc > 1 {
                    return Err(IdError::Character);
                }
                bits = 1;
            }
            if bits >= 8 {
                bits -= 8;
                out.push((acc >> bits).to_le_bytes()[0]);
                acc &= (1 << bits) - 1;
            }
        }
        out.try_into().map(Self).map_err(|_| IdError::Length)
    }
}

/// How a path names its destination: a hop that knows the peer recognises it, another learns nothing.
/// `id` is fresh for every path.
#[must_use]
pub fn path_tag(id: &[u8; 16], peer: &PeerId) -> [u8; 16] {
    let mut tag = [0; 16];
    tag.copy_from_slice(&derive(Context::PathTag, &[id, &peer.0])[..16]);
    tag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn printed_ids_parse_to_themselves(bytes: [u8; 32]) {
            prop_assert_eq!(PeerId(bytes).to_string().parse(), Ok(PeerId(bytes)));
            let text = ServiceId(bytes).to_string();
            prop_assert_eq!(text.len(), 52);
            prop_assert_eq!(text.parse(), Ok(ServiceId(bytes)));
            prop_assert_eq!(text.to_lowercase().replace('0', "o").replace('1', "l").parse(), Ok(ServiceId(bytes)));
        }

        #[test]
        fn any_text_gives_an_id_or_an_error(text: String) {
            let _ = text.parse::<PeerId>();
            let _ = text.parse::<ServiceId>();
            let _ = text.parse::<DhtKey>();
        }
    }

    #[test]
    fn texts_of_other_lengths_or_digits_are_errors() {
        assert_eq!("00".parse::<PeerId>(), Err(IdError::Length));
        assert_eq!("+f".repeat(32).parse::<PeerId>(), Err(IdError::Character));
        assert_eq!("U".repeat(52).parse::<ServiceId>(), Err(IdError::Character));
        assert_eq!("Z".repeat(52).parse::<ServiceId>(), Err(IdError::Character));
    }
}
