//! Telling the host's own resolver of us, so that every program has names, and taking it back.
//!
//! | file | what |
//! | --- | --- |
//! | `facts`, `detect` | what this host is like; which mode that calls for (a pure function) |
//! | `resolved`, `upstream` | systemd-resolved over D-Bus; whom it would ask without us |
//! | `networkmanager`, `resolvconf`, `direct` | the modes that live in files, on a tree that a test can make |
//! | `files` | keeps those applied, notices others who write the same file |
//! | `root` | what only root may do, and how a daemon that is not root has it done |
//! | `file`, `bus` | resolver files; calls on the system bus |
//! | `board` | what `tarnet dns status` shows |
//!
//! While the daemon is dead nothing is taken back: names stay closed until it returns. A clean
//! stop, [`cleanup`] by hand and the removal of the package take everything back. In `resolved`
//! the link is the only carrier, so there is nothing to take back but the link.

mod board;
mod bus;
mod detect;
mod direct;
mod facts;
mod file;
mod files;
mod networkmanager;
mod resolvconf;
mod resolved;
mod root;
mod upstream;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::admin::AdminCall;
use crate::config::DnsMode;
use crate::dns::Responder;
use crate::handle::NodeHandle;
use crate::tun::plan::Addresses;

use board::Board;
pub use board::HostStatus;
use detect::{Mode, detect};
use direct::Tree;
use files::Files;
use root::{Hand, Want};

/// Octets of an IPv4 reverse zone's parent hold this many zones of ours at most: a prefix between two octets has
/// up to 128, too many for a link's domains. Beyond, addresses just have no names.
const REVERSE_MAX: u32 = 16;
/// How long a change of the zone is waited for: after that the answer goes out and the host follows.
const PUBLISH_TIME_MAX: Duration = Duration::from_secs(2);
/// How long stopping may take: root's unit restores a file in that time, or never.
const STOP_TIME_MAX: Duration = Duration::from_secs(12);

/// What leads to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wiring {
    /// The TUN's name.
    pub link: String,
    /// Its index.
    pub index: i32,
    /// The responder's addresses on it.
    pub servers: Vec<IpAddr>,
    /// The suffix under which every name works.
    pub suffix: String,
    /// The reverse zones of our addresses.
    pub reverse: Vec<String>,
}

impl Wiring {
    /// The wiring of a link. Without `ipv6` only its IPv4 side.
    #[must_use]
    pub fn new(link: &str, suffix: &str, addresses: &Addresses, ipv6: bool) -> Self {
        let (v4, v6) = addresses.dns();
        let mut servers = vec![IpAddr::V4(v4)];
        let mut reverse = reverse_v4(addresses);
        if ipv6 {
            servers.push(v6.into());
            reverse.push(reverse_v6(addresses));
        }
        let index = nix::net::if_::if_nametoindex(link).ok().and_then(|index| i32::try_from(index).ok());
        Self { link: link.into(), index: index.unwrap_or(0), servers, suffix: suffix.into(), reverse }
    }
}

/// The reverse zones that make up our IPv4 prefix exactly.
fn reverse_v4(addresses: &Addresses) -> Vec<String> {
    let octets = addresses.ipv4.len.div_ceil(8);
    let zones = 1_u32 << (octets * 8 - addresses.ipv4.len);
    if zones > REVERSE_MAX {
        return Vec::new();
    }
    let step = 1_u32 << (32 - u32::from(octets) * 8);
    let zone = |at: u32| {
        let network = std::net::Ipv4Addr::from(u32::from(addresses.ipv4.address) + at * step).octets();
        let labels: Vec<String> = network[..usize::from(octets)].iter().rev().map(ToString::to_string).collect();
        format!("{}.in-addr.arpa", labels.join("."))
    };
    (0..zones).map(zone).collect()
}

/// The reverse zone of the /64 that names live in.
fn reverse_v6(addresses: &Addresses) -> String {
    let network = addresses.ipv6.address.octets();
    let nibbles = network[..8].iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
    let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
    format!("{}.ip6.arpa", labels.join("."))
}

/// The names of the acting identity's zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// How often zones had changed when this was read.
    pub changes: u64,
    /// Its labels, sorted, the apex aside.
    pub petnames: Vec<String>,
}

/// What is needed to tell the host.
pub struct Setup {
    /// The setting.
    pub configured: DnsMode,
    /// What leads to us.
    pub wiring: Wiring,
    /// The identity whose names the host sees.
    pub identity: String,
    /// The node.
    pub node: NodeHandle,
    /// The responder.
    pub responder: Arc<Responder>,
}

