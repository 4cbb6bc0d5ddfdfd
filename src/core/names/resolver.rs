//! The resolver: walks names, asks for blocks, keeps what it learns.
//!
//! A resolution is answered at once, or waits for one look-up at a time; look-ups for the same
//! label are one. A look-up takes the block with the highest sequence that the zone's identity
//! signed, a moment after the first one came, and asks on while only others' blocks come.
//! Timers: 4 s per resolution, 2 s for the apex at a name's end, 30 s per look-up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::cache::Lru;
use super::limits::{
    ABSENT_TIME, ANSWER_TIME, ANSWERS_MAX, APEX_TIME, BLOCKS_PER_LOOKUP_MAX, FOUND_TIME, LOOKUP_TIME, LOOKUPS_MAX,
    QUERIES_PER_LOOKUP_MAX, SEQUENCES_MAX, SETTLE_TIME, WALKS_MAX,
};
use super::walk::{Goal, Next, Said, Walk};
use super::zones::timed;
use super::{
    Event, Fetch, FetchId, LabelBlock, Name, Outcome, Record, ResolveError, ResolveId, ResolveOptions,
    ResolverCounters, TimedRecord, TraceStep, ZoneLabel, Zones, block_key, open_block,
};
use crate::crypto::ServiceId;
use crate::defence::{self, Defence};
use crate::time::{Instant, Now, Timers, micros};
use crate::wire::block::Block;

/// A label of a zone.
type Place = (ServiceId, ZoneLabel);

/// A cached answer.
#[derive(Debug, Clone)]
struct Cached {
    records: Vec<TimedRecord>,
    stored: Instant,
    until: Instant,
}

/// A look-up under way.
struct LookUp {
    place: Place,
    waiters: BTreeSet<ResolveId>,
    best: Option<LabelBlock>,
    started: Instant,
    queries: u32,
    blocks: u32,
    rejected: u32,
    settled: bool,
}

/// Where what a step brought is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A zone of ours.
    OwnZone,
    /// An earlier look-up.
    Cache,
    /// This look-up.
    Dht,
    /// Nowhere.
    NoAnswer,
}

/// Deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    /// A resolution has waited long enough.
    Walk(ResolveId),
    /// A look-up has collected long enough.
    Settle(u64),
    /// A look-up ends.
    LookUp(u64),
}

