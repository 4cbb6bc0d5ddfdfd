//! The resolver against a little world of zones, and against liars.

#[path = "../attacks/name.rs"]
mod attacks;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::crypto::{DhtKey, ServiceId, SigningKey};
use crate::time::{Now, UnixTime};
use crate::wire::block::{Block, Header, Kind, seal};

const START: Now = Now { instant: crate::time::Instant::from_micros(1_000_000), unix: UnixTime(1_700_000_000) };

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn id(n: u8) -> ServiceId {
    key(n).public().service_id()
}

fn label(text: &str) -> ZoneLabel {
    match text {
        NODE_LABEL => ZoneLabel::node(),
        _ => ZoneLabel::new(text).unwrap(),
    }
}

fn lasting(ttl_s: u32, records: &[Record]) -> Vec<TimedRecord> {
    records.iter().map(|record| TimedRecord { record: record.clone(), ttl_s }).collect()
}

/// A block of identity `n`.
fn block(n: u8, name: &str, sequence: u64, records: &[Record]) -> Block {
    let said = LabelBlock { records: lasting(60, records), sequence, expiry: UnixTime(START.unix.0 + 86_400) };
    create_block(&key(n), &label(name), &said).unwrap()
}

/// A resolver whose queries are answered from a table.
struct World {
    resolver: Resolver,
    zones: Zones,
    stored: BTreeMap<DhtKey, Vec<Block>>,
    /// Keys for which nobody answers.
    silent: Vec<DhtKey>,
    now: Now,
    asked: usize,
    next: u64,
}

impl World {
    /// The zone of identity 1 is ours.
    fn new() -> Self {
        let mut zones = Zones::default();
        zones.add_zone(id(1));
        Self {
            resolver: Resolver::new(),
            zones,
            stored: BTreeMap::new(),
            silent: vec![],
            now: START,
            asked: 0,
            next: 0,
        }
    }

    fn own(&mut self, name: &str, record: Record) {
        let entry = ZoneEntry { record, ttl_s: 60, public: false, by_expose: false };
        self.zones.set(&id(1), label(name), entry).unwrap();
    }

    fn publish(&mut self, block: Block) {
        self.stored.entry(block.key).or_default().push(block);
    }

    fn says(&mut self, n: u8, name: &str, record: Record) {
        self.publish(block(n, name, 1, &[record]));
    }

