//! One channel: its two halves, its credit, and how far its opening and ending have come.

use bytes::Bytes;

use super::event::{ChannelId, OpenRequest};
use super::flow::Window;
use super::limits::{
    CHANNEL_WINDOW_INITIAL, DATAGRAM_LEN_MAX, INTERACTIVE_BYTES, MESSAGE_COST, MESSAGE_LEN_MAX, MESSAGES_WINDOW_INITIAL,
};
use super::messages_recv::MessagesRecv;
use super::messages_send::MessagesSend;
use super::stream_recv::{StreamRecv, Violation};
use super::stream_send::StreamSend;
use crate::session::Mode;
use crate::time::Instant;
use crate::wire::session_packet::Message;

/// How far a channel has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// We asked for it.
    Opening,
    /// The peer asked for it, and nobody answered yet.
    Incoming,
    /// Open.
    Open,
    /// We reset it, and the peer has not yet said how much it had sent.
    Resetting,
}

/// What we send.
pub enum SendHalf {
    /// A byte stream.
    Stream(StreamSend),
    /// Messages.
    Messages(MessagesSend),
}

/// What we receive.
pub enum RecvHalf {
    /// A byte stream.
    Stream(StreamRecv),
    /// Messages.
    Messages(MessagesRecv),
}

/// One channel.
pub struct Channel {
    /// How it delivers.
    pub mode: Mode,
    /// How far it has come.
    pub state: State,
    /// What we send.
    pub send: SendHalf,
    /// What we receive.
    pub recv: RecvHalf,
    /// Credit that we give.
    pub window: Window,
    /// What our OPEN says, until it arrived.
    pub open: Option<Box<OpenRequest>>,
    /// Credit that the first data inside OPEN used, which the session's credit does not count.
    early: u64,
    /// Whether it waits in one of the sending queues.
    pub queued: bool,
    /// Whether a MAX_CHANNEL_DATA waits to be sent.
    pub max_queued: bool,
    /// Whether the reader knows that there is something.
    pub readable_told: bool,
    /// Whether the reader knows that the end was read.
    pub finished_told: bool,
    /// Room that the writer waits for.
    pub wanted: Option<u64>,
}

/// Credit that first data uses.
fn early_cost(mode: Mode, early: &Bytes) -> u64 {
    match mode {
        Mode::ReliableOrdered => early.len() as u64,
        Mode::ReliableUnordered if !early.is_empty() => early.len() as u64 + MESSAGE_COST,
        Mode::ReliableUnordered | Mode::UnreliableOrdered | Mode::UnreliableUnordered => 0,
    }
}

/// Bytes of the longest message of a mode.
pub const fn message_len_max(mode: Mode) -> usize {
    if mode.reliable() { MESSAGE_LEN_MAX } else { DATAGRAM_LEN_MAX }
}

impl Channel {
    /// A channel in `state`.
    fn new(now: Instant, mode: Mode, state: State) -> Self {
        let initial = match mode {
            Mode::ReliableUnordered => MESSAGES_WINDOW_INITIAL,
            Mode::ReliableOrdered | Mode::UnreliableOrdered | Mode::UnreliableUnordered => CHANNEL_WINDOW_INITIAL,
        };
        let (send, recv) = match mode {
            Mode::ReliableOrdered => (SendHalf::Stream(StreamSend::new()), RecvHalf::Stream(StreamRecv::new())),
            Mode::ReliableUnordered | Mode::UnreliableOrdered | Mode::UnreliableUnordered => {
                (SendHalf::Messages(MessagesSend::new(mode.reliable())), RecvHalf::Messages(MessagesRecv::new(mode)))
            }
        };
        Self {
            mode,
            state,
            send,
            recv,
            window: Window::new(now, initial),
            open: None,
            early: 0,
            queued: false,
            max_queued: false,
            readable_told: false,
            finished_told: false,
            wanted: None,
        }
    }

    /// A channel that we open. Its first data travels in the OPEN, never by itself.
    pub fn outgoing(now: Instant, open: OpenRequest) -> Self {
        let mut channel = Self::new(now, open.mode, State::Opening);
        match &mut channel.send {
            SendHalf::Stream(stream) => stream.skip(open.early.len() as u64),
            SendHalf::Messages(messages) if !open.early.is_empty() => messages.skip(early_cost(open.mode, &open.early)),
            SendHalf::Messages(_) => {}
        }
        channel.open = Some(Box::new(open));
        channel
    }

    /// A channel that the peer opens, with its first data.
    ///
    /// # Errors
    /// None in practice: first data is shorter than the initial credit.
    pub fn incoming(now: Instant, id: ChannelId, mode: Mode, early: Bytes) -> Result<Self, Violation> {
        let mut channel = Self::new(now, mode, State::Incoming);
        channel.early = early_cost(mode, &early);
        let limit = channel.window.limit();
        match &mut channel.recv {
            RecvHalf::Stream(stream) => {
                stream.insert(0, early, false, limit)?;
            }
            RecvHalf::Messages(messages) if !early.is_empty() => {
                let total = u32::try_from(early.len()).map_err(|_| Violation::Fragment)?;
                let message = Message { channel: id.0, id: 0, total, offset: 0, bytes: &[] };
                messages.insert(now, &message, early, limit)?;
            }
            RecvHalf::Messages(_) => {}
        }
        Ok(channel)
    }

