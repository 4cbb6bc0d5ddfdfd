//! The daemon's side of the guard: what an earlier run left with it, and keeping it told.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::line::Line;
use super::{Greeting, Told};
use crate::dns::Responder;
use crate::tun::plan::Addresses;

/// Between two tries to reach the guard, at first and at last.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the guard may take to answer: it does so at once or is not there.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// A guard that was reached.
pub struct Reached {
    line: Line,
    device: Option<OwnedFd>,
}

impl Reached {
    /// Connects. From then on the guard leaves the device to us.
    ///
    /// # Errors
    /// There is no guard at `path`, or it does not answer.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let greeted = async {
            let mut line = Line::new(UnixStream::connect(path).await?);
            match line.next::<Greeting>().await? {
                Some((greeting, device)) => Ok(Self { line, device: device.filter(|_| greeting.held) }),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        timeout(ANSWER_TIME_MAX, greeted).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// The device that an earlier run left with it.
    pub fn take_device(&mut self) -> Option<OwnedFd> {
        self.device.take()
    }

    /// Has it let its device go, and waits until it has.
    pub async fn release(&mut self) {
        self.device = None;
        if let Err(error) = say(&mut self.line, &Told::default(), None).await {
            tracing::debug!(%error, "the guard was not told to let the device go");
        }
    }
}

/// Says something, with a descriptor or without, and waits for the answer: whether the guard holds a device.
async fn say(line: &mut Line, told: &Told, device: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let said = async {
        line.send(told, device).await?;
        match line.next::<Greeting>().await? {
            Some((greeting, _)) => Ok(greeting.held),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    timeout(ANSWER_TIME_MAX, said).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Keeps the guard told for as long as it lives.
pub struct Keeper {
    holds: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the guard is to hold.
pub struct Wanted {
    /// The device.
    pub device: OwnedFd,
    /// Our prefixes.
    pub addresses: Addresses,
    /// Our suffix.
    pub suffix: String,
    /// Who knows the petnames and the servers of the host.
    pub responder: Arc<Responder>,
}

impl Keeper {
    /// Starts with the guard that was reached at start, if one was; else it is looked for.
    #[must_use]
    pub fn start(path: PathBuf, reached: Option<Reached>, wanted: Wanted) -> Self {
        let holds = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(keep(path, reached, wanted, Arc::clone(&holds))).abort_handle();
        Self { holds, task }
    }

    /// What [`Self::holds`] says, for others to look at.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.holds)
    }

    /// Whether the guard has the device, so that names stay unreachable, and not somebody else's, without us.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }
}

/// Tells it, and again whenever something has changed or it was away.
async fn keep(path: PathBuf, mut reached: Option<Reached>, wanted: Wanted, holds: Arc<AtomicBool>) {
    let mut delay = RETRY.0;
    loop {
        let line = match reached.take() {
            Some(reached) => Ok(reached.line),
            None => Reached::connect(&path).await.map(|reached| reached.line),
        };
        let error = match line {
            Ok(line) => tell(line, &wanted, &holds, &mut delay).await,
            Err(error) => error,
        };
        if holds.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "the guard is away: it is looked for");
        } else {
            tracing::debug!(%error, "there is no guard");
        }
        sleep(delay).await;
        delay = (delay * 2).min(RETRY.1);
    }
}

/// Tells one guard until it is gone.
async fn tell(mut line: Line, wanted: &Wanted, holds: &AtomicBool, delay: &mut Duration) -> io::Error {
    let mut changes = wanted.responder.changes();
    let mut last = None;
    loop {
        changes.mark_seen();
        let now = told(wanted).await.unwrap_or_else(|| last.clone().unwrap_or_else(|| bare(wanted)));
        if last.as_ref() != Some(&now) {
            let device = last.is_none().then(|| wanted.device.as_fd());
            match say(&mut line, &now, device).await {
                Ok(held) => holds.store(held, Ordering::Relaxed),
                Err(error) => return error,
            }
            *delay = RETRY.0;
            last = Some(now);
        }
        tokio::select! {
            () = changes.changed() => {}
            gone = line.next::<Greeting>() => return gone.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What the guard is told now; `None` while the zone cannot be looked into.
async fn told(wanted: &Wanted) -> Option<Told> {
    let petnames = wanted.responder.petnames().await?.iter().cloned().collect();
    let servers = wanted.responder.forwards_to();
    Some(Told { petnames, servers, ..bare(wanted) })
}

/// What is always known.
fn bare(wanted: &Wanted) -> Told {
    let (ipv4, ipv6) = (wanted.addresses.ipv4.to_string(), wanted.addresses.ipv6.to_string());
    Told { ipv4, ipv6, suffix: wanted.suffix.clone(), ..Told::default() }
}
