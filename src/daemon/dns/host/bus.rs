//! Calls on the system bus: each with a deadline, and its failures sorted by what to do.

use std::time::Duration;

use serde::Serialize;
use zbus::{Connection, Message};

/// How long a call may take: the other side only changes its own tables.
const CALL_TIME_MAX: Duration = Duration::from_secs(1);
/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// This version does not know the method.
    #[error("{0} is not known to it")]
    Unknown(String),
    /// polkit or the bus does not let us.
    #[error("not allowed to call {0}: the package's polkit rule lets the user tarnet; {1}")]
    Denied(String, String),
    /// It took more than it can.
    #[error("{0}: too many values")]
    TooMany(String),
    /// Anything else.
    #[error("{0}: {1}")]
    Failed(String, String),
}

/// A connection to the system bus.
///
/// # Errors
/// There is no bus, or it does not answer.
pub async fn connect() -> Result<Connection, BusError> {
    let failed = |why: String| BusError::Failed("the system bus".into(), why);
    let connecting = zbus::connection::Builder::system().method_timeout(CALL_TIME_MAX).build();
    match tokio::time::timeout(CONNECT_TIME_MAX, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("no answer".into())),
    }
}

/// An object that methods are called on.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// The name of its owner on the bus.
    pub owner: &'a str,
    /// Its path.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
}

impl Object<'_> {
    /// Calls a method.
    ///
    /// # Errors
    /// See [`BusError`].
    pub async fn call<B>(&self, bus: &Connection, method: &str, body: &B) -> Result<Message, BusError>
    where
        B: Serialize + zbus::DynamicType + Sync,
    {
        let called = bus.call_method(Some(self.owner), self.path, Some(self.interface), method, body).await;
        called.map_err(|error| sort(method, &error))
    }

    /// Reads a property of its interface.
    ///
    /// # Errors
    /// See [`BusError`]; also when it is of another type.
    pub async fn property<T>(&self, bus: &Connection, name: &str) -> Result<T, BusError>
    where
        T: zbus::Type + serde::de::DeserializeOwned,
    {
        let properties = Object { interface: "org.freedesktop.DBus.Properties", ..*self };
        let answer = properties.call(bus, "Get", &(self.interface, name)).await?;
        let body = answer.body();
        let value: Result<zbus::as_variant::Deserialize<'_, T>, _> = body.deserialize();
        value.map(|value| value.0).map_err(|error| BusError::Failed(name.into(), error.to_string()))
    }
}

/// Sorts an error of a call.
fn sort(method: &str, error: &zbus::Error) -> BusError {
    use zbus::fdo::Error as Known;
    let method = method.to_owned();
    let failed = |why: String| match why.contains("Argument list too long") {
        true => BusError::TooMany(method.clone()),
        false => BusError::Failed(method.clone(), why),
    };
    match error {
        zbus::Error::FDO(known) => match known.as_ref() {
            Known::UnknownMethod(_) => BusError::Unknown(method),
            Known::AccessDenied(why) | Known::InteractiveAuthorizationRequired(why) => {
                BusError::Denied(method, why.clone())
            }
            Known::InvalidArgs(_) => BusError::TooMany(method),
            other => failed(other.to_string()),
        },
        zbus::Error::MethodError(name, text, _) => {
            let text = text.clone().unwrap_or_default();
            if name.as_str() == "System.Error.E2BIG" {
                BusError::TooMany(method)
            } else {
                failed(format!("{name}: {text}"))
            }
        }
        other => failed(other.to_string()),
    }
}
