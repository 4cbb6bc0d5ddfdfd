//! Our own queries: two groups of disjoint first hops, in stages, until both groups have answered.

use std::collections::{BTreeSet, VecDeque};

use super::bloom::Bloom;
use super::contacts::Contact;
use super::forward::{Request, Step};
use super::limits::{ALPHA, DEADLINE, HEDGE, OWN_LEN, PATIENCE, PENDING_LIFE, REPLICATION, SILENCE};
use super::pending::{Pending, Upstream};
use super::store::{Entry, Refused, Store};
use super::{Dht, Event, Outcome, QueryId, Timer};
use crate::crypto::{DhtKey, hash};
use crate::time::{Instant, Now, UnixTime};
use crate::wire::block::{Block, Kind};
use crate::wire::dht::{Progress, Route};

/// Groups of disjoint first hops.
const GROUPS: usize = 2;

/// The first hops of one group, and where its query believes to be.
struct Start {
    group: usize,
    hop: u8,
    to: Vec<Contact>,
}

/// One query of ours.
pub(super) struct Own {
    /// Who is told; nobody about a refresh.
    pub notify: Option<QueryId>,
    request: Request,
    /// What is asked next: one batch of starts per stage.
    stages: VecDeque<Vec<Start>>,
    /// Places that nobody behind the first hops needs to ask: we do.
    covered: Vec<DhtKey>,
    /// Pending queries that have not finished.
    open: BTreeSet<u64>,
    /// Groups that asked somebody.
    asked: [bool; GROUPS],
    /// Groups in which somebody said that this is all.
    denied: [bool; GROUPS],
    /// Digests of blocks found.
    found: BTreeSet<[u8; 32]>,
    replicas: u32,
    stage_at: Instant,
    ends: Instant,
}

impl Own {
    /// A query that has asked nobody yet.
    fn new(notify: Option<QueryId>, request: Request, now: Instant) -> Self {
        Self {
            notify,
            request,
            stages: VecDeque::new(),
            covered: Vec::new(),
            open: BTreeSet::new(),
            asked: [false; GROUPS],
            denied: [false; GROUPS],
            found: BTreeSet::new(),
            replicas: 0,
            stage_at: now,
            ends: now + DEADLINE,
        }
    }

    /// Whether every group that asked somebody was told that this is all.
    fn agreed(&self) -> bool {
        self.asked.iter().zip(self.denied).all(|(asked, denied)| !asked || denied)
    }

    /// What to say at its end.
    fn outcome(&self) -> Outcome {
        match self.request {
            Request::Put(..) => Outcome::Stored { replicas: self.replicas },
            Request::Get(..) if !self.found.is_empty() => Outcome::Found,
            Request::Get(..) if self.agreed() => Outcome::Absent,
            Request::Get(..) => Outcome::TimedOut,
        }
    }

    /// When to look at it again.
    fn next_look(&self) -> Instant {
        let wait = if self.stages.is_empty() { SILENCE } else { HEDGE };
        (self.stage_at + wait).min(self.ends)
    }

    /// Whether it ended before its last word: at its deadline, or when only presumed dead hops are silent.
    fn over(&self, now: Instant) -> bool {
        let quiet = now >= self.stage_at + SILENCE && self.stages.is_empty();
        let enough = match self.request {
            Request::Get(..) => self.agreed(),
            Request::Put(..) => self.replicas > 0,
        };
        now >= self.ends || quiet && enough
    }
}

impl<S: Store> Dht<S> {
    /// Begins a GET.
    pub(super) fn start_get(&mut self, now: Now, query: QueryId, key: DhtKey, kind: Kind) {
        if self.owns.len() >= OWN_LEN {
            return self.events.push_back(Event::Done { query, outcome: Outcome::TimedOut });
        }
        let id = self.enter(now, Own::new(Some(query), Request::Get(kind, key), now.instant));
        for entry in self.store.entries(now.unix, &key) {
            if entry.block.kind == kind {
                self.own_found(id, hash(&entry.block.encode()), entry.block);
            }
        }
        let (stages, covered) = if self.contacts.complete() { self.plan_all(&key) } else { self.plan_two(&key) };
        self.launch(now, id, stages, covered);
    }

