//! The directory: landmarks keep the places of the nodes whose ids in the DHT are nearest to
//! theirs, and say them to whoever asks; and the look-up of a node over it. Two directories
//! are asked at once, then the next ones, at last those that stayed silent once more; what a node itself signed is believed, from whomever.
//! A node that a route leads to is asked itself, too: no network is so small, and no landmarks are so false, that it
//! could not say who it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::datagram::{Asker, Watch};
use super::home::{gap, seat};
use super::leases::Leases;
use super::limits::{
    DIRECTORIES, DIRECTORIES_ASKED, DIRECTORIES_AT_ONCE, DIRECTORY_WAIT, DIRECTORY_WAIT_PER_METRIC, LOOKUPS_MAX,
    OWN_PLACE_PRICE, PLACE_CACHE_LIFE, PLACE_LIFE,
};
use super::{Cost, Error, Event, Limits, LookupId, RequestId, Routing, Timer, To};
use crate::crypto::PeerId;
use crate::time::{Instant, Now};
use crate::wire::kind;
use crate::wire::routing::{LISTED_MAX, Place, PlaceAnswer, PlaceRequest, Routed};
use crate::wire::way::Way;

/// A node that is sought.
struct Search {
    askers: BTreeSet<LookupId>,
    /// Directories not asked yet, the nearest last.
    left: Vec<PeerId>,
    /// Those that were asked, and stayed silent so far, in that order; they are asked once more.
    silent: Vec<PeerId>,
    /// How often directories were asked.
    asked: usize,
    /// Whether those that stayed silent were asked once more.
    again: bool,
    /// Requests under way: who was asked, and the neighbour that each went over while its silence was not noted.
    open: BTreeMap<RequestId, (PeerId, Option<PeerId>)>,
}

/// Where a node is, as it said.
pub(super) struct Known {
    pub(super) way: Way,
    sequence: u64,
}

/// Places kept for others, places that we know, and searches.
pub(super) struct Directory {
    kept: Leases<PeerId, ([u8; 16], Place)>,
    /// Who is kept, in the order of the DHT.
    by_seat: BTreeMap<[u8; 16], PeerId>,
    /// Places that we know.
    pub(super) places: Leases<PeerId, Known>,
    searches: BTreeMap<PeerId, Search>,
    asked: BTreeMap<RequestId, PeerId>,
    listing: BTreeSet<RequestId>,
    /// Our own place, given to these.
    pub(super) puts: BTreeMap<RequestId, PeerId>,
}

impl Directory {
    /// Empty.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            kept: Leases::new(limits.directory),
            by_seat: BTreeMap::new(),
            places: Leases::new(limits.places),
            searches: BTreeMap::new(),
            asked: BTreeMap::new(),
            listing: BTreeSet::new(),
            puts: BTreeMap::new(),
        }
    }

    /// Whether a peer's place is kept for others.
    #[cfg(test)]
    pub(super) fn keeps(&self, peer: &PeerId) -> bool {
        self.kept.contains(peer)
    }

    /// Removes what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        self.kept.expire(now);
        self.places.expire(now);
        let kept = &self.kept;
        self.by_seat.retain(|_, peer| kept.contains(peer));
        // Requests without an answer are as bounded as what leads to them; here they end.
        while self.puts.len() > LOOKUPS_MAX {
            self.puts.pop_first();
        }
        while self.listing.len() > LOOKUPS_MAX {
            self.listing.pop_first();
        }
    }
}

impl Routing {
    /// Whether there is a directory to ask.
    #[must_use]
    pub fn has_directory(&self) -> bool {
        self.table.landmarks_len() > 0
    }

    /// Whether there is anybody to ask where a node is, and who.
    #[must_use]
    pub fn can_locate(&self, dest: &PeerId) -> bool {
        self.has_directory() || self.reaches(dest)
    }

