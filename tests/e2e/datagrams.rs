//! Datagrams to a name: the shape of a QUIC exchange, every size that UDP has, fragments in
//! both directions, and a port that is refused hears of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nix::errno::Errno;

use super::lab::{Lab, Trio, in_lab, serve, until};

/// How long an answer may take before the datagram counts as lost and is sent again.
const LOST: Duration = Duration::from_millis(500);
/// How often a datagram is sent. They may be lost, as on any network.
const TRIES: usize = 20;
/// The largest payload of UDP in IPv4, which the service speaks whatever its caller speaks.
const LARGEST: usize = 65_507;

/// The usual three with a datagram echo, bob's TUN with an MTU.
fn with_echo(lab: &Lab, mtu: u16) -> Trio {
    let trio = Trio::cabled(lab);
    trio.bob.config(&format!("[bootstrap]\npeers = [\"tcp://10.77.2.1:7946\"]\n[tun]\nmtu = {mtu}\n"));
    serve::echo_udp(&trio.alice, "127.0.0.1:4433");
    trio.alice.service(
        "h3",
        "local = \"127.0.0.1:4433\"\nport = 443\nprotocol = \"udp\"\nidentity = \"alice\"\nsubdomain = \"blog\"\n",
    );
    trio.start();
    trio
}

/// A socket for an address.
fn socket(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a port");
    socket.set_read_timeout(Some(LOST)).expect("a socket");
    socket.connect(to).expect("a route");
    socket
}

/// Sends a datagram of `length` bytes until it has come back, whole.
#[track_caller]
fn comes_back(socket: &UdpSocket, length: usize, mark: u8) {
    let sent: Vec<u8> = (0..=u8::MAX).map(|byte| byte ^ mark).cycle().take(length).collect();
    let mut got = vec![0; LARGEST + 1];
    for _ in 0..TRIES {
        socket.send(&sent).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        // What came late from an earlier round is passed over.
        while let Ok(count) = socket.recv(&mut got) {
            if got[..count] == sent {
                return;
            }
        }
    }
    panic!("{length} bytes did not come back");
}

#[test]
fn datagrams_of_every_size_come_back_and_a_refused_port_is_heard_of() {
    in_lab(|lab| {
        let trio = with_echo(lab, 65_535);
        for address in trio.bob.lookup("blog.alice") {
            trio.bob.inside(|| {
                let open = socket(SocketAddr::new(address, 443));
                // Handshake, then a probe of the path, then data and short acknowledgements, as QUIC does.
                for (mark, length) in [1_200, 1_200, 1_252, 1_452, 1_350, 35, 1_350, 42].into_iter().enumerate() {
                    comes_back(&open, length, u8::try_from(mark).expect("few"));
                }
                for length in [1, 9_000, 40_000, LARGEST] {
                    comes_back(&open, length, 7);
                }
                // More than two seconds of datagrams at a steady rate: the flow is one and stays.
                for mark in 0..100 {
                    comes_back(&open, 1_200, mark);
                }
            });
        }
        assert_eq!(trio.bob.status()["flows"], 2, "one flow for each socket, waiting for its idle time");
    });
}

#[test]
fn fragments_pass_both_ways_on_a_device_with_a_small_mtu_and_their_refusal_is_heard_of() {
    in_lab(|lab| {
        let trio = with_echo(lab, 1_500);
        assert_eq!(trio.bob.status().pointer("/tun/mtu").and_then(|mtu| mtu.as_u64()), Some(1_500));
        for address in trio.bob.lookup("blog.alice") {
            trio.bob.inside(|| {
                let open = socket(SocketAddr::new(address, 443));
                for length in [1_472, 1_473, 3_000, 20_000, 60_000] {
                    comes_back(&open, length, 3);
                }
                let refused = socket(SocketAddr::new(address, 81));
                let error = heard(&refused, 5_000);
                assert_eq!(error, Errno::ECONNREFUSED, "a refusal of a fragmented datagram, {address}");
            });
        }
    });
}

/// The error that a socket hears of after a datagram.
fn heard(socket: &UdpSocket, length: usize) -> Errno {
    let mut heard = Errno::UnknownErrno;
    until(10, "an error is heard of", || {
        let told = socket.send(&vec![0; length]).and_then(|_| socket.recv(&mut [0; 8]));
        let error = told.expect_err("nobody answers");
        heard = Errno::from_raw(error.raw_os_error().expect("the kernel's"));
        heard != Errno::EAGAIN
    });
    heard
}
