//! A node in place of the real one: every name under `alice` is a service, and the port says what it does.

use std::time::Duration;

use bytes::Bytes;
use tarnet_core::crypto::ServiceId;
use tarnet_core::names::Record;
use tarnet_core::session::Refusal;
use tokio::sync::mpsc;

use crate::channel::{Channel, ChannelEnd, ChannelError, ChannelKey, QUEUE_BYTES_MAX, channel};
use crate::handle::{ConnectError, Pong, Request, ResolveError, Resolved, ResolvedRecord, Target};

/// Gives back what it gets.
pub const ECHO: u16 = 7;
/// Takes everything.
pub const SINK: u16 = 9;
/// Says [`GREETING`] and finishes.
pub const GREETER: u16 = 13;
/// Sends for ever.
pub const SOURCE: u16 = 19;
/// Refuses.
pub const REFUSED: u16 = 81;
/// Does not let us.
pub const FORBIDDEN: u16 = 82;
/// Cannot be reached.
pub const NO_ROUTE: u16 = 83;
/// Its name is gone.
pub const NO_NAME: u16 = 84;
/// Does not answer.
pub const TIMEOUT: u16 = 85;
/// Takes 300 ms to open, then echoes.
pub const SLOW: u16 = 86;
/// Opens, and loses the way with the first byte.
pub const LOST: u16 = 87;

/// What [`GREETER`] says.
pub const GREETING: &[u8] = b"good day";
/// Wake-ups that may wait for a channel's task.
const KICKS_LEN: usize = 16;
/// Bytes of a chunk that [`SOURCE`] sends.
const CHUNK: usize = 64 * 1024;

/// Answers a node's requests.
pub async fn node(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Resolve { name, reply, .. } => {
                let service = ServiceId([7; 32]);
                let known = name == "alice" || (name.ends_with(".alice") && name != "nope.alice");
                let records = vec![ResolvedRecord { record: Record::Identity(service), ttl_s: 60 }];
                let resolved =
                    Resolved { name, zone: service, records, service: Some(service), label: None, trace: Vec::new() };
                let _ = reply.send(if known { Ok(resolved) } else { Err(ResolveError::NoSuchName) });
            }
            Request::Connect { request, reply } => {
                let port: u16 = request.port.as_str().parse().unwrap();
                tokio::spawn(async move {
                    if port == SLOW {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    let _ = reply.send(open(port));
                });
            }
            Request::Ping { target, reply, .. } => {
                let dead = target == Target::Name("dead.alice".into());
                let pong = Pong { rtt: Duration::from_millis(1), hops: 1 };
                let _ = reply.send(if dead { Err(ConnectError::NoRoute) } else { Ok(pong) });
            }
            Request::Listen { .. } | Request::Control(_) => {}
        }
    }
}

/// What a port does.
fn open(port: u16) -> Result<Channel, ConnectError> {
    let error = match port {
        REFUSED => ConnectError::Refused(Refusal::NoListener),
        FORBIDDEN => ConnectError::Refused(Refusal::NotAllowed),
        NO_ROUTE => ConnectError::NoRoute,
        NO_NAME => ConnectError::NoSuchName,
        TIMEOUT => ConnectError::Timeout,
        _ => {
            let (kicks, kicked) = crate::channel::Kicks::new(KICKS_LEN);
            let (front, end) = channel(ChannelKey(1), kicks);
            tokio::spawn(serve(port, end, kicked));
            return Ok(front);
        }
    };
    Err(error)
}

/// The far end of a channel.
async fn serve(port: u16, mut end: ChannelEnd, mut kicked: mpsc::Receiver<ChannelKey>) {
    let chunk = Bytes::from(vec![1; CHUNK]);
    if port == GREETER {
        end.give(Bytes::from_static(GREETING));
        end.finish();
    }
    loop {
        match port {
            SOURCE => {
                // As much as the queue holds, and the question that finds it full, once per wake-up: where nobody reads any more
                // there is always room.
                for _ in 0..=QUEUE_BYTES_MAX / CHUNK {
                    if end.room() > 0 {
                        end.give(chunk.clone());
                    }
                }
            }
            LOST => {
                if end.take().is_some() {
                    return end.fail(ChannelError::Lost);
                }
            }
            SINK | GREETER => while end.take().is_some() {},
            _ => {
                while end.room() > 0 {
                    let Some(chunk) = end.take() else { break };
                    end.give(chunk);
                }
            }
        }
        if end.finished() {
            return end.finish();
        }
        if end.aborted() || kicked.recv().await.is_none() {
            return;
        }
    }
}
