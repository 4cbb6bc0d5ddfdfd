//! Bytes through one channel, counted: each byte depends on its place, so what comes once,
//! whole and in order is told from anything else at the byte where it differs.

use bytes::{Bytes, BytesMut};
use tarnet_core::node::{Event, Target, WantId};
use tarnet_core::session::ChannelRef;

use super::names::{connect, listen};
use crate::network::Network;

/// Bytes offered at once.
const CHUNK_LEN: u64 = 16 * 1024;

/// One transfer.
pub struct Transfer {
    from: usize,
    to: usize,
    len: u64,
    want: WantId,
    /// The channel at the sender, once open.
    sending: Option<ChannelRef>,
    /// The channel at the receiver, once accepted.
    receiving: Option<ChannelRef>,
    /// Bytes that the channel took.
    pub sent: u64,
    /// Bytes that came, right so far.
    pub received: u64,
    /// The end came after the last byte.
    pub finished: bool,
    /// What went wrong, if anything.
    pub error: Option<String>,
}

/// The byte at a place of the stream.
fn byte_at(place: u64) -> u8 {
    let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (place >> 7);
    mixed.to_le_bytes()[5]
}

impl Transfer {
    /// Has `from` connect to `to` and send it `len` bytes.
    ///
    /// # Panics
    /// `to` listens on that port already.
    #[must_use]
    pub fn new(network: &mut Network, from: usize, to: usize, len: u64) -> Self {
        let service = network.hosts()[to].service;
        listen(network, to, service, None);
        let want = connect(network, from, Target::Service(service, None));
        Self { from, to, len, want, sending: None, receiving: None, sent: 0, received: 0, finished: false, error: None }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.finished || self.error.is_some()
    }

    /// Takes what the network reports, and moves bytes. Call it after every step.
    pub fn advance(&mut self, network: &mut Network) {
        match network.take_answer(self.want) {
            Some((_, Event::Connected { channel, .. })) => {
                self.sending = Some(channel);
                self.write(network);
            }
            Some((_, other)) => self.error = Some(format!("not connected: {other:?}")),
            None => {}
        }
        while let Some((host, event)) = network.take_channel_event() {
            self.on_event(network, host, event);
        }
    }

    /// One report.
    fn on_event(&mut self, network: &mut Network, host: usize, event: Event) {
        match event {
            Event::Incoming { channel, .. } if host == self.to => {
                self.receiving = Some(channel);
                network.with_node(host, |node, now| node.accept(now, channel));
            }
            Event::Readable(channel) if host == self.to && Some(channel) == self.receiving => {
                self.read(network, channel)
            }
            Event::Writable(channel) if host == self.from && Some(channel) == self.sending => self.write(network),
            Event::Finished(channel) if host == self.to && Some(channel) == self.receiving => {
                self.read(network, channel);
                self.finished = true;
                if self.received != self.len {
                    self.error = Some(format!("ended after {} of {} bytes", self.received, self.len));
                }
            }
            Event::Reset { lost, .. } => self.error = Some(format!("reset at machine {host}, lost: {lost}")),
            _ => {}
        }
    }

    /// Writes what there is room for.
    fn write(&mut self, network: &mut Network) {
        let Some(channel) = self.sending else { return };
        while self.sent < self.len {
            let end = self.len.min(self.sent + CHUNK_LEN);
            let chunk: Bytes = (self.sent..end).map(byte_at).collect::<BytesMut>().freeze();
            let offered = chunk.len();
            let taken = network.with_node(self.from, |node, now| node.write(now, channel, chunk)).flatten();
            let Some(taken) = taken else {
                self.error = Some("the channel is gone at its sender".to_owned());
                return;
            };
            self.sent += taken as u64;
            if taken < offered {
                return;
            }
        }
        network.with_node(self.from, |node, now| node.finish(now, channel));
    }

    /// Reads and compares what is there.
    fn read(&mut self, network: &mut Network, channel: ChannelRef) {
        while let Some(Some(chunk)) = network.with_node(self.to, |node, now| node.read(now, channel)) {
            for byte in chunk {
                if byte != byte_at(self.received) {
                    self.error = Some(format!("byte {} is not what was sent there", self.received));
                    return;
                }
                self.received += 1;
            }
        }
    }
}
