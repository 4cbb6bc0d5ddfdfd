//! Intercepted flows at their edges: every error of the contract's table, thousands at once,
//! a flood, half-closed connections, tiny windows, ports used again; and that nothing of it is left behind.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::unistd::Uid;

use super::lab::{Lab, Machine, Trio, in_lab, serve, until};

/// What `at once` means to a program on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Connections at once.
const PARALLEL: usize = 2_000;
/// Half-open flows that one user may have, and all together: the contract of a flood.
const USER_MAX: usize = 1_024;
const ALL_MAX: usize = 2_048;
/// Users that flood, and connections that each tries.
const FLOODERS: [u32; 3] = [4_242, 4_243, 4_244];
const TRIED: usize = 1_500;

/// Tasks and descriptors that come and go by themselves: of the question itself, of a dial, of a look at the disk.
const OWN: u64 = 4;

/// What the daemon of a machine holds: flows, tasks, descriptors.
fn held(machine: &Machine) -> [u64; 3] {
    let status = machine.status();
    ["/flows", "/process/tasks", "/process/fds"].map(|path| status.pointer(path).and_then(|n| n.as_u64()).expect(path))
}

/// Waits until a machine's daemon holds no more than before.
fn rests(machine: &Machine, before: [u64; 3]) {
    let mut last = before;
    until(60, "nothing is left behind", || {
        let now = held(machine);
        if now != last {
            println!("{}: {now:?} flows, tasks, descriptors; before {before:?}", machine.name());
            last = now;
        }
        now[0] == 0 && now[1] <= before[1] + OWN && now[2] <= before[2] + OWN
    });
}

/// Waits until alice and bob hold no more than before.
fn both_rest(trio: &Trio, before: [[u64; 3]; 2]) {
    rests(&trio.bob, before[0]);
    rests(&trio.alice, before[1]);
}

/// What both hold now, after a first visit: a session stays.
fn both_held(trio: &Trio) -> [[u64; 3]; 2] {
    assert_eq!(trio.page().out, Trio::PAGE);
    until(20, "the visit is over", || held(&trio.bob)[0] == 0);
    [held(&trio.bob), held(&trio.alice)]
}

/// The usual three, and alice's services under `blog`.
fn with_services(lab: &Lab, services: &[(&str, &str)]) -> Trio {
    let trio = Trio::cabled(lab);
    for (name, text) in services {
        trio.alice.service(name, &format!("{text}\nidentity = \"alice\"\nsubdomain = \"blog\"\n"));
    }
    trio.start();
    trio
}

/// Descriptors for thousands of connections in this process.
fn raise_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit is allowed");
}

/// The errno of a failed TCP connect, at once.
#[track_caller]
fn tcp_error(machine: &Machine, to: SocketAddr) -> Errno {
    let start = Instant::now();
    let error = machine.inside(move || TcpStream::connect(to)).expect_err("there is nothing to connect to");
    assert!(start.elapsed() <= AT_ONCE, "{to}: {error} only after {:?}", start.elapsed());
    Errno::from_raw(error.raw_os_error().expect("the kernel's"))
}

/// The errno that a connected UDP socket hears of after its first datagram, at once. It asks for every error, as
/// programs do that want to know; unasked, the kernel tells a UDP socket only of what it holds for final.
#[track_caller]
fn udp_error(machine: &Machine, to: SocketAddr) -> Errno {
    let start = Instant::now();
    let error = machine.inside(move || {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        if to.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true).expect("a socket");
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true).expect("a socket");
        }
        socket.connect(to).and_then(|()| socket.send(b"x")).and_then(|_| socket.recv(&mut [0; 8])).expect_err("nobody")
    });
    assert!(start.elapsed() <= AT_ONCE, "udp {to}: {error} only after {:?}", start.elapsed());
    Errno::from_raw(error.raw_os_error().expect("the kernel's"))
}

