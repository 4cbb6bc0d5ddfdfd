//! Packets from the peer: opened, checked for repeats, and their frames carried out. A
//! peer that is authentic and breaks a rule ends the session; anything else is ignored.

use bytes::{Bytes, BytesMut};

use super::channel::{Channel, RecvHalf, State};
use super::event::{CarrierId, ChannelId, CloseCode, Event, OpenRequest, ResetCause, Side};
use super::limits::{
    CHANNELS_MAX, CONTROL_MAX, EARLY_LEN_MAX, GAPS_MAX, PROOF_LEN_MAX, RECEIVED_MAX, RETIRED_GAPS_MAX,
};
use super::received::Received;
use super::sent::Control;
use super::stream_recv::Violation;
use super::{Error, Established};
use crate::session::{Mode, Port, Refusal};
use crate::time::{Instant, Now};
use crate::wire::Reader;
use crate::wire::session_packet::{Ack, Frame, Message, Open};

impl Established {
    /// Takes a packet that came on a carrier, with the congestion mark of its cell.
    ///
    /// # Errors
    /// See [`Error`]; a fatal one has closed the session.
    pub fn handle_packet(&mut self, now: Now, from: CarrierId, packet: BytesMut, marked: bool) -> Result<(), Error> {
        if self.closed.is_some() {
            return Err(Error::Closed);
        }
        let result = self.open_packet(now.instant, from, packet, marked).and_then(|(circuit, body)| {
            self.counters.packets_received += 1;
            self.handle_frames(now.instant, circuit, &body)
        });
        if let Err(error) = &result {
            self.counters.packets_refused += 1;
            if error.fatal() {
                self.close(CloseCode::Violation);
            }
        }
        result
    }

    /// Opens a packet and sees to it that it is new.
    fn open_packet(
        &mut self,
        now: Instant,
        from: CarrierId,
        packet: BytesMut,
        marked: bool,
    ) -> Result<(u32, Bytes), Error> {
        let pto = self.active().map_or_else(|| super::rtt::Rtt::new().pto(), |index| self.carriers[index].rtt.pto());
        let (header, body) = self.opener.open(now, pto, packet).map_err(|_| Error::Unauthentic)?;
        if self.retired.contains(u64::from(header.circuit)) {
            return Err(Error::Repeated);
        }
        let received = self.received.entry(header.circuit).or_insert_with(|| Received::new(from));
        if !received.insert(now, header.number, marked) {
            return Err(Error::Repeated);
        }
        received.handle_from(now, from);
        if self.received.len() > RECEIVED_MAX {
            self.retire_circuits();
        }
        self.heard_at = now;
        if let Some(carrier) = self.carriers.iter_mut().find(|carrier| carrier.id == from) {
            carrier.handle_heard(now);
        }
        Ok((header.circuit, body))
    }

    /// Closes the circuit heard least lately to the peer: a number is never opened twice.
    fn retire_circuits(&mut self) {
        let quietest = self.received.iter().min_by_key(|(_, received)| received.heard_at()).map(|(number, _)| *number);
        let Some(number) = quietest.map(u64::from) else { return };
        self.retired.insert(number, number + 1);
        if self.retired.len() > RETIRED_GAPS_MAX {
            let first = self.retired.first().unwrap_or_default();
            let second = self.retired.ascending().nth(1).unwrap_or(first);
            self.retired.insert(first.1, second.0);
        }
        self.received.retain(|number, _| !self.retired.contains(u64::from(*number)));
    }

    /// Carries out the frames of a packet.
    fn handle_frames(&mut self, now: Instant, circuit: u32, body: &Bytes) -> Result<(), Error> {
        let mut reader = Reader::new(body);
        let mut eliciting = false;
        while reader.remaining() > 0 {
            let frame = Frame::decode(&mut reader)?;
            eliciting |= !matches!(frame, Frame::Padding(_) | Frame::Ack(_) | Frame::Close(_));
            self.handle_frame(now, body, frame)?;
            if self.closed.is_some() {
                return Ok(());
            }
        }
        if eliciting && let Some(received) = self.received.get_mut(&circuit) {
            received.handle_eliciting(now);
        }
        if self.control.len() > CONTROL_MAX {
            return Err(Error::Misbehaved("too many answers provoked"));
        }
        Ok(())
    }

