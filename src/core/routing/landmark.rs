//! Who is a landmark: of the nodes whose vicinity does not hold the whole network, those of
//! the lowest ranks. A node stands for it while few of its vicinity come before it, and steps
//! down when others would not keep it: of nodes that are equally long known the lowest
//! ranks of the whole network remain, whatever the order of events. Small networks have none:
//! everybody is in every table.
//!
//! A rank is a hash of the PeerId, and can be ground out. So half of what everybody keeps are
//! those known longest ([`super::acquaintance`]), and a landmark that has been one for long
//! does not step down for new ones.

use super::entry::rank;
use super::limits::{CANDIDATE_LOOKS, CANDIDATES, JITTER_PERCENT, LOOK_AROUND, URGENT};
use super::{Event, Routing, Timer};
use crate::crypto::PeerId;
use crate::time::Instant;
use crate::wire::routing::short;

impl Routing {
    /// Looks whether we should be a landmark, and whether our place is still true.
    pub(super) fn look_around(&mut self, now: Instant) {
        let wait = self.rng.jitter(LOOK_AROUND, JITTER_PERCENT);
        self.timers.set(Timer::LookAround, now + wait);
        self.judge(now);
        self.acquaint(now);
        self.elect(now);
        self.check_home(now);
    }

    /// Counts for how long landmarks are known, ourselves among them.
    fn acquaint(&mut self, now: Instant) {
        let own = self.origin.proof().is_landmark().then_some(self.me);
        let present = self.table.landmarks().map(|(_, peer)| peer).chain(own);
        if self.acquaintances.look(now, present, self.limits.landmarks) {
            self.events.push_back(Event::Acquaintances(self.acquaintances.saved()));
        }
        let classes: Vec<(PeerId, u8)> =
            self.table.landmarks().map(|(_, peer)| (peer, self.acquaintances.class(&peer))).collect();
        classes.into_iter().for_each(|(peer, class)| self.table.set_class(&peer, class));
    }

    /// Becomes a landmark or steps down.
    fn elect(&mut self, now: Instant) {
        let mine = rank(&short(&self.me));
        let is_landmark = self.origin.proof().is_landmark();
        let kept = self.keeps_landmark(&self.me);
        if is_landmark && !kept {
            return self.set_landmark(now, false);
        }
        let stands = !is_landmark && kept && self.is_candidate(mine, self.acquaintances.class(&self.me) > 0);
        self.stood = if stands { self.stood.saturating_add(1) } else { 0 };
        if self.stood >= CANDIDATE_LOOKS {
            self.set_landmark(now, true);
        }
    }

    /// Whether a landmark is, or would be, among those that are kept.
    pub(super) fn keeps_landmark(&self, dest: &PeerId) -> bool {
        self.table.is_kept(self.limits.landmarks, rank(&short(dest)), dest, self.acquaintances.class(dest))
    }

    /// Whether the network is larger than our vicinity, and few of this come before us; who has been a landmark for long
    /// comes back after a restart whoever else may have come before it by now.
    fn is_candidate(&self, mine: u64, returns: bool) -> bool {
        // Landmarks that are near were of the vicinity before. Whether anything was refused depends on who tells whom,
        // and all of a vicinity must agree who stands.
        let full = self.table.is_crowded(self.bounds(), true);
        let before = |entry: &super::Entry| entry.live && !entry.proof.is_landmark() && entry.rank < mine;
        full && (returns
            || self.table.entries.values().filter(|entry| before(entry)).take(CANDIDATES).count() < CANDIDATES)
    }

    /// Tells everybody that we are a landmark, or none any more.
    pub(super) fn set_landmark(&mut self, now: Instant, landmark: bool) {
        self.stood = 0;
        self.origin.set_landmark(now, landmark);
        self.persist_epoch();
        self.set_refresh(now);
        self.tell_own(now, URGENT);
    }
}
