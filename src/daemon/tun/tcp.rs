//! Intercepted TCP: the table of flows, and what becomes of each segment.
//!
//! A SYN for a name holds until the overlay has answered; then it is SYN-ACK, reset or
//! ICMP, by the table in [`outcome`]. A segment of no flow is reset, so that connections
//! of before a restart end at once. Bounds: [`FLOWS_MAX`] and those of `half_open`, beyond
//! which a SYN is dropped and counted: the kernel tries again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use tarnet_core::session::{Mode, Port, Refusal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::acting::Actor;
use super::address::{SLOT_DNS, Slot};
use super::device::Device;
use super::flow::Flow;
use super::half_open::HalfOpen;
use super::limits::{FLOWS_MAX, OPEN_TIMEOUT};
use super::packet::{self, Packet, Quote, Segment, Unreachable};
use super::stack::Stack;
use crate::channel::Channel;
use crate::dns::stream;
use crate::handle::{ConnectError, ConnectRequest, Target};

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// Source and destination of a flow.
type Tuple = (SocketAddr, SocketAddr);

/// Every TCP flow.
#[derive(Default)]
pub struct Flows {
    table: Mutex<HashMap<Tuple, Arc<Flow<Device>>>>,
    half_open: HalfOpen,
}

/// How a connection that was not made is told to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A reset: ECONNREFUSED.
    Refuse,
    /// An ICMP error.
    Icmp(Unreachable),
    /// Nothing: the program tries again.
    Silence,
}

/// What a failed connect means to the program.
///
/// Tarnet: INTERFACE.md, "Names and addresses on the host".
#[must_use]
pub fn outcome(error: ConnectError) -> Outcome {
    match error {
        ConnectError::Refused(Refusal::NotAllowed) | ConnectError::UnknownIdentity => {
            Outcome::Icmp(Unreachable::Prohibited)
        }
        ConnectError::Refused(Refusal::LocalUnreachable) => Outcome::Icmp(Unreachable::Host),
        ConnectError::Refused(
            Refusal::NoListener | Refusal::ModeMismatch | Refusal::LocalRefused | Refusal::TooMany,
        ) => Outcome::Refuse,
        ConnectError::NoSuchName | ConnectError::NameTimeout | ConnectError::Timeout | ConnectError::Stopping => {
            Outcome::Icmp(Unreachable::Host)
        }
        ConnectError::NoRoute => Outcome::Icmp(Unreachable::Net),
        ConnectError::TooMany => Outcome::Silence,
    }
}

impl Flows {
    /// Flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// The table, for a moment.
    fn lock(&self) -> MutexGuard<'_, HashMap<Tuple, Arc<Flow<Device>>>> {
        self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a flow out of the table, unless another has its place already.
    fn remove(&self, tuple: &Tuple, flow: &Arc<Flow<Device>>) {
        let mut table = self.lock();
        if table.get(tuple).is_some_and(|present| Arc::ptr_eq(present, flow)) {
            table.remove(tuple);
        }
    }

    /// The flow a segment belongs to. A new SYN on the tuple of a flow ends it: our kernel, which is the other
    /// side of every flow, gives a port out again only when it has forgotten the connection that had it.
    fn find(&self, tuple: &Tuple, segment: &Segment) -> Option<Arc<Flow<Device>>> {
        let mut table = self.lock();
        let flow = table.get(tuple)?;
        if segment.opens && flow.replaced_by(segment.sequence) {
            flow.replace();
            table.remove(tuple);
            return None;
        }
        Some(Arc::clone(flow))
    }
}

/// A TCP packet from our kernel to one of our addresses.
pub fn handle_packet(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, packet: &Packet<'_>, slot: Option<Slot>) {
    let Some(segment) = packet.segment() else { return };
    let tuple = (segment.source, segment.destination);
    if let Some(flow) = shared.tcp.find(&tuple, &segment) {
        flow.handle_packet(packet.bytes);
    } else if segment.opens {
        open(shared, tasks, packet, &segment, slot);
    } else if !segment.reset {
        shared.build(|out| packet::reset(out, packet));
    }
}

/// A SYN of no flow.
fn open(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, packet: &Packet<'_>, segment: &Segment, slot: Option<Slot>) {
    let to_dns = slot == Some(Slot(SLOT_DNS)) && segment.destination.port() == DNS_PORT;
    let lease = slot.and_then(|slot| shared.book.lease(slot));
    if !to_dns && lease.is_none() {
        shared.build(|out| packet::reset(out, packet));
        return;
    }
    let actor =
        if to_dns { Actor::default() } else { shared.acting.of(packet::TCP, (segment.source, segment.destination)) };
    if !to_dns && actor.identity.is_none() {
        shared.build(|out| packet::unreachable(out, &Quote::of(packet), Unreachable::Prohibited));
        return;
    }
    let place = (shared.tcp.len() < FLOWS_MAX).then(|| shared.tcp.half_open.enter(actor.uid)).flatten();
    let mut seed = [0; 8];
    let Some(place) = place.filter(|_| getrandom::fill(&mut seed).is_ok()) else {
        shared.counters.syn_dropped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let stack = Stack::hold(Instant::now(), segment.destination, usize::from(shared.mtu), u64::from_le_bytes(seed));
    let flow = Arc::new(Flow::new(stack, shared.device.clone(), segment.sequence, Quote::of(packet)));
    flow.handle_packet(packet.bytes);
    let tuple = (segment.source, segment.destination);
    shared.tcp.lock().insert(tuple, Arc::clone(&flow));
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        let mut stopping = shared.stopping.clone();
        tokio::select! {
            () = flow.replaced() => {}
            _ = stopping.wait_for(|stopping| *stopping) => flow.abort(),
            () = async {
                let channel = match &lease {
                    Some(lease) => connect(&shared, tuple, lease.name(), &actor).await,
                    None => Ok(stream::serve(Arc::clone(&shared.responder))),
                };
                drop(place);
                serve(&shared, &flow, channel).await;
            } => {}
        }
        shared.tcp.remove(&tuple, &flow);
        drop(lease);
    });
}

/// Opens the channel of a flow.
async fn connect(shared: &Shared, tuple: Tuple, name: &str, actor: &Actor) -> Result<Channel, ConnectError> {
    let request = ConnectRequest {
        acting: actor.identity.as_deref().unwrap_or_default().into(),
        target: Target::Name(name.into()),
        port: Port::from(tuple.1.port()),
        mode: Mode::ReliableOrdered,
        early: Bytes::new(),
    };
    let opened = timeout(OPEN_TIMEOUT, shared.node.connect(request)).await.unwrap_or(Err(ConnectError::Timeout));
    opened.map_err(|error| actor.verdict(error))
}

/// Carries a flow over its channel, or tells the program why there is none.
async fn serve(shared: &Shared, flow: &Flow<Device>, channel: Result<Channel, ConnectError>) {
    match channel.map_err(outcome) {
        Ok(channel) => {
            let ended = flow.carry(channel).await;
            tracing::trace!(clean = ended.is_ok(), "a flow ended");
        }
        Err(Outcome::Refuse) => flow.abort(),
        Err(Outcome::Icmp(why)) => shared.build(|out| packet::unreachable(out, &flow.quote, why)),
        Err(Outcome::Silence) => {
            shared.counters.syn_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
