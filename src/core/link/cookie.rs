//! Stateless cookies: above half of the half-open budget, whoever sends a first message must send it
//! again with a cookie that only its own address gets, before we do any public-key work for it. A cookie
//! is a MAC over source and message under a key that changes every minute; the key before is still taken.

use std::time::Duration;

use zeroize::Zeroizing;

use super::gate::Source;
use crate::crypto::{Context, derive, same_secret};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::link::COOKIE_LEN;

/// How long cookies are made with one key; they are taken for as long again.
const KEY_TIME: Duration = Duration::from_secs(60);

/// The keys of cookies, once one was needed.
#[derive(Default)]
pub(super) struct Cookies {
    /// When the newer key was drawn, the newer and the older.
    keys: Option<(Instant, [Zeroizing<[u8; 32]>; 2])>,
}

impl Cookies {
    /// The cookie for a first message from `source`.
    pub(super) fn make(&mut self, now: Instant, source: Source, first: &[u8], rng: &mut Rng) -> [u8; COOKIE_LEN] {
        let [newer, _] = self.keys(now, rng);
        cookie(newer, source, first)
    }

    /// Whether it is our recent cookie for a first message from `source`.
    pub(super) fn check(
        &mut self,
        now: Instant,
        source: Source,
        first: &[u8],
        got: &[u8; COOKIE_LEN],
        rng: &mut Rng,
    ) -> bool {
        self.keys(now, rng).iter().any(|key| same_secret(&cookie(key, source, first), got))
    }

    /// The keys of the moment.
    fn keys(&mut self, now: Instant, rng: &mut Rng) -> &[Zeroizing<[u8; 32]>; 2] {
        let fresh = |rng: &mut Rng| (now, [rng.secret_array(), rng.secret_array()]);
        let (since, keys) = self.keys.get_or_insert_with(|| fresh(rng));
        if now - *since >= 2 * KEY_TIME {
            (*since, *keys) = fresh(rng);
        } else if now - *since >= KEY_TIME {
            keys.swap(0, 1);
            (*since, keys[0]) = (now, rng.secret_array());
        }
        keys
    }
}

/// The cookie of a source and message under a key.
fn cookie(key: &Zeroizing<[u8; 32]>, source: Source, first: &[u8]) -> [u8; COOKIE_LEN] {
    let mac = derive(Context::LinkCookie, &[key.as_slice(), &source.to_bytes(), first]);
    let mut out = [0; COOKIE_LEN];
    out.copy_from_slice(&mac[..COOKIE_LEN]);
    out
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_source_and_message_and_for_a_while() {
        let (mut cookies, mut rng) = (Cookies::default(), Rng::from_seed([3; 32]));
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        let (us, start) = (source("192.0.2.1"), Instant::from_micros(1_000_000_000));
        let cookie = cookies.make(start, us, b"first", &mut rng);
        let mut good = |at, source, first: &[u8]| cookies.check(at, source, first, &cookie, &mut rng);
        assert!(good(start, us, b"first") && good(start + KEY_TIME / 2, us, b"first"));
        assert!(!good(start, source("192.0.2.2"), b"first") && !good(start, us, b"other"));
        assert!(good(start + KEY_TIME, us, b"first"), "the key before is still taken");
        assert!(!good(start + 2 * KEY_TIME, us, b"first"));
        let cookie = cookies.make(start + 10 * KEY_TIME, us, b"first", &mut rng);
        assert!(!cookies.check(start + 12 * KEY_TIME, us, b"first", &cookie, &mut rng));
    }
}
