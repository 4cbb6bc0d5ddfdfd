//! The labels of all links: which circuit a cell or message belongs to, which labels are
//! free, and what each neighbour brought.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::limits::{LABEL_REST, LABELS_RESTING_MAX, Limits};
use crate::crypto::PeerId;
use crate::defence::{self, Defence};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::path::Label;

/// The bit of a label that says which side drew it: set when that side's PeerId is the greater.
const SIDE_BIT: u32 = 1 << 31;

/// One end of a circuit on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Leg {
    /// The neighbour.
    pub peer: PeerId,
    /// The label on that link.
    pub label: Label,
}

/// Where cells of a leg go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// Nowhere yet.
    Shut,
    /// Out on another link.
    Relay {
        /// There.
        to: Leg,
        /// The flow of that direction.
        flow: u64,
    },
    /// To us.
    Local,
}

/// What is known of a leg: all that the hot path needs, in one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Its circuit.
    pub circuit: u64,
    /// Where its cells go.
    pub switch: Switch,
    /// When the last cell came.
    pub used: Instant,
}

/// What a neighbour has here.
struct Neighbour {
    /// Labels on its link.
    labels: BTreeSet<Label>,
    /// Circuits that it brought.
    brought: usize,
    /// Set-ups that it may still send at once, thousandths.
    tokens_milli: u64,
    /// When the tokens were counted.
    counted: Instant,
}

/// The labels of all links.
#[derive(Default)]
pub(super) struct Legs {
    by_leg: HashMap<Leg, Entry>,
    neighbours: BTreeMap<PeerId, Neighbour>,
    resting: HashSet<Leg>,
    resting_order: VecDeque<(Instant, Leg)>,
}

impl Legs {
    /// The entry of a leg.
    pub fn entry(&self, leg: &Leg) -> Option<&Entry> {
        self.by_leg.get(&self.meant(leg))
    }

    /// The entry of a leg, to change.
    pub fn entry_mut(&mut self, leg: &Leg) -> Option<&mut Entry> {
        self.by_leg.get_mut(&self.meant(leg))
    }

    /// The leg that a neighbour's message means: its own of that label, never another's.
    fn meant(&self, leg: &Leg) -> Leg {
        if defence::on(Defence::LabelOfLink) {
            return *leg;
        }
        self.by_leg.keys().filter(|other| other.label == leg.label).min().copied().unwrap_or(*leg)
    }

    /// Draws a free label for a circuit on the link to `peer` and enters it.
    pub fn allocate(&mut self, now: Instant, me: &PeerId, peer: PeerId, circuit: u64, rng: &mut Rng) -> Leg {
        let side = if *me > peer { SIDE_BIT } else { 0 };
        // Fewer than 2^16 of 2^31 labels are ever taken or resting, so this ends at once.
        let leg = loop {
            let leg = Leg { peer, label: Label(rng.public_u32() & !SIDE_BIT | side) };
            if !self.by_leg.contains_key(&leg) && !self.resting.contains(&leg) {
                break leg;
            }
        };
        self.enter(now, leg, circuit);
        leg
    }

    /// Whether a neighbour may use this label for a new circuit: drawn by its side, and not taken.
    pub fn acceptable(&self, me: &PeerId, leg: &Leg) -> bool {
        let theirs = leg.label.0 & SIDE_BIT != 0;
        theirs == (leg.peer > *me) && !self.by_leg.contains_key(leg)
    }

    /// Whether a label rests after its last path.
    pub fn rests(&self, leg: &Leg) -> bool {
        self.resting.contains(leg)
    }

    /// Enters a leg.
    pub fn enter(&mut self, now: Instant, leg: Leg, circuit: u64) {
        self.by_leg.insert(leg, Entry { circuit, switch: Switch::Shut, used: now });
        self.neighbour(now, leg.peer).labels.insert(leg.label);
    }

    /// Removes a leg; its label rests.
    pub fn remove(&mut self, now: Instant, leg: &Leg) {
        if self.by_leg.remove(leg).is_none() {
            return;
        }
        if let Some(neighbour) = self.neighbours.get_mut(&leg.peer) {
            neighbour.labels.remove(&leg.label);
        }
        if self.resting.insert(*leg) {
            self.resting_order.push_back((now + LABEL_REST, *leg));
        }
        if self.resting_order.len() > LABELS_RESTING_MAX {
            self.release_oldest();
        }
    }

    /// Releases the labels that have rested.
    pub fn release(&mut self, now: Instant) {
        while self.resting_order.front().is_some_and(|(at, _)| *at <= now) {
            self.release_oldest();
        }
    }

    /// Releases the label that rested longest.
    fn release_oldest(&mut self) {
        if let Some((_, leg)) = self.resting_order.pop_front() {
            self.resting.remove(&leg);
        }
    }

    /// Takes one set-up from a neighbour's allowance; false when none is left.
    pub fn take_creation(&mut self, now: Instant, peer: PeerId, limits: &Limits) -> bool {
        let burst = u64::from(limits.creations_burst) * 1000;
        let neighbour = self.neighbour(now, peer);
        let passed = now.saturating_since(neighbour.counted);
        neighbour.counted = now;
        // Thousandths of a token per millisecond are tokens per second.
        let earned = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let earned = earned.saturating_mul(u64::from(limits.creations_per_s)) / 1000;
        neighbour.tokens_milli = neighbour.tokens_milli.saturating_add(earned).min(burst);
        let left = neighbour.tokens_milli.checked_sub(1000);
        neighbour.tokens_milli = left.unwrap_or(neighbour.tokens_milli);
        left.is_some()
    }

    /// Circuits that a neighbour brought.
    pub fn brought(&self, peer: &PeerId) -> usize {
        self.neighbours.get(peer).map_or(0, |neighbour| neighbour.brought)
    }

    /// A neighbour brought a circuit.
    pub fn bring(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.brought += 1;
        }
    }

    /// A circuit that a neighbour brought is gone.
    pub fn unbring(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.brought = neighbour.brought.saturating_sub(1);
        }
    }

    /// The legs on the link to a neighbour, in order.
    pub fn of_peer(&self, peer: &PeerId) -> Vec<Leg> {
        let labels = self.neighbours.get(peer).map(|neighbour| &neighbour.labels);
        labels.into_iter().flatten().map(|label| Leg { peer: *peer, label: *label }).collect()
    }

    /// Forgets a neighbour that is gone and has no leg left.
    pub fn forget(&mut self, peer: &PeerId) {
        if self.neighbours.get(peer).is_some_and(|neighbour| neighbour.labels.is_empty()) {
            self.neighbours.remove(peer);
        }
    }

    /// A neighbour's entry; a new one starts with its whole burst, which the first count clamps.
    fn neighbour(&mut self, now: Instant, peer: PeerId) -> &mut Neighbour {
        self.neighbours.entry(peer).or_insert(Neighbour {
            labels: BTreeSet::new(),
            brought: 0,
            tokens_milli: u64::MAX,
            counted: now,
        })
    }

    /// How long since the last cell on any of these legs.
    pub fn idle(&self, now: Instant, legs: impl Iterator<Item = Leg>) -> Duration {
        let used = legs.filter_map(|leg| self.by_leg.get(&leg)).map(|entry| entry.used).max();
        now.saturating_since(used.unwrap_or(Instant::ZERO))
    }
}