    /// Carries out one frame.
    fn handle_frame(&mut self, now: Instant, body: &Bytes, frame: Frame<'_>) -> Result<(), Error> {
        match frame {
            Frame::Padding(_) | Frame::Ping => Ok(()),
            Frame::Ack(ack) => self.handle_ack(now, &ack),
            Frame::Open(open) => self.handle_open_frame(now, body, &open),
            Frame::Opened { channel } => self.handle_opened(ChannelId(channel)),
            Frame::Refused { channel, why } => self.handle_refused(now, ChannelId(channel), why),
            Frame::Data { channel, offset, bytes, fin } => {
                self.handle_data(now, ChannelId(channel), offset, body.slice_ref(bytes), fin)
            }
            Frame::Message(message) => self.handle_message(now, &message, body.slice_ref(message.bytes)),
            Frame::MessagesEnd { channel, count } => self.handle_messages_end(now, ChannelId(channel), count),
            Frame::Reset { channel, end } => self.handle_reset(now, ChannelId(channel), end),
            Frame::Stop { channel } => self.handle_stop(ChannelId(channel)),
            Frame::MaxData(max) => self.handle_max_data(max),
            Frame::MaxChannelData { channel, max } => self.handle_max_channel_data(ChannelId(channel), max),
            Frame::Proof(proof) => self.handle_proof(body.slice_ref(proof)),
            Frame::Close(code) => {
                self.end(CloseCode::from_code(code));
                Ok(())
            }
        }
    }

    /// Packets of ours arrived.
    fn handle_ack(&mut self, now: Instant, ack: &Ack) -> Result<(), Error> {
        let Some(carrier) = self.carriers.iter_mut().find(|carrier| carrier.circuit == ack.circuit) else {
            return if ack.circuit < self.next_circuit { Ok(()) } else { Err(Error::Misbehaved("unknown circuit")) };
        };
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.clear();
        let result = carrier.handle_ack(now, ack, &mut outcome);
        self.meter.add(now, outcome.acked_len);
        if outcome.acked_count > 0 {
            self.sealer.handle_acknowledged(outcome.acked_epoch);
        }
        self.settle_acked(now, &outcome.acked);
        self.settle_lost(&outcome.lost);
        self.outcome = outcome;
        result.map_err(|_| Error::Misbehaved("acknowledges what was never sent"))
    }

    /// A channel by id: none if it is gone, an error if it never was.
    fn known(&mut self, id: ChannelId) -> Result<Option<&mut Channel>, Error> {
        let ours = (id.0 % 2 == 1) == (self.side == Side::Responder);
        let existed = if ours { id.0 / 2 < self.next_channel } else { self.peer_channels.contains(id.0 / 2) };
        if existed { Ok(self.channels.get_mut(&id)) } else { Err(Error::Misbehaved("channel was never opened")) }
    }

    /// The peer opens a channel.
    fn handle_open_frame(&mut self, now: Instant, body: &Bytes, open: &Open<'_>) -> Result<(), Error> {
        let id = ChannelId(open.channel);
        if (id.0 % 2 == 1) == (self.side == Side::Responder) {
            return Err(Error::Misbehaved("channel number of the other side"));
        }
        let mode = Mode::from_code(open.mode).ok_or(Error::Misbehaved("unknown delivery mode"))?;
        let port = Port::new(open.port).map_err(|_| Error::Misbehaved("invalid port"))?;
        if open.early.len() > EARLY_LEN_MAX {
            return Err(Error::Misbehaved("too much first data"));
        }
        if self.peer_channels.contains(id.0 / 2) {
            return Ok(());
        }
        self.peer_channels.insert(id.0 / 2, id.0 / 2 + 1);
        if self.peer_channels.len() > GAPS_MAX {
            return Err(Violation::Gaps.into());
        }
        let early = if open.early.is_empty() { Bytes::new() } else { body.slice_ref(open.early) };
        let request = OpenRequest { port, label: open.label.map(str::to_owned), mode, early };
        Ok(self.insert_incoming(now, id, request)?)
    }

    /// Adds a channel of the peer, or refuses it when the session is full.
    pub(super) fn insert_incoming(
        &mut self,
        now: Instant,
        id: ChannelId,
        mut open: OpenRequest,
    ) -> Result<(), Violation> {
        if self.channels.len() >= CHANNELS_MAX {
            self.control.push_back(Control::Refused(id, Refusal::TooMany));
            return Ok(());
        }
        let channel = Channel::incoming(now, id, open.mode, std::mem::take(&mut open.early))?;
        self.add_channel(now, id, channel);
        self.events.push_back(Event::Incoming { channel: id, open });
        Ok(())
    }

    /// Our channel was accepted, as OPENED says, or data that overtook it.
    fn handle_opened(&mut self, id: ChannelId) -> Result<(), Error> {
        let Some(channel) = self.known(id)?.filter(|channel| channel.state == State::Opening) else { return Ok(()) };
        channel.state = State::Open;
        self.events.push_back(Event::Opened(id));
        self.enqueue(id);
        Ok(())
    }

    /// Our channel was refused.
    fn handle_refused(&mut self, now: Instant, id: ChannelId, why: u8) -> Result<(), Error> {
        let why = Refusal::from_code(why).ok_or(Error::Misbehaved("unknown refusal"))?;
        let Some(state) = self.known(id)?.map(|channel| channel.state) else { return Ok(()) };
        match state {
            State::Opening => self.events.push_back(Event::Refused { channel: id, why }),
            State::Resetting => {}
            State::Incoming | State::Open => return Err(Error::Misbehaved("refuses an open channel")),
        }
        self.remove_channel(now, id);
        Ok(())
    }

