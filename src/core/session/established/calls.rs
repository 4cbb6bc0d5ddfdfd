//! What the layer above does with channels: opens, answers, writes, reads, ends them.

use bytes::Bytes;

use super::channel::{Channel, SendHalf, State, message_len_max};
use super::event::{ChannelId, Event, OpenRequest, Side};
use super::flow::window_max;
use super::limits::{
    CHANNELS_MAX, DATAGRAM_LEN_MAX, EARLY_LEN_MAX, LABEL_LEN_MAX, MESSAGE_COST, MESSAGE_LEN_MAX, MESSAGES_BUFFER_MIN,
    PROOF_LEN_MAX, SEND_BUFFER_MIN, SEND_BUFFER_SHARE, SESSION_SEND_BUFFER, SESSION_UNSENT, UNSENT_MAX, UNSENT_PART,
    WRITE_ENOUGH, WRITE_LOW,
};
use super::sent::Control;
use super::{Established, Violation};
use crate::session::Refusal;
use crate::time::Now;

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is no such channel, or its writing side has ended.
    #[error("channel is closed for writing")]
    Closed,
    /// Longer than a message of that mode may be.
    #[error("message is longer than {MESSAGE_LEN_MAX} bytes, or {DATAGRAM_LEN_MAX} in an unreliable mode")]
    TooLong,
}

/// Whether the OPEN of [`Established::open_with`] has reached the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// The handshake carried it.
    Delivered,
    /// The peer asked to have it under the final keys.
    Resend,
}

impl Established {
    /// Opens a channel. `Opened` or `Refused` follows; what is written before waits.
    ///
    /// # Errors
    /// `TooMany` when the session is full, closed, or the request is longer than it may be.
    pub fn open(&mut self, now: Now, open: OpenRequest) -> Result<ChannelId, Refusal> {
        self.open_with(now, open, Carried::Resend)
    }

    /// Opens a channel whose OPEN may have travelled in the handshake. The first channel of
    /// an initiator has the id that the responder's [`Established::handle_open`] expects.
    ///
    /// # Errors
    /// As [`Established::open`].
    pub fn open_with(&mut self, now: Now, open: OpenRequest, carried: Carried) -> Result<ChannelId, Refusal> {
        let label_len = open.label.as_ref().map_or(0, String::len);
        let too_long = open.early.len() > EARLY_LEN_MAX || label_len > LABEL_LEN_MAX;
        if self.closed.is_some() || self.channels.len() >= CHANNELS_MAX || too_long {
            return Err(Refusal::TooMany);
        }
        let id = ChannelId(self.next_channel * 2 + u64::from(self.side == Side::Responder));
        self.next_channel += 1;
        let mut channel = Channel::outgoing(now.instant, open);
        match carried {
            Carried::Delivered => channel.open = None,
            Carried::Resend => self.control.push_back(Control::Open(id)),
        }
        self.add_channel(now.instant, id, channel);
        Ok(id)
    }

    /// Takes the OPEN that travelled in the handshake: the initiator's first channel.
    ///
    /// # Errors
    /// The first data is longer than a channel's first credit.
    pub fn handle_open(&mut self, now: Now, open: OpenRequest) -> Result<ChannelId, Violation> {
        let id = ChannelId(u64::from(self.side == Side::Initiator));
        if !self.peer_channels.contains(0) {
            self.peer_channels.insert(0, 1);
            self.insert_incoming(now.instant, id, open)?;
        }
        Ok(id)
    }

