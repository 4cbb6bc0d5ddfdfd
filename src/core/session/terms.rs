//! Words that sessions share with whoever opens or answers channels.

use std::fmt;
use std::str::FromStr;

/// How a channel delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Reliable and ordered; also serves as a byte stream.
    ReliableOrdered,
    /// Reliable messages in any order.
    ReliableUnordered,
    /// Unreliable messages; late ones are dropped.
    UnreliableOrdered,
    /// Unreliable messages in any order: datagrams.
    UnreliableUnordered,
}

impl Mode {
    /// The two letters that the command line uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReliableOrdered => "ro",
            Self::ReliableUnordered => "ru",
            Self::UnreliableOrdered => "uo",
            Self::UnreliableUnordered => "uu",
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ReliableOrdered => 0,
            Self::ReliableUnordered => 1,
            Self::UnreliableOrdered => 2,
            Self::UnreliableUnordered => 3,
        }
    }

    /// The mode of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::ReliableOrdered),
            1 => Some(Self::ReliableUnordered),
            2 => Some(Self::UnreliableOrdered),
            3 => Some(Self::UnreliableUnordered),
            _ => None,
        }
    }

    /// Whether lost messages are sent again.
    #[must_use]
    pub const fn reliable(self) -> bool {
        matches!(self, Self::ReliableOrdered | Self::ReliableUnordered)
    }

    /// Whether messages are delivered in the order they were sent.
    #[must_use]
    pub const fn ordered(self) -> bool {
        matches!(self, Self::ReliableOrdered | Self::UnreliableOrdered)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        [Self::ReliableOrdered, Self::ReliableUnordered, Self::UnreliableOrdered, Self::UnreliableUnordered]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or(ModeError)
    }
}

/// Text that is not a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mode is one of ro, ru, uo, uu")]
pub struct ModeError;

/// A tarnet port: a string of 1 to 64 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(Box<str>);

/// Text that is not a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a port is 1 to 64 bytes of text without control characters")]
pub struct PortError;

impl Port {
    /// Bytes of the longest port.
    pub const LEN_MAX: usize = 64;

    /// Parses a port.
    ///
    /// # Errors
    /// Empty, longer than 64 bytes, or holding a control character.
    pub fn new(text: &str) -> Result<Self, PortError> {
        if text.is_empty() || text.len() > Self::LEN_MAX || text.chars().any(char::is_control) {
            return Err(PortError);
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u16> for Port {
    /// The port of a TCP or UDP port number.
    fn from(number: u16) -> Self {
        Self(number.to_string().into())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the far side does not open a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Nobody listens on that port.
    #[error("nobody listens on that port")]
    NoListener,
    /// The listener has another delivery mode.
    #[error("the two sides' delivery modes differ")]
    ModeMismatch,
    /// The caller is not on the service's list.
    #[error("not allowed by the service")]
    NotAllowed,
    /// The service behind the listener refused.
    #[error("the service refused the connection")]
    LocalRefused,
    /// The service behind the listener could not be reached.
    #[error("the service is not reachable on its host")]
    LocalUnreachable,
    /// A bound was reached.
    #[error("too many connections")]
    TooMany,
}

impl Refusal {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::NoListener => 1,
            Self::ModeMismatch => 2,
            Self::NotAllowed => 3,
            Self::LocalRefused => 4,
            Self::LocalUnreachable => 5,
            Self::TooMany => 6,
        }
    }

    /// The refusal of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::NoListener),
            2 => Some(Self::ModeMismatch),
            3 => Some(Self::NotAllowed),
            4 => Some(Self::LocalRefused),
            5 => Some(Self::LocalUnreachable),
            6 => Some(Self::TooMany),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_round_trip() {
        for code in 0..=u8::MAX {
            assert!(Mode::from_code(code).is_none_or(|mode| mode.code() == code && mode.as_str().parse() == Ok(mode)));
            assert!(Refusal::from_code(code).is_none_or(|refusal| refusal.code() == code));
        }
        assert!("xx".parse::<Mode>().is_err());
    }

    #[test]
    fn ports_are_bounded_text() {
        assert_eq!(Port::from(80).as_str(), "80");
        assert!(Port::new("chat").is_ok() && Port::new("").is_err() && Port::new("a\n").is_err());
        assert!(Port::new(&"x".repeat(64)).is_ok() && Port::new(&"x".repeat(65)).is_err());
    }
}
