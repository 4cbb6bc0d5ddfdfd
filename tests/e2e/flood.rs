//! A machine that sends a relay as much as half a core makes, of everything at once, while a download and a page that
//! it carries go on: its memory stays under its limit. `TARNET_E2E_FLOOD_SECONDS` says for how long (default 10);
//! `TARNET_E2E_MEASURE=1` asserts the download's rate.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nix::time::{ClockId, clock_gettime};
use tarnet_core::crypto::{PeerId, path_tag};
use tarnet_core::link::limits;
use tarnet_core::rng::Rng;
use tarnet_core::wire::kind;
use tarnet_core::wire::link::put_message;
use tarnet_core::wire::path::{Avoid, Label, Open, SetupId};
use tarnet_core::wire::routing::Routed;
use tarnet_core::wire::way::Way;

use super::lab::serve::{self, Body};
use super::lab::{Lab, Machine, Trio, in_lab, socks, until, wait_for};
use super::queues::strict;
use super::raw::{Raw, now, read_frame};

/// The relay's limit, MiB.
const MEMORY_MIB: u64 = 256;
/// What the relay may hold a minute after the flood, MiB.
const AFTER_MIB: u64 = 80;
/// Flooders with a link; each sends one kind of message, in turn of kinds. Two more open links and channels.
const FLOODERS: u8 = 6;
/// Processor cores that all flooders together may use.
const FLOODERS_CORES: f64 = 0.5;
/// How long a flooder may take to be a neighbour.
const LINK_MAX: Duration = Duration::from_secs(10);
/// Connections that a flooder keeps open.
const HELD_MAX: usize = 500;
/// The honest download's rate.
const HONEST_MBIT: u32 = 100;
/// How long a flooder waits for the relay to take more before it looks whether it is over.
const PATIENCE: Duration = Duration::from_millis(500);

impl Raw {
    /// Floods until told to stop or cut off; gives how many bytes went out.
    fn flood(self, what: u8, dest: PeerId, start: Instant, stop: &AtomicBool, sent: &AtomicU64) {
        let Self { stream, mut sealer, mut opener } = self;
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        let (mut reader, mut writer) = (stream.try_clone().expect("a socket can be cloned"), stream);
        // What the relay says is taken, so that it is not the flooder's fault that it piles up.
        std::thread::spawn(move || {
            while read_frame(&mut reader).is_ok_and(|frame| opener.open(BytesMut::from(&frame[..])).is_ok()) {}
        });
        let mut rng = Rng::from_seed([what; 32]);
        let mut rest: Vec<u8> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if rest.is_empty() {
                let frame = sealer.seal(now(start), batch(what, dest, &mut rng));
                let length = u16::try_from(frame.len()).expect("a frame").to_le_bytes();
                rest = [&length[..], &frame].concat();
            }
            match writer.write(&rest) {
                Ok(count) => {
                    rest.drain(..count);
                    sent.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            pace(start);
        }
    }
}

/// A batch full of one kind of message.
fn batch(what: u8, dest: PeerId, rng: &mut Rng) -> BytesMut {
    let mut batch = BytesMut::from(&[0][..]);
    loop {
        let (kind, body) = match what % 3 {
            0 => {
                let id: [u8; 16] = rng.public_array();
                let open = Open {
                    label: Label(rng.public_u32()),
                    tag: path_tag(&id, &dest),
                    id: SetupId(id),
                    proof_hash: [7; 32],
                    hop_limit: 100,
                    budget: 100,
                    patience_ms: 9000,
                    avoid: Avoid::default(),
                    way: Way::default(),
                    blob: vec![1; 4000].into(),
                };
                (kind::PATH_OPEN, open.encode())
            }
            1 => (kind::CELL, [&rng.public_u32().to_le_bytes()[..], &[0; 60]].concat().into()),
            _ => {
                let token = rng.public_array();
                let routed =
                    Routed { dest, way: Way::default(), hops_left: 20, token, payload: vec![3; 20_000].into() };
                (kind::ROUTED, routed.encode())
            }
        };
        if batch.len() + body.len() + 8 > limits::BATCH_LEN_MAX {
            return batch;
        }
        put_message(&mut batch, kind, &[], &body);
    }
}

/// Holds the thread that asks to its part of the processor time that all flooders may use together.
fn pace(start: Instant) {
    let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    let part = FLOODERS_CORES / f64::from(FLOODERS + 2);
    let _ = wait_for(PATIENCE, || (used <= start.elapsed().mul_f64(part)).then_some(()));
}

/// Connects again and again with bytes that are no handshake, and keeps the last connections open.
fn flood_links(address: SocketAddr, start: Instant, stop: &AtomicBool) {
    let mut held = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        pace(start);
        let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { continue };
        let _ = stream.write(&[0x5a; 64]);
        held.push_back(stream);
        if held.len() > HELD_MAX {
            held.pop_front();
        }
    }
}

/// Opens channel after channel to alice, and keeps the last ones open.
fn flood_opens(start: Instant, stop: &AtomicBool) {
    let mut held = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        pace(start);
        if let Ok(stream) = socks::connect(None, "blog.alice", 80) {
            held.push_back(stream);
        }
        if held.len() > HELD_MAX {
            held.pop_front();
        }
    }
}

