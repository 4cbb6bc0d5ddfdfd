//! What we tell neighbours: batches of changes to all, whole tables or named routes to one.

use std::ops::Bound;

use bytes::{BufMut, Bytes};

use super::import::next_hop_tag;
use super::limits::BATCH_BYTES;
use super::neighbour::Retelling;
use super::{Routing, To};
use crate::crypto::PeerId;
use crate::time::Instant;
use crate::wire::kind;
use crate::wire::routing::{
    Advert, Digest, ITEMS_MAX, Item, METRIC_END, Marks, OriginProof, PROOF_LEN, Subject, short,
};

/// Bytes of an item besides its proof, at most.
const ITEM_LEN: usize = 24;
/// Items with a proof in one batch: what [`BATCH_BYTES`] holds.
const PROVEN_MAX: usize = BATCH_BYTES / (PROOF_LEN + ITEM_LEN);

impl Routing {
    /// Tells all neighbours what is due.
    pub(super) fn send_adverts(&mut self, now: Instant) {
        let due = self.take_due(now);
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (dest, with_proof) in due {
            let len = ITEM_LEN + if with_proof { PROOF_LEN } else { 9 };
            if batch.len() == ITEMS_MAX || bytes + len > BATCH_BYTES {
                self.send_batch(To::All, Marks::default(), &std::mem::take(&mut batch));
                bytes = 0;
            }
            batch.push((dest, with_proof));
            bytes += len;
        }
        if !batch.is_empty() {
            self.send_batch(To::All, Marks::default(), &batch);
        }
    }

    /// Signs and queues one batch.
    fn send_batch(&mut self, to: To, marks: Marks, dests: &[(PeerId, bool)]) {
        self.batch += 1;
        let number = self.batch;
        let items: Vec<Item> =
            dests.iter().filter_map(|(dest, with_proof)| self.item(number, dest, *with_proof)).collect();
        for (dest, _) in dests {
            if let Some(entry) = self.table.entries.get_mut(dest) {
                entry.heard = entry.heard.max(entry.best().map(|best| best.sequence).unwrap_or_default());
                if to != To::All {
                    entry.show();
                }
            }
        }
        self.send_items(to, marks, number, &items);
    }

    /// Signs and queues items that name this batch.
    fn send_items(&mut self, to: To, marks: Marks, number: u64, items: &[Item]) {
        let mut body = Advert::encode_unsigned(marks, number, items);
        let signature = self.origin.sign_advert(&body);
        body.put_slice(&signature);
        self.counters.adverts_sent += 1;
        let body: Bytes = body.freeze();
        if let (To::One(peer), true) = (to, marks.start)
            && let Some(neighbour) = self.neighbours.get_mut(&peer)
        {
            neighbour.sent = Digest::default();
        }
        self.send(to, kind::ADVERT, body);
    }

    /// Our route to a destination as an item.
    fn item(&self, number: u64, dest: &PeerId, with_proof: bool) -> Option<Item> {
        let (proof, seq, metric, via, chain) = if *dest == self.me {
            (self.origin.proof(), self.origin.sequence().seq, 0, self.me, self.origin.element())
        } else {
            let entry = self.table.entries.get(dest)?;
            let best = entry.best()?;
            let chain = entry.verifier.import(&best.element, best.cost);
            (&entry.proof, best.sequence.seq, best.metric(), best.via, chain)
        };
        let subject = if with_proof {
            Subject::Proven(Box::new((**proof).clone()))
        } else {
            Subject::Known {
                short: short(dest),
                epoch_low: proof.epoch.to_le_bytes()[0],
                landmark: proof.is_landmark(),
            }
        };
        Some(Item { subject, seq, metric, tag: next_hop_tag(&self.me, number, &via), chain })
    }

    /// Begins to retell our whole table to a neighbour.
    pub(super) fn begin_retelling(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.retelling = Some(Retelling { after: None });
            neighbour.answers.clear();
        }
    }

    /// Queues one batch of what a neighbour asked for, if any did. Called when nothing else waits.
    pub(super) fn retell(&mut self) {
        let asked = self.neighbours.iter().find(|(_, n)| n.retelling.is_some() || !n.answers.is_empty());
        let Some((peer, neighbour)) = asked else { return };
        let peer = *peer;
        match neighbour.retelling {
            Some(retelling) => self.retell_table(&peer, retelling),
            None => self.retell_answers(&peer),
        }
    }

    /// The next batch of our whole table; our own proof comes first, so that the neighbour can check the signature.
    fn retell_table(&mut self, peer: &PeerId, retelling: Retelling) {
        let from = retelling.after.map_or(Bound::Unbounded, Bound::Excluded);
        let told = |dest: &PeerId, entry: &super::Entry| {
            entry.best().filter(|best| best.via != *peer && dest != peer).map(|_| (*dest, true))
        };
        let own = retelling.after.is_none().then_some((self.me, true));
        let rest = self.table.entries.range((from, Bound::Unbounded)).filter_map(|(dest, entry)| told(dest, entry));
        let dests: Vec<(PeerId, bool)> = own.into_iter().chain(rest.take(PROVEN_MAX - 1)).collect();
        let end = dests.len() < PROVEN_MAX - 1;
        let last = dests.last().map(|(dest, _)| *dest).filter(|last| *last != self.me).or(retelling.after);
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.retelling = if end { None } else { Some(Retelling { after: last }) };
        }
        self.send_batch(To::One(*peer), Marks { start: retelling.after.is_none(), end }, &dests);
    }

    /// The next batch of named routes.
    fn retell_answers(&mut self, peer: &PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else { return };
        let mut dests = Vec::new();
        while dests.len() < PROVEN_MAX {
            let Some(dest) = neighbour.answers.pop_first() else { break };
            dests.push((dest, true));
        }
        self.send_batch(To::One(*peer), Marks::default(), &dests);
    }

    /// Sends a destination's newest proof to one neighbour, as an unreachable route: not ours to offer, but the truth.
    pub(super) fn send_correction(&mut self, to: PeerId, dest: &PeerId, proof: &OriginProof) {
        self.batch += 1;
        let number = self.batch;
        let tag = next_hop_tag(&self.me, number, dest);
        let subject = Subject::Proven(Box::new(proof.clone()));
        let item = Item { subject, seq: 0, metric: METRIC_END, tag, chain: [0; 16] };
        self.send_items(To::One(to), Marks::default(), number, &[item]);
    }
}
