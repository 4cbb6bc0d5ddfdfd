//! Small networks of [`Paths`] joined by queues: what the tests run on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::*;
use crate::crypto::{hash, path_tag};
use crate::rng::Rng;
use crate::time::Now;
use crate::wire::kind;
use crate::wire::path::{Open, Opened};

/// The peer called `n`.
pub(super) fn peer(n: u8) -> PeerId {
    PeerId([n; 32])
}

/// A proof for tests, and its hash.
pub(super) fn proof() -> ([u8; 32], [u8; 32]) {
    ([9; 32], hash(&[9; 32]))
}

/// The set-up called `set`.
pub(super) fn set_up(set: u16) -> SetupId {
    SetupId((u128::from(set) << 64 | 0x5e7).to_le_bytes())
}

/// A wish for a path to `to` by the set-up called `set`.
pub(super) fn wish(set: u16, to: u8) -> Wish {
    let (dest, blob) = (peer(to), Bytes::from_static(b"hello"));
    let id = set_up(set);
    Wish { id, dest, blob, proof_hash: proof().1, avoid: Avoid::default() }
}

/// What one node knows: for every destination its neighbours by distance.
pub(super) struct Known<'a> {
    pub(super) net: &'a Net,
    pub(super) me: u8,
}

impl NextHops for Known<'_> {
    fn toward(&self, id: &[u8; 16], tag: &[u8; 16], _way: &Way) -> Hops {
        let Some(dest) = self.net.nodes.keys().find(|n| path_tag(id, &peer(**n)) == *tag) else {
            return Hops::Via(SmallVec::new());
        };
        if *dest == self.me {
            return Hops::Here;
        }
        let via = self.net.routes.get(&(self.me, *dest)).into_iter().flatten();
        Hops::Via(via.map(|n| peer(*n)).collect())
    }

    fn others(&self, _id: &[u8; 16]) -> SmallVec<[PeerId; 4]> {
        self.net.neighbours.get(&self.me).into_iter().flatten().map(|n| peer(*n)).collect()
    }
}

/// A network: nodes, routes given by the test, and what travels.
pub(super) struct Net {
    pub(super) nodes: BTreeMap<u8, RefCell<Paths>>,
    pub(super) routes: BTreeMap<(u8, u8), Vec<u8>>,
    /// Neighbours that routing says nothing of.
    pub(super) neighbours: BTreeMap<u8, Vec<u8>>,
    pub(super) wire: VecDeque<(u8, u8, u8, Bytes)>,
    /// Nodes that swallow what they get.
    pub(super) silent: BTreeSet<u8>,
    /// Nodes that answer set-ups themselves, without the proof.
    pub(super) liars: BTreeSet<u8>,
    pub(super) now: Now,
    pub(super) sent: usize,
    /// Set-ups so far, to name the next.
    sets: u16,
    pub(super) events: BTreeMap<u8, Vec<Event>>,
}

impl Net {
    /// Nodes 1 to `n` with default limits.
    pub(super) fn new(n: u8) -> Self {
        Self::with_limits(n, Limits::default())
    }

    /// Nodes 1 to `n`.
    pub(super) fn with_limits(n: u8, limits: Limits) -> Self {
        let node = |n: u8| (n, RefCell::new(Paths::new(peer(n), Rng::from_seed([n; 32]), limits)));
        Self {
            nodes: (1..=n).map(node).collect(),
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            wire: VecDeque::new(),
            silent: BTreeSet::new(),
            liars: BTreeSet::new(),
            now: Now::ZERO,
            sent: 0,
            sets: 1000,
            events: BTreeMap::new(),
        }
    }

    /// A line 1 - 2 - … - n.
    pub(super) fn line(n: u8) -> Self {
        let mut net = Self::new(n);
        for from in 1..=n {
            for to in (1..=n).filter(|to| *to != from) {
                net.routes.insert((from, to), vec![if to > from { from + 1 } else { from - 1 }]);
            }
        }
        net
    }

    /// 1 reaches 4 over 2 or 3.
    pub(super) fn diamond() -> Self {
        let mut net = Self::new(4);
        net.routes.insert((1, 4), vec![2, 3]);
        net.routes.insert((2, 4), vec![4]);
        net.routes.insert((3, 4), vec![4]);
        net
    }

