//! What was seen of answers, here and end to end: whether a next hop delivers toward a destination. One
//! that does not costs more in this node's own choice for a while. A soft penalty, never
//! advertised, and no reputation: research/routing.md §5.4.

use std::collections::BTreeMap;

use super::limits::{DEMOTION, EVIDENCE_LIFE, EVIDENCE_MAX, MUTE_AFTER, SILENT_DEMOTION, WITNESS_LIFE};
use crate::crypto::PeerId;
use crate::time::Instant;

/// Success, in thousandths.
const FULL: u32 = 1000;
/// Below this a next hop is demoted: two failures in a row.
const LOW: u32 = 500;

/// Scores by destination and next hop, and by next hop alone, and who does not answer, at most [`EVIDENCE_MAX`] of each;
/// the oldest goes.
#[derive(Default)]
pub(super) struct Evidence {
    scores: BTreeMap<(PeerId, PeerId), Score>,
    neighbours: BTreeMap<PeerId, Score>,
    landmarks: BTreeMap<PeerId, Witness>,
    /// Neighbours over which an answer to us came, and when the last did.
    delivered: BTreeMap<PeerId, Instant>,
}

/// Whether a landmark's silence tells of those that lead to it.
#[derive(Clone, Copy)]
struct Witness {
    /// It has answered us.
    answered: bool,
    /// Requests since that it left without an answer.
    silences: u8,
    at: Instant,
}

/// One score.
struct Score {
    success: u32,
    at: Instant,
}

impl Evidence {
    /// Takes one outcome toward a destination into account.
    pub(super) fn note(&mut self, now: Instant, dest: PeerId, next_hop: PeerId, ok: bool) {
        note(&mut self.scores, now, (dest, next_hop), ok);
    }

    /// Takes one outcome toward a destination into account that nobody here needs to know.
    pub(super) fn note_neighbour(&mut self, now: Instant, next_hop: PeerId, ok: bool) {
        note(&mut self.neighbours, now, next_hop, ok);
    }

    /// Takes into account whether a landmark answered a request of ours that went over a neighbour. Its silence tells of
    /// the neighbour if that was never seen to deliver, or if the landmark used to answer; and only [`MUTE_AFTER`] times
    /// between two answers. Landmarks that are mute would otherwise give every way to them a bad name.
    pub(super) fn note_landmark(&mut self, now: Instant, landmark: PeerId, next_hop: PeerId, ok: bool) {
        if ok {
            keep(&mut self.landmarks, landmark, Witness { answered: true, silences: 0, at: now }, |witness| witness.at);
            keep(&mut self.delivered, next_hop, now, |at| *at);
            return self.note_neighbour(now, next_hop, true);
        }
        let known = self.landmarks.get(&landmark).copied();
        let before = known.unwrap_or(Witness { answered: false, silences: 0, at: now });
        let witness = Witness { silences: before.silences.saturating_add(1), at: now, ..before };
        keep(&mut self.landmarks, landmark, witness, |witness| witness.at);
        let tells = witness.answered || !self.delivered.contains_key(&next_hop);
        if tells && witness.silences <= MUTE_AFTER {
            self.note_neighbour(now, next_hop, false);
        }
    }

    /// What a next hop costs on top.
    pub(super) fn penalty(&self, dest: &PeerId, next_hop: &PeerId) -> u16 {
        if dest == next_hop {
            0
        } else if self.is_silent(next_hop) {
            SILENT_DEMOTION
        } else if is_low(self.scores.get(&(*dest, *next_hop))) {
            DEMOTION
        } else {
            0
        }
    }

    /// Whether a neighbour was seen to deliver nothing.
    pub(super) fn is_silent(&self, next_hop: &PeerId) -> bool {
        is_low(self.neighbours.get(next_hop))
    }

