//! Where this node is, for those that have it in no table: it sends a registration to some
//! landmarks, on whose way each hop that could not lead back adds the hop before it; it signs
//! the ways as its place, and has the landmarks nearest to its id in the DHT keep that. The
//! first hops add themselves in any case: most ways of others meet ours near its end, long
//! before any landmark, and who knows one of these hops need not go farther.
//!
//! A registration is repeated after 10 s, and after twice that each time, up to half an
//! hour; sooner when a landmark of ours is gone, the way to one has changed, or others are
//! nearest to our id. Without landmarks a node needs no place: everybody knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::datagram::{Asker, Watch};
use super::limits::{
    DIRECTORIES, HOME_CHANGED, HOME_MAX, HOME_MIN, HOME_SPACING, JITTER_PERCENT, PUBLISH_WAIT, REGISTRATION_LOW,
    REGISTRATIONS, WAY_DENSE,
};
use super::{Error, RequestId, Routing, Timer, To};
use crate::crypto::{Context, PeerId, derive_into};
use crate::time::{Instant, Now};
use crate::wire::kind;
use crate::wire::routing::{LOCATOR_LEN_MAX, LOCATORS_MAX, Locator, Place, PlaceRequest, Register, short};
use crate::wire::way::{Way, Waypoint};
use crate::wire::{self, Reader};

/// The beginning of a peer's place in the DHT: who are nearest to it keep its place.
pub(super) fn seat(peer: &PeerId) -> [u8; 16] {
    let mut out = [0; 16];
    derive_into(Context::DhtId, &[&peer.0], &mut out);
    out
}

/// How far two seats are apart.
pub(super) fn gap(a: &[u8; 16], b: &[u8; 16]) -> u128 {
    u128::from_be_bytes(*a) ^ u128::from_be_bytes(*b)
}

/// A registration that was answered.
struct Registered {
    way: Way,
    /// Our next hop to the landmark then.
    via: PeerId,
}

/// Our own place.
#[derive(Default)]
pub(super) struct Home {
    /// What whoever looks for us gets.
    blob: Bytes,
    /// Our place as it was said last.
    said: Option<Place>,
    /// Registrations under way.
    asked: BTreeMap<RequestId, (PeerId, PeerId)>,
    /// The last of them whose silence was noted.
    judged: Option<RequestId>,
    registered: BTreeMap<PeerId, Registered>,
    /// Landmarks that were given our place, and said so.
    kept_by: BTreeMap<PeerId, bool>,
    counter: u32,
    /// When we last registered.
    at: Option<Instant>,
    /// Pause before the next time.
    pause: Duration,
    /// When landmarks that did not say that they keep our place are given it again, and the pause before that.
    retry: Option<(Instant, Duration)>,
}

impl Routing {
    /// What whoever looks this node up by its id gets beside the way: at most 8 KiB.
    pub fn set_blob(&mut self, now: Now, blob: Bytes) {
        self.home.blob = blob;
        if !self.home.registered.is_empty() {
            self.timers.set(Timer::Publish, now.instant + PUBLISH_WAIT);
        }
    }

    /// The landmarks nearest to a seat, ourselves among them; and as many of those that have been known longer than
    /// the rest, in turn, because ids near to a seat can be ground out like ranks.
    pub(super) fn directories(&self, seat_of: &[u8; 16], count: usize) -> Vec<PeerId> {
        let own = self.origin.proof().is_landmark().then_some(self.me);
        let nearest = |mut peers: Vec<PeerId>| {
            peers.sort_by_cached_key(|peer| gap(&seat(peer), seat_of));
            peers.truncate(count);
            peers
        };
        let all = nearest(self.table.landmarks().map(|(_, peer)| peer).chain(own).collect());
        let long = nearest(self.table.long_known().into_iter().chain(own).collect());
        if long.len() < count {
            return all;
        }
        let mut seen = BTreeSet::new();
        long.into_iter().zip(all).flat_map(|(long, any)| [long, any]).filter(|peer| seen.insert(*peer)).collect()
    }