    /// Whether it has something to send that its own credit allows.
    pub fn wants(&self) -> bool {
        self.state == State::Open
            && match &self.send {
                SendHalf::Stream(stream) => stream.wants(),
                SendHalf::Messages(messages) => messages.wants(),
            }
    }

    /// Whether little waits, so that it goes before bulk.
    pub const fn interactive(&self) -> bool {
        self.unsent() <= INTERACTIVE_BYTES
    }

    /// Bytes that were not sent yet.
    pub const fn unsent(&self) -> u64 {
        match &self.send {
            SendHalf::Stream(stream) => stream.unsent(),
            SendHalf::Messages(messages) => messages.unsent(),
        }
    }

    /// Bytes held for sending.
    pub const fn buffered(&self) -> u64 {
        match &self.send {
            SendHalf::Stream(stream) => stream.buffered(),
            SendHalf::Messages(messages) => messages.buffered(),
        }
    }

    /// Bytes held in both directions.
    pub fn held(&self) -> u64 {
        let received = match &self.recv {
            RecvHalf::Stream(stream) => stream.unread(),
            RecvHalf::Messages(messages) => messages.held(),
        };
        self.buffered() + received
    }

    /// Credit used for sending in all.
    pub const fn sent(&self) -> u64 {
        match &self.send {
            SendHalf::Stream(stream) => stream.sent(),
            SendHalf::Messages(messages) => messages.sent(),
        }
    }

    /// Whether nothing more may be written.
    pub fn write_closed(&self) -> bool {
        match &self.send {
            SendHalf::Stream(stream) => stream.closed(),
            SendHalf::Messages(messages) => messages.closed(),
        }
    }

    /// Raises our credit; false if it was as high already.
    pub const fn raise(&mut self, limit: u64) -> bool {
        match &mut self.send {
            SendHalf::Stream(stream) => stream.raise(limit),
            SendHalf::Messages(messages) => messages.raise(limit),
        }
    }

    /// No more will be written.
    pub fn finish(&mut self) {
        match &mut self.send {
            SendHalf::Stream(stream) => stream.finish(),
            SendHalf::Messages(messages) => messages.finish(),
        }
    }

    /// The peer reads no more; false if that was known.
    pub fn stop(&mut self) -> bool {
        match &mut self.send {
            SendHalf::Stream(stream) if !stream.stopped() => stream.stop(),
            SendHalf::Messages(messages) if !messages.stopped() => messages.stop(),
            SendHalf::Stream(_) | SendHalf::Messages(_) => return false,
        }
        true
    }

    /// The next bytes or message.
    pub fn read(&mut self) -> Option<Bytes> {
        match &mut self.recv {
            RecvHalf::Stream(stream) => stream.read(),
            RecvHalf::Messages(messages) => messages.read(),
        }
    }

    /// Whether there is something to read.
    pub fn readable(&self) -> bool {
        match &self.recv {
            RecvHalf::Stream(stream) => stream.readable(),
            RecvHalf::Messages(messages) => messages.readable(),
        }
    }

    /// Nobody will read.
    pub fn discard(&mut self) {
        match &mut self.recv {
            RecvHalf::Stream(stream) => stream.discard(),
            RecvHalf::Messages(messages) => messages.discard(),
        }
    }

    /// The peer had used so much credit in all when it broke off; gives what was not yet counted.
    ///
    /// # Errors
    /// That contradicts what was received.
    pub fn cut(&mut self, end: u64) -> Result<u64, Violation> {
        let limit = self.window.limit();
        match &mut self.recv {
            RecvHalf::Stream(stream) => stream.cut(end, limit),
            RecvHalf::Messages(messages) => messages.cut(end, limit),
        }
    }

    /// Channel credit read in all.
    pub const fn consumed(&self) -> u64 {
        match &self.recv {
            RecvHalf::Stream(stream) => stream.consumed(),
            RecvHalf::Messages(messages) => messages.consumed(),
        }
    }

    /// Session credit given back in all.
    pub const fn session_consumed(&self) -> u64 {
        self.consumed().saturating_sub(self.early)
    }

    /// Session credit that goes back when the channel goes.
    pub fn session_unread(&self) -> u64 {
        let used = match &self.recv {
            RecvHalf::Stream(stream) => stream.consumed() + stream.unread(),
            RecvHalf::Messages(messages) => messages.consumed() + messages.unread(),
        };
        used.saturating_sub(self.early) - self.session_consumed()
    }

    /// Whether the peer's end is known.
    pub fn ended(&self) -> bool {
        match &self.recv {
            RecvHalf::Stream(stream) => stream.ended(),
            RecvHalf::Messages(messages) => messages.ended(),
        }
    }

    /// Whether everything up to the peer's end was read.
    pub fn read_done(&self) -> bool {
        match &self.recv {
            RecvHalf::Stream(stream) => stream.done(),
            RecvHalf::Messages(messages) => messages.done(),
        }
    }

    /// Whether nothing is left to do in either direction.
    pub fn done(&self) -> bool {
        let sent = match &self.send {
            SendHalf::Stream(stream) => stream.done(),
            SendHalf::Messages(messages) => messages.done(),
        };
        sent && self.read_done()
    }

    /// Messages dropped on an unreliable channel, in both directions.
    pub const fn dropped(&self) -> u64 {
        let sent = match &self.send {
            SendHalf::Stream(_) => 0,
            SendHalf::Messages(messages) => messages.dropped(),
        };
        let received = match &self.recv {
            RecvHalf::Stream(_) => 0,
            RecvHalf::Messages(messages) => messages.dropped(),
        };
        sent + received
    }
}
