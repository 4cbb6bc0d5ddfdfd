//! One running service: listens, and joins each caller to the local service. The local
//! service is connected before the caller is answered, so that its refusal is the caller's.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tarnet_core::crypto::ServiceId;
use tarnet_core::session::Refusal;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::file::{Allowed, LocalAddress, Protocol, Service};
use super::{CONNECTIONS_MAX, LOCAL_TIME_MAX, RETRY_MAX, RETRY_MIN, proxy, publish};
use crate::admin::AdminError;
use crate::channel::Channel;
use crate::handle::{Decision, Incoming, ListenError, ListenRequest, Listener, NodeHandle};
use crate::pump::{self, Broken, Traffic};
use crate::transport::look_up;

/// State of a service that is as it should be.
const LISTENING: &str = "listening";
/// Callers that `expose list` names.
const CALLERS_SHOWN_MAX: usize = 64;

/// How a service does, for `expose list`.
#[derive(Default)]
pub(super) struct Status {
    /// Empty until the first attempt to listen has ended.
    state: watch::Sender<String>,
    /// Connections now.
    pub(super) connections: AtomicUsize,
    /// Those of them whose identity is proven, and how often each is connected.
    callers: Mutex<BTreeMap<ServiceId, usize>>,
    /// Bytes that went through.
    pub(super) traffic: Traffic,
}

impl Status {
    /// What it does, or what is wrong.
    pub(super) fn state(&self) -> String {
        self.state.borrow().clone()
    }

    /// Waits until an attempt to start has ended, well or badly.
    pub(super) async fn settled(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|state| !state.is_empty()).await;
    }

    /// A service that waits is about to try again.
    pub(super) fn begin_again(&self) {
        self.state.send_if_modified(|state| {
            let waits = state != LISTENING;
            if waits {
                state.clear();
            }
            waits
        });
    }

    /// Who is connected.
    pub(super) fn callers(&self) -> Vec<String> {
        let callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.keys().take(CALLERS_SHOWN_MAX).map(ToString::to_string).collect()
    }

    /// A connection has begun, or ended.
    fn count(&self, caller: Option<ServiceId>, begun: bool) {
        if begun {
            self.connections.fetch_add(1, Ordering::Relaxed);
        } else {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(caller) = caller else { return };
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let left = callers.entry(caller).or_default();
        *left = if begun { *left + 1 } else { left.saturating_sub(1) };
        if *left == 0 {
            callers.remove(&caller);
        }
    }

    /// Notes what it does.
    fn set(&self, state: impl Into<String>) {
        self.state.send_replace(state.into());
    }
}

/// What a service's tasks share.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) handle: NodeHandle,
    pub(super) service: Arc<Service>,
    pub(super) status: Arc<Status>,
    /// Connections of all services.
    pub(super) all: Arc<Semaphore>,
    /// Changes when something did that may let a service start which could not: pauses end.
    pub(super) retry: watch::Receiver<()>,
}

/// Pauses between attempts, each twice as long as the last, which end early when there is a reason to try at once.
struct Pauses {
    retry: watch::Receiver<()>,
    pause: Duration,
}

impl Pauses {
    /// The shortest pause first.
    fn new(serving: &Serving) -> Self {
        Self { retry: serving.retry.clone(), pause: RETRY_MIN }
    }

    /// An attempt begins: reasons to try again count from now on.
    fn attempt(&mut self) {
        self.retry.mark_unchanged();
    }

    /// Waits before the next attempt.
    async fn rest(&mut self) {
        let early = timeout(self.pause, self.retry.changed()).await.is_ok_and(|changed| changed.is_ok());
        self.pause = if early { RETRY_MIN } else { (self.pause * 2).min(RETRY_MAX) };
    }
}

/// Keeps a service running until the task is aborted or the node stops.
pub(super) async fn run(serving: Serving) {
    let mut pauses = Pauses::new(&serving);
    loop {
        pauses.attempt();
        match listen(&serving).await {
            Ok(listener) => {
                pauses.pause = RETRY_MIN;
                tokio::select! {
                    () = accept(&serving, listener) => serving.status.set("starting again: the node closed the listener"),
                    () = keep_announced(&serving) => {}
                }
            }
            Err(NotListening::Node(ListenError::Stopping)) => return,
            Err(why) => {
                tracing::warn!(service = serving.service.name, "not exposed for now: {why}");
                serving.status.set(format!("waiting: {why}"));
            }
        }
        pauses.rest().await;
    }
}

/// Why a service does not listen.
#[derive(Debug, thiserror::Error)]
enum NotListening {
    /// The node says so.
    #[error("{0}")]
    Node(ListenError),
    /// A name in the allow list leads nowhere now. Nobody gets in before it does: an empty list would mean anyone.
    #[error("`allow`: {0:?} cannot be resolved: {1}")]
    Allow(String, String),
}