    /// Begins a PUT: keeps the block, then sends it to the nearest.
    pub(super) fn start_put(&mut self, now: Now, notify: Option<QueryId>, block: Block, lease: UnixTime) {
        let (key, slot) = (block.key, block.slot());
        let entry = Entry::new(block.clone(), lease, now.unix, None);
        let lease = entry.until;
        let kept = block.verify(now.unix).map_err(Refused::from).and_then(|()| self.store.put(now.unix, entry));
        if let Err(why @ (Refused::Invalid(_) | Refused::Older)) = kept {
            return self.tell(notify, Outcome::Refused(why));
        }
        if self.store.entry(&key, &slot).is_some_and(|entry| entry.own) {
            self.arm_refresh(now, key, slot);
        }
        self.arm_expiry(now);
        if self.owns.len() >= OWN_LEN {
            return self.tell(notify, Outcome::TimedOut);
        }
        let id = self.enter(now, Own::new(notify, Request::Put(Box::new(block), lease), now.instant));
        let stored = kept.is_ok() && self.among_closest(&key, REPLICATION);
        if let Some(own) = self.owns.get_mut(&id) {
            own.replicas = u32::from(stored);
        }
        let (stages, covered) = if self.contacts.complete() {
            let (to, covered) = self.nearest(&key);
            (vec![vec![Start { group: 0, hop: self.greedy_hop(), to }]], covered)
        } else {
            self.plan_two(&key)
        };
        self.launch(now, id, stages, covered);
    }

    /// Enters an own query.
    fn enter(&mut self, now: Now, own: Own) -> u64 {
        let id = self.owns.last_key_value().map_or(0, |(id, _)| id + 1);
        self.timers.set(Timer::Own(id), now.instant + HEDGE);
        self.owns.insert(id, own);
        id
    }

    /// A hop count past the random steps, a little at random, so that it does not show the originator.
    fn greedy_hop(&mut self) -> u8 {
        let past = u64::from(self.length()) + self.rng.public_below(2);
        u8::try_from(past).unwrap_or(u8::MAX / 2)
    }

    /// The contacts among the nearest, and the places of all the nearest: if we are one of them, ours is too, or each
    /// would ask us back. It tells nobody who asks: every one of them is in the filter.
    pub(super) fn nearest(&self, key: &DhtKey) -> (Vec<Contact>, Vec<DhtKey>) {
        let among = self.among_closest(key, REPLICATION);
        let contacts = self.contacts.closest(key, usize::from(REPLICATION) - usize::from(among));
        let places = contacts.iter().map(|c| c.id).chain(among.then_some(self.id)).collect();
        (contacts, places)
    }

    /// Where we see every peer: the nearest are asked directly, the nearest few of either group first.
    fn plan_all(&mut self, key: &DhtKey) -> (Vec<Vec<Start>>, Vec<DhtKey>) {
        let ((all, covered), hop) = (self.nearest(key), self.greedy_hop());
        let first = all.len().min(ALPHA + 1);
        let stages = [&all[..first], &all[first..]];
        let split = |stage: &[Contact]| -> Vec<Start> {
            let of = |group: usize| stage.iter().skip(group).step_by(GROUPS).copied().collect();
            (0..GROUPS).map(|group| Start { group, hop, to: of(group) }).collect()
        };
        (stages.into_iter().filter(|stage| !stage.is_empty()).map(split).collect(), covered)
    }

    /// In a network larger than we see: one group goes straight toward the key, the other takes the random steps.
    fn plan_two(&mut self, key: &DhtKey) -> (Vec<Vec<Start>>, Vec<DhtKey>) {
        let (near, hop) = (self.contacts.closest(key, ALPHA), self.greedy_hop());
        let away = self.contacts.random(ALPHA - 1, &mut self.rng, |c| near.iter().all(|n| n.peer != c.peer));
        let walk = Start { group: 1, hop: u8::from(self.rng.public_u32() & 1 == 1), to: away };
        (vec![vec![Start { group: 0, hop, to: near }, walk]], Vec::new())
    }

