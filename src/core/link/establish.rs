//! From a transport connection to a link: handshakes, their limits, and which of two
//! connections to one peer stays.
//!
//! The responder decides, and the initiator follows: its link counts once the responder's first
//! frame opened. Both sides come to the same choice:
//! - An initiator that has a live link to whoever answered stops before message 3. So message 3 means:
//!   when it was sent, the initiator had no link, or did not know of it yet.
//! - It knew of an accepted link if that was confirmed before message 2 was sent. Then it has lost it
//!   (a restart, another network) and the new connection takes its place at once. The same holds for links that
//!   it had dialed itself.
//! - Otherwise both dialed at the same time: the connection of the smaller PeerId stays.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bytes::BytesMut;

use super::constant::Constant;
use super::error::{Bye, Error};
use super::gate::Source;
use super::handshake::{Agreed, Initiator, Responder, check_first};
use super::limits::{COOKIES_ABOVE, HALF_OPEN_MAX, HALF_OPEN_PER_SOURCE_MAX, HALF_OPEN_WHEN_FULL, HANDSHAKE_TIME_MAX};
use super::links::{Conn, End, Link, Links, Timer, last_words};
use super::liveness::{Liveness, cost};
use super::patience::Patience;
use super::rekey::Rekey;
use super::scheduler::Scheduler;
use super::speed::Speed;
use super::{ConnId, Event, Pin, Transmit};
use crate::crypto::PeerId;
use crate::defence::{self, Defence};
use crate::time::{Instant, Now};
use crate::wire::link::{COOKIE_LEN, encode_again, split_cookie};

/// What the handshake's surroundings say about a new link.
struct Origin {
    conn: ConnId,
    pin: Pin,
    source: Option<IpAddr>,
    outbound: bool,
    rtt: Duration,
}

impl Links {
    /// The transport connected to an address that we dialed.
    pub fn handle_dial(&mut self, now: Now, conn: ConnId, pin: Pin) {
        // One more than configured may begin where a link would yield to it.
        let dialed = self.dialed();
        if dialed > self.max_outbound || dialed == self.max_outbound && !self.has_unused_outbound(now) {
            return self.fail(conn, Error::TooManyLinks, End::Silently);
        }
        if let Some(peer) = pin.peer().filter(|peer| self.has_live_link(peer)) {
            self.probe(now, &peer);
            return self.fail(conn, Error::AlreadyLinked(peer), End::Silently);
        }
        let (initiator, frame) = Initiator::start(&self.terms, pin, &mut self.rng);
        self.conns.insert(conn, Conn::Dialing { initiator, pin, since: now.instant });
        self.timers.set(Timer::Handshake(conn), now.instant + HANDSHAKE_TIME_MAX);
        self.transmits.push_back(Transmit::Handshake { conn, frame });
    }

    /// The transport accepted a connection from `source` (behind a trusted proxy: whom that names).
    pub fn handle_accept(&mut self, now: Now, conn: ConnId, source: IpAddr) {
        if !self.make_half_open_room(source) {
            return self.fail(conn, Error::HalfOpenFull, End::Silently);
        }
        self.conns.insert(conn, Conn::Accepted { source, since: now.instant });
        self.timers.set(Timer::Handshake(conn), now.instant + HANDSHAKE_TIME_MAX);
    }

    /// A frame of a handshake. Answered by [`Transmit::Handshake`], [`Transmit::Established`] or [`Transmit::Close`],
    /// unless the connection was closed before.
    pub fn handle_frame(&mut self, now: Now, conn: ConnId, frame: &[u8]) {
        let result = match self.conns.remove(&conn) {
            None => return,
            Some(Conn::Linked(link)) => {
                self.conns.insert(conn, Conn::Linked(link));
                return self.end(conn, Error::BadFrame, End::Silently);
            }
            Some(Conn::Dialing { mut initiator, pin, since }) => {
                if let Some(frame) = initiator.again(frame) {
                    self.conns.insert(conn, Conn::Dialing { initiator, pin, since: now.instant });
                    return self.transmits.push_back(Transmit::Handshake { conn, frame });
                }
                let rtt = now.instant - since;
                self.handle_second(now, Origin { conn, pin, source: None, outbound: true, rtt }, initiator, frame)
            }
            Some(Conn::Accepted { source, since }) => self.handle_first(now, conn, (source, since), frame),
            Some(Conn::Answered { source, responder, since, step }) => {
                let rtt = now.instant - since;
                let origin = Origin { conn, pin: Pin::None, source: Some(source), outbound: false, rtt };
                self.handle_third(now, origin, responder, step, frame)
            }
        };
        if let Err(why) = result {
            self.fail(conn, why, End::Silently);
        }
    }

