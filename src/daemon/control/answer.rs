//! Answers and errors of the control socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarnet_api::Failure;

use super::BODY_LEN_MAX;
use crate::admin::AdminError;
use crate::callers::Rights;
use crate::handle::{ConnectError, ListenError, ResolveError};

/// A response of ours.
pub type Answer = Response<Full<Bytes>>;

/// A bad answer: status, what and why, and what to do.
#[derive(Debug)]
pub struct Bad {
    status: StatusCode,
    error: String,
    hint: String,
}

impl Bad {
    /// The request makes no sense.
    pub fn usage(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, "")
    }

    /// There is no such thing.
    pub fn not_found(error: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, hint)
    }

    /// It is refused.
    pub fn refused(error: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::CONFLICT, error, hint)
    }

    /// It took too long.
    pub fn timed_out(error: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, error, hint)
    }

    /// Whether it says that something is not there, or did not come.
    pub fn may_be_the_clock(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GATEWAY_TIMEOUT)
    }

    /// Says more of why; the hint is for that then.
    pub fn and(mut self, why: Option<String>) -> Self {
        if let Some(why) = why {
            self.error = format!("{}; {why}", self.error);
            self.hint = crate::doctor::SET_CLOCK.into();
        }
        self
    }

    /// The caller may not, with these rights.
    pub fn foreign(rights: Rights) -> Self {
        let (why, hint) = match rights {
            Rights::Own => ("only root and the daemon's own user may do that", "run the command as that user"),
            Rights::All | Rights::Shared => (
                "no identity of this node is mapped to this user",
                "run the command as root, or map an identity to the user in [tun] users",
            ),
        };
        Self::new(StatusCode::FORBIDDEN, why, hint)
    }

    /// The daemon is stopping.
    pub fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping", "")
    }

    /// A bad answer with any status.
    fn new(status: StatusCode, error: impl Into<String>, hint: &str) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }

    /// As a response.
    pub fn answer(self) -> Answer {
        let body = Failure { error: self.error, hint: self.hint };
        response(self.status, serde_json::to_vec(&body).unwrap_or_default().into())
    }
}

impl From<AdminError> for Bad {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NotFound(what) => Self::not_found(what, ""),
            AdminError::Refused(why) => Self::refused(why, ""),
            AdminError::TimedOut => Self::timed_out("timed out", "are there links? see `tarnet status`"),
            AdminError::Disk(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "is the disk full or read-only?")
            }
        }
    }
}

impl From<ResolveError> for Bad {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::UnknownIdentity => Self::not_found(error.to_string(), "see `tarnet identity list`"),
            ResolveError::BadName => Self::usage(error.to_string()),
            ResolveError::NoSuchName => Self::not_found(
                error.to_string(),
                "`tarnet tns resolve --trace` shows where it ends; petnames are in `tarnet tns list`",
            ),
            ResolveError::Loop => Self::refused(error.to_string(), "`tarnet tns resolve --trace` shows the steps"),
            ResolveError::Timeout => Self::timed_out(error.to_string(), "are there links? see `tarnet status`"),
            ResolveError::Stopping => Self::stopping(),
        }
    }
}

impl From<ConnectError> for Bad {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::UnknownIdentity => ResolveError::UnknownIdentity.into(),
            ConnectError::NoSuchName => ResolveError::NoSuchName.into(),
            ConnectError::NameTimeout => ResolveError::Timeout.into(),
            ConnectError::NoRoute => {
                Self::not_found(error.to_string(), "is the node up and linked? see `tarnet routes` there and here")
            }
            ConnectError::Refused(_) => {
                Self::refused(error.to_string(), "is the service listening, in this mode, and are you allowed?")
            }
            ConnectError::Timeout => Self::timed_out(error.to_string(), ""),
            ConnectError::TooMany => Self::refused(error.to_string(), ""),
            ConnectError::Stopping => Self::stopping(),
        }
    }
}

impl From<ListenError> for Bad {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::UnknownIdentity => ResolveError::UnknownIdentity.into(),
            ListenError::Taken => Self::refused(error.to_string(), "choose another --port"),
            ListenError::TooMany => Self::refused(error.to_string(), ""),
            ListenError::Stopping => Self::stopping(),
        }
    }
}

/// A response with a body.
pub fn response(status: StatusCode, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

/// A good answer with a JSON body.
pub fn json(value: &impl Serialize) -> Result<Answer, Bad> {
    let body = serde_json::to_vec(value).map_err(|error| Bad::refused(error.to_string(), ""))?;
    let mut answer = response(StatusCode::OK, body.into());
    answer.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(answer)
}

/// The whole body of a request.
pub async fn body(request: Request<Incoming>) -> Result<Bytes, Bad> {
    let body = Limited::new(request.into_body(), BODY_LEN_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Bad::usage(format!("bad request body: {error}")))
}

/// A JSON body.
pub async fn object<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Bad> {
    parse(&body(request).await?)
}

/// Parses a JSON body.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Bad> {
    serde_json::from_slice(body).map_err(|error| Bad::usage(format!("bad request: {error}")))
}
