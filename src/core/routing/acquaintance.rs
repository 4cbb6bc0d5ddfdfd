//! How long this node has known others as landmarks. The rank of an id can be ground out, so half of the landmarks that
//! a node keeps are those that it has known longest: whoever wants that half has to be there about as long as those it drives out.
//! Known are only spans of time in which the other was a landmark that we kept, counted in classes that double from a
//! day on, so that all whose networks are equally young, or equally old, agree, and ranks decide among equals.
//!
//! Bound: [`ACQUAINTANCES_PER_LANDMARK`] for each landmark that is kept. Of those that are no landmark at the moment the
//! shortest known goes first, so that many who come and go do not drive out one who was away for a day; and all of them
//! fade, so that those who are gone make room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::entry::by_short;
use super::limits::{ACQUAINTANCE_FADE, ACQUAINTANCE_SAVE, ACQUAINTANCES_PER_LANDMARK};
use crate::crypto::PeerId;
use crate::time::Instant;
use crate::wire::routing::Short;

/// What must survive a restart of one acquaintance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquaintance {
    /// Whom.
    pub peer: PeerId,
    /// For how many minutes it was a landmark that we kept.
    pub minutes: u32,
}

/// One of them.
struct Known {
    /// For how long.
    time: Duration,
    /// Whether it was a landmark at the last look.
    present: bool,
}

/// All of them, ourselves included.
pub(super) struct Acquaintances {
    known: BTreeMap<PeerId, Known>,
    /// What the first class begins with.
    unit: Duration,
    looked_at: Option<Instant>,
    saved_at: Option<Instant>,
}

impl Acquaintances {
    /// None yet.
    pub(super) fn new(unit: Duration) -> Self {
        Self { known: BTreeMap::new(), unit, looked_at: None, saved_at: None }
    }

    /// Goes on with what was known before a restart.
    pub(super) fn restore(&mut self, saved: &[Acquaintance], max: usize) {
        let mut saved: Vec<&Acquaintance> = saved.iter().collect();
        saved.sort_by_key(|known| std::cmp::Reverse(known.minutes));
        for Acquaintance { peer, minutes } in saved.into_iter().take(max * ACQUAINTANCES_PER_LANDMARK) {
            let time = Duration::from_secs(u64::from(*minutes) * 60);
            self.known.insert(*peer, Known { time, present: false });
        }
    }

    /// Counts the time since the last look for everybody who was a landmark then and is one now. `max` is how many are kept.
    /// Says whether it is time to save.
    pub(super) fn look(&mut self, now: Instant, present: impl Iterator<Item = PeerId>, max: usize) -> bool {
        let passed = self.looked_at.replace(now).map_or(Duration::ZERO, |before| now - before);
        let here: BTreeSet<PeerId> = present.collect();
        self.known.retain(|peer, known| {
            let stays = here.contains(peer);
            match (known.present, stays) {
                (true, true) => known.time += passed,
                (false, true) => {}
                (_, false) => known.time = known.time.saturating_sub(passed / ACQUAINTANCE_FADE),
            }
            known.present = stays;
            stays || !known.time.is_zero()
        });
        let any = !here.is_empty();
        for peer in here {
            self.known.entry(peer).or_insert(Known { time: Duration::ZERO, present: true });
        }
        while self.known.len() > max * ACQUAINTANCES_PER_LANDMARK {
            let Some(gone) = self.shortest_absent() else { break };
            self.known.remove(&gone);
        }
        let due = any && self.saved_at.is_none_or(|at| now - at >= ACQUAINTANCE_SAVE);
        if due {
            self.saved_at = Some(now);
        }
        due
    }

    /// The one known for the shortest time of those that are no landmark now.
    fn shortest_absent(&self) -> Option<PeerId> {
        let absent = self.known.iter().filter(|(_, known)| !known.present);
        absent.min_by_key(|(peer, known)| (known.time, **peer)).map(|(peer, _)| *peer)
    }

