//! What our own identities say: the records of their zones, private and public.

use std::collections::BTreeMap;

use super::limits::ZONE_LABELS_MAX;
use super::{Record, TimedRecord, ZoneLabel};
use crate::crypto::ServiceId;
use crate::wire::names::{RECORDS_MAX, encode_records};

/// One record of a zone of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneEntry {
    /// The record.
    pub record: Record,
    /// How long a reader may keep it, seconds.
    pub ttl_s: u32,
    /// Whether it is published; a private one is for names that its own identity resolves.
    pub public: bool,
    /// Whether `expose` wrote it, not a person.
    pub by_expose: bool,
}

/// One record with its place: what is stored and loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneSnapshotEntry {
    /// The zone.
    pub zone: ServiceId,
    /// The label.
    pub label: ZoneLabel,
    /// The record.
    pub entry: ZoneEntry,
}

/// Why a record was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Not one of ours.
    #[error("not a zone of this node")]
    NoZone,
    /// A descriptor, which only the node itself publishes.
    #[error("records of that type are the node's own")]
    Reserved,
    /// `expose` does not overwrite what a person set.
    #[error("a record set by hand is in the way")]
    ByHand,
    /// The label would not fit into a block.
    #[error("the records of a label must fit into one block")]
    TooLong,
    /// The zone has as many labels as it may.
    #[error("the zone has too many labels")]
    TooMany,
}

/// The zones of our identities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    zones: BTreeMap<ServiceId, BTreeMap<ZoneLabel, Vec<ZoneEntry>>>,
}

impl Zones {
    /// Adds the zone of an identity, empty; one that is there stays as it is.
    pub fn add_zone(&mut self, zone: ServiceId) {
        self.zones.entry(zone).or_default();
    }

    /// Removes a zone and all that it says.
    pub fn remove_zone(&mut self, zone: &ServiceId) {
        self.zones.remove(zone);
    }

    /// Sets a record; it replaces those of its type.
    ///
    /// # Errors
    /// See [`SetError`]; nothing is changed then.
    pub fn set(&mut self, zone: &ServiceId, label: ZoneLabel, entry: ZoneEntry) -> Result<(), SetError> {
        let labels = self.zones.get_mut(zone).ok_or(SetError::NoZone)?;
        if matches!(entry.record, Record::Node(_)) {
            return Err(SetError::Reserved);
        }
        let kind = std::mem::discriminant(&entry.record);
        let of_kind = |old: &&ZoneEntry| std::mem::discriminant(&old.record) == kind;
        let old = labels.get(&label);
        if old.is_none() && labels.len() >= ZONE_LABELS_MAX {
            return Err(SetError::TooMany);
        }
        let old = old.map_or(&[][..], Vec::as_slice);
        if entry.by_expose && old.iter().filter(of_kind).any(|old| !old.by_expose) {
            return Err(SetError::ByHand);
        }
        let mut new: Vec<_> = old.iter().filter(|old| !of_kind(old)).cloned().collect();
        new.push(entry);
        if new.len() > RECORDS_MAX || encode_records(&timed(&new, false)).is_err() {
            return Err(SetError::TooLong);
        }
        labels.insert(label, new);
        Ok(())
    }

    /// Removes the records of a label, or only those that `expose` wrote; says how many.
    pub fn remove(&mut self, zone: &ServiceId, label: &ZoneLabel, by_expose_only: bool) -> usize {
        let Some(labels) = self.zones.get_mut(zone) else { return 0 };
        let Some(entries) = labels.get_mut(label) else { return 0 };
        let before = entries.len();
        entries.retain(|entry| by_expose_only && !entry.by_expose);
        let removed = before - entries.len();
        if entries.is_empty() {
            labels.remove(label);
        }
        removed
    }

    /// Empties a zone.
    pub fn clear(&mut self, zone: &ServiceId) {
        if let Some(labels) = self.zones.get_mut(zone) {
            labels.clear();
        }
    }

    /// Whether a zone is ours.
    #[must_use]
    pub fn contains(&self, zone: &ServiceId) -> bool {
        self.zones.contains_key(zone)
    }

    /// The records of a label; empty when there are none.
    #[must_use]
    pub fn entries(&self, zone: &ServiceId, label: &ZoneLabel) -> &[ZoneEntry] {
        self.zones.get(zone).and_then(|labels| labels.get(label)).map_or(&[], Vec::as_slice)
    }