/// The resolver of one node.
pub struct Resolver {
    walks: BTreeMap<ResolveId, Walk>,
    look_ups: BTreeMap<u64, LookUp>,
    by_place: BTreeMap<Place, u64>,
    by_fetch: BTreeMap<FetchId, u64>,
    answers: Lru<Place, Cached>,
    sequences: Lru<Place, u64>,
    next: u64,
    timers: Timers<Deadline>,
    fetches: VecDeque<Fetch>,
    events: VecDeque<Event>,
    counters: ResolverCounters,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            walks: BTreeMap::new(),
            look_ups: BTreeMap::new(),
            by_place: BTreeMap::new(),
            by_fetch: BTreeMap::new(),
            answers: Lru::new(ANSWERS_MAX),
            sequences: Lru::new(SEQUENCES_MAX),
            next: 0,
            timers: Timers::default(),
            fetches: VecDeque::new(),
            events: VecDeque::new(),
            counters: ResolverCounters::default(),
        }
    }

    /// Resolves a name, beginning in the acting identity's zone; [`Event::Resolved`] follows, perhaps at once.
    pub fn resolve(
        &mut self,
        now: Now,
        id: ResolveId,
        acting: ServiceId,
        zones: &Zones,
        name: &Name,
        how: ResolveOptions,
    ) {
        let walk = Walk::name(now.instant, now.instant + ANSWER_TIME, acting, name);
        self.start(now, zones, id, walk, how);
    }

    /// Finds where a public identity is served; [`Event::Node`] follows, perhaps at once.
    pub fn resolve_node(&mut self, now: Now, id: ResolveId, service: ServiceId, zones: &Zones, how: ResolveOptions) {
        let walk = Walk::node(now.instant, now.instant + ANSWER_TIME, service);
        self.start(now, zones, id, walk, how);
    }

    /// Nobody waits for that resolution any more; its look-up goes on.
    pub fn cancel(&mut self, id: ResolveId) {
        self.walks.remove(&id);
        self.timers.clear(&Deadline::Walk(id));
        self.look_ups.values_mut().for_each(|look_up| {
            look_up.waiters.remove(&id);
        });
    }

    /// A block of a query.
    pub fn handle_block(&mut self, now: Now, fetch: FetchId, block: &Block) {
        let Some(number) = self.by_fetch.get(&fetch).copied() else { return };
        let Some(look_up) = self.look_ups.get_mut(&number) else { return };
        look_up.blocks += 1;
        if look_up.blocks > BLOCKS_PER_LOOKUP_MAX {
            self.counters.over_limit += 1;
            return;
        }
        let (zone, label) = &look_up.place;
        let Ok(said) = open_block(now.unix, zone, label, block) else {
            look_up.rejected += 1;
            self.counters.forged += 1;
            return;
        };
        let known = self.sequences.get(&look_up.place).copied();
        if known.is_some_and(|known| said.sequence < known) && defence::on(Defence::RememberedSequence) {
            look_up.rejected += 1;
            self.counters.rolled_back += 1;
            return;
        }
        self.sequences.insert(look_up.place.clone(), said.sequence);
        let first = look_up.best.is_none();
        look_up.best = Some(said);
        if look_up.settled {
            return self.keep(now, number);
        }
        if first {
            let passed = now.instant.saturating_since(look_up.started);
            let settle = (passed / 2).clamp(SETTLE_TIME.0, SETTLE_TIME.1);
            self.timers.set(Deadline::Settle(number), now.instant + settle);
        }
    }

    /// The end of a query.
    pub fn handle_done(&mut self, now: Now, zones: &Zones, fetch: FetchId, outcome: Outcome) {
        let Some(number) = self.by_fetch.remove(&fetch) else { return };
        let Some(look_up) = self.look_ups.get_mut(&number) else { return };
        if look_up.settled || look_up.best.is_some() {
            self.settle(now, zones, number);
            self.forget(number);
            return;
        }
        let crowded = look_up.rejected > 0;
        self.counters.crowded += u64::from(crowded);
        if outcome == Outcome::Absent && !crowded {
            let place = look_up.place.clone();
            let until = now.instant + ABSENT_TIME;
            self.answers.insert(place, Cached { records: Vec::new(), stored: now.instant, until });
            return self.end_look_up(now, zones, number, &Said::Records(Vec::new()));
        }
        let asked_for = now.instant.saturating_since(look_up.started);
        let patience = if crowded { LOOKUP_TIME } else { ANSWER_TIME };
        if look_up.queries < QUERIES_PER_LOOKUP_MAX && asked_for < patience {
            look_up.rejected = 0;
            self.query(number);
        } else {
            self.end_look_up(now, zones, number, &Said::TimedOut);
        }
    }

    /// Deadlines that are due.
    pub fn handle_timeout(&mut self, now: Now, zones: &Zones) {
        while let Some(due) = self.timers.pop_due(now.instant) {
            match due {
                Deadline::Walk(id) => {
                    self.look_ups.values_mut().for_each(|look_up| {
                        look_up.waiters.remove(&id);
                    });
                    self.take(now, id, Said::TimedOut, Source::NoAnswer);
                    self.advance(now, zones, id);
                }
                Deadline::Settle(number) => self.settle(now, zones, number),
                Deadline::LookUp(number) => self.end_look_up(now, zones, number, &Said::TimedOut),
            }
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next query to ask the DHT.
    pub fn poll_fetch(&mut self) -> Option<Fetch> {
        self.fetches.pop_front()
    }

    /// The next answer.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &ResolverCounters {
        &self.counters
    }

    /// Begins a resolution.
    fn start(&mut self, now: Now, zones: &Zones, id: ResolveId, mut walk: Walk, how: ResolveOptions) {
        walk.fresh_since = how.fresh.then_some(now.instant);
        if self.walks.len() >= WALKS_MAX && !self.walks.contains_key(&id) {
            self.counters.over_limit += 1;
            return self.tell(id, walk, Next::Name(Err(ResolveError::Busy)));
        }
        self.cancel(id);
        self.walks.insert(id, walk);
        self.advance(now, zones, id);
    }

    /// Takes steps until the resolution ends or has to wait.
    fn advance(&mut self, now: Now, zones: &Zones, id: ResolveId) {
        while let Some(walk) = self.walks.get_mut(&id) {
            walk.step_started = now.instant;
            let place = (walk.zone, walk.label.clone());
            if walk.goal == Goal::Name && zones.contains(&place.0) {
                // Identities of one node may be different people's: what is private is its own identity's to see.
                let public_only = !walk.is_of(&place.0);
                let records = timed(zones.entries(&place.0, &place.1), public_only);
                self.take(now, id, Said::Records(records), Source::OwnZone);
            } else if let Some(records) = self.cached(now.instant, &place, id) {
                self.counters.cached += 1;
                self.take(now, id, Said::Records(records), Source::Cache);
            } else {
                return self.wait(now, id, place);
            }
        }
    }

    /// What the cache says, if the resolution takes cached answers.
    fn cached(&mut self, now: Instant, place: &Place, id: ResolveId) -> Option<Vec<TimedRecord>> {
        let since = self.walks.get(&id).and_then(|walk| walk.fresh_since);
        let cached = self.answers.get(place)?;
        (cached.until > now && since.is_none_or(|since| cached.stored > since)).then(|| cached.records.clone())
    }

    /// Lets a resolution wait for a look-up.
    fn wait(&mut self, now: Now, id: ResolveId, place: Place) {
        let Some(number) = self.look_up(now, &place) else {
            return self.take(now, id, Said::TimedOut, Source::NoAnswer);
        };
        if let Some(look_up) = self.look_ups.get_mut(&number) {
            look_up.waiters.insert(id);
        }
        let Some(walk) = self.walks.get(&id) else { return };
        let at_end = walk.is_at_end();
        let until = if at_end { walk.deadline.min(now.instant + APEX_TIME) } else { walk.deadline };
        self.timers.set(Deadline::Walk(id), until);
        // Whoever resolves an identity's zone is about to connect: where it is served is asked for at the same time.
        let node = (place.0, ZoneLabel::node());
        if at_end && self.cached(now.instant, &node, id).is_none() {
            self.look_up(now, &node);
        }
    }

    /// The look-up of a place, begun if there is none; `None` at the bound.
    fn look_up(&mut self, now: Now, place: &Place) -> Option<u64> {
        if let Some(number) = self.by_place.get(place) {
            return Some(*number);
        }
        if self.look_ups.len() >= LOOKUPS_MAX {
            self.counters.over_limit += 1;
            return None;
        }
        self.next += 1;
        let number = self.next;
        let look_up = LookUp {
            place: place.clone(),
            waiters: BTreeSet::new(),
            best: None,
            started: now.instant,
            queries: 0,
            blocks: 0,
            rejected: 0,
            settled: false,
        };
        self.look_ups.insert(number, look_up);
        self.by_place.insert(place.clone(), number);
        self.timers.set(Deadline::LookUp(number), now.instant + LOOKUP_TIME);
        self.query(number);
        Some(number)
    }

    /// Asks the DHT for a look-up.
    fn query(&mut self, number: u64) {
        let Some(look_up) = self.look_ups.get_mut(&number) else { return };
        look_up.queries += 1;
        self.next += 1;
        self.counters.fetches += 1;
        let fetch = FetchId(self.next);
        self.by_fetch.insert(fetch, number);
        self.fetches.push_back(Fetch { fetch, key: block_key(&look_up.place.0, &look_up.place.1) });
    }

    /// Keeps the best block of a look-up in the cache.
    fn keep(&mut self, now: Now, number: u64) {
        let Some(LookUp { best: Some(best), place, .. }) = self.look_ups.get(&number) else { return };
        let until = now.instant + life(now, best);
        let cached = Cached { records: best.records.clone(), stored: now.instant, until };
        self.answers.insert(place.clone(), cached);
    }

    /// Takes the best block so far as the answer; the look-up goes on behind it.
    fn settle(&mut self, now: Now, zones: &Zones, number: u64) {
        self.timers.clear(&Deadline::Settle(number));
        self.keep(now, number);
        let Some(look_up) = self.look_ups.get_mut(&number) else { return };
        let Some(best) = &look_up.best else { return };
        look_up.settled = true;
        let (records, waiters) = (best.records.clone(), std::mem::take(&mut look_up.waiters));
        if self.by_place.get(&look_up.place) == Some(&number) {
            self.by_place.remove(&look_up.place);
        }
        for id in waiters {
            self.take(now, id, Said::Records(records.clone()), Source::Dht);
            self.advance(now, zones, id);
        }
    }

    /// Ends a look-up and tells who waits.
    fn end_look_up(&mut self, now: Now, zones: &Zones, number: u64, said: &Said) {
        let Some(look_up) = self.forget(number) else { return };
        for id in look_up.waiters {
            self.take(now, id, said.clone(), if *said == Said::TimedOut { Source::NoAnswer } else { Source::Dht });
            self.advance(now, zones, id);
        }
    }

    /// Forgets a look-up.
    fn forget(&mut self, number: u64) -> Option<LookUp> {
        let look_up = self.look_ups.remove(&number)?;
        if self.by_place.get(&look_up.place) == Some(&number) {
            self.by_place.remove(&look_up.place);
        }
        self.by_fetch.retain(|_, of| *of != number);
        self.timers.clear(&Deadline::Settle(number));
        self.timers.clear(&Deadline::LookUp(number));
        Some(look_up)
    }

    /// Gives a resolution what its step brought; it ends, or has the next step before it.
    fn take(&mut self, now: Now, id: ResolveId, said: Said, source: Source) {
        let Some(mut walk) = self.walks.remove(&id) else { return };
        self.timers.clear(&Deadline::Walk(id));
        walk.trace.push(TraceStep {
            zone: walk.zone,
            label: walk.label.clone(),
            key: (source != Source::OwnZone).then(|| block_key(&walk.zone, &walk.label)),
            found: describe(&said, source),
            us: micros(now.instant.saturating_since(walk.step_started)),
        });
        match walk.take(said) {
            Next::LookUp => {
                self.walks.insert(id, walk);
            }
            next @ (Next::Name(_) | Next::Node(_)) => self.tell(id, walk, next),
        }
    }

    /// Tells how a resolution ended.
    fn tell(&mut self, id: ResolveId, walk: Walk, next: Next) {
        let event = match (next, walk.goal) {
            (Next::Node(result), _) => Event::Node { id, result },
            (Next::Name(Err(error)), Goal::Node) => Event::Node { id, result: Err(error) },
            (Next::Name(result), Goal::Name) => Event::Resolved { id, result, trace: walk.trace },
            (Next::LookUp | Next::Name(Ok(_)), _) => return,
        };
        self.events.push_back(event);
    }
}

