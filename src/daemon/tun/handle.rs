//! What the rest of the daemon holds of the running TUN.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::{AbortHandle, JoinHandle};

use super::book::AddressBook;
use super::overlap::Overlaps;
use super::{Counters, Shared};
use crate::dns::{DnsHandle, Responder};

/// The running TUN.
pub struct TunHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) name: String,
    pub(super) ipv6: bool,
    pub(super) dns: DnsHandle,
    pub(super) overlaps: Overlaps,
    /// Whether the task that reads the device lives.
    pub(super) alive: AbortHandle,
    /// The task that watches the host's routes, and writes down which addresses are in use.
    pub(super) watcher: AbortHandle,
    pub(super) task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Drop for TunHandle {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl TunHandle {
    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first address of the IPv4 prefix, which is the link's own.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.shared.book.addresses().shown().0
    }

    /// The first address of the IPv6 prefix; `None` where the host has IPv6 switched off.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.ipv6.then(|| self.shared.book.addresses().shown().1)
    }

    /// The MTU in use, bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.shared.mtu
    }

    /// `up`; `up, overlapped by ROUTES` while routes of the host take traffic for names away; `down` once
    /// the device is gone.
    #[must_use]
    pub fn state(&self) -> String {
        if self.alive.is_finished() {
            return "down".into();
        }
        self.overlaps.line().map_or_else(|| "up".into(), |line| format!("up, {line}"))
    }

    /// The next run of the daemon follows at once, or the guard has the device: at stop it stays where it is
    /// kept, and the routes stay under it. Call it before the stop.
    pub fn keep(&self) {
        self.shared.kept.store(true, Ordering::Relaxed);
    }

    /// Another descriptor of the device, for whoever is to hold it beside us.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.shared.device.descriptor().try_clone_to_owned()
    }

    /// TCP and UDP flows there are.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.shared.tcp.len() + self.shared.udp.len()
    }

    /// Packets of ours that the kernel did not take.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.shared.device.failed()
    }

    /// What was dropped.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The DNS responder.
    #[must_use]
    pub fn dns(&self) -> &DnsHandle {
        &self.dns
    }

    /// What answers questions.
    #[must_use]
    pub fn responder(&self) -> &Arc<Responder> {
        &self.shared.responder
    }

    /// Names and their addresses.
    #[must_use]
    pub fn book(&self) -> &AddressBook {
        &self.shared.book
    }

    /// Waits until the TUN has stopped, which `shutdown` asks for. The `unreachable` routes are gone then.
    pub async fn stopped(&self) {
        let Some(task) = self.task.lock().await.take() else { return };
        if task.await.is_err() {
            tracing::error!("the TUN task panicked");
        }
    }
}
