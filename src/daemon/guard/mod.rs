//! The guard: a second, small process that keeps our names and addresses in the house while
//! the daemon is away. It holds the TUN's descriptor beside the daemon. As long as the daemon
//! lives it does nothing. When the daemon has stopped or died, it reads the device itself:
//! whoever connects is told that nothing is reachable, whoever asks for a name of ours hears
//! SERVFAIL, and neither the question nor the packet goes to anybody else. Names that are not
//! ours are forwarded where every question of the host comes to us.
//!
//! | file | what |
//! | --- | --- |
//! | `held` | what is answered to a packet, a pure function |
//! | `line` | messages with a descriptor on a socket |
//! | `keeper` | the daemon's side |
//!
//! Beside its own socket it has one like the daemon's resolve socket, where a name of ours is
//! always answered by "not now": the name service module asks there when the daemon has none.
//!
//! The daemon's connection is its sign of life. One daemon at a time: a new one takes the
//! place of the last. Only the guard's own user and root may connect.
//!
//! Bounds: one device, one connection; `PETNAMES_MAX` names; forwarded questions by the forwarder's.

mod held;
mod keeper;
mod line;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use keeper::{Keeper, Reached, Wanted};

use crate::dns::forward::Forwarder;
use crate::dns::{Transport, names};
use crate::notify::Notifier;
use crate::resolve::ResolveSocket;
use crate::tun::plan::Addresses;
use crate::tun::{Device, packet};
use held::{Held, Known, Reply};
use line::Line;

/// Petnames that the guard keeps; beyond them it takes a name for somebody else's, which matters only where it
/// forwards. More than a zone may have.
const PETNAMES_MAX: usize = 65_536;

/// What the guard says to whoever connects, with the descriptor, and after each message, without.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    /// It holds a device.
    held: bool,
}

/// What the daemon says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// Our IPv4 prefix; empty: whatever is held is to be let go.
    ipv4: String,
    /// Our IPv6 prefix.
    ipv6: String,
    /// The suffix under which every name works.
    suffix: String,
    /// The names of the acting identity's zone.
    petnames: BTreeSet<String>,
    /// Who is asked for other names, where every question of the host comes to us.
    servers: Vec<SocketAddr>,
}

impl Told {
    /// The addresses; `None` when the device is to be let go, or the text is none of ours.
    fn addresses(&self) -> Option<Addresses> {
        Addresses::parse(&self.ipv4, &self.ipv6).ok()
    }
}

/// Serves as the guard at `path` until the process is ended.
///
/// # Errors
/// The socket cannot be bound.
pub async fn serve(path: &Path, notifier: &Notifier) -> io::Result<()> {
    let listener = bind(path)?;
    let known = watch::Sender::new(None::<Arc<Known>>);
    let socket = ResolveSocket::bind(&path.with_file_name("resolve.sock"))?;
    let (_stop, stopped) = watch::channel(false);
    let names = known.subscribe();
    let line_for = move |_: u32, line: String| {
        let known = names.borrow().clone();
        async move { known.map(|known| known.line(&line).to_owned()) }
    };
    tokio::spawn(socket.serve(line_for, stopped));
    notifier.ready();
    let mut held = None;
    loop {
        notifier.status(if held.is_some() { "the daemon is away: names are unreachable" } else { "nothing to hold" });
        let mut connection = tokio::select! {
            connection = next(&listener) => Some(connection),
            error = answer(&mut held) => {
                tracing::warn!(%error, "the device is gone: nothing is held any more");
                held = None;
                None
            }
        };
        while let Some(line) = connection {
            notifier.status("the daemon runs");
            connection = tokio::select! {
                newer = next(&listener) => Some(newer),
                () = listen(line, &mut held, &known) => None,
            };
        }
    }
}

/// A socket that only our own user can open.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The next connection of somebody who may.
async fn next(listener: &UnixListener) -> Line {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if may(&stream) => return Line::new(stream),
            Ok(_) => tracing::warn!("a stranger was turned away"),
            // Out of descriptors, for one: it must not spin.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(keeper::RETRY.0).await;
            }
        }
    }
}

/// Whether the far end is our own user or root.
fn may(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Greets a daemon and takes what it says, until it is gone.
async fn listen(mut line: Line, held: &mut Option<Held>, known: &watch::Sender<Option<Arc<Known>>>) {
    let device = held.as_ref().map(|held| held.device.descriptor());
    if let Err(error) = line.send(&Greeting { held: device.is_some() }, device).await {
        tracing::debug!(%error, "the daemon was not greeted");
        return;
    }
    loop {
        let (told, descriptor) = match line.next::<Told>().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the daemon is not understood");
                return;
            }
        };
        if let Err(error) = take(held, told, descriptor) {
            tracing::warn!(%error, "what the daemon hands over cannot be held");
        }
        known.send_replace(held.as_ref().map(|held| Arc::clone(&held.known)));
        if line.send(&Greeting { held: held.is_some() }, None).await.is_err() {
            return;
        }
    }
}

/// Holds what the daemon says; a device that comes with it takes the place of the last.
fn take(held: &mut Option<Held>, told: Told, descriptor: Option<OwnedFd>) -> io::Result<()> {
    let Some(addresses) = told.addresses() else {
        *held = None;
        return Ok(());
    };
    let device = match (descriptor, held.take()) {
        (Some(descriptor), _) => Device::of(descriptor)?,
        (None, Some(before)) => before.device,
        (None, None) => return Ok(()),
    };
    let forwarder = (!told.servers.is_empty()).then(|| Arc::new(Forwarder::to(&told.servers)));
    let petnames = told.petnames.into_iter().take(PETNAMES_MAX).collect();
    let known = Known { addresses, suffix: names::suffix_labels(&told.suffix), petnames };
    *held = Some(Held { device, known: Arc::new(known), forwarder });
    Ok(())
}

/// Answers what comes to the device until it fails. For ever where none is held.
async fn answer(held: &mut Option<Held>) -> io::Error {
    let Some(held) = held else { return std::future::pending().await };
    let mut buffer = vec![0; held::PACKET_BYTES_MAX];
    let mut asked: JoinSet<Option<Vec<u8>>> = JoinSet::new();
    loop {
        let length = tokio::select! {
            received = held.device.recv(&mut buffer) => match received {
                Ok(length) => length,
                Err(error) => return error,
            },
            Some(answered) = asked.join_next() => {
                if let Ok(Some(packet)) = answered {
                    held.device.send(packet.as_slice());
                }
                continue;
            }
        };
        match held.known.reply(held.forwarder.is_some(), buffer.get(..length).unwrap_or_default()) {
            Reply::Nothing => {}
            Reply::Packet(packet) => held.device.send(&packet),
            Reply::Ask(question) => {
                let Some(forwarder) = held.forwarder.clone() else { continue };
                // As many as the forwarder takes at once; it refuses the rest at once.
                asked.spawn(async move {
                    let answer = forwarder.ask(&question.message, Transport::Udp).await?;
                    let mut out = Vec::new();
                    packet::udp(&mut out, question.to, question.from, &answer)?;
                    Some(out)
                });
            }
        }
        tokio::task::yield_now().await;
    }
}