    /// Looks a node's place up at the landmarks and, where a route leads to it, at itself: [`Event::Located`] or
    /// [`Event::NotLocated`] follows.
    pub fn locate(&mut self, now: Now, lookup: LookupId, dest: PeerId) {
        if let Some(search) = self.directory.searches.get_mut(&dest) {
            search.askers.insert(lookup);
            return;
        }
        let mut left = self.directories(&seat(&dest), DIRECTORIES_ASKED);
        let full = self.directory.searches.len() >= LOOKUPS_MAX;
        if full || !self.can_locate(&dest) {
            return self.events.push_back(Event::NotLocated { lookup, dest });
        }
        left.reverse();
        let askers = BTreeSet::from([lookup]);
        let search = Search { askers, left, silent: Vec::new(), asked: 0, again: false, open: BTreeMap::new() };
        self.directory.searches.insert(dest, search);
        if let Some(place) = self.directory.kept.find(now.instant, &dest).map(|(_, place)| place.clone()) {
            return self.located(now.instant, &place);
        }
        let asked = self.ask_itself(now.instant, dest);
        if !asked || self.has_directory() {
            self.ask_directories(now.instant, &dest);
        }
    }

    /// Asks a node itself. Its silence tells nothing of the neighbour that led there: anybody may be silent.
    fn ask_itself(&mut self, now: Instant, dest: PeerId) -> bool {
        if !self.reaches(&dest) {
            return false;
        }
        let Some((request, _, cost)) = self.send_place(now, dest, PlaceRequest::Get(dest).encode(), 0) else {
            return false;
        };
        self.directory.asked.insert(request, dest);
        if let Some(search) = self.directory.searches.get_mut(&dest) {
            search.open.insert(request, (dest, None));
        }
        self.timers.set(Timer::Directory(dest), now + wait_for(cost));
        true
    }

    /// Asks the next directories, or gives up.
    pub(super) fn ask_directories(&mut self, now: Instant, dest: &PeerId) {
        let Some(search) = self.directory.searches.get_mut(dest) else { return };
        for (landmark, via) in search.open.values_mut().filter_map(|(asked, via)| Some((*asked, via.take()?))) {
            self.evidence.note_landmark(now, landmark, via, false);
        }
        // The nearest, which should know, are asked once more before it is given up: their silence may be another's.
        let again = search.left.is_empty() && !std::mem::replace(&mut search.again, true);
        if again {
            search.left = std::mem::take(&mut search.silent);
            search.left.retain(|landmark| search.open.values().any(|(asked, _)| asked == landmark));
            search.left.truncate(DIRECTORIES);
            search.left.reverse();
        }
        let at_once = if again { DIRECTORIES } else { DIRECTORIES_AT_ONCE };
        let at = search.left.len().saturating_sub(at_once);
        let next = search.left.split_off(at);
        if next.is_empty() {
            return self.search_failed(dest);
        }
        search.silent.extend(next.iter().rev());
        // Later ones go over other first hops, too.
        let stage = search.asked / DIRECTORIES_AT_ONCE;
        search.asked += if again { DIRECTORIES } else { DIRECTORIES_AT_ONCE };
        let mut wait = DIRECTORY_WAIT;
        let me = self.me;
        for (turn, landmark) in next.into_iter().rev().filter(|landmark| *landmark != me).enumerate() {
            let payload = PlaceRequest::Get(*dest).encode();
            if let Some((request, via, cost)) = self.send_place(now, landmark, payload, (stage + turn) / 2) {
                wait = wait.max(wait_for(cost));
                self.directory.asked.insert(request, *dest);
                if let Some(search) = self.directory.searches.get_mut(dest) {
                    search.open.insert(request, (landmark, Some(via)));
                }
            }
        }
        self.timers.set(Timer::Directory(*dest), now + wait);
    }

    /// Nobody knows.
    fn search_failed(&mut self, dest: &PeerId) {
        let Some(search) = self.directory.searches.remove(dest) else { return };
        self.timers.clear(&Timer::Directory(*dest));
        search.open.keys().for_each(|request| {
            self.directory.asked.remove(request);
        });
        self.events.extend(search.askers.into_iter().map(|lookup| Event::NotLocated { lookup, dest: *dest }));
    }

