//! Our own queries. A GET is several walks over disjoint first hops, each a query of its own, so that none can keep
//! another from being answered: straight ones, and where we do not see every peer one that takes random steps first. It
//! ends when most straight walks have ended in a denial, or all in anything; a PUT when all have answered.

use std::collections::{BTreeMap, BTreeSet};

use super::bloom::Bloom;
use super::contacts::Contact;
use super::forward::Request;
use super::limits::{
    DEADLINE, DENIALS_MIN, OWN_LEN, PATIENCE, PENDING_LIFE, REPLICATION, SILENCE, STRAIGHT, STRAIGHT_OUT, WANDERING,
    WANDERING_REPLICATION,
};
use super::pending::{Pending, Upstream};
use super::store::{Entry, Refused, Store};
use super::{Dht, Event, Outcome, QueryId, Timer};
use crate::crypto::{DhtKey, hash};
use crate::time::{Instant, Now, UnixTime};
use crate::wire::block::{Block, Kind};
use crate::wire::dht::{Progress, Route};

/// The first hops of one walk, and how far its query believes to be.
struct Walk {
    /// Whether it goes to the nearest: then its denial counts.
    straight: bool,
    hop: u8,
    to: Vec<Contact>,
}

/// Walks to begin.
struct Plan {
    walks: Vec<Walk>,
    /// Places that nobody behind the first hops needs to ask: we do.
    covered: Vec<DhtKey>,
}

/// One query of ours.
pub(super) struct Own {
    /// Who is told; nobody about a refresh.
    pub notify: Option<QueryId>,
    request: Request,
    /// Walks that have not finished, by pending query; whether they are straight.
    open: BTreeMap<u64, bool>,
    /// Straight walks begun.
    straight: usize,
    /// Straight walks that ended, and said that this is all.
    denied: usize,
    /// Digests of blocks found.
    found: BTreeSet<[u8; 32]>,
    replicas: u32,
    quiet_at: Instant,
    ends: Instant,
}

impl Own {
    /// A query that has asked nobody yet.
    fn new(notify: Option<QueryId>, request: Request, now: Instant) -> Self {
        Self {
            notify,
            request,
            open: BTreeMap::new(),
            straight: 0,
            denied: 0,
            found: BTreeSet::new(),
            replicas: 0,
            quiet_at: now + SILENCE,
            ends: now + DEADLINE,
        }
    }

    /// Whether so many straight walks said that this is all, that the silent ones may be presumed gone.
    fn agreed(&self) -> bool {
        self.denied * 2 >= self.straight && self.denied >= self.straight.min(DENIALS_MIN)
    }

