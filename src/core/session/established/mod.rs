//! One established session: packets, loss recovery, congestion control and channels.
//!
//! The state of two ends who hold [`Secrets`] from a handshake. Packets travel on
//! carriers (paths or circuits), which come and go; frames that were lost with one travel
//! again on the next, so a channel sees a pause and nothing else. The quickest that answers
//! takes data, others beside it while it is full (`schedule`).
//!
//! | timer | deadline |
//! | --- | --- |
//! | loss, probe | per carrier, RFC 9002 |
//! | acknowledgement | per circuit received on: 25 ms, 5 ms in bulk, at once on a gap |
//! | pace | when the carrier's bucket allows the next batch |
//! | keep-alive | the initiator pings after max(1 s, 3 PTO) of silence while channels are open: 250 ms on a carrier that was just busy, 5 s on one that stands by |
//! | lost | channels fail after 60 s without a word from the peer |
//! | expired | 120 s without a working carrier: the state may go |
//! | idle | 60 s without channels |
//!
//! Every bound is in [`limits`]. Deliberately missing: priorities beyond
//! interactive before bulk, and congestion control across carriers.

mod calls;
mod carrier;
mod channel;
mod cubic;
mod event;
mod flow;
mod incoming;
pub mod limits;
mod messages_recv;
mod messages_send;
mod outgoing;
mod pacing;
mod packet;
mod ranges;
mod received;
mod recovery;
mod rtt;
mod schedule;
mod sent;
mod settle;
mod stream_recv;
mod stream_send;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

pub use calls::{Carried, WriteError};
pub use event::{CarrierId, ChannelId, CloseCode, Event, OpenRequest, ResetCause, Side};
pub use packet::Secrets;
pub use stream_recv::Violation;

use carrier::Carrier;
use channel::Channel;
use packet::{Opener, Sealer};
use ranges::Ranges;
use received::Received;
use recovery::Outcome;
use sent::Control;

use crate::time::{Instant, Now};
use crate::wire;

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the peer's, damaged, or too old to open: ignore it.
    #[error("packet does not open")]
    Unauthentic,
    /// Seen before, or too far behind to know: ignore it.
    #[error("packet is a repeat")]
    Repeated,
    /// The authenticated peer sent no frames. The session is closed.
    #[error("malformed frame: {0}")]
    Malformed(#[from] wire::Error),
    /// The authenticated peer broke a rule of channels. The session is closed.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The authenticated peer broke another rule. The session is closed.
    #[error("protocol violation: {0}")]
    Misbehaved(&'static str),
    /// The session is closed.
    #[error("session is closed")]
    Closed,
}

impl Error {
    /// Whether the session is over by it.
    #[must_use]
    pub const fn fatal(&self) -> bool {
        match self {
            Self::Unauthentic | Self::Repeated => false,
            Self::Malformed(_) | Self::Violation(_) | Self::Misbehaved(_) | Self::Closed => true,
        }
    }
}

/// Counts for status and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets taken.
    pub packets_received: u64,
    /// Packets that did not open or were repeats.
    pub packets_refused: u64,
    /// Frames that were lost and sent again.
    pub frames_lost: u64,
    /// Messages of unreliable channels that yielded to newer ones, of closed channels.
    pub messages_dropped: u64,
}

/// One end of a session. See the module.
pub struct Established {
    side: Side,
    sealer: Sealer,
    opener: Opener,
    /// In the order they were added.
    carriers: Vec<Carrier>,
    next_circuit: u32,
    /// What was received, by the sender's circuit number; those below the floor are forgotten.
    received: BTreeMap<u32, Received>,
    /// Circuits of the sender that are closed to it.
    retired: Ranges,
    meter: schedule::Meter,
    channels: BTreeMap<ChannelId, Channel>,
    next_channel: u64,
    /// Channels of the peer that were opened, by half their id.
    peer_channels: Ranges,
    flow: flow::Session,
    /// Bytes that channels hold for sending, and of these those that were not sent yet.
    send_buffered: u64,
    send_unsent: u64,
    interactive: VecDeque<ChannelId>,
    bulk: VecDeque<ChannelId>,
    credit_blocked: VecDeque<ChannelId>,
    interactive_streak: usize,
    control: VecDeque<Control>,
    max_data_queued: bool,
    proof: Option<Bytes>,
    proof_received: bool,
    events: VecDeque<Event>,
    heard_at: Instant,
    busy_since: Option<Instant>,
    idle_at: Option<Instant>,
    expire_at: Option<Instant>,
    paced_until: Option<Instant>,
    closed: Option<CloseCode>,
    counters: Counters,
    outcome: Outcome,
}

