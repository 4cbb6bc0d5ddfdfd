//! Who acts for a flow: the user that owns the socket, in both protocols and families; and
//! what was forwarded, which has no user.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use nix::unistd::Uid;

use super::lab::{Lab, Machine, Trio, in_lab, serve, sh, until};

/// A user that acts as another identity.
const MARTY: u32 = 4_242;
/// The echo of datagrams, and the one for `work` alone: a port has one protocol.
const UDP: u16 = 17;
const STAFF_UDP: u16 = 18;
/// How long an answer may take.
const SOON: Duration = Duration::from_secs(10);

/// Gives a socket to a user; false where that cannot be, in a user namespace that has but one.
fn give(socket: &impl AsFd, uid: Option<u32>) -> bool {
    uid.is_none_or(|uid| nix::unistd::fchown(socket, Some(Uid::from_raw(uid)), None).is_ok())
}

/// A line through a TCP echo as a user.
fn tcp(to: SocketAddr, uid: Option<u32>) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    assert!(give(&socket, uid));
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    let mut stream = TcpStream::from(socket);
    let mut back = [0; 5];
    let echoed = stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut back));
    echoed.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// A datagram through a UDP echo as a user, from a socket that is connected or is not.
fn udp(to: SocketAddr, uid: Option<u32>, connected: bool) -> Result<(), Errno> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a port");
    assert!(give(&socket, uid));
    socket.set_read_timeout(Some(SOON)).expect("a socket");
    let sent =
        if connected { socket.connect(to).and_then(|()| socket.send(b"hello")) } else { socket.send_to(b"hello", to) };
    let back = sent.and_then(|_| socket.recv(&mut [0; 8]));
    back.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// The usual three with echoes, and settings of bob's.
fn with_echoes(lab: &Lab, bob: &str) -> Trio {
    let trio = Trio::cabled(lab);
    trio.bob.config(&format!("[bootstrap]\npeers = [\"tcp://10.77.2.1:7946\"]\n{bob}"));
    serve::echo(&trio.alice, "127.0.0.1:4007");
    serve::echo_udp(&trio.alice, "127.0.0.1:4007");
    for (protocol, port) in [("tcp", 7), ("udp", UDP)] {
        let text = format!("local = \"127.0.0.1:4007\"\nport = {port}\nprotocol = \"{protocol}\"\n");
        trio.alice.service(protocol, &format!("{text}identity = \"alice\"\nsubdomain = \"blog\"\n"));
    }
    trio.start();
    trio
}

#[test]
fn a_mapped_user_acts_as_its_identity_and_is_kept_from_names_of_others() {
    in_lab(|lab| {
        let trio = with_echoes(lab, &format!("[tun.users]\n\"{MARTY}\" = \"work\"\n"));
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a port");
        if !give(&probe, Some(MARTY)) {
            // A user namespace of an ordinary user has only one user: there is nobody else to be.
            eprintln!("SKIPPED who::a_mapped_user_acts_as_its_identity: only one user here");
            return;
        }
        trio.bob.tn(&["identity", "create", "work"]);
        let shown = trio.bob.json(&["identity", "show", "work"]);
        let work = shown["service_id"].as_str().expect("a service id");
        for (protocol, port) in [("tcp", 8), ("udp", STAFF_UDP)] {
            let text =
                format!("local = \"127.0.0.1:4007\"\nport = {port}\nprotocol = \"{protocol}\"\nallow = [\"{work}\"]\n");
            trio.alice
                .service(&format!("staff-{protocol}"), &format!("{text}identity = \"alice\"\nsubdomain = \"blog\"\n"));
        }
        trio.alice.tn(&["reload"]);
        let to = |address: &IpAddr, port| SocketAddr::new(*address, port);
        let prohibited = |address: &IpAddr| if address.is_ipv4() { Errno::EHOSTUNREACH } else { Errno::EACCES };
        let addresses = trio.bob.lookup("blog.alice");
        trio.bob.inside(|| {
            for address in &addresses {
                // `work` does not know alice; the name is there and not for it.
                assert_eq!(tcp(to(address, 7), Some(MARTY)), Err(prohibited(address)), "tcp {address}");
                assert_eq!(udp(to(address, UDP), Some(MARTY), true), Err(prohibited(address)), "udp {address}");
                assert_eq!(tcp(to(address, 7), None), Ok(()), "tcp {address}");
                assert_eq!(tcp(to(address, 7), Some(MARTY + 1)), Ok(()), "tcp {address}, another user");
                assert_eq!(udp(to(address, UDP), None, true), Ok(()), "udp {address}");
            }
        });
        trio.bob.tn(&["tns", "set", "alice", "zone", &trio.service_id(), "--identity", "work"]);
        trio.bob.tn(&["wait", "--name", "blog.alice", "--identity", "work", "--timeout", "20s"]);
        trio.bob.inside(|| {
            for address in &addresses {
                assert_eq!(tcp(to(address, 8), Some(MARTY)), Ok(()), "tcp {address} as work");
                assert_eq!(udp(to(address, STAFF_UDP), Some(MARTY), true), Ok(()), "udp {address} as work");
                assert_eq!(
                    udp(to(address, STAFF_UDP), Some(MARTY), false),
                    Ok(()),
                    "udp {address} as work, not connected"
                );
                assert_eq!(tcp(to(address, 8), None), Err(prohibited(address)), "tcp {address} as default");
                assert_eq!(
                    udp(to(address, STAFF_UDP), None, true),
                    Err(prohibited(address)),
                    "udp {address} as default"
                );
            }
        });
    });
}

