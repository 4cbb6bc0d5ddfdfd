//! Spoiled bytes to every port of a running daemon at once, while its ordinary traffic goes on.
//! `TARNET_FUZZ_SECONDS` says for how long, `TARNET_FUZZ_SEED` repeats the bytes.

#[path = "../../src/core/fuzz/engine.rs"]
mod engine;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tarnet_core::crypto::{Group, SigningKey};
use tarnet_core::link::{Config, ConnId, Links, Padding, Pin, Transmit};
use tarnet_core::rng::Rng;
use tarnet_core::time::Now;

use self::engine::Fuzz;
use super::lab::{Trio, in_lab};

/// Attackers, which share the time.
const TARGETS: u32 = 1;
/// Connections that an attacker leaves open behind it.
const OPEN_MAX: usize = 24;
/// How long an attacker waits for an answer before it goes on.
const ANSWER_TIME: Duration = Duration::from_millis(20);
/// By how much the daemon may grow meanwhile, bytes.
const GROWTH_MAX: u64 = 96 << 20;
/// Where a daemon answers names.
const RESPONDER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));

/// An honest first message to nobody in particular, as it goes over TCP.
fn first_message() -> Vec<u8> {
    let config = Config {
        keys: Arc::new(SigningKey::from_seed(&[1; 32])),
        network_key: None,
        groups: vec![Group::X25519MlKem768, Group::X25519],
        padding: Padding::Buckets,
        open: true,
        aes: false,
        max_inbound: 1,
        max_outbound: 1,
        upload_limit: None,
        queue_max: tarnet_core::link::limits::QUEUE_MAX,
    };
    let mut links = Links::new(config, Rng::from_seed([2; 32]));
    links.handle_dial(Now::ZERO, ConnId(1), Pin::None);
    let Some(Transmit::Handshake { frame, .. }) = links.poll_transmit(Now::ZERO) else { panic!("no first message") };
    let length = u16::try_from(frame.len()).expect("a handshake message is short");
    [&length.to_be_bytes()[..], &frame].concat()
}

/// What clients of the proxy say, whole conversations.
fn proxy_messages() -> Vec<Vec<u8>> {
    let name = b"\x05\x01\x00\x05\x01\x00\x03\x0ablog.alice\x00\x50GET / HTTP/1.0\r\n\r\n";
    let login = b"\x05\x01\x02\x01\x05alice\x01x\x05\x01\x00\x03\x0ablog.alice\x00\x50";
    vec![name.to_vec(), login.to_vec(), vec![5, 1, 0, 5, 1, 0, 1, 198, 18, 0, 9, 0, 80]]
}