/// Resolves the allow list and listens.
async fn listen(serving: &Serving) -> Result<Listener, NotListening> {
    let service = &serving.service;
    let mut allow = Vec::with_capacity(service.allow.len());
    for allowed in &service.allow {
        allow.push(match allowed {
            Allowed::Service(id) => *id,
            Allowed::Name(name) => {
                let unresolved = |why: String| NotListening::Allow(name.clone(), why);
                let found = serving
                    .handle
                    .resolve(&service.identity, name)
                    .await
                    .map_err(|error| unresolved(error.to_string()))?;
                found.service.ok_or_else(|| unresolved("it leads to no identity".into()))?
            }
        });
    }
    let request = ListenRequest {
        identity: service.identity.clone(),
        label: service.subdomain.clone(),
        port: service.port.clone(),
        mode: service.protocol.mode(),
        allow,
        await_caller: service.proxy_protocol,
        connections_max: service.connections_max,
    };
    serving.handle.listen(request).await.map_err(NotListening::Node)
}

/// Announces the service, trying until it is; then waits for ever.
async fn keep_announced(serving: &Serving) {
    let mut pauses = Pauses::new(serving);
    if !serving.service.publish {
        serving.status.set(LISTENING);
        return std::future::pending().await;
    }
    loop {
        pauses.attempt();
        let Err(error) = publish::announce(&serving.handle, &serving.service).await else { break };
        tracing::warn!(service = serving.service.name, "not announced: {error}");
        serving.status.set(format!("listening, not announced: {error}"));
        // Refused: somebody set a record by hand, which wins for as long as it is there.
        if matches!(error, AdminError::Refused(_)) {
            pauses.pause = RETRY_MAX;
        }
        pauses.rest().await;
    }
    serving.status.set(LISTENING);
    std::future::pending().await
}

/// Answers callers until the node closes the listener.
async fn accept(serving: &Serving, mut listener: Listener) {
    let most = if serving.service.connections_max == 0 { CONNECTIONS_MAX } else { serving.service.connections_max };
    let own = Arc::new(Semaphore::new(most));
    while let Some(incoming) = listener.incoming.recv().await {
        let permits = (Arc::clone(&own).try_acquire_owned(), Arc::clone(&serving.all).try_acquire_owned());
        let (Ok(own), Ok(all)) = permits else {
            let _ = incoming.decide.send(Decision::Refuse(Refusal::TooMany));
            continue;
        };
        let serving = serving.clone();
        tokio::spawn(async move {
            let caller = incoming.caller;
            serving.status.count(caller, true);
            if let Err(error) = answer(&serving, incoming).await {
                tracing::debug!(service = serving.service.name, %error, "a connection broke");
            }
            serving.status.count(caller, false);
            drop((own, all));
        });
    }
}

/// A connected local socket.
enum LocalSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
}

/// Connects the local service, answers the caller, and carries their bytes.
async fn answer(serving: &Serving, incoming: Incoming) -> Result<(), Broken> {
    let Incoming { caller, decide } = incoming;
    let local = match connect_local(&serving.service).await {
        Ok(local) => local,
        Err(refusal) => {
            tracing::debug!(service = serving.service.name, "{refusal}");
            let _ = decide.send(Decision::Refuse(refusal));
            return Ok(());
        }
    };
    let (deliver, delivered) = oneshot::channel();
    if decide.send(Decision::Accept(deliver)).is_err() {
        return Ok(());
    }
    let Ok(channel) = delivered.await else { return Ok(()) };
    join(serving, local, channel, caller).await
}

/// Carries bytes between the local service and the caller.
async fn join(
    serving: &Serving,
    local: LocalSocket,
    channel: Channel,
    caller: Option<ServiceId>,
) -> Result<(), Broken> {
    let header = serving.service.proxy_protocol.then(|| proxy::header(caller.as_ref()));
    let traffic = &serving.status.traffic;
    match local {
        LocalSocket::Tcp(mut socket) => {
            greet(&mut socket, header).await?;
            pump::pump(socket, channel, traffic).await
        }
        LocalSocket::Unix(mut socket) => {
            greet(&mut socket, header).await?;
            pump::pump(socket, channel, traffic).await
        }
        LocalSocket::Udp(socket) => pump::pump_datagrams(socket, channel, traffic).await,
    }
}

/// Writes the PROXY header, if the service wants one.
async fn greet(socket: &mut (impl AsyncWriteExt + Unpin), header: Option<Vec<u8>>) -> io::Result<()> {
    match header {
        Some(header) => socket.write_all(&header).await,
        None => Ok(()),
    }
}

/// Connects the local service, within [`LOCAL_TIME_MAX`].
async fn connect_local(service: &Service) -> Result<LocalSocket, Refusal> {
    let connected = timeout(LOCAL_TIME_MAX, open_local(service)).await;
    match connected {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Err(Refusal::LocalRefused)
        }
        Ok(Err(_)) | Err(_) => Err(Refusal::LocalUnreachable),
    }
}

/// Opens a socket to the local service.
async fn open_local(service: &Service) -> io::Result<LocalSocket> {
    let (host, port) = match &service.local {
        LocalAddress::Unix(path) => return UnixStream::connect(path).await.map(LocalSocket::Unix),
        LocalAddress::Inet(host, port) => (host, *port),
    };
    let addresses = look_up(host, port).await.map_err(io::Error::other)?;
    match service.protocol {
        Protocol::Tcp => {
            let socket = TcpStream::connect(addresses.as_slice()).await?;
            socket.set_nodelay(true)?;
            Ok(LocalSocket::Tcp(socket))
        }
        Protocol::Udp => {
            let first = addresses.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let any: std::net::IpAddr = if first.is_ipv6() {
                std::net::Ipv6Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv4Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(first).await?;
            Ok(LocalSocket::Udp(socket))
        }
    }
}
