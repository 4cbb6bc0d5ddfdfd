//! The TUN with a real device and real sockets, in a network namespace of its own, against
//! a node of the test's own. The tests run themselves again inside `unshare`; without the
//! privilege for that they say so and, as root or in CI, fail.

mod double;
mod guarded;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use nix::errno::Errno;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::*;
use crate::dns::DnsConfig;
use crate::guard::{Keeper, Reached, Wanted};

/// Set for the run inside the namespace.
const INSIDE: &str = "TARNET_TUN_TEST_INSIDE";

/// Whether this is the run in a network namespace of its own; if not, runs test `name` again in one.
fn in_namespace(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = nix::unistd::geteuid().is_root();
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    let run = command.arg(exe).args(["--exact", "--nocapture", name]).env(INSIDE, "1").output();
    let output = run.map(|output| (output.status.success(), output.stdout, output.stderr));
    let required = root || std::env::var_os("CI").is_some();
    match output {
        Ok((true, ..)) => {}
        Ok((false, _, errors)) if !required && String::from_utf8_lossy(&errors).contains("unshare:") => {
            eprintln!("SKIPPED {name}: no namespaces here: {}", String::from_utf8_lossy(&errors));
        }
        Ok((false, out, errors)) => {
            panic!(
                "{name} failed inside its namespace:\n{}{}",
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(&errors)
            );
        }
        Err(error) if required => panic!("unshare cannot be run: {error}"),
        Err(error) => eprintln!("SKIPPED {name}: unshare cannot be run: {error}"),
    }
    false
}

/// A running TUN of a test.
struct Lab {
    runtime: Runtime,
    handle: Option<TunHandle>,
    keeper: Option<Keeper>,
    stop: watch::Sender<bool>,
    folder: PathBuf,
}

impl Lab {
    /// Brings a TUN up with its state in a folder named for `test`.
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tarnet-tun-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self::over(folder)
    }

    /// Brings a TUN up over the state that is there.
    fn over(folder: PathBuf) -> Self {
        Self::parked(folder, None)
    }

    /// Brings a TUN up over the state that is there, and over what the guard at a socket has.
    fn parked(folder: PathBuf, guard: Option<&Path>) -> Self {
        let runtime = Runtime::new().unwrap();
        let (stop, stopping) = watch::channel(false);
        let config = TunConfig {
            name: "tarnet0".into(),
            ipv4: "198.18.0.0/15".into(),
            ipv6: String::new(),
            mtu: 65_535,
            identity: "default".into(),
            users: BTreeMap::new(),
            forwarded: String::new(),
        };
        let dns = DnsConfig { suffix: "tarnet.alt".into(), listen: Vec::new(), ttl_s: 60 };
        let (handle, keeper) = runtime.block_on(async {
            let (node, requests) = NodeHandle::new();
            tokio::spawn(double::node(requests));
            let mut parking = Parking::default();
            if let Some(path) = guard {
                parking.guard = Some(Reached::connect(path).await.unwrap());
            }
            let handle = start(config, node, dns, &folder, &mut parking, stopping).await.unwrap();
            let keeper = guard.map(|path| {
                let device = handle.descriptor().unwrap();
                let addresses = *handle.book().addresses();
                let responder = Arc::clone(handle.responder());
                let wanted = Wanted { device, addresses, suffix: "tarnet.alt".into(), responder };
                Keeper::start(path.to_owned(), parking.guard.take(), wanted)
            });
            (handle, keeper)
        });
        Self { runtime, handle: Some(handle), keeper, stop, folder }
    }

    /// The handle.
    fn tun(&self) -> &TunHandle {
        self.handle.as_ref().unwrap()
    }

    /// Stops it cleanly and gives its folder back.
    fn stop(mut self) -> PathBuf {
        self.stop.send(true).unwrap();
        self.runtime.block_on(self.handle.take().unwrap().stopped());
        self.folder
    }

    /// Both addresses of a name, from the responder over the TUN.
    fn addresses(&self, name: &str) -> [IpAddr; 2] {
        let server = self.tun().book().addresses().dns().0;
        [RecordType::A, RecordType::AAAA].map(|kind| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket.send_to(&question(name, kind), (server, 53)).unwrap();
            let mut buffer = [0; 1_500];
            let length = socket.recv(&mut buffer).unwrap();
            Message::from_vec(&buffer[..length]).unwrap().answers[0].data.ip_addr().unwrap()
        })
    }

    /// Waits until no flow is left.
    fn rest(&self) {
        let since = Instant::now();
        while self.tun().flows() > 0 {
            assert!(since.elapsed() < Duration::from_secs(5), "{} flows are left", self.tun().flows());
            std::thread::yield_now();
        }
    }
}