    /// Forgets what is old.
    pub(super) fn expire(&mut self, now: Instant) {
        self.scores.retain(|_, score| now - score.at < EVIDENCE_LIFE);
        self.neighbours.retain(|_, score| now - score.at < EVIDENCE_LIFE);
        self.landmarks.retain(|_, witness| now - witness.at < WITNESS_LIFE);
        self.delivered.retain(|_, at| now - *at < WITNESS_LIFE);
    }
}

/// Whether there is a score, and it is low.
fn is_low(score: Option<&Score>) -> bool {
    score.is_some_and(|score| score.success < LOW)
}

/// Enters a value; at the bound the oldest goes.
fn keep<V>(values: &mut BTreeMap<PeerId, V>, key: PeerId, value: V, at: fn(&V) -> Instant) {
    if !values.contains_key(&key) {
        make_room(values, at);
    }
    values.insert(key, value);
}

/// Makes room for one more.
fn make_room<K: Ord + Copy, V>(values: &mut BTreeMap<K, V>, at: fn(&V) -> Instant) {
    if values.len() >= EVIDENCE_MAX {
        let oldest = values.iter().min_by_key(|(key, value)| (at(value), **key)).map(|(key, _)| *key);
        oldest.and_then(|key| values.remove(&key));
    }
}

/// Takes one outcome into account: a moving average of a third's weight.
fn note<K: Ord + Copy>(scores: &mut BTreeMap<K, Score>, now: Instant, key: K, ok: bool) {
    if !scores.contains_key(&key) {
        if ok {
            return;
        }
        make_room(scores, |score| score.at);
    }
    let score = scores.entry(key).or_insert(Score { success: FULL, at: now });
    score.success = (score.success * 2 + if ok { FULL } else { 0 }) / 3;
    score.at = now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_demote_success_and_time_forgive() {
        let (dest, hop) = (PeerId([1; 32]), PeerId([2; 32]));
        let mut evidence = Evidence::default();
        evidence.note(Instant::ZERO, dest, hop, false);
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
    fn a_neighbour_that_delivers_nothing_comes_last_but_for_itself() {
        let (dest, hop) = (PeerId([1; 32]), PeerId([2; 32]));
        let mut evidence = Evidence::default();
        (0..2).for_each(|_| evidence.note_neighbour(Instant::ZERO, hop, false));
        assert_eq!((evidence.penalty(&dest, &hop), evidence.penalty(&hop, &hop)), (SILENT_DEMOTION, 0));
        evidence.note_neighbour(Instant::ZERO, hop, true);
        assert_eq!(evidence.penalty(&dest, &hop), 0);
    }

    #[test]
    fn a_landmark_that_never_answers_gives_its_ways_no_bad_name_for_long() {
        let [hop, mute, honest, other] = [2, 3, 4, 5].map(|of| PeerId([of; 32]));
        let mut evidence = Evidence::default();
        let mut note = |landmark, ok| {
            evidence.note_landmark(Instant::ZERO, landmark, hop, ok);
            evidence.is_silent(&hop)
        };
        note(mute, false);
        assert!(note(other, false), "a neighbour that was never seen to deliver");
        assert!(!note(honest, true));
        assert!((0..9).all(|_| !note(mute, false) && !note(other, false)), "they never answered, others do");
        (0..9).for_each(|_| assert!(!note(honest, true)));
        assert!((0..9).all(|_| !note(honest, false)), "one that used to answer, but none alone");
        note(other, true);
        note(honest, true);
        note(other, false);
        assert!(note(honest, false), "two that used to answer");
    }

    #[test]
    fn the_number_of_scores_is_bounded() {
        let mut evidence = Evidence::default();
        for n in 0..1000u16 {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&n.to_le_bytes());
            evidence.note(Instant::from_micros(n.into()), PeerId(id), PeerId([2; 32]), false);
            evidence.note_landmark(Instant::from_micros(n.into()), PeerId(id), PeerId(id), false);
        }
        let sizes = [evidence.scores.len(), evidence.neighbours.len(), evidence.landmarks.len()];
        assert_eq!(sizes, [EVIDENCE_MAX; 3]);
    }
}
