//! One set-up at one hop: the branches it still has, and what it may still spend.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::legs::Leg;
use super::limits::{BRANCH_TIME_MAX, BRANCH_TIME_MIN, LAST_BRANCH_MARGIN, SEEN_MAX, SEEN_TIME};
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
    /// Messages that it may still cost.
    pub budget: u16,
    /// When it began here.
    pub started: Instant,
    /// When the previous hop loses patience.
    pub deadline: Instant,
    /// Neighbours not tried yet, best first.
    pub alternatives: SmallVec<[PeerId; 4]>,
    /// The branch being tried, and the budget that went with it.
    pub branch: Option<(Leg, u16)>,
    /// Whether its silence would tell of the neighbour: it has enough time to say that it cannot go on.
    pub fair: bool,
    /// Why the last branch failed.
    pub last: Reason,
}

/// A branch to try now.
pub(super) struct Branch {
    /// The neighbour.
    pub peer: PeerId,
    /// When to give it up.
    pub until: Instant,
    /// Milliseconds that it is told.
    patience_ms: u16,
}

impl Attempt {
    /// Takes the next alternative; `None` when there is none, or time, budget or hops are used up.
    pub fn next_branch(&mut self, now: Instant) -> Option<Branch> {
        if self.alternatives.is_empty() {
            return None;
        }
        let left = self.deadline.saturating_since(now);
        if left.is_zero() {
            self.last = Reason::TimedOut;
            return None;
        }
        if self.budget == 0 || self.hop_limit == 0 {
            self.last = Reason::Limit;
            return None;
        }
        let peer = self.alternatives.remove(0);
        // The last branch gets nearly all of the time; an earlier one half at most, so that the others get theirs.
        let (share, told) = if self.alternatives.is_empty() {
            (left, left - (left / 32).min(LAST_BRANCH_MARGIN))
        } else {
            let share = (left / 2).clamp(BRANCH_TIME_MIN, BRANCH_TIME_MAX).min(left);
            (share, share / 4 * 3)
        };
        self.fair = !self.alternatives.is_empty() && share >= BRANCH_TIME_MIN;
        let patience_ms = u16::try_from(told.as_millis()).unwrap_or(u16::MAX);
        Some(Branch { peer, until: now + share, patience_ms })
    }

    /// The message for a branch. It takes the whole budget along and brings back what is left.
    pub fn message(&mut self, branch: &Branch, leg: Leg) -> Open {
        let budget = self.budget.saturating_sub(1);
        self.branch = Some((leg, budget));
        Open {
            label: leg.label,
            id: self.id,
            tag: self.tag,
            proof_hash: self.proof_hash,
            hop_limit: self.hop_limit - 1,
            budget,
            patience_ms: branch.patience_ms,
            avoid: self.avoid.clone(),
            way: self.way.clone(),
            blob: self.blob.clone(),
        }
    }

    /// The branch failed: `left` is what it says is left of its budget; a silent one is charged half.
    pub fn branch_failed(&mut self, reason: Reason, left: Option<u16>) -> Option<Leg> {
        let (leg, given) = self.branch.take()?;
        self.budget = left.map_or(given / 2, |left| left.min(given));
        self.last = reason;
        Some(leg)
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
