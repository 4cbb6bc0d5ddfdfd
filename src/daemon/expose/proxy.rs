//! The PROXY protocol header, version 2, that tells the local service who calls.
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 12 | signature |
//! | 1 | `0x21`: version 2, PROXY |
//! | 1 | `0x00`: no address family; the caller has none |
//! | 2 | length of what follows, big-endian |
//! | 1 + 2 + 52 | TLV [`TLV_SERVICE_ID`]: the caller's ServiceId as it prints; absent for an anonymous caller |
//!
//! Source: haproxy `doc/proxy-protocol.txt` §2.2.

use tarnet_core::crypto::ServiceId;

/// How every header begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;
/// Family and transport not given.
const UNSPEC: u8 = 0;
/// The TLV type of the ServiceId: the first of the range for applications (0xE0 to 0xEF).
pub const TLV_SERVICE_ID: u8 = 0xe0;

/// The header for a caller.
#[must_use]
pub fn header(caller: Option<&ServiceId>) -> Vec<u8> {
    let mut tlvs = Vec::new();
    if let Some(caller) = caller {
        let text = caller.to_string();
        tlvs.push(TLV_SERVICE_ID);
        tlvs.extend(be16(text.len()));
        tlvs.extend_from_slice(text.as_bytes());
    }
    let mut out = SIGNATURE.to_vec();
    out.extend([VERSION_COMMAND, UNSPEC]);
    out.extend(be16(tlvs.len()));
    out.extend(tlvs);
    out
}

/// A length as two bytes.
fn be16(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("a header of a few dozen bytes").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_published_form() {
        let start = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x00];
        assert_eq!(header(None), [&start[..], &[0, 0]].concat());
        let id = ServiceId([7; 32]);
        let tlv = [&[0, 55, 0xe0, 0, 52][..], id.to_string().as_bytes()].concat();
        assert_eq!(header(Some(&id)), [&start[..], &tlv].concat());
    }
}
