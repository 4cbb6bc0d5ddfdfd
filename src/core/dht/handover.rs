//! Blocks go to peers that come to be among the nearest to their keys: new contacts, and whoever moves up when one
//! goes. One of the two nearest holders hands over, or the owner; each block to each contact once an hour at most.
//!
//! A sweep goes through the stored keys in small timed steps, for all contacts that came meanwhile. No timer runs
//! while nobody comes or goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::contacts::{Contact, dht_id, distance};
use super::limits::{
    DEPARTED_DELAY, HANDED_LEN, HANDED_LIFE, HANDOVER_BLOCKS, HANDOVER_CONTACTS, HANDOVER_DELAY, HANDOVER_DELAY_MAX,
    HANDOVER_KEYS, HANDOVER_QUEUE, HANDOVER_RANK, HANDOVER_STEP, HANDOVER_WAITING, HOP_FINAL, REPLICATION,
};
use super::store::{Entry, Store};
use super::{Dht, Timer, To};
use crate::crypto::{DhtKey, PeerId, hash};
use crate::time::{Instant, Now};
use crate::wire::block::Slot;
use crate::wire::dht::{BLOOM_LEN, Message, Route};

/// One pass over the stored keys.
struct Sweep {
    came: BTreeSet<PeerId>,
    went: Vec<Contact>,
    cursor: Option<DhtKey>,
}

/// What is to be handed over.
#[derive(Default)]
pub(super) struct Handover {
    /// Nobody is served: the network forms.
    pub(super) off: bool,
    came: BTreeSet<PeerId>,
    /// When the first of them came.
    since: Option<Instant>,
    went: BTreeMap<PeerId, Instant>,
    sweep: Option<Sweep>,
    queue: VecDeque<(DhtKey, Slot, PeerId)>,
    handed: BTreeMap<[u8; 16], Instant>,
    handed_order: VecDeque<[u8; 16]>,
}

impl Handover {
    /// Takes up the next pass, if there is anybody to serve.
    fn begin(&mut self, now: Instant) {
        let due: Vec<PeerId> = self.went.iter().filter(|(_, at)| **at <= now).map(|(p, _)| *p).collect();
        if self.sweep.is_some() || due.is_empty() && self.came.is_empty() {
            return;
        }
        let mut went = Vec::new();
        for peer in due.into_iter().take(HANDOVER_CONTACTS) {
            self.went.remove(&peer);
            went.push(Contact { peer, id: dht_id(&peer) });
        }
        let rest = self.came.iter().nth(HANDOVER_CONTACTS).copied();
        let rest = rest.map_or_else(BTreeSet::new, |from| self.came.split_off(&from));
        let came = std::mem::replace(&mut self.came, rest);
        self.since = None;
        self.sweep = Some(Sweep { came, went, cursor: None });
    }

    /// When the next step is due, if any.
    fn next(&self, now: Instant) -> Option<Instant> {
        if self.sweep.is_some() || !self.queue.is_empty() || !self.came.is_empty() {
            return Some(now + HANDOVER_STEP);
        }
        self.went.values().min().copied()
    }

    /// Notes that a contact gets a block; `false` when it had it within the hour.
    fn note(&mut self, now: Instant, entry: &Entry, slot: &Slot, peer: &PeerId) -> bool {
        let name = [&entry.block.key.0[..], &slot.0, &entry.block.sequence.to_le_bytes(), &peer.0].concat();
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash(&name)[..16]);
        if self.handed.get(&digest).is_some_and(|until| *until > now) {
            return false;
        }
        if self.handed.insert(digest, now + HANDED_LIFE).is_none() {
            self.handed_order.push_back(digest);
        }
        while self.handed_order.len() > HANDED_LEN {
            self.handed_order.pop_front().map(|oldest| self.handed.remove(&oldest));
        }
        true
    }
}

