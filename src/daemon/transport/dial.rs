//! The dialler: one retry loop per target, so that a dead address never delays another.
//! A target is a configured URI, a peer that was seen on the local network (a hint), or one that says by itself where
//! it can be dialled (an offer), which is dialled for one connection only.
//! A target rests while the node is linked to the peer behind it, over whatever transport.
//!
//! States of a target: resting (linked), waiting (back-off), trying, connected. Bounds:
//! [`TARGETS_MAX`] targets, one attempt at a time for each, and as many connections as links may be opened.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tarnet_core::crypto::PeerId;
use tarnet_core::link::{ConnId, Pin};
use tarnet_core::rng::Rng;
use tokio::sync::{Notify, Semaphore, watch};

use super::backoff::Backoff;
use super::conn::{AbortOnDrop, Origin, Transport};
use super::connect::{Place, connect};
use super::limits::{HINT_ATTEMPTS_MAX, HINT_FALLBACK_DELAY, OFFER_ATTEMPTS_MAX, OFFERS_MAX, TARGETS_MAX};
use super::offered::offered;
use crate::config::{PeerUri, Scheme};

/// A target that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The transport is not there yet.
    #[error("{0}: not yet: this version dials tcp:// only")]
    NotYet(PeerUri),
    /// The bound on targets was reached.
    #[error("too many peers to dial: at most {TARGETS_MAX}")]
    TooMany,
}

/// What tells targets apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum TargetKey {
    /// A URI without its pin.
    Uri(PeerUri),
    /// A peer of the local network.
    Peer(PeerId),
    /// A peer that offers itself.
    Offer(PeerId),
}

/// One target, shared by its loop and the dialler's callers.
struct Target {
    key: TargetKey,
    /// Left to the other side before each attempt.
    delay: Duration,
    wake: Notify,
    state: Mutex<State>,
}

/// What changes about a target.
struct State {
    place: Place,
    expect: Pin,
    /// The expectation was configured with the URI: nothing seen or forgotten changes it.
    pinned: bool,
    /// The peer that answered last.
    peer: Option<PeerId>,
    conn: Option<ConnId>,
    established: bool,
    failures: u32,
    error: Option<String>,
}

/// A target as `tarnet peers` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    /// The URI, or the addresses of a hint.
    pub place: String,
    /// Where it comes from: `bootstrap`, `mdns` or `hello`.
    pub source: &'static str,
    /// The peer expected, or that answered last.
    pub peer: Option<PeerId>,
    /// Whether a connection of this target is open.
    pub connected: bool,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure.
    pub error: Option<String>,
}

/// Everything that loops and callers share.
struct Shared {
    transport: Transport,
    outbound: Arc<Semaphore>,
    /// The part of these that offers may take, and never wait for: what was configured comes first.
    offers: Arc<Semaphore>,
    linked: watch::Sender<BTreeSet<PeerId>>,
    table: Mutex<Table>,
}

/// All targets, with the loop of each.
struct Table {
    rng: Rng,
    targets: BTreeMap<TargetKey, (Arc<Target>, AbortOnDrop<()>)>,
}

/// Dials targets until they are removed. Cheap to clone; loops end with the last clone.
#[derive(Clone)]
pub struct Dialler(Arc<Shared>);