    /// Answers queries until the resolver has nothing to do but wait.
    fn answer(&mut self) {
        while let Some(Fetch { fetch, key }) = self.resolver.poll_fetch() {
            self.asked += 1;
            if self.silent.contains(&key) {
                continue;
            }
            let blocks = self.stored.get(&key).cloned().unwrap_or_default();
            for block in &blocks {
                self.resolver.handle_block(self.now, fetch, block);
            }
            let outcome = if blocks.is_empty() { Outcome::Absent } else { Outcome::Found };
            self.resolver.handle_done(self.now, &self.zones, fetch, outcome);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(next) = self.resolver.poll_timeout().filter(|next| *next <= end.instant) {
            self.now.instant = next;
            self.resolver.handle_timeout(self.now, &self.zones);
            self.answer();
        }
        self.now = end;
    }

    fn start(&mut self, name: &str, how: ResolveOptions) -> ResolveId {
        self.next += 1;
        let name = Name::parse(name, "").unwrap();
        self.resolver.resolve(self.now, ResolveId(self.next), id(1), &self.zones, &name, how);
        self.answer();
        ResolveId(self.next)
    }

    fn resolve(&mut self, name: &str) -> Result<Answer, ResolveError> {
        self.start(name, ResolveOptions::default());
        self.result().expect("an answer")
    }

    fn result(&mut self) -> Option<Result<Answer, ResolveError>> {
        match self.resolver.poll_event()? {
            Event::Resolved { result, .. } => Some(result),
            event @ Event::Node { .. } => panic!("{event:?}"),
        }
    }

    fn node(&mut self, service: ServiceId, fresh: bool) -> Result<bytes::Bytes, ResolveError> {
        self.resolver.resolve_node(self.now, ResolveId(0), service, &self.zones, ResolveOptions { fresh });
        self.answer();
        match self.resolver.poll_event() {
            Some(Event::Node { result, .. }) => result,
            event => panic!("{event:?}"),
        }
    }

    /// Service and carried label of a name.
    fn leads(&mut self, name: &str) -> (Option<ServiceId>, Option<String>) {
        let answer = self.resolve(name).unwrap();
        (answer.service, answer.label.map(|label| label.to_string()))
    }
}

fn absent(n: u8, name: &str) -> Result<Answer, ResolveError> {
    Err(ResolveError::NoSuchName { zone: id(n), label: label(name) })
}

#[test]
fn what_is_private_is_seen_by_its_own_identity_alone() {
    let mut world = World::new();
    world.zones.add_zone(id(2));
    for (name, public) in [("diary", false), ("blog", true)] {
        let entry = ZoneEntry { record: Record::Identity(id(2)), ttl_s: 60, public, by_expose: false };
        world.zones.set(&id(2), label(name), entry).unwrap();
    }
    world.own("bob", Record::Zone(id(2)));
    let direct = format!("diary.{}", id(2));
    assert_eq!(world.resolve("diary.bob"), absent(2, "diary"));
    assert_eq!(world.resolve(&direct), absent(2, "diary"));
    assert_eq!(world.leads("blog.bob"), (Some(id(2)), Some("blog".into())));
    let name = Name::parse("diary", "").unwrap();
    world.resolver.resolve(world.now, ResolveId(99), id(2), &world.zones, &name, ResolveOptions::default());
    assert_eq!(world.result().unwrap().unwrap().service, Some(id(2)));
}

#[test]
fn petnames_delegations_and_service_ids_lead_where_they_should() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    world.own("bob", Record::Identity(id(3)));
    world.own("mine", Record::Identity(id(1)));
    world.says(2, "blog", Record::Identity(id(2)));
    world.says(2, "friend", Record::Zone(id(4)));
    world.says(4, "@", Record::Identity(id(5)));
    assert_eq!(world.leads("bob"), (Some(id(3)), None), "a petname carries no label");
    assert_eq!(world.leads("blog.alice"), (Some(id(2)), Some("blog".into())));
    assert_eq!(world.leads(&format!("blog.{}", id(2))), (Some(id(2)), Some("blog".into())));
    assert_eq!(world.leads("mine"), (Some(id(1)), Some("mine".into())), "our own service under our own label");
    assert_eq!(world.leads("alice"), (Some(id(2)), None), "no apex: the zone's own identity");
    assert_eq!(world.leads("friend.alice"), (Some(id(5)), None), "the apex wins");
    assert_eq!(world.leads(&id(4).to_string()), (Some(id(5)), None));
    assert_eq!(world.leads(&id(9).to_string()), (Some(id(9)), None), "a bare ServiceId needs nobody");
    assert_eq!(world.resolve("nobody"), absent(1, "nobody"));
    assert_eq!(world.resolve("nobody.alice"), absent(2, "nobody"));
    assert_eq!(world.resolve("x.bob"), Err(ResolveError::NotAZone { label: label("bob") }));
}

#[test]
fn an_alias_is_relative_to_the_zone_that_holds_it_never_to_the_asker() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    world.own("www", Record::Identity(id(9)));
    world.own("short", Record::Alias("www.alice".into()));
    world.says(2, "blog", Record::Alias("www".into()));
    world.says(2, "www", Record::Identity(id(3)));
    world.says(2, "out", Record::Alias(format!("www.{}", id(4))));
    world.says(2, "sub", Record::Alias("deep".into()));
    world.says(2, "deep", Record::Zone(id(4)));
    world.says(4, "www", Record::Identity(id(5)));
    world.says(2, "bad", Record::Alias("a..b".into()));
    assert_eq!(world.leads("blog.alice"), (Some(id(3)), Some("www".into())));
    assert_eq!(world.leads("short").0, Some(id(3)));
    assert_eq!(world.leads("out.alice").0, Some(id(5)));
    assert_eq!(world.leads("www.sub.alice").0, Some(id(5)), "what stands left goes along");
    assert_eq!(world.resolve("bad.alice"), Err(ResolveError::BadAlias(NameError::EmptyLabel)));
}

#[test]
fn text_and_content_inform() {
    let mut world = World::new();
    world.own("note", Record::Text("hello".into()));
    world.own("note", Record::Content([7; 32]));
    let answer = world.resolve("note").unwrap();
    assert_eq!((answer.service, answer.records.len(), answer.zone), (None, 2, id(1)));
}

#[test]
fn loops_and_long_ways_are_errors() {
    let mut world = World::new();
    world.own("a", Record::Alias("b".into()));
    world.own("b", Record::Alias("a".into()));
    world.own("grow", Record::Alias("x.grow".into()));
    world.own("round", Record::Zone(id(2)));
    world.says(2, "@", Record::Zone(id(3)));
    world.says(3, "@", Record::Zone(id(2)));
    for name in ["a", "grow", "round"] {
        assert_eq!(world.resolve(name), Err(ResolveError::Loop), "{name}");
    }
    // A chain of 32 steps works, of 33 does not.
    for n in 0..40 {
        world.own(&format!("c{n}"), Record::Alias(format!("c{}", n + 1)));
    }
    world.own("c40", Record::Identity(id(9)));
    assert_eq!(world.leads("c9").0, Some(id(9)));
    assert_eq!(world.resolve("c8"), Err(ResolveError::Loop));
}