    /// Plans to register if what our place rests on has changed.
    pub(super) fn check_home(&mut self, now: Instant) {
        if self.table.landmarks_len() == 0 {
            return;
        }
        if self.home.at.is_none() {
            return self.plan_home(now, Duration::ZERO);
        }
        // A registration may still be on its way to a landmark thousands of hops off and back.
        let fresh = self.home.at.is_some_and(|at| now - at < HOME_SPACING);
        let moved = |(landmark, registered): (&PeerId, &Registered)| {
            self.next_hops(landmark).first().is_none_or(|(via, _)| *via != registered.via)
        };
        if !fresh && (self.home.registered.iter().any(moved) || self.home.registered.is_empty()) {
            self.home.pause = HOME_MIN;
            return self.plan_home(now, HOME_CHANGED);
        }
        let nearest = self.directories(&seat(&self.me), DIRECTORIES);
        let new = nearest.iter().any(|peer| !self.home.kept_by.contains_key(peer));
        let silent = nearest.iter().any(|peer| self.home.kept_by.get(peer) == Some(&false));
        let due = self.home.retry.is_none_or(|(at, _)| at <= now);
        if (new || silent && due) && self.timers.at(&Timer::Publish).is_none() {
            self.timers.set(Timer::Publish, now + PUBLISH_WAIT);
        }
    }

    /// Sets the next registration, unless it comes sooner.
    fn plan_home(&mut self, now: Instant, wait: Duration) {
        let wait = self.rng.jitter(wait, JITTER_PERCENT * 2);
        let at = self.timers.at(&Timer::Home).map_or(now + wait, |due| due.min(now + wait));
        self.timers.set(Timer::Home, at);
    }

    /// Registers at some landmarks: three near ones and a distant one that everybody knows.
    pub(super) fn register(&mut self, now: Instant) {
        self.home.pause = (self.home.pause * 2).clamp(HOME_MIN, HOME_MAX);
        self.plan_home(now, self.home.pause);
        self.home.at = Some(now);
        let chosen = self.choose_landmarks();
        let before = self.home.registered.len();
        self.home.registered.retain(|landmark, _| chosen.contains(landmark));
        if self.home.registered.len() < before {
            self.place_changed(now);
        }
        self.home.asked.retain(|_, (landmark, _)| chosen.contains(landmark));
        while self.home.asked.len() > REGISTRATIONS * REGISTRATIONS {
            self.home.asked.pop_first();
        }
        let judged = self.home.judged;
        for (request, (landmark, via)) in self.home.asked.iter().filter(|(request, _)| Some(**request) > judged) {
            self.evidence.note_landmark(now, *landmark, *via, false);
            self.home.judged = Some(*request);
        }
        for landmark in chosen {
            self.send_register(now, landmark);
        }
    }

    /// A distant landmark that everybody knows, and near ones: where we can, over different neighbours, because who
    /// looks for us may come from any side.
    fn choose_landmarks(&self) -> Vec<PeerId> {
        let reached = |(_, landmark): (u64, PeerId)| {
            let (via, cost) = *self.next_hops(&landmark).first()?;
            Some((cost.0, landmark, via))
        };
        let mut near: Vec<(u16, PeerId, PeerId)> = self.table.landmarks().filter_map(reached).collect();
        let low = usize::from(seat(&self.me)[0]) % REGISTRATION_LOW.min(near.len()).max(1);
        let mut chosen: Vec<PeerId> = near.get(low).map(|(_, landmark, _)| *landmark).into_iter().collect();
        near.sort_unstable();
        // Where some have been known for longer than the rest, half of them at least are of those.
        let long = self.table.long_known();
        let new = |peer: &PeerId| !long.is_empty() && !long.contains(peer);
        // Rather a new one than none, in the end.
        for round in 0..=REGISTRATIONS {
            let mut over: BTreeMap<PeerId, usize> = BTreeMap::new();
            for (_, landmark, via) in &near {
                let taken = over.entry(*via).or_default();
                let full = round < REGISTRATIONS
                    && new(landmark)
                    && chosen.iter().filter(|peer| new(peer)).count() >= REGISTRATIONS / 2;
                if chosen.contains(landmark) {
                    *taken += 1;
                } else if !full && *taken <= round && chosen.len() < REGISTRATIONS {
                    *taken += 1;
                    chosen.push(*landmark);
                }
            }
        }
        chosen
    }

