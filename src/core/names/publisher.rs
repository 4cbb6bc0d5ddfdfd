//! The publisher: keeps what our public identities say in the DHT.
//!
//! Every public label, and `@node`, is an *item*: a block that is made when its words change or
//! half its life is over, handed out by `poll_put`, and put again when it was not stored or the
//! network grew. A label that is gone is withdrawn: a block without records and with a higher
//! sequence, kept up until the last block with records has expired everywhere.
//!
//! Timers: half a block's life less or more a quarter, back-off after a failure. Bounds: the
//! zones' own. Deliberately missing: hidden identities; raising the proof of work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::label_block::signer;
use super::limits::{BLOCK_LIFE_S, RESTORE_TIME, RETRY_TIME};
use super::{LabelBlock, Record, TimedRecord, ZoneLabel, Zones, block_key, create_block};
use crate::crypto::{DhtKey, PublicKey, ServiceId, SigningKey};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timers, UnixTime};
use crate::wire::block::{Block, CLOCK_TOLERANCE_S};

/// How long readers may keep where an identity is served, seconds; a failed connection looks past the cache anyway.
const NODE_TTL_S: u32 = 300;

/// A block on its way into the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PutId(pub u64);

/// Asks to store a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Repeated with the outcome.
    pub put: PutId,
    /// The block.
    pub block: Block,
}

/// A label of an identity.
type Place = (ServiceId, ZoneLabel);

/// What is said about one label, and how it stands.
struct Item {
    /// What it says; empty: withdrawn.
    records: Vec<TimedRecord>,
    /// Latest end that the words themselves allow.
    ends: Option<UnixTime>,
    /// The sequence of the last block, and a floor for the next.
    sequence: u64,
    /// When the last block with records expires.
    said_until: UnixTime,
    /// The block as it was last made.
    block: Option<Block>,
    /// Its signer, to recognise blocks of ours.
    signer: PublicKey,
    /// The pause after the next failure.
    retry: Duration,
}

/// Deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    /// An item needs a new block.
    Renew(u64),
    /// An item's block is put again.
    Again(u64),
    /// All blocks are put again.
    Restore,
}

/// The publisher of one node.
pub struct Publisher {
    rng: Rng,
    identities: BTreeMap<ServiceId, Arc<SigningKey>>,
    /// Identities that are being withdrawn.
    leaving: BTreeSet<ServiceId>,
    items: BTreeMap<u64, (Place, Item)>,
    by_place: BTreeMap<Place, u64>,
    by_key: BTreeMap<DhtKey, u64>,
    next: u64,
    /// Items whose block is to be made anew.
    to_make: BTreeSet<u64>,
    /// Items whose block is to be put.
    to_put: BTreeSet<u64>,
    puts: BTreeMap<PutId, u64>,
    timers: Timers<Deadline>,
    restored: Option<Instant>,
}

