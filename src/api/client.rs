//! The control socket's client: HTTP/1.1 over the Unix socket, JSON bodies, one
//! connection per request; `listen` and `connect` upgrade theirs to a byte stream.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::Failure;

/// Bytes of the largest answer: 65,536 DHT blocks' worth of listing never comes near.
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;

/// Why a request failed. The command line's exit codes come from here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No daemon listens on the socket.
    #[error("no daemon answers on {}: {source}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The daemon said no.
    #[error("{}", .0.error)]
    Refused(Failure),
    /// There is no such thing.
    #[error("{}", .0.error)]
    NotFound(Failure),
    /// It took too long.
    #[error("{}", .0.error)]
    TimedOut(Failure),
    /// The request itself was wrong.
    #[error("{}", .0.error)]
    Usage(Failure),
    /// The connection broke, or the answer was not understood.
    #[error("the daemon's answer was not understood: {0}")]
    Broken(String),
}

impl Error {
    /// What to do about it, one line; empty when there is nothing to say.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::NoDaemon { .. } => "start it with `tarnetd`, or name its socket with --socket",
            Self::Refused(failure) | Self::NotFound(failure) | Self::TimedOut(failure) | Self::Usage(failure) => {
                &failure.hint
            }
            Self::Broken(_) => "are the daemon and this program of one version?",
        }
    }
}

/// Anything that a connection or its answer can fail with.
fn broken(error: impl std::fmt::Display) -> Error {
    Error::Broken(error.to_string())
}

/// A client for one socket. Holds no connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client for the daemon behind `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends one request and returns the response's head and connection.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        upgrade: bool,
    ) -> Result<Response<hyper::body::Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| Error::NoDaemon { path: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // The connection's task ends with the response's body or the upgraded stream.
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).header("host", "tarnet");
        if upgrade {
            request = request.header("connection", "upgrade").header("upgrade", "tarnet");
        }
        let request = request.body(Full::new(body)).map_err(broken)?;
        sender.send_request(request).await.map_err(broken)
    }

    /// Sends a request and returns the raw body of a good answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn raw(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let response = self.send(method, path, body, false).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LEN_MAX).collect().await.map_err(broken)?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(failure(status, &body)) }
    }

    /// `GET` a JSON object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let body = self.raw(Method::GET, path, Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(broken)
    }

    /// Sends a JSON object and reads one back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(broken)?;
        let body = self.raw(method, path, body.into()).await?;
        serde_json::from_slice(&body).map_err(broken)
    }

    /// Upgrades a request to a byte stream: `listen` and `connect`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upgrade(&self, path: &str, body: &impl Serialize) -> Result<TokioIo<Upgraded>, Error> {
        let body = serde_json::to_vec(body).map_err(broken)?;
        let response = self.send(Method::POST, path, body.into(), true).await?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let body = Limited::new(response.into_body(), ANSWER_LEN_MAX).collect().await.map_err(broken)?.to_bytes();
            return Err(failure(status, &body));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(broken)
    }
}

/// The error of a bad answer.
fn failure(status: StatusCode, body: &[u8]) -> Error {
    let failure: Failure = serde_json::from_slice(body)
        .unwrap_or_else(|_| Failure { error: format!("the daemon answered {status}"), hint: String::new() });
    match status {
        StatusCode::NOT_FOUND => Error::NotFound(failure),
        StatusCode::GATEWAY_TIMEOUT => Error::TimedOut(failure),
        StatusCode::BAD_REQUEST => Error::Usage(failure),
        _ => Error::Refused(failure),
    }
}

/// Percent-encodes one segment of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes [`segment`]; `None` for text that it cannot have made.
#[must_use]
pub fn unsegment(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&pair).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_round_trip() {
        for text in ["blog.alice", "a b/c?d", "ü%", "@"] {
            assert!(!segment(text).contains(['/', '?', ' ']));
            assert_eq!(unsegment(&segment(text)).as_deref(), Some(text));
        }
        assert_eq!(unsegment("%zz"), None);
        assert_eq!(unsegment("%4"), None);
    }
}
