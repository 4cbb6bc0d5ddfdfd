//! Listening sockets, and the loop that accepts from each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::conn::{Origin, Transport};
use super::limits::{ACCEPT_PAUSE, ACCEPTED_EXTRA, BACKLOG_LEN_MAX};

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(source))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// What to do about it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program (another tarnetd?) has this port: stop it or choose another one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::Unsupported => "; this machine has that address family switched off",
        _ => "",
    }
}

/// Opens one listening socket. An IPv6 one takes no IPv4, so that both wildcards fit side by side.
///
/// # Errors
/// See [`ListenError`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_LEN_MAX)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| ListenError { address, source: no_such_family(source) })
}

/// EAFNOSUPPORT as a kind of its own, so that callers can go on with the other family.
fn no_such_family(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EAFNOSUPPORT) {
        return io::Error::new(io::ErrorKind::Unsupported, "address family not supported");
    }
    error
}

/// Opens all of `addresses`. A wildcard or loopback address of a family that this machine lacks is left out with a
/// warning while another one works.
///
/// # Errors
/// An address cannot be listened on.
pub fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    let mut lacking = None;
    for address in addresses {
        match bind(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if no_family(address, &error.source) => {
                tracing::warn!("{error}");
                lacking = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match lacking {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Whether `error` only says that this machine lacks the family of a wildcard or loopback address.
fn no_family(address: &SocketAddr, error: &io::Error) -> bool {
    let everywhere = address.ip().is_unspecified() || address.ip().is_loopback();
    everywhere && matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable)
}

/// Room for accepted connections: the configured links and some for handshakes. Beyond, new ones are closed at once.
#[must_use]
pub fn accepted_budget(max_inbound: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(max_inbound + ACCEPTED_EXTRA))
}

/// Accepts until the task is aborted.
#[must_use]
pub fn serve(listener: TcpListener, transport: Transport, budget: Arc<Semaphore>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, source)) => match Arc::clone(&budget).try_acquire_owned() {
                    Ok(permit) => drop(transport.start(transport.tcp(stream), Origin::Accepted(source), permit)),
                    Err(_) => tracing::debug!("too many accepted connections: one more is closed"),
                },
                Err(error) if transient(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// Errors of the connection that was about to be accepted, not of the listener. accept(2).
fn transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