impl<S: Store> Dht<S> {
    /// A contact came: it may be among the nearest to what we hold.
    pub(super) fn handover_to(&mut self, now: Now, peer: PeerId) {
        if self.handover.went.remove(&peer).is_none()
            && !self.handover.off
            && self.handover.came.len() < HANDOVER_WAITING
        {
            self.handover.came.insert(peer);
            let since = *self.handover.since.get_or_insert(now.instant);
            let at = (now.instant + HANDOVER_DELAY).min(since + HANDOVER_DELAY_MAX);
            if self.handover.sweep.is_none() && self.handover.queue.is_empty() {
                self.timers.set(Timer::Handover, at);
            }
        }
    }

    /// A contact went: if it stays away, another takes its place at some keys.
    pub(super) fn handover_from(&mut self, now: Now, peer: PeerId) {
        if !self.handover.came.remove(&peer) && self.handover.went.len() < HANDOVER_WAITING {
            self.handover.went.insert(peer, now.instant + DEPARTED_DELAY);
            self.arm_handover(now.instant + DEPARTED_DELAY);
        }
    }

    /// Sets the timer, or leaves it where it is sooner.
    fn arm_handover(&mut self, at: Instant) {
        let at = self.timers.at(&Timer::Handover).map_or(at, |set| set.min(at));
        self.timers.set(Timer::Handover, at);
    }

    /// Looks at some keys, hands over some blocks.
    pub(super) fn handover_step(&mut self, now: Now) {
        self.handover.begin(now.instant);
        for _ in 0..HANDOVER_KEYS {
            if self.handover.sweep.is_none() || self.handover.queue.len() >= HANDOVER_QUEUE {
                break;
            }
            self.sweep_key(now);
        }
        for _ in 0..HANDOVER_BLOCKS {
            let Some((key, slot, peer)) = self.handover.queue.pop_front() else { break };
            self.hand(now, &key, &slot, peer);
        }
        if let Some(at) = self.handover.next(now.instant) {
            self.timers.set(Timer::Handover, at.max(now.instant + HANDOVER_STEP));
        }
    }

    /// Looks at the next key of the sweep: who should have its blocks, and are we to hand them over?
    fn sweep_key(&mut self, now: Now) {
        let Some(mut sweep) = self.handover.sweep.take() else { return };
        let Some(key) = self.store.next_key(sweep.cursor.as_ref()) else { return };
        sweep.cursor = Some(key);
        let (closest, places) = self.nearest(&key);
        let mut to: BTreeSet<PeerId> =
            closest.iter().map(|c| c.peer).filter(|peer| sweep.came.contains(peer)).collect();
        // Somebody moves up only where there are more than the nearest.
        if let Some(last) = closest.last().filter(|_| places.len() >= usize::from(REPLICATION)) {
            let far = distance(&last.id, &key);
            let up = sweep.went.iter().any(|gone| distance(&gone.id, &key) < far);
            to.extend(up.then_some(last.peer));
        }
        if !to.is_empty() {
            let mine = distance(&self.id, &key);
            let before = closest.iter().filter(|c| !to.contains(&c.peer) && distance(&c.id, &key) < mine).count();
            for entry in self.store.entries(now.unix, &key) {
                if entry.own || before < HANDOVER_RANK {
                    let slot = entry.block.slot();
                    self.handover.queue.extend(to.iter().map(|peer| (key, slot, *peer)));
                }
            }
        }
        self.handover.sweep = Some(sweep);
    }

    /// Sends one block to one contact, which forwards it to nobody and answers nothing.
    fn hand(&mut self, now: Now, key: &DhtKey, slot: &Slot, peer: PeerId) {
        let Some(entry) = self.store.entry(key, slot) else { return };
        if !self.handover.note(now.instant, &entry, slot, &peer) {
            return;
        }
        let route = Route {
            token: 0,
            query: self.rng.public_u64(),
            patience_ms: 0,
            hop: HOP_FINAL,
            replication: REPLICATION,
            bloom: [0; BLOOM_LEN],
        };
        self.transmit(To::Peer(peer), &Message::Put { route, lease: entry.until, block: entry.block });
    }
}