#[test]
fn every_error_of_the_table_in_both_protocols_and_families() {
    in_lab(|lab| {
        let trio = with_services(lab, &[("dead", "local = \"127.0.0.1:4999\"\nport = 90")]);
        // Alice lets only herself in.
        for (protocol, port) in [("tcp", 91), ("udp", 92)] {
            let text = format!(
                "local = \"127.0.0.1:4001\"\nport = {port}\nprotocol = \"{protocol}\"\nallow = [\"{}\"]\n",
                trio.service_id()
            );
            trio.alice.service(protocol, &format!("{text}identity = \"alice\"\nsubdomain = \"blog\"\n"));
        }
        trio.alice.tn(&["reload"]);
        let before = both_held(&trio);
        let free: [SocketAddr; 2] = {
            let IpAddr::V6(known) = trio.bob.lookup("blog.alice")[1] else { panic!("the second is IPv6") };
            let mut octets = known.octets();
            octets[15] ^= 0x40;
            [
                SocketAddr::new("198.18.77.77".parse().expect("an address"), 80),
                SocketAddr::new(IpAddr::from(octets), 80),
            ]
        };
        for (address, free) in trio.bob.lookup("blog.alice").into_iter().zip(free) {
            let to = |port| SocketAddr::new(address, port);
            let prohibited = if address.is_ipv4() { Errno::EHOSTUNREACH } else { Errno::EACCES };
            assert_eq!(tcp_error(&trio.bob, to(81)), Errno::ECONNREFUSED, "no listener, {address}");
            assert_eq!(tcp_error(&trio.bob, to(90)), Errno::ECONNREFUSED, "its local service is down, {address}");
            assert_eq!(tcp_error(&trio.bob, to(91)), prohibited, "the service does not let us, {address}");
            assert_eq!(tcp_error(&trio.bob, free), Errno::ECONNREFUSED, "an address of nobody, {free}");
            assert_eq!(udp_error(&trio.bob, to(81)), Errno::ECONNREFUSED, "no listener, {address}");
            assert_eq!(udp_error(&trio.bob, to(92)), prohibited, "the service does not let us, {address}");
            assert_eq!(udp_error(&trio.bob, free), Errno::EHOSTUNREACH, "an address of nobody, {free}");
        }
        both_rest(&trio, before);
        // The name goes, the address stays: nobody is behind it any more.
        let addresses = trio.bob.lookup("blog.alice");
        trio.bob.tn(&["tns", "rm", "alice"]);
        for address in addresses {
            assert_eq!(tcp_error(&trio.bob, SocketAddr::new(address, 80)), Errno::EHOSTUNREACH, "{address}");
            assert_eq!(udp_error(&trio.bob, SocketAddr::new(address, 80)), Errno::EHOSTUNREACH, "{address}");
        }
        rests(&trio.bob, before[0]);
    });
}

/// A connection that has begun, by a user, without waiting for it.
pub fn begin(to: SocketAddr, uid: Option<u32>) -> std::os::fd::OwnedFd {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None).expect("a socket");
    if let Some(uid) = uid {
        // The owner of a socket is the owner of its inode.
        nix::unistd::fchown(&socket, Some(Uid::from_raw(uid)), None).expect("we are root here");
    }
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => socket,
        Err(error) => panic!("{to}: {error}"),
    }
}

