//! `tarnet bench`: throughput and latency to a node that allows it. The client opens a
//! channel to the port [`PORT`], sends one byte per round trip for the latency, then a
//! byte count, and reads as many bytes back.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tarnet_api as api;
use tarnet_core::session::{Mode, Port};
use tokio::sync::oneshot;

use super::Context;
use super::answer::Bad;
use super::{guard, target};
use crate::channel::{Channel, ChannelError};
use crate::handle::{ConnectRequest, Decision, ListenRequest, NodeHandle};

/// The port that answers.
const PORT: &str = "tarnet-bench";

/// Round trips measured.
const PINGS: usize = 200;

/// Bytes moved: enough to fill the window for a while on a fast path.
const BYTES: u64 = 256 * 1024 * 1024;

/// Time after which a slow path's transfer is cut and counted as it is.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a chunk that is sent.
const CHUNK_LEN: usize = 64 * 1024;

/// Runs the measurement.
pub async fn run(context: &Context, request: api::ConnectRequest) -> Result<api::Bench, Bad> {
    let connect = ConnectRequest {
        acting: guard::acting(context, request.identity.as_deref())?,
        target: target::parse(&request.target),
        port: Port::new(PORT).map_err(|error| Bad::usage(error.to_string()))?,
        mode: Mode::ReliableOrdered,
        early: Bytes::new(),
    };
    let mut channel = context.node.connect(connect).await?;
    measure(&mut channel).await.map_err(|error| Bad::refused(error.to_string(), ""))
}

/// Latency, then throughput.
#[allow(clippy::cast_precision_loss)]
async fn measure(channel: &mut Channel) -> Result<api::Bench, ChannelError> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let sent = Instant::now();
        channel.writer.send(Bytes::from_static(&[0])).await?;
        channel.reader.recv().await?.ok_or(ChannelError::Reset)?;
        times.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let mut order = BytesMut::from(&[1u8][..]);
    order.extend_from_slice(&BYTES.to_be_bytes());
    let started = Instant::now();
    channel.writer.send(order.freeze()).await?;
    let mut bytes = 0;
    while bytes < BYTES && started.elapsed() < TIME_MAX {
        bytes += channel.reader.recv().await?.ok_or(ChannelError::Reset)?.len() as u64;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(api::Bench {
        bytes,
        seconds,
        mbit_per_s: bytes as f64 * 8.0 / 1e6 / seconds,
        rtt_ms: api::Percentiles { p50: times[PINGS / 2], p99: times[PINGS * 99 / 100] },
    })
}

/// Answers the benchmarks of others, for an identity (or `peer`), until the node stops.
pub async fn serve(node: NodeHandle, identity: String) {
    let Ok(port) = Port::new(PORT) else { return };
    let request = ListenRequest {
        identity,
        label: None,
        port,
        mode: Mode::ReliableOrdered,
        allow: Vec::new(),
        await_caller: false,
        connections_max: 8,
    };
    let Ok(mut listener) = node.listen(request).await else { return };
    while let Some(incoming) = listener.incoming.recv().await {
        let (accepted, channel) = oneshot::channel();
        if incoming.decide.send(Decision::Accept(accepted)).is_ok() {
            tokio::spawn(async move {
                if let Ok(channel) = channel.await {
                    let _ = answer(channel).await;
                }
            });
        }
    }
}

/// Echoes single bytes, then serves one bulk order.
async fn answer(mut channel: Channel) -> Result<(), ChannelError> {
    let mut pending = BytesMut::new();
    while let Some(chunk) = channel.reader.recv().await? {
        pending.extend_from_slice(&chunk);
        while let Some(first) = pending.first().copied() {
            if first == 0 {
                let echo = pending.split_to(1).freeze();
                channel.writer.send(echo).await?;
            } else if let Some(count) = pending.get(1..9).and_then(|count| count.try_into().ok()) {
                return bulk(&mut channel, u64::from_be_bytes(count).min(BYTES)).await;
            } else {
                break;
            }
        }
    }
    channel.writer.finish().await;
    Ok(())
}

/// Sends `count` bytes.
async fn bulk(channel: &mut Channel, mut count: u64) -> Result<(), ChannelError> {
    let chunk = Bytes::from(vec![0x5a; CHUNK_LEN]);
    while count > 0 {
        let len = usize::try_from(count).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        channel.writer.send(chunk.slice(..len)).await?;
        count -= len as u64;
    }
    channel.writer.finish().await;
    // The reader tells when the far side has everything.
    while channel.reader.recv().await?.is_some() {}
    Ok(())
}
