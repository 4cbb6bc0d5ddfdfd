//! What one neighbour's queries may cost: messages and bytes, each a token bucket. Every
//! query that comes through a neighbour is charged to it, whoever sent it; our own are not charged.

use std::collections::BTreeMap;

use super::limits::{
    BUDGET_BYTES_BURST, BUDGET_BYTES_PER_S, BUDGET_MESSAGES_BURST, BUDGET_MESSAGES_PER_S, BUDGETS_LEN,
};
use crate::crypto::PeerId;
use crate::defence::{self, Defence};
use crate::time::Instant;

/// One neighbour's budget.
struct Budget {
    /// Messages left, millionths.
    messages: u64,
    /// Bytes left.
    bytes: u64,
    /// When it was last refilled.
    at: Instant,
}

/// The budgets of all neighbours.
#[derive(Default)]
pub(super) struct Budgets {
    by_peer: BTreeMap<PeerId, Budget>,
}

impl Budgets {
    /// Takes messages and bytes from a neighbour's budget; `false`, and nothing taken, when it is spent.
    pub fn charge(&mut self, now: Instant, peer: PeerId, messages: u64, bytes: usize) -> bool {
        if !self.by_peer.contains_key(&peer) && self.by_peer.len() >= BUDGETS_LEN {
            let oldest = self.by_peer.iter().min_by_key(|(_, budget)| budget.at).map(|(peer, _)| *peer);
            oldest.and_then(|peer| self.by_peer.remove(&peer));
        }
        let full = Budget { messages: BUDGET_MESSAGES_BURST * MICRO, bytes: BUDGET_BYTES_BURST, at: now };
        let budget = self.by_peer.entry(peer).or_insert(full);
        budget.refill(now);
        let (messages, bytes) = (messages * MICRO, u64::try_from(bytes).unwrap_or(u64::MAX));
        if budget.messages < messages || budget.bytes < bytes {
            return !defence::on(Defence::QueryBudget);
        }
        budget.messages -= messages;
        budget.bytes -= bytes;
        true
    }
}

/// Parts of one message.
const MICRO: u64 = 1_000_000;

impl Budget {
    /// Adds what has come in since the last time.
    fn refill(&mut self, now: Instant) {
        let us = crate::time::micros(now.saturating_since(self.at)).min(60 * MICRO);
        self.at = now;
        self.messages = (self.messages + us * BUDGET_MESSAGES_PER_S).min(BUDGET_MESSAGES_BURST * MICRO);
        self.bytes = (self.bytes + us * BUDGET_BYTES_PER_S / MICRO).min(BUDGET_BYTES_BURST);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_spent_budget_refuses_until_it_is_refilled_and_others_have_their_own() {
        let (mut budgets, a, b) = (Budgets::default(), PeerId([1; 32]), PeerId([2; 32]));
        let taken = (0..10_000).filter(|_| budgets.charge(Instant::ZERO, a, 1, 10)).count();
        assert_eq!(taken as u64, BUDGET_MESSAGES_BURST);
        assert!(budgets.charge(Instant::ZERO, b, 1, 10));
        let later = Instant::ZERO + Duration::from_secs(1);
        let taken = (0..10_000).filter(|_| budgets.charge(later, a, 1, 10)).count();
        assert_eq!(taken as u64, BUDGET_MESSAGES_PER_S);
        assert!(!budgets.charge(later, b, 0, usize::MAX));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut budgets = Budgets::default();
        for n in 0..5000u32 {
            budgets.charge(Instant::from_micros(n.into()), PeerId(crate::crypto::hash(&n.to_le_bytes())), 1, 1);
        }
        assert_eq!(budgets.by_peer.len(), BUDGETS_LEN);
    }
}
