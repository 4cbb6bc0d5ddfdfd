//! Links to peers that are reached through relays only. What a session carries over relays costs them, and its ends
//! time; so a node looks for the addresses of whoever its circuits lead to over others, and its shell dials them. And
//! a node that has dialled few looks for some of the peers that it knows, so that no neighbour is its only way into
//! the network.
//!
//! Bounds: a peer is looked for once in [`TRY_AGAIN`]; [`TRIED_MAX`] of these are remembered, and no more are begun
//! while all are young. Links that came of it are half of those that may be dialled; when there are so many, the one
//! that is used least yields, or if all are used, nobody is dialled. Who has no address in its Hello stays where it
//! is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lookups::Purpose;
use super::{Event, Node};
use crate::crypto::PeerId;
use crate::dht::{self, Hello, Store};
use crate::link::LinkStatus;
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::wire::block::Kind;

/// The same peer is looked for again after this.
const TRY_AGAIN: Duration = Duration::from_secs(600);
/// Peers looked for in that time.
const TRIED_MAX: usize = 256;
/// A node that has dialled fewer links looks for more.
const LINKS_WANTED: usize = 4;
/// First pause between two such looks; doubles up to [`PAUSE_MAX`] while there are too few.
const PAUSE_MIN: Duration = Duration::from_secs(30);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(20 * 60);
/// How far pauses move at random, percent.
const JITTER_PERCENT: u32 = 25;

/// Whom to look for, and when.
pub(super) struct Direct {
    rng: Rng,
    /// Until when a peer is not looked for again, and whether it said where it can be dialled.
    tried: BTreeMap<PeerId, (Instant, bool)>,
    /// Links that may come of it.
    max: usize,
    due: Instant,
    pause: Duration,
}

impl Direct {
    /// Looks around after a while: the first links come from the shell.
    pub(super) fn new(now: Now, mut rng: Rng, max: usize) -> Self {
        let due = now.instant + rng.jitter(PAUSE_MIN, JITTER_PERCENT);
        Self { rng, tried: BTreeMap::new(), max, due, pause: PAUSE_MIN }
    }

    /// When to look at the links next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.due)
    }

    /// Whether to look for a peer now; if so, not again for a while.
    fn may_try(&mut self, now: Instant, peer: PeerId) -> bool {
        if self.tried.len() >= TRIED_MAX {
            self.tried.retain(|_, (until, _)| *until > now);
        }
        let young = self.tried.get(&peer).is_some_and(|(until, _)| *until > now);
        if young || self.tried.len() >= TRIED_MAX {
            return false;
        }
        self.tried.insert(peer, (now + TRY_AGAIN, false));
        true
    }

    /// Whether a link may have come of it.
    fn is_ours(&self, link: &LinkStatus) -> bool {
        link.outbound && self.tried.get(&link.peer).is_some_and(|(_, offered)| *offered)
    }

    /// When it is time, one of the peers that are known and not linked, if there are too few links.
    fn choose(&mut self, now: Instant, links: usize, others: impl Iterator<Item = PeerId>) -> Option<PeerId> {
        if self.due > now {
            return None;
        }
        self.pause = if links < LINKS_WANTED { (self.pause * 2).min(PAUSE_MAX) } else { PAUSE_MIN };
        self.due = now + self.rng.jitter(self.pause, JITTER_PERCENT);
        if links >= LINKS_WANTED {
            return None;
        }
        let others: Vec<PeerId> = others.collect();
        let at = self.rng.public_below(u64::try_from(others.len().max(1)).unwrap_or(1));
        others.get(usize::try_from(at).unwrap_or(0)).copied()
    }

    /// A link is gone: if too few are left, that is seen soon.
    pub(super) fn link_down(&mut self, now: Instant) {
        self.pause = PAUSE_MIN;
        self.due = self.due.min(now + self.rng.jitter(PAUSE_MIN, JITTER_PERCENT));
    }
}

impl<S: Store> Node<S> {
    /// A circuit of ours leads over relays: perhaps its node can be dialled.
    pub(super) fn seek_direct(&mut self, now: Now, peer: PeerId) {
        let linked = self.links.links().any(|link| link.peer == peer);
        if !self.has_dht || linked || peer == self.me || self.direct.max == 0 {
            return;
        }
        if self.direct.may_try(now.instant, peer) {
            self.query(now, Purpose::Direct(peer), dht::hello_key(&peer), Kind::Hello);
        }
    }

    /// Looks whether there are links enough.
    pub(super) fn check_links(&mut self, now: Now) {
        if self.direct.due > now.instant {
            return;
        }
        let dialled = self.links.links().filter(|link| link.outbound).count();
        let linked: Vec<PeerId> = self.links.links().map(|link| link.peer).collect();
        let others = self.routing.contacts().filter(|peer| linked.binary_search(peer).is_err());
        if let Some(peer) = self.direct.choose(now.instant, dialled, others) {
            self.seek_direct(now, peer);
        }
    }

    /// Where a peer says that it can be dialled, if anywhere; a link yields only now that it does.
    pub(super) fn on_direct_hello(&mut self, now: Now, hello: Hello) {
        if hello.addresses.is_empty() {
            return;
        }
        let ours: Vec<PeerId> =
            self.links.links().filter(|link| self.direct.is_ours(link)).map(|link| link.peer).collect();
        let room = ours.len() < self.direct.max || self.links.end_unused(now, &ours);
        if let Some((_, offered)) = self.direct.tried.get_mut(&hello.peer).filter(|_| room) {
            *offered = true;
            self.events.push_back(Event::Dialable { peer: hello.peer, addresses: hello.addresses });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer.
    fn peer(at: u16) -> PeerId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&at.to_le_bytes());
        PeerId(id)
    }

    #[test]
    fn a_peer_is_looked_for_once_in_a_while_and_not_too_many() {
        let mut direct = Direct::new(Now::ZERO, Rng::from_seed([1; 32]), 4);
        let now = Instant::ZERO;
        assert!(direct.may_try(now, peer(0)) && !direct.may_try(now, peer(0)));
        assert!((1..256).all(|at| direct.may_try(now, peer(at))));
        assert!(!direct.may_try(now, peer(256)));
        assert!(direct.may_try(now + TRY_AGAIN, peer(256)) && direct.tried.len() == 1);
    }

    #[test]
    fn who_has_links_enough_looks_for_no_more_and_others_ever_more_slowly() {
        let mut direct = Direct::new(Now::ZERO, Rng::from_seed([1; 32]), 4);
        assert_eq!(direct.choose(Instant::ZERO, 0, [peer(1)].into_iter()), None, "the shell comes first");
        let mut now = Instant::ZERO + PAUSE_MIN * 2;
        assert_eq!(direct.choose(now, LINKS_WANTED, [peer(1)].into_iter()), None);
        now = direct.due;
        assert_eq!(direct.choose(now, 1, [peer(1)].into_iter()), Some(peer(1)));
        assert_eq!(direct.choose(now, 1, [peer(1)].into_iter()), None);
        let first = direct.due - now;
        now = direct.due;
        assert_eq!(direct.choose(now, 1, std::iter::empty()), None);
        assert!(direct.due - now > first);
        direct.link_down(now);
        assert!(direct.due - now <= PAUSE_MIN * 2);
    }
}