    /// Message 1 on an accepted connection: cheapest checks first, then the answer.
    fn handle_first(
        &mut self,
        now: Now,
        conn: ConnId,
        (source, since): (IpAddr, Instant),
        frame: &[u8],
    ) -> Result<(), Error> {
        let (cookie, first) = split_cookie(frame);
        check_first(&self.terms, first)?;
        if !self.gate.admit(now.instant, Source::from(source)) && defence::on(Defence::HandshakeRate) {
            return Err(Error::RateLimited);
        }
        if self.half_open() >= COOKIES_ABOVE && !self.is_good_cookie(now, source, first, cookie) {
            let cookie = self.cookies.make(now.instant, Source::from(source), first, &mut self.rng);
            self.counters.cookies_asked += 1;
            self.conns.insert(conn, Conn::Accepted { source, since });
            self.transmits.push_back(Transmit::Handshake { conn, frame: encode_again(&cookie) });
            return Ok(());
        }
        let (responder, frame) = Responder::respond(&self.terms, first, &mut self.rng)?;
        self.step += 1;
        self.conns.insert(conn, Conn::Answered { source, responder, since: now.instant, step: self.step });
        self.transmits.push_back(Transmit::Handshake { conn, frame });
        Ok(())
    }

    /// Whether a first message came with a cookie of ours.
    fn is_good_cookie(&mut self, now: Now, source: IpAddr, first: &[u8], cookie: Option<&[u8; COOKIE_LEN]>) -> bool {
        let source = Source::from(source);
        let good = cookie.is_some_and(|got| self.cookies.check(now.instant, source, first, got, &mut self.rng));
        good || !defence::on(Defence::HandshakeCookie)
    }

    /// Accepted connections whose handshake is not over.
    fn half_open(&self) -> usize {
        let half = |state: &&Conn| matches!(state, Conn::Accepted { .. } | Conn::Answered { .. });
        self.conns.values().filter(half).count()
    }

    /// Message 2 on a dialed connection: whether we want to be known to who answered, then message 3.
    fn handle_second(&mut self, now: Now, origin: Origin, initiator: Initiator, frame: &[u8]) -> Result<(), Error> {
        let verified = initiator.handle_second(&self.terms, frame)?;
        let peer = verified.peer();
        if self.is_below_floor(&peer, verified.group()) {
            return Err(Error::Downgrade(peer));
        }
        if self.unconfirmed.contains_key(&peer) || self.has_live_link(&peer) {
            self.probe(now, &peer);
            return Err(Error::AlreadyLinked(peer));
        }
        if self.dialed() >= self.max_outbound && !self.evict_outbound(now) {
            return Err(Error::TooManyLinks);
        }
        let (frame, agreed) = verified.accept(now, &self.terms);
        self.transmits.push_back(Transmit::Handshake { conn: origin.conn, frame });
        self.unconfirmed.insert(peer, origin.conn);
        self.insert_link(now, origin, agreed);
        Ok(())
    }

