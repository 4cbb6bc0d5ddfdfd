//! The TUN interface: every name of the overlay has a synthetic address, and what a
//! program sends there becomes a channel.
//!
//! | file | what |
//! | --- | --- |
//! | `start`, `handle` | bringing it up, from nothing or over what an earlier run parked; what others hold of it |
//! | `device`, `routes`, `gate`, `overlap` | the kernel's side: device, addresses, routes, who may come in, who is in the way |
//! | `plan`, `address`, `journal`, `book` | which prefixes are ours, which name has which address, and that it stays so |
//! | `packet`, `fragments` | packets |
//! | `stack`, `flow`, `tcp`, `half_open` | TCP: one connection as a machine, its task, all of them, those that wait |
//! | `udp`, `echo` | datagrams and ping |
//! | `acting`, `diag` | the identity that acts, by the user that owns the socket |
//!
//! One task reads the device and feeds the flows; each flow has a task for its channel.
//! Flow tasks write to the device themselves. Everything stops with [`TunHandle::stopped`].

pub mod acting;
pub mod address;
pub mod book;
mod device;
mod diag;
mod echo;
mod flow;
mod fragments;
mod gate;
mod half_open;
mod handle;
mod journal;
mod limits;
mod overlap;
pub mod packet;
pub mod plan;
mod routes;
mod stack;
mod start;
mod tcp;
mod told;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use device::Device;
pub use handle::TunHandle;
pub use limits::PACKET_BYTES_MAX;
pub use start::{Parking, cleanup, planned, start};

use acting::Acting;
use book::AddressBook;
use fragments::Fragments;
use packet::{Datagram, Packet};
use routes::Routes;

use crate::dns::Responder;
use crate::handle::NodeHandle;
use crate::notify::Notifier;

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
    /// The acting identity of flows without a user, as containers' are; empty: they are refused.
    pub forwarded: String,
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
    /// The next run follows at once: the device and the routes stay for it.
    kept: AtomicBool,
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

/// Reads the device until shutdown, then lets the flows say goodbye, takes the routes away and the
/// device back from where it is parked. All that stays when the device was taken from us, and when
/// the next run follows at once.
async fn run(shared: Arc<Shared>, routes: Arc<Routes>, notifier: Notifier) {
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
    if clean && !shared.kept.load(Ordering::Relaxed) {
        start::release(&routes, shared.book.addresses(), &notifier).await;
    }
}

/// Reads the device until it fails.
async fn read(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> io::Error {
    let mut buffer = vec![0; limits::PACKET_BYTES_MAX];
    let mut fragments = Fragments::default();
    loop {
        let each = |packet: &[u8]| handle_packet(shared, tasks, &mut fragments, packet);
        let all = match shared.device.recv_each(&mut buffer, limits::READ_BATCH, each).await {
            Ok(all) => all,
            Err(error) => return error,
        };
        // Tasks that have ended are let go of here; their outcome was logged by themselves.
        while tasks.try_join_next().is_some() {}
        // Where more packets wait, the flows have their turn in between; where none do, the wait gives it to them.
        if !all {
            tokio::task::yield_now().await;
        }
    }
}

/// One packet from our kernel.
fn handle_packet(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, fragments: &mut Fragments, bytes: &[u8]) {
    crate::lookout::note(bytes.len());
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
            let Some((whole, first)) = fragments.handle_fragment(Instant::now(), &packet) else { return };
            if let Some(datagram) = Datagram::parse(packet.source, packet.destination, &whole) {
                udp::handle_datagram(shared, tasks, first, &datagram, slot);
            }
        } else if let Some(datagram) = packet.datagram() {
            udp::handle_datagram(shared, tasks, packet::Quote::of(&packet), &datagram, slot);
        }
    } else if let Some(rest) = packet.echo_request() {
        echo::handle_request(shared, tasks, &packet, rest, slot);
    } else if !packet.is_icmp_error() && !matches!(packet.protocol, packet::ICMP | packet::ICMP_V6) {
        shared.build(|out| packet::unreachable(out, &packet::Quote::of(&packet), packet::Unreachable::Host));
    }
}

#[cfg(test)]
mod tests;
