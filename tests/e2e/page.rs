//! The main job: bob opens alice's page through a relay, every way there is.

use std::io::Write;
use std::process::Stdio;

use super::lab::{Machine, Said, Trio, in_lab};

/// The page came, whole and alone.
#[track_caller]
fn is_the_page(said: &Said) {
    assert_eq!((said.code, said.out.as_str()), (0, Trio::PAGE), "{}", said.err);
}

/// Fetches with curl and these words before it.
fn curl(machine: &Machine, before: &[&str], options: &[&str]) -> Said {
    let url = ["-sS", "--max-time", "20", "http://blog.alice/"];
    machine.run(&[before, &["curl"], options, &url].concat())
}

#[test]
fn page_through_a_relay_arrives_over_socks() {
    in_lab(|lab| is_the_page(&curl(&Trio::up(lab).bob, &[], &["--proxy", "socks5h://127.0.0.1:1080"])));
}

#[test]
fn page_through_a_relay_arrives_in_a_static_program() {
    in_lab(|lab| is_the_page(&Trio::up(lab).page()));
}

#[test]
fn page_through_a_relay_arrives_in_all_five_ways() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        is_the_page(&trio.page());
        is_the_page(&curl(&trio.bob, &[], &[]));
        is_the_page(&curl(&trio.bob, &[], &["--proxy", "socks5h://127.0.0.1:1080"]));
        is_the_page(&curl(&trio.bob, &[env!("CARGO_BIN_EXE_tarnet"), "tarify"], &[]));
        let mut command = trio.bob.command(&[env!("CARGO_BIN_EXE_tarnet"), "connect", "blog.alice", "--port", "80"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = trio.bob.start_command(command);
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
        drop(stdin);
        let said = Said::from(child.wait_with_output().expect("its output can be read"));
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(said.out.split_once("\r\n\r\n").map(|(_, body)| body), Some(Trio::PAGE));
    });
}

#[test]
fn page_arrives_over_both_families_and_every_form_of_the_name() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let addresses = trio.bob.lookup("blog.alice");
        assert!(addresses.iter().any(|address| address.is_ipv4()), "no A: {addresses:?}");
        assert!(addresses.iter().any(|address| address.is_ipv6()), "no AAAA: {addresses:?}");
        is_the_page(&curl(&trio.bob, &[], &["-4"]));
        is_the_page(&curl(&trio.bob, &[], &["-6"]));
        for name in ["blog.alice.", "blog.alice.tarnet.alt"] {
            assert_eq!(trio.bob.lookup(name), addresses, "{name}");
            is_the_page(&trio.bob.run(&["curl", "-sS", "--max-time", "20", &format!("http://{name}/")]));
        }
    });
}
