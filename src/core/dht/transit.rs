//! Queries and answers of others: answered from the store, forwarded, their answers carried back.

use std::time::Duration;

use super::bloom::Bloom;
use super::forward::{Request, Step, clamped};
use super::limits::{HOP_FINAL, PATIENCE_MAX, PENDING_LIFE, REPLICATION_MAX};
use super::pending::{Pending, Sight, Upstream};
use super::store::{Entry, Store};
use super::{Dht, Timer, To, Via};
use crate::crypto::{DhtKey, PeerId, hash};
use crate::defence::{self, Defence};
use crate::time::{Now, UnixTime};
use crate::wire::block::{BLOCK_LEN_MAX, Block, Kind};
use crate::wire::dht::{Message, Progress, Reply, Route};

/// Bytes that a GET or an answer without a block takes, roughly: what a budget is charged.
const SMALL: usize = 256;

impl<S: Store> Dht<S> {
    /// Another's GET: our own blocks at once, then what those behind us have.
    pub(super) fn handle_get(&mut self, now: Now, via: Via, route: &Route, kind: Kind, key: DhtKey) {
        if !self.budgets.charge(now.instant, via.neighbour(), 1, SMALL) {
            self.counters.over_budget += 1;
            return self.answer(via, route.token, Progress::Partial, 0, None);
        }
        if self.pending.sight(now.instant, route.query, &key, route.hop == HOP_FINAL) == Sight::Again {
            self.counters.repeated += 1;
            return self.answer(via, route.token, Progress::Complete, 0, None);
        }
        let mut blocks: Vec<Block> = self.store.entries(now.unix, &key).into_iter().map(|entry| entry.block).collect();
        blocks.retain(|block| block.kind == kind);
        let bytes = blocks.iter().map(Block::encoded_len).sum();
        if !self.budgets.charge(now.instant, via.neighbour(), blocks.len() as u64, bytes) {
            self.counters.over_budget += 1;
            return self.answer(via, route.token, Progress::Partial, 0, None);
        }
        let digests: Vec<_> = blocks.iter().map(|block| (hash(&block.encode()), block.work_bits())).collect();
        let forwarded = self.forward(now, via, route, &Request::Get(kind, key), 0);
        if let Ok(pending) = forwarded
            && let Some(pending) = self.pending.get_mut(pending)
        {
            digests.iter().for_each(|(digest, bits)| {
                pending.pass(*digest, *bits);
            });
        }
        let last = blocks.pop();
        for block in blocks {
            self.answer(via, route.token, Progress::More, 0, Some(block));
        }
        match (forwarded, last) {
            (Ok(_), None) => {}
            (Ok(_), block) => self.answer(via, route.token, Progress::More, 0, block),
            (Err(progress), block) => self.answer(via, route.token, progress, 0, block),
        }
    }

    /// Another's PUT: stored if we are among the nearest, and forwarded.
    pub(super) fn handle_put(&mut self, now: Now, via: Via, route: &Route, lease: UnixTime, block: Block) {
        if !self.budgets.charge(now.instant, via.neighbour(), 1, SMALL + block.encoded_len()) {
            self.counters.over_budget += 1;
            return self.answer(via, route.token, Progress::Partial, 0, None);
        }
        let sight = self.pending.sight(now.instant, route.query, &block.key, route.hop == HOP_FINAL);
        if sight == Sight::Again {
            self.counters.repeated += 1;
            return self.answer(via, route.token, Progress::Complete, 0, None);
        }
        let verdict = block.verify(now.unix);
        self.clock.hear(now.instant, via.neighbour(), &block, &verdict);
        if verdict.is_err() {
            self.counters.invalid += 1;
            return self.answer(via, route.token, Progress::Complete, 0, None);
        }
        let mut stored = 0;
        if self.among_closest(&block.key, route.replication) {
            let entry = Entry::new(block.clone(), lease, now.unix, Some(via.neighbour()));
            // Who counts the replicas was told of this one by the copy before.
            stored = u8::from(self.store.put(now.unix, entry).is_ok() && sight == Sight::First);
            self.arm_expiry(now);
        }
        if let Err(progress) = self.forward(now, via, route, &Request::Put(Box::new(block), lease), stored) {
            self.answer(via, route.token, progress, stored, None);
        }
    }

