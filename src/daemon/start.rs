//! From settings and state on disk to a node: keys, identities, zones, blocks, peers.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use tarnet_core::crypto::{Aead, PeerId, Scheme, SigningKey};
use tarnet_core::dht::{MemoryStore, StoreLimits, dht_id};
use tarnet_core::link;
use tarnet_core::names::{ZoneEntry, ZoneLabel};
use tarnet_core::node::{Config as NodeConfig, Node};
use tarnet_core::rng::Rng;
use tarnet_core::session::Owner;
use tarnet_core::time::Now;

use crate::config::{Config, Padding};
use crate::engine::DEFAULT_IDENTITY;
use crate::peers::Peers;
use crate::records;
use crate::store::{Disk, KeyFolder, Table};

/// What was on disk, as a node and what goes with it.
pub struct Loaded {
    /// The node.
    pub node: Node<MemoryStore>,
    /// Identities by name.
    pub identities: Vec<(String, Arc<SigningKey>)>,
    /// Known peers.
    pub peers: Peers,
}

/// Reads keys and state, makes what a new node lacks.
///
/// # Errors
/// A key or the database cannot be read or written.
pub async fn load(config: &Config, keys: &KeyFolder, disk: &Disk, now: Now) -> anyhow::Result<Loaded> {
    let mut rng = Rng::from_seed(crate::seed());
    let key = node_key(keys, &mut rng)?;
    let identities = identities(keys, &mut rng)?;
    let meta = disk.load(Table::Meta).await?;
    let session_keys = disk.load(Table::SessionKeys).await?;
    let peers = Peers::load(&disk.load(Table::Peers).await?, &disk.load(Table::Places).await?);
    let me = key.public().peer_id();
    let store = store(disk, me, now, eighth(config)).await?;
    let own_keys = records::find_session_keys(&session_keys, Owner::Peer(me)).map(|keys| keys.to_vec().into());
    let settings = NodeConfig {
        links: link_config(config, key),
        routing: Default::default(),
        epoch: records::parse_epoch(&meta),
        acquaintances: records::parse_acquaintances(&meta),
        paths: Default::default(),
        saved_keys: own_keys,
        dht: true,
        advertise: config.tcp.advertise.iter().map(ToString::to_string).collect(),
        direct: config.node.direct,
        suffix: config.dns.suffix.clone(),
        sessions_held_max: config.node.memory_limit / 8 * 3,
    };
    let mut node = Node::new(now, settings, store, rng.fork("node"));
    for peer in peers.hybrid() {
        node.set_floor(peer);
    }
    for (name, key) in &identities {
        let saved = records::find_session_keys(&session_keys, Owner::Service(key.public().service_id()));
        node.add_identity(now, Arc::clone(key), saved).with_context(|| format!("identity '{name}'"))?;
    }
    restore_zones(&mut node, &identities, disk).await?;
    Ok(Loaded { node, identities, peers })
}

/// The machine's key; drawn on first run.
fn node_key(keys: &KeyFolder, rng: &mut Rng) -> anyhow::Result<Arc<SigningKey>> {
    if let Some(key) = keys.node()? {
        return Ok(Arc::new(key));
    }
    let key = SigningKey::generate(Scheme::Ed25519, rng);
    keys.create_node(&key)?;
    Ok(Arc::new(key))
}

/// The identities' keys; `default` is drawn on first run.
fn identities(keys: &KeyFolder, rng: &mut Rng) -> anyhow::Result<Vec<(String, Arc<SigningKey>)>> {
    let mut found = keys.identities()?;
    if !found.iter().any(|(name, _)| name == DEFAULT_IDENTITY) {
        let key = SigningKey::generate(Scheme::FalconEd25519, rng);
        keys.create(DEFAULT_IDENTITY, &key)?;
        found.push((DEFAULT_IDENTITY.into(), key));
    }
    Ok(found.into_iter().map(|(name, key)| (name, Arc::new(key))).collect())
}

/// The DHT's blocks. One that does not fit any more, or is damaged, is left behind.
async fn store(disk: &Disk, me: PeerId, now: Now, bytes_max: usize) -> anyhow::Result<MemoryStore> {
    let rows = disk.load(Table::Blocks).await?;
    let limits = StoreLimits::default();
    let limits = StoreLimits { bytes: limits.bytes.min(bytes_max), ..limits };
    let mut store = MemoryStore::new(dht_id(&me), limits, true);
    store.load(now.unix, rows.iter().filter_map(|(_, value)| records::parse_block(value)));
    Ok(store)
}

/// Gives the node the records that its identities' zones had.
async fn restore_zones(
    node: &mut Node<MemoryStore>,
    identities: &[(String, Arc<SigningKey>)],
    disk: &Disk,
) -> anyhow::Result<()> {
    let by_name: BTreeMap<&str, &Arc<SigningKey>> = identities.iter().map(|(name, key)| (name.as_str(), key)).collect();
    for (key, value) in disk.load(Table::Zones).await? {
        let Some((name, label)) = crate::store::records::parse_zone_key(&key) else { continue };
        let Some(identity) = by_name.get(name) else { continue };
        for entry in records::parse_zone_label(&value) {
            let Some(record) = records::record_from_text(&entry.kind, &entry.value) else { continue };
            let entry = ZoneEntry { record, public: entry.public, ttl_s: entry.ttl_s, by_expose: entry.by_expose };
            let Ok(label) = ZoneLabel::new(label) else { continue };
            if let Err(error) = node.set_record(identity.public().service_id(), label, entry) {
                tracing::warn!(%error, name, "a record was left behind");
            }
        }
    }
    Ok(())
}

/// An eighth of the memory that the daemon may use. Sessions get three, links' queues one, the DHT's store one at most;
/// the rest is for buffers of transports and flows, tables, and what the allocator cannot give back at once.
fn eighth(config: &Config) -> usize {
    usize::try_from(config.node.memory_limit / 8).unwrap_or(usize::MAX)
}

/// The links' part of the settings.
fn link_config(config: &Config, keys: Arc<SigningKey>) -> link::Config {
    link::Config {
        keys,
        network_key: config.node.network_key.as_ref().map(|key| *key.bytes),
        groups: config.link.groups.clone(),
        padding: match config.link.padding {
            Padding::Off => link::Padding::None,
            Padding::Buckets => link::Padding::Buckets,
            Padding::Constant(bytes_per_s) => link::Padding::Constant { bytes_per_s },
        },
        open: config.node.open,
        aes: Aead::hardware_aes(),
        max_inbound: config.node.max_inbound,
        max_outbound: config.node.max_outbound,
        upload_limit: config.node.upload_limit,
        queue_max: eighth(config),
    }
}
