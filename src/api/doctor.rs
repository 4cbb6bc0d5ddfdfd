//! What `tarnet doctor` says.

use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::{Deserialize, Serialize};

/// Free bytes below which the state cannot be written much longer.
const ROOM_MIN: u64 = 16 << 20;
/// Free bytes that are comfortable.
const ROOM_GOOD: u64 = 128 << 20;

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

/// Room for the state in a folder.
#[must_use]
#[allow(clippy::useless_conversion, reason = "the numbers are narrower on 32-bit machines")]
pub fn room(state: &Path) -> Check {
    let Ok(disk) = statvfs(state) else {
        return Check::fail(
            "disk",
            format!("{} cannot be read", state.display()),
            "mount it, or name another --state-dir",
        );
    };
    if disk.flags().contains(FsFlags::ST_RDONLY) {
        return Check::fail("disk", format!("{} is read-only", state.display()), "mount it for writing");
    }
    let free = u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()));
    let detail = format!("{} MiB free at {}", free >> 20, state.display());
    match free {
        0..ROOM_MIN => {
            Check::fail("disk", format!("the disk is full: {detail}"), "make room: the state cannot be written")
        }
        ROOM_MIN..ROOM_GOOD => Check::warn("disk", detail, "make room"),
        _ => Check::ok("disk", detail),
    }
}
