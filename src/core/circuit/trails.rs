//! Which way each set-up went on from here, so that a later one can keep away from it.
//!
//! An opener that wants a second path, or one around a relay that fell silent, names the set-ups to
//! keep away from by their ids, which mean nothing to whoever has not carried them. Trails of
//! circuits that are gone are kept for a while: the way on of one that just died is the last to try.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;

use super::limits::{ALTERNATIVES_MAX, TRAIL_TIME, TRAILS_GONE_MAX};
use crate::crypto::PeerId;
use crate::time::Instant;
use crate::wire::path::{Avoid, SetupId};

/// The ways on of set-ups. Bounded by the circuits of the node and [`TRAILS_GONE_MAX`].
#[derive(Default)]
pub(super) struct Trails {
    over: HashMap<SetupId, PeerId>,
    gone: VecDeque<(Instant, SetupId)>,
}

impl Trails {
    /// A set-up goes on over this neighbour.
    pub fn note(&mut self, id: SetupId, over: PeerId) {
        self.over.insert(id, over);
    }

    /// The circuit of a set-up is gone: its trail is forgotten later.
    pub fn release(&mut self, now: Instant, id: SetupId) {
        while self.gone.front().is_some_and(|(at, _)| *at <= now) || self.gone.len() >= TRAILS_GONE_MAX {
            if let Some((_, old)) = self.gone.pop_front() {
                self.over.remove(&old);
            }
        }
        if self.over.contains_key(&id) {
            self.gone.push_back((now + TRAIL_TIME, id));
        }
    }

    /// Whether one of the set-ups to keep away from came through here.
    pub fn crosses(&self, avoid: &Avoid) -> bool {
        avoid.setups.iter().any(|id| self.over.contains_key(id))
    }

    /// The first set-up to keep away from that went on over this neighbour: the lower, the worse.
    fn taken(&self, avoid: &Avoid, peer: &PeerId) -> Option<usize> {
        avoid.setups.iter().position(|id| self.over.get(id) == Some(peer))
    }

    /// Whether going on over this neighbour leaves the ways to keep away from, which come through here.
    pub fn parts(&self, avoid: &Avoid, peer: &PeerId) -> bool {
        self.crosses(avoid) && self.taken(avoid, peer).is_none()
    }

    /// Puts ways on that were taken behind the others, the worst last, or leaves them out where they must not be taken.
    pub fn order(&self, avoid: &Avoid, via: &mut SmallVec<[PeerId; 4]>) {
        if !self.crosses(avoid) {
            return via.truncate(ALTERNATIVES_MAX);
        }
        let (mut taken, mut fresh): (SmallVec<[PeerId; 4]>, SmallVec<[PeerId; 4]>) =
            via.iter().copied().partition(|peer| self.taken(avoid, peer).is_some());
        taken.sort_by_key(|peer| std::cmp::Reverse(self.taken(avoid, peer)));
        if !avoid.strict {
            fresh.truncate(ALTERNATIVES_MAX - usize::from(!taken.is_empty()));
            fresh.extend(taken);
        }
        fresh.truncate(ALTERNATIVES_MAX);
        *via = fresh;
    }
}
