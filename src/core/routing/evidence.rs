//! What the end-to-end layers saw: whether a next hop delivers toward a destination. One
//! that does not costs more in this node's own choice for a while. A soft penalty, never
//! advertised, and no reputation: research/routing.md §5.4.

use std::collections::BTreeMap;

use super::limits::{DEMOTION, EVIDENCE_LIFE, EVIDENCE_MAX};
use crate::crypto::PeerId;
use crate::time::Instant;

/// Success, in thousandths.
const FULL: u32 = 1000;
/// Below this a next hop is demoted: three failures in a row.
const LOW: u32 = 500;

/// Scores by destination and next hop, at most [`EVIDENCE_MAX`]; the oldest goes.
#[derive(Default)]
pub(super) struct Evidence {
    scores: BTreeMap<(PeerId, PeerId), Score>,
}

/// One score.
struct Score {
    success: u32,
    at: Instant,
}

impl Evidence {
    /// Takes one outcome into account: a moving average of a quarter's weight.
    pub(super) fn note(&mut self, now: Instant, dest: PeerId, next_hop: PeerId, ok: bool) {
        let key = (dest, next_hop);
        if !self.scores.contains_key(&key) {
            if ok {
                return;
            }
            if self.scores.len() >= EVIDENCE_MAX {
                let oldest = self.scores.iter().min_by_key(|(key, score)| (score.at, **key)).map(|(key, _)| *key);
                oldest.and_then(|key| self.scores.remove(&key));
            }
        }
        let score = self.scores.entry(key).or_insert(Score { success: FULL, at: now });
        score.success = (score.success * 3 + if ok { FULL } else { 0 }) / 4;
        score.at = now;
    }

    /// What a next hop costs on top.
    pub(super) fn penalty(&self, dest: &PeerId, next_hop: &PeerId) -> u16 {
        self.scores.get(&(*dest, *next_hop)).map_or(0, |score| if score.success < LOW { DEMOTION } else { 0 })
    }

    /// Forgets what is old.
    pub(super) fn expire(&mut self, now: Instant) {
        self.scores.retain(|_, score| now - score.at < EVIDENCE_LIFE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_demote_success_and_time_forgive() {
        let (dest, hop) = (PeerId([1; 32]), PeerId([2; 32]));
        let mut evidence = Evidence::default();
        for _ in 0..2 {
            evidence.note(Instant::ZERO, dest, hop, false);
        }
        assert_eq!(evidence.penalty(&dest, &hop), 0);
        evidence.note(Instant::ZERO, dest, hop, false);
        assert_eq!(evidence.penalty(&dest, &hop), DEMOTION);
        evidence.note(Instant::ZERO, dest, hop, true);
        assert_eq!(evidence.penalty(&dest, &hop), 0);
        evidence.note(Instant::ZERO, dest, hop, false);
        assert_eq!(evidence.penalty(&dest, &hop), DEMOTION);
        evidence.expire(Instant::ZERO + EVIDENCE_LIFE);
        assert_eq!(evidence.penalty(&dest, &hop), 0);
    }

    #[test]
    fn the_number_of_scores_is_bounded() {
        let mut evidence = Evidence::default();
        for n in 0..1000u16 {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&n.to_le_bytes());
            evidence.note(Instant::from_micros(n.into()), PeerId(id), PeerId([2; 32]), false);
        }
        assert_eq!(evidence.scores.len(), EVIDENCE_MAX);
    }
}