impl Established {
    /// The session of a handshake's secrets; it has no carrier yet.
    #[must_use]
    pub fn new(now: Now, side: Side, secrets: &Secrets) -> Self {
        let at = now.instant;
        Self {
            side,
            sealer: Sealer::new(at, secrets.aead, &secrets.send),
            opener: Opener::new(secrets.aead, &secrets.recv),
            carriers: Vec::new(),
            next_circuit: 0,
            received: BTreeMap::new(),
            retired: Ranges::default(),
            meter: schedule::Meter::new(at),
            channels: BTreeMap::new(),
            next_channel: 0,
            peer_channels: Ranges::default(),
            flow: flow::Session::new(),
            send_buffered: 0,
            send_unsent: 0,
            interactive: VecDeque::new(),
            bulk: VecDeque::new(),
            credit_blocked: VecDeque::new(),
            interactive_streak: 0,
            control: VecDeque::new(),
            max_data_queued: false,
            proof: None,
            proof_received: false,
            events: VecDeque::new(),
            heard_at: at,
            busy_since: None,
            idle_at: Some(at + limits::IDLE_AFTER),
            expire_at: Some(at + limits::EXPIRE_AFTER),
            paced_until: None,
            closed: None,
            counters: Counters::default(),
            outcome: Outcome::default(),
        }
    }

    /// Adds a carrier. Adding a known one changes nothing.
    pub fn add_carrier(&mut self, now: Now, id: CarrierId) {
        if self.closed.is_some() || self.carriers.iter().any(|carrier| carrier.id == id && !carrier.dead) {
            return;
        }
        self.remove_carrier(now, id);
        if self.carriers.len() >= limits::CARRIERS_MAX {
            self.drop_quietest(now);
        }
        let mut carrier = Carrier::new(now.instant, id, self.next_circuit);
        self.next_circuit += 1;
        carrier.ping = !self.channels.is_empty();
        self.carriers.push(carrier);
        self.expire_at = None;
    }

    /// Drops the carrier that is dead, or else was heard least lately.
    fn drop_quietest(&mut self, now: Now) {
        let quietest = self.carriers.iter().min_by_key(|carrier| (!carrier.dead, carrier.heard_at));
        let Some((id, dead)) = quietest.map(|carrier| (carrier.id, carrier.dead)) else { return };
        self.remove_carrier(now, id);
        if !dead {
            self.events.push_back(Event::CarrierDead(id));
        }
    }

    /// Removes a carrier; what was in flight on it travels again on another.
    pub fn remove_carrier(&mut self, now: Now, id: CarrierId) {
        let Some(index) = self.carriers.iter().position(|carrier| carrier.id == id) else { return };
        let mut carrier = self.carriers.remove(index);
        let mut lost = Vec::new();
        carrier.recovery.abandon(&mut lost);
        self.settle_lost(&lost);
        self.note_carriers(now.instant);
    }

    /// Starts the count to expiry when the last working carrier has gone.
    fn note_carriers(&mut self, now: Instant) {
        if self.active().is_none() && self.expire_at.is_none() {
            self.expire_at = Some(now + limits::EXPIRE_AFTER);
        }
    }

    /// Names of the carriers, oldest first, and whether each still answers.
    pub fn carriers(&self) -> impl Iterator<Item = (CarrierId, bool)> + '_ {
        self.carriers.iter().map(|carrier| (carrier.id, !carrier.dead))
    }

    /// Round-trip time of the carrier in use, once there was a sample.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        let carrier = &self.carriers[self.active()?];
        carrier.rtt.sampled().then(|| carrier.rtt.smoothed())
    }

    /// Round-trip time to reckon with.
    fn rtt_or_guess(&self) -> Duration {
        self.active().map_or(limits::RTT_INITIAL, |index| self.carriers[index].rtt.smoothed())
    }

    /// Bytes that its channels hold, and the channel that holds most with its share.
    pub fn held(&self) -> (u64, Option<(ChannelId, u64)>) {
        let held = || self.channels.iter().map(|(id, channel)| (*id, channel.held()));
        (held().map(|(_, bytes)| bytes).sum(), held().max_by_key(|(_, bytes)| *bytes))
    }

    /// Channels that exist, those that are opening or closing included.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Counts for status and metrics.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How the session ended, if it did.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseCode> {
        self.closed
    }

    /// The next thing for the layer above. Drain after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends the session and tells the peer once.
    pub fn close(&mut self, code: CloseCode) {
        if self.closed.is_none() {
            self.end(code);
            self.control.push_back(Control::Close(code));
        }
    }

    /// Forgets everything but how the session ended.
    fn end(&mut self, code: CloseCode) {
        self.closed = Some(code);
        for (id, channel) in std::mem::take(&mut self.channels) {
            if channel.state != channel::State::Resetting {
                self.events.push_back(Event::Reset { channel: id, cause: ResetCause::Lost });
            }
        }
        self.events.push_back(Event::SessionClosed(code));
        self.control.clear();
        self.interactive.clear();
        self.bulk.clear();
        self.credit_blocked.clear();
        self.proof = None;
        for carrier in &mut self.carriers {
            carrier.recovery.abandon(&mut Vec::new());
        }
    }
}