/// What clients of the control socket say; nothing that changes what the test relies on.
fn control_messages() -> Vec<Vec<u8>> {
    let post = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    vec![
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /v1/dht/00ff HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        post("/v1/resolve", r#"{"name":"blog.alice","identity":null}"#),
        post("/v1/ping", r#"{"target":"blog.alice","count":1}"#),
        post("/v1/connect", r#"{"target":"blog.alice","port":"80","mode":"ro"}"#),
        post("/v1/listen", r#"{"port":"fuzz","mode":"ro"}"#),
    ]
}

/// Questions: `A` of two names, and one with EDNS.
fn questions() -> Vec<Vec<u8>> {
    let head = |extra| vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, extra];
    let blog = b"\x04blog\x05alice\x00\x00\x01\x00\x01";
    let edns = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";
    let reverse = b"\x019\x010\x0218\x03198\x07in-addr\x04arpa\x00\x00\x0c\x00\x01";
    vec![[&head(0), &blog[..]].concat(), [&head(1), &blog[..], edns].concat(), [&head(0), &reverse[..]].concat()]
}

/// A stream that an answer is waited for with patience.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Sends spoiled bytes over one stream after the other, some in pieces, some left open; gives how many.
fn attack(name: &'static str, samples: &[Vec<u8>], connect: impl Fn() -> std::io::Result<Box<dyn Stream>>) -> u64 {
    let (mut fuzz, mut open, mut sent) = (Fuzz::new(name, TARGETS), Vec::new(), 0);
    while fuzz.goes_on() {
        let sample = fuzz.pick(samples).clone();
        let bytes = if fuzz.below(8) == 0 { sample } else { fuzz.spoil(&sample) };
        // A daemon at its bound may refuse; it must come back.
        let Ok(mut stream) = connect() else { continue };
        let cut = fuzz.below(bytes.len() + 1);
        let whole = stream.write_all(&bytes[..cut]).and_then(|()| stream.write_all(&bytes[cut..]));
        sent += u64::from(whole.is_ok());
        let _ = stream.read(&mut [0; 4096]);
        if fuzz.below(3) == 0 {
            open.push(stream);
        }
        if open.len() > OPEN_MAX {
            open.swap_remove(fuzz.below(OPEN_MAX));
        }
    }
    sent
}

/// A TCP stream to a port of this machine.
fn tcp(port: u16) -> std::io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    Ok(Box::new(stream))
}

/// A stream to the control socket.
fn control(path: &Path) -> std::io::Result<Box<dyn Stream>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    Ok(Box::new(stream))
}

/// Asks spoiled questions over UDP.
fn attack_names() -> u64 {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.set_read_timeout(Some(ANSWER_TIME)).expect("a time limit");
    let (mut fuzz, samples, mut answered) = (Fuzz::new("port dns", TARGETS), questions(), 0);
    while fuzz.goes_on() {
        let sample = fuzz.pick(&samples).clone();
        let _ = socket.send_to(&fuzz.spoil(&sample), SocketAddr::new(RESPONDER, 53));
        answered += u64::from(socket.recv(&mut [0; 4096]).is_ok());
    }
    answered
}

/// Attacks every port of the machine that the calling thread is on.
fn attack_all(socket: PathBuf) -> Vec<(&'static str, JoinHandle<u64>)> {
    let start = |work: Box<dyn FnOnce() -> u64 + Send>| std::thread::spawn(work);
    vec![
        ("links", start(Box::new(|| attack("port tcp", &[first_message()], || tcp(7946))))),
        ("proxy", start(Box::new(|| attack("port socks", &proxy_messages(), || tcp(1080))))),
        ("names", start(Box::new(attack_names))),
        ("control", start(Box::new(move || attack("control socket", &control_messages(), || control(&socket))))),
    ]
}

#[test]
fn spoiled_bytes_to_every_port_disturb_neither_the_daemon_nor_its_traffic() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        assert_eq!(trio.page().out, Trio::PAGE);
        let (pid, before) = (trio.bob.pid(), trio.bob.memory("VmRSS"));
        let socket = trio.bob.path("tarnet.sock");
        let attackers = trio.bob.inside(move || attack_all(socket));
        let mut pages = 0;
        while attackers.iter().any(|(_, attacker)| !attacker.is_finished()) {
            let said = trio.page();
            assert_eq!(said.out, Trio::PAGE, "page {pages} under attack: {}", said.err);
            pages += 1;
        }
        for (port, attacker) in attackers {
            let reached = attacker.join().expect("an attacker that ends");
            println!("{port}: {reached} reached the daemon");
            assert!(reached > 10, "{port}: the attack was made");
        }
        println!("{pages} pages meanwhile");
        assert!(pages > 0);
        assert_eq!((trio.bob.pid(), trio.bob.links()), (pid, 1), "the same daemon, and its link");
        let grown = trio.bob.memory("VmRSS").saturating_sub(before);
        println!("grown by {} KiB", grown >> 10);
        assert!(grown < GROWTH_MAX, "grown by {grown} bytes");
        let log = std::fs::read_to_string(trio.bob.path("log")).expect("a log");
        assert!(!log.contains("panicked"), "something panicked:\n{log}");
        trio.bob.stop();
    });
}