    /// A place that its node signed: whoever sought it goes on.
    fn located(&mut self, now: Instant, place: &Place) {
        let dest = place.peer_id();
        self.learn_place(now, place);
        let Some(search) = self.directory.searches.remove(&dest) else { return };
        self.timers.clear(&Timer::Directory(dest));
        search.open.keys().for_each(|request| {
            self.directory.asked.remove(request);
        });
        let found = |lookup| Event::Located { lookup, dest, blob: place.blob.clone() };
        self.events.extend(search.askers.into_iter().map(found));
    }

    /// Keeps a place for our own use, unless a newer one is known.
    fn learn_place(&mut self, now: Instant, place: &Place) {
        let dest = place.peer_id();
        if self.directory.places.find(now, &dest).is_none_or(|known| known.sequence <= place.sequence) {
            let known = Known { way: place.way(), sequence: place.sequence };
            self.directory.places.insert(self.me, now + PLACE_CACHE_LIFE, dest, known);
        }
    }

    /// A node was not reached where it said it was: it is looked up again.
    pub fn forget_place(&mut self, dest: &PeerId) {
        self.directory.places.remove(dest);
    }

    /// Asks a directory who is nearest to a place in the DHT, whose first bytes these are: [`Event::Listed`] may follow.
    pub fn list_near(&mut self, now: Now, id: [u8; 16]) {
        let count = u8::try_from(LISTED_MAX).unwrap_or(u8::MAX);
        let Some(landmark) = self.directories(&id, 1).into_iter().find(|landmark| *landmark != self.me) else { return };
        let turn = usize::from(self.rng.public_below(4) == 0);
        let payload = PlaceRequest::Near { id, count }.encode();
        if let Some((request, ..)) = self.send_place(now.instant, landmark, payload, turn) {
            self.directory.listing.insert(request);
        }
    }

    /// Sends a request to a landmark, over the best next hop or, at a later `turn`, another. Gives that, and how far
    /// it is.
    pub(super) fn send_place(
        &mut self,
        now: Instant,
        landmark: PeerId,
        payload: Bytes,
        turn: usize,
    ) -> Option<(RequestId, PeerId, Cost)> {
        let hops = self.datagram_hops(&landmark, None);
        let (via, cost) = hops.get(turn % hops.len().max(1)).copied()?;
        let hops_left = self.hops_for(cost);
        let (request, token) = self.request(now, via, &Watch { landmark, cost, hops_left });
        let routed = Routed { dest: landmark, hops_left, token, way: Way::default(), payload };
        self.send(To::One(via), kind::PLACE, routed.encode());
        Some((request, via, cost))
    }

    /// A request to the directory: ours, or to be passed on.
    pub(super) fn handle_place(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let Routed { dest, hops_left, token, way, payload } = Routed::decode(body).map_err(Error::Malformed)?;
        // Whoever passes on what the landmark will not answer would be blamed for its silence.
        let asked = PlaceRequest::decode(&payload).map_err(Error::Malformed)?;
        if dest != self.me {
            let via = self.datagram_hops(&dest, Some(&from)).first().copied();
            let (Some((via, cost)), Some(hops_left)) = (via, hops_left.checked_sub(1)) else {
                self.counters.datagrams_dropped += 1;
                return Ok(());
            };
            let hops_left = hops_left.min(self.hops_for(cost));
            let watch = Watch { landmark: dest, cost, hops_left };
            let token = self.lease_watched(now, Asker::Neighbour(from, token), via, &watch);
            self.send(To::One(via), kind::PLACE, Routed { dest, hops_left, token, way, payload }.encode());
            return Ok(());
        }
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        let price = if asked == PlaceRequest::Get(self.me) { OWN_PLACE_PRICE } else { 1 };
        if !neighbour.places.take(now, price) {
            self.counters.places_over_budget += 1;
            self.answer_token(from, token, PlaceAnswer::Done.encode());
            return Ok(());
        }
        let answer = match asked {
            PlaceRequest::Put(place) => {
                self.keep_place(now, from, place);
                PlaceAnswer::Done
            }
            PlaceRequest::Get(peer) if peer == self.me => match self.say_place() {
                Some(place) => PlaceAnswer::Found(place),
                None => PlaceAnswer::Done,
            },
            PlaceRequest::Get(peer) => match self.directory.kept.find(now, &peer) {
                Some((_, place)) => PlaceAnswer::Found(place.clone()),
                None => PlaceAnswer::Done,
            },
            PlaceRequest::Near { id, count } => PlaceAnswer::Listed(self.nearest_places(now, &id, count)),
        };
        self.answer_token(from, token, answer.encode());
        Ok(())
    }

