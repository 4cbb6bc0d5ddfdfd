//! The host's own sockets of `dns.listen`, UDP and TCP.
//!
//! Bounds: [`QUESTIONS_MAX`] questions in work on each UDP socket, [`STREAMS_MAX`] streams
//! on each TCP socket; beyond them datagrams are dropped and connections closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::DnsConfig;
use super::responder::{Responder, Transport};
use super::stream::{IDLE, frame, next_message};

/// Questions in work on one UDP socket.
const QUESTIONS_MAX: usize = 256;
/// Streams open on one TCP socket.
const STREAMS_MAX: usize = 64;
/// Bytes of the largest question.
const QUESTION_BYTES_MAX: usize = 65_535;

/// The responder's sockets; dropping it closes them.
pub struct DnsHandle {
    listen: Vec<SocketAddr>,
    /// Held for its end: dropping the set stops its tasks.
    _tasks: JoinSet<()>,
}

impl DnsHandle {
    /// Opens the host's sockets of `config`. Needs a tokio runtime.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub fn listen(
        config: &DnsConfig,
        responder: &Arc<Responder>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let mut tasks = JoinSet::new();
        let mut listen = Vec::new();
        for address in &config.listen {
            let (udp, tcp) = bind(*address).map_err(|error| (*address, error))?;
            listen.push(tcp.local_addr().unwrap_or(*address));
            tasks.spawn(until(stopping.clone(), serve_udp(Arc::clone(responder), Arc::new(udp))));
            tasks.spawn(until(stopping.clone(), serve_tcp(Arc::clone(responder), tcp)));
        }
        Ok(Self { listen, _tasks: tasks })
    }

    /// Host addresses that answer besides the link's.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.listen
    }
}

/// Both sockets of an address: where the port is 0, the same one for both.
fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let tcp = std::net::TcpListener::bind(address)?;
    let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    Ok((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?))
}

/// Runs until the daemon stops.
async fn until(mut stopping: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = work => {}
    }
}

/// Answers datagrams.
async fn serve_udp(responder: Arc<Responder>, socket: Arc<UdpSocket>) {
    let pending = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        while tasks.try_join_next().is_some() {}
        // Errors are those of earlier answers (ICMP): the socket itself stays good.
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(permit) = Arc::clone(&pending).try_acquire_owned() else { continue };
        let (responder, socket) = (Arc::clone(&responder), Arc::clone(&socket));
        let question = buffer[..length].to_vec();
        tasks.spawn(async move {
            if let Some(answer) = responder.answer(&question, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, asker).await
            {
                tracing::debug!(%error, "a DNS answer was not sent");
            }
            drop(permit);
        });
    }
}

/// Answers streams.
async fn serve_tcp(responder: Arc<Responder>, listener: TcpListener) {
    let pending = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, usually: wait for some to come back.
                tracing::warn!(%error, "dns.listen cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&pending).try_acquire_owned() else { continue };
        let responder = Arc::clone(&responder);
        tasks.spawn(async move {
            let ended = serve_stream(&responder, stream).await;
            tracing::trace!(clean = ended.is_ok(), "a DNS stream ended");
            drop(permit);
        });
    }
}

/// Answers one stream until it ends or is silent.
async fn serve_stream(responder: &Responder, mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(question) = next_message(&mut buffer) {
            let answer = responder.answer(&question, Transport::Tcp).await;
            if let Some(framed) = answer.as_deref().and_then(frame) {
                timeout(IDLE, stream.write_all(&framed)).await??;
            }
        }
        if timeout(IDLE, stream.read_buf(&mut buffer)).await?? == 0 {
            return Ok(());
        }
    }
}