/// Locks; a poisoned lock only means that another thread panicked between plain stores.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dialler {
    /// A dialler without targets that opens at most `outbound_max` connections at once.
    #[must_use]
    pub fn new(transport: Transport, outbound_max: usize, rng: Rng) -> Self {
        let outbound = Arc::new(Semaphore::new(outbound_max.min(Semaphore::MAX_PERMITS)));
        let offers = Arc::new(Semaphore::new((outbound_max / 2).min(OFFERS_MAX)));
        let table = Mutex::new(Table { rng, targets: BTreeMap::new() });
        Self(Arc::new(Shared { transport, outbound, offers, linked: watch::Sender::default(), table }))
    }

    /// Dials `uri` from now on. `remembered` is the node that answered there before (trust on first use):
    /// required like a pin. A URI that is there already keeps its loop and takes the new expectation.
    ///
    /// # Errors
    /// See [`DialError`].
    pub fn add(&self, uri: &PeerUri, remembered: Option<PeerId>) -> Result<(), DialError> {
        if uri.scheme != Scheme::Tcp {
            return Err(DialError::NotYet(uri.clone()));
        }
        let expect = uri.pin.or(remembered).map_or(Pin::None, Pin::Required);
        let key = TargetKey::Uri(uri.place());
        self.start(key, Place::Uri(uri.place()), expect, uri.pin.is_some(), Duration::ZERO)
    }

    /// Dials a peer seen on the local network. Only the side with the smaller PeerId (`first`) dials at once.
    ///
    /// # Errors
    /// See [`DialError`].
    pub fn hint(&self, peer: PeerId, addresses: Vec<SocketAddr>, first: bool) -> Result<(), DialError> {
        let delay = if first { Duration::ZERO } else { HINT_FALLBACK_DELAY };
        self.start(TargetKey::Peer(peer), Place::Addresses(addresses), Pin::Hint(peer), false, delay)
    }

    /// Dials a peer where its Hello says that it is, until that fails or the connection ends, if less than half of what
    /// may be dialled are offers. It may say what it likes, so only addresses of the open Internet are dialled.
    pub fn offer(&self, peer: PeerId, addresses: &[String]) {
        let addresses = offered(addresses);
        let is_offer = |key: &&TargetKey| matches!(key, TargetKey::Offer(_));
        let many = lock(&self.0.table).targets.keys().filter(is_offer).count() >= OFFERS_MAX;
        if !addresses.is_empty() && !many && self.0.offers.available_permits() > 0 {
            tracing::debug!(%peer, ?addresses, "a direct link may be possible");
            let expect = Pin::Required(peer);
            // At the bound nothing is lost: the relays lead there.
            let _ = self.start(TargetKey::Offer(peer), Place::Addresses(addresses), expect, true, Duration::ZERO);
        }
    }

    /// Forgets a URI. Its connection, if one is open, lives on.
    pub fn remove(&self, uri: &PeerUri) {
        lock(&self.0.table).targets.remove(&TargetKey::Uri(uri.place()));
    }

    /// Forgets a hint: the peer has left the local network.
    pub fn remove_hint(&self, peer: &PeerId) {
        lock(&self.0.table).targets.remove(&TargetKey::Peer(*peer));
    }

    /// The node is linked to `peer`: targets that lead to it rest.
    pub fn peer_up(&self, peer: PeerId) {
        self.0.linked.send_modify(|linked| _ = linked.insert(peer));
    }

    /// The link to `peer` is gone: targets that lead to it wake up.
    pub fn peer_down(&self, peer: &PeerId) {
        self.0.linked.send_modify(|linked| _ = linked.remove(peer));
    }

    /// The handshake of `conn` ended well: its target has worked, and `peer` is behind it. At a URI without a pin it
    /// is expected from now on (trust on first use).
    pub fn established(&self, conn: ConnId, peer: PeerId) {
        self.with_conn(conn, |state| {
            if matches!((&state.place, state.expect), (Place::Uri(_), Pin::None)) {
                state.expect = Pin::Required(peer);
            }
            (state.peer, state.established, state.failures, state.error) = (Some(peer), true, 0, None);
        });
    }

    /// The handshake of `conn` failed, with the reason. When the node expected there was only a hint, the
    /// next attempt expects nobody.
    pub fn failed(&self, conn: ConnId, error: &str) {
        self.with_conn(conn, |state| {
            state.error = Some(error.to_owned());
            if matches!(state.expect, Pin::Hint(_)) {
                state.expect = Pin::None;
            }
        });
    }

    /// The URI behind a connection, if it was dialled for one.
    #[must_use]
    pub fn uri_of(&self, conn: ConnId) -> Option<PeerUri> {
        let table = lock(&self.0.table);
        let found = table.targets.values().find(|(target, _)| lock(&target.state).conn == Some(conn))?;
        match &lock(&found.0.state).place {
            Place::Uri(uri) => Some(uri.clone()),
            Place::Addresses(_) => None,
        }
    }

    /// Expects nobody in particular any more where `peer` was remembered; a pin in the URI stays. Whoever waits to
    /// dial it tries again now.
    pub fn forget(&self, peer: &PeerId) {
        for (target, _) in lock(&self.0.table).targets.values() {
            let mut state = lock(&target.state);
            if state.expect.peer().or(state.peer) != Some(*peer) {
                continue;
            }
            if !state.pinned {
                (state.expect, state.peer) = (Pin::None, None);
            }
            if state.conn.is_none() {
                target.wake.notify_one();
            }
        }
    }

    /// The network changed: everybody who waits tries again now.
    pub fn wake(&self) {
        for (target, _) in lock(&self.0.table).targets.values() {
            target.wake.notify_one();
        }
    }

    /// Peers that were hinted at.
    #[must_use]
    pub fn hinted(&self) -> Vec<PeerId> {
        let peer = |key: &TargetKey| match key {
            TargetKey::Peer(peer) => Some(*peer),
            TargetKey::Uri(_) | TargetKey::Offer(_) => None,
        };
        lock(&self.0.table).targets.keys().filter_map(peer).collect()
    }

    /// All targets.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetStatus> {
        let status = |target: &Target| {
            let state = lock(&target.state);
            let place = match &state.place {
                Place::Uri(uri) => uri.to_string(),
                Place::Addresses(all) => {
                    all.iter().map(|address| format!("tcp://{address}")).collect::<Vec<_>>().join(" ")
                }
            };
            TargetStatus {
                source: match target.key {
                    TargetKey::Uri(_) => "bootstrap",
                    TargetKey::Peer(_) => "mdns",
                    TargetKey::Offer(_) => "hello",
                },
                place,
                peer: state.expect.peer().or(state.peer),
                connected: state.conn.is_some(),
                failures: state.failures,
                error: state.error.clone(),
            }
        };
        lock(&self.0.table).targets.values().map(|(target, _)| status(target)).collect()
    }

    /// Starts the loop of a target, or gives a running one its new place.
    fn start(&self, key: TargetKey, place: Place, expect: Pin, pinned: bool, delay: Duration) -> Result<(), DialError> {
        let mut table = lock(&self.0.table);
        if let Some((target, _)) = table.targets.get(&key) {
            let mut state = lock(&target.state);
            if state.place != place || state.expect != expect {
                (state.place, state.expect, state.pinned) = (place, expect, pinned);
                target.wake.notify_one();
            }
            return Ok(());
        }
        if table.targets.len() >= TARGETS_MAX {
            return Err(DialError::TooMany);
        }
        let state =
            State { place, expect, pinned, peer: None, conn: None, established: false, failures: 0, error: None };
        let target = Arc::new(Target { key: key.clone(), delay, wake: Notify::new(), state: Mutex::new(state) });
        let backoff = Backoff::new(table.rng.fork("dial"));
        let task = tokio::spawn(run(Arc::downgrade(&self.0), Arc::clone(&target), backoff));
        table.targets.insert(key, (target, AbortOnDrop(task)));
        Ok(())
    }

    /// Changes the state of the target that opened `conn`.
    fn with_conn(&self, conn: ConnId, change: impl FnOnce(&mut State)) {
        let table = lock(&self.0.table);
        for (target, _) in table.targets.values() {
            let mut state = lock(&target.state);
            if state.conn == Some(conn) {
                return change(&mut state);
            }
        }
    }
}