    /// Keeps a place for others, if its node signed it and it is no older than what we have.
    pub(super) fn keep_place(&mut self, now: Instant, from: PeerId, place: Place) {
        let peer = place.peer_id();
        let older = self.directory.kept.find(now, &peer).is_some_and(|(_, kept)| kept.sequence > place.sequence);
        if older || place.verify().is_err() {
            self.counters.items_unproven += 1;
            return;
        }
        let seat = seat(&peer);
        self.counters.leases_dropped +=
            u64::from(self.directory.kept.insert(from, now + PLACE_LIFE, peer, (seat, place)));
        self.directory.by_seat.insert(seat, peer);
        // Those that made room for others are still in the order; housekeeping comes too late for a flood.
        if self.directory.by_seat.len() > 2 * self.limits.directory {
            let kept = &self.directory.kept;
            self.directory.by_seat.retain(|_, peer| kept.contains(peer));
        }
    }

    /// The places nearest to an id, without blobs.
    fn nearest_places(&mut self, now: Instant, id: &[u8; 16], count: u8) -> Vec<Place> {
        let count = usize::from(count).min(LISTED_MAX);
        // The nearest by XOR are among those that share the longest beginning, which stand together in the order.
        let after = self.directory.by_seat.range(*id..).take(count);
        let before = self.directory.by_seat.range(..*id).rev().take(count);
        let mut near: Vec<([u8; 16], PeerId)> = after.chain(before).map(|(seat, peer)| (*seat, *peer)).collect();
        near.sort_by_key(|(seat, _)| gap(seat, id));
        near.truncate(count);
        let kept = &mut self.directory.kept;
        near.iter().filter_map(|(_, peer)| kept.find(now, peer).map(|(_, place)| place.without_blob())).collect()
    }

    /// An answer of a directory to a request of ours; `false` when it is to another request.
    pub(super) fn handle_place_answer(&mut self, now: Instant, request: RequestId, payload: &[u8]) -> bool {
        if self.handle_kept(request) {
            return true;
        }
        let sought = self.directory.asked.remove(&request);
        if sought.is_none() && !self.directory.listing.remove(&request) {
            return false;
        }
        let Ok(answer) = PlaceAnswer::decode(payload) else { return true };
        match (answer, sought) {
            (PlaceAnswer::Found(place), Some(dest)) if place.peer_id() == dest && place.verify().is_ok() => {
                self.located(now, &place);
            }
            (PlaceAnswer::Listed(places), None) => {
                let (mut peers, me) = (Vec::new(), self.me);
                for place in places.iter().filter(|place| place.verify().is_ok() && place.peer_id() != me) {
                    self.learn_place(now, place);
                    peers.push(place.peer_id());
                }
                self.events.push_back(Event::Listed { peers });
            }
            (_, Some(dest)) => self.directory_denied(now, request, &dest),
            (_, None) => {}
        }
        true
    }

    /// A directory does not know: when none is left to answer, the next are asked at once.
    fn directory_denied(&mut self, now: Instant, request: RequestId, dest: &PeerId) {
        let Some(search) = self.directory.searches.get_mut(dest) else { return };
        search.open.remove(&request);
        // It itself may be silent, or gone: nobody waits for that.
        if search.open.values().all(|(asked, _)| asked == dest) {
            self.ask_directories(now, dest);
        }
    }
}

/// How long an answer from that far may take.
fn wait_for(cost: Cost) -> Duration {
    DIRECTORY_WAIT + DIRECTORY_WAIT_PER_METRIC * u32::from(cost.0)
}