/// A question's bytes.
fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// The errno of a failed connect, and how long it took.
fn connect_error(address: IpAddr, port: u16) -> (Errno, Duration) {
    let since = Instant::now();
    let error = TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(5)).unwrap_err();
    (Errno::from_raw(error.raw_os_error().unwrap_or(0)), since.elapsed())
}

/// A connection to an open port.
fn connect(address: IpAddr, port: u16) -> TcpStream {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

#[test]
fn connections_outcomes_and_errors_are_what_a_program_expects() {
    if in_namespace("tun::tests::connections_outcomes_and_errors_are_what_a_program_expects") {
        inside_outcomes();
    }
}

fn inside_outcomes() {
    let lab = Lab::new("outcomes");
    let [v4, v6] = lab.addresses("blog.alice.");
    for address in [v4, v6] {
        let errors = [
            (double::REFUSED, Errno::ECONNREFUSED),
            (double::FORBIDDEN, if address.is_ipv4() { Errno::EHOSTUNREACH } else { Errno::EACCES }),
            (double::NO_ROUTE, Errno::ENETUNREACH),
            (double::NO_NAME, Errno::EHOSTUNREACH),
            (double::TIMEOUT, Errno::EHOSTUNREACH),
        ];
        for (port, expected) in errors {
            let (errno, took) = connect_error(address, port);
            assert_eq!(errno, expected, "{address} port {port}");
            assert!(took < Duration::from_millis(500), "{address} port {port} took {took:?}");
        }
        // Held for 300 ms, then connected; the far end is lost: a reset.
        let since = Instant::now();
        connect(address, double::SLOW);
        assert!(since.elapsed() >= Duration::from_millis(300));
        let mut lost = connect(address, double::LOST);
        lost.write_all(b"x").unwrap();
        assert_eq!(lost.read(&mut [0; 8]).unwrap_err().raw_os_error(), Some(nix::libc::ECONNRESET));
    }
    let unused: IpAddr = lab.tun().book().addresses().v4(address::Slot(99_999)).into();
    assert_eq!(connect_error(unused, 80).0, Errno::ECONNREFUSED);
    let dns: IpAddr = lab.tun().book().addresses().dns().0.into();
    assert_eq!(connect_error(dns, 80).0, Errno::ECONNREFUSED);
    lab.rest();
    std::fs::remove_dir_all(lab.stop()).unwrap();
}

#[test]
fn bytes_arrive_whole_both_ways_with_either_side_closing_first() {
    if in_namespace("tun::tests::bytes_arrive_whole_both_ways_with_either_side_closing_first") {
        inside_bytes();
    }
}

fn inside_bytes() {
    let lab = Lab::new("bytes");
    for address in lab.addresses("blog.alice.") {
        // We finish first; the echo of 8 MiB comes back whole, then its end.
        let sent: Vec<u8> = (0..251_u8).cycle().take(8 << 20).collect();
        let mut stream = connect(address, double::ECHO);
        let mut reading = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            reading.read_to_end(&mut got).map(|_| got)
        });
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(reader.join().unwrap().unwrap() == sent);
        // The far side finishes first, and still reads what we send then.
        let mut stream = connect(address, double::GREETER);
        let mut greeting = Vec::new();
        stream.read_to_end(&mut greeting).unwrap();
        assert_eq!(greeting, double::GREETING);
        stream.write_all(b"late").unwrap();
        // A program that is killed resets; the flow goes too.
        let stream = connect(address, double::SOURCE);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    lab.rest();
    std::fs::remove_dir_all(lab.stop()).unwrap();
}

#[test]
fn datagrams_and_dns_work_in_both_families() {
    if in_namespace("tun::tests::datagrams_and_dns_work_in_both_families") {
        inside_datagrams();
    }
}