/// How long a block's records may be kept: as they say, within bounds, never past the block's own end.
fn life(now: Now, block: &LabelBlock) -> Duration {
    if block.records.is_empty() {
        return ABSENT_TIME;
    }
    let ttl_s = block.records.iter().map(|timed| timed.ttl_s).min().unwrap_or(0);
    let left = Duration::from_secs(block.expiry.0.saturating_sub(now.unix.0));
    Duration::from_secs(u64::from(ttl_s)).clamp(FOUND_TIME.0, FOUND_TIME.1).min(left.max(FOUND_TIME.0))
}

/// What a step brought, for people.
fn describe(said: &Said, source: Source) -> String {
    let how = match source {
        Source::OwnZone => "own zone",
        Source::Cache => "cached",
        Source::Dht => "fetched",
        Source::NoAnswer => "no answer",
    };
    let Said::Records(records) = said else { return how.to_owned() };
    let kinds: Vec<_> = records
        .iter()
        .map(|timed| match &timed.record {
            Record::Identity(_) => "identity",
            Record::Zone(_) => "zone",
            Record::Alias(_) => "alias",
            Record::Text(_) => "text",
            Record::Content(_) => "content",
            Record::Node(_) => "node",
        })
        .collect();
    if kinds.is_empty() { format!("{how}: nothing") } else { format!("{how}: {}", kinds.join(", ")) }
}