/// The machines, and one more behind a cable of its own, which floods; what alice sends is 100 Mbit/s at most.
fn cabled(lab: &Lab) -> (Trio, Machine) {
    let trio = Trio::cabled(lab);
    lab.slow(&trio.alice, &trio.relay, HONEST_MBIT, "30ms");
    for machine in [&trio.relay, &trio.alice] {
        let peers = if machine.name() == "alice" { "[bootstrap]\npeers = [\"tcp://10.77.1.2:7946\"]\n" } else { "" };
        machine.config(&format!("[node]\nmemory_limit = \"{MEMORY_MIB}MiB\"\n{peers}"));
    }
    serve::web(&trio.alice, "127.0.0.1:4006", &[("/", Body::Stream(0x51ab, 1 << 40))]);
    trio.alice.service("big", "local = \"127.0.0.1:4006\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"big\"\n");
    let mallory = lab.machine("mallory");
    lab.cable(&mallory, &trio.relay, 3);
    mallory.config("[bootstrap]\nmdns = false\npeers = [\"tcp://10.77.3.2:7946\"]\n");
    trio.start();
    mallory.start();
    mallory.tn(&["tns", "set", "alice", "zone", &trio.service_id()]);
    mallory.tn(&["wait", "--name", "blog.alice", "--timeout", "20s"]);
    trio.bob.tn(&["wait", "--name", "big.alice", "--timeout", "20s"]);
    (trio, mallory)
}

/// Starts every flooder.
fn flooders(
    mallory: &Machine,
    dest: PeerId,
    start: Instant,
    stop: &Arc<AtomicBool>,
    sent: &Arc<AtomicU64>,
) -> Vec<JoinHandle<()>> {
    let address: SocketAddr = "10.77.3.2:7946".parse().expect("an address");
    let mut all: Vec<_> = (0..FLOODERS)
        .map(|what| {
            let (stop, sent) = (Arc::clone(stop), Arc::clone(sent));
            mallory.inside(move || {
                let raw = wait_for(LINK_MAX, || Raw::link(address, 100 + what, start)).expect("a link");
                std::thread::spawn(move || raw.flood(what, dest, start, &stop, &sent))
            })
        })
        .collect();
    let [links, opens] = [Arc::clone(stop), Arc::clone(stop)];
    all.push(mallory.inside(move || std::thread::spawn(move || flood_links(address, start, &links))));
    all.push(mallory.inside(move || std::thread::spawn(move || flood_opens(start, &opens))));
    all
}

/// Bob's download, as long as the stream lasts: counts what comes.
fn download(bob: &Machine) -> Arc<AtomicU64> {
    let address = *bob.lookup("big.alice").first().expect("an address");
    let mut stream = bob.inside(move || TcpStream::connect((address, 80)).expect("an answer"));
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it takes a request");
    let count = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            total.fetch_add(len as u64, Ordering::Relaxed);
        }
    });
    count
}

#[test]
fn floods_of_everything_stay_within_the_memory_limit_and_an_honest_download_goes_on() {
    let seconds = std::env::var("TARNET_E2E_FLOOD_SECONDS").map_or(10, |text| text.parse().expect("a number"));
    in_lab(|lab| {
        let (trio, mallory) = cabled(lab);
        assert_eq!(trio.page().out, Trio::PAGE);
        let dest: PeerId = trio.alice.status()["peer_id"].as_str().and_then(|id| id.parse().ok()).expect("a PeerId");
        let (pid, before) = (trio.relay.pid(), trio.relay.memory("VmRSS"));
        let count = download(&trio.bob);
        let got = || count.load(Ordering::Relaxed);
        until(20, "the download is under way", || got() > 20_000_000);
        let (begun, base) = (Instant::now(), got());
        until(20, "the download goes on alone", || begun.elapsed() > Duration::from_secs(5));
        let alone = (got() - base) as f64 / begun.elapsed().as_secs_f64();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (start, base) = (Instant::now(), got());
        let flooders = flooders(&mallory, dest, start, &stop, &sent);
        let mut pages = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            let said = trio.page();
            assert_eq!(said.out, Trio::PAGE, "page {pages} under the flood: {}", said.err);
            pages += 1;
        }
        let beside = (got() - base) as f64 / start.elapsed().as_secs_f64();
        let flooding = flooders.iter().filter(|flooder| !flooder.is_finished()).count();
        stop.store(true, Ordering::Relaxed);
        flooders.into_iter().for_each(|flooder| flooder.join().expect("a flooder that ends"));
        mallory.kill();
        let peaks = [&trio.relay, &trio.alice].map(|machine| machine.memory("VmHWM") >> 20);
        println!(
            "{pages} pages under {} MB of floods by {flooding} flooders; the honest download {:.1} Mbit/s, alone {:.1}; \
             the relay held {} MiB before, relay and alice {peaks:?} MiB at most",
            sent.load(Ordering::Relaxed) / 1_000_000,
            beside * 8.0 / 1e6,
            alone * 8.0 / 1e6,
            before >> 20,
        );
        assert!(pages > 0 && flooding > 0 && sent.load(Ordering::Relaxed) > 5_000_000, "the flood was made");
        assert!(peaks.iter().all(|peak| *peak < MEMORY_MIB), "{peaks:?} MiB");
        assert!(beside > alone * if strict() { 0.8 } else { 0.1 }, "the flood starves an honest download");
        assert_eq!(trio.relay.pid(), pid, "the same daemon");
        let rest = until(60, "the memory is given back", || trio.relay.memory("VmRSS") < AFTER_MIB << 20);
        println!("the relay was below {AFTER_MIB} MiB {rest:?} after the flood");
        let said = trio.page();
        assert_eq!(said.out, Trio::PAGE, "after the flood: {}", said.err);
    });
}
