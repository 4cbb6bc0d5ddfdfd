//! Bringing the TUN up: the address plan, the routes, the device (a new one, or the one that
//! an earlier run parked with systemd), DNS, the tasks. And taking down what a killed run left.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Semaphore, watch};

use super::acting::Acting;
use super::book::AddressBook;
use super::device::Device;
use super::handle::TunHandle;
use super::overlap::{self, Overlaps, Taken};
use super::plan::{AddressPlan, Addresses};
use super::routes::Routes;
use super::{Counters, Shared, TunConfig, TunError, echo, gate, limits, run, tcp, udp};
use crate::dns::{DnsConfig, DnsHandle, Responder};
use crate::guard::Reached;
use crate::handle::NodeHandle;
use crate::notify::{Notifier, Parked};

/// Folder of our files in the daemon's state folder.
const STATE_FOLDER: &str = "tun";
/// The name that the device's descriptor is parked under.
const PARKED_NAME: &str = "tun0";

/// Where the device outlives the daemon.
#[derive(Default)]
pub struct Parking {
    /// The way to systemd, which keeps descriptors.
    pub notifier: Notifier,
    /// What it has kept for us.
    pub parked: Vec<Parked>,
    /// The guard, which keeps the device over a stop, too.
    pub guard: Option<Reached>,
}

impl Parking {
    /// The descriptors of devices that an earlier run parked; whatever else there was is closed. What the guard
    /// has is the same device as systemd's, or all there is.
    fn devices(&mut self) -> Vec<OwnedFd> {
        let parked = std::mem::take(&mut self.parked);
        let (ours, others): (Vec<Parked>, _) = parked.into_iter().partition(|parked| parked.name == PARKED_NAME);
        for other in others {
            tracing::warn!(name = other.name, "systemd keeps a descriptor that is not ours: closed");
            self.notifier.unpark(&other.name);
        }
        let guarded = self.guard.as_mut().and_then(Reached::take_device);
        if ours.is_empty() {
            guarded.into_iter().collect()
        } else {
            ours.into_iter().map(|parked| parked.descriptor).collect()
        }
    }

    /// Lets a parked device go: there is to be no TUN. It vanishes, and its routes and DNS settings with it.
    pub async fn release(mut self) {
        if !self.devices().is_empty() {
            self.let_go().await;
        }
    }

    /// Takes the device back from wherever it is kept, so that its name is free.
    async fn let_go(&mut self) {
        unpark(&self.notifier).await;
        if let Some(guard) = &mut self.guard {
            guard.release().await;
        }
    }
}

/// Brings the TUN and its DNS responder up. `shutdown` becoming true ends them.
///
/// # Errors
/// See [`TunError`]; [`TunError::is_missing_capability`] tells the one that `auto` forgives.
pub async fn start(
    config: TunConfig,
    node: NodeHandle,
    dns: DnsConfig,
    state_dir: &Path,
    parking: &mut Parking,
    shutdown: watch::Receiver<bool>,
) -> Result<TunHandle, TunError> {
    let mut acting = Acting::new(&config.identity, &config.users, &config.forwarded)?;
    let routes = Arc::new(Routes::open()?);
    let folder = state_folder(state_dir)?;
    let plan = choose_plan(&config, &folder, &routes).await?;
    let addresses = plan.addresses()?;
    routes.block(&addresses).await?;
    let book = AddressBook::open(&folder, &plan)?;
    let book = if config.users.is_empty() { book } else { book.keeping_apart() };
    let device = open_device(&config, &addresses, parking).await?;
    let mtu = routes.size_link(&config.name, config.mtu).await?;
    let ipv6 = routes.settle_link(&config.name, &addresses).await?;
    if acting.takes_forwarded() {
        gate::open(&routes, &addresses).await;
    } else if gate::close(&routes, &addresses, ipv6).await {
        acting.set_gated();
    }
    let responder = Arc::new(Responder::new(node.clone(), book.clone(), &config.identity, &dns, ipv6));
    let dns = DnsHandle::listen(&dns, &responder, shutdown.clone())
        .map_err(|(address, error)| TunError::DnsListen(address, error))?;
    let shared = Arc::new(Shared {
        node,
        device,
        mtu,
        book,
        acting,
        responder,
        dns_pending: Arc::new(Semaphore::new(limits::DNS_PENDING_MAX)),
        tcp: tcp::Flows::default(),
        udp: udp::Flows::default(),
        echoes: echo::Echoes::default(),
        counters: Counters::default(),
        stopping: shutdown,
        kept: AtomicBool::new(false),
    });
    let overlaps = Overlaps::default();
    let watch = overlap::watch(overlaps.clone(), Arc::clone(&routes), config.name.clone(), addresses);
    let book = shared.book.clone();
    let watcher = tokio::spawn(async move { tokio::join!(watch, book.keep()) }).abort_handle();
    let task = tokio::spawn(run(Arc::clone(&shared), routes, parking.notifier.clone()));
    let (alive, task) = (task.abort_handle(), tokio::sync::Mutex::new(Some(task)));
    Ok(TunHandle { shared, name: config.name, ipv6, dns, overlaps, alive, watcher, task })
}

