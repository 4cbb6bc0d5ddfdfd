//! A link without a node behind it: for neighbours that say what no node says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use tarnet_core::crypto::{Group, SigningKey};
use tarnet_core::link::{Config, ConnId, Links, Opener, Padding, Pin, Sealer, Transmit, limits};
use tarnet_core::rng::Rng;
use tarnet_core::time::Now;

/// An authentic link over TCP, without a node behind it.
pub struct Raw {
    /// The connection.
    pub stream: TcpStream,
    /// Seals what goes out.
    pub sealer: Sealer,
    /// Opens what comes.
    pub opener: Opener,
}

/// A clock for keys.
pub fn now(start: Instant) -> Now {
    Now::ZERO.after(start.elapsed())
}

/// Writes a frame with its length.
pub fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(frame.len()).expect("a frame").to_le_bytes();
    stream.write_all(&[&length[..], frame].concat())
}

/// Reads a frame.
pub fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; usize::from(u16::from_le_bytes(length))];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

impl Raw {
    /// The keys of a seed's flooder.
    pub fn keys(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    /// Links to an address with a key of the seed's. None where the relay has too many from here that are not links
    /// yet, as flooders are that have said nothing.
    pub fn link(address: SocketAddr, seed: u8, start: Instant) -> Option<Self> {
        let config = Config {
            keys: Arc::new(Self::keys(seed)),
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
                    Transmit::Handshake { frame, .. } => write_frame(&mut stream, &frame).ok()?,
                    Transmit::Established { sealer, opener, .. } => return Some(Self { stream, sealer, opener }),
                    _ => panic!("the handshake failed"),
                }
            }
            let frame = read_frame(&mut stream).ok()?;
            links.handle_frame(now(start), conn, &frame);
        }
    }
}