    /// Message 3 on an accepted connection: who the initiator is, and whether this connection stays.
    fn handle_third(
        &mut self,
        now: Now,
        origin: Origin,
        responder: Responder,
        answered: u64,
        frame: &[u8],
    ) -> Result<(), Error> {
        let agreed = responder.handle_third(now, &self.terms, frame)?;
        let (peer, source) = (agreed.peer, origin.source.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        if self.is_below_floor(&peer, agreed.group) {
            return Err(Error::Downgrade(peer));
        }
        if let Some(ours) = self.simultaneous(&peer, answered) {
            if self.terms.me() < peer {
                self.refuse(origin.conn, agreed, Bye::Replaced);
                return Err(Error::Replaced);
            }
            self.end(ours, Error::Replaced, End::Silently);
        }
        let replaces_inbound = self.by_peer.get(&peer).is_some_and(|conn| self.is_inbound(*conn));
        if !replaces_inbound && self.accepted() >= self.max_inbound && !self.evict_inbound(now, source) {
            self.refuse(origin.conn, agreed, Bye::TooManyLinks);
            return Err(Error::TooManyLinks);
        }
        let conn = origin.conn;
        self.insert_link(now, origin, agreed);
        self.confirm(now, conn);
        Ok(())
    }

    /// The connection that we dialed to the peer while it dialed us: not confirmed yet, or only after we
    /// sent message 2 on the other one (at step `answered`).
    fn simultaneous(&self, peer: &PeerId, answered: u64) -> Option<ConnId> {
        if let Some(conn) = self.unconfirmed.get(peer) {
            return Some(*conn);
        }
        let conn = *self.by_peer.get(peer)?;
        match self.conns.get(&conn)? {
            Conn::Linked(link) if link.outbound && link.confirmed > Some(answered) => Some(conn),
            Conn::Linked(_) | Conn::Dialing { .. } | Conn::Accepted { .. } | Conn::Answered { .. } => None,
        }
    }

    /// Tells an authenticated initiator why it gets no link. The caller fails the connection.
    fn refuse(&mut self, conn: ConnId, agreed: Agreed, bye: Bye) {
        let Agreed { peer, sealer, opener, .. } = agreed;
        self.transmits.push_back(Transmit::Established { conn, peer, sealer, opener });
        self.transmits.push_back(Transmit::Batch { conn, batch: last_words(self.terms.padding(), bye) });
    }

    /// Keeps a finished handshake's connection, not confirmed yet, and hands its keys to the transport.
    fn insert_link(&mut self, now: Now, origin: Origin, agreed: Agreed) {
        let Origin { conn, pin, source, outbound, rtt } = origin;
        let Agreed { peer, group, aead, sealer, opener } = agreed;
        let link = Link {
            peer,
            pin,
            source,
            outbound,
            group,
            aead,
            since: now.instant,
            confirmed: None,
            scheduler: Scheduler::default(),
            liveness: Liveness::new(now.instant, rtt, &mut self.rng),
            rekey: Rekey::new(now.instant),
            speed: Speed::default(),
            patience: Patience::new(now.instant),
            in_ring: false,
            held: false,
            constant: Constant::new(now.instant, self.terms.padding()),
            pieces: BytesMut::new(),
            used: now.instant,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        self.conns.insert(conn, Conn::Linked(Box::new(link)));
        self.transmits.push_back(Transmit::Established { conn, peer, sealer, opener });
    }

    /// The connection is the link to its peer now; another one yields. Its first frame is a ping, which an
    /// initiator waits for.
    pub(super) fn confirm(&mut self, now: Now, conn: ConnId) {
        self.step += 1;
        let step = self.step;
        let Some(Conn::Linked(link)) = self.conns.get_mut(&conn) else { return };
        link.confirmed = Some(step);
        link.liveness.probe(now.instant, &mut self.rng);
        let (peer, group, pin, outbound, rtt) = (link.peer, link.group, link.pin, link.outbound, link.liveness.rtt());
        self.timers.clear(&Timer::Handshake(conn));
        self.unconfirmed.remove(&peer);
        if let Some(old) = self.by_peer.get(&peer).copied() {
            self.end(old, Error::Replaced, End::Silently);
        }
        self.by_peer.insert(peer, conn);
        self.learn_floor(peer, group);
        self.events.push_back(Event::PeerSeen { peer, conn, group, pin });
        self.events.push_back(Event::Up { peer, conn, outbound, group, rtt, cost: cost(rtt) });
        if outbound {
            let next = Rekey::next(now.instant, &mut self.rng);
            self.timers.set(Timer::Rekey(conn), next);
        }
        self.arm(conn);
        self.start_ticks(conn);
        self.activate(conn);
    }

    /// Asks the peer of an existing link for a sign of life: somebody thinks that it needs a new one.
    fn probe(&mut self, now: Now, peer: &PeerId) {
        let Some(conn) = self.by_peer.get(peer).copied() else { return };
        if let Some(Conn::Linked(link)) = self.conns.get_mut(&conn)
            && !link.liveness.is_probing()
        {
            link.liveness.probe(now.instant, &mut self.rng);
            self.arm(conn);
            self.activate(conn);
        }
    }

    /// Whether there is a link to the peer that is not overdue with a sign of life.
    fn has_live_link(&self, peer: &PeerId) -> bool {
        let conn = self.by_peer.get(peer).and_then(|conn| self.conns.get(conn));
        matches!(conn, Some(Conn::Linked(link)) if !link.liveness.is_suspect())
    }

    /// Whether the connection is a link that we accepted.
    fn is_inbound(&self, conn: ConnId) -> bool {
        matches!(self.conns.get(&conn), Some(Conn::Linked(link)) if !link.outbound)
    }

    /// Links that we accepted.
    fn accepted(&self) -> usize {
        self.conns.keys().filter(|conn| self.is_inbound(**conn)).count()
    }

    /// Connections that we dialed, linked or not.
    fn dialed(&self) -> usize {
        let dialed = |state: &&Conn| match state {
            Conn::Dialing { .. } => true,
            Conn::Linked(link) => link.outbound,
            Conn::Accepted { .. } | Conn::Answered { .. } => false,
        };
        self.conns.values().filter(dialed).count()
    }

    /// Whether one more connection from `source` may begin a handshake. At the bound, the oldest connection
    /// that has not even sent a good message 1 makes room.
    fn make_half_open_room(&mut self, source: IpAddr) -> bool {
        let source = Source::from(source);
        let (mut all, mut same) = (0, 0);
        let mut oldest: Option<(Instant, ConnId)> = None;
        for (conn, state) in &self.conns {
            let (from, unproven) = match state {
                Conn::Accepted { source, since } => (source, Some((*since, *conn))),
                Conn::Answered { source, .. } => (source, None),
                Conn::Dialing { .. } | Conn::Linked(_) => continue,
            };
            all += 1;
            same += usize::from(Source::from(*from) == source);
            oldest = oldest.into_iter().chain(unproven).min();
        }
        let max = if self.accepted() >= self.max_inbound { HALF_OPEN_WHEN_FULL } else { HALF_OPEN_MAX };
        if same >= HALF_OPEN_PER_SOURCE_MAX && defence::on(Defence::HalfOpenShare) {
            return false;
        }
        if all >= max {
            let Some((_, conn)) = oldest else { return false };
            self.end(conn, Error::HalfOpenFull, End::Silently);
        }
        true
    }
}