/// A container of bob's: its packets are forwarded, or go behind bob's own address.
fn container(lab: &Lab, trio: &Trio, ours: &IpAddr) -> Machine {
    let container = lab.machine("box");
    lab.cable(&trio.bob, &container, 9);
    sh(&format!(
        "ip netns exec bob sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
         ip -n bob addr add fd00:9::1/64 dev to-box nodad; ip -n box addr add fd00:9::2/64 dev to-bob nodad
         ip -n box route add default via 10.77.9.1; ip -n box -6 route add default via fd00:9::1
         ip -n bob route get {ours} >/dev/null"
    ));
    container
}

/// Bob hides what leaves by his TUN behind his own addresses, as Docker does. False where this kernel has no NAT.
fn masquerade() -> bool {
    let rules = "table inet hide { chain leaving { type nat hook postrouting priority 100; oifname \"tarnet0\" masquerade; }; }";
    let tried =
        std::process::Command::new("ip").args(["netns", "exec", "bob", "nft", rules]).output().expect("nft runs");
    if !tried.status.success() {
        println!("this kernel has no NAT: {}", String::from_utf8_lossy(&tried.stderr));
    }
    tried.status.success()
}

#[test]
fn forwarded_traffic_is_refused_at_once_also_behind_nat() {
    in_lab(|lab| {
        let trio = with_echoes(lab, "");
        let addresses = trio.bob.lookup("blog.alice");
        let container = container(lab, &trio, &addresses[0]);
        let refused = |what: &str| {
            for address in &addresses {
                let prohibited = if address.is_ipv4() { Errno::EHOSTUNREACH } else { Errno::EACCES };
                let stream = container.inside(|| tcp(SocketAddr::new(*address, 7), None));
                assert_eq!(stream, Err(prohibited), "{what}: tcp {address}");
                // The kernel sends one host only so many errors a second; a lost one is asked for again.
                let mut datagram = Err(Errno::EAGAIN);
                until(60, &format!("{what}: udp {address} is answered"), || {
                    datagram = container.inside(|| udp(SocketAddr::new(*address, UDP), None, true));
                    datagram != Err(Errno::EAGAIN)
                });
                assert_eq!(datagram, Err(prohibited), "{what}: udp {address}");
            }
        };
        refused("plain");
        if masquerade() {
            refused("behind NAT");
        }
        trio.bob.inside(|| {
            for address in &addresses {
                assert_eq!(
                    (tcp(SocketAddr::new(*address, 7), None), udp(SocketAddr::new(*address, UDP), None, false)),
                    (Ok(()), Ok(())),
                    "bob himself, {address}"
                );
            }
        });
        trio.bob.stop();
        assert_eq!(sh("ip -n bob rule | grep -c 518 || true"), "0", "a clean stop leaves no rule");
        assert_eq!(sh("ip -n bob -6 rule | grep -c 518 || true"), "0", "a clean stop leaves no rule");
    });
}

#[test]
fn forwarded_traffic_is_carried_where_that_is_wanted() {
    in_lab(|lab| {
        let trio = with_echoes(lab, "[tun]\nforwarded = \"default\"\n");
        let addresses = trio.bob.lookup("blog.alice");
        let container = container(lab, &trio, &addresses[0]);
        let carried = |what: &str| {
            for address in &addresses {
                let both = container.inside(|| {
                    (tcp(SocketAddr::new(*address, 7), None), udp(SocketAddr::new(*address, UDP), None, true))
                });
                assert_eq!(both, (Ok(()), Ok(())), "{what}: {address}");
            }
        };
        carried("plain");
        if masquerade() {
            carried("behind NAT");
        }
    });
}