    /// Whether most of them did, where there are many. A walk that meets a liar counts as a denial.
    fn denied(&self) -> bool {
        let out = if self.straight < STRAIGHT { 0 } else { STRAIGHT_OUT };
        self.found.is_empty() && self.denied + out >= self.straight
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

    /// Whether it has ended: with the last walk, at its deadline, when the straight walks deny, or when only presumed
    /// dead hops are silent.
    fn over(&self, now: Instant) -> bool {
        let quiet = now >= self.quiet_at;
        let enough = match self.request {
            Request::Get(..) => self.denied() || quiet && self.agreed(),
            Request::Put(..) => quiet && self.replicas > 0,
        };
        self.open.is_empty() || now >= self.ends || enough
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
        let plan = self.plan_get(&key);
        self.launch(now, id, plan);
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
        let plan = self.plan_put(&key);
        self.launch(now, id, plan);
    }

    /// Enters an own query.
    fn enter(&mut self, now: Now, own: Own) -> u64 {
        let id = self.owns.last_key_value().map_or(0, |(id, _)| id + 1);
        self.timers.set(Timer::Own(id), now.instant + SILENCE);
        self.owns.insert(id, own);
        id
    }

    /// A hop count past the random steps, a little at random: what has taken them looks the same.
    fn greedy_hop(&mut self) -> u8 {
        let past = u64::from(self.walk()) + 1 + self.rng.public_below(2);
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

    /// Whom a GET asks: where we see every peer all that are nearest, each alone; else the nearest few each alone, and
    /// one walk with random steps, which finds what is out of our sight but denies nothing.
    fn plan_get(&mut self, key: &DhtKey) -> Plan {
        let (near, covered) = self.known_nearest(key);
        let straight = |dht: &mut Self, to| Walk { straight: true, hop: dht.greedy_hop(), to: vec![to] };
        let mut walks: Vec<Walk> = near.iter().map(|contact| straight(self, *contact)).collect();
        walks.extend(self.plan_random(&near));
        Plan { walks, covered }
    }

    /// Whom a PUT asks: all of the nearest that we know in one query, which each stores once, so that no few liars among
    /// them swallow it; in a larger network also a walk with random steps.
    fn plan_put(&mut self, key: &DhtKey) -> Plan {
        let (to, covered) = self.known_nearest(key);
        let random = self.plan_random(&to);
        let walks = [Walk { straight: true, hop: self.greedy_hop(), to }].into_iter().chain(random).collect();
        Plan { walks, covered }
    }

    /// The first hops of what goes straight, and the places that nobody behind them needs to ask.
    fn known_nearest(&self, key: &DhtKey) -> (Vec<Contact>, Vec<DhtKey>) {
        if self.contacts.complete() {
            return self.nearest(key);
        }
        let near = self.contacts.closest(key, STRAIGHT);
        let places = near.iter().map(|contact| contact.id).collect();
        (near, places)
    }

    /// The walk with random steps, in a network larger than we see.
    fn plan_random(&mut self, near: &[Contact]) -> Option<Walk> {
        if self.contacts.complete() {
            return None;
        }
        let to = self.contacts.random(WANDERING, &mut self.rng, |c| near.iter().all(|n| n.peer != c.peer));
        Some(Walk { straight: false, hop: u8::from(self.rng.public_u32() & 1 == 1), to })
    }

    /// Begins the walks, or ends the query when there is nobody to ask.
    fn launch(&mut self, now: Now, id: u64, plan: Plan) {
        for walk in plan.walks.iter().filter(|walk| !walk.to.is_empty()) {
            self.begin(now, id, walk, &plan.covered);
        }
        if self.owns.get(&id).is_some_and(|own| own.open.is_empty()) {
            self.conclude(id);
        }
    }

    /// Asks the first hops of one walk.
    fn begin(&mut self, now: Now, id: u64, walk: &Walk, covered: &[DhtKey]) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        let request = own.request.clone();
        let query = self.rng.public_u64();
        let mut bloom = Bloom::fresh(query, &mut self.rng);
        covered.iter().chain(walk.to.iter().map(|c| &c.id)).for_each(|id| bloom.insert(id));
        let sought = match &request {
            Request::Get(kind, key) => Some((*kind, *key)),
            Request::Put(..) => None,
        };
        let pending = Pending::new(Upstream::Own { own: id }, sought, 0, now.instant + PENDING_LIFE);
        let pending = self.pending.open(pending);
        own.open.insert(pending, walk.straight);
        own.straight += usize::from(walk.straight);
        self.pending.sight(now.instant, query, request.key(), false);
        let patience_ms = u16::try_from(PATIENCE.as_millis()).unwrap_or(u16::MAX);
        let (hop, replication) = (walk.hop, if walk.straight { REPLICATION } else { WANDERING_REPLICATION });
        let route = Route { token: 0, query, patience_ms, hop, replication, bloom: *bloom.bits() };
        self.send_query(pending, &request, &route, &bloom, &walk.to);
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

    /// A first hop had its last word, and says how many stored. When it is quiet already, nobody waits for the others.
    pub(super) fn own_stored(&mut self, now: Now, id: u64, stored: u8) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        own.replicas += u32::from(stored);
        if own.over(now.instant) {
            self.conclude(id);
        }
    }

    /// All first hops of a walk have answered.
    pub(super) fn own_finished(&mut self, now: Now, id: u64, pending: u64, progress: Progress) {
        let Some(own) = self.owns.get_mut(&id) else { return };
        let straight = own.open.remove(&pending).unwrap_or(false);
        own.denied += usize::from(straight && progress == Progress::Complete);
        if own.over(now.instant) {
            self.conclude(id);
        }
    }

    /// It is quiet, or the whole took long enough.
    pub(super) fn own_due(&mut self, now: Now, id: u64) {
        let Some(own) = self.owns.get(&id) else { return };
        if own.over(now.instant) {
            return self.conclude(id);
        }
        self.timers.set(Timer::Own(id), own.ends);
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
        for pending in own.open.into_keys() {
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
