//! The TUN interface: every name of the overlay has a synthetic address, and what a
//! program sends there becomes a channel.
//!
//! | file | what |
//! | --- | --- |
//! | `device`, `routes` | the kernel's side: device, addresses, routes |
//! | `plan`, `address`, `journal`, `book` | which prefixes are ours, which name has which address, and that it stays so |
//! | `packet`, `fragments` | packets |
//! | `stack`, `flow`, `tcp` | TCP: one connection as a machine, its task, all of them |
//! | `udp`, `echo` | datagrams and ping |
//! | `acting` | the identity that acts, by the user that owns the socket |
//!
//! One task reads the device and feeds the flows; each flow has a task for its channel.
//! Flow tasks write to the device themselves. Everything stops with [`TunHandle::stopped`].

pub mod acting;
pub mod address;
pub mod book;
mod device;
mod echo;
mod flow;
mod fragments;
mod journal;
mod limits;
mod packet;
pub mod plan;
mod routes;
mod stack;
mod tcp;
mod told;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use acting::Acting;
use book::AddressBook;
use device::Device;
use fragments::Fragments;
use packet::{Datagram, Packet};
use plan::AddressPlan;
use routes::Routes;

use crate::dns::{DnsConfig, DnsHandle, Responder};
use crate::handle::NodeHandle;

/// Folder of our files in the daemon's state folder.
const STATE_FOLDER: &str = "tun";
/// How long flows may take to say goodbye when the daemon stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What the TUN is to be; the `[tun]` section of the configuration.
#[derive(Debug, Clone)]
pub struct TunConfig {
    /// The device's name.
    pub name: String,
    /// Synthetic IPv4 addresses, as `198.18.0.0/15`.
    pub ipv4: String,
    /// Synthetic IPv6 addresses; empty: a random unique local /48, made once.
    pub ipv6: String,
    /// MTU, bytes.
    pub mtu: u16,
    /// The acting identity.
    pub identity: String,
    /// The acting identity by the name or number of the user that owns the socket.
    pub users: BTreeMap<String, String>,
}

/// Why there is no TUN.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// No CAP_NET_ADMIN, or no device node.
    #[error("no permission to make a TUN device (it needs CAP_NET_ADMIN and /dev/net/tun): {0}")]
    NotPermitted(String),
    /// The configuration names a prefix that cannot be used.
    #[error(transparent)]
    Prefix(#[from] plan::PrefixError),
    /// Every candidate overlaps a route of this host.
    #[error("every candidate for the synthetic IPv4 addresses overlaps a route of this host; set tun.ipv4")]
    NoPrefix,
    /// A user of `tun.users` does not exist.
    #[error("tun.users: there is no user {0:?}")]
    NoSuchUser(String),
    /// The kernel says no.
    #[error("the TUN device: {0}")]
    Device(String),
    /// The state folder cannot be used.
    #[error("the TUN's state folder: {0}")]
    State(io::Error),
    /// A `dns.listen` address cannot be bound.
    #[error("dns.listen {0}: {1}")]
    DnsListen(std::net::SocketAddr, io::Error),
    /// The system gives no randomness.
    #[error("no randomness from the system")]
    Randomness,
}

impl TunError {
    /// Sorts an error of a device or socket call.
    fn from_device(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => Self::NotPermitted(error.to_string()),
            _ => Self::Device(error.to_string()),
        }
    }

    /// Sorts an error of a netlink call.
    fn from_netlink(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => Self::from_device(message.to_io()),
            other => Self::Device(other.to_string()),
        }
    }

    /// Whether `tun.enabled = "auto"` carries on without a TUN after this.
    #[must_use]
    pub fn is_missing_capability(&self) -> bool {
        matches!(self, Self::NotPermitted(_))
    }
}

/// What was dropped, and why.
#[derive(Debug, Default)]
pub struct Counters {
    /// SYNs beyond a bound; the kernel tries again.
    pub syn_dropped: AtomicU64,
    /// Datagrams beyond a bound, or too large for the device.
    pub udp_dropped: AtomicU64,
    /// Questions beyond a bound.
    pub dns_dropped: AtomicU64,
    /// Echo requests beyond a bound.
    pub echo_dropped: AtomicU64,
}

/// What every flow shares.
struct Shared {
    node: NodeHandle,
    device: Device,
    mtu: u16,
    book: AddressBook,
    acting: Acting,
    responder: Arc<Responder>,
    dns_pending: Arc<Semaphore>,
    tcp: tcp::Flows,
    udp: udp::Flows,
    echoes: echo::Echoes,
    counters: Counters,
    stopping: watch::Receiver<bool>,
}

impl Shared {
    /// Builds a packet and sends it; one that cannot be built is not sent.
    fn build(&self, build: impl FnOnce(&mut Vec<u8>) -> Option<()>) {
        let mut packet = Vec::with_capacity(limits::QUOTE_BYTES_MAX * 2);
        if build(&mut packet).is_some() {
            self.device.send(&packet);
        }
    }
}

/// The running TUN.
pub struct TunHandle {
    shared: Arc<Shared>,
    name: String,
    ipv6: bool,
    dns: DnsHandle,
    alive: tokio::task::AbortHandle,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl TunHandle {
    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The link's own IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.shared.book.addresses().ours().0
    }

    /// The link's own IPv6 address; `None` where the host has IPv6 switched off.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.ipv6.then(|| self.shared.book.addresses().ours().1)
    }

    /// The MTU in use, bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.shared.mtu
    }

    /// `up`, or `down` once the device is gone.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.alive.is_finished() { "down" } else { "up" }
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

