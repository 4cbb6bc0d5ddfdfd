//! systemd-resolved, over D-Bus: our link gets our responder as its server, our suffix as its
//! search domain, and petnames and reverse zones as route-only domains. Nothing else of the
//! host changes: other names go where they went.
//!
//! All of it hangs from the link. While somebody holds the device (we, or systemd's descriptor
//! store after a crash) the names stay closed: no answer, and no question to anybody else. When
//! the link goes, resolved forgets it all by itself, the search domain included, so there is no
//! file that could outlive us and send `alice` to the network as `alice.tarnet.alt`.
//!
//! Set again: when resolved comes back, after sleep, and when a look every [`LOOK_EVERY`] finds
//! that another manager has changed it.
//!
//! More petnames than a link can have: then all names that nobody claims come to us (`~.`), and
//! what is not ours is forwarded to whom resolved would have asked. Not where resolved validates or
//! encrypts, which that would undo: there the rest of the petnames works under the suffix only.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

use super::board::Board;
use super::bus::{self, BusError, Object};
use super::{Wiring, Zone, upstream};
use crate::dns::Responder;
use crate::dns::forward::{Forwarder, SERVERS_MAX};

/// Its name on the bus.
pub const NAME: &str = "org.freedesktop.resolve1";
/// Its manager.
pub const MANAGER: Object<'_> =
    Object { owner: NAME, path: "/org/freedesktop/resolve1", interface: "org.freedesktop.resolve1.Manager" };
/// The manager of systemd, which knows its version.
const SYSTEMD: Object<'_> = Object {
    owner: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
/// The version since which resolved answers nothing under `.alt`, whoever it could ask (systemd#29354).
const NO_ALT: u32 = 255;
/// The interface of its links.
pub const LINK: &str = "org.freedesktop.resolve1.Link";
/// Petnames published at most: 252 takes 200 domains on a link, and not 1,000.
const PETNAMES_MAX: usize = 200;
/// Between two looks at what we have set.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same while we forward: whom resolved would ask changes with the network, and it does not say so.
const LOOK_EVERY_FORWARDING: Duration = Duration::from_secs(5);
/// The domain of every name.
const ROOT: &str = ".";
/// Between two tries, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Signals that may wait: each only means "set it again".
const SIGNALS_LEN_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

/// A domain as the bus has it: the name, and whether it only routes.
type Domain = (String, bool);
/// A server as the bus has it: the address family, and the address.
type Server = (i32, Vec<u8>);

/// The petnames to be routed, the newest list.
pub type Petnames = watch::Receiver<Arc<Zone>>;

