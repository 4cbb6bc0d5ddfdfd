//! What `tarnet dns status` shows: the mode, its state, and the trail of observations and events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::detect::{Decision, Mode};

/// How this host is told of us, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStatus {
    /// The mode in use.
    pub mode: Mode,
    /// `up`, or what is wrong or awaited.
    pub state: String,
    /// Why that mode, then what has happened since.
    pub trail: Vec<(String, String)>,
}

/// Written by the part that does the work, read by whoever asks. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Board {
    inner: Arc<Mutex<Inner>>,
    /// How often zones had changed when the host was last told of them.
    published: watch::Sender<u64>,
}

/// What is on it.
#[derive(Debug)]
struct Inner {
    decision: Decision,
    state: String,
    /// What has happened, the newest value by key.
    notes: BTreeMap<&'static str, String>,
}

impl Board {
    /// A board for a decision that is about to be carried out.
    #[must_use]
    pub fn new(decision: Decision) -> Self {
        let inner = Inner { decision, state: "starting".into(), notes: BTreeMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)), published: watch::Sender::new(0) }
    }

    /// The host knows the zones as they were after so many changes.
    pub fn publish(&self, changes: u64) {
        self.published.send_replace(changes);
    }

    /// Waits until the host knows the zones as they are after so many changes.
    pub async fn published(&self, changes: u64) {
        let _ = self.published.subscribe().wait_for(|known| *known >= changes).await;
    }

    /// Another decision was made.
    pub fn decide(&self, decision: Decision) {
        let mut inner = self.lock();
        inner.decision = decision;
        inner.state = "starting".into();
    }

    /// It works.
    pub fn up(&self) {
        self.state("up");
    }

    /// Says how it stands; what is new is also logged, and as a warning where it is not good.
    pub fn state(&self, state: &str) {
        let mut inner = self.lock();
        if inner.state == state {
            return;
        }
        inner.state = state.to_owned();
        let mode = inner.decision.mode;
        drop(inner);
        if matches!(state, "up" | "off") {
            tracing::info!(%mode, state, "host DNS");
        } else {
            tracing::warn!(%mode, state, "host DNS");
        }
    }

    /// Remembers something that happened, or that is so now.
    pub fn note(&self, key: &'static str, value: impl Into<String>) {
        self.lock().notes.insert(key, value.into());
    }

    /// What was so is not so any more.
    pub fn forget(&self, key: &'static str) {
        self.lock().notes.remove(key);
    }

    /// Everything, to show.
    #[must_use]
    pub fn read(&self) -> HostStatus {
        let inner = self.lock();
        let observed = inner.decision.trail.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let notes = inner.notes.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        HostStatus { mode: inner.decision.mode, state: inner.state.clone(), trail: observed.chain(notes).collect() }
    }

    /// The inside; a panic elsewhere leaves it whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