    /// Bytes of a stream.
    fn handle_data(&mut self, now: Instant, id: ChannelId, offset: u64, bytes: Bytes, fin: bool) -> Result<(), Error> {
        self.handle_payload(now, id, |recv, limit| match recv {
            RecvHalf::Stream(stream) => Ok(stream.insert(offset, bytes, fin, limit)?),
            RecvHalf::Messages(_) => Err(Error::Misbehaved("bytes on a message channel")),
        })
    }

    /// A message or fragment.
    fn handle_message(&mut self, now: Instant, message: &Message<'_>, bytes: Bytes) -> Result<(), Error> {
        self.handle_payload(now, ChannelId(message.channel), |recv, limit| match recv {
            RecvHalf::Messages(messages) => Ok(messages.insert(now, message, bytes, limit)?),
            RecvHalf::Stream(_) => Err(Error::Misbehaved("message on a byte channel")),
        })
    }

    /// The end of a message channel.
    fn handle_messages_end(&mut self, now: Instant, id: ChannelId, count: u64) -> Result<(), Error> {
        self.handle_payload(now, id, |recv, _| match recv {
            RecvHalf::Messages(messages) => {
                messages.end(count)?;
                Ok(0)
            }
            RecvHalf::Stream(_) => Err(Error::Misbehaved("message count on a byte channel")),
        })
    }

    /// Gives payload to a channel's receiving half; `take` says how much session credit it used.
    fn handle_payload(
        &mut self,
        now: Instant,
        id: ChannelId,
        take: impl FnOnce(&mut RecvHalf, u64) -> Result<u64, Error>,
    ) -> Result<(), Error> {
        if self.known(id)?.is_none() {
            return Ok(());
        }
        self.handle_opened(id)?;
        let Some(used) = self.edit(id, |channel| take(&mut channel.recv, channel.window.limit())) else {
            return Ok(());
        };
        self.flow.handle_received(used?)?;
        let Some(channel) = self.channels.get(&id) else { return Ok(()) };
        match channel.state {
            // Its end was all that was missing.
            State::Resetting if channel.ended() => self.remove_channel(now, id),
            // Discarded bytes were read as they came.
            State::Resetting => {}
            State::Opening | State::Incoming | State::Open if channel.readable() || channel.ended() => {
                self.tell_readable(id)
            }
            State::Opening | State::Incoming | State::Open => {}
        }
        if self.channels.get(&id).is_some_and(|channel| channel.finished_told) {
            self.settle_read(now, id);
        }
        Ok(())
    }

    /// The peer breaks a channel off.
    fn handle_reset(&mut self, now: Instant, id: ChannelId, end: u64) -> Result<(), Error> {
        let ours = (id.0 % 2 == 1) == (self.side == Side::Responder);
        if !ours && !self.peer_channels.contains(id.0 / 2) {
            // It overtook its OPEN, which means nothing any more.
            self.peer_channels.insert(id.0 / 2, id.0 / 2 + 1);
            self.control.push_back(Control::Reset(id, 0));
            return if self.peer_channels.len() > GAPS_MAX { Err(Violation::Gaps.into()) } else { Ok(()) };
        }
        let Some(channel) = self.known(id)? else { return Ok(()) };
        let (used, state, sent) = (channel.cut(end)?, channel.state, channel.sent());
        self.flow.handle_received(used)?;
        if state != State::Resetting {
            self.control.push_back(Control::Reset(id, sent));
            self.events.push_back(Event::Reset { channel: id, cause: ResetCause::Peer });
        }
        self.remove_channel(now, id);
        Ok(())
    }

    /// The peer reads no more.
    fn handle_stop(&mut self, id: ChannelId) -> Result<(), Error> {
        let Some(state) = self.known(id)?.map(|channel| channel.state) else { return Ok(()) };
        if state != State::Resetting && self.edit(id, Channel::stop) == Some(true) {
            self.events.push_back(Event::Stopped(id));
            self.enqueue(id);
        }
        Ok(())
    }

    /// The session may send more.
    fn handle_max_data(&mut self, max: u64) -> Result<(), Error> {
        if self.flow.raise(max) {
            for id in std::mem::take(&mut self.credit_blocked) {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.queued = false;
                }
                self.enqueue(id);
            }
        }
        Ok(())
    }

    /// A channel may send more.
    fn handle_max_channel_data(&mut self, id: ChannelId, max: u64) -> Result<(), Error> {
        if self.known(id)?.is_some_and(|channel| channel.raise(max)) {
            self.enqueue(id);
        }
        Ok(())
    }

    /// The peer proves its identity.
    fn handle_proof(&mut self, proof: Bytes) -> Result<(), Error> {
        if proof.len() > PROOF_LEN_MAX {
            return Err(Error::Misbehaved("proof is too long"));
        }
        if !std::mem::replace(&mut self.proof_received, true) {
            self.events.push_back(Event::Proof(proof));
        }
        Ok(())
    }
}