/// The running part.
pub struct HostDns {
    board: Board,
    node: NodeHandle,
    stop: watch::Sender<bool>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl HostDns {
    /// Starts it. `paper` is where a daemon that is not root writes what it wants.
    #[must_use]
    pub fn start(setup: Setup, paper: &Path) -> Self {
        let (stop, stopped) = watch::channel(false);
        let board = Board::new(detect(setup.configured, &detect::Facts::default()));
        let hand = Hand::of_process(paper.to_owned());
        let node = setup.node.clone();
        let task = tokio::spawn(run(setup, hand, board.clone(), stopped));
        Self { board, node, stop, task: tokio::sync::Mutex::new(Some(task)) }
    }

    /// How this host resolves names, and why.
    #[must_use]
    pub fn status(&self) -> HostStatus {
        self.board.read()
    }

    /// Waits until what the zones hold now is what the host asks us for, for a while at most: whoever sets a name
    /// and uses it at once must not ask the network for it.
    pub async fn published(&self) {
        let changes = *self.node.zones().borrow();
        if tokio::time::timeout(PUBLISH_TIME_MAX, self.board.published(changes)).await.is_err() {
            tracing::debug!("the host's resolver has not yet been told of a change of a zone");
        }
    }

    /// Ends without taking anything back: the next run follows at once, and until then our names stay closed.
    pub async fn keep(&self) {
        if let Some(task) = self.task.lock().await.take() {
            task.abort();
        }
    }

    /// Takes back what is to be taken back, before the responder goes.
    pub async fn stop(&self) {
        let _ = self.stop.send(true);
        let Some(mut task) = self.task.lock().await.take() else { return };
        if tokio::time::timeout(STOP_TIME_MAX, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the host's resolver was not restored in time; tarnetd --cleanup does it");
        }
    }
}

/// Decides, and carries it out until it is told to stop.
async fn run(setup: Setup, hand: Hand, board: Board, stop: watch::Receiver<bool>) {
    let Setup { configured, wiring, identity, node, responder } = setup;
    let (zones, petnames) = watch::channel(Arc::new(Zone::default()));
    // The first list is there before anybody is told: a host that asked us for less would ask others for more.
    let first = read_zone(&node, &identity).await;
    zones.send_replace(Arc::new(first));
    let follow = tokio::spawn(follow(node, identity, zones));
    let decision = detect(configured, &facts::gather(&Tree::default()).await);
    let mode = decision.mode;
    for (key, value) in &decision.trail {
        tracing::info!(key, value, "host DNS");
    }
    board.decide(decision);
    if !matches!(mode, Mode::Resolvconf(_) | Mode::Direct | Mode::NetworkManager)
        && let Err(error) = hand.carry_out(&Want::off()).await
    {
        board.note("left-behind", format!("an earlier mode's traces could not be removed: {error}"));
    }
    if mode != Mode::Resolved && wiring.index != 0 {
        // A link that outlived a daemon in another mode still has what that one set.
        let _ = resolved::revert(&wiring).await;
    }
    match mode {
        Mode::Resolved => resolved::run(&wiring, petnames, &responder, &board, stop).await,
        Mode::Off => off(&board, petnames, stop).await,
        Mode::NetworkManager | Mode::Resolvconf(_) | Mode::Direct => {
            let files = Files { hand: &hand, wiring: &wiring, responder: &responder, board: &board };
            files.run(mode, petnames, stop).await;
        }
    }
    follow.abort();
}

/// The host is left alone.
async fn off(board: &Board, mut petnames: watch::Receiver<Arc<Zone>>, mut stop: watch::Receiver<bool>) {
    board.state("off");
    loop {
        let changes = petnames.borrow_and_update().changes;
        board.publish(changes);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = petnames.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Reads the zone again whenever one may have changed.
async fn follow(node: NodeHandle, identity: String, zones: watch::Sender<Arc<Zone>>) {
    let mut changes = node.zones();
    loop {
        let zone = read_zone(&node, &identity).await;
        zones.send_if_modified(|known| {
            let news = **known != zone;
            *known = Arc::new(zone);
            news
        });
        let known = zones.borrow().changes;
        if changes.wait_for(|changes| *changes != known).await.is_err() {
            return;
        }
    }
}

/// What the zone holds now; an identity that does not exist has no names.
async fn read_zone(node: &NodeHandle, identity: &str) -> Zone {
    let changes = *node.zones().borrow();
    let (reply, answer) = oneshot::channel();
    let asked = node.control(AdminCall::RecordList(identity.to_owned(), reply)).await;
    let entries = match (asked, answer.await) {
        (Some(()), Ok(Ok(entries))) => entries,
        _ => Vec::new(),
    };
    let mut petnames: Vec<String> =
        entries.into_iter().map(|entry| entry.label).filter(|label| !label.contains('@')).collect();
    petnames.sort();
    petnames.dedup();
    Zone { changes, petnames }
}

/// Why [`cleanup`] is called, as systemd says by the environment (`systemd.exec(5)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Before the daemon starts: it finds by itself what fits and what does not, and until then names stay closed.
    Starting,
    /// After it died: it will be back, and until then names stay closed.
    Died,
    /// After it was stopped.
    Stopped,
    /// By hand, or by the package's removal.
    ByHand,
}

impl Occasion {
    /// By `$SERVICE_RESULT`, which only ExecStopPost has, and `$STATE_DIRECTORY`, which only our unit sets to ours.
    fn of(result: Option<&str>, state: Option<&str>, state_dir: &Path) -> Self {
        match (result, state) {
            (Some("success"), _) => Self::Stopped,
            (Some(_), _) => Self::Died,
            (None, Some(folder)) if Path::new(folder) == state_dir => Self::Starting,
            (None, _) => Self::ByHand,
        }
    }
}

/// Takes back what a daemon has left on the host's resolver, if it is still ours. Harmless where there is nothing.
///
/// # Errors
/// It cannot be taken back.
pub async fn cleanup(wiring: Option<Wiring>, state_dir: &Path, paper: &Path) -> anyhow::Result<()> {
    let of = |name| std::env::var(name).ok();
    let occasion = Occasion::of(of("SERVICE_RESULT").as_deref(), of("STATE_DIRECTORY").as_deref(), state_dir);
    if matches!(occasion, Occasion::Starting | Occasion::Died) {
        return Ok(());
    }
    Hand::of_process(paper.to_owned()).carry_out(&Want::off()).await?;
    let link = wiring.filter(|wiring| wiring.index != 0 && occasion == Occasion::ByHand);
    if let Some(wiring) = link
        && let Err(error) = resolved::revert(&wiring).await
    {
        tracing::debug!(%error, "systemd-resolved has nothing of ours");
    }
    if nix::unistd::geteuid().is_root() {
        let _ = std::fs::remove_file(paper);
    }
    Ok(())
}

/// The work of `tarnet-dns.service`.
///
/// # Errors
/// It was refused or failed.
pub async fn obey(configured: DnsMode) -> anyhow::Result<()> {
    Ok(root::obey(Path::new(root::PAPER), configured).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tun::plan::AddressPlan;

    /// The wiring of a plan.
    fn wiring(ipv4: &str) -> Wiring {
        let plan = AddressPlan::choose(ipv4, "fd12:3456:789a::/48", &[], [7; 39]).unwrap();
        Wiring::new("no-such-link", "tarnet.alt", &plan.addresses().unwrap(), true)
    }

    #[test]
    fn reverse_zones_cover_our_prefixes_and_nothing_else() {
        let zones = wiring("198.18.0.0/15").reverse;
        assert_eq!(zones, ["18.198.in-addr.arpa", "19.198.in-addr.arpa", "0.0.0.0.a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"]);
        assert_eq!(wiring("10.0.0.0/8").reverse[0], "10.in-addr.arpa");
        assert_eq!(wiring("10.9.8.0/24").reverse[0], "8.9.10.in-addr.arpa");
        assert_eq!(wiring("10.9.8.16/28").reverse.len(), 17);
        assert_eq!(wiring("10.0.0.0/9").reverse.len(), 1);
    }

    #[test]
    fn cleanup_knows_why_it_is_called() {
        let ours = Path::new("/var/lib/tarnet");
        for (result, state, occasion) in [
            (Some("success"), Some("/var/lib/tarnet"), Occasion::Stopped),
            (Some("signal"), Some("/var/lib/tarnet"), Occasion::Died),
            (Some("watchdog"), None, Occasion::Died),
            (None, Some("/var/lib/tarnet"), Occasion::Starting),
            (None, Some("/var/lib/apt"), Occasion::ByHand),
            (None, None, Occasion::ByHand),
        ] {
            assert_eq!(Occasion::of(result, state, ours), occasion, "{result:?} {state:?}");
        }
    }
}
