//! Random histories of the address map and its journal: names asked for, flows opened and
//! closed, time, and crashes with the file cut at any byte behind what was acknowledged and
//! rotten at any byte of it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::tun::journal::{decode_all, encode_all, encode_append};

/// Addresses of the prefix: few, so that names push each other out.
const ADDRESSES: u32 = 16;
/// Names that are asked for: more than there are slots.
const NAMES: u8 = 24;

/// A step.
#[derive(Debug, Clone)]
enum Step {
    /// A name is asked for and answered.
    Ask(u8),
    /// A flow opens to one of the addresses that were answered.
    Open(u8),
    /// It closes.
    Close(u8),
    /// Time passes, seconds.
    Wait(u32),
    /// The daemon dies while these names are being written down; the file is cut, and rots.
    Crash { asked: Vec<u8>, cut: u16, rot: Option<(u16, u8)> },
}

fn step() -> impl Strategy<Value = Step> {
    let rot = prop::option::of((any::<u16>(), 1_u8..));
    prop_oneof![
        6 => (0..NAMES).prop_map(Step::Ask),
        2 => (0..NAMES).prop_map(Step::Open),
        2 => (0..NAMES).prop_map(Step::Close),
        2 => (1_u32..100_000).prop_map(Step::Wait),
        1 => (prop::collection::vec(0..NAMES, 0..4), any::<u16>(), rot)
            .prop_map(|(asked, cut, rot)| Step::Crash { asked, cut, rot }),
    ]
}

/// The map with its file, and what the world saw of it.
struct World {
    map: AddressMap,
    now_s: u64,
    /// The journal's bytes, all of them acknowledged.
    file: Vec<u8>,
    /// What was answered for each slot, and when it was last answered or in use.
    seen: BTreeMap<Slot, (String, u64)>,
    flows: BTreeMap<u8, Slot>,
}

impl World {
    fn new() -> Self {
        let (map, file) = (map(ADDRESSES), encode_all(&[]));
        Self { map, now_s: 1_000_000, file, seen: BTreeMap::new(), flows: BTreeMap::new() }
    }

    /// Whether a slot may have another name now.
    fn rested(&self, slot: Slot) -> bool {
        let in_use = self.flows.values().any(|used| *used == slot);
        self.seen.get(&slot).is_none_or(|(_, last_s)| !in_use && self.now_s > last_s + ADDRESS_HOLD_S)
    }

    /// A name that gets `slot`: it had it, or nobody had a right to it.
    fn check(&self, slot: Slot, name: &str) -> Result<(), TestCaseError> {
        prop_assert!((SLOT_FIRST..ADDRESSES - 1).contains(&slot.0));
        let known = self.seen.get(&slot).is_some_and(|(holder, _)| holder == name);
        prop_assert!(known || self.rested(slot), "{name} got {slot:?} of {:?} early", self.seen.get(&slot));
        // A name that may be cached somewhere has not moved.
        let elsewhere = self.seen.iter().find(|(other, (holder, _))| holder == name && **other != slot);
        prop_assert!(
            elsewhere.is_none_or(|(other, _)| self.rested(*other)),
            "{name} moved to {slot:?} from {elsewhere:?}"
        );
        Ok(())
    }

    fn ask(&mut self, name: u8) -> Result<(), TestCaseError> {
        let name = format!("n{name}.z");
        let Ok(assigned) = self.map.assign(self.now_s, &name) else { return Ok(()) };
        self.file.extend(encode_append(&assigned.write));
        self.map.handle_written(assigned.slot);
        self.check(assigned.slot, &name)?;
        self.seen.retain(|slot, (holder, _)| *slot == assigned.slot || *holder != name);
        self.seen.insert(assigned.slot, (name, self.now_s));
        Ok(())
    }

    fn open(&mut self, flow: u8) -> Result<(), TestCaseError> {
        let at = usize::from(flow) % self.seen.len().max(1);
        let Some((slot, (name, _))) = self.seen.iter().nth(at) else { return Ok(()) };
        if !self.flows.contains_key(&flow) && !self.rested(*slot) {
            let (slot, opened) = (*slot, self.map.open_flow(self.now_s, *slot));
            let (opened, write) = opened.ok_or_else(|| TestCaseError::fail(format!("{slot:?} stands for nothing")))?;
            prop_assert_eq!(&*opened, name.as_str());
            self.file.extend(encode_append(&write));
            self.flows.insert(flow, slot);
        }
        Ok(())
    }

    fn close(&mut self, flow: u8) {
        if let Some(slot) = self.flows.remove(&flow) {
            self.map.close_flow(self.now_s, slot);
            self.used(&BTreeSet::from([slot]));
        }
    }

    /// These slots are in use now.
    fn used(&mut self, slots: &BTreeSet<Slot>) {
        for slot in slots {
            if let Some((_, last_s)) = self.seen.get_mut(slot) {
                *last_s = self.now_s;
            }
        }
    }

    /// Time passes, and the journal is kept up to date on the way.
    fn wait(&mut self, seconds: u32) {
        let end_s = self.now_s + u64::from(seconds);
        while self.now_s < end_s {
            self.now_s = (self.now_s + REFRESH_INTERVAL_S).min(end_s);
            let used: BTreeSet<Slot> = self.flows.values().copied().collect();
            self.used(&used);
            let due = self.map.handle_timeout(self.now_s);
            self.file.extend(encode_append(&due));
        }
    }

    fn crash(&mut self, asked: &[u8], cut: u16, rot: Option<(u16, u8)>) -> Result<(), TestCaseError> {
        let used: BTreeSet<Slot> = self.flows.values().copied().collect();
        self.used(&used);
        let mut bytes = self.file.clone();
        if let Some((at, flip)) = rot {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= flip;
        }
        let writes = asked.iter().filter_map(|name| self.map.assign(self.now_s, &format!("n{name}.z")).ok()?.write);
        let torn = encode_append(&writes.collect::<Vec<_>>());
        bytes.extend(&torn[..usize::from(cut) % (torn.len() + 1)]);
        self.flows.clear();
        self.map = AddressMap::new([7; 32], ADDRESSES, decode_all(&bytes).entries);
        self.file = encode_all(&self.map.entries());
        for (slot, (name, _)) in &self.seen {
            let kept = self.map.name(*slot);
            prop_assert!(kept.as_deref() == Some(name) || self.rested(*slot), "{name} lost {slot:?}");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens: a slot goes to another name only without flows, a day after its last answer or
    /// use; a name does not move; and what was acknowledged survives every crash.
    #[test]
    fn a_slot_never_changes_hands_too_early(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Ask(name) => world.ask(name)?,
                Step::Open(flow) => world.open(flow)?,
                Step::Close(flow) => world.close(flow),
                Step::Wait(seconds) => world.wait(seconds),
                Step::Crash { asked, cut, rot } => world.crash(&asked, cut, rot)?,
            }
        }
    }
}
