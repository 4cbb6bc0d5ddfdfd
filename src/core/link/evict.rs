//! Which link yields when there are as many as configured and a newcomer comes.
//!
//! Useful is what carries cells, and an acquaintance is worth more the longer it lasts. So the first to
//! yield is whoever is greedy: of a source that holds more than its part of the accepted links (and more
//! than the newcomer's), the link that was used least lately. Then a link that has carried no cell for
//! [`UNUSED_TIME`], the one unused for longest; of several, the youngest. If there is none, the newcomer
//! goes: links that are in use are never pushed out by others' numbers.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ConnId;
use super::error::{Bye, Error};
use super::gate::Source;
use super::limits::{SOURCE_PARTS, UNUSED_TIME};
use super::links::{Conn, End, Link, Links};
use crate::crypto::PeerId;
use crate::time::{Instant, Now};

impl Links {
    /// Ends the accepted link that is of least use, if one may yield to a newcomer from `source`.
    pub(super) fn evict_inbound(&mut self, now: Now, source: IpAddr) -> bool {
        let victim = self.greediest(Source::from(source)).or_else(|| self.unused(now.instant, false));
        self.evict(victim)
    }

    /// Ends the dialed link that is of least use, if one may yield.
    pub(super) fn evict_outbound(&mut self, now: Now) -> bool {
        let victim = self.unused(now.instant, true);
        self.evict(victim)
    }

    /// Ends the one of some dialed links that is of least use, if one of them may yield.
    pub fn end_unused(&mut self, now: Now, of: &[PeerId]) -> bool {
        let victim = self.unused_of(now.instant, true, |link| of.contains(&link.peer));
        self.evict(victim)
    }

    /// Whether a dialed link would yield.
    pub(super) fn has_unused_outbound(&self, now: Now) -> bool {
        self.unused(now.instant, true).is_some()
    }

    /// Ends a link for others' sake.
    fn evict(&mut self, victim: Option<ConnId>) -> bool {
        let Some(conn) = victim else { return false };
        self.counters.links_evicted += 1;
        self.end(conn, Error::TooManyLinks, End::Bye(Bye::TooManyLinks));
        true
    }

    /// The least used link of the source that holds most of the accepted ones, if those are more than its part and
    /// than `newcomer`'s would be.
    fn greediest(&self, newcomer: Source) -> Option<ConnId> {
        let mut held = BTreeMap::<Source, usize>::new();
        for (_, link) in self.linked(false) {
            link.source.into_iter().for_each(|source| *held.entry(Source::from(source)).or_default() += 1);
        }
        let (most, count) = held.iter().max_by_key(|(_, count)| **count).map(|(source, count)| (*source, *count))?;
        let own = held.get(&newcomer).copied().unwrap_or(0);
        if count <= self.max_inbound / SOURCE_PARTS || count < own + 2 {
            return None;
        }
        let of_most = self.linked(false).filter(|(_, link)| link.source.map(Source::from) == Some(most));
        of_most.min_by_key(|(_, link)| usefulness(link)).map(|(conn, _)| conn)
    }

    /// The link that has been unused for longest, if that is long enough.
    fn unused(&self, now: Instant, outbound: bool) -> Option<ConnId> {
        self.unused_of(now, outbound, |_| true)
    }

    /// The same among those that `fits` lets through.
    fn unused_of(&self, now: Instant, outbound: bool, fits: impl Fn(&Link) -> bool) -> Option<ConnId> {
        let unused = self.linked(outbound).filter(|(_, link)| now - link.used >= UNUSED_TIME && fits(link));
        unused.min_by_key(|(_, link)| usefulness(link)).map(|(conn, _)| conn)
    }

    /// Links that were accepted, or dialed.
    fn linked(&self, outbound: bool) -> impl Iterator<Item = (ConnId, &Link)> {
        self.conns.iter().filter_map(move |(conn, state)| match state {
            Conn::Linked(link) if link.outbound == outbound => Some((*conn, &**link)),
            Conn::Linked(_) | Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. } => None,
        })
    }
}

/// Orders links by use: who was used last, and at once the older acquaintance.
fn usefulness(link: &Link) -> (Instant, Reverse<Instant>) {
    (link.used, Reverse(link.since))
}
