//! Channels beside the web: datagrams, modes, and machines by PeerId.

use std::net::UdpSocket;
use std::time::Duration;

use super::lab::pipe::Pipe;
use super::lab::{Trio, in_lab, serve, until};

#[test]
fn datagrams_come_back_over_the_tun_in_both_families() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::echo_udp(&trio.alice, "127.0.0.1:5005");
        let file =
            "local = \"127.0.0.1:5005\"\nprotocol = \"udp\"\nport = 5005\nidentity = \"alice\"\nsubdomain = \"echo\"\n";
        trio.alice.service("echo", file);
        trio.start();
        trio.bob.tn(&["wait", "--name", "echo.alice", "--timeout", "20s"]);
        let addresses = trio.bob.lookup("echo.alice");
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        for address in addresses {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = trio.bob.inside(move || {
                let socket = UdpSocket::bind(any).expect("a free port");
                socket.connect((address, 5005)).expect("a route");
                socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
                socket
            });
            for length in [1, 512, 1_400] {
                let sent: Vec<u8> = (0..251_u8).cycle().take(length).collect();
                let mut back = vec![0; 2_000];
                // A datagram may be lost: what counts is that one comes back, whole.
                until(10, &format!("{length} bytes come back from {address}"), || {
                    socket.send(&sent).expect("a route");
                    socket.recv(&mut back).is_ok_and(|count| back[..count] == sent[..])
                });
            }
        }
    });
}

#[test]
fn machines_connect_by_peer_id_and_either_side_may_finish_first() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let alice = trio.alice.peer_id();
        let mut far = Pipe::listen(&trio.alice, &["peer", "--port", "chat"]);
        let mut near = Pipe::start(&trio.bob, &["connect", &alice, "--port", "chat"]);
        near.say("hello alice\n");
        assert_eq!(far.line(), "hello alice");
        far.say("hello bob\n");
        assert_eq!(near.line(), "hello bob");
        far.say("still here\n");
        assert_eq!(near.line(), "still here");
        // The end of standard input ends the far program, and its end ours: both without an error.
        near.close();
        let (far_code, rest, messages) = far.end();
        assert_eq!((far_code, rest.as_str()), (Some(0), ""), "{messages}");
        let (near_code, rest, messages) = near.end();
        assert_eq!((near_code, rest.as_str()), (Some(0), ""), "{messages}");
    });
}

#[test]
fn messages_keep_their_borders_in_each_mode() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let alice = trio.alice.peer_id();
        for mode in ["ru", "uo", "uu"] {
            let mut far = Pipe::listen(&trio.alice, &["peer", "--port", mode, "--mode", mode]);
            let mut near = Pipe::start(&trio.bob, &["connect", &alice, "--port", mode, "--mode", mode]);
            near.say("first message\nsecond\n");
            let mut got = [far.line(), far.line()];
            got.sort();
            assert_eq!(got, ["first message", "second"], "{mode}");
            far.say("answer\n");
            assert_eq!(near.line(), "answer", "{mode}");
            near.close();
            assert_eq!(far.end().0, Some(0), "{mode}");
            assert_eq!(near.end().0, Some(0), "{mode}");
        }
    });
}

#[test]
fn modes_that_differ_are_refused_with_that_reason() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let alice = trio.alice.peer_id();
        let _far = Pipe::listen(&trio.alice, &["peer", "--port", "chat", "--mode", "uu"]);
        let said = trio.bob.tarnet(&["connect", &alice, "--port", "chat", "--mode", "ro"]);
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(said.err.contains("mode"), "{}", said.err);
        let said = trio.bob.tarnet(&["connect", &alice, "--port", "nobody"]);
        assert_eq!(said.code, 1, "{}", said.err);
    });
}

#[test]
fn ping_tells_the_length_of_the_path() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        for target in ["blog.alice", &trio.alice.peer_id()] {
            let pong = trio.bob.json(&["ping", target, "-c", "1"]);
            assert_eq!((pong["seq"].as_u64(), pong["hops"].as_u64()), (Some(1), Some(2)), "{target}: {pong}");
        }
        // Far more than a cable takes, far less than a second: the path is not waiting for anything.
        let rtt = trio.bob.json(&["ping", "blog.alice", "-c", "1"])["rtt_ms"].as_f64().expect("a time");
        assert!(rtt > 0.0 && rtt < 500.0, "{rtt} ms");
    });
}
