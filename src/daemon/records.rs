//! What the node has written down, as rows of the database, and back.

use tarnet_api as api;
use tarnet_core::crypto::{PeerId, ServiceId};
use tarnet_core::dht::{Entry, StoreOp};
use tarnet_core::names::Record;
use tarnet_core::routing::{Acquaintance, EpochState};
use tarnet_core::session::{Owner, SavedKeys};
use tarnet_core::time::UnixTime;
use tarnet_core::wire::Reader;
use tarnet_core::wire::block::{Block, Slot};

use crate::store::records::{block_key, meta, zone_key};
use crate::store::{Op, Table};

/// Routing's epoch.
pub fn epoch(epoch: EpochState) -> Op {
    Op::Put(Table::Meta, meta::ROUTING.to_vec(), epoch.epoch.to_le_bytes().to_vec())
}

/// Routing's epoch as last written; none on a new node.
#[must_use]
pub fn parse_epoch(rows: &[(Vec<u8>, Vec<u8>)]) -> EpochState {
    let row = rows.iter().find(|(key, _)| key == meta::ROUTING);
    let epoch = row.and_then(|(_, value)| value.as_slice().try_into().ok()).map_or(0, u32::from_le_bytes);
    EpochState { epoch }
}

/// For how long landmarks are known.
pub fn acquaintances(known: &[Acquaintance]) -> Op {
    let rows = known.iter().flat_map(|known| known.peer.0.into_iter().chain(known.minutes.to_le_bytes()));
    Op::Put(Table::Meta, meta::LANDMARKS.to_vec(), rows.collect())
}

/// Acquaintances as last written; none on a new node, and none from a row that is damaged.
#[must_use]
pub fn parse_acquaintances(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<Acquaintance> {
    let row = rows.iter().find(|(key, _)| key == meta::LANDMARKS).map_or(&[][..], |(_, value)| value);
    let (known, rest) = row.as_chunks::<36>();
    let parse = |bytes: &[u8; 36]| {
        let mut reader = Reader::new(bytes);
        Some(Acquaintance { peer: PeerId(reader.array().ok()?), minutes: reader.u32().ok()? })
    };
    if rest.is_empty() { known.iter().filter_map(parse).collect() } else { Vec::new() }
}

/// The row key of an owner's session keys.
fn owner_key(owner: Owner) -> Vec<u8> {
    match owner {
        Owner::Service(ServiceId(id)) => [b"s".as_slice(), &id].concat(),
        Owner::Peer(PeerId(id)) => [b"p".as_slice(), &id].concat(),
    }
}

/// Session keys to keep.
pub fn session_keys(owner: Owner, keys: &SavedKeys) -> Op {
    Op::Put(Table::SessionKeys, owner_key(owner), keys.0.to_vec())
}

/// Session keys to forget.
pub fn forget_session_keys(owner: Owner) -> Op {
    Op::Remove(Table::SessionKeys, owner_key(owner))
}

/// The session keys of an owner among loaded rows.
#[must_use]
pub fn find_session_keys(rows: &[(Vec<u8>, Vec<u8>)], owner: Owner) -> Option<&[u8]> {
    let wanted = owner_key(owner);
    rows.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.as_slice())
}

/// A change of the DHT's store.
#[must_use]
pub fn store_op(op: StoreOp) -> Op {
    match op {
        StoreOp::Put(entry) => {
            let key = block_row(&entry.block.key, entry.block.slot());
            let mut value = Vec::with_capacity(64);
            value.extend_from_slice(&entry.until.0.to_le_bytes());
            value.push(u8::from(entry.own));
            value.extend_from_slice(&entry.introducer.unwrap_or(PeerId([0; 32])).0);
            value.extend_from_slice(&entry.block.encode());
            Op::Put(Table::Blocks, key, value)
        }
        StoreOp::Remove { key, slot } => Op::Remove(Table::Blocks, block_row(&key, slot)),
    }
}

/// The row key of a block.
fn block_row(key: &tarnet_core::crypto::DhtKey, slot: Slot) -> Vec<u8> {
    block_key(key, &slot.0)
}

/// A stored block from its row; `None` for a row that is damaged, which the DHT can do without.
#[must_use]
pub fn parse_block(value: &[u8]) -> Option<Entry> {
    let mut reader = Reader::new(value);
    let until = UnixTime(reader.u64().ok()?);
    let own = reader.u8().ok()? == 1;
    let introducer = PeerId(reader.array().ok()?);
    let block = Block::decode(reader.rest()).ok()?;
    Some(Entry { block, until, introducer: (!own).then_some(introducer), own })
}

/// Everything under a label of an identity's zone; nothing left removes the row.
pub fn zone_label(identity: &str, label: &str, entries: &[api::ZoneEntry]) -> Op {
    let key = zone_key(identity, label);
    match serde_json::to_vec(entries) {
        Ok(value) if !entries.is_empty() => Op::Put(Table::Zones, key, value),
        _ => Op::Remove(Table::Zones, key),
    }
}

/// The records under a label from their row.
#[must_use]
pub fn parse_zone_label(value: &[u8]) -> Vec<api::ZoneEntry> {
    serde_json::from_slice(value).unwrap_or_default()
}

/// Bytes as hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A record's type and value as text.
#[must_use]
pub fn record_to_text(record: &Record) -> (&'static str, String) {
    match record {
        Record::Identity(id) => ("identity", id.to_string()),
        Record::Zone(id) => ("zone", id.to_string()),
        Record::Alias(name) => ("alias", name.clone()),
        Record::Text(text) => ("text", text.clone()),
        Record::Content(hash) => ("content", hex(hash)),
        Record::Node(descriptor) => ("node", format!("{} bytes", descriptor.len())),
    }
}

/// A record from type and value; ids in their printed form.
#[must_use]
pub fn record_from_text(kind: &str, value: &str) -> Option<Record> {
    match kind {
        "identity" => value.parse().ok().map(Record::Identity),
        "zone" => value.parse().ok().map(Record::Zone),
        "alias" => Some(Record::Alias(value.to_owned())),
        "text" => Some(Record::Text(value.to_owned())),
        "content" => value.parse().ok().map(|PeerId(hash)| Record::Content(hash)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_as_text() {
        let id = ServiceId([3; 32]);
        let records = [
            Record::Identity(id),
            Record::Zone(id),
            Record::Alias("blog.alice".into()),
            Record::Text("hello".into()),
            Record::Content([9; 32]),
        ];
        for record in records {
            let (kind, value) = record_to_text(&record);
            assert_eq!(record_from_text(kind, &value), Some(record));
        }
        assert_eq!(record_from_text("node", "1 bytes"), None);
    }

    #[test]
    fn acquaintances_come_back_as_they_were() {
        let known: Vec<Acquaintance> =
            (1..4).map(|of| Acquaintance { peer: PeerId([of; 32]), minutes: u32::from(of) << 20 }).collect();
        let Op::Put(Table::Meta, key, value) = acquaintances(&known) else { panic!("a row of the meta table") };
        assert_eq!(parse_acquaintances(&[(key.clone(), value.clone())]), known);
        assert!(parse_acquaintances(&[(key, value[..value.len() - 1].to_vec())]).is_empty());
        assert!(parse_acquaintances(&[]).is_empty());
    }

    #[test]
    fn damaged_rows_are_nothing() {
        assert!(parse_block(&[]).is_none() && parse_block(&[1; 60]).is_none());
        assert!(parse_zone_label(b"{").is_empty());
        assert_eq!(parse_epoch(&[(meta::ROUTING.to_vec(), vec![1])]).epoch, 0);
    }
}
