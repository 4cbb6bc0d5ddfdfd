//! The writing task of a connection: seals batches and writes as many as are there at once.

use bytes::BytesMut;
use tarnet_core::link::ConnId;
use tokio::sync::mpsc;

use super::clock::Clock;
use super::conn::{CloseReason, ConnEvent, FrameSealer, ToWriter};
use super::limits::FRAMES_PER_WRITE_MAX;
use super::pipe::{FrameWrite, PipeError};

/// Writes until the node's task drops the connection's handle, or something fails.
pub(super) async fn run<W: FrameWrite>(
    conn: ConnId,
    mut writer: W,
    mut mail: mpsc::Receiver<ToWriter>,
    events: mpsc::Sender<ConnEvent>,
    clock: Clock,
) -> CloseReason {
    let mut frames = Vec::with_capacity(FRAMES_PER_WRITE_MAX);
    let mut sealer: Option<Box<dyn FrameSealer>> = None;
    while let Some(first) = mail.recv().await {
        let mut batches = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            match (message, &mut sealer) {
                (ToWriter::Handshake(frame), _) => frames.push(BytesMut::from(frame.as_slice())),
                (ToWriter::Established(keys), _) => sealer = Some(keys),
                (ToWriter::Unsent(len, bursts), _) => writer.hold_unsent(len, bursts),
                (ToWriter::Batch(batch), Some(sealer)) => {
                    frames.push(sealer.seal(clock.now(), batch));
                    batches += 1;
                }
                (ToWriter::Mix(mix), Some(sealer)) => sealer.mix(mix),
                (ToWriter::Batch(_) | ToWriter::Mix(_), None) => return CloseReason::Asked,
            }
            next = if frames.len() < FRAMES_PER_WRITE_MAX { mail.try_recv().ok() } else { None };
        }
        if let Err(error) = writer.write_frames(&mut frames).await {
            return PipeError::Io(error).into();
        }
        for _ in 0..batches {
            if events.send(ConnEvent::Ready(conn)).await.is_err() {
                return CloseReason::Asked;
            }
        }
    }
    writer.shutdown().await;
    CloseReason::Asked
}