/// Brings the TUN and its DNS responder up. `shutdown` becoming true ends them.
///
/// # Errors
/// See [`TunError`]; [`TunError::is_missing_capability`] tells the one that `auto` forgives.
pub async fn start(
    config: TunConfig,
    node: NodeHandle,
    dns: DnsConfig,
    state_dir: &Path,
    shutdown: watch::Receiver<bool>,
) -> Result<TunHandle, TunError> {
    let acting = Acting::new(&config.identity, &config.users)?;
    let routes = Routes::open()?;
    let folder = state_folder(state_dir)?;
    let plan = choose_plan(&config, &folder, &routes).await?;
    let addresses = plan.addresses()?;
    routes.block(&addresses).await?;
    let book = AddressBook::open(&folder, &plan)?;
    let book = if config.users.is_empty() { book } else { book.keeping_apart() };
    let opened = Device::open(&config.name, config.mtu, &addresses)?;
    let ipv6 = routes.add_link_v6(&config.name, &addresses).await;
    let responder = Arc::new(Responder::new(node.clone(), book.clone(), &config.identity, &dns, ipv6));
    let dns = DnsHandle::listen(&dns, &responder, shutdown.clone())
        .map_err(|(address, error)| TunError::DnsListen(address, error))?;
    let shared = Arc::new(Shared {
        node,
        device: opened.device,
        mtu: opened.mtu,
        book,
        acting,
        responder,
        dns_pending: Arc::new(Semaphore::new(limits::DNS_PENDING_MAX)),
        tcp: tcp::Flows::default(),
        udp: udp::Flows::default(),
        echoes: echo::Echoes::default(),
        counters: Counters::default(),
        stopping: shutdown,
    });
    let task = tokio::spawn(run(Arc::clone(&shared), routes));
    let (alive, task) = (task.abort_handle(), tokio::sync::Mutex::new(Some(task)));
    Ok(TunHandle { shared, name: config.name, ipv6, dns, alive, task })
}

/// Undoes what a daemon that was killed left behind: the `unreachable` routes of its plan.
/// Harmless where there is nothing.
///
/// # Errors
/// Netlink fails.
pub async fn cleanup(state_dir: &Path) -> Result<(), TunError> {
    if let Some(plan) = AddressPlan::load(&state_dir.join(STATE_FOLDER)) {
        Routes::open()?.unblock(&plan.addresses()?).await;
    }
    Ok(())
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
    let taken = routes.taken_v4(&config.name).await?;
    if let Some(plan) = AddressPlan::load(folder) {
        let addresses = plan.addresses()?;
        if plan.serves(&config.ipv4, &config.ipv6) {
            if taken.iter().any(|taken| taken.overlaps(addresses.ipv4)) {
                tracing::warn!(
                    prefix = plan.ipv4,
                    "a route of this host overlaps the synthetic addresses; they are kept"
                );
            }
            return Ok(plan);
        }
        routes.unblock(&addresses).await;
    }
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

/// Reads the device until shutdown, then lets the flows say goodbye and takes the routes
/// away. They stay when the device was taken from us.
async fn run(shared: Arc<Shared>, routes: Routes) {
    let mut tasks = JoinSet::new();
    let mut stopping = shared.stopping.clone();
    let clean = tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => true,
        error = read(&shared, &mut tasks) => {
            tracing::error!(%error, "the TUN device is gone: names are unreachable until the daemon is started again");
            false
        }
    };
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::debug!(left = tasks.len(), "flows were cut off at stop");
    }
    tasks.abort_all();
    // Without the device these routes are all that keeps packets in the house.
    if clean {
        routes.unblock(shared.book.addresses()).await;
    }
}

/// Reads the device until it fails.
async fn read(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> io::Error {
    let mut buffer = vec![0; limits::PACKET_BYTES_MAX];
    let mut fragments = Fragments::default();
    loop {
        let mut received = shared.device.recv(&mut buffer).await;
        for more in (0..limits::READ_BATCH).rev() {
            match received {
                Ok(length) => handle_packet(shared, tasks, &mut fragments, buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return error,
            }
            if more == 0 {
                break;
            }
            received = shared.device.try_recv(&mut buffer);
        }
        // Tasks that have ended are let go of here; their outcome was logged by themselves.
        while tasks.try_join_next().is_some() {}
        tokio::task::yield_now().await;
    }
}

/// One packet from our kernel.
fn handle_packet(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, fragments: &mut Fragments, bytes: &[u8]) {
    let Some(packet) = Packet::parse(bytes) else { return };
    // Multicast and whatever else strays here is not ours to answer.
    if !shared.book.addresses().routes(packet.destination) || packet.source.is_unspecified() {
        return;
    }
    let slot = shared.book.addresses().slot(packet.destination);
    if packet.protocol == packet::TCP {
        tcp::handle_packet(shared, tasks, &packet, slot);
    } else if packet.protocol == packet::UDP {
        if packet.fragment.is_some() {
            let Some(whole) = fragments.handle_fragment(Instant::now(), &packet) else { return };
            if let Some(datagram) = Datagram::parse(packet.source, packet.destination, &whole) {
                udp::handle_datagram(shared, tasks, &packet, &datagram, slot);
            }
        } else if let Some(datagram) = packet.datagram() {
            udp::handle_datagram(shared, tasks, &packet, &datagram, slot);
        }
    } else if let Some(rest) = packet.echo_request() {
        echo::handle_request(shared, tasks, &packet, rest, slot);
    } else if !packet.is_icmp_error() && !matches!(packet.protocol, packet::ICMP | packet::ICMP_V6) {
        shared.build(|out| packet::unreachable(out, &packet::Quote::of(&packet), packet::Unreachable::Host));
    }
}

#[cfg(test)]
mod tests;
