//! One set-up at one hop: the branches it still has, and what it may still spend.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::legs::Leg;
use super::limits::{
    BRANCH_MARGIN, HEDGE_SHARE, HEDGE_TIME, OPEN_TIME, OPEN_TIME_PER_DISTANCE, RESERVE_PART, SEEN_MAX, SEEN_TIME,
};
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
    /// When another may begin beside it.
    pub late_at: Instant,
}

impl Attempt {
    /// The next alternative to try, if there is one, and time, budget and hops for it.
    pub fn next_branch(&mut self, now: Instant) -> Option<PeerId> {
        if self.alternatives.is_empty() {
            return None;
        }
        if self.deadline <= now {
            self.fail_as(Reason::TimedOut);
            return None;
        }
        if self.budget == 0 || self.hop_limit == 0 {
            // A branch that runs may bring some back.
            self.hedge_at = self.deadline;
            self.fail_as(Reason::Limit);
            return None;
        }
        Some(self.alternatives.remove(0))
    }

    /// The message for a branch that begins now. It takes the budget along but for a reserve for branches beside it,
    /// and brings back what is left.
    pub fn begin(&mut self, now: Instant, leg: Leg) -> Open {
        let left = self.deadline.saturating_since(now);
        let excess = left.saturating_sub(OPEN_TIME);
        let distance = micros(excess) / micros(OPEN_TIME_PER_DISTANCE);
        let parts = RESERVE_PART.saturating_add(u16::try_from(distance / 2).unwrap_or(u16::MAX));
        let all = self.budget.saturating_sub(1);
        self.budget = if self.alternatives.is_empty() { 0 } else { all / parts };
        let given = all - self.budget;
        let wait = HEDGE_TIME + excess.mul_f64(HEDGE_SHARE);
        self.hedge_at = now + wait;
        self.running.push(Running { leg, given, since: now, late_at: self.hedge_at });
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

    /// A branch failed: `left` is what it says is left of its budget; of a silent one nothing is.
    pub fn branch_failed(&mut self, now: Instant, leg: &Leg, reason: Reason, left: Option<u16>) {
        let Some(at) = self.running.iter().position(|running| running.leg == *leg) else { return };
        let Running { given, .. } = self.running.remove(at);
        self.budget = self.budget.saturating_add(left.map_or(0, |left| left.min(given)));
        self.fail_as(reason);
        // Anybody can say so, but if nobody else answers soon it was the destination.
        if reason == Reason::Refused && self.alternatives.is_empty() {
            self.deadline = self.deadline.min(now + HEDGE_TIME);
        }
    }

    /// Why it fails if it does: what the destination says tells more than that others found no way, and this more than
    /// silence.
    fn fail_as(&mut self, reason: Reason) {
        let tells = |reason| match reason {
            Reason::Refused => 2,
            Reason::TimedOut | Reason::Limit => 0,
            _ => 1,
        };
        if tells(reason) >= tells(self.last) || self.last == Reason::Unreachable {
            self.last = reason;
        }
    }

    /// Those that a branch begun at `since` has overtaken although they had as long as a branch gets alone. At a hop
    /// that found no way nobody is blamed: the silence may be the destination's, or of somebody far behind.
    pub fn overtaken(&self, now: Instant, since: Instant) -> impl Iterator<Item = PeerId> {
        let overtaken = move |running: &&Running| running.since < since && running.late_at <= now;
        self.running.iter().filter(overtaken).map(|running| running.leg.peer)
    }
}

/// A time told in milliseconds, at most `max`.
pub(super) fn patience(ms: u16, max: Duration) -> Duration {
    Duration::from_millis(u64::from(ms)).min(Duration::from_micros(micros(max)))
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