#[test]
fn answers_are_cached_as_long_as_they_say_and_absence_for_five_seconds() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    world.says(2, "blog", Record::Identity(id(3)));
    world.resolve("blog.alice").unwrap();
    world.pass(Duration::from_secs(59));
    world.resolve("blog.alice").unwrap();
    assert_eq!(world.asked, 1);
    world.pass(Duration::from_secs(2));
    world.resolve("blog.alice").unwrap();
    assert_eq!(world.asked, 2);
    // Past the cache on request.
    world.publish(block(2, "blog", 2, &[Record::Identity(id(4))]));
    assert_eq!(world.leads("blog.alice").0, Some(id(3)));
    world.start("blog.alice", ResolveOptions { fresh: true });
    assert_eq!(world.result().unwrap().unwrap().service, Some(id(4)));
    assert_eq!(world.leads("blog.alice").0, Some(id(4)));
    // Absence.
    let asked = world.asked;
    assert_eq!(world.resolve("no.alice"), absent(2, "no"));
    world.pass(Duration::from_secs(4));
    assert_eq!(world.resolve("no.alice"), absent(2, "no"));
    assert_eq!(world.asked, asked + 1);
    world.says(2, "no", Record::Identity(id(3)));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.leads("no.alice").0, Some(id(3)));
}

#[test]
fn a_withdrawn_label_is_absent_and_its_past_does_not_come_back() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    let old = block(2, "blog", 1, &[Record::Identity(id(3))]);
    world.publish(old.clone());
    world.publish(block(2, "blog", 2, &[]));
    assert_eq!(world.resolve("blog.alice"), absent(2, "blog"));
    world.stored.insert(old.key, vec![old]);
    world.pass(Duration::from_secs(6));
    world.start("blog.alice", ResolveOptions::default());
    world.pass(Duration::from_secs(4));
    assert_eq!(world.result(), Some(Err(ResolveError::TimedOut)));
    assert!(world.resolver.counters().rolled_back > 0);
}

#[test]
fn the_highest_sequence_wins_in_whatever_order_blocks_come() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    let (old, new) = (block(2, "blog", 1, &[Record::Identity(id(3))]), block(2, "blog", 2, &[Record::Identity(id(4))]));
    for blocks in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        world.resolver = Resolver::new();
        world.stored.insert(old.key, blocks.to_vec());
        assert_eq!(world.leads("blog.alice").0, Some(id(4)));
    }
}

#[test]
fn the_first_block_is_taken_a_moment_after_it_came_and_a_later_one_fills_the_cache() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    let at = block_key(&id(2), &label("blog"));
    world.silent.push(at);
    world.start("blog.alice", ResolveOptions::default());
    let fetch = FetchId(2);
    let now = world.now;
    world.resolver.handle_block(now, fetch, &block(2, "blog", 1, &[Record::Identity(id(3))]));
    assert_eq!(world.result(), None);
    world.pass(Duration::from_millis(10));
    assert_eq!(world.result().unwrap().unwrap().service, Some(id(3)));
    let now = world.now;
    world.resolver.handle_block(now, fetch, &block(2, "blog", 2, &[Record::Identity(id(4))]));
    assert_eq!(world.leads("blog.alice").0, Some(id(4)));
}

#[test]
fn no_answer_is_told_after_four_seconds_and_a_late_one_is_kept() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    let at = block_key(&id(2), &label("blog"));
    world.silent.push(at);
    world.start("blog.alice", ResolveOptions::default());
    world.start("blog.alice", ResolveOptions::default());
    assert_eq!(world.asked, 1, "the same look-up is made once");
    world.pass(Duration::from_millis(3999));
    assert_eq!(world.result(), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.result(), Some(Err(ResolveError::TimedOut)));
    assert_eq!(world.result(), Some(Err(ResolveError::TimedOut)));
    let now = world.now;
    world.resolver.handle_block(now, FetchId(2), &block(2, "blog", 1, &[Record::Identity(id(3))]));
    world.resolver.handle_done(now, &world.zones, FetchId(2), Outcome::Found);
    assert_eq!(world.leads("blog.alice").0, Some(id(3)));
    assert_eq!(world.asked, 1);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.resolver.poll_timeout(), None);
}

