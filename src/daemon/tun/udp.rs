//! Intercepted UDP: one unreliable channel for each pair of source and destination.
//!
//! Datagrams that arrive while the channel opens wait ([`UDP_QUEUE_LEN`], newest dropped).
//! A flow ends after silence, when its channel ends, or when it could not be opened: then
//! its datagrams are answered with the same ICMP error for [`UDP_REFUSED_HOLD`], so that a
//! program that sends to nobody costs one attempt a second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tarnet_core::session::{Mode, Port};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::acting::Actor;
use super::address::{SLOT_DNS, Slot};
use super::book::Lease;
use super::fragments;
use super::limits::{OPEN_TIMEOUT, UDP_FLOWS_MAX, UDP_IDLE, UDP_IDLE_ANSWERED, UDP_QUEUE_LEN, UDP_REFUSED_HOLD};
use super::packet::{self, Datagram, Quote, Unreachable};
use super::tcp::{Outcome, outcome};
use crate::channel::Channel;
use crate::dns::Transport;
use crate::handle::{ConnectError, ConnectRequest, Target};

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// Bytes of the headers before a datagram: IPv6 and UDP.
const HEADERS_BYTES_MAX: usize = 48;

/// Source and destination of a flow.
type Tuple = (SocketAddr, SocketAddr);

/// Every UDP flow, by the queue of what the program sends.
#[derive(Default)]
pub struct Flows {
    table: Mutex<HashMap<Tuple, mpsc::Sender<Bytes>>>,
    /// What tells the fragments of one datagram from those of another.
    fragment_ids: AtomicU32,
}

impl Flows {
    /// Flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// The table, for a moment.
    fn lock(&self) -> MutexGuard<'_, HashMap<Tuple, mpsc::Sender<Bytes>>> {
        self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A whole UDP datagram from our kernel to one of our addresses. `quote` is what an ICMP error says of it.
pub fn handle_datagram(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    quote: Quote,
    datagram: &Datagram<'_>,
    slot: Option<Slot>,
) {
    if slot == Some(Slot(SLOT_DNS)) {
        return handle_dns(shared, tasks, &quote, datagram);
    }
    let tuple = (datagram.source, datagram.destination);
    let known = shared.udp.lock().get(&tuple).cloned();
    let payload = Bytes::copy_from_slice(datagram.payload);
    let queue = match known {
        Some(queue) => queue,
        None => match slot.and_then(|slot| shared.book.lease(slot)) {
            None => return shared.build(|out| packet::unreachable(out, &quote, Unreachable::Host)),
            Some(_) if shared.udp.len() >= UDP_FLOWS_MAX => {
                shared.counters.udp_dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Some(lease) => match shared.acting.of(packet::UDP, tuple) {
                Actor { identity: None, .. } => {
                    return shared.build(|out| packet::unreachable(out, &quote, Unreachable::Prohibited));
                }
                actor => start(shared, tasks, tuple, lease, actor, quote),
            },
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
    actor: Actor,
    quote: Quote,
) -> mpsc::Sender<Bytes> {
    let (queue, datagrams) = mpsc::channel(UDP_QUEUE_LEN);
    shared.udp.lock().insert(tuple, queue.clone());
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        let mut stopping = shared.stopping.clone();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => {}
            () = run(&shared, tuple, lease.name(), &actor, &quote, datagrams) => {}
        }
        shared.udp.lock().remove(&tuple);
        drop(lease);
    });
    queue
}

/// The life of a flow.
async fn run(
    shared: &Shared,
    tuple: Tuple,
    name: &str,
    actor: &Actor,
    quote: &Quote,
    mut datagrams: mpsc::Receiver<Bytes>,
) {
    let request = ConnectRequest {
        acting: actor.identity.as_deref().unwrap_or_default().into(),
        target: Target::Name(name.into()),
        port: Port::from(tuple.1.port()),
        mode: Mode::UnreliableUnordered,
        early: Bytes::new(),
    };
    match timeout(OPEN_TIMEOUT, shared.node.connect(request)).await.unwrap_or(Err(ConnectError::Timeout)) {
        Ok(channel) => {
            let (source, destination) = tuple;
            let deliver = |reply: &[u8]| deliver(shared, destination, source, reply);
            carry(channel, &mut datagrams, deliver, &shared.counters.udp_dropped, Idle::default()).await;
        }
        Err(error) => {
            let why = match outcome(actor.verdict(error)) {
                Outcome::Refuse => Unreachable::Port,
                Outcome::Icmp(why) => why,
                Outcome::Silence => return,
            };
            refuse(shared, quote, why, &mut datagrams).await;
        }
    }
}

/// The silence after which a flow ends.
#[derive(Clone, Copy)]
struct Idle {
    /// Before its first reply.
    unanswered: Duration,
    /// Afterwards.
    answered: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        Self { unanswered: UDP_IDLE, answered: UDP_IDLE_ANSWERED }
    }
}

