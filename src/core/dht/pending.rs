//! Queries in flight: whom they came from, whom they went to, under which tokens. An answer is taken only
//! under a token that is here, and only once it is complete; a query that was seen is known for a while.

use std::collections::{BTreeMap, VecDeque};

use super::Via;
use super::limits::{BLOCKS_PER_LEG, PASSED_FOR_WORK, PASSED_LEN, PASSED_OWN, REPEAT_LIFE, REPEATS_LEN};
use crate::crypto::{DhtKey, PeerId};
use crate::defence::{self, Defence};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::block::Kind;
use crate::wire::dht::Progress;

/// Whom a query is answered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    /// The hop before us.
    Hop {
        /// The way back.
        via: Via,
        /// Its token.
        token: u64,
    },
    /// Ourselves.
    Own {
        /// Which own query.
        own: u64,
    },
}

/// A hop that we asked.
#[derive(Debug)]
pub(super) struct Leg {
    /// The contact.
    pub peer: PeerId,
    /// Its last word; `More` until then.
    pub progress: Progress,
    /// Blocks that it sent.
    blocks: usize,
}

/// A block that was passed on.
#[derive(Debug)]
struct Passed {
    work_bits: u32,
    digest: [u8; 32],
}

/// One query in flight.
#[derive(Debug)]
pub(super) struct Pending {
    /// Whom to answer.
    pub upstream: Upstream,
    /// The blocks that it looks for; none for a put.
    pub sought: Option<(Kind, DhtKey)>,
    /// Replicas stored so far, by us and behind us.
    pub stored: u8,
    /// When late blocks are no longer taken.
    pub ends: Instant,
    /// Whether the final answer went out.
    pub answered: bool,
    legs: BTreeMap<u64, Leg>,
    passed: Vec<Passed>,
}

impl Pending {
    /// A query that nobody was asked yet.
    pub fn new(upstream: Upstream, sought: Option<(Kind, DhtKey)>, stored: u8, ends: Instant) -> Self {
        let (answered, legs, passed) = (false, BTreeMap::new(), Vec::new());
        Self { upstream, sought, stored, ends, answered, legs, passed }
    }

    /// The leg of a token.
    pub fn leg(&mut self, token: u64) -> Option<&mut Leg> {
        self.legs.get_mut(&token)
    }

    /// Counts a block of a leg; `false` when it sent too many. Of our own next hops we take all that one may send.
    pub fn take_block(&mut self, token: u64) -> bool {
        let most = if matches!(self.upstream, Upstream::Own { .. }) { PASSED_LEN } else { BLOCKS_PER_LEG };
        self.legs.get_mut(&token).is_some_and(|leg| {
            leg.blocks += 1;
            leg.blocks <= most
        })
    }

    /// Whether every leg has had its last word.
    pub fn finished(&self) -> bool {
        self.legs.values().all(|leg| leg.progress != Progress::More)
    }

    /// Our last word: complete if every leg is.
    pub fn progress(&self) -> Progress {
        let complete = self.legs.values().all(|leg| leg.progress == Progress::Complete);
        if complete { Progress::Complete } else { Progress::Partial }
    }

    /// Whether a block is passed on; if so it counts.
    pub fn pass(&mut self, digest: [u8; 32], work_bits: u32) -> bool {
        let passes = self.passes(&digest, work_bits);
        if passes {
            self.passed.push(Passed { work_bits, digest });
        }
        passes
    }

    /// Whether a block would be passed on: it is new, and there is room; the last places are for blocks with more
    /// work than the weakest before. Asked before the signature is checked.
    pub fn passes(&self, digest: &[u8; 32], work_bits: u32) -> bool {
        let known = self.passed.iter().any(|passed| passed.digest == *digest);
        let most = if matches!(self.upstream, Upstream::Own { .. }) { PASSED_OWN } else { PASSED_LEN };
        let weakest = self.passed.iter().map(|passed| passed.work_bits).min().unwrap_or(0);
        let free = self.passed.len() < most - PASSED_FOR_WORK;
        !known && (free || self.passed.len() < most && work_bits > weakest)
    }
}

/// Whether a query was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It was not.
    First,
    /// Only as the last of its way: now there is forwarding to do.
    AfterLast,
    /// It was: there is nothing to do.
    Again,
}

/// A query that was seen.
struct Seen {
    until: Instant,
    /// Only as the last of its way.
    last: bool,
}

/// All queries in flight.
pub(super) struct Table {
    rng: Rng,
    next: u64,
    by_id: BTreeMap<u64, Pending>,
    by_token: BTreeMap<u64, u64>,
    per_neighbour: BTreeMap<PeerId, usize>,
    repeats: BTreeMap<[u8; 16], Seen>,
    repeats_order: VecDeque<[u8; 16]>,
}