    /// Accepts a channel of the peer.
    pub fn accept(&mut self, now: Now, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.state == State::Incoming) else {
            return;
        };
        channel.state = State::Open;
        self.control.push_back(Control::Opened(id));
        self.tell_readable(id);
        self.enqueue(id);
        self.note_idle(now.instant);
    }

    /// Refuses a channel of the peer.
    pub fn refuse(&mut self, now: Now, id: ChannelId, why: Refusal) {
        if self.channels.get(&id).is_some_and(|channel| channel.state == State::Incoming) {
            self.remove_channel(now.instant, id);
            self.control.push_back(Control::Refused(id, why));
        }
    }

    /// Writes to a channel. `ro`: as many bytes as there is room for are taken. Other
    /// modes: one message, taken whole or not at all. `Writable` follows when fewer were
    /// taken, or room is low. Unreliable channels always take; their oldest unsent messages yield.
    ///
    /// # Errors
    /// The channel is gone or its writing side ended, or the message is too long.
    pub fn write(&mut self, id: ChannelId, mut bytes: Bytes) -> Result<usize, WriteError> {
        let room = self.write_room(id);
        let channel =
            self.channels.get(&id).filter(|channel| channel.state != State::Resetting).ok_or(WriteError::Closed)?;
        if channel.write_closed() {
            return Err(WriteError::Closed);
        }
        let len = bytes.len();
        let stream = matches!(channel.send, SendHalf::Stream(_));
        let reliable = channel.mode.reliable();
        if !stream && len > message_len_max(channel.mode) {
            return Err(WriteError::TooLong);
        }
        let taken = if stream { len.min(room) } else { len };
        if !stream && reliable && taken as u64 + MESSAGE_COST > room as u64 {
            self.edit(id, |channel| channel.wanted = Some((len as u64 + MESSAGE_COST).max(WRITE_ENOUGH)));
            return Ok(0);
        }
        let bytes = bytes.split_to(taken);
        self.edit(id, |channel| match &mut channel.send {
            SendHalf::Stream(stream) => stream.write(bytes),
            SendHalf::Messages(messages) => messages.write(bytes),
        });
        if taken < len || (self.write_room(id) as u64) < WRITE_LOW {
            self.edit(id, |channel| channel.wanted = Some(WRITE_ENOUGH));
        }
        self.enqueue(id);
        Ok(taken)
    }

    /// Bytes that a channel takes now; zero if there is none or it ended. A message of a
    /// reliable mode needs 64 more than its length.
    #[must_use]
    pub fn write_room(&self, id: ChannelId) -> usize {
        let Some(channel) = self.channels.get(&id).filter(|channel| !channel.write_closed()) else { return 0 };
        let window: u64 =
            self.carriers.iter().filter(|carrier| !carrier.dead).map(|carrier| carrier.cubic.window()).sum();
        // A message is taken whole or not at all: the longest must fit whatever the others do.
        let (least, share) = match channel.send {
            SendHalf::Stream(_) => (SEND_BUFFER_MIN, SEND_BUFFER_SHARE),
            SendHalf::Messages(_) => (MESSAGES_BUFFER_MIN, MESSAGE_LEN_MAX as u64 + MESSAGE_COST),
        };
        let capacity = (2 * window).clamp(least, window_max(self.rtt_or_guess()));
        let (buffered, unsent) = (channel.buffered(), channel.unsent());
        let session = SESSION_SEND_BUFFER.saturating_sub(self.send_buffered - self.send_unsent);
        let session = session.max(share.saturating_sub(buffered));
        let waiting = SESSION_UNSENT.saturating_sub(self.send_unsent) / UNSENT_PART;
        let waiting = waiting.min((2 * (buffered - unsent)).max(UNSENT_MAX)).max(share);
        let room = capacity.saturating_sub(buffered).min(session).min(waiting.saturating_sub(unsent));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// The next bytes or message of a channel. `Finished` follows the last of them.
    pub fn read(&mut self, now: Now, id: ChannelId) -> Option<Bytes> {
        let state = self.channels.get(&id)?.state;
        if matches!(state, State::Incoming | State::Resetting) {
            return None;
        }
        let bytes = self.edit(id, Channel::read).flatten();
        self.settle_read(now.instant, id);
        bytes
    }

    /// No more will be written; the peer reads what was, and then the end.
    pub fn finish(&mut self, now: Now, id: ChannelId) {
        self.edit(id, Channel::finish);
        self.enqueue(id);
        self.settle_end(now.instant, id);
    }

    /// Nobody will read: what comes is discarded, and the peer may stop sending it.
    pub fn stop(&mut self, now: Now, id: ChannelId) {
        if self.channels.get(&id).is_none_or(|channel| channel.state == State::Resetting) {
            return;
        }
        if self.edit(id, |channel| !channel.ended()).unwrap_or(false) {
            self.control.push_back(Control::Stop(id));
        }
        self.edit(id, |channel| {
            channel.finished_told = true;
            channel.discard();
        });
        self.settle_read(now.instant, id);
    }

    /// Breaks a channel off in both directions. No event follows.
    pub fn reset(&mut self, now: Now, id: ChannelId) {
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.state != State::Resetting) else { return };
        self.control.push_back(Control::Reset(id, channel.sent()));
        // Else the peer answers with how much it had sent, which the session's credit must know.
        if channel.ended() {
            return self.remove_channel(now.instant, id);
        }
        self.edit(id, |channel| {
            channel.state = State::Resetting;
            channel.open = None;
            channel.stop();
            channel.discard();
        });
    }

    /// Sends our proof of identity, once and reliably.
    ///
    /// # Panics
    /// When it is longer than 8 KiB: a key and a signature are not.
    pub fn send_proof(&mut self, proof: Bytes) {
        assert!(proof.len() <= PROOF_LEN_MAX, "a proof is a key and a signature");
        if self.proof.replace(proof).is_none() {
            self.control.push_back(Control::Proof);
        }
    }

    /// Tells the layer above that a channel has something, unless it knows.
    pub(super) fn tell_readable(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if matches!(channel.state, State::Opening | State::Open) {
            if channel.readable() && !channel.readable_told {
                channel.readable_told = true;
                self.events.push_back(Event::Readable(id));
            }
            if channel.read_done() && !channel.finished_told {
                channel.finished_told = true;
                self.events.push_back(Event::Finished(id));
            }
        }
    }
}