/// Carries datagrams both ways until the flow is idle or its channel ends: silence in both directions, shorter
/// before the first reply. What finds no room is `dropped`.
async fn carry(
    channel: Channel,
    datagrams: &mut mpsc::Receiver<Bytes>,
    mut deliver: impl FnMut(&[u8]),
    dropped: &AtomicU64,
    silence: Idle,
) {
    let Channel { mut reader, mut writer } = channel;
    let mut idle = silence.unanswered;
    loop {
        tokio::select! {
            datagram = datagrams.recv() => {
                let Some(datagram) = datagram else { return };
                if writer.room() < datagram.len() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                } else if writer.send(datagram).await.is_err() {
                    return;
                }
            }
            reply = reader.recv() => {
                let Ok(Some(reply)) = reply else { return };
                idle = silence.answered;
                deliver(&reply);
            }
            () = sleep(idle) => return,
        }
    }
}

/// Hands a datagram to the program, in fragments where it is larger than the device takes. One that is
/// larger than UDP in its family can be is dropped: the far side had the other family's bound.
fn deliver(shared: &Shared, from: SocketAddr, to: SocketAddr, data: &[u8]) {
    let mut whole = Vec::with_capacity(data.len() + HEADERS_BYTES_MAX);
    let mtu = usize::from(shared.mtu);
    match packet::udp(&mut whole, from, to, data) {
        None => drop(shared.counters.udp_dropped.fetch_add(1, Ordering::Relaxed)),
        Some(()) if whole.len() <= mtu => shared.device.send(&whole),
        Some(()) => {
            let id = shared.udp.fragment_ids.fetch_add(1, Ordering::Relaxed);
            fragments::split(&whole, mtu, id, |piece| shared.device.send(piece));
        }
    }
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
fn handle_dns(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, quote: &Quote, datagram: &Datagram<'_>) {
    if datagram.destination.port() != DNS_PORT {
        return shared.build(|out| packet::unreachable(out, quote, Unreachable::Port));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelKey, Kicks, channel};

    /// Far beyond any test.
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_flow_ends_after_silence_and_an_answered_one_later() {
        let (kicks, _kicked) = Kicks::new(64);
        let dropped = AtomicU64::new(0);
        let idle = Idle { unanswered: Duration::from_millis(20), answered: LONG };

        let (front, mut end) = channel(ChannelKey(1), kicks.clone());
        let (queue, mut datagrams) = mpsc::channel(UDP_QUEUE_LEN);
        let (replied, mut heard) = mpsc::channel(1);
        queue.try_send(Bytes::from_static(b"question")).unwrap();
        end.give(Bytes::from_static(b"reply"));
        let mut answered =
            Box::pin(carry(front, &mut datagrams, |reply| replied.try_send(reply.to_vec()).unwrap(), &dropped, idle));
        let reply = tokio::select! {
            reply = heard.recv() => reply,
            () = &mut answered => panic!("it ended before its reply"),
        };
        assert_eq!(reply.as_deref(), Some(&b"reply"[..]));

        // One that nobody answers ends by itself, while the other stays.
        let (front, _end) = channel(ChannelKey(2), kicks);
        let (_queue, mut silent) = mpsc::channel(UDP_QUEUE_LEN);
        let silence = timeout(Duration::from_secs(60), carry(front, &mut silent, |_| (), &dropped, idle));
        tokio::select! {
            ended = silence => assert!(ended.is_ok(), "the unanswered one did not end"),
            () = &mut answered => panic!("the answered one ended first"),
        }
        assert_eq!(end.take().as_deref(), Some(&b"question"[..]));
        // It ends with its channel.
        drop(end);
        assert!(timeout(Duration::from_secs(60), answered).await.is_ok());
    }
}