fn inside_datagrams() {
    let lab = Lab::new("datagrams");
    for address in lab.addresses("blog.alice.") {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.connect((address, double::ECHO)).unwrap();
        // Empty, usual, jumbo, and nearly as large as UDP goes.
        for length in [0, 1, 1_200, 9_000, 65_000] {
            let sent = vec![9; length];
            socket.send(&sent).unwrap();
            let mut got = vec![0; 70_000];
            assert_eq!(socket.recv(&mut got).unwrap(), length);
        }
        socket.connect((address, double::REFUSED)).unwrap();
        socket.send(b"x").unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().raw_os_error(), Some(nix::libc::ECONNREFUSED));
    }
    let server = lab.tun().book().addresses().dns().0;
    let mut stream = connect(server.into(), 53);
    for name in ["blog.alice.", "nope.alice.", "note.alice."] {
        let framed = crate::dns::stream::frame(&question(name, RecordType::A)).unwrap();
        stream.write_all(&framed).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().metadata.id, 7);
    }
    std::fs::remove_dir_all(lab.stop()).unwrap();
}

#[test]
fn a_thousand_connections_at_once_all_work_and_all_end() {
    if in_namespace("tun::tests::a_thousand_connections_at_once_all_work_and_all_end") {
        inside_thousand();
    }
}

