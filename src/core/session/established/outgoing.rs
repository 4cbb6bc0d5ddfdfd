//! Packets to the peer: what is due goes into one buffer, which is sealed in place.

use bytes::{BufMut, BytesMut};

use super::Established;
use super::channel::{Channel, SendHalf, State};
use super::event::{CarrierId, ChannelId};
use super::limits::{
    INTERACTIVE_STREAK, PACKET_LEN_FULL, PACKET_LEN_SLOW, PACKET_LEN_SMALL, SEPARATE_BELOW, SLOW_RATE,
};
use super::recovery::{Sent, SentFrames};
use super::schedule::Load;
use super::sent::{Control, SentFrame};
use crate::time::{Instant, Now};
use crate::wire::session_packet::{
    Ack, FRAME_LEN_SMALL, Frame, HEADER_LEN, Message, Open, TAG_LEN, data_head_len, put_data_head,
};

/// Where small frames must end.
const BODY_END: usize = PACKET_LEN_FULL - TAG_LEN;
/// Room below which no payload is begun.
const PAYLOAD_ROOM: usize = 64;

/// What a channel did with its turn.
enum Turn {
    /// Wrote so many bytes.
    Wrote(usize),
    /// Needs a packet of its own.
    Full,
    /// Waits for session credit.
    Blocked,
    /// Has nothing to send.
    Nothing,
}