    /// Everything in a zone, by label.
    pub fn list(&self, zone: &ServiceId) -> impl Iterator<Item = (&ZoneLabel, &ZoneEntry)> {
        let labels = self.zones.get(zone).into_iter().flatten();
        labels.flat_map(|(label, entries)| entries.iter().map(move |entry| (label, entry)))
    }

    /// What a zone publishes, by label.
    pub fn published(&self, zone: &ServiceId) -> BTreeMap<ZoneLabel, Vec<TimedRecord>> {
        let labels = self.zones.get(zone).into_iter().flatten();
        let public = labels.map(|(label, entries)| (label.clone(), timed(entries, true)));
        public.filter(|(_, records)| !records.is_empty()).collect()
    }

    /// Everything, to be stored.
    pub fn snapshot(&self) -> Vec<ZoneSnapshotEntry> {
        let zones = self.zones.keys().flat_map(|zone| self.list(zone).map(move |at| (*zone, at)));
        zones
            .map(|(zone, (label, entry))| ZoneSnapshotEntry { zone, label: label.clone(), entry: entry.clone() })
            .collect()
    }

    /// Puts stored records into zones that are there; says how many did not fit.
    pub fn restore(&mut self, entries: impl IntoIterator<Item = ZoneSnapshotEntry>) -> usize {
        entries.into_iter().filter_map(|at| self.set(&at.zone, at.label, at.entry).err()).count()
    }
}

/// Entries as records, all or the public ones.
pub(super) fn timed(entries: &[ZoneEntry], public_only: bool) -> Vec<TimedRecord> {
    let wanted = entries.iter().filter(|entry| entry.public || !public_only);
    wanted.map(|entry| TimedRecord { record: entry.record.clone(), ttl_s: entry.ttl_s }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: ServiceId = ServiceId([1; 32]);

    fn entry(text: &str, public: bool, by_expose: bool) -> ZoneEntry {
        ZoneEntry { record: Record::Text(text.into()), ttl_s: 60, public, by_expose }
    }

    fn label(text: &str) -> ZoneLabel {
        ZoneLabel::new(text).unwrap()
    }

    #[test]
    fn setting_replaces_the_type_and_a_person_wins_over_expose() {
        let mut zones = Zones::default();
        assert_eq!(zones.set(&ZONE, label("a"), entry("x", true, false)), Err(SetError::NoZone));
        zones.add_zone(ZONE);
        zones.set(&ZONE, label("a"), entry("x", true, true)).unwrap();
        zones.set(&ZONE, label("a"), entry("y", true, false)).unwrap();
        assert_eq!(zones.set(&ZONE, label("a"), entry("z", true, true)), Err(SetError::ByHand));
        let identity = ZoneEntry { record: Record::Identity(ZONE), ..entry("", true, true) };
        zones.set(&ZONE, label("a"), identity.clone()).unwrap();
        assert_eq!(zones.entries(&ZONE, &label("a")), [entry("y", true, false), identity]);
        assert_eq!(zones.remove(&ZONE, &label("a"), true), 1);
        assert_eq!(zones.remove(&ZONE, &label("a"), false), 1);
        assert_eq!(zones.list(&ZONE).count(), 0);
        let node = ZoneEntry { record: Record::Node(bytes::Bytes::new()), ..entry("", true, true) };
        assert_eq!(zones.set(&ZONE, label("a"), node), Err(SetError::Reserved));
        assert_eq!(zones.set(&ZONE, label("a"), entry(&"x".repeat(5000), true, false)), Err(SetError::TooLong));
    }

    #[test]
    fn private_records_are_not_published_and_snapshots_are_whole() {
        let mut zones = Zones::default();
        zones.add_zone(ZONE);
        zones.set(&ZONE, label("secret"), entry("x", false, false)).unwrap();
        zones.set(&ZONE, label("open"), entry("y", true, false)).unwrap();
        assert_eq!(zones.published(&ZONE).into_keys().collect::<Vec<_>>(), [label("open")]);
        let mut again = Zones::default();
        again.add_zone(ZONE);
        assert_eq!(again.restore(zones.snapshot()), 0);
        assert_eq!(again, zones);
        again.remove_zone(&ZONE);
        assert_eq!(again.restore(zones.snapshot()), 2);
    }
}