    pub(super) fn node(&self, n: u8) -> std::cell::RefMut<'_, Paths> {
        self.nodes[&n].borrow_mut()
    }

    pub(super) fn open(&mut self, from: u8, to: u8) -> PathId {
        self.sets += 1;
        let set = self.sets;
        self.open_as(from, wish(set, to))
    }

    /// Opens a path as wished.
    pub(super) fn open_as(&mut self, from: u8, wish: Wish) -> PathId {
        let known = Known { net: self, me: from };
        let path = self.node(from).open(self.now, wish, Whereabouts::default(), &known);
        self.run();
        path
    }

    /// Delivers everything; destinations accept.
    pub(super) fn run(&mut self) {
        loop {
            for (n, node) in &self.nodes {
                let mut node = node.borrow_mut();
                while let Some((to, kind, body)) = node.poll_transmit() {
                    self.wire.push_back((*n, to.0[0], kind, body));
                    self.sent += 1;
                }
                while let Some(event) = node.poll_event() {
                    if let Event::Incoming { path, .. } = &event {
                        node.accept(self.now, *path, Bytes::from_static(b"welcome"), proof().0);
                    }
                    self.events.entry(*n).or_default().push(event);
                }
            }
            let Some((from, to, kind, body)) = self.wire.pop_front() else {
                if self.nodes.values().all(|node| node.borrow().transmits_empty()) {
                    return;
                }
                continue;
            };
            self.deliver(from, to, kind, &body);
        }
    }

    pub(super) fn deliver(&mut self, from: u8, to: u8, kind: u8, body: &[u8]) {
        if self.silent.contains(&to) {
            return;
        }
        if self.liars.contains(&to) && kind == kind::PATH_OPEN {
            let open = Open::decode(body).unwrap();
            let lie =
                Opened { label: open.label, reveal: [1; 32], hops: 1, parted: false, blob: Bytes::from_static(b"me!") };
            self.wire.push_back((to, from, kind::PATH_OPENED, lie.encode()));
            return;
        }
        let known = Known { net: self, me: to };
        self.node(to).handle_message(self.now, peer(from), kind, body, &known).unwrap();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let next = self.nodes.values().filter_map(|node| node.borrow().poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end.instant) else { break };
            self.now = self.now.after(next.saturating_since(self.now.instant));
            self.nodes.values().for_each(|node| node.borrow_mut().handle_timeout(self.now));
            self.run();
        }
        self.now = end;
    }

    pub(super) fn link_down(&mut self, a: u8, b: u8) {
        self.node(a).handle_link_down(self.now, peer(b));
        self.node(b).handle_link_down(self.now, peer(a));
        self.run();
    }

    /// Sends a cell from one end; says at which node it came out and as which path.
    pub(super) fn cell(&mut self, from: u8, path: PathId, body: &'static [u8]) -> Option<(u8, PathId, bool)> {
        let (mut to, mut flow, head) = self.node(from).cell_head(path)?;
        let mut at = from;
        let mut cell = Bytes::from([&head[..], body].concat());
        for _ in 0..100 {
            let (before, here) = (at, to.0[0]);
            let action = self.node(here).handle_cell(self.now, peer(before), cell.clone());
            match action {
                CellAction::Forward { to: next, flow: next_flow, head, body } => {
                    assert_ne!((here, next_flow), (before, flow));
                    (at, to, flow) = (here, next, next_flow);
                    cell = Bytes::from([&head[..], &body].concat());
                }
                CellAction::Deliver { path, body: got, marked } => {
                    assert_eq!(got, body);
                    return Some((here, path, marked));
                }
                CellAction::Drop => return None,
            }
        }
        panic!("the cell runs in circles");
    }

    pub(super) fn opened_hops(&self, n: u8, wanted: PathId) -> Option<u16> {
        self.events.get(&n)?.iter().find_map(|event| match event {
            Event::Opened { path, hops, .. } if *path == wanted => Some(*hops),
            _ => None,
        })
    }

    pub(super) fn incoming(&self, n: u8) -> PathId {
        let last = self.events[&n].iter().rev().find_map(|event| match event {
            Event::Incoming { path, .. } => Some(*path),
            _ => None,
        });
        last.unwrap()
    }

    pub(super) fn last(&self, n: u8) -> &Event {
        self.events[&n].last().unwrap()
    }

    /// Nothing is left anywhere.
    pub(super) fn assert_empty(&self) {
        for (n, node) in &self.nodes {
            let node = node.borrow();
            assert_eq!((node.own_count(), node.transit_count(), node.half_open), (0, 0, 0), "at {n}");
            assert_eq!(node.poll_timeout(), None);
        }
    }
}

impl Paths {
    /// Whether nothing waits to be sent or told.
    pub(super) fn transmits_empty(&self) -> bool {
        self.transmits.is_empty() && self.events.is_empty()
    }
}
