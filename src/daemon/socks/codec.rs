//! The messages of SOCKS5, from bytes and to bytes.
//!
//! | message | bytes |
//! | --- | --- |
//! | greeting | 5, n, n methods |
//! | choice | 5, method |
//! | login | 1, n, user name, m, password |
//! | login answer | 1, 0 for success |
//! | request | 5, command, 0, address, port (big-endian) |
//! | reply | 5, code, 0, address, port |
//! | address | 1 and 4 bytes, 3 and length and name, 4 and 16 bytes |
//!
//! Parsers give `Ok(None)` while bytes are missing, else the message and its length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version byte.
const VERSION: u8 = 5;
/// The version byte of a login. RFC 1929.
const LOGIN_VERSION: u8 = 1;
/// CONNECT. RFC 1928 §4.
const CONNECT: u8 = 1;
/// Address types. RFC 1928 §5.
const ATYP_V4: u8 = 1;
const ATYP_NAME: u8 = 3;
const ATYP_V6: u8 = 4;

/// How a program shows who it is. RFC 1928 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Not at all: the default identity.
    None,
    /// By user name.
    Login,
    /// We have no method in common.
    Unacceptable,
}

/// Reply codes. RFC 1928 §6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Connected.
    Succeeded,
    /// Something else failed.
    Failure,
    /// Not allowed.
    NotAllowed,
    /// No route to the node.
    NetworkUnreachable,
    /// No such name.
    HostUnreachable,
    /// Refused.
    Refused,
    /// No answer in time.
    TimedOut,
    /// A command that we do not know.
    Command,
    /// An address type that we do not know.
    AddressType,
}

/// Where a program wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// By address.
    Ip(IpAddr),
    /// By name.
    Name(String),
}

/// A CONNECT request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub address: Address,
    /// The port.
    pub port: u16,
}

/// Bytes that are not the message that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another version, or nonsense.
    #[error("not SOCKS5")]
    Message,
    /// A request that is to be answered with this code.
    #[error("an unsupported request")]
    Request(Reply),
}

/// A parsed message and the bytes that it took, or nothing yet.
pub type Parsed<T> = Result<Option<(T, usize)>, Malformed>;

/// Reads bytes from the front; `None` where they end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next `n` bytes.
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + n)?;
        self.at += n;
        Some(taken)
    }

    /// The next byte.
    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A length byte and as many bytes.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let n = self.byte()?;
        self.take(n.into())
    }
}

/// Parses the greeting to the method that we choose: a login where it is offered.
///
/// # Errors
/// Another version.
pub fn greeting(bytes: &[u8]) -> Parsed<Method> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(Malformed::Message);
    }
    let mut cursor = Cursor { bytes, at: 1 };
    let Some(methods) = cursor.counted() else { return Ok(None) };
    let method = match methods {
        methods if methods.contains(&2) => Method::Login,
        methods if methods.contains(&0) => Method::None,
        _ => Method::Unacceptable,
    };
    Ok(Some((method, cursor.at)))
}

/// Our choice of method.
#[must_use]
pub const fn choice(method: Method) -> [u8; 2] {
    let code = match method {
        Method::None => 0,
        Method::Login => 2,
        Method::Unacceptable => 0xff,
    };
    [VERSION, code]
}

/// Parses a login to its user name.
///
/// # Errors
/// Another version, or a user name that is no text.
pub fn login(bytes: &[u8]) -> Parsed<String> {
    if bytes.first().is_some_and(|version| *version != LOGIN_VERSION) {
        return Err(Malformed::Message);
    }
    let mut cursor = Cursor { bytes, at: 1 };
    let (Some(user), Some(_password)) = (cursor.counted(), cursor.counted()) else { return Ok(None) };
    let user = std::str::from_utf8(user).map_err(|_| Malformed::Message)?;
    Ok(Some((user.to_owned(), cursor.at)))
}

/// The answer to a login.
#[must_use]
pub const fn login_answer(good: bool) -> [u8; 2] {
    [LOGIN_VERSION, if good { 0 } else { 1 }]
}

