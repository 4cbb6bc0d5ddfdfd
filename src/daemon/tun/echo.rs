//! ICMP echo: an address answers only after the far end answered an overlay ping, so
//! that `ping` says what a connection would find.
//!
//! Bounds: [`ECHO_PENDING_MAX`] overlay pings in flight; the success of one answers for
//! [`ECHO_CACHE`]. The DNS server's address is ourselves and answers at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Shared;
use super::address::{SLOT_DNS, Slot};
use super::limits::{ECHO_CACHE, ECHO_CACHE_LEN_MAX, ECHO_PENDING_MAX};
use super::packet::{self, Packet, Quote, Unreachable};
use super::tcp::{Outcome, outcome};
use crate::handle::Target;

/// Overlay pings in flight, and those that succeeded a moment ago.
#[derive(Default)]
pub struct Echoes {
    answered: Mutex<HashMap<Slot, Instant>>,
    pending: AtomicUsize,
}

impl Echoes {
    /// Whether the far end of a slot answered within [`ECHO_CACHE`].
    fn fresh(&self, slot: Slot) -> bool {
        self.with(|answered| answered.get(&slot).is_some_and(|at| at.elapsed() < ECHO_CACHE))
    }

    /// The far end of a slot answered now.
    fn remember(&self, slot: Slot) {
        self.with(|answered| {
            if answered.len() >= ECHO_CACHE_LEN_MAX {
                answered.retain(|_, at| at.elapsed() < ECHO_CACHE);
            }
            if answered.len() < ECHO_CACHE_LEN_MAX {
                answered.insert(slot, Instant::now());
            }
        });
    }

    /// The memory of answers, for a moment.
    fn with<R>(&self, act: impl FnOnce(&mut HashMap<Slot, Instant>) -> R) -> R {
        act(&mut self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// An echo request from our kernel to one of our addresses; `rest` is what follows its type, code and checksum.
pub fn handle_request(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    packet: &Packet<'_>,
    rest: &[u8],
    slot: Option<Slot>,
) {
    let reply = |rest: &[u8]| shared.build(|out| packet::echo_reply(out, packet.destination, packet.source, rest));
    if slot.is_some_and(|slot| slot == Slot(SLOT_DNS) || shared.echoes.fresh(slot)) {
        return reply(rest);
    }
    let Some((slot, lease)) = slot.and_then(|slot| Some((slot, shared.book.lease(slot)?))) else {
        return shared.build(|out| packet::unreachable(out, &Quote::of(packet), Unreachable::Host));
    };
    if shared.echoes.pending.fetch_add(1, Ordering::Relaxed) >= ECHO_PENDING_MAX {
        shared.echoes.pending.fetch_sub(1, Ordering::Relaxed);
        shared.counters.echo_dropped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let (shared, rest, quote) = (Arc::clone(shared), Bytes::copy_from_slice(rest), Quote::of(packet));
    let (source, destination) = (packet.source, packet.destination);
    tasks.spawn(async move {
        let target = Target::Name(lease.name().into());
        match shared.node.ping(shared.acting.default_identity(), target).await {
            Ok(_) => {
                shared.echoes.remember(slot);
                shared.build(|out| packet::echo_reply(out, destination, source, &rest));
            }
            Err(error) => {
                let why = match outcome(error) {
                    Outcome::Icmp(why) => why,
                    Outcome::Refuse | Outcome::Silence => Unreachable::Host,
                };
                shared.build(|out| packet::unreachable(out, &quote, why));
            }
        }
        shared.echoes.pending.fetch_sub(1, Ordering::Relaxed);
    });
}
