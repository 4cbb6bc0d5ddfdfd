//! Whom a query goes to next: R5N's out-degree, random steps first, then greedily toward the key, and at the
//! key's neighbourhood a last step to those of the r nearest that were not asked.

use super::bloom::Bloom;
use super::contacts::{Contact, distance};
use super::limits::{BRANCHING_PER_L, BUCKET_LEN, HOP_FINAL, HOPS_PER_L, REPLICATION_MAX};
use super::store::Store;
use super::{Dht, To, size};
use crate::crypto::DhtKey;
use crate::defence::{self, Defence};
use crate::time::UnixTime;
use crate::wire::block::{Block, Kind};
use crate::wire::dht::{Message, Route};

/// Parts of one, for rounding by chance.
const PARTS: u64 = 1 << 20;

/// What a query wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// The blocks of a kind under a key.
    Get(Kind, DhtKey),
    /// To store a block, until then.
    Put(Box<Block>, UnixTime),
}

impl Request {
    /// The key that it is about.
    pub const fn key(&self) -> &DhtKey {
        match self {
            Self::Get(_, key) => key,
            Self::Put(block, _) => &block.key,
        }
    }

    /// The message that carries it.
    pub fn message(self, route: Route) -> Message {
        match self {
            Self::Get(kind, key) => Message::Get { route, kind, key },
            Self::Put(block, lease) => Message::Put { route, lease, block: *block },
        }
    }
}

/// How far a query has come, as this hop believes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Hops so far.
    pub hop: u8,
    /// Replicas wanted.
    pub replication: u8,
}

/// The replication that a query gets of the one that it asks for.
pub(super) fn clamped(replication: u8) -> u8 {
    let most = if defence::on(Defence::ReplicationClamp) { REPLICATION_MAX } else { u8::MAX };
    replication.clamp(1, most)
}

impl<S: Store> Dht<S> {
    /// The size estimate in whole steps, at least one.
    pub(super) fn length(&self) -> u32 {
        u32::from(size::quarters(&self.contacts, &self.reports)).div_ceil(4).max(1)
    }

    /// Random steps that a query takes first: none where we see every peer anyway; else so many that it may be nearly
    /// anywhere then, two at least. R5N takes a step for each bit of the size, for contacts in few places; among `c` of
    /// all places a step is worth `log2 c` bits. Contacts that are near to us in the network, too, make it less.
    pub(super) fn walk(&self) -> u32 {
        if self.contacts.complete() {
            return 0;
        }
        let bits = self.contacts.len().checked_ilog2().unwrap_or(0).max(1);
        self.length().div_ceil(bits).max(2)
    }

    /// How many contacts the next hop is: `1 + (r-1) / (L + (r-1) * hop)`, the fraction by chance; one after 2 L
    /// hops, none after 4 L. draft-schanzen-r5n §8
    fn degree(&mut self, step: Step) -> usize {
        let (length, hop) = (self.length(), u32::from(step.hop));
        if hop >= HOPS_PER_L * length {
            return 0;
        }
        if hop >= BRANCHING_PER_L * length {
            return 1;
        }
        let extra = u64::from(clamped(step.replication) - 1);
        let parts = extra * PARTS / (u64::from(length) + extra * u64::from(hop)).max(1);
        let by_chance = self.rng.public_below(PARTS) < parts % PARTS;
        1 + usize::try_from(parts / PARTS).unwrap_or(0) + usize::from(by_chance)
    }

    /// Whether we are among the `replication` nearest to a key.
    pub(super) fn among_closest(&self, key: &DhtKey, replication: u8) -> bool {
        let wanted = usize::from(clamped(replication));
        self.contacts.nearer(key, &distance(&self.id, key), wanted) < wanted
    }

    /// Whom a query goes to from here, and with which hop count. Enters them in the filter.
    pub(super) fn next_contacts(&mut self, request: &Request, step: Step, bloom: &mut Bloom) -> (Vec<Contact>, u8) {
        let degree = self.degree(step);
        let (chosen, last) = if degree == 0 {
            (Vec::new(), true)
        } else if u32::from(step.hop) < self.walk() {
            (self.contacts.random(degree, &mut self.rng, |c| !bloom.contains(&c.id)), false)
        } else {
            self.toward(request, step.replication, degree, bloom)
        };
        chosen.iter().for_each(|c| bloom.insert(&c.id));
        (chosen, if last { HOP_FINAL } else { step.hop.saturating_add(1).min(HOP_FINAL - 1) })
    }

    /// The greedy choice. The filter is advisory: the nearest contact is asked though a filter claims it was, while
    /// we are not among the nearest ourselves, and a filter that claims nearly everybody is not believed. Says whether it
    /// is the last step.
    fn toward(&self, request: &Request, replication: u8, degree: usize, bloom: &Bloom) -> (Vec<Contact>, bool) {
        let (key, wanted) = (request.key(), usize::from(clamped(replication)));
        let mine = distance(&self.id, key);
        let closest = self.contacts.closest(key, BUCKET_LEN);
        let nearer = closest.iter().take_while(|c| distance(&c.id, key) < mine).count();
        let advisory = defence::on(Defence::AdvisoryFilter);
        let unasked = |c: &&Contact| advisory && bloom.implausible() || !bloom.contains(&c.id);
        if nearer < wanted {
            // We are one of the nearest; the others are one less. All of them at once, and they ask nobody behind them: our
            // last word is two steps away, and what we do not see, the other first hops do. If they went on, everybody
            // who sees only a part of the network, and so believes to be one of the nearest, would ask seven more. Who knows
            // hardly anybody is not the end of the way.
            let others = &closest[..closest.len().min(wanted - 1)];
            // Where whoever looks for a block has asked others around the key itself, it is enough to ask those nearer than we
            // are: who is farther was asked, or is asked by one of these that is farther still.
            let around = !bloom.implausible() && others.iter().skip(nearer).any(|c| bloom.contains(&c.id));
            let looks = matches!(request, Request::Get(..)) && around && advisory;
            let others = if looks { &others[..nearer] } else { others };
            return (others.iter().filter(unasked).copied().collect(), closest.len() >= wanted);
        }
        let mut chosen: Vec<Contact> = closest[..nearer].iter().filter(unasked).take(degree).copied().collect();
        if chosen.is_empty() && advisory {
            chosen.extend(closest.first());
        }
        (chosen, false)
    }

    /// Sends a query to the chosen contacts, each under its own token.
    pub(super) fn send_query(&mut self, pending: u64, request: &Request, route: &Route, bloom: &Bloom, to: &[Contact]) {
        for contact in to {
            let token = self.pending.add_leg(pending, contact.peer);
            let route = Route { token, bloom: *bloom.bits(), ..route.clone() };
            self.transmit(To::Peer(contact.peer), &request.clone().message(route));
        }
    }
}
