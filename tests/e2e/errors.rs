//! What programs see when something is not there, and that nothing of it leaves the overlay.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::lab::{Lab, Machine, Trio, in_lab, serve, socks, until, watch};

/// What `at once` means to a program.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a name may stay unanswered before the program hears of it, with a margin for a busy machine.
const UNANSWERED: Duration = Duration::from_secs(25);
/// How long an open connection may hang after its way died, with a margin.
const DEAD_WAY_S: u64 = 75;

/// Connects on a machine: how it ended, and how long it took.
fn connect(machine: &Machine, address: IpAddr, port: u16) -> (Result<TcpStream, Errno>, Duration) {
    machine.inside(move || {
        let start = Instant::now();
        let tried = TcpStream::connect((address, port));
        let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
        (tried.map_err(errno), start.elapsed())
    })
}

/// Fails at once with one of these errors.
#[track_caller]
fn fails_at_once(machine: &Machine, address: IpAddr, port: u16, wanted: &[Errno]) {
    let (result, took) = connect(machine, address, port);
    let errno = result.expect_err("there is nothing to connect to");
    assert!(wanted.contains(&errno), "{address} {port}: {errno}, not one of {wanted:?}");
    assert!(took <= AT_ONCE, "{address} {port}: {errno} after {took:?}");
}

/// Three machines, bob with a default route to an Internet that counts what arrives.
fn with_clearnet(lab: &Lab) -> (Trio, Machine) {
    let trio = Trio::cabled(lab);
    let internet = lab.machine("internet");
    watch::clearnet(&trio.bob, &internet);
    let probe = trio.bob.inside(|| TcpStream::connect_timeout(&"203.0.113.1:9".parse().expect("an address"), AT_ONCE));
    assert!(probe.is_err() && watch::leaked(&internet) > 0, "the counter does not count");
    trio.start();
    (trio, internet)
}

#[test]
fn refused_unknown_and_unmapped_fail_at_once_and_nothing_leaks() {
    in_lab(|lab| {
        let (trio, internet) = with_clearnet(lab);
        let before = watch::leaked(&internet);
        let addresses = trio.bob.lookup("blog.alice");
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        for address in &addresses {
            fails_at_once(&trio.bob, *address, 81, &[Errno::ECONNREFUSED]);
        }
        // No such name under a zone that we know, and no such zone at all.
        for name in ["nope.alice", "blog.nobody"] {
            let start = Instant::now();
            let said = trio.bob.run(&["curl", "-sS", "--max-time", "20", &format!("http://{name}/")]);
            assert_eq!(said.code, 6, "{name}: {}", said.err);
            assert!(start.elapsed() <= AT_ONCE, "{name}: unknown only after {:?}", start.elapsed());
            let start = Instant::now();
            let reply = trio.bob.inside(|| socks::connect(None, name, 80)).expect_err("there is nobody");
            assert_eq!(reply, 4, "{name}: the proxy's reply");
            assert!(start.elapsed() <= AT_ONCE, "{name}: unknown to the proxy only after {:?}", start.elapsed());
        }
        let reply = trio.bob.inside(|| socks::connect(None, "blog.alice", 81)).expect_err("no listener");
        assert_eq!(reply, 5, "the proxy's reply to a refusal");
        let reply = trio.bob.inside(|| socks::connect(Some("nobody"), "blog.alice", 80)).expect_err("no identity");
        assert_eq!(reply, 255, "an unknown identity is not let in");
        // Addresses of ours that stand for nothing.
        let unreachable = [Errno::ECONNREFUSED, Errno::EHOSTUNREACH];
        fails_at_once(&trio.bob, "198.18.77.77".parse().expect("an address"), 80, &unreachable);
        let IpAddr::V6(known) = addresses.iter().find(|address| address.is_ipv6()).expect("AAAA") else { return };
        let mut free = known.octets();
        free[15] ^= 0x40;
        fails_at_once(&trio.bob, IpAddr::from(free), 80, &unreachable);
        assert_eq!(watch::leaked(&internet), before, "packets left for the Internet");
    });
}

#[test]
fn names_and_addresses_fail_at_once_while_the_daemon_is_dead() {
    in_lab(|lab| {
        let (trio, internet) = with_clearnet(lab);
        let addresses = trio.bob.lookup("blog.alice");
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        let before = watch::leaked(&internet);
        trio.bob.kill();
        let unreachable = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::ECONNREFUSED, Errno::EACCES];
        for address in &addresses {
            fails_at_once(&trio.bob, *address, 80, &unreachable);
        }
        let start = Instant::now();
        let said = trio.bob.run(&["curl", "-sS", "--max-time", "20", "http://blog.alice/"]);
        assert_eq!(said.code, 6, "{}", said.err);
        assert!(start.elapsed() <= AT_ONCE, "a dead resolver was noticed only after {:?}", start.elapsed());
        assert_eq!(watch::leaked(&internet), before, "packets left for the Internet");
        // The addresses survive the restart.
        trio.bob.start();
        until(10, "the page comes again", || trio.page().out == Trio::PAGE);
        assert_eq!(trio.bob.lookup("blog.alice"), addresses);
        assert_eq!(watch::leaked(&internet), before, "packets left for the Internet");
    });
}

#[test]
fn far_daemon_dead_is_unreachable_and_open_streams_end() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::echo(&trio.alice, "127.0.0.1:7");
        let echo = "local = \"127.0.0.1:7\"\nport = 7\nidentity = \"alice\"\nsubdomain = \"blog\"\n";
        trio.alice.service("echo", echo);
        trio.start();
        let address = trio.bob.lookup("blog.alice")[0];
        let (stream, _) = connect(&trio.bob, address, 7);
        let mut stream = stream.expect("the echo is there");
        stream.write_all(b"once").expect("it is open");
        let mut back = [0; 4];
        stream.read_exact(&mut back).expect("it comes back");
        trio.alice.kill();
        let (result, took) = connect(&trio.bob, address, 80);
        let errno = result.expect_err("there is nobody");
        assert!([Errno::EHOSTUNREACH, Errno::ENETUNREACH].contains(&errno), "{errno} after {took:?}");
        assert!(took <= UNANSWERED, "{errno} only after {took:?}");
        stream.set_nonblocking(true).expect("a socket");
        until(DEAD_WAY_S, "the open stream ends", || match stream.read(&mut back) {
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            Ok(count) => panic!("{count} bytes from the dead"),
        });
    });
}
