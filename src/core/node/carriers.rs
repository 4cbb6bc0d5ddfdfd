//! Which path carries which session: the node's map between circuits' [`PathId`]s and
//! sessions' [`CarrierId`]s, and the short way between two sessions of this very node.

use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;

use crate::circuit::PathId;
use crate::session::CarrierId;

/// Packets that may wait between two sessions of this node. Beyond, the sender is not asked for more.
const LOOP_LEN_MAX: usize = 64;

/// What a carrier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A path to another node.
    Path(PathId),
    /// The other end is a session of this node.
    Loop(CarrierId),
}

/// Both directions of the map.
#[derive(Default)]
pub(super) struct Carriers {
    ways: HashMap<CarrierId, Way>,
    paths: HashMap<PathId, CarrierId>,
    /// Packets between sessions of this node: for whom, and what.
    looped: VecDeque<(CarrierId, BytesMut)>,
}

impl Carriers {
    /// Joins a carrier to a path.
    pub(super) fn join(&mut self, carrier: CarrierId, path: PathId) {
        self.ways.insert(carrier, Way::Path(path));
        self.paths.insert(path, carrier);
    }

    /// Joins two carriers of this node.
    pub(super) fn join_loop(&mut self, a: CarrierId, b: CarrierId) {
        self.ways.insert(a, Way::Loop(b));
        self.ways.insert(b, Way::Loop(a));
    }

    /// The way of a carrier.
    pub(super) fn way(&self, carrier: CarrierId) -> Option<Way> {
        self.ways.get(&carrier).copied()
    }

    /// The carrier of a path.
    pub(super) fn carrier(&self, path: PathId) -> Option<CarrierId> {
        self.paths.get(&path).copied()
    }

    /// Forgets a carrier; says what it was.
    pub(super) fn remove(&mut self, carrier: CarrierId) -> Option<Way> {
        let way = self.ways.remove(&carrier)?;
        match way {
            Way::Path(path) => {
                self.paths.remove(&path);
            }
            Way::Loop(other) => {
                self.ways.remove(&other);
            }
        }
        Some(way)
    }

    /// Forgets the carrier of a path.
    pub(super) fn remove_path(&mut self, path: PathId) -> Option<CarrierId> {
        let carrier = self.paths.remove(&path)?;
        self.ways.remove(&carrier);
        Some(carrier)
    }

    /// Whether another packet may wait on the short way.
    pub(super) fn loop_room(&self) -> bool {
        self.looped.len() < LOOP_LEN_MAX
    }

    /// Queues a packet on the short way.
    pub(super) fn push_loop(&mut self, to: CarrierId, packet: BytesMut) {
        self.looped.push_back((to, packet));
    }

    /// The next packet on the short way.
    pub(super) fn pop_loop(&mut self) -> Option<(CarrierId, BytesMut)> {
        self.looped.pop_front()
    }
}