/// Parses a request.
///
/// # Errors
/// Another version; or a command, address type or name that is to be refused.
pub fn request(bytes: &[u8]) -> Parsed<Request> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(Malformed::Message);
    }
    let mut cursor = Cursor { bytes, at: 1 };
    let parse = |cursor: &mut Cursor<'_>| {
        let (command, _reserved, kind) = (cursor.byte()?, cursor.byte()?, cursor.byte()?);
        let address = match kind {
            ATYP_V4 => cursor
                .take(4)
                .and_then(|octets| <[u8; 4]>::try_from(octets).ok())
                .map(|octets| Ok(Address::Ip(Ipv4Addr::from(octets).into())))?,
            ATYP_V6 => cursor
                .take(16)
                .and_then(|octets| <[u8; 16]>::try_from(octets).ok())
                .map(|octets| Ok(Address::Ip(Ipv6Addr::from(octets).into())))?,
            ATYP_NAME => name(cursor.counted()?),
            _ => return Some(Err(Malformed::Request(Reply::AddressType))),
        };
        let port = u16::from_be_bytes([cursor.byte()?, cursor.byte()?]);
        if command != CONNECT {
            return Some(Err(Malformed::Request(Reply::Command)));
        }
        Some(address.map(|address| Request { address, port }))
    };
    match parse(&mut cursor) {
        None => Ok(None),
        Some(request) => request.map(|request| Some((request, cursor.at))),
    }
}

/// A name, or an address written as one.
fn name(bytes: &[u8]) -> Result<Address, Malformed> {
    let refused = Malformed::Request(Reply::HostUnreachable);
    let text = std::str::from_utf8(bytes).map_err(|_| refused)?;
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(refused);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Ok(bare.parse().map_or_else(|_| Address::Name(text.to_owned()), Address::Ip))
}

/// A reply; the bound address says nothing.
#[must_use]
pub const fn reply(reply: Reply) -> [u8; 10] {
    let code = match reply {
        Reply::Succeeded => 0,
        Reply::Failure => 1,
        Reply::NotAllowed => 2,
        Reply::NetworkUnreachable => 3,
        Reply::HostUnreachable => 4,
        Reply::Refused => 5,
        Reply::TimedOut => 6,
        Reply::Command => 7,
        Reply::AddressType => 8,
    };
    [VERSION, code, 0, ATYP_V4, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks that every shorter text wants more and trailing bytes stay.
    fn whole<T: PartialEq + std::fmt::Debug>(parse: fn(&[u8]) -> Parsed<T>, bytes: &[u8]) -> T {
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut}");
        }
        let more = [bytes, b"more"].concat();
        let (message, len) = parse(&more).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        message
    }

    #[test]
    fn messages_parse_at_their_end_and_not_before() {
        assert_eq!(whole(greeting, &[5, 3, 0, 1, 2]), Method::Login);
        assert_eq!(whole(greeting, &[5, 1, 0]), Method::None);
        assert_eq!(whole(greeting, &[5, 1, 9]), Method::Unacceptable);
        assert_eq!(whole(greeting, &[5, 0]), Method::Unacceptable);
        assert_eq!(whole(login, b"\x01\x04work\x02pw"), "work");
        let named = whole(request, b"\x05\x01\x00\x03\x0ablog.alice\x00\x50");
        assert_eq!(named, Request { address: Address::Name("blog.alice".into()), port: 80 });
        let v4 = whole(request, &[5, 1, 0, 1, 198, 18, 0, 9, 1, 187]);
        assert_eq!(v4, Request { address: Address::Ip("198.18.0.9".parse().unwrap()), port: 443 });
        let v6 = whole(request, &[&[5, 1, 0, 4][..], &[0xfd; 16], &[0, 1]].concat());
        assert!(matches!(v6, Request { address: Address::Ip(IpAddr::V6(_)), port: 1 }));
        assert_eq!(whole(request, b"\x05\x01\x00\x03\x05[::1]\x00\x01").address, Address::Ip("::1".parse().unwrap()));
    }

    #[test]
    fn what_we_do_not_serve_is_answered_with_its_code() {
        assert_eq!(request(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]), Err(Malformed::Request(Reply::Command)));
        assert_eq!(request(&[5, 1, 0, 9]), Err(Malformed::Request(Reply::AddressType)));
        assert_eq!(request(b"\x05\x01\x00\x03\x00\x00\x01"), Err(Malformed::Request(Reply::HostUnreachable)));
        assert_eq!(request(b"\x05\x01\x00\x03\x02\xff\xfe\x00\x01"), Err(Malformed::Request(Reply::HostUnreachable)));
        for parse in [|b: &[u8]| greeting(b).map(drop), |b: &[u8]| login(b).map(drop), |b: &[u8]| request(b).map(drop)]
        {
            assert_eq!(parse(b"GET / HTTP/1.1"), Err(Malformed::Message));
        }
        assert_eq!(reply(Reply::Refused), [5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_an_error_or_too_few(mut bytes: Vec<u8>, version in 0u8..7) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            for len in [greeting(&bytes).map(|m| m.map(|m| m.1)), login(&bytes).map(|m| m.map(|m| m.1)), request(&bytes).map(|m| m.map(|m| m.1))] {
                if let Ok(Some(len)) = len {
                    prop_assert!(len <= bytes.len());
                }
            }
        }
    }
}