    /// Sends a registration toward a landmark.
    fn send_register(&mut self, now: Instant, landmark: PeerId) {
        // One that was not answered may have been eaten on its way: the next goes over another neighbour.
        let unanswered = self.home.asked.values().filter(|(asked, _)| *asked == landmark).count();
        let hops = self.datagram_hops(&landmark, None);
        let Some((via, cost)) = hops.get(unanswered % hops.len().max(1)).copied() else { return };
        let hops_left = self.hops_for(cost);
        let (request, token) = self.request(now, via, &Watch { landmark, cost, hops_left });
        let way = Way::new(vec![Waypoint { short: short(&self.me), left: 0 }]);
        self.home.asked.insert(request, (landmark, via));
        self.send(To::One(via), kind::REGISTER, Register { landmark, hops_left, token, distance: 0, way }.encode());
    }

    /// A registration on its way: adds the hop before us if we could not lead back, and ourselves if we are its landmark.
    pub(super) fn handle_register(&mut self, now: Instant, from: PeerId, body: &[u8]) -> Result<(), Error> {
        let Register { landmark, hops_left, token, distance, way } =
            Register::decode(body).map_err(Error::Malformed)?;
        let neighbour = self.neighbours.get_mut(&from).ok_or(Error::NotNeighbour)?;
        let here = distance.saturating_add(neighbour.cost);
        let mut points = way.points().to_vec();
        let leads_back = points.last().is_some_and(|last| self.known_short(&last.short).is_some());
        let dense = points.len() <= WAY_DENSE && points.last().is_some_and(|last| last.short != short(&from));
        if dense || !leads_back {
            points.push(Waypoint { short: short(&from), left: distance });
        }
        if points.len() >= LOCATOR_LEN_MAX || here >= wire::routing::METRIC_END {
            self.counters.datagrams_dropped += 1;
            return Ok(());
        }
        if landmark == self.me {
            points.push(Waypoint { short: short(&self.me), left: here });
            let mut payload = bytes::BytesMut::new();
            Way::new(points).encode(&mut payload);
            self.answer_token(from, token, payload.freeze());
            return Ok(());
        }
        let via = self.datagram_hops(&landmark, Some(&from)).first().copied();
        let (Some((via, cost)), Some(hops_left)) = (via, hops_left.checked_sub(1)) else {
            self.counters.datagrams_dropped += 1;
            return Ok(());
        };
        let hops_left = hops_left.min(self.hops_for(cost));
        let asker = Asker::Neighbour(from, token);
        // One that is full before it gets there is dropped by whoever has it then, and not by its fault.
        let fits = here.saturating_add(cost.0) < wire::routing::METRIC_END && points.len() <= LOCATOR_LEN_MAX / 2;
        let token = if fits {
            self.lease_watched(now, asker, via, &Watch { landmark, cost, hops_left })
        } else {
            self.lease(now, asker, via, 1)
        };
        let register = Register { landmark, hops_left, token, distance: here, way: Way::new(points) };
        self.send(To::One(via), kind::REGISTER, register.encode());
        Ok(())
    }

