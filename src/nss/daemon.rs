//! Questions to the daemon, and what its lines mean here.

use std::ffi::{CStr, c_char};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::ask::{LINE_LEN_MAX, Unanswered, ask};
use crate::outcome::{HOST_NOT_FOUND, NO_DATA, Outcome, TRY_AGAIN};

/// Time for an answer: programs wait for it, and the daemon gives up a second later.
pub const TIME_MAX: Duration = Duration::from_secs(3);

/// The packaged daemon's resolve socket.
const SOCKET: &CStr = c"/run/tarnet/resolve.sock";
/// That of the guard, which knows what is ours while there is no daemon.
const GUARD_SOCKET: &CStr = c"/run/tarnet-guard/resolve.sock";

/// The variable that names another one; ignored in programs that have more rights than who runs them.
const SOCKET_VARIABLE: &CStr = c"TARNET_RESOLVE_SOCKET";

/// Bytes of the longest name that DNS and TNS know.
const NAME_LEN_MAX: usize = 253;

/// Characters of a ServiceId.
const ID_LEN: usize = 52;

/// Bytes of the longest address in digits.
const DIGITS_LEN_MAX: usize = 45;

// SAFETY: the signature is the C library's.
unsafe extern "C" {
    /// `getenv(3)` for programs that may run with more rights than who starts them.
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// Addresses of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// A name without its trailing dots, if it is one that the daemon is to be asked about.
pub fn plain(name: &[u8]) -> Option<&[u8]> {
    let end = name.iter().rposition(|byte| *byte != b'.')? + 1;
    let plain = name.get(..end)?;
    let odd = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
    let asked = plain.len() <= NAME_LEN_MAX && !plain.iter().any(odd) && std::str::from_utf8(plain).is_ok();
    (asked && !plain.eq_ignore_ascii_case(b"localhost")).then_some(plain)
}

/// The daemon's socket.
fn socket() -> &'static CStr {
    // SAFETY: a C string; what comes back is null or one that lives as long as the environment is left alone, as
    // `getenv(3)` demands of every threaded program.
    let named = unsafe { secure_getenv(SOCKET_VARIABLE.as_ptr()) };
    // SAFETY: as above.
    if named.is_null() { SOCKET } else { unsafe { CStr::from_ptr(named) } }
}

/// Asks the daemon, and where there is none, or one that says nothing any more, the guard.
fn ask_either<'a>(question: &[&[u8]], line: &'a mut [u8; LINE_LEN_MAX]) -> Result<&'a str, Unanswered> {
    let path = socket();
    let len = match ask(path, question, TIME_MAX, line) {
        Ok("") | Err(Unanswered::Absent) if path == SOCKET => None,
        Ok(text) => Some(text.len()),
        Err(why) => return Err(why),
    };
    match len {
        Some(len) => std::str::from_utf8(line.get(..len).unwrap_or_default()).map_err(|_| Unanswered::Absent),
        None => ask(GUARD_SOCKET, question, TIME_MAX, line),
    }
}

/// Whether a name can be nobody's but ours: kept from other services also while there is no daemon.
fn ours_by_form(name: &[u8]) -> bool {
    let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
    last.eq_ignore_ascii_case(b"alt") || last.len() == ID_LEN
}

/// Asks for the addresses of a name.
pub fn addresses(name: &[u8], line: &mut [u8; LINE_LEN_MAX]) -> Result<Found, Outcome> {
    match ask_either(&[b"@ ", name], line) {
        Ok(line) => understand(line),
        Err(Unanswered::Absent) if !ours_by_form(name) => Err(Outcome::Absent),
        Err(Unanswered::Absent | Unanswered::Slow) => Err(Outcome::Ours(TRY_AGAIN)),
        Err(Unanswered::TooLong) => Err(Outcome::NotOurs),
    }
}

/// Asks for the name of an address.
pub fn name(address: IpAddr, line: &mut [u8; LINE_LEN_MAX]) -> Result<&str, Outcome> {
    let mut digits = Digits { text: [0; DIGITS_LEN_MAX], len: 0 };
    if std::fmt::write(&mut digits, format_args!("{address}")).is_err() {
        return Err(Outcome::NotOurs);
    }
    let digits = digits.text.get(..digits.len).unwrap_or_default();
    match ask_either(&[b"@ addr ", digits], line) {
        Ok("gone") => Err(Outcome::Ours(HOST_NOT_FOUND)),
        Ok(line) => line.strip_prefix("ptr ").ok_or(Outcome::NotOurs),
        Err(Unanswered::Slow) => Err(Outcome::Ours(TRY_AGAIN)),
        Err(Unanswered::Absent) => Err(Outcome::Absent),
        Err(Unanswered::TooLong) => Err(Outcome::NotOurs),
    }
}

/// An address in digits, without the heap.
struct Digits {
    text: [u8; DIGITS_LEN_MAX],
    len: usize,
}

impl std::fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len.checked_add(text.len()).ok_or(std::fmt::Error)?;
        self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The daemon's line about a name.
pub fn understand(line: &str) -> Result<Found, Outcome> {
    let mut words = line.split(' ');
    match words.next() {
        Some("addr") => {
            let mut word = || words.next().unwrap_or_default();
            Ok(Found { v4: word().parse().ok(), v6: word().parse().ok() })
        }
        Some("none") => Err(Outcome::NotOurs),
        Some("gone") => Err(Outcome::Ours(HOST_NOT_FOUND)),
        Some("name") => Err(Outcome::Ours(NO_DATA)),
        Some("fail") => Err(Outcome::Ours(TRY_AGAIN)),
        Some(_) | None => Err(Outcome::Absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_daemon_has_a_meaning() {
        let found = |v4: &str, v6: &str| Ok(Found { v4: v4.parse().ok(), v6: v6.parse().ok() });
        for (line, meaning) in [
            ("addr 198.18.0.9 fd00::9", found("198.18.0.9", "fd00::9")),
            ("addr 198.18.0.9 -", found("198.18.0.9", "-")),
            ("addr", found("-", "-")),
            ("none", Err(Outcome::NotOurs)),
            ("gone", Err(Outcome::Ours(HOST_NOT_FOUND))),
            ("name", Err(Outcome::Ours(NO_DATA))),
            ("fail", Err(Outcome::Ours(TRY_AGAIN))),
            ("", Err(Outcome::Absent)),
            ("\u{fffd}?", Err(Outcome::Absent)),
        ] {
            assert_eq!(understand(line), meaning, "{line:?}");
        }
    }

    #[test]
    fn only_names_that_can_be_ours_are_asked_for() {
        assert_eq!(plain(b"blog.alice.."), Some(&b"blog.alice"[..]));
        assert_eq!(plain(b"Alice"), Some(&b"Alice"[..]));
        for odd in [&b""[..], b"...", b"LocalHost.", b"a b", b"a\nb", b"\xff\xfe", &[b'a'; 254]] {
            assert_eq!(plain(odd), None, "{odd:?}");
        }
        assert!(ours_by_form(b"blog.Tarnet.ALT") && ours_by_form(&[b'a'; 52]));
        assert!(!ours_by_form(b"example.org") && !ours_by_form(b"alt.example") && !ours_by_form(b"alice"));
    }
}