    /// What to save.
    pub(super) fn saved(&self) -> Vec<Acquaintance> {
        let minutes = |known: &Known| u32::try_from(known.time.as_secs() / 60).unwrap_or(u32::MAX);
        self.known.iter().map(|(peer, known)| Acquaintance { peer: *peer, minutes: minutes(known) }).collect()
    }

    /// The class of an acquaintance: 0 below a unit, one more with each doubling from there on.
    pub(super) fn class(&self, peer: &PeerId) -> u8 {
        self.known.get(peer).map_or(0, |known| self.class_of(known))
    }

    /// The class of whoever has this short.
    pub(super) fn class_of_short(&self, wanted: &Short) -> u8 {
        by_short(&self.known, wanted).map_or(0, |(_, known)| self.class_of(known))
    }

    /// See [`Self::class`].
    fn class_of(&self, known: &Known) -> u8 {
        let units = known.time.as_micros() / self.unit.as_micros().max(1);
        units.checked_ilog2().map_or(0, |log| u8::try_from(log).unwrap_or(u8::MAX).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::routing::short;

    const DAY: Duration = Duration::from_secs(86_400);

    fn peer(of: u8) -> PeerId {
        PeerId([of; 32])
    }

    /// Looks every hour for so many hours at the same landmarks.
    fn hours(known: &mut Acquaintances, from: u64, count: u64, present: &[u8]) {
        for hour in from..from + count {
            let now = Instant::from_micros(hour * 3_600_000_000);
            known.look(now, present.iter().map(|of| peer(*of)), 4);
        }
    }

    #[test]
    fn classes_double_from_a_day_on_and_count_only_presence() {
        let mut known = Acquaintances::new(DAY);
        hours(&mut known, 0, 25, &[1, 2]);
        assert_eq!((known.class(&peer(1)), known.class(&peer(3))), (1, 0));
        hours(&mut known, 25, 24, &[1]);
        hours(&mut known, 49, 49, &[1, 2]);
        let classes = (known.class(&peer(1)), known.class(&peer(2)));
        assert_eq!(classes, (3, 2), "four days, and three without the time away");
        assert_eq!(known.class_of_short(&short(&peer(1))), 3);
        assert_eq!(known.class_of_short(&short(&peer(7))), 0);
    }

    #[test]
    fn a_restart_forgets_nothing_and_counts_nothing_of_the_time_between() {
        let mut known = Acquaintances::new(DAY);
        hours(&mut known, 0, 49, &[1]);
        let mut after = Acquaintances::new(DAY);
        after.restore(&known.saved(), 4);
        assert_eq!(after.class(&peer(1)), 2);
        hours(&mut after, 5000, 2, &[1]);
        assert_eq!(after.saved(), [Acquaintance { peer: peer(1), minutes: 49 * 60 }]);
    }

    #[test]
    fn many_who_come_and_go_drive_out_nobody_who_was_there_for_long() {
        let mut known = Acquaintances::new(DAY);
        hours(&mut known, 0, 25, &[200]);
        for of in 0..50 {
            hours(&mut known, 25 + u64::from(of), 1, &[of]);
        }
        assert!(known.known.len() <= 4 * ACQUAINTANCES_PER_LANDMARK);
        assert!(!known.known[&peer(200)].time.is_zero());
        let many: Vec<Acquaintance> = (0..100).map(|of| Acquaintance { peer: peer(of), minutes: 600 }).collect();
        known.restore(&many, 4);
        hours(&mut known, 75, 1, &[]);
        assert_eq!(known.known.len(), 4 * ACQUAINTANCES_PER_LANDMARK);
    }

    #[test]
    fn it_is_saved_once_in_a_while_and_only_where_there_are_landmarks() {
        let mut known = Acquaintances::new(DAY);
        let mut saves =
            |at: Duration, present: &[u8]| known.look(Instant::ZERO + at, present.iter().map(|of| peer(*of)), 4);
        assert!(!saves(Duration::ZERO, &[]));
        assert!(saves(Duration::from_secs(1), &[1]));
        assert!(!saves(Duration::from_secs(2), &[1]));
        assert!(saves(ACQUAINTANCE_SAVE + Duration::from_secs(2), &[1]));
    }
}
