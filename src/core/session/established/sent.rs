//! Records of frames that were sent, small enough to copy: what to do when they arrive
//! or are lost. Frames, not packets, travel again.

use super::event::ChannelId;
use crate::session::Refusal;

/// One frame of a packet in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentFrame {
    /// An acknowledgement of a circuit's packets up to a number.
    Ack {
        /// The circuit, as its sender numbers it.
        circuit: u32,
        /// The highest number acknowledged.
        largest: u64,
    },
    /// Bytes of a stream.
    Data {
        /// The channel.
        channel: u64,
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u16,
        /// Whether the stream ended behind them.
        fin: bool,
    },
    /// A fragment of a reliable message.
    Message {
        /// The channel.
        channel: u64,
        /// The message.
        id: u64,
        /// Where the fragment begins.
        offset: u32,
        /// Its length.
        len: u16,
    },
    /// Anything small.
    Control(Control),
}

/// A small frame, written with the values of the moment whenever it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// OPEN of a channel, with this much of its first data.
    Open(ChannelId),
    /// OPENED of a channel.
    Opened(ChannelId),
    /// REFUSED, for a channel of which we keep nothing.
    Refused(ChannelId, Refusal),
    /// RESET, for a channel of which we keep nothing but perhaps a wait for the peer's.
    Reset(ChannelId, u64),
    /// STOP of a channel.
    Stop(ChannelId),
    /// MESSAGES_END of a channel.
    MessagesEnd(ChannelId),
    /// The session's credit.
    MaxData,
    /// A channel's credit.
    MaxChannelData(ChannelId),
    /// Our proof of identity.
    Proof,
    /// The session ends.
    Close(super::CloseCode),
}