fn inside_thousand() {
    let lab = Lab::new("thousand");
    let [v4, v6] = lab.addresses("blog.alice.");
    let threads: Vec<_> = (0..20)
        .map(|thread| {
            std::thread::spawn(move || {
                let address = if thread % 2 == 0 { v4 } else { v6 };
                let mut streams: Vec<TcpStream> = (0..50).map(|_| connect(address, double::ECHO)).collect();
                for stream in &mut streams {
                    stream.write_all(b"hello").unwrap();
                }
                for stream in &mut streams {
                    let mut got = [0; 5];
                    stream.read_exact(&mut got).unwrap();
                    assert_eq!(&got, b"hello");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    lab.rest();
    std::fs::remove_dir_all(lab.stop()).unwrap();
}

#[test]
fn addresses_survive_a_restart_and_nothing_leaks_without_the_daemon() {
    if in_namespace("tun::tests::addresses_survive_a_restart_and_nothing_leaks_without_the_daemon") {
        inside_restart();
    }
}

fn inside_restart() {
    let ip = |arguments: &str| {
        assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}")
    };
    // A default route out of the house, where packets must not go.
    ip("link add out type veth peer name far");
    ip("link set out up");
    ip("link set far up");
    ip("addr add 192.0.2.1/24 dev out");
    ip("route add default via 192.0.2.2");
    let lab = Lab::new("restart");
    let before = lab.addresses("blog.alice.");
    let mut open = connect(before[0], double::ECHO);
    let Lab { runtime, handle, folder, stop, .. } = lab;
    // As by SIGKILL: no task gets to say anything, the device closes with its descriptor.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop((handle, stop));
    for _ in 0..2 {
        let (errno, took) = connect_error(before[0], double::ECHO);
        assert_eq!(errno, Errno::EHOSTUNREACH);
        assert!(took < Duration::from_millis(100));
    }
    let lab = Lab::over(folder);
    assert_eq!(lab.addresses("blog.alice."), before);
    connect(before[0], double::ECHO);
    // The connection of before the restart ends at once.
    let ended = open.write_all(b"anyone there?").and_then(|()| open.read(&mut [0; 8]));
    assert_eq!(ended.unwrap_err().raw_os_error(), Some(nix::libc::ECONNRESET));
    let folder = lab.stop();
    let routes = Command::new("ip").args(["route", "show", "type", "unreachable"]).output().unwrap();
    assert!(routes.stdout.is_empty(), "{}", String::from_utf8_lossy(&routes.stdout));
    // Where a route of the host overlaps, another prefix is taken, and kept.
    ip("route add 198.19.5.0/24 via 192.0.2.2");
    let kept = Lab::over(folder);
    // The device is taken from us: still nothing leaves.
    ip("link del tarnet0");
    assert_eq!(connect_error(before[0], double::ECHO).0, Errno::EHOSTUNREACH);
    let folder = kept.stop();
    let kept = Lab::over(folder);
    assert_eq!(kept.tun().ipv4().to_string(), "198.18.0.1");
    std::fs::remove_dir_all(kept.stop()).unwrap();
    let moved = Lab::new("moved");
    assert_eq!(moved.tun().book().addresses().ipv4, plan::PrefixV4::parse("198.18.0.0/16").unwrap());
    std::fs::remove_dir_all(moved.stop()).unwrap();
}

#[test]
fn a_host_without_ipv6_gets_ipv4_alone_and_ping_answers_for_the_far_end() {
    if in_namespace("tun::tests::a_host_without_ipv6_gets_ipv4_alone_and_ping_answers_for_the_far_end") {
        inside_v4_only();
    }
}

fn inside_v4_only() {
    for scope in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1").unwrap();
    }
    let lab = Lab::new("v4only");
    assert_eq!(lab.tun().ipv6(), None);
    let server = lab.tun().book().addresses().dns().0;
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ask = |name: &str, kind| {
        socket.send_to(&question(name, kind), (server, 53)).unwrap();
        let mut buffer = [0; 1_500];
        let length = socket.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap().answers.first().and_then(|record| record.data.ip_addr())
    };
    assert_eq!(ask("blog.alice.", RecordType::AAAA), None);
    let [alive, dead] = ["blog.alice.", "dead.alice."].map(|name| ask(name, RecordType::A).unwrap());
    connect(alive, double::ECHO);
    let unused = lab.tun().book().addresses().v4(address::Slot(99_999)).into();
    // An echo reply from the far end that answers; host or net unreachable for the others.
    for (address, kind) in [(alive, 0), (server.into(), 0), (dead, 3), (unused, 3)] {
        assert_eq!(ping(address), (address, kind), "{address}");
    }
    std::fs::remove_dir_all(lab.stop()).unwrap();
}

/// Source and ICMP type of what answers an echo request.
fn ping(address: IpAddr) -> (IpAddr, u8) {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = [8, 0, 0, 0, 0, 1, 0, 1];
    // The checksum of a message whose other words are 0x0800, 1 and 1.
    request[2..4].copy_from_slice(&(!0x0802_u16).to_be_bytes());
    socket.send_to(&request, &SocketAddr::new(address, 0).into()).unwrap();
    let mut answer = [0; 256];
    let length = (&socket).read(&mut answer).unwrap();
    let packet = Packet::parse(&answer[..length]).unwrap();
    (packet.source, packet.payload[0])
}

#[test]
fn bulk_moves_both_ways_and_its_speed_is_printed() {
    if in_namespace("tun::tests::bulk_moves_both_ways_and_its_speed_is_printed") {
        inside_throughput();
    }
}

fn inside_throughput() {
    let lab = Lab::new("throughput");
    for address in lab.addresses("blog.alice.") {
        let (total, mut buffer) = (64_usize << 20, vec![0; 1 << 20]);
        let (mut stream, since, cpu) = (connect(address, double::SOURCE), Instant::now(), cpu());
        let mut done = 0;
        while done < total {
            done += stream.read(&mut buffer).unwrap();
        }
        report("to the program", address, done, since, cpu);
        drop(stream);
        let (mut stream, since, cpu) = (connect(address, double::SINK), Instant::now(), self::cpu());
        for _ in 0..total >> 20 {
            stream.write_all(&buffer).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut buffer).unwrap(), 0);
        report("from the program", address, total, since, cpu);
    }
    lab.rest();
    std::fs::remove_dir_all(lab.stop()).unwrap();
}

/// Prints bytes per second and per second of this process's processor time.
fn report(what: &str, address: IpAddr, bytes: usize, since: Instant, before: Duration) {
    let mega = |duration: Duration| u128::try_from(bytes).unwrap() / duration.as_micros().max(1);
    println!("{what} {address}: {} MB/s, {} MB per CPU second", mega(since.elapsed()), mega(cpu() - before));
}

/// Processor time of this process so far: the program, the flows and the node's double together.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(value.tv_sec()).unwrap(), 1_000 * u32::try_from(value.tv_usec()).unwrap())
    };
    time(usage.user_time()) + time(usage.system_time())
}
