//! The reading task of a connection: frames of the handshake one at a time, then opened frames.

use tarnet_core::link::ConnId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::conn::{CloseReason, ConnEvent, FrameOpener, ToReader};
use super::download::Download;
use super::limits::{FRAME_LEN_MAX, HANDSHAKE_LEN_MAX, WARY};
use super::pipe::FrameRead;
use crate::runtime::Steps;

/// Reads until the peer closes, something fails, or the node's task is gone.
pub(super) async fn run<R: FrameRead>(
    conn: ConnId,
    mut reader: R,
    (mut mail, mut rest): (mpsc::Receiver<ToReader>, watch::Receiver<Option<Instant>>),
    events: mpsc::Sender<ConnEvent>,
    download: Download,
) -> CloseReason {
    let mut opener = match handshake(conn, &mut reader, &mut mail, &events).await {
        Ok(opener) => opener,
        Err(reason) => return reason,
    };
    let mut wary_until = None;
    let mut steps = Steps::default();
    loop {
        let frame = match reader.read_frame(FRAME_LEN_MAX).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return CloseReason::Peer,
            Err(error) => return error.into(),
        };
        let len = frame.len();
        crate::lookout::note(len);
        download.take(len).await;
        if rest.has_changed().unwrap_or(false) {
            let until = *rest.borrow_and_update();
            if let Some(until) = until {
                tokio::time::sleep_until(until).await;
                wary_until = Some(Instant::now() + WARY);
            }
        }
        // It was put there before the peer could know of it.
        while let Ok(ToReader::Mix(mix)) = mail.try_recv() {
            opener.mix(mix);
        }
        let batch = match opener.open(frame) {
            Ok(batch) => batch,
            Err(why) => return CloseReason::Frame(why),
        };
        if events.send(ConnEvent::Plaintext(conn, batch)).await.is_err() {
            return CloseReason::Asked;
        }
        // The node looks at each frame before the next is read: else a hundred of them would be read between two rests.
        if wary_until.is_some_and(|until| Instant::now() < until) {
            tokio::task::yield_now().await;
        } else {
            wary_until = None;
            steps.carry(len).await;
        }
    }
}

/// Passes frames of the handshake on, waiting for word after each, until the keys come.
async fn handshake<R: FrameRead>(
    conn: ConnId,
    reader: &mut R,
    mail: &mut mpsc::Receiver<ToReader>,
    events: &mpsc::Sender<ConnEvent>,
) -> Result<Box<dyn FrameOpener>, CloseReason> {
    loop {
        let frame = reader.read_frame(HANDSHAKE_LEN_MAX).await?.ok_or(CloseReason::Peer)?;
        let event = ConnEvent::HandshakeFrame(conn, frame.freeze());
        events.send(event).await.map_err(|_| CloseReason::Asked)?;
        match mail.recv().await {
            Some(ToReader::Proceed | ToReader::Mix(_)) => {}
            Some(ToReader::Established(opener)) => return Ok(opener),
            None => return Err(CloseReason::Asked),
        }
    }
}