impl Publisher {
    /// Publishes nothing yet.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            identities: BTreeMap::new(),
            leaving: BTreeSet::new(),
            items: BTreeMap::new(),
            by_place: BTreeMap::new(),
            by_key: BTreeMap::new(),
            next: 0,
            to_make: BTreeSet::new(),
            to_put: BTreeSet::new(),
            puts: BTreeMap::new(),
            timers: Timers::default(),
            restored: None,
        }
    }

    /// Publishes for an identity from now on; only public ones are given here.
    pub fn add_identity(&mut self, key: Arc<SigningKey>) {
        let service = key.public().service_id();
        self.leaving.remove(&service);
        self.identities.insert(service, key);
    }

    /// Withdraws all that an identity says. Its key is kept until the withdrawals have done their work.
    pub fn withdraw_identity(&mut self, service: &ServiceId) {
        let places: Vec<_> = self.by_place.keys().filter(|place| place.0 == *service).cloned().collect();
        places.into_iter().for_each(|place| self.say(place, Vec::new(), None));
        self.leaving.insert(*service);
        self.release_key(service);
    }

    /// Publishes where an identity is served. `ends`: when the keys that the descriptor names are deleted.
    pub fn set_node_record(&mut self, service: ServiceId, descriptor: Bytes, ends: UnixTime) {
        let records = vec![TimedRecord { record: Record::Node(descriptor), ttl_s: NODE_TTL_S }];
        self.say((service, ZoneLabel::node()), records, Some(ends));
    }

    /// Withdraws where an identity is served.
    pub fn clear_node_record(&mut self, service: ServiceId) {
        self.say((service, ZoneLabel::node()), Vec::new(), None);
    }

    /// Takes over what an identity's zone says by now: what is new or changed is published at once, what is gone is
    /// withdrawn. To be called after every change.
    pub fn sync(&mut self, service: ServiceId, zones: &Zones) {
        let published = zones.published(&service);
        let of_zone = |place: &&Place| place.0 == service && place.1.as_str() != super::NODE_LABEL;
        let gone: Vec<_> =
            self.by_place.keys().filter(of_zone).filter(|place| !published.contains_key(&place.1)).cloned().collect();
        gone.into_iter().for_each(|place| self.say(place, Vec::new(), None));
        for (label, records) in published {
            self.say((service, label), records, None);
        }
    }

    /// A block under a key of ours was seen in the DHT: an earlier life of this identity may have published with
    /// higher sequences, which ours must exceed.
    pub fn handle_seen(&mut self, block: &Block) {
        let Some(number) = self.by_key.get(&block.key).copied() else { return };
        let Some((_, item)) = self.items.get_mut(&number) else { return };
        let same = item.block.as_ref().is_some_and(|ours| ours == block);
        if block.signer == item.signer && block.sequence >= item.sequence && !same {
            item.sequence = block.sequence;
            item.said_until = item.said_until.max(block.expiry);
            self.to_make.insert(number);
        }
    }

    /// How a put ended: on how many nodes the block is.
    pub fn handle_stored(&mut self, now: Now, put: PutId, replicas: usize) {
        let Some(number) = self.puts.remove(&put) else { return };
        let Some((_, item)) = self.items.get_mut(&number) else { return };
        if replicas > 0 {
            item.retry = RETRY_TIME.0;
            return;
        }
        let pause = self.rng.jitter(item.retry, 25);
        item.retry = (item.retry * 2).min(RETRY_TIME.1);
        self.timers.set(Deadline::Again(number), now.instant + pause);
    }

    /// Nodes were met that may be nearer to our keys: everything is put again, at most every 20 s.
    pub fn handle_network_grown(&mut self, now: Now) {
        if self.timers.at(&Deadline::Restore).is_some() {
            return;
        }
        let soon = now.instant + self.rng.jitter(RETRY_TIME.0, 50);
        let at = self.restored.map_or(soon, |last| soon.max(last + RESTORE_TIME));
        self.timers.set(Deadline::Restore, at);
    }

    /// Deadlines that are due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(due) = self.timers.pop_due(now.instant) {
            match due {
                Deadline::Renew(number) => self.renew(now, number),
                Deadline::Again(number) => {
                    self.to_put.insert(number);
                }
                Deadline::Restore => {
                    self.restored = Some(now.instant);
                    self.to_put.extend(self.items.keys());
                }
            }
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next block to store; at most one is made and signed per call.
    pub fn poll_put(&mut self, now: Now) -> Option<Put> {
        while let Some(number) = self.to_make.pop_first() {
            if self.make(now, number) {
                self.to_put.remove(&number);
                return self.put(number);
            }
        }
        while let Some(number) = self.to_put.pop_first() {
            if let Some(put) = self.put(number) {
                return Some(put);
            }
        }
        None
    }

    /// Labels that are published or being withdrawn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is published or being withdrawn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Says something about a label, if it is not what is said already.
    fn say(&mut self, place: Place, records: Vec<TimedRecord>, ends: Option<UnixTime>) {
        let Some(key) = self.identities.get(&place.0) else { return };
        let number = if let Some(number) = self.by_place.get(&place) {
            *number
        } else if records.is_empty() {
            return;
        } else {
            self.next += 1;
            let item = Item {
                records: Vec::new(),
                ends: None,
                sequence: 0,
                said_until: UnixTime(0),
                block: None,
                signer: signer(key, &place.1).public().clone(),
                retry: RETRY_TIME.0,
            };
            self.by_key.insert(block_key(&place.0, &place.1), self.next);
            self.by_place.insert(place.clone(), self.next);
            self.items.insert(self.next, (place, item));
            self.next
        };
        let Some((_, item)) = self.items.get_mut(&number) else { return };
        if item.block.is_none() && !self.to_make.contains(&number) || item.records != records || item.ends != ends {
            item.records = records;
            item.ends = ends;
            self.to_make.insert(number);
        }
    }

    /// Half of a block's life is over: a new one, or the end of a withdrawal that has done its work.
    fn renew(&mut self, now: Now, number: u64) {
        let Some((_, item)) = self.items.get(&number) else { return };
        if item.records.is_empty() && item.said_until.0.saturating_add(CLOCK_TOLERANCE_S) <= now.unix.0 {
            self.drop_item(number);
        } else {
            self.to_make.insert(number);
        }
    }

    /// Makes the block of an item; false when there is nothing to put.
    fn make(&mut self, now: Now, number: u64) -> bool {
        let Some((place, item)) = self.items.get_mut(&number) else { return false };
        let Some(key) = self.identities.get(&place.0) else { return false };
        if item.records.is_empty() && item.said_until == UnixTime(0) {
            // Withdrawn before anything was said.
            self.drop_item(number);
            return false;
        }
        let life_end = UnixTime(now.unix.0.saturating_add(BLOCK_LIFE_S));
        let expiry = item.ends.map_or(life_end, |ends| ends.min(life_end));
        let sequence = now.unix.0.max(item.sequence.saturating_add(1));
        let said = LabelBlock { records: item.records.clone(), sequence, expiry };
        let Ok(block) = create_block(key, &place.1, &said) else {
            // Zones hold only what fits; a descriptor that does not is the caller's fault and not published.
            tracing::error!(label = %place.1, "records do not fit into a block and are not published");
            return false;
        };
        item.sequence = sequence;
        item.block = Some(block);
        if !item.records.is_empty() {
            item.said_until = item.said_until.max(expiry);
        }
        let half = Duration::from_secs(expiry.0.saturating_sub(now.unix.0) / 2).max(RETRY_TIME.1);
        self.timers.set(Deadline::Renew(number), now.instant + self.rng.jitter(half, 25));
        true
    }

    /// Hands an item's block out.
    fn put(&mut self, number: u64) -> Option<Put> {
        let block = self.items.get(&number)?.1.block.clone()?;
        self.timers.clear(&Deadline::Again(number));
        self.next += 1;
        let put = PutId(self.next);
        self.puts.retain(|_, of| *of != number);
        self.puts.insert(put, number);
        Some(Put { put, block })
    }

    /// Forgets an item.
    fn drop_item(&mut self, number: u64) {
        let Some((place, _)) = self.items.remove(&number) else { return };
        self.by_key.remove(&block_key(&place.0, &place.1));
        self.by_place.remove(&place);
        self.timers.clear(&Deadline::Renew(number));
        self.timers.clear(&Deadline::Again(number));
        self.to_make.remove(&number);
        self.to_put.remove(&number);
        self.puts.retain(|_, of| *of != number);
        self.release_key(&place.0);
    }

    /// Lets the key of an identity go when the last of its withdrawals is done.
    fn release_key(&mut self, service: &ServiceId) {
        if self.leaving.contains(service) && !self.by_place.keys().any(|place| place.0 == *service) {
            self.leaving.remove(service);
            self.identities.remove(service);
        }
    }
}
