//! Whether our clock can be right, by the blocks that others hand over. Blocks carry the only times that are
//! signed; an honest node keeps none that has ended or whose end is too far ahead, so one that comes from
//! a peer and is either to us means that its clock and ours are more than [`CLOCK_TOLERANCE_S`] apart.
//!
//! It is a hint for people. Nothing becomes valid or invalid by it, and a peer has one vote, so that whoever
//! replays old blocks persuades nobody who hears from two honest peers.
//!
//! [`CLOCK_TOLERANCE_S`]: crate::wire::block::CLOCK_TOLERANCE_S

use std::collections::BTreeMap;
use std::time::Duration;

use crate::crypto::PeerId;
use crate::time::Instant;
use crate::wire::block::{Block, Invalid};

/// Peers whose last word is kept; beyond them the one heard longest ago goes.
const VOTES_MAX: usize = 256;
/// How long a word counts.
const VOTE_LIFE: Duration = Duration::from_secs(3_600);

/// How our clock stands to others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDoubt {
    /// Ours says later.
    Ahead,
    /// Ours says earlier.
    Behind,
}

/// What each peer's last block said.
#[derive(Debug, Default)]
pub(super) struct ClockVotes {
    votes: BTreeMap<PeerId, (Instant, Option<ClockDoubt>)>,
}

impl ClockVotes {
    /// A block came from a peer and was judged. Costs a signature where it is of another time.
    pub(super) fn hear(&mut self, now: Instant, from: PeerId, block: &Block, verdict: &Result<(), Invalid>) {
        let doubt = match verdict {
            Ok(()) => None,
            Err(Invalid::Expired) => Some(ClockDoubt::Ahead),
            Err(Invalid::TooFar) => Some(ClockDoubt::Behind),
            Err(_) => return,
        };
        if doubt.is_some() && block.verify_signature().is_err() {
            return;
        }
        self.votes.insert(from, (now, doubt));
        if self.votes.len() > VOTES_MAX
            && let Some(oldest) = self.votes.iter().min_by_key(|(_, (at, _))| *at).map(|(peer, _)| *peer)
        {
            self.votes.remove(&oldest);
        }
    }

    /// What most of the peers say that were heard lately.
    pub(super) fn doubt(&self, now: Instant) -> Option<ClockDoubt> {
        let lately: Vec<_> = self.votes.values().filter(|(at, _)| now.saturating_since(*at) < VOTE_LIFE).collect();
        [ClockDoubt::Ahead, ClockDoubt::Behind]
            .into_iter()
            .find(|doubt| lately.iter().filter(|(_, said)| *said == Some(*doubt)).count() * 2 > lately.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;
    use crate::dht::{seal_signed, signed_key};
    use crate::time::UnixTime;
    use crate::wire::block::LIFE_S_MAX;

    /// A block that ends at `expiry`.
    fn block(expiry: u64) -> Block {
        let identity = SigningKey::from_seed(&[1; 32]);
        seal_signed(&identity, signed_key(&identity.public().service_id()), 1, UnixTime(expiry), b"").unwrap()
    }

    #[test]
    fn most_peers_of_the_last_hour_decide_and_forged_blocks_do_not_count() {
        let (day, now) = (86_400, UnixTime(2_000_000_000));
        let mut votes = ClockVotes::default();
        let mut at = Instant::default();
        let hear = |votes: &mut ClockVotes, at, peer, block: &Block| {
            votes.hear(at, PeerId([peer; 32]), block, &block.verify(now));
        };
        assert_eq!(votes.doubt(at), None);
        let (old, fresh, far) = (block(now.0 - day), block(now.0 + 60), block(now.0 + LIFE_S_MAX + day));
        hear(&mut votes, at, 1, &old);
        assert_eq!(votes.doubt(at), Some(ClockDoubt::Ahead));
        hear(&mut votes, at, 2, &fresh);
        assert_eq!(votes.doubt(at), None);
        hear(&mut votes, at, 1, &far);
        hear(&mut votes, at, 2, &far);
        assert_eq!(votes.doubt(at), Some(ClockDoubt::Behind));
        let mut forged = far.clone();
        forged.expiry = UnixTime(now.0 - day);
        hear(&mut votes, at, 2, &forged);
        assert_eq!(votes.doubt(at), Some(ClockDoubt::Behind));
        at = at + VOTE_LIFE;
        assert_eq!(votes.doubt(at), None);
        for n in 0..=u16::MAX {
            votes.hear(at, PeerId([n.to_le_bytes()[0]; 32]), &fresh, &Ok(()));
        }
        assert!(votes.votes.len() <= VOTES_MAX);
    }
}
