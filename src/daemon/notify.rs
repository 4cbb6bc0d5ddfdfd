//! What systemd and we tell each other: readiness, reloads, health, a line of status, the
//! watchdog, and descriptors that outlive us (`sd_notify(3)`, `sd_listen_fds(3)`,
//! `sd_watchdog_enabled(3)`). Where systemd did not start us, all of it does nothing.
//!
//! | file | what |
//! | --- | --- |
//! | `inherited` | the descriptors that an earlier run of ours parked |
//! | `pulse` | the task that proves to the watchdog that the node turns |

mod inherited;
mod pulse;

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::time::{ClockId, clock_gettime};

pub use inherited::Parked;
pub use pulse::pulse;

/// How long systemd may leave a message of ours unread; it reads at once or hangs.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long systemd may take until it has acted on everything sent before, milliseconds.
const BARRIER_MS: u16 = 2_000;
/// What systemd puts into our environment; it is meant for us alone, not for programs that we start.
const VARIABLES: [&str; 7] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID"];

/// What systemd told this process at its start.
#[derive(Default)]
pub struct Service {
    /// The way to tell it something.
    pub notifier: Notifier,
    /// It takes us for hung after this long without a sign of life.
    pub watchdog: Option<Duration>,
    /// What an earlier run of ours parked.
    pub parked: Vec<Parked>,
}

impl Service {
    /// Takes it out of the environment. Call it first of all, while there is one thread.
    #[must_use]
    pub fn take() -> Self {
        let [socket, watchdog_us, watchdog_pid, fds, names, pid, _] = VARIABLES.map(|name| std::env::var(name).ok());
        for name in VARIABLES {
            // SAFETY: no other thread runs yet that could read the environment.
            #[allow(unsafe_code)]
            unsafe {
                std::env::remove_var(name);
            }
        }
        let me = std::process::id();
        let for_us = |pid: &Option<String>| pid.as_ref().is_some_and(|pid| pid.parse() == Ok(me));
        let watchdog_us: Option<u64> = watchdog_us.and_then(|us| us.parse().ok()).filter(|us| *us > 0);
        let watched = watchdog_pid.is_none() || for_us(&watchdog_pid);
        Self {
            notifier: socket.map(|path| Notifier::open(&path)).unwrap_or_default(),
            watchdog: watchdog_us.filter(|_| watched).map(Duration::from_micros),
            parked: if for_us(&pid) { inherited::take(fds.as_deref(), names.as_deref()) } else { Vec::new() },
        }
    }
}

/// The way to systemd; clones share it. Without one nothing is sent.
#[derive(Clone, Default)]
pub struct Notifier(Option<Arc<(UnixDatagram, UnixAddr)>>);

impl Notifier {
    /// The way to the socket `path`, as `NOTIFY_SOCKET` has it: a path, or `@` and an abstract name.
    fn open(path: &str) -> Self {
        let opened = || -> io::Result<_> {
            let address = match path.strip_prefix('@') {
                Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
                None if path.starts_with('/') => UnixAddr::new(path)?,
                None => return Err(io::ErrorKind::Unsupported.into()),
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SEND_TIMEOUT))?;
            Ok((socket, address))
        };
        Self(opened().inspect_err(|error| tracing::warn!(%error, path, "systemd cannot be told")).ok().map(Arc::new))
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.0.is_some()
    }

    /// We serve, or serve again after a reload.
    pub fn ready(&self) {
        self.send("READY=1", &[]);
    }

    /// We read our settings again. The time tells systemd that it is an answer to its own signal.
    pub fn reloading(&self) {
        let now_us = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_micros());
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"), &[]);
    }

    /// We end.
    pub fn stopping(&self) {
        self.send("STOPPING=1", &[]);
    }

    /// How we are, for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)), &[]);
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.send("WATCHDOG=1", &[]);
    }

    /// Parks a descriptor under a name: the next run of ours gets it, however this one ends.
    pub fn park(&self, name: &str, descriptor: BorrowedFd<'_>) {
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), &[descriptor]);
    }

    /// Takes every parked descriptor of a name back, and waits until that is done.
    pub fn unpark(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[]);
        self.barrier();
    }

    /// Waits until systemd has acted on all that was sent: it closes the pipe that it is handed.
    fn barrier(&self) {
        if !self.is_listening() {
            return;
        }
        let Ok((reader, writer)) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) else { return };
        self.send("BARRIER=1", &[std::os::fd::AsFd::as_fd(&writer)]);
        drop::<OwnedFd>(writer);
        let mut ends = [PollFd::new(std::os::fd::AsFd::as_fd(&reader), PollFlags::empty())];
        if !matches!(poll(&mut ends, PollTimeout::from(BARRIER_MS)), Ok(1..)) {
            tracing::debug!("systemd did not confirm in time");
        }
    }

    /// Sends one message, with descriptors.
    fn send(&self, message: &str, descriptors: &[BorrowedFd<'_>]) {
        let Some((socket, address)) = self.0.as_deref() else { return };
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let text = [IoSlice::new(message.as_bytes())];
        if let Err(error) = sendmsg(socket.as_raw_fd(), &text, rights, MsgFlags::MSG_NOSIGNAL, Some(address)) {
            tracing::debug!(%error, "systemd was not told");
        }
    }
}

/// A text without what would end the field that holds it.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;
