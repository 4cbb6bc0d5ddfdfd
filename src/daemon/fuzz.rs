//! Random bytes, truncations and bit flips to everything of the shell that reads what others
//! wrote: text and rows. Packets are `tun::packet`'s tests' affair, questions `dns::responder`'s.

#[path = "../core/fuzz/engine.rs"]
pub(crate) mod engine;

use std::path::Path;

use self::engine::Fuzz;
use crate::config::{PeerUri, Settings, raw, units};
use crate::control::parse_target;
use crate::expose::file::Service;
use crate::records::{parse_block, parse_epoch, parse_zone_label};
use crate::socks::codec::{greeting, login, request};
use crate::store::records::KnownPeer;

/// The fuzz tests of the daemon, which share the time.
pub(crate) const TARGETS: u32 = 5;

/// What a well-meaning client of the proxy says, message by message.
const SOCKS: &[&[u8]] = &[
    &[5, 2, 0, 2],
    b"\x01\x05alice\x04pass",
    b"\x05\x01\x00\x03\x0ablog.alice\x00\x50",
    &[5, 1, 0, 1, 198, 18, 0, 7, 0, 80],
    &[5, 1, 0, 4, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 187],
];

#[test]
fn spoiled_proxy_messages_are_parsed_refused_or_waited_for() {
    let mut fuzz = Fuzz::new("socks", TARGETS);
    while fuzz.goes_on() {
        let sample = *fuzz.pick(SOCKS);
        let bytes = fuzz.spoil(sample);
        let taken = [
            greeting(&bytes).map(|parsed| parsed.map(|(_, len)| len)),
            login(&bytes).map(|parsed| parsed.map(|(user, len)| len.max(user.len()))),
            request(&bytes).map(|parsed| parsed.map(|(_, len)| len)),
        ];
        for taken in taken.into_iter().flatten().flatten() {
            assert!(taken <= bytes.len(), "no more is taken than is there");
        }
        // What is waited for is never known to be complete already.
        for len in 0..bytes.len() {
            if let Ok(Some((_, taken))) = request(&bytes[..len]) {
                assert_eq!(request(&bytes).map(|parsed| parsed.map(|(_, taken)| taken)), Ok(Some(taken)));
            }
        }
    }
}

/// Settings, a service, and values of single keys.
const TEXTS: &[&str] = &[
    "suffix = \"tarnet.alt\"\n[bootstrap]\npeers = [\"tcp://10.77.1.2:7946\", \"tcp://[fd00::1]:1#aa\"]\n",
    "[listen]\ntcp = [\"0.0.0.0:7946\"]\n[limits]\nmemory = \"64 MiB\"\n# a comment\n[tun]\nenabled = true\n",
    "local = \"127.0.0.1:4001\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"blog\"\nallow = [\"a\"]\n",
    "a.b = { c = 1, \"d\" = [1, 2, [3]] }\nx = '''\nlong'''\ny = 1979-05-27T07:32:00Z\nz = 0xff\n",
    "10 MiB",
    "5 min 3 s",
    "100 Mbit/s",
    "tcp://example.org:7946",
    "blog.alice:80",
    "peer:1234",
    "ro",
];

#[test]
fn spoiled_settings_services_and_values_are_errors_with_a_line() {
    let mut fuzz = Fuzz::new("settings", TARGETS);
    let path = Path::new("/etc/tarnet/tarnet.toml");
    while fuzz.goes_on() {
        let sample = *fuzz.pick(TEXTS);
        let bytes = fuzz.spoil(sample.as_bytes());
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().count().max(1) + 1;
        let mut settings = Settings::defaults();
        if settings.apply_file(&text, path).is_ok() {
            let _ = settings.config();
            assert!(!settings.print().is_empty());
        }
        if let Err(error) = Service::parse(Path::new("blog.toml"), &text) {
            assert!(error.line <= lines, "line {} of {lines}", error.line);
        }
        if let Err(problem) = raw::parse(&text, &|_| false) {
            assert!(problem.line <= lines, "line {} of {lines}", problem.line);
        }
        let _ = (units::size(&text), units::rate(&text), units::duration(&text), raw::parse_value(&text));
        if let Ok(uri) = text.parse::<PeerUri>() {
            assert_eq!(uri.to_string().parse::<PeerUri>().as_ref(), Ok(&uri), "{text:?}");
        }
        let _ = parse_target(&text);
        let known = tarnet_api::unsegment(&text);
        assert!(known.is_none_or(|known| tarnet_api::unsegment(&tarnet_api::segment(&known)) == Some(known)));
    }
}

#[test]
fn spoiled_rows_of_the_store_are_left_out() {
    let mut fuzz = Fuzz::new("rows", TARGETS);
    let mut peer =
        KnownPeer { floor: tarnet_core::crypto::Group::X25519MlKem768, last_seen_s: 9, addresses: Vec::new() };
    ["tcp://10.0.0.1:1", "tcp://[fd00::1]:2"].iter().for_each(|address| peer.seen_at(address));
    let samples = [
        peer.encode(),
        br#"[{"label":"a","kind":"zone","value":"x","ttl_s":60,"public":true}]"#.to_vec(),
        vec![1; 200],
    ];
    while fuzz.goes_on() {
        let sample = fuzz.pick(&samples).clone();
        let bytes = fuzz.spoil(&sample);
        if let Ok(peer) = KnownPeer::decode(&bytes) {
            assert_eq!(peer.encode(), bytes);
        }
        let _ = (parse_block(&bytes), parse_zone_label(&bytes), parse_epoch(&[(b"epoch".to_vec(), bytes.clone())]));
    }
}