/// The loop of one target.
async fn run(shared: std::sync::Weak<Shared>, target: Arc<Target>, mut backoff: Backoff) {
    loop {
        let Some(linked) = shared.upgrade().map(|shared| shared.linked.subscribe()) else { return };
        target.wait_for_turn(linked).await;
        let Some(shared) = shared.upgrade() else { return };
        let worked = attempt(&shared, &target).await;
        let given_up = match target.key {
            TargetKey::Uri(_) => false,
            TargetKey::Peer(_) => !worked && lock(&target.state).failures >= HINT_ATTEMPTS_MAX,
            TargetKey::Offer(_) => worked || lock(&target.state).failures >= OFFER_ATTEMPTS_MAX,
        };
        if worked {
            backoff.reset();
        }
        if given_up {
            lock(&shared.table).targets.remove(&target.key);
            return;
        }
        drop(shared);
        tokio::select! {
            () = tokio::time::sleep(backoff.failed()) => {}
            () = target.wake.notified() => backoff.reset(),
        }
    }
}

/// One attempt, and the life of the connection that it gives. True when a link came of it.
async fn attempt(shared: &Shared, target: &Target) -> bool {
    let is_offer = matches!(target.key, TargetKey::Offer(_));
    let share = if is_offer { Arc::clone(&shared.offers).try_acquire_owned().ok() } else { None };
    let permit = if is_offer {
        Arc::clone(&shared.outbound).try_acquire_owned().ok().filter(|_| share.is_some())
    } else {
        Arc::clone(&shared.outbound).acquire_owned().await.ok()
    };
    let Some(permit) = permit else {
        lock(&target.state).fail("as many links as may be dialled".into());
        return false;
    };
    let place = lock(&target.state).place.clone();
    let (stream, address) = match connect(&place).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::debug!(target = ?target.key, %error, "could not connect");
            lock(&target.state).fail(error.to_string());
            return false;
        }
    };
    let task = {
        let mut state = lock(&target.state);
        let origin = Origin::Dialled(address, state.expect);
        let (conn, task) = shared.transport.start(shared.transport.tcp(stream), origin, permit);
        (state.conn, state.established) = (Some(conn), false);
        task
    };
    let _ = task.await;
    let mut state = lock(&target.state);
    state.conn = None;
    if !state.established {
        let error = state.error.take().unwrap_or_else(|| "the connection was closed before the link was up".into());
        state.fail(error);
    }
    state.established
}

impl State {
    /// Counts a failure.
    fn fail(&mut self, error: String) {
        self.failures = self.failures.saturating_add(1);
        self.error = Some(error);
    }
}

impl Target {
    /// Waits while the peer behind this target is linked, and leaves the other side its delay.
    async fn wait_for_turn(&self, mut linked: watch::Receiver<BTreeSet<PeerId>>) {
        loop {
            let peer = {
                let state = lock(&self.state);
                state.expect.peer().or(state.peer)
            };
            let is_linked = |linked: &BTreeSet<PeerId>| peer.is_some_and(|peer| linked.contains(&peer));
            if linked.wait_for(|linked| !is_linked(linked)).await.is_err() {
                return;
            }
            if self.delay.is_zero() {
                return;
            }
            tokio::time::sleep(self.delay).await;
            if !is_linked(&linked.borrow()) {
                return;
            }
        }
    }
}