#[test]
fn two_thousand_connections_at_once_all_open_and_nothing_is_left_behind() {
    in_lab(|lab| {
        raise_descriptors();
        let trio = with_services(lab, &[("hold", "local = \"127.0.0.1:4007\"\nport = 7")]);
        // Greets everybody, and keeps everybody.
        let (keep, kept) = std::sync::mpsc::sync_channel(PARALLEL * 2);
        serve::tcp(&trio.alice, "127.0.0.1:4007", move |mut stream| {
            let _ = stream.write_all(b"!");
            let _ = keep.send(stream);
        });
        let before = both_held(&trio);
        let addresses = trio.bob.lookup("blog.alice");
        trio.bob.inside(|| {
            let each = addresses.iter().cycle().take(PARALLEL);
            let sockets: Vec<_> = each.map(|address| begin(SocketAddr::new(*address, 7), None)).collect();
            for (at, socket) in sockets.into_iter().enumerate() {
                let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                let n = poll(&mut ready, PollTimeout::from(60_000_u16)).expect("it can be polled");
                let error = getsockopt(&socket, sockopt::SocketError).expect("a socket");
                let local = nix::sys::socket::getsockname::<SockaddrStorage>(socket.as_raw_fd()).expect("a socket");
                assert!(n == 1 && error == 0, "connection {at} from {local}: {}", Errno::from_raw(error));
                let mut stream = TcpStream::from(socket);
                let mut greeting = [0];
                stream.read_exact(&mut greeting).unwrap_or_else(|error| panic!("connection {at}: {error}"));
            }
        });
        // They are closed on this side; now on the other.
        drop(kept);
        both_rest(&trio, before);
        assert_eq!(trio.page().out, Trio::PAGE);
    });
}

#[test]
fn a_flood_stops_at_its_bounds_and_nothing_is_left_behind() {
    in_lab(|lab| {
        raise_descriptors();
        let trio = with_services(lab, &[]);
        let before = both_held(&trio);
        let memory = trio.bob.memory("VmRSS");
        let addresses = trio.bob.lookup("blog.alice");
        let page = SocketAddr::new(addresses[0], 80);
        // Alice is there and says nothing.
        trio.alice.signal(Signal::SIGSTOP);
        let users: Vec<Option<u32>> =
            if can_be_others() { FLOODERS.iter().copied().map(Some).collect() } else { vec![None] };
        let mut flood = Vec::new();
        let mut most = 0;
        for (at, user) in users.iter().enumerate() {
            trio.bob.inside(|| flood.extend((0..TRIED).map(|_| begin(page, *user))));
            let expected = (USER_MAX * (at + 1)).min(ALL_MAX);
            until(15, &format!("{} users have all that they may", at + 1), || {
                most = most.max(held(&trio.bob)[0]);
                most >= u64::try_from(expected).expect("small")
            });
            // Flows that have just been given up, because a slow machine lost the link to alice, are still on their way out.
            let leaving = USER_MAX / 4;
            assert!(most <= u64::try_from(expected + leaving).expect("small"), "{most} flows of {} users", at + 1);
        }
        // Dropped, not refused: whoever tries again may be let in.
        let refused = flood.iter().filter(|socket| getsockopt(*socket, sockopt::SocketError).expect("a socket") != 0);
        assert_eq!(refused.count(), 0);
        let grown = trio.bob.memory("VmRSS").saturating_sub(memory) / most;
        assert!(grown < 32 << 10, "a half-open flow holds {grown} bytes");
        drop(flood);
        trio.alice.signal(Signal::SIGCONT);
        rests(&trio.bob, before[0]);
        until(30, "the page opens again", || trio.page().out == Trio::PAGE);
        both_rest(&trio, before);
    });
}

/// Whether sockets can be given to other users: as root, not in a user namespace with one user.
fn can_be_others() -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    nix::unistd::fchown(&socket, Some(Uid::from_raw(FLOODERS[0])), None).is_ok()
}

