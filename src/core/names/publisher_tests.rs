//! The publisher by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::crypto::{ServiceId, SigningKey};
use crate::rng::Rng;
use crate::time::{Instant, Now, UnixTime};

const START: Now = Now { instant: Instant::ZERO, unix: UnixTime(1_700_000_000) };

/// A publisher for one identity, its zone, and what it put.
struct Desk {
    publisher: Publisher,
    zones: Zones,
    me: ServiceId,
    now: Now,
    puts: Vec<Put>,
}

impl Desk {
    fn new() -> Self {
        let key = Arc::new(SigningKey::from_seed(&[1; 32]));
        let me = key.public().service_id();
        let mut zones = Zones::default();
        zones.add_zone(me);
        let mut publisher = Publisher::new(Rng::from_seed([2; 32]));
        publisher.add_identity(key);
        Self { publisher, zones, me, now: START, puts: Vec::new() }
    }

    fn set(&mut self, label: &str, text: &str, public: bool) {
        let entry = ZoneEntry { record: Record::Text(text.into()), ttl_s: 60, public, by_expose: false };
        self.zones.set(&self.me, ZoneLabel::new(label).unwrap(), entry).unwrap();
        self.sync();
    }

    fn sync(&mut self) {
        self.publisher.sync(self.me, &self.zones);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(put) = self.publisher.poll_put(self.now) {
            assert_eq!(put.block.verify(self.now.unix), Ok(()));
            self.publisher.handle_stored(self.now, put.put, 8);
            self.puts.push(put);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(next) = self.publisher.poll_timeout().filter(|next| *next <= end.instant) {
            self.now = self.now.after(next.saturating_since(self.now.instant));
            self.publisher.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// What the last put says about a label.
    fn last(&self, label: &str) -> LabelBlock {
        let label = if label == NODE_LABEL { ZoneLabel::node() } else { ZoneLabel::new(label).unwrap() };
        let put = self.puts.iter().rev().find(|put| put.block.key == block_key(&self.me, &label)).unwrap();
        open_block(self.now.unix, &self.me, &label, &put.block).unwrap()
    }
}

#[test]
fn public_labels_are_published_at_once_and_private_ones_never() {
    let mut desk = Desk::new();
    desk.set("secret", "x", false);
    assert!(desk.puts.is_empty());
    desk.set("open", "y", true);
    assert_eq!(desk.puts.len(), 1);
    let said = desk.last("open");
    assert_eq!(said.records[0].record, Record::Text("y".into()));
    assert_eq!((said.sequence, said.expiry), (START.unix.0, UnixTime(START.unix.0 + 86_400)));
    desk.sync();
    assert_eq!(desk.puts.len(), 1, "nothing new, nothing put");
    desk.set("open", "z", true);
    assert_eq!(desk.last("open").sequence, said.sequence + 1);
}

#[test]
fn blocks_are_renewed_when_half_of_their_life_is_over() {
    let mut desk = Desk::new();
    desk.set("open", "y", true);
    desk.pass(Duration::from_secs(9 * 3600 - 60));
    assert_eq!(desk.puts.len(), 1);
    desk.pass(Duration::from_secs(6 * 3600 + 120));
    assert_eq!(desk.puts.len(), 2);
    let said = desk.last("open");
    assert!(said.sequence > START.unix.0 && said.expiry.0 > START.unix.0 + 86_400);
}

#[test]
fn what_is_gone_is_withdrawn_until_its_last_block_has_expired() {
    let mut desk = Desk::new();
    desk.set("open", "y", true);
    desk.zones.remove(&desk.me.clone(), &ZoneLabel::new("open").unwrap(), false);
    desk.sync();
    let said = desk.last("open");
    assert!(said.records.is_empty() && said.sequence > START.unix.0);
    assert_eq!(desk.publisher.len(), 1);
    desk.pass(Duration::from_secs(30 * 3600));
    assert!(desk.puts.len() >= 3 && desk.last("open").records.is_empty());
    desk.pass(Duration::from_secs(48 * 3600));
    assert!(desk.publisher.is_empty());
    assert_eq!(desk.publisher.poll_timeout(), None);
}

#[test]
fn an_identity_that_leaves_withdraws_everything_and_then_its_key_is_let_go() {
    let mut desk = Desk::new();
    desk.set("open", "y", true);
    desk.publisher.set_node_record(desk.me, bytes::Bytes::from_static(b"here"), UnixTime(START.unix.0 + 3600));
    desk.drain();
    assert_eq!(desk.last(NODE_LABEL).expiry, UnixTime(START.unix.0 + 3600), "never longer than the keys it names");
    desk.publisher.withdraw_identity(&desk.me);
    desk.drain();
    assert!(desk.last("open").records.is_empty() && desk.last(NODE_LABEL).records.is_empty());
    desk.pass(Duration::from_secs(90 * 3600));
    assert!(desk.publisher.is_empty());
    desk.puts.clear();
    desk.sync();
    assert!(desk.puts.is_empty());
}

#[test]
fn a_higher_sequence_of_an_earlier_life_is_exceeded() {
    let mut desk = Desk::new();
    desk.set("open", "y", true);
    let label = ZoneLabel::new("open").unwrap();
    let ahead = LabelBlock { records: vec![], sequence: START.unix.0 + 5000, expiry: UnixTime(START.unix.0 + 9) };
    let seen = create_block(&SigningKey::from_seed(&[1; 32]), &label, &ahead).unwrap();
    desk.publisher.handle_seen(&seen);
    desk.drain();
    assert_eq!(desk.last("open").sequence, START.unix.0 + 5001);
    // Another's block under our key changes nothing, however high.
    let stranger = create_block(&SigningKey::from_seed(&[9; 32]), &label, &ahead).unwrap();
    let other = crate::wire::block::Block { key: seen.key, sequence: u64::MAX, ..stranger };
    desk.publisher.handle_seen(&other);
    assert_eq!(desk.publisher.poll_put(desk.now), None);
}

#[test]
fn what_was_not_stored_is_put_again_later_and_later() {
    let mut desk = Desk::new();
    let entry = ZoneEntry { record: Record::Text("y".into()), ttl_s: 60, public: true, by_expose: false };
    desk.zones.set(&desk.me, ZoneLabel::apex(), entry).unwrap();
    desk.publisher.sync(desk.me, &desk.zones);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let put = desk.publisher.poll_put(desk.now).unwrap();
        desk.publisher.handle_stored(desk.now, put.put, 0);
        let next = desk.publisher.poll_timeout().unwrap();
        pauses.push(next.saturating_since(desk.now.instant));
        desk.now = desk.now.after(pauses[pauses.len() - 1]);
        desk.publisher.handle_timeout(desk.now);
    }
    assert!(pauses[0] <= Duration::from_millis(1250));
    assert!(pauses.is_sorted() && pauses[3] > Duration::from_secs(5), "{pauses:?}");
}

#[test]
fn a_grown_network_gets_every_block_again_but_not_all_the_time() {
    let mut desk = Desk::new();
    desk.set("a", "y", true);
    desk.set("b", "y", true);
    for _ in 0..60 {
        desk.publisher.handle_network_grown(desk.now);
        desk.pass(Duration::from_millis(500));
    }
    let mut counts = BTreeMap::new();
    desk.puts.iter().for_each(|put| *counts.entry((put.block.key, put.block.sequence)).or_insert(0) += 1);
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 3], "first, and twice in thirty seconds, the same blocks");
}
