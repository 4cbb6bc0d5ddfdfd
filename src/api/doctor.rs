//! What `tarnet doctor` says.

use serde::{Deserialize, Serialize};

/// How something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    #[default]
    Ok,
    /// It works, and not as well as it could.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at, one or two words that stay the same.
    pub name: String,
    /// How it is.
    pub state: Health,
    /// What was seen.
    pub detail: String,
    /// What mends it; empty when it is well.
    #[serde(default)]
    pub mend: String,
}

impl Check {
    /// It is well.
    #[must_use]
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state: Health::Ok, detail: detail.into(), mend: String::new() }
    }

    /// It could be better.
    #[must_use]
    pub fn warn(name: &str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), state: Health::Warn, detail: detail.into(), mend: mend.into() }
    }

    /// It does not work.
    #[must_use]
    pub fn fail(name: &str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), state: Health::Fail, detail: detail.into(), mend: mend.into() }
    }
}

/// `GET /v1/doctor`: what the daemon sees, and what the caller needs to look further.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// What was looked at.
    pub checks: Vec<Check>,
    /// The suffix of names that are ours alone.
    pub suffix: String,
    /// Where the responder answers on the link; empty while there is none.
    pub responders: Vec<String>,
    /// How the host is told of the responder, and how that goes.
    pub dns: crate::Dns,
}

/// `tarnet doctor --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Whether everything is as it should be.
    pub well: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
}
