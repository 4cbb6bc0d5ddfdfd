//! One set-up at one hop: the branches it still has, and what it may still spend.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::legs::Leg;
use super::limits::{BRANCH_MARGIN, HEDGE_SHARE, HEDGE_TIME, OPEN_TIME, SEEN_MAX, SEEN_TIME};
use super::{Reason, Way};
use crate::crypto::PeerId;
use crate::time::{Instant, micros};
use crate::wire::path::{Avoid, Label, Open, SetupId};

/// One set-up at one hop.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The set-up.
    pub id: SetupId,
    /// Its destination.
    pub tag: [u8; 16],
    /// What the destination's proof must hash to.
    pub proof_hash: [u8; 32],
    /// Where the destination is, for whoever has it in no table.
    pub way: Way,
    /// The opener's message.
    pub blob: Bytes,
    /// Ways to keep away from.
    pub avoid: Avoid,
    /// Hops that it may go from here.
    pub hop_limit: u16,
    /// Messages that it may still cost, beside those that running branches took along.
    pub budget: u16,
    /// When it began here.
    pub started: Instant,
    /// When the previous hop loses patience.
    pub deadline: Instant,
    /// Neighbours not tried yet, best first.
    pub alternatives: SmallVec<[PeerId; 4]>,
    /// The branches being tried, in the order of their beginning, and when the next may join them.
    pub running: SmallVec<[Running; 2]>,
    /// When the next alternative is tried beside them.
    pub hedge_at: Instant,
    /// Why the last branch failed.
    pub last: Reason,
}

/// A branch being tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    /// Its leg.
    pub leg: Leg,
    /// The budget that went with it.
    pub given: u16,
    /// When it began.
    pub since: Instant,
}

impl Attempt {
    /// The next alternative to try, if there is one, and time, budget and hops for it. A branch that runs beside it is
    /// charged half of what it took: had it that much to do, it would be far off the way.
    pub fn next_branch(&mut self, now: Instant) -> Option<PeerId> {
        let returned = self.running.last_mut().filter(|_| self.hedge_at <= now).map_or(0, Running::take_half);
        self.budget = self.budget.saturating_add(returned);
        if self.alternatives.is_empty() {
            return None;
        }
        if self.deadline <= now {
            self.last = Reason::TimedOut;
            return None;
        }
        if self.budget == 0 || self.hop_limit == 0 {
            self.last = Reason::Limit;
            return None;
        }
        Some(self.alternatives.remove(0))
    }

    /// The message for a branch that begins now. It takes the whole budget along and brings back what is left.
    pub fn begin(&mut self, now: Instant, leg: Leg) -> Open {
        let given = self.budget.saturating_sub(1);
        self.budget = 0;
        self.running.push(Running { leg, given, since: now });
        let left = self.deadline.saturating_since(now);
        let excess = left.saturating_sub(OPEN_TIME).mul_f64(HEDGE_SHARE);
        self.hedge_at = now + HEDGE_TIME + excess;
        Open {
            label: leg.label,
            id: self.id,
            tag: self.tag,
            proof_hash: self.proof_hash,
            hop_limit: self.hop_limit - 1,
            budget: given,
            // Who cannot go on says so before we are asked to.
            patience_ms: u16::try_from((left - (left / 32).min(BRANCH_MARGIN)).as_millis()).unwrap_or(u16::MAX),
            avoid: self.avoid.clone(),
            way: self.way.clone(),
            blob: self.blob.clone(),
        }
    }

    /// When something is to be done.
    pub fn wakes_at(&self) -> Instant {
        if self.alternatives.is_empty() { self.deadline } else { self.hedge_at.min(self.deadline) }
    }

    /// A branch failed: `left` is what it says is left of its budget; a silent one is charged half.
    pub fn branch_failed(&mut self, leg: &Leg, reason: Reason, left: Option<u16>) {
        let Some(at) = self.running.iter().position(|running| running.leg == *leg) else { return };
        let mut running = self.running.remove(at);
        self.budget = self.budget.saturating_add(match left {
            Some(left) => left.min(running.given),
            None => running.take_half(),
        });
        self.last = reason;
    }

    /// Branches that had time to say something and did not, while what was begun after them did.
    pub fn silent(&self, now: Instant, before: Instant) -> impl Iterator<Item = PeerId> {
        let silent = move |running: &&Running| running.since < before && now - running.since >= HEDGE_TIME;
        self.running.iter().filter(silent).map(|running| running.leg.peer)
    }
}

/// A time told in milliseconds, at most `max`.
pub(super) fn patience(ms: u16, max: Duration) -> Duration {
    Duration::from_millis(u64::from(ms)).min(Duration::from_micros(micros(max)))
}

impl Running {
    /// Takes half of its budget back: it is silent.
    fn take_half(&mut self) -> u16 {
        let half = self.given / 2;
        self.given -= half;
        half
    }
}

/// Set-ups that were here in the last minute.
#[derive(Default)]
pub(super) struct Seen {
    ids: HashSet<SetupId>,
    order: VecDeque<(Instant, SetupId)>,
}

impl Seen {
    /// Remembers an id; false when it was here before.
    pub fn insert(&mut self, now: Instant, id: SetupId) -> bool {
        while self.order.front().is_some_and(|(at, _)| *at <= now) || self.order.len() >= SEEN_MAX {
            if let Some((_, old)) = self.order.pop_front() {
                self.ids.remove(&old);
            }
        }
        let fresh = self.ids.insert(id);
        if fresh {
            self.order.push_back((now + SEEN_TIME, id));
        }
        fresh
    }
}

impl Leg {
    /// The leg of a neighbour's message.
    pub const fn new(peer: PeerId, label: Label) -> Self {
        Self { peer, label }
    }
}
