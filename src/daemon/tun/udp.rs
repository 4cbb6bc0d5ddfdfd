//! Intercepted UDP: one unreliable channel for each pair of source and destination.
//!
//! Datagrams that arrive while the channel opens wait ([`UDP_QUEUE_LEN`], newest dropped).
//! A flow ends after silence, when its channel ends, or when it could not be opened: then
//! its datagrams are answered with the same ICMP error for [`UDP_REFUSED_HOLD`], so that a
//! program that sends to nobody costs one attempt a second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tarnet_core::session::{Mode, Port};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::address::{SLOT_DNS, Slot};
use super::book::Lease;
use super::limits::{OPEN_TIMEOUT, UDP_FLOWS_MAX, UDP_IDLE, UDP_IDLE_ANSWERED, UDP_QUEUE_LEN, UDP_REFUSED_HOLD};
use super::packet::{self, Datagram, Packet, Quote, Unreachable};
use super::tcp::{Outcome, outcome};
use crate::channel::Channel;
use crate::dns::Transport;
use crate::handle::{ConnectError, ConnectRequest, Target};

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// Source and destination of a flow.
type Tuple = (SocketAddr, SocketAddr);

/// Every UDP flow, by the queue of what the program sends.
#[derive(Default)]
pub struct Flows(Mutex<HashMap<Tuple, mpsc::Sender<Bytes>>>);

impl Flows {
    /// Flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// The table, for a moment.
    fn lock(&self) -> MutexGuard<'_, HashMap<Tuple, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A whole UDP datagram from our kernel to one of our addresses. `packet` is it, or its first fragment.
pub fn handle_datagram(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    packet: &Packet<'_>,
    datagram: &Datagram<'_>,
    slot: Option<Slot>,
) {
    if slot == Some(Slot(SLOT_DNS)) {
        return handle_dns(shared, tasks, packet, datagram);
    }
    let tuple = (datagram.source, datagram.destination);
    let known = shared.udp.lock().get(&tuple).cloned();
    let payload = Bytes::copy_from_slice(datagram.payload);
    let queue = match known {
        Some(queue) => queue,
        None => match slot.and_then(|slot| shared.book.lease(slot)) {
            None => return shared.build(|out| packet::unreachable(out, &Quote::of(packet), Unreachable::Host)),
            Some(_) if shared.udp.len() >= UDP_FLOWS_MAX => {
                shared.counters.udp_dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Some(lease) => start(shared, tasks, tuple, lease, Quote::of(packet)),
        },
    };
    if queue.try_send(payload).is_err() {
        shared.counters.udp_dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts a flow's task.
fn start(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    tuple: Tuple,
    lease: Lease,
    quote: Quote,
) -> mpsc::Sender<Bytes> {
    let (queue, datagrams) = mpsc::channel(UDP_QUEUE_LEN);
    shared.udp.lock().insert(tuple, queue.clone());
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        let mut stopping = shared.stopping.clone();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => {}
            () = run(&shared, tuple, lease.name(), &quote, datagrams) => {}
        }
        shared.udp.lock().remove(&tuple);
        drop(lease);
    });
    queue
}

/// The life of a flow.
async fn run(shared: &Shared, tuple: Tuple, name: &str, quote: &Quote, mut datagrams: mpsc::Receiver<Bytes>) {
    let request = ConnectRequest {
        acting: shared.acting.of(packet::UDP, tuple).await,
        target: Target::Name(name.into()),
        port: Port::from(tuple.1.port()),
        mode: Mode::UnreliableUnordered,
        early: Bytes::new(),
    };
    match timeout(OPEN_TIMEOUT, shared.node.connect(request)).await.unwrap_or(Err(ConnectError::Timeout)) {
        Ok(channel) => carry(shared, tuple, channel, &mut datagrams).await,
        Err(error) => {
            let why = match outcome(error) {
                Outcome::Refuse => Unreachable::Port,
                Outcome::Icmp(why) => why,
                Outcome::Silence => return,
            };
            refuse(shared, quote, why, &mut datagrams).await;
        }
    }
}

/// Carries datagrams both ways until the flow is idle or its channel ends.
async fn carry(shared: &Shared, tuple: Tuple, channel: Channel, datagrams: &mut mpsc::Receiver<Bytes>) {
    let Channel { mut reader, mut writer } = channel;
    let (source, destination) = tuple;
    let mut idle = UDP_IDLE;
    loop {
        tokio::select! {
            datagram = datagrams.recv() => {
                let Some(datagram) = datagram else { return };
                if writer.room() < datagram.len() {
                    shared.counters.udp_dropped.fetch_add(1, Ordering::Relaxed);
                } else if writer.send(datagram).await.is_err() {
                    return;
                }
            }
            reply = reader.recv() => {
                let Ok(Some(reply)) = reply else { return };
                idle = UDP_IDLE_ANSWERED;
                if packet_len(destination, reply.len()) > usize::from(shared.mtu) {
                    shared.counters.udp_dropped.fetch_add(1, Ordering::Relaxed);
                } else {
                    shared.build(|out| packet::udp(out, destination, source, &reply));
                }
            }
            () = sleep(idle) => return,
        }
    }
}

/// Bytes of the packet that carries a datagram of `length` bytes.
fn packet_len(from: SocketAddr, length: usize) -> usize {
    length + 8 + if from.is_ipv4() { 20 } else { 40 }
}

/// Answers what waits, and what comes within [`UDP_REFUSED_HOLD`], with an ICMP error.
async fn refuse(shared: &Shared, quote: &Quote, why: Unreachable, datagrams: &mut mpsc::Receiver<Bytes>) {
    let answer = async {
        while datagrams.recv().await.is_some() {
            shared.build(|out| packet::unreachable(out, quote, why));
        }
    };
    // Over by the time limit: the queue's other end is in the table.
    let _ = timeout(UDP_REFUSED_HOLD, answer).await;
}

/// A datagram to the DNS server's address.
fn handle_dns(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, packet: &Packet<'_>, datagram: &Datagram<'_>) {
    if datagram.destination.port() != DNS_PORT {
        return shared.build(|out| packet::unreachable(out, &Quote::of(packet), Unreachable::Port));
    }
    let Ok(permit) = Arc::clone(&shared.dns_pending).try_acquire_owned() else {
        shared.counters.dns_dropped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (shared, question) = (Arc::clone(shared), Bytes::copy_from_slice(datagram.payload));
    let (source, destination) = (datagram.source, datagram.destination);
    tasks.spawn(async move {
        if let Some(answer) = shared.responder.answer(&question, Transport::Udp).await {
            shared.build(|out| packet::udp(out, destination, source, &answer));
        }
        drop(permit);
    });
}
