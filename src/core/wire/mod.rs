//! Encoding and decoding of every message; nothing else parses bytes from a peer. One
//! file per protocol. Decoders are total: any byte string gives a value or an [`Error`],
//! and encoding a decoded value gives the same bytes again. Integers are little-endian.

pub mod block;
pub mod dht;
pub mod kind;
pub mod link;
pub mod names;
pub mod path;
pub mod routing;
pub mod session_handshake;
pub mod session_packet;
pub mod way;

use bytes::BufMut;

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They end too early.
    #[error("message is cut short")]
    Truncated,
    /// Something follows the end.
    #[error("message has trailing bytes")]
    Trailing,
    /// A field has a value that it may not have.
    #[error("message has an invalid field: {0}")]
    Invalid(&'static str),
}

/// A cursor over received bytes. Every read checks what is left.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.left.split_at_checked(n).ok_or(Error::Truncated)?;
        self.left = rest;
        Ok(head)
    }

    /// The next `N` bytes by value.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.left.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.left = rest;
        Ok(*head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Error::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next 2 bytes as a number.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer are left.
    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next 4 bytes as a number.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer are left.
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 8 bytes as a number.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer are left.
    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next LEB128 number, at most 10 bytes, in its shortest form only (so that a value has one encoding).
    ///
    /// # Errors
    /// Cut short, longer than 64 bits, or not in its shortest form.
    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Error::Invalid("varint over 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(Error::Invalid("varint not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(Error::Invalid("varint over 64 bits"))
    }

    /// Bytes behind a 2-byte length.
    ///
    /// # Errors
    /// [`Error::Truncated`] when fewer are left than the length says.
    pub fn vec16(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Bytes left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Error::Trailing`] when something is.
    pub fn finish(&self) -> Result<(), Error> {
        if self.left.is_empty() { Ok(()) } else { Err(Error::Trailing) }
    }
}

/// Appends a LEB128 number in its shortest form.
pub fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

/// Bytes that [`put_varint`] appends for `value`.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `bytes` behind a 2-byte length.
///
/// # Panics
/// When there are more than 65,535: our own encoders hold shorter fields only.
pub fn put_vec16(out: &mut impl BufMut, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("a field of at most 65,535 bytes");
    out.put_u16_le(len);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_round_trip_in_their_stated_length(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_give_a_varint_or_an_error_and_a_varint_has_one_encoding(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn reads_past_the_end_are_errors() {
        assert_eq!(Reader::new(&[1]).u16(), Err(Error::Truncated));
        assert_eq!(Reader::new(&[5, 0, 1]).vec16(), Err(Error::Truncated));
        assert_eq!(Reader::new(&[1]).finish(), Err(Error::Trailing));
        assert_eq!(Reader::new(&[0x80; 11]).varint(), Err(Error::Invalid("varint over 64 bits")));
    }
}
