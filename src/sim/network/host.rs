//! A machine of the network: keys, a disk that survives its death, and the node while it lives.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tarnet_core::circuit;
use tarnet_core::crypto::{DhtKey, Group, PeerId, Scheme, ServiceId, SigningKey};
use tarnet_core::dht::{Entry, MemoryStore, StoreLimits, StoreOp, dht_id};
use tarnet_core::link;
use tarnet_core::node::{Config, Input, Node, Persist};
use tarnet_core::rng::Rng;
use tarnet_core::routing::{self, Acquaintance, EpochState};
use tarnet_core::session::Owner;
use tarnet_core::time::{Instant, Now};
use tarnet_core::wire::block::Slot;

use super::hostile::{Hostile, Lie};
use super::reach::Reach;

/// The node under test, as the daemon runs it but for the store, which is in memory.
pub type SimNode = Node<MemoryStore>;

/// What a machine would find after a restart.
#[derive(Default)]
pub(super) struct Disk {
    epoch: EpochState,
    acquaintances: Vec<Acquaintance>,
    keys: BTreeMap<Owner, Vec<u8>>,
    blocks: BTreeMap<(DhtKey, Slot), Entry>,
}

impl Disk {
    /// Writes down what the node asked for.
    pub(super) fn write(&mut self, persist: Persist) {
        match persist {
            Persist::Epoch(epoch) => self.epoch = epoch,
            Persist::Acquaintances(known) => self.acquaintances = known,
            Persist::Store(StoreOp::Put(entry)) => {
                self.blocks.insert((entry.block.key, entry.block.slot()), *entry);
            }
            Persist::Store(StoreOp::Remove { key, slot }) => {
                self.blocks.remove(&(key, slot));
            }
            Persist::SessionKeys(owner, keys) => {
                self.keys.insert(owner, keys.0.to_vec());
            }
            Persist::ForgetSessionKeys(owner) => {
                self.keys.remove(&owner);
            }
        }
    }
}

/// What a machine has sent since the network began.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of frames, with padding and tags, and of handshakes.
    pub frame_bytes: u64,
    /// The part of them that carried cells of paths.
    pub cell_bytes: u64,
}

impl Traffic {
    /// Everything that is not cells.
    #[must_use]
    pub fn control_bytes(&self) -> u64 {
        self.frame_bytes - self.cell_bytes
    }
}

/// What each node keeps and does.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Routing's bounds.
    pub limits: routing::Limits,
    /// Whether it takes part in the DHT.
    pub dht: bool,
}

impl From<routing::Limits> for Kept {
    fn from(limits: routing::Limits) -> Self {
        Self { limits, dht: true }
    }
}

/// One machine.
pub struct Host {
    /// Its node's id.
    pub peer: PeerId,
    /// Its only identity.
    pub service: ServiceId,
    /// What it has sent.
    pub traffic: Traffic,
    keys: Arc<SigningKey>,
    identity: Arc<SigningKey>,
    rng: Rng,
    pub(super) disk: Disk,
    /// The node, while the machine lives.
    pub(super) node: Option<Box<SimNode>>,
    /// When the node wants to be asked again.
    pub(super) deadline: Option<Instant>,
    /// The earliest wake-up in the queue.
    pub(super) wake: Option<Instant>,
    kept: Kept,
    /// How it is reached from outside.
    pub reach: Reach,
    /// Where it can be dialled, if it says so.
    advertise: Vec<String>,
    /// Its cables.
    pub(super) cables: Vec<usize>,
    /// Whoever took it over.
    pub(super) hostile: Option<Box<Hostile>>,
    /// Its process is stopped.
    pub(super) frozen: bool,
    /// What came since.
    pub(super) waiting: Vec<Input>,
}

impl Host {
    /// A machine that is switched off, with fresh keys.
    pub(super) fn new(mut rng: Rng, kept: Kept, reach: Reach, address: IpAddr) -> Self {
        let keys = Arc::new(SigningKey::generate(Scheme::Ed25519, &mut rng));
        let identity = Arc::new(SigningKey::generate(Scheme::Ed25519, &mut rng));
        Self {
            peer: keys.public().peer_id(),
            service: identity.public().service_id(),
            traffic: Traffic::default(),
            keys,
            identity,
            rng,
            disk: Disk::default(),
            node: None,
            deadline: None,
            wake: None,
            kept,
            reach,
            advertise: reach.advertise(address),
            cables: Vec::new(),
            hostile: None,
            frozen: false,
            waiting: Vec::new(),
        }
    }

    /// Switches it on with what is on its disk.
    pub(super) fn start(&mut self, now: Now) {
        let mut store = MemoryStore::new(dht_id(&self.peer), StoreLimits::default(), true);
        store.load(now.unix, self.disk.blocks.values().cloned());
        let saved_keys = self.disk.keys.get(&Owner::Peer(self.peer)).cloned().map(zeroize::Zeroizing::new);
        let config = Config {
            links: link::Config {
                keys: Arc::clone(&self.keys),
                network_key: None,
                groups: vec![Group::X25519MlKem768, Group::X25519],
                padding: link::Padding::Buckets,
                open: true,
                // Not what this machine has: a run must not depend on where it is made.
                aes: true,
                max_inbound: 128,
                max_outbound: 48,
                upload_limit: None,
                queue_max: link::limits::QUEUE_MAX,
            },
            routing: self.kept.limits,
            epoch: self.disk.epoch,
            acquaintances: self.disk.acquaintances.clone(),
            paths: circuit::Limits::default(),
            saved_keys,
            dht: self.kept.dht,
            advertise: self.advertise.clone(),
            direct: true,
            suffix: "tarnet.alt".to_owned(),
            sessions_held_max: tarnet_core::node::limits::SESSIONS_HELD_MAX,
        };
        let mut node = Box::new(Node::new(now, config, store, self.rng.fork("node")));
        let saved = self.disk.keys.get(&Owner::Service(self.service)).map(Vec::as_slice);
        node.add_identity(now, Arc::clone(&self.identity), saved).expect("a new node has room for one identity");
        self.node = Some(node);
    }

    /// Switches it off: nothing but the disk stays.
    pub(super) fn stop(&mut self) {
        (self.node, self.deadline, self.wake) = (None, None, None);
        (self.frozen, self.waiting) = (false, Vec::new());
    }

    /// Somebody takes it over, while it is off.
    pub(super) fn turn(&mut self, lie: Lie) {
        self.hostile = Some(Box::new(Hostile::new(lie, self.peer, Arc::clone(&self.keys))));
    }

    /// How it lies, if it does.
    #[must_use]
    pub fn lie(&self) -> Option<Lie> {
        self.hostile.as_ref().map(|hostile| hostile.lie())
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.node.is_some()
    }
}