/// Keeps resolved told until `stop`. The settings go with the link, not before: until then our names stay closed.
pub async fn run(
    wiring: &Wiring,
    mut petnames: Petnames,
    responder: &Responder,
    board: &Board,
    mut stop: watch::Receiver<bool>,
) {
    let mut delay = RETRY.0;
    loop {
        let session = async {
            let bus = bus::connect().await?;
            let host = Host { bus: &bus, wiring, responder, board };
            host.keep(&mut petnames, &mut delay).await
        };
        let error = tokio::select! {
            ended = session => ended.err(),
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match error {
            Some(error) => board.state(&format!("failed: {error}; it is tried again")),
            None => board.state("systemd-resolved or the bus is gone; it is waited for"),
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => delay = (delay * 2).min(RETRY.1),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// resolved, and what it is to be told.
struct Host<'a> {
    bus: &'a Connection,
    wiring: &'a Wiring,
    responder: &'a Responder,
    board: &'a Board,
}

impl Host<'_> {
    /// Sets it all, and again whenever there is a reason. Ends when the bus does.
    async fn keep(&self, petnames: &mut Petnames, delay: &mut Duration) -> Result<(), BusError> {
        let Self { bus, wiring, board, .. } = *self;
        let mut owners = signals(bus, "org.freedesktop.DBus", "NameOwnerChanged", Some(NAME)).await?;
        let mut sleeps = signals(bus, "org.freedesktop.login1.Manager", "PrepareForSleep", None).await?;
        // Starts resolved where the bus can.
        Object { interface: "org.freedesktop.DBus.Peer", ..MANAGER }.call(bus, "Ping", &()).await?;
        let mut zone = petnames.borrow_and_update().clone();
        let mut set = self.settings(&zone.petnames).await?;
        apply(bus, wiring, &mut set, board).await?;
        note_alt(bus, wiring, board).await;
        let mut again = 0_u32;
        loop {
            *delay = RETRY.0;
            board.up();
            board.publish(zone.changes);
            let look = if set.everything { LOOK_EVERY_FORWARDING } else { LOOK_EVERY };
            let why = tokio::select! {
                changed = petnames.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let before = zone.clone();
                    zone = petnames.borrow_and_update().clone();
                    if zone.petnames != before.petnames {
                        set = self.settings(&zone.petnames).await?;
                        domains(bus, wiring, &mut set, board).await?;
                        flush(bus).await;
                    }
                    continue;
                }
                signal = owners.next() => match signal {
                    // The third argument is the new owner; without one it is gone, and its return is the next signal.
                    Some(Ok(message)) => match message.body().deserialize::<(String, String, String)>() {
                        Ok((_, _, owner)) if owner.is_empty() => {
                            board.state("systemd-resolved is gone; it is waited for");
                            continue_when_back(&mut owners).await;
                            "resolved restarted"
                        }
                        _ => "resolved started",
                    },
                    _ => return Ok(()),
                },
                signal = sleeps.next() => match signal {
                    Some(Ok(message)) if message.body().deserialize::<bool>() == Ok(false) => "resumed",
                    Some(_) => continue,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(look) => {
                    if set.everything {
                        self.forward().await?;
                    }
                    match is_set(bus, wiring, &set).await? {
                        true => continue,
                        false => "changed by another",
                    }
                }
            };
            again += 1;
            board.note("set-again", format!("{again} times, last because: {why}"));
            tracing::info!(why, "systemd-resolved is told again");
            zone = petnames.borrow_and_update().clone();
            set = self.settings(&zone.petnames).await?;
            apply(bus, wiring, &mut set, board).await?;
        }
    }

    /// What is to be set for these petnames. Where every question is to come to us we forward from now on,
    /// before the first one comes.
    async fn settings(&self, petnames: &[String]) -> Result<Settings, BusError> {
        let everything = petnames.len() > PETNAMES_MAX && upstream::is_plain(self.bus).await?;
        match everything {
            true => self.forward().await?,
            false => self.responder.forward(None),
        }
        Ok(settings(self.wiring, petnames, everything))
    }

    /// Forwards what is not ours to whom resolved would ask.
    async fn forward(&self) -> Result<(), BusError> {
        let servers = upstream::upstream(self.bus, self.wiring.index).await?;
        if self.responder.forwards_to() != servers[..servers.len().min(SERVERS_MAX)] || servers.is_empty() {
            self.responder.forward(Some(Forwarder::to(&servers)));
        }
        self.board.note("forwards-to", upstream::named(&servers));
        Ok(())
    }
}

/// Says so where resolved is of a version that never asks anybody for names under our suffix.
async fn note_alt(bus: &Connection, wiring: &Wiring, board: &Board) {
    let Ok(version) = SYSTEMD.property::<String>(bus, "Version").await else { return };
    let digits = version.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty());
    let Some(version) = digits.and_then(|digits| digits.parse::<u32>().ok()) else { return };
    let suffix = &wiring.suffix;
    if version >= NO_ALT && (suffix == "alt" || suffix.ends_with(".alt")) {
        let what = format!("NAME.{suffix} and bare labels need another dns.suffix");
        board.note("suffix", format!("resolved {version} answers nothing under .alt: {what}"));
    }
}

/// Waits until a name has an owner again, or the bus is gone.
async fn continue_when_back(owners: &mut MessageStream) {
    while let Some(Ok(message)) = owners.next().await {
        let body = message.body();
        if body.deserialize::<(String, String, String)>().is_ok_and(|(_, _, owner)| !owner.is_empty()) {
            return;
        }
    }
}

/// Asks for a signal.
async fn signals(
    bus: &Connection,
    interface: &'static str,
    member: &'static str,
    first: Option<&'static str>,
) -> Result<MessageStream, BusError> {
    let failed = |error: zbus::Error| BusError::Failed(member.into(), error.to_string());
    let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).interface(interface).member(member);
    let rule = match first {
        Some(first) => rule.arg(0, first),
        None => rule,
    };
    let rule = rule.build().map_err(failed)?;
    MessageStream::for_match_rule(rule, bus, Some(SIGNALS_LEN_MAX)).await.map_err(failed)
}

/// What is to be set.
struct Settings {
    servers: Vec<Server>,
    suffix: Vec<Domain>,
    petnames: Vec<Domain>,
    reverse: Vec<Domain>,
    /// Every name comes to us that no other link claims.
    everything: bool,
    /// Petnames there are.
    count: usize,
}

impl Settings {
    /// All domains, the suffix first. It is searched, too; a link cannot have a domain both ways.
    fn domains(&self) -> Vec<Domain> {
        let root = [(ROOT.to_owned(), true)];
        [&self.suffix[..], &root[..usize::from(self.everything)], &self.reverse, &self.petnames].concat()
    }
}