    /// Sends another's query on. `Err` holds our last word when it goes nowhere.
    fn forward(&mut self, now: Now, via: Via, route: &Route, request: &Request, stored: u8) -> Result<u64, Progress> {
        if route.hop == HOP_FINAL {
            return Err(Progress::Complete);
        }
        let full = self.pending.len() >= self.limits.pending;
        let share = self.pending.of_neighbour(&via.neighbour()) >= self.limits.pending_per_neighbour;
        if full || share && defence::on(Defence::QueryShare) {
            self.counters.over_pending += 1;
            return Err(Progress::Partial);
        }
        let replication = clamped(route.replication);
        let mut bloom = Bloom::of(route.query, route.bloom);
        let step = Step { hop: route.hop, replication };
        let (to, hop) = self.next_contacts(request, step, &mut bloom);
        let each = match request {
            Request::Get(..) => SMALL,
            Request::Put(..) => BLOCK_LEN_MAX,
        };
        if to.is_empty() {
            return Err(Progress::Complete);
        }
        if !self.budgets.charge(now.instant, via.neighbour(), to.len() as u64, to.len() * each) {
            self.counters.over_budget += 1;
            return Err(Progress::Partial);
        }
        let patience = Duration::from_millis(route.patience_ms.into()).min(PATIENCE_MAX);
        let sought = match request {
            Request::Get(kind, key) => Some((*kind, *key)),
            Request::Put(..) => None,
        };
        let upstream = Upstream::Hop { via, token: route.token };
        let (answer_by, ends) = (now.instant + patience, now.instant + PENDING_LIFE.max(patience));
        let id = self.pending.open(Pending::new(upstream, sought, stored, ends));
        self.timers.set(Timer::Pending(id), answer_by);
        let patience_ms = route.patience_ms / 8 * 7;
        let route = Route { patience_ms, replication, hop, ..route.clone() };
        self.send_query(id, request, &route, &bloom, &to);
        Ok(id)
    }

    /// Answers a query, unless no answer is wanted.
    fn answer(&mut self, via: Via, token: u64, progress: Progress, stored: u8, block: Option<Block>) {
        if token != 0 {
            let size = super::size::quarters(&self.contacts, &self.reports);
            self.transmit(To::Reply(via), &Message::Reply(Reply { token, progress, size, stored, block }));
        }
    }

    /// An answer: for a pending query only, its block checked before it goes on.
    pub(super) fn handle_reply(&mut self, now: Now, reply: Reply) {
        let Some(id) = self.pending.of_token(reply.token) else {
            self.counters.unsolicited += 1;
            return;
        };
        let Some(pending) = self.pending.get_mut(id) else { return };
        let Some(leg) = pending.leg(reply.token) else { return };
        let peer = leg.peer;
        let taken = reply.block.is_some() && pending.take_block(reply.token);
        self.reports.insert(peer, reply.size);
        if let Some(block) = reply.block.filter(|_| taken) {
            self.handle_block(now, id, peer, block);
        }
        if reply.progress != Progress::More {
            self.leg_done(now, id, reply.token, reply.progress, reply.stored);
        }
    }

    /// A block for a pending query.
    fn handle_block(&mut self, now: Now, id: u64, from: PeerId, block: Block) {
        let Some(pending) = self.pending.get_mut(id) else { return };
        if pending.sought != Some((block.kind, block.key)) {
            self.counters.invalid += 1;
            return;
        }
        let (digest, bits) = (hash(&block.encode()), block.work_bits());
        if !pending.passes(&digest, bits) {
            return;
        }
        let verdict = block.verify(now.unix);
        self.clock.hear(now.instant, from, &block, &verdict);
        if verdict.is_err() {
            self.counters.invalid += 1;
            return;
        }
        pending.pass(digest, bits);
        match pending.upstream {
            Upstream::Hop { via, token } => self.answer(via, token, Progress::More, 0, Some(block)),
            Upstream::Own { own } => self.own_found(own, digest, block),
        }
    }

    /// A leg had its last word.
    pub(super) fn leg_done(&mut self, now: Now, id: u64, token: u64, progress: Progress, stored: u8) {
        let Some(pending) = self.pending.get_mut(id) else { return };
        let Some(leg) = pending.leg(token) else { return };
        let first = leg.progress == Progress::More;
        leg.progress = progress;
        if first {
            pending.stored = pending.stored.saturating_add(stored.min(REPLICATION_MAX));
        }
        let (upstream, finished, whole) = (pending.upstream, pending.finished(), pending.progress());
        if progress == Progress::Complete {
            self.pending.end_leg(token);
        }
        match upstream {
            Upstream::Own { own } => {
                if first {
                    self.own_stored(now, own, stored.min(REPLICATION_MAX));
                }
                if finished {
                    self.pending.close(id);
                    self.timers.clear(&Timer::Pending(id));
                    self.own_finished(now, own, id, whole);
                }
            }
            Upstream::Hop { .. } if finished => self.finish(now, id),
            Upstream::Hop { .. } => {}
        }
    }

    /// Gives the hop before us our last word. Late blocks still pass until the query ends, unless there can be none.
    fn finish(&mut self, now: Now, id: u64) {
        let Some(pending) = self.pending.get_mut(id) else { return };
        let (upstream, progress, stored, ends) = (pending.upstream, pending.progress(), pending.stored, pending.ends);
        let answered = std::mem::replace(&mut pending.answered, true);
        if progress == Progress::Complete || now.instant >= ends {
            self.pending.close(id);
            self.timers.clear(&Timer::Pending(id));
        } else {
            self.timers.set(Timer::Pending(id), ends);
        }
        if let Upstream::Hop { via, token } = upstream
            && !answered
        {
            self.answer(via, token, progress, stored, None);
        }
    }

    /// A pending query's patience or life is over.
    pub(super) fn pending_due(&mut self, now: Now, id: u64) {
        self.finish(now, id);
    }

    /// A contact went: what was asked of it will not be answered.
    pub(super) fn leg_gone(&mut self, now: Now, peer: PeerId) {
        for (id, token) in self.pending.legs_to(&peer) {
            self.leg_done(now, id, token, Progress::Partial, 0);
        }
    }
}
