//! The modes that live in files: networkmanager, resolvconf, direct. They are applied, looked
//! after, and taken back.
//!
//! Where we become the host's resolver, the servers that it had are learned first, so that no
//! question of the host is lost. Another that rewrites the file is answered by writing it again,
//! with what it said as the servers to forward to: it may be a lease that was renewed. After
//! [`FIGHTS_MAX`] times within [`FIGHT_TIME`] the file is left to the other, and the status says so.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::board::Board;
use super::detect::Mode;
use super::direct::Tree;
use super::facts;
use super::resolved::Petnames;
use super::root::{Hand, PETNAMES_MAX, RootError, Want};
use super::{Wiring, Zone};
use crate::dns::Responder;
use crate::dns::forward::Forwarder;

/// Rewrites by others after which the file is theirs (as Tailscale does; more would be a war on the disk).
const FIGHTS_MAX: u32 = 10;
/// The time in which they count. Leases are renewed, and a file rewritten, every few hours.
const FIGHT_TIME: Duration = Duration::from_secs(600);
/// Between two looks without a reason.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two tries after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a writer is given to finish: it writes in place more often than not.
const SETTLE: Duration = Duration::from_millis(100);
/// The resolver file, its folder and its name.
const FILE: &str = "etc/resolv.conf";
const FOLDER: &str = "etc";
const NAME: &str = "resolv.conf";
/// How often the watching thread looks whether it is still wanted, milliseconds.
const ALIVE_EVERY_MS: u16 = 1_000;

/// What the modes have in common.
pub struct Files<'a> {
    /// Who does root's work.
    pub hand: &'a Hand,
    /// Link, servers, suffix.
    pub wiring: &'a Wiring,
    /// Answers, and forwards where we are the host's resolver.
    pub responder: &'a Responder,
    /// What is shown.
    pub board: &'a Board,
}

/// Why looking after it ended.
enum Ended {
    /// The daemon stops.
    Stopped,
    /// Another has the file.
    GivenUp,
}

impl Files<'_> {
    /// Applies the mode and looks after it until `stop`, then takes it back.
    pub async fn run(&self, mode: Mode, mut petnames: Petnames, mut stop: watch::Receiver<bool>) {
        if let Ended::GivenUp = self.keep(mode, &mut petnames, &mut stop).await {
            self.board.state(&format!(
                "given up: another program rewrote the host's resolver file {FIGHTS_MAX} times in {} s, and has it now",
                FIGHT_TIME.as_secs()
            ));
        }
        // Also after giving up: nothing of ours is to stay behind, and the other's file is not touched.
        if let Err(error) = self.hand.carry_out(&Want::off()).await {
            tracing::warn!(%error, "the host's resolver was not restored");
        }
        // What was on its way keeps its forwarder until programs have read the file again; then nobody asks us.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Until it is told to stop, or has lost.
    async fn keep(&self, mode: Mode, petnames: &mut Petnames, stop: &mut watch::Receiver<bool>) -> Ended {
        let mut changes = changes(&Tree::default());
        let mut fights = Vec::new();
        loop {
            let zone = petnames.borrow_and_update().clone();
            let wait = match self.apply(mode, &zone).await {
                Ok(()) => {
                    self.board.up();
                    LOOK_EVERY
                }
                Err(error) => {
                    self.board.state(&format!("failed: {error}; it is tried again"));
                    RETRY_AFTER
                }
            };
            self.board.publish(zone.changes);
            let want = self.want(mode, &zone);
            loop {
                let look = tokio::time::sleep(wait);
                tokio::select! {
                    _ = async { stop.wait_for(|stop| *stop).await.is_ok() } => return Ended::Stopped,
                    () = changed(petnames) => break,
                    () = next(&mut changes) => {}
                    () = look => break,
                }
                tokio::time::sleep(SETTLE).await;
                if !want.is_done(&Tree::default()) {
                    fights.retain(|at: &Instant| at.elapsed() < FIGHT_TIME);
                    fights.push(Instant::now());
                    let count = u32::try_from(fights.len()).unwrap_or(u32::MAX);
                    self.board.note("rewritten-by-others", format!("{count} times in {} s", FIGHT_TIME.as_secs()));
                    if count >= FIGHTS_MAX {
                        return Ended::GivenUp;
                    }
                    break;
                }
            }
        }
    }

    /// What root is to bring about.
    fn want(&self, mode: Mode, zone: &Zone) -> Want {
        let petnames = match mode {
            Mode::NetworkManager => zone.petnames.iter().take(PETNAMES_MAX).cloned().collect(),
            _ => Vec::new(),
        };
        Want { mode, wiring: Wiring { index: 0, ..self.wiring.clone() }, petnames }
    }

    /// Learns whom to forward to, then has it brought about.
    async fn apply(&self, mode: Mode, zone: &Arc<Zone>) -> Result<(), RootError> {
        if mode.is_whole_host() {
            let before = facts::before(&Tree::default(), mode)?;
            let mut servers = before.nameservers;
            // Ourselves would be a loop without an end.
            servers.retain(|server| !self.wiring.servers.contains(server));
            servers.truncate(super::file::NAMESERVERS_MAX);
            let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
            self.board.note("forwarding-to", if shown.is_empty() { "nobody".into() } else { shown.join(" ") });
            self.responder.forward(Some(Forwarder::new(&servers, mode == Mode::Direct)));
        }
        self.hand.carry_out(&self.want(mode, zone)).await
    }
}

/// Waits for another zone; for ever where the daemon is about to stop and reads it no more.
async fn changed(petnames: &mut Petnames) {
    if petnames.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Changes to the resolver file, in its folder and in the one that it points to. Ends with the receiver.
fn changes(tree: &Tree) -> mpsc::Receiver<()> {
    let (changed, changes) = mpsc::channel(1);
    let folders = [Some(tree.path(FOLDER)), std::fs::canonicalize(tree.path(FILE)).ok().and_then(parent)];
    let watch = move || {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        for folder in folders.iter().flatten() {
            inotify.add_watch(folder, flags)?;
        }
        while !changed.is_closed() {
            poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], ALIVE_EVERY_MS)?;
            let events = match inotify.read_events() {
                Err(Errno::EAGAIN) => continue,
                other => other?,
            };
            if events.iter().any(|event| event.name.as_ref().is_some_and(|name| name == NAME)) {
                // One that waits already says the same.
                let _ = changed.try_send(());
            }
        }
        Ok::<(), Errno>(())
    };
    // A thread of its own: the kernel's queue is read by a blocking call, and rarely.
    let spawned = std::thread::Builder::new().name("resolv.conf".into()).spawn(move || {
        if let Err(error) = watch() {
            tracing::warn!(%error, "the resolver file is not watched, only looked at every minute");
        }
    });
    drop(spawned);
    changes
}

/// The folder of a path.
fn parent(path: PathBuf) -> Option<PathBuf> {
    path.parent().map(Path::to_owned)
}

/// The next change; never, where none can be seen.
async fn next(changes: &mut mpsc::Receiver<()>) {
    if changes.recv().await.is_none() {
        std::future::pending().await
    }
}