/// The device that an earlier run parked, if it is what we want; else a new one, which is parked.
async fn open_device(config: &TunConfig, addresses: &Addresses, parking: &mut Parking) -> Result<Device, TunError> {
    let parked = parking.devices();
    let several = parked.len() > 1;
    let mut adopted = None;
    let any = !parked.is_empty();
    for descriptor in parked {
        if adopted.is_none() {
            match Device::adopt(descriptor, &config.name) {
                Ok(device) => adopted = Some(device),
                Err(error) => tracing::warn!(%error, "a parked TUN device is not used"),
            }
        }
    }
    match adopted {
        Some(device) if !several => {
            tracing::info!(name = config.name, "the TUN device of the run before goes on");
            parking.notifier.park(PARKED_NAME, device.descriptor());
            return Ok(device);
        }
        _ => {}
    }
    // The name is free only once everybody has let his copy go.
    if any {
        parking.let_go().await;
    }
    let device = match adopted {
        Some(device) => device,
        None => Device::open(&config.name, addresses)?,
    };
    parking.notifier.park(PARKED_NAME, device.descriptor());
    Ok(device)
}

/// Takes the device back from where it is parked.
async fn unpark(notifier: &Notifier) {
    let notifier = notifier.clone();
    if tokio::task::spawn_blocking(move || notifier.unpark(PARKED_NAME)).await.is_err() {
        tracing::debug!("systemd was not asked to let the TUN device go");
    }
}

/// A clean stop: routes, rules and the parked descriptor go.
pub(super) async fn release(routes: &Routes, addresses: &Addresses, notifier: &Notifier) {
    gate::open(routes, addresses).await;
    routes.unblock(addresses).await;
    unpark(notifier).await;
}

/// Undoes what a run that was killed left behind: rules and `unreachable` routes of its plan.
/// Harmless where there is nothing. While the device `name` is there a daemon runs, or systemd
/// keeps the device for the next one: then all of it stays.
///
/// # Errors
/// Netlink fails.
pub async fn cleanup(state_dir: &Path, name: &str) -> Result<(), TunError> {
    if let Some(plan) = AddressPlan::load(&state_dir.join(STATE_FOLDER)) {
        let (routes, addresses) = (Routes::open()?, plan.addresses()?);
        if routes.exists(name).await? {
            tracing::info!(name, "the TUN device is in use: nothing is cleaned up");
            return Ok(());
        }
        gate::open(&routes, &addresses).await;
        routes.unblock(&addresses).await;
    }
    Ok(())
}

/// The addresses of the plan of an earlier run, if there was one.
#[must_use]
pub fn planned(state_dir: &Path) -> Option<Addresses> {
    AddressPlan::load(&state_dir.join(STATE_FOLDER))?.addresses().ok()
}

/// Our state folder, made if it is missing; others may not read it.
fn state_folder(state_dir: &Path) -> Result<PathBuf, TunError> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = state_dir.join(STATE_FOLDER);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(TunError::State)?;
    Ok(folder)
}

/// The plan of an earlier run, or a new one if there is none or the configuration has changed.
async fn choose_plan(config: &TunConfig, folder: &Path, routes: &Routes) -> Result<AddressPlan, TunError> {
    if let Some(plan) = AddressPlan::load(folder) {
        if plan.serves(&config.ipv4, &config.ipv6) {
            // A route that overlaps it now is warned of, but names keep their addresses.
            return Ok(plan);
        }
        let addresses = plan.addresses()?;
        gate::open(routes, &addresses).await;
        routes.unblock(&addresses).await;
    }
    let taken: Vec<_> = routes.taken(&config.name).await?.iter().filter_map(Taken::v4).collect();
    let mut random = [0; 39];
    getrandom::fill(&mut random).map_err(|_| TunError::Randomness)?;
    let plan = AddressPlan::choose(&config.ipv4, &config.ipv6, &taken, random)?;
    if plan.ipv4 != config.ipv4 {
        tracing::warn!(
            wanted = config.ipv4,
            chosen = plan.ipv4,
            "a route of this host overlaps the synthetic addresses: others are used"
        );
    }
    plan.store(folder).map_err(TunError::State)?;
    Ok(plan)
}
