//! Asks the daemon about a name: one line each way over its resolve socket.
//!
//! `IDENTITY NAME` is answered by `addr V4 V6` (either may be `-`), `name` (it exists and has no
//! address here: SOCKS mode), `none` (not a name of ours), `gone` (ours, and does not exist) or `fail`.

use std::ffi::CString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::ask::{LINE_LEN_MAX, ask};
use crate::{fake, settings};

/// Time for the daemon to answer: its own limit is 4 s.
const TIME_MAX: Duration = Duration::from_secs(6);

/// Bytes of the longest name that DNS and TNS know.
const NAME_LEN_MAX: usize = 253;

/// What became of a name.
pub enum Answer {
    /// Not a name of ours: the C library's business.
    NotOurs,
    /// Ours, and does not exist.
    Gone,
    /// Ours by its form, and could not be looked up.
    Failed,
    /// Its addresses.
    Addresses(Vec<IpAddr>),
}

/// Looks a name up. Without a daemon, only names that are ours by their form are kept from the clearnet.
pub fn resolve(name: &str) -> Answer {
    let plain = name.trim_end_matches('.').to_ascii_lowercase();
    let numeric =
        plain.parse::<IpAddr>().is_ok() || plain.split('%').next().is_some_and(|host| host.parse::<IpAddr>().is_ok());
    if plain.is_empty()
        || plain.len() > NAME_LEN_MAX
        || plain == "localhost"
        || numeric
        || plain.contains(char::is_whitespace)
    {
        return Answer::NotOurs;
    }
    match answer(&plain) {
        Some(line) => understand(&line, &plain),
        None if ours_by_form(&plain) => Answer::Failed,
        None => Answer::NotOurs,
    }
}

/// Names that can never be the Internet's.
fn ours_by_form(name: &str) -> bool {
    name.ends_with(".tarnet.alt") || name.rsplit('.').next().is_some_and(|label| label.len() == 52)
}

/// One question and its answer.
fn answer(name: &str) -> Option<String> {
    let path = CString::new(settings::resolve_socket()?.as_os_str().as_bytes()).ok()?;
    let identity = settings::identity();
    let mut line = [0; LINE_LEN_MAX];
    ask(&path, &[identity.as_bytes(), b" ", name.as_bytes()], TIME_MAX, &mut line).ok().map(str::to_owned)
}

/// The daemon's line as an answer.
fn understand(line: &str, name: &str) -> Answer {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("none") => Answer::NotOurs,
        Some("gone") => Answer::Gone,
        Some("name") => fake::address_of(name).map_or(Answer::Failed, |address| Answer::Addresses(vec![address])),
        Some("addr") if settings::proxy().is_some() => {
            fake::address_of(name).map_or(Answer::Failed, |address| Answer::Addresses(vec![address]))
        }
        Some("addr") => Answer::Addresses(words.filter_map(|word| word.parse().ok()).collect()),
        _ => Answer::Failed,
    }
}
