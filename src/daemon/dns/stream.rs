//! DNS over a stream: messages behind a two-byte length (RFC 1035 §4.2.2). The one
//! server is behind a channel of its own for the TUN, and on sockets for `dns.listen`.
//!
//! Bounds: one question at a time; silence of [`IDLE`] ends the stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::responder::{Responder, Transport};
use crate::channel::{Channel, ChannelEnd, ChannelKey, channel};

/// How long a stream may be silent (RFC 7766 §6.2.3).
pub const IDLE: Duration = Duration::from_secs(10);
/// Wake-ups that may wait; one is enough, since a wake-up means "look".
const KICKS_LEN: usize = 4;

/// The next whole message of a stream, without its length.
pub fn next_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::from(u16::from_be_bytes(*buffer.first_chunk::<2>()?));
    if buffer.len() < 2 + length {
        return None;
    }
    buffer.advance(2);
    Some(buffer.split_to(length).freeze())
}

/// A message with its length before it; `None` when it is too long for one.
#[must_use]
pub fn frame(message: &[u8]) -> Option<Bytes> {
    let length = u16::try_from(message.len()).ok()?;
    let mut framed = BytesMut::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    Some(framed.freeze())
}

/// A channel at whose far end is the responder. Its task ends with the channel, or by [`IDLE`].
#[must_use]
pub fn serve(responder: Arc<Responder>) -> Channel {
    let (kicks, kicked) = crate::channel::Kicks::new(KICKS_LEN);
    let (front, end) = channel(ChannelKey(0), kicks);
    tokio::spawn(run(responder, end, kicked));
    front
}

/// Answers what comes in until the asker has finished.
async fn run(responder: Arc<Responder>, mut end: ChannelEnd, mut kicked: mpsc::Receiver<ChannelKey>) {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(chunk) = end.take() {
            buffer.extend_from_slice(&chunk);
            while let Some(question) = next_message(&mut buffer) {
                let answer = responder.answer(&question, Transport::Tcp).await;
                if let Some(framed) = answer.as_deref().and_then(frame) {
                    end.give(framed);
                }
            }
        }
        if end.finished() {
            return end.finish();
        }
        if end.aborted() || end.room() == 0 {
            return;
        }
        match timeout(IDLE, kicked.recv()).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return end.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_of_a_stream_cut_anywhere() {
        let stream: Vec<u8> =
            [b"one".as_slice(), b"", b"three"].iter().flat_map(|message| frame(message).unwrap()).collect();
        for cut in 0..=stream.len() {
            let mut buffer = BytesMut::from(&stream[..cut]);
            let mut read = Vec::new();
            while let Some(message) = next_message(&mut buffer) {
                read.push(message);
            }
            buffer.extend_from_slice(&stream[cut..]);
            while let Some(message) = next_message(&mut buffer) {
                read.push(message);
            }
            assert_eq!(read, [&b"one"[..], b"", b"three"], "cut at {cut}");
        }
    }
}