impl Established {
    /// The next packet, and the carrier to send it on. `ready` says whether a carrier's way
    /// out of this node has room; acknowledgements leave without asking. Call until it gives none.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        ready: &mut dyn FnMut(CarrierId) -> bool,
    ) -> Option<(CarrierId, BytesMut)> {
        let now = now.instant;
        self.paced_until = None;
        self.demote_grown();
        let (index, load) = self.choose(now, ready)?;
        if let Some(packet) = self.build_packet(now, index, load) {
            return Some(packet);
        }
        // What waited was of no interest any more: acknowledgements that are due must not wait for that.
        let index = self.ack_due(now)?;
        self.build_packet(now, index, Load::Acks)
    }

    /// Channels whose turn comes first as interactive, and to which more was written since, wait for their turn as bulk.
    fn demote_grown(&mut self) {
        while let Some(id) = self.interactive.front() {
            if self.channels.get(id).is_none_or(Channel::interactive) {
                return;
            }
            self.bulk.extend(self.interactive.pop_front());
        }
    }

    /// A packet for a carrier, if there is anything to put into it.
    fn build_packet(&mut self, now: Instant, index: usize, load: Load) -> Option<(CarrierId, BytesMut)> {
        let id = self.carriers[index].id;
        let data = matches!(load, Load::Data | Load::Interactive);
        let carrier = &self.carriers[index];
        let separate = load == Load::Interactive || carrier.pacer.rate() < SEPARATE_BELOW;
        let len_max = if carrier.delivery_rate() < SLOW_RATE { PACKET_LEN_SLOW } else { PACKET_LEN_FULL };
        let bulk = data && (!self.bulk.is_empty() || self.control.len() > INTERACTIVE_FRAMES);
        let bulk = bulk && (self.interactive.is_empty() || !separate);
        let mut packet = BytesMut::with_capacity(if bulk { len_max } else { PACKET_LEN_SMALL });
        packet.put_bytes(0, HEADER_LEN);
        let mut frames = SentFrames::new();
        self.put_acks(now, id, &mut packet, &mut frames);
        let mut eliciting = load != Load::Acks && self.put_ping(index, &mut packet);
        if data {
            eliciting |= self.put_control(&mut packet, &mut frames);
            eliciting |= self.put_channels(&mut packet, &mut frames, len_max - TAG_LEN, separate);
        }
        if packet.len() == HEADER_LEN {
            return None;
        }
        self.seal(now, index, &mut packet, eliciting, frames);
        Some((id, packet))
    }

    /// Whether there is anything that asks for an acknowledgement.
    pub(super) fn has_payload(&self, index: usize) -> bool {
        self.carriers[index].ping || !self.control.is_empty() || !self.interactive.is_empty() || !self.bulk.is_empty()
    }

    /// Seals a packet and notes it as sent.
    fn seal(&mut self, now: Instant, index: usize, packet: &mut BytesMut, eliciting: bool, frames: SentFrames) {
        let carrier = &mut self.carriers[index];
        self.sealer.seal(now, carrier.circuit, carrier.recovery.next(), packet);
        self.counters.packets_sent += 1;
        let len = packet.len() as u64;
        if eliciting {
            carrier.pacer.handle_sent(len);
            carrier.probes = carrier.probes.saturating_sub(1);
            carrier.recovery.handle_sent(Sent { at: now, len, epoch: self.sealer.epoch(), frames });
        } else {
            carrier.recovery.handle_sent_silent();
        }
    }

    /// Adds acknowledgements of the circuits that this carrier brings, and of those whose carriers are gone.
    fn put_acks(&mut self, now: Instant, id: CarrierId, packet: &mut BytesMut, frames: &mut SentFrames) {
        let carriers = &self.carriers;
        let lives = |home| carriers.iter().any(|carrier| carrier.id == home && !carrier.dead);
        for (circuit, received) in &mut self.received {
            if received.home() != id && lives(received.home()) {
                continue;
            }
            if packet.len() + Ack::len_max(super::limits::ACK_RANGES_MAX) > BODY_END {
                return;
            }
            if let Some(ack) = received.take_ack(now, *circuit) {
                ack.encode(packet);
                let largest = ack.ranges.first().map_or(0, |range| range.1);
                frames.push(SentFrame::Ack { circuit: *circuit, largest });
            }
        }
    }

    /// Adds a PING if one is due.
    fn put_ping(&mut self, index: usize, packet: &mut BytesMut) -> bool {
        let due = std::mem::take(&mut self.carriers[index].ping);
        if due {
            Frame::Ping.encode(packet);
        }
        due
    }

    /// Adds small frames that wait.
    fn put_control(&mut self, packet: &mut BytesMut, frames: &mut SentFrames) -> bool {
        let mut any = false;
        while let Some(control) = self.control.front().copied() {
            if BODY_END - packet.len() < self.control_len(control) {
                break;
            }
            self.control.pop_front();
            if self.put_one_control(control, packet) {
                any = true;
                frames.push(SentFrame::Control(control));
            }
        }
        any
    }

    /// Most bytes that a small frame takes.
    fn control_len(&self, control: Control) -> usize {
        match control {
            Control::Open(id) => {
                let open = self.channels.get(&id).and_then(|channel| channel.open.as_ref());
                let port_label = 2 * usize::from(u8::MAX);
                FRAME_LEN_SMALL + port_label + open.map_or(0, |open| open.early.len())
            }
            Control::Proof => FRAME_LEN_SMALL + self.proof.as_ref().map_or(0, bytes::Bytes::len),
            Control::Opened(_)
            | Control::Refused(..)
            | Control::Reset(..)
            | Control::Stop(_)
            | Control::MessagesEnd(_)
            | Control::MaxData
            | Control::MaxChannelData(_)
            | Control::Close(_) => FRAME_LEN_SMALL,
        }
    }

    /// Writes a small frame with the values of the moment; false when there is nothing left to say.
    fn put_one_control(&mut self, control: Control, packet: &mut BytesMut) -> bool {
        let frame = match control {
            Control::Open(id) => {
                let Some(open) = self.channels.get(&id).and_then(|channel| channel.open.as_ref()) else { return false };
                Frame::Open(Open {
                    channel: id.0,
                    mode: open.mode.code(),
                    port: open.port.as_str(),
                    label: open.label.as_deref(),
                    early: &open.early,
                })
            }
            Control::Opened(id) => Frame::Opened { channel: id.0 },
            Control::Refused(id, why) => Frame::Refused { channel: id.0, why: why.code() },
            Control::Reset(id, end) => Frame::Reset { channel: id.0, end },
            Control::Stop(id) => Frame::Stop { channel: id.0 },
            Control::MessagesEnd(id) => {
                let Some(SendHalf::Messages(messages)) = self.channels.get(&id).map(|channel| &channel.send) else {
                    return false;
                };
                Frame::MessagesEnd { channel: id.0, count: messages.count() }
            }
            Control::MaxData => {
                self.max_data_queued = false;
                Frame::MaxData(self.flow.recv_limit())
            }
            Control::MaxChannelData(id) => {
                let Some(channel) = self.channels.get_mut(&id) else { return false };
                channel.max_queued = false;
                Frame::MaxChannelData { channel: id.0, max: channel.window.limit() }
            }
            Control::Proof => {
                let Some(proof) = &self.proof else { return false };
                Frame::Proof(proof)
            }
            Control::Close(code) => Frame::Close(code.code()),
        };
        frame.encode(packet);
        true
    }

    /// Fills the packet from the channels' queues, up to `end`: interactive before bulk, but not for ever; in turn within
    /// each. If they are to be separate, bulk does not go with what is interactive.
    fn put_channels(&mut self, packet: &mut BytesMut, frames: &mut SentFrames, end: usize, separate: bool) -> bool {
        let mut any = false;
        let mut said = false;
        while end - packet.len() >= PAYLOAD_ROOM {
            if separate && said && self.interactive.is_empty() {
                break;
            }
            let Some((id, interactive)) = self.pick() else { break };
            match self.put_channel(id, packet, frames, end) {
                Turn::Wrote(len) => {
                    any = true;
                    said |= interactive;
                    self.interactive_streak = if interactive { self.interactive_streak + len } else { 0 };
                    self.enqueue(id);
                }
                Turn::Full => {
                    if let Some(channel) = self.channels.get_mut(&id) {
                        channel.queued = true;
                        if interactive {
                            self.interactive.push_front(id)
                        } else {
                            self.bulk.push_front(id)
                        };
                    }
                    break;
                }
                Turn::Blocked => {
                    if let Some(channel) = self.channels.get_mut(&id) {
                        channel.queued = true;
                        self.credit_blocked.push_back(id);
                    }
                }
                Turn::Nothing => {}
            }
        }
        any
    }

    /// Takes the channel whose turn it is out of its queue.
    fn pick(&mut self) -> Option<(ChannelId, bool)> {
        let bulk_turn = self.interactive_streak >= INTERACTIVE_STREAK && !self.bulk.is_empty();
        let interactive = !bulk_turn && !self.interactive.is_empty();
        let id = if interactive { self.interactive.pop_front()? } else { self.bulk.pop_front()? };
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.queued = false;
        }
        Some((id, interactive))
    }

    /// Lets a channel write one frame.
    fn put_channel(&mut self, id: ChannelId, packet: &mut BytesMut, frames: &mut SentFrames, end: usize) -> Turn {
        let (room, whole) = (end - packet.len(), end - HEADER_LEN);
        let credit = self.flow.send_credit();
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.state == State::Open) else {
            return Turn::Nothing;
        };
        let before = (packet.len(), channel.buffered(), channel.unsent());
        let (fresh, frame) = match &mut channel.send {
            SendHalf::Stream(stream) => {
                let head = data_head_len(id.0, stream.sent());
                let Some(chunk) = stream.next(room - head, credit) else {
                    return refused(channel.wants(), room < whole, credit);
                };
                put_data_head(packet, id.0, chunk.offset, chunk.len, chunk.fin);
                stream.copy(chunk.offset, chunk.len, packet);
                let frame = SentFrame::Data { channel: id.0, offset: chunk.offset, len: chunk.len, fin: chunk.fin };
                (chunk.fresh, Some(frame))
            }
            SendHalf::Messages(messages) => {
                let held = messages.front();
                let head = Message::overhead(id.0, messages.count());
                let Some(part) = messages.next(room - head, credit) else {
                    return refused(channel.wants(), room < whole, credit);
                };
                let bytes = messages.bytes(&part, held.as_ref());
                Message { channel: id.0, id: part.id, total: part.total, offset: part.offset, bytes }.encode(packet);
                let frame = SentFrame::Message { channel: id.0, id: part.id, offset: part.offset, len: part.len };
                (part.fresh, channel.mode.reliable().then_some(frame))
            }
        };
        self.send_buffered = self.send_buffered - before.1 + channel.buffered();
        self.send_unsent = self.send_unsent - before.2 + channel.unsent();
        self.flow.handle_sent(fresh);
        if channel.wanted.is_some() {
            self.tell_writable(id);
        }
        frames.extend(frame);
        Turn::Wrote(packet.len() - before.0)
    }
}

/// Why a channel wrote nothing: a message that does not fit any more, or no session credit for it.
const fn refused(wants: bool, begun: bool, credit: u64) -> Turn {
    if !wants {
        Turn::Nothing
    } else if begun && credit > 2 * super::limits::MESSAGE_LEN_MAX as u64 {
        Turn::Full
    } else {
        Turn::Blocked
    }
}

/// Small frames from which a packet gets a full buffer at once.
const INTERACTIVE_FRAMES: usize = 64;
