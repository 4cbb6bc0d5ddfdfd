//! Who was told which name: an address stands for one name for all, but only those who asked
//! for the name may learn it from the address. Kept in memory alone: after a restart an
//! address is nameless to an identity until it asks for the name again.
//!
//! Bound: [`TOLD_MAX`] pairs, beyond which everything is forgotten; asking again mends it.

use std::collections::HashMap;
use std::sync::Arc;

use super::address::Slot;

/// Pairs of an identity and an address that are remembered: half of a /15 for one identity, some MiB.
const TOLD_MAX: usize = 65_536;

/// The names told, by identity and slot. A slot that has another name by now was not told.
#[derive(Debug, Default)]
pub struct Told(HashMap<(Slot, Box<str>), Arc<str>>);

impl Told {
    /// The identity is told that the slot stands for this name.
    pub fn tell(&mut self, identity: &str, slot: Slot, name: &Arc<str>) {
        if self.0.len() >= TOLD_MAX {
            self.0.clear();
        }
        self.0.insert((slot, identity.into()), Arc::clone(name));
    }

    /// Whether the identity was told that the slot stands for this name.
    #[must_use]
    pub fn knows(&self, identity: &str, slot: Slot, name: &str) -> bool {
        let key: (Slot, Box<str>) = (slot, identity.into());
        self.0.get(&key).is_some_and(|told| **told == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_to_whom_it_was_told_and_while_the_slot_has_it() {
        let mut told = Told::default();
        let name: Arc<str> = "diary.carol".into();
        told.tell("work", Slot(7), &name);
        assert!(told.knows("work", Slot(7), "diary.carol"));
        assert!(!told.knows("home", Slot(7), "diary.carol"));
        assert!(!told.knows("work", Slot(8), "diary.carol"));
        assert!(!told.knows("work", Slot(7), "blog.dave"), "the slot went to another name");
    }

    #[test]
    fn it_forgets_rather_than_grow() {
        let mut told = Told::default();
        let name: Arc<str> = "x".into();
        for slot in 0..u32::try_from(TOLD_MAX).unwrap() + 5 {
            told.tell("work", Slot(slot), &name);
        }
        assert!(told.0.len() <= TOLD_MAX);
        assert!(told.knows("work", Slot(u32::try_from(TOLD_MAX).unwrap() + 4), "x"));
    }
}