/// What is to be set for these petnames.
fn settings(wiring: &Wiring, petnames: &[String], everything: bool) -> Settings {
    let server = |address: &IpAddr| match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let route = |name: &String| (name.clone(), true);
    Settings {
        servers: wiring.servers.iter().map(server).collect(),
        suffix: vec![(wiring.suffix.clone(), false)],
        petnames: petnames.iter().take(PETNAMES_MAX).map(route).collect(),
        reverse: wiring.reverse.iter().map(route).collect(),
        everything,
        count: petnames.len(),
    }
}

/// Sets everything on the link. Servers first: a domain counts only where there is one to ask.
async fn apply(bus: &Connection, wiring: &Wiring, set: &mut Settings, board: &Board) -> Result<(), BusError> {
    let index = wiring.index;
    MANAGER.call(bus, "SetLinkDNS", &(index, set.servers.clone())).await?;
    domains(bus, wiring, set, board).await?;
    optional(MANAGER.call(bus, "SetLinkDefaultRoute", &(index, false)).await)?;
    for (method, value) in
        [("SetLinkLLMNR", "no"), ("SetLinkMulticastDNS", "no"), ("SetLinkDNSSEC", "no"), ("SetLinkDNSOverTLS", "no")]
    {
        optional(MANAGER.call(bus, method, &(index, value)).await)?;
    }
    let trusted: Vec<String> = set.suffix.iter().chain(&set.petnames).map(|(name, _)| name.clone()).collect();
    optional(MANAGER.call(bus, "SetLinkDNSSECNegativeTrustAnchors", &(index, trusted)).await)?;
    flush(bus).await;
    Ok(())
}

/// Forgives that an old version does not know a method.
fn optional(called: Result<zbus::Message, BusError>) -> Result<(), BusError> {
    match called {
        Ok(_) | Err(BusError::Unknown(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sets the domains: all, or fewer petnames, or no reverse zones, whatever it takes.
async fn domains(bus: &Connection, wiring: &Wiring, set: &mut Settings, board: &Board) -> Result<(), BusError> {
    loop {
        match MANAGER.call(bus, "SetLinkDomains", &(wiring.index, set.domains())).await {
            Ok(_) => break,
            Err(BusError::TooMany(_)) if !set.petnames.is_empty() => set.petnames.truncate(set.petnames.len() / 2),
            Err(BusError::TooMany(_)) if !set.reverse.is_empty() => set.reverse.clear(),
            Err(error) => return Err(error),
        }
    }
    let routed = match (set.petnames.len(), set.everything) {
        (_, true) => {
            format!("{} are more than a link takes: every name comes to us, and others' are forwarded", set.count)
        }
        (routed, false) if routed < set.count => {
            format!("{routed} of {} routed; the rest works as NAME.{} only", set.count, wiring.suffix)
        }
        (routed, false) => format!("{routed} routed; every name also as NAME.{}", wiring.suffix),
    };
    board.note("petnames", routed);
    if !set.everything {
        board.forget("forwards-to");
    }
    Ok(())
}

/// Has resolved forget what it heard before. It still works if it does not.
async fn flush(bus: &Connection) {
    if let Err(error) = MANAGER.call(bus, "FlushCaches", &()).await {
        tracing::debug!(%error, "resolved keeps its cache");
    }
}

/// A property of our link.
async fn property<T>(bus: &Connection, wiring: &Wiring, name: &str) -> Result<T, BusError>
where
    T: zbus::Type + serde::de::DeserializeOwned,
{
    let found = MANAGER.call(bus, "GetLink", &(wiring.index,)).await?;
    let path: Result<OwnedObjectPath, _> = found.body().deserialize();
    let path = path.map_err(|error| BusError::Failed("GetLink".into(), error.to_string()))?;
    Object { owner: NAME, path: path.as_str(), interface: LINK }.property(bus, name).await
}

/// Whether the link has what we have set.
async fn is_set(bus: &Connection, wiring: &Wiring, set: &Settings) -> Result<bool, BusError> {
    let servers: Vec<Server> = property(bus, wiring, "DNS").await?;
    let mut found: Vec<Domain> = property(bus, wiring, "Domains").await?;
    let mut wanted = set.domains();
    found.sort();
    wanted.sort();
    Ok(servers == set.servers && found == wanted)
}

/// Takes our settings off the link, if they are still ours. For a link that outlives us.
///
/// # Errors
/// resolved does not answer, or says no.
pub async fn revert(wiring: &Wiring) -> Result<bool, BusError> {
    let bus = bus::connect().await?;
    let servers: Vec<Server> = property(&bus, wiring, "DNS").await?;
    if servers != settings(wiring, &[], false).servers {
        return Ok(false);
    }
    MANAGER.call(&bus, "RevertLink", &(wiring.index,)).await?;
    Ok(true)
}
