//! Authentic neighbours that send a relay as much as it takes, of everything at once, while the page that
//! it carries is fetched again and again: its memory stays under its limit. `TARNET_E2E_FLOOD_SECONDS` says
//! for how long (default 10).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tarnet_core::crypto::{Group, PeerId, SigningKey, path_tag};
use tarnet_core::link::{Config, ConnId, Links, Opener, Padding, Pin, Sealer, Transmit, limits};
use tarnet_core::rng::Rng;
use tarnet_core::time::Now;
use tarnet_core::wire::kind;
use tarnet_core::wire::link::put_message;
use tarnet_core::wire::path::{Avoid, Label, Open, SetupId};
use tarnet_core::wire::routing::Routed;
use tarnet_core::wire::way::Way;

use super::lab::{Trio, in_lab};

/// The relay's limit, MiB.
const MEMORY_MIB: u64 = 256;
/// Flooders; each sends one kind of message, in turn of kinds.
const FLOODERS: u8 = 6;
/// How long a flooder waits for the relay to take more before it looks whether it is over.
const PATIENCE: Duration = Duration::from_millis(500);

/// An authentic link over TCP, without a node behind it.
struct Raw {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
}

/// A clock for keys.
fn now(start: Instant) -> Now {
    Now::ZERO.after(start.elapsed())
}

/// Writes a frame with its length.
fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(frame.len()).expect("a frame").to_le_bytes();
    stream.write_all(&[&length[..], frame].concat())
}

/// Reads a frame.
fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; usize::from(u16::from_le_bytes(length))];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

impl Raw {
    /// Links to an address with a key of the seed's.
    fn link(address: SocketAddr, seed: u8, start: Instant) -> Self {
        let config = Config {
            keys: Arc::new(SigningKey::from_seed(&[seed; 32])),
            network_key: None,
            groups: vec![Group::X25519MlKem768, Group::X25519],
            padding: Padding::None,
            open: true,
            aes: true,
            max_inbound: 1,
            max_outbound: 1,
            upload_limit: None,
            queue_max: limits::QUEUE_MAX,
        };
        let (mut links, conn) = (Links::new(config, Rng::from_seed([seed; 32])), ConnId(1));
        let mut stream = TcpStream::connect(address).expect("the relay listens");
        links.handle_dial(now(start), conn, Pin::None);
        loop {
            while let Some(transmit) = links.poll_transmit(now(start)) {
                match transmit {
                    Transmit::Handshake { frame, .. } => write_frame(&mut stream, &frame).expect("a connection"),
                    Transmit::Established { sealer, opener, .. } => return Self { stream, sealer, opener },
                    _ => panic!("the handshake failed"),
                }
            }
            let frame = read_frame(&mut stream).expect("the relay answers");
            links.handle_frame(now(start), conn, &frame);
        }
    }

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

#[test]
fn floods_of_everything_stay_within_the_memory_limit_and_the_page_comes() {
    let seconds = std::env::var("TARNET_E2E_FLOOD_SECONDS").map_or(10, |text| text.parse().expect("a number"));
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        trio.relay.config(&format!("[node]\nmemory_limit = \"{MEMORY_MIB}MiB\"\n"));
        trio.start();
        assert_eq!(trio.page().out, Trio::PAGE);
        let dest: PeerId = trio.alice.status()["peer_id"].as_str().and_then(|id| id.parse().ok()).expect("a PeerId");
        let (pid, before) = (trio.relay.pid(), trio.relay.memory("VmRSS"));
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let flooders: Vec<_> = (0..FLOODERS)
            .map(|what| {
                let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
                trio.bob.inside(move || {
                    let raw = Raw::link("10.77.2.1:7946".parse().expect("an address"), 100 + what, start);
                    std::thread::spawn(move || raw.flood(what, dest, start, &stop, &sent))
                })
            })
            .collect();
        let mut pages = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            let said = trio.page();
            assert_eq!(said.out, Trio::PAGE, "page {pages} under the flood: {}", said.err);
            pages += 1;
        }
        let flooding = flooders.iter().filter(|flooder| !flooder.is_finished()).count();
        stop.store(true, Ordering::Relaxed);
        flooders.into_iter().for_each(|flooder| flooder.join().expect("a flooder that ends"));
        let peak = trio.relay.memory("VmHWM");
        println!(
            "{pages} pages under {} MB of floods by {flooding} links; the relay held {} MiB before and {} MiB at most",
            sent.load(Ordering::Relaxed) / 1_000_000,
            before >> 20,
            peak >> 20
        );
        assert!(pages > 0 && flooding > 0 && sent.load(Ordering::Relaxed) > 10_000_000, "the flood was made");
        assert!(peak < MEMORY_MIB << 20, "the relay held {peak} bytes");
        assert_eq!(trio.relay.pid(), pid, "the same daemon");
        let said = trio.page();
        assert_eq!(said.out, Trio::PAGE, "after the flood: {}", said.err);
    });
}