#[test]
fn an_apex_that_does_not_answer_does_not_hide_its_zone() {
    let mut world = World::new();
    world.silent.push(block_key(&id(2), &label("@")));
    world.start(&id(2).to_string(), ResolveOptions::default());
    assert_eq!(world.result(), None);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.result().unwrap().unwrap().service, Some(id(2)));
}

/// A block of a stranger who knows zone and label.
fn squat(n: u8, at: &Block, text: &[u8]) -> Block {
    let stranger = key(n);
    let header =
        Header { kind: Kind::Name, key: &at.key, signer: stranger.public(), sequence: u64::MAX, expiry: at.expiry };
    let ciphertext = seal(&[n; 32], &header, text).unwrap();
    Block::create(Kind::Name, at.key, &stranger, u64::MAX, at.expiry, ciphertext).unwrap()
}

#[test]
fn junk_first_does_not_keep_the_real_block_out() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    let real = block(2, "blog", 1, &[Record::Identity(id(3))]);
    let mut blocks: Vec<_> = (10..30).map(|n| squat(n, &real, b"junk")).collect();
    blocks.push(real.clone());
    world.stored.insert(real.key, blocks);
    assert_eq!(world.leads("blog.alice").0, Some(id(3)));
    assert_eq!(world.resolver.counters().forged, 20);
}

#[test]
fn a_label_with_junk_alone_is_asked_for_again_until_the_real_block_comes() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    let real = block(2, "blog", 1, &[Record::Identity(id(3))]);
    let place = real.key;
    world.silent.push(place);
    world.start("blog.alice", ResolveOptions::default());
    let junk = squat(10, &real, b"junk");
    let now = world.now;
    world.resolver.handle_block(now, FetchId(2), &junk);
    world.resolver.handle_done(now, &world.zones, FetchId(2), Outcome::Found);
    let again = world.resolver.poll_fetch().expect("another query");
    assert_eq!(again.key, place);
    world.resolver.handle_block(now, again.fetch, &real);
    world.resolver.handle_done(now, &world.zones, again.fetch, Outcome::Found);
    assert_eq!(world.result().unwrap().unwrap().service, Some(id(3)));
    assert_eq!(world.resolver.counters().crowded, 1);
    // Junk for ever ends too, and says nothing about the name.
    world.stored.insert(block_key(&id(2), &label("x")), vec![squat(11, &block(2, "x", 1, &[]), b"junk")]);
    assert_eq!(world.resolve("x.alice"), Err(ResolveError::TimedOut));
}

#[test]
fn blocks_of_queries_that_nobody_asked_are_ignored() {
    let mut world = World::new();
    world.resolver.handle_block(START, FetchId(7), &block(2, "blog", 1, &[Record::Identity(id(3))]));
    world.resolver.handle_done(START, &world.zones, FetchId(7), Outcome::Absent);
    assert_eq!(world.resolver.poll_event(), None);
    assert_eq!(world.resolver.poll_timeout(), None);
}

#[test]
fn where_an_identity_is_served_is_found_and_looked_up_anew_on_request() {
    let mut world = World::new();
    world.publish(block(2, NODE_LABEL, 1, &[Record::Node(bytes::Bytes::from_static(b"here"))]));
    assert_eq!(world.node(id(2), false).unwrap(), "here");
    world.publish(block(2, NODE_LABEL, 2, &[Record::Node(bytes::Bytes::from_static(b"moved"))]));
    assert_eq!(world.node(id(2), false).unwrap(), "here");
    assert_eq!(world.node(id(2), true).unwrap(), "moved");
    assert_eq!(world.node(id(3), false), Err(ResolveError::NoSuchName { zone: id(3), label: ZoneLabel::node() }));
    // Resolving a bare ServiceId asks for it on the way.
    let asked = world.asked;
    world.resolve(&id(4).to_string()).unwrap();
    assert_eq!(world.asked, asked + 2);
    assert!(world.node(id(4), false).is_err());
    assert_eq!(world.asked, asked + 2);
}

#[test]
fn the_trace_tells_each_step() {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    world.says(2, "blog", Record::Identity(id(3)));
    world.start("blog.alice", ResolveOptions::default());
    let Some(Event::Resolved { trace, .. }) = world.resolver.poll_event() else { panic!() };
    let steps: Vec<_> =
        trace.iter().map(|step| (step.zone, step.label.as_str(), step.key, step.found.as_str())).collect();
    let at = block_key(&id(2), &label("blog"));
    assert_eq!(steps, [(id(1), "alice", None, "own zone: zone"), (id(2), "blog", Some(at), "fetched: identity")]);
}