impl Table {
    /// Nothing in flight.
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            next: 0,
            by_id: BTreeMap::new(),
            by_token: BTreeMap::new(),
            per_neighbour: BTreeMap::new(),
            repeats: BTreeMap::new(),
            repeats_order: VecDeque::new(),
        }
    }

    /// Queries in flight.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Queries in flight that a neighbour brought.
    pub fn of_neighbour(&self, neighbour: &PeerId) -> usize {
        self.per_neighbour.get(neighbour).copied().unwrap_or(0)
    }

    /// Enters a query.
    pub fn open(&mut self, pending: Pending) -> u64 {
        let id = self.next;
        self.next += 1;
        if let Upstream::Hop { via, .. } = pending.upstream {
            *self.per_neighbour.entry(via.neighbour()).or_default() += 1;
        }
        self.by_id.insert(id, pending);
        id
    }

    /// Draws the token under which `peer` is asked for a query.
    pub fn add_leg(&mut self, id: u64, peer: PeerId) -> u64 {
        let random = self.rng.public_u64().max(1);
        let token = if defence::on(Defence::RandomTokens) { random } else { self.by_token.len() as u64 + 1 };
        if let Some(pending) = self.by_id.get_mut(&id) {
            pending.legs.insert(token, Leg { peer, progress: Progress::More, blocks: 0 });
            self.by_token.insert(token, id);
        }
        token
    }

    /// The query that a token belongs to.
    pub fn of_token(&self, token: u64) -> Option<u64> {
        self.by_token.get(&token).copied()
    }

    /// A query in flight.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Pending> {
        self.by_id.get_mut(&id)
    }

    /// A leg had its last word: its token is void.
    pub fn end_leg(&mut self, token: u64) {
        self.by_token.remove(&token);
    }

    /// Ends a query and its tokens.
    pub fn close(&mut self, id: u64) -> Option<Pending> {
        let pending = self.by_id.remove(&id)?;
        for token in pending.legs.keys() {
            self.by_token.remove(token);
        }
        if let Upstream::Hop { via, .. } = pending.upstream
            && let Some(count) = self.per_neighbour.get_mut(&via.neighbour())
        {
            *count -= 1;
            if *count == 0 {
                self.per_neighbour.remove(&via.neighbour());
            }
        }
        Some(pending)
    }

    /// Every unfinished leg to a contact: (query, token).
    pub fn legs_to(&self, peer: &PeerId) -> Vec<(u64, u64)> {
        let legs =
            self.by_id.iter().flat_map(|(id, pending)| pending.legs.iter().map(move |(token, leg)| (*id, *token, leg)));
        legs.filter(|(_, _, leg)| leg.peer == *peer && leg.progress == Progress::More)
            .map(|(id, t, _)| (id, t))
            .collect()
    }

    /// Notes that a query was seen, by whoever forwards it or, as the `last` of its way, by who does not. The one must not
    /// stop the other: a hop that takes us for the end of the way may be quicker than one that counts on us.
    pub fn sight(&mut self, now: Instant, query: u64, key: &DhtKey, last: bool) -> Sight {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&query.to_le_bytes());
        name[8..].copy_from_slice(&key.0[..8]);
        let before = self.repeats.get(&name).filter(|seen| seen.until > now).map(|seen| seen.last);
        if before.is_some_and(|before| last || !before) && defence::on(Defence::QueryOnce) {
            return Sight::Again;
        }
        if self.repeats.insert(name, Seen { until: now + REPEAT_LIFE, last }).is_none() {
            self.repeats_order.push_back(name);
        }
        while let Some(oldest) = self.repeats_order.front() {
            let over = self.repeats_order.len() > REPEATS_LEN;
            if !over && self.repeats.get(oldest).is_some_and(|seen| seen.until > now) {
                break;
            }
            self.repeats.remove(oldest);
            self.repeats_order.pop_front();
        }
        if before.is_some() { Sight::AfterLast } else { Sight::First }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_new_once_and_again_when_forgotten() {
        let (mut table, key) = (Table::new(Rng::from_seed([1; 32])), DhtKey([1; 64]));
        assert_eq!(table.sight(Instant::ZERO, 1, &key, false), Sight::First);
        assert_eq!(table.sight(Instant::ZERO, 1, &key, false), Sight::Again);
        assert_eq!(table.sight(Instant::ZERO, 1, &key, true), Sight::Again);
        assert_eq!(table.sight(Instant::ZERO, 1, &DhtKey([2; 64]), true), Sight::First);
        assert_eq!(table.sight(Instant::ZERO, 1, &DhtKey([2; 64]), true), Sight::Again);
        assert_eq!(table.sight(Instant::ZERO, 1, &DhtKey([2; 64]), false), Sight::AfterLast);
        assert_eq!(table.sight(Instant::ZERO, 1, &DhtKey([2; 64]), false), Sight::Again);
        assert_eq!(table.sight(Instant::ZERO + REPEAT_LIFE, 1, &key, false), Sight::First);
        (0..2 * REPEATS_LEN as u64).for_each(|n| {
            table.sight(Instant::ZERO, n, &key, false);
        });
        assert!(table.repeats.len() <= REPEATS_LEN && table.repeats_order.len() <= REPEATS_LEN);
    }

    #[test]
    fn a_flood_of_blocks_does_not_keep_out_one_with_more_work() {
        let upstream = Upstream::Hop { via: Via::Link(PeerId([1; 32])), token: 1 };
        let mut pending = Pending::new(upstream, None, 0, Instant::ZERO);
        let passed = (0..1000u32).filter(|n| pending.pass(crate::crypto::hash(&n.to_le_bytes()), 0)).count();
        assert_eq!(passed, PASSED_LEN - PASSED_FOR_WORK);
        assert!(pending.pass([9; 32], 1));
        assert!(!pending.pass([9; 32], 1));
        let passed = (1000..2000u32).filter(|n| pending.pass(crate::crypto::hash(&n.to_le_bytes()), 1)).count();
        assert_eq!(passed, PASSED_FOR_WORK - 1);
    }

    #[test]
    fn tokens_end_with_their_query() {
        let mut table = Table::new(Rng::from_seed([1; 32]));
        let via = Via::Link(PeerId([1; 32]));
        let upstream = Upstream::Hop { via, token: 5 };
        let id = table.open(Pending::new(upstream, None, 0, Instant::ZERO));
        let token = table.add_leg(id, PeerId([2; 32]));
        assert_eq!((table.of_token(token), table.of_neighbour(&via.neighbour())), (Some(id), 1));
        assert!(!table.get_mut(id).unwrap().finished());
        table.close(id);
        assert_eq!((table.of_token(token), table.of_neighbour(&via.neighbour()), table.len()), (None, 0, 0));
    }
}