    /// Gives an own query its plan and takes the first step.
    fn launch(&mut self, now: Now, id: u64, stages: Vec<Vec<Start>>, covered: Vec<DhtKey>) {
        if let Some(own) = self.owns.get_mut(&id) {
            (own.stages, own.covered) = (stages.into(), covered);
        }
        self.advance(now, id);
    }

    /// Asks the next stage, or ends the query when there is none and all have answered.
    fn advance(&mut self, now: Now, id: u64) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        let Some(stage) = own.stages.pop_front() else {
            if own.open.is_empty() {
                self.conclude(id);
            }
            return;
        };
        own.stage_at = now.instant;
        let at = own.next_look();
        self.timers.set(Timer::Own(id), at);
        for start in stage.into_iter().filter(|start| !start.to.is_empty()) {
            self.ask(now, id, &start);
        }
        if self.owns.get(&id).is_some_and(|own| own.open.is_empty()) {
            self.advance(now, id);
        }
    }

    /// Asks the first hops of one group.
    fn ask(&mut self, now: Now, id: u64, start: &Start) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        let request = own.request.clone();
        let query = self.rng.public_u64();
        let mut bloom = Bloom::fresh(query, &mut self.rng);
        own.covered.iter().chain(start.to.iter().map(|c| &c.id)).for_each(|id| bloom.insert(id));
        own.asked[start.group] = true;
        let sought = match &request {
            Request::Get(kind, key) => Some((*kind, *key)),
            Request::Put(..) => None,
        };
        let (upstream, ends) = (Upstream::Own { own: id, group: start.group }, now.instant + PENDING_LIFE);
        let pending = self.pending.open(Pending::new(upstream, sought, 0, ends));
        own.open.insert(pending);
        self.pending.first_sight(now.instant, query, request.key());
        let patience_ms = u16::try_from(PATIENCE.as_millis()).unwrap_or(u16::MAX);
        let step = Step { hop: start.hop, replication: REPLICATION };
        let route =
            Route { token: 0, query, patience_ms, hop: step.hop, replication: step.replication, bloom: *bloom.bits() };
        self.send_query(pending, &request, &route, &bloom, &start.to);
    }

    /// A block for an own query: told once.
    pub(super) fn own_found(&mut self, id: u64, digest: [u8; 32], block: Block) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        if own.found.insert(digest)
            && let Some(query) = own.notify
        {
            self.events.push_back(Event::Block { query, block });
        }
    }

    /// A first hop had its last word.
    pub(super) fn own_leg_done(&mut self, now: Now, id: u64, group: usize, progress: Progress, stored: u8) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        own.denied[group] |= progress == Progress::Complete;
        own.replicas += u32::from(stored);
        if own.over(now.instant) {
            self.conclude(id);
        }
    }

    /// All first hops of a group's query have answered.
    pub(super) fn own_finished(&mut self, now: Now, id: u64, pending: u64) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        own.open.remove(&pending);
        if own.open.is_empty() {
            self.advance(now, id);
        }
    }

    /// A stage or the whole took long enough.
    pub(super) fn own_due(&mut self, now: Now, id: u64) {
        let Some(own) = self.owns.get(&id) else { return };
        if own.over(now.instant) {
            return self.conclude(id);
        }
        if !own.stages.is_empty() && now.instant >= own.next_look() {
            return self.advance(now, id);
        }
        let at = own.next_look();
        let at = if at > now.instant { at } else { own.ends };
        self.timers.set(Timer::Own(id), at);
    }

    /// Ends an own query and tells how.
    fn conclude(&mut self, id: u64) {
        let Some(own) = self.owns.get(&id) else { return };
        let (notify, outcome) = (own.notify, own.outcome());
        self.drop_own(id);
        self.tell(notify, outcome);
    }

    /// Ends an own query; late answers are unsolicited from now on.
    pub(super) fn drop_own(&mut self, id: u64) {
        let Some(own) = self.owns.remove(&id) else { return };
        self.timers.clear(&Timer::Own(id));
        for pending in own.open {
            self.pending.close(pending);
        }
    }

    /// Tells whoever asked how a query ended.
    fn tell(&mut self, notify: Option<QueryId>, outcome: Outcome) {
        if let Some(query) = notify {
            self.events.push_back(Event::Done { query, outcome });
        }
    }
}