    /// A landmark's answer to a registration of ours; `false` when it is to another request.
    pub(super) fn handle_registered(&mut self, now: Instant, request: RequestId, payload: &[u8]) -> bool {
        let Some((landmark, over)) = self.home.asked.remove(&request) else { return false };
        self.home.asked.retain(|_, (other, _)| *other != landmark);
        let Ok(way) = Way::decode(&mut Reader::new(payload)) else { return true };
        let begins = way.points().first().is_some_and(|first| first.short == short(&self.me));
        let ends = way.points().last().is_some_and(|last| last.short == short(&landmark));
        if begins && ends && way.points().len() <= LOCATOR_LEN_MAX {
            // Routing's own choice, which it is compared with: this one may have gone around somebody.
            let via = self.next_hops(&landmark).first().map_or(over, |(via, _)| *via);
            let before = self.home.registered.insert(landmark, Registered { way: way.clone(), via });
            if before.is_none_or(|before| before.way != way) {
                self.place_changed(now);
            }
        }
        true
    }

    /// Other ways lead to us than before: whoever keeps our place gets it anew.
    fn place_changed(&mut self, now: Instant) {
        self.home.kept_by.clear();
        self.home.retry = None;
        if self.timers.at(&Timer::Publish).is_none() {
            self.timers.set(Timer::Publish, now + PUBLISH_WAIT);
        }
    }

    /// Our place as it is now, signed anew.
    fn own_place(&mut self) -> Option<Place> {
        self.home.counter += 1;
        let said = self.origin.sign_place(self.home.counter, self.locators(), self.home.blob.clone());
        self.home.said.clone_from(&said);
        said
    }

    /// The ways that lead to us.
    fn locators(&self) -> Vec<Locator> {
        // Ourselves as the first waypoint would say nothing: who knows us needs no way.
        let beyond = |registered: &Registered| Way::new(registered.way.points()[1..].to_vec());
        self.home.registered.values().take(LOCATORS_MAX).map(beyond).collect()
    }

    /// Our place for whoever asks us, signed only if it has changed since it was said last; none before we have
    /// anything to say.
    pub(super) fn say_place(&mut self) -> Option<Place> {
        let (blob, locators) = (&self.home.blob, self.locators());
        if blob.is_empty() {
            return None;
        }
        let holds = |said: &&Place| said.blob == *blob && said.locators == locators;
        match self.home.said.as_ref().filter(holds) {
            Some(said) => Some(said.clone()),
            None => self.own_place(),
        }
    }

    /// Gives our place to the landmarks that should keep it.
    pub(super) fn publish(&mut self, now: Instant) {
        let pause = self.home.retry.map_or(HOME_MIN, |(_, pause)| (pause * 2).min(HOME_MAX));
        self.home.retry = Some((now + pause, pause));
        let nearest = self.directories(&seat(&self.me), DIRECTORIES);
        let missing: Vec<PeerId> =
            nearest.iter().filter(|peer| self.home.kept_by.get(peer) != Some(&true)).copied().collect();
        self.home.kept_by.retain(|peer, _| nearest.contains(peer));
        let Some(place) = self.own_place().filter(|_| !missing.is_empty()) else { return };
        let request = PlaceRequest::Put(place.clone()).encode();
        // The first time over the best next hop.
        let again = usize::from(pause > HOME_MIN);
        let turn = again * usize::try_from(self.rng.public_below(4)).unwrap_or(0);
        for landmark in missing {
            self.home.kept_by.insert(landmark, landmark == self.me);
            if landmark == self.me {
                self.keep_place(now, self.me, place.clone());
            } else if let Some((request, ..)) = self.send_place(now, landmark, request.clone(), turn) {
                self.directory.puts.insert(request, landmark);
            }
        }
    }

    /// Landmarks that lead here, and those that say that they keep our place.
    #[must_use]
    pub fn home(&self) -> (usize, usize) {
        (self.home.registered.len(), self.home.kept_by.values().filter(|kept| **kept).count())
    }

    /// A landmark says that it keeps our place.
    pub(super) fn handle_kept(&mut self, request: RequestId) -> bool {
        let Some(landmark) = self.directory.puts.remove(&request) else { return false };
        if let Some(kept) = self.home.kept_by.get_mut(&landmark) {
            *kept = true;
        }
        true
    }
}