#[test]
fn either_side_may_finish_first_and_tiny_windows_carry_everything() {
    in_lab(|lab| {
        let services = [
            ("late", "local = \"127.0.0.1:4011\"\nport = 11"),
            ("early", "local = \"127.0.0.1:4012\"\nport = 12"),
            ("source", "local = \"127.0.0.1:4013\"\nport = 13"),
        ];
        let trio = with_services(lab, &services);
        // Reads to the end, then says how much it was, then finishes.
        serve::tcp(&trio.alice, "127.0.0.1:4011", |mut stream| {
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).is_ok() {
                let _ = write!(stream, "{}", all.len());
            }
        });
        // Finishes first, then reads to the end; whoever comes next is told how much that was.
        let heard = std::sync::Arc::new(std::sync::Mutex::new(0));
        let total = std::sync::Arc::clone(&heard);
        serve::tcp(&trio.alice, "127.0.0.1:4012", move |mut stream| {
            let _ = stream.write_all(b"first").and_then(|()| stream.shutdown(Shutdown::Write));
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).is_ok() {
                *total.lock().expect("no panic") += all.len();
            }
        });
        const LENGTH: u64 = 64 << 10;
        serve::tcp(&trio.alice, "127.0.0.1:4013", |mut stream| {
            serve::Bytes::new(7, LENGTH).for_each(|chunk| drop(stream.write_all(&chunk)));
        });
        let before = both_held(&trio);
        let sent: usize = 300_000;
        let addresses = trio.bob.lookup("blog.alice");
        for address in &addresses {
            trio.bob.inside(|| {
                let mut stream = TcpStream::connect((*address, 11)).expect("it is there");
                stream.write_all(&vec![5; sent]).and_then(|()| stream.shutdown(Shutdown::Write)).expect("it reads");
                let mut said = String::new();
                stream.read_to_string(&mut said).expect("it answers after our end");
                assert_eq!(said, sent.to_string());
                let mut stream = TcpStream::connect((*address, 12)).expect("it is there");
                stream.read_to_string(&mut said).expect("it finishes first");
                assert!(said.ends_with("first"), "{said}");
                stream.write_all(&vec![6; sent]).expect("it still reads");
            });
            // The smallest buffer that the kernel gives, read a byte at a time.
            trio.bob.inside(|| {
                let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
                setsockopt(&socket, sockopt::RcvBuf, &1).expect("a socket");
                connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(*address, 13)))
                    .expect("it is there");
                let (digest, length) = serve::sha256(OneByte(TcpStream::from(socket)));
                assert_eq!((digest, length), (serve::sha256_of_stream(7, LENGTH), LENGTH));
            });
        }
        until(20, "all that was sent after the far end arrived", || {
            *heard.lock().expect("no panic") == sent * addresses.len()
        });
        both_rest(&trio, before);
    });
}

/// Reads a byte at a time.
struct OneByte(TcpStream);

impl Read for OneByte {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}

#[test]
fn a_port_is_used_again_at_once_after_the_far_side_closed_or_we_reset() {
    in_lab(|lab| {
        let trio = with_services(lab, &[("greeter", "local = \"127.0.0.1:4013\"\nport = 13")]);
        serve::tcp(&trio.alice, "127.0.0.1:4013", |mut stream| {
            let _ = stream.write_all(b"hello");
        });
        let before = both_held(&trio);
        for (address, port) in trio.bob.lookup("blog.alice").into_iter().zip([45_001, 45_002]) {
            // The far side closes first, so its side of the tuple would be in TIME-WAIT.
            for round in 0..20 {
                let reset = round % 4 == 3;
                let took = trio.bob.inside(|| greeted(address, port, reset));
                assert!(took <= AT_ONCE, "{address} round {round}: {took:?}");
            }
        }
        both_rest(&trio, before);
    });
}

/// Connects from a port, reads the greeting to its end, closes. How long it took.
fn greeted(address: IpAddr, port: u16, reset: bool) -> Duration {
    let start = Instant::now();
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&socket, sockopt::ReuseAddr, &true).expect("a socket");
    let any: IpAddr = if address.is_ipv4() { "0.0.0.0" } else { "::" }.parse().expect("an address");
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port)))
        .expect("a free port");
    // Until our kernel has heard the last acknowledgement the tuple is still taken there.
    let to = SockaddrStorage::from(SocketAddr::new(address, 13));
    until(5, "the tuple is free", || match connect(socket.as_raw_fd(), &to) {
        Ok(()) => true,
        Err(Errno::EADDRNOTAVAIL) => false,
        Err(error) => panic!("{address}: {error}"),
    });
    if reset {
        // Gone with a reset, whatever was still to come.
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&socket, sockopt::Linger, &linger).expect("a socket");
        return start.elapsed();
    }
    let mut stream = TcpStream::from(socket);
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it greets");
    assert_eq!(said, "hello");
    start.elapsed()
}
