//! `connect` and `listen`: the connection is upgraded to a byte stream. In message modes
//! every message has a 4-byte big-endian length before it.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tarnet_api as api;
use tarnet_core::session::{Mode, Port, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use super::Context;
use super::answer::{Answer, Bad, object};
use super::{guard, target};
use crate::channel::{Channel, ChannelReader, ChannelWriter};
use crate::handle::{ConnectRequest, Decision, ListenRequest, Listener};

/// Bytes read at once.
const CHUNK_LEN: usize = 64 * 1024;

/// Bytes of the longest message of any mode.
const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// The answer that begins the byte stream.
fn switching() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert("upgrade", HeaderValue::from_static("tarnet"));
    answer
}

/// Parses port and mode.
fn port_and_mode(port: &str, mode: Option<&str>) -> Result<(Port, Mode), Bad> {
    let port = Port::new(port).map_err(|error| Bad::usage(error.to_string()))?;
    let mode =
        mode.unwrap_or("ro").parse().map_err(|error: tarnet_core::session::ModeError| Bad::usage(error.to_string()))?;
    Ok((port, mode))
}

/// `POST /v1/connect`.
pub async fn connect(context: &Context, mut request: Request<Incoming>) -> Result<Answer, Bad> {
    let upgrade = hyper::upgrade::on(&mut request);
    let wanted: api::ConnectRequest = object(request).await?;
    let (port, mode) = port_and_mode(&wanted.port, wanted.mode.as_deref())?;
    if wanted.early.len() > api::EARLY_LEN_MAX {
        return Err(Bad::usage(format!("first data has at most {} bytes", api::EARLY_LEN_MAX)));
    }
    let request = ConnectRequest {
        acting: guard::acting(context, wanted.identity.as_deref())?,
        target: target::parse(&wanted.target),
        port,
        mode,
        early: wanted.early.into(),
    };
    let channel = context.node.connect(request).await?;
    tokio::spawn(join(upgrade, channel, mode));
    Ok(switching())
}

/// `POST /v1/listen`: serves one connection.
pub async fn listen(context: &Context, mut request: Request<Incoming>) -> Result<Answer, Bad> {
    let upgrade = hyper::upgrade::on(&mut request);
    let wanted: api::ListenRequest = object(request).await?;
    let (port, mode) = port_and_mode(&wanted.port, wanted.mode.as_deref())?;
    let request = ListenRequest {
        identity: guard::acting(context, Some(&wanted.identity))?,
        label: None,
        port,
        mode,
        allow: Vec::new(),
        await_caller: false,
        connections_max: 1,
    };
    let listener = context.node.listen(request).await?;
    tokio::spawn(serve_one(upgrade, listener, mode));
    Ok(switching())
}

/// Waits for a connection or for the client to leave, then serves the connection alone.
async fn serve_one(upgrade: OnUpgrade, mut listener: Listener, mode: Mode) {
    let Ok(stream) = upgrade.await else { return };
    let (mut from, to) = tokio::io::split(TokioIo::new(stream));
    let mut early = BytesMut::new();
    let incoming = loop {
        tokio::select! {
            incoming = listener.incoming.recv() => break incoming,
            // What the user types before anybody connects waits here, up to a chunk.
            read = from.read_buf(&mut early), if early.len() < CHUNK_LEN => {
                if read.is_err() {
                    return;
                }
                if read.is_ok_and(|n| n == 0) {
                    break listener.incoming.recv().await;
                }
            }
        }
    };
    let Some(incoming) = incoming else { return };
    let (accepted, channel) = oneshot::channel();
    if incoming.decide.send(Decision::Accept(accepted)).is_err() {
        return;
    }
    let Ok(channel) = channel.await else { return };
    refuse_others(listener);
    pump(from, to, channel, mode, early).await;
}

/// Whoever comes second is told so rather than kept waiting.
fn refuse_others(mut listener: Listener) {
    listener.incoming.close();
    while let Ok(other) = listener.incoming.try_recv() {
        let _ = other.decide.send(Decision::Refuse(Refusal::TooMany));
    }
}

/// Joins an upgraded connection to a channel.
async fn join(upgrade: OnUpgrade, channel: Channel, mode: Mode) {
    let Ok(stream) = upgrade.await else { return };
    let (from, to) = tokio::io::split(TokioIo::new(stream));
    pump(from, to, channel, mode, BytesMut::new()).await;
}

/// Moves bytes both ways until both directions have ended.
async fn pump(
    from: ReadHalf<TokioIo<Upgraded>>,
    to: WriteHalf<TokioIo<Upgraded>>,
    channel: Channel,
    mode: Mode,
    early: BytesMut,
) {
    let stream = mode == Mode::ReliableOrdered;
    let up = tokio::spawn(up(from, channel.writer, stream, early));
    match down(to, channel.reader, stream).await {
        // The far side has ended its half; ours ends when the client closes, with what it had said before.
        Down::Ended => drop(up.await),
        // Nobody is there to read: the far side learns it by a reset.
        Down::ClientGone => up.abort(),
    }
}

/// Client to channel.
async fn up(mut from: ReadHalf<TokioIo<Upgraded>>, mut writer: ChannelWriter, stream: bool, mut buffer: BytesMut) {
    loop {
        let sent = if stream {
            send_all(&mut writer, &mut buffer).await
        } else {
            send_messages(&mut writer, &mut buffer).await
        };
        if sent.is_none() {
            return;
        }
        buffer.reserve(CHUNK_LEN);
        match from.read_buf(&mut buffer).await {
            Ok(0) => {
                return writer.finish().await;
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Sends what is there as a stream; `None` when the channel is broken.
async fn send_all(writer: &mut ChannelWriter, buffer: &mut BytesMut) -> Option<()> {
    if buffer.is_empty() { Some(()) } else { writer.send(buffer.split().freeze()).await.ok() }
}

/// Sends whole messages; `None` when the channel is broken or a length makes no sense.
async fn send_messages(writer: &mut ChannelWriter, buffer: &mut BytesMut) -> Option<()> {
    while let Some(head) = buffer.first_chunk::<4>() {
        let len = u32::from_be_bytes(*head) as usize;
        if len > MESSAGE_LEN_MAX {
            return None;
        }
        if buffer.len() < 4 + len {
            break;
        }
        buffer.advance(4);
        writer.send(buffer.split_to(len).freeze()).await.ok()?;
    }
    Some(())
}

/// How the direction to the client ended.
enum Down {
    /// The far side finished or broke; the client was told.
    Ended,
    /// The client does not take it.
    ClientGone,
}

/// Channel to client.
async fn down(mut to: WriteHalf<TokioIo<Upgraded>>, mut reader: ChannelReader, stream: bool) -> Down {
    while let Ok(Some(chunk)) = reader.recv().await {
        let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let head = if stream { Ok(()) } else { to.write_all(&len.to_be_bytes()).await };
        if head.is_err() || to.write_all(&chunk).await.is_err() {
            return Down::ClientGone;
        }
    }
    let _ = to.shutdown().await;
    Down::Ended
}
