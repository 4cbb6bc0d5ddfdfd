//! Packets out and in. Sessions with something to send take turns, one packet each; those
//! whose circuit has no room step aside until it has. The others cost nothing.

use bytes::BytesMut;

use super::limits::CIRCUITS_MAX;
use super::{End, SessionId, Sessions, Timer, Turn};
use crate::session::CarrierId;
use crate::time::Now;

impl Sessions {
    /// A packet came on a circuit; `marked` if a hop on the way was congested.
    pub fn handle_packet(&mut self, now: Now, carrier: CarrierId, packet: BytesMut, marked: bool) {
        let found = self.by_carrier.get(&carrier).copied();
        let Some((id, session)) = found.and_then(|id| self.sessions.get_mut(&id).map(|session| (id, session))) else {
            self.counters.bad_packets += 1;
            return;
        };
        let unproven = matches!(&session.end, End::Responder(end) if end.unproven.contains(&carrier));
        if unproven {
            session.machine.add_carrier(now, carrier);
        }
        let result = session.machine.handle_packet(now, carrier, packet, marked);
        if result.is_err() {
            self.counters.bad_packets += 1;
            if unproven {
                session.machine.remove_carrier(now, carrier);
            }
        } else if let End::Responder(end) = &mut session.end {
            if end.unproven.remove(&carrier) {
                session.carriers.insert(carrier);
            }
            if end.stored.is_some() {
                self.confirm(id);
            }
        }
        self.settle(now, id);
    }

    /// The initiator is there: its first message is not answered again.
    fn confirm(&mut self, id: SessionId) {
        self.half_open.remove(&id);
        self.timers.clear(&Timer::HalfOpen(id));
        let Some(end) = self.sessions.get_mut(&id).and_then(super::Session::responder) else { return };
        if let Some(stored) = end.stored.take() {
            self.by_first.remove(&stored.first_hash);
        }
        for carrier in std::mem::take(&mut end.unproven) {
            self.close_carrier(carrier);
        }
    }

    /// The next packet to send, if a circuit with something to say has room. `ready` tells whether a circuit takes one more
    /// packet now. Poll after every other call, and when a link has room again.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        ready: &mut dyn FnMut(CarrierId) -> bool,
    ) -> Option<(CarrierId, BytesMut)> {
        loop {
            while let Some(id) = self.ready.pop_front() {
                if let Some(packet) = self.take_turn(now, id, ready) {
                    return Some(packet);
                }
            }
            self.unblock(ready)?;
        }
    }

    /// Asks one session for a packet; afterwards it rests, waits for room, or is ready again.
    fn take_turn(
        &mut self,
        now: Now,
        id: SessionId,
        ready: &mut dyn FnMut(CarrierId) -> bool,
    ) -> Option<(CarrierId, BytesMut)> {
        let mut full = [None; CIRCUITS_MAX];
        let session = self.sessions.get_mut(&id)?;
        if session.machine.poll_timeout().is_some_and(|at| at <= now.instant) {
            session.machine.handle_timeout(now);
        }
        let packet = session.machine.poll_transmit(now, &mut |carrier| {
            let room = ready(carrier);
            if !room && !full.contains(&Some(carrier)) {
                full.rotate_right(1);
                full[0] = Some(carrier);
            }
            room
        });
        match (&packet, full) {
            (Some(_), _) => {
                session.turn = Turn::Ready;
                self.ready.push_back(id);
            }
            (None, [None, ..]) => session.turn = Turn::Rests,
            (None, _) => {
                session.turn = Turn::Blocked(full);
                if !std::mem::replace(&mut session.listed, true) {
                    self.blocked.push_back(id);
                }
            }
        }
        if packet.is_none() {
            if self.hear(now, id) {
                self.make_ready(id);
            }
            self.keep_timer(now, id);
        }
        packet
    }

    /// Makes the first blocked session ready whose circuit has room again. Asks about each circuit once.
    fn unblock(&mut self, ready: &mut dyn FnMut(CarrierId) -> bool) -> Option<()> {
        for _ in 0..self.blocked.len() {
            let id = self.blocked.pop_front()?;
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.listed = false;
            let Turn::Blocked(full) = session.turn else { continue };
            if full.into_iter().flatten().any(|carrier| !session.carriers.contains(&carrier) || ready(carrier)) {
                session.turn = Turn::Ready;
                self.ready.push_back(id);
                return Some(());
            }
            session.listed = true;
            self.blocked.push_back(id);
        }
        None
    }
}
