//! Which of this host's resolvers is to be told of us: a pure function of what was observed,
//! so that a strange machine is a row of a table.
//!
//! The ladder: systemd-resolved where programs really ask it; NetworkManager where it runs a
//! dnsmasq of its own; resolvconf where it owns the resolver file; else the file itself.

use std::fmt;
use std::net::IpAddr;

use crate::config::DnsMode;

/// Addresses of systemd-resolved's stub (`systemd-resolved(8)`).
const STUBS: [[u8; 4]; 2] = [[127, 0, 0, 53], [127, 0, 0, 54]];

/// Who wrote the resolver file, by its own words or by where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    /// Nobody in particular.
    #[default]
    Unknown,
    /// We did.
    Us,
    /// systemd-resolved.
    Resolved,
    /// NetworkManager.
    NetworkManager,
    /// One of the programs named resolvconf.
    Resolvconf,
}

/// Which program answers to the name `resolvconf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Roy Marples' openresolv.
    Openresolv,
    /// Debian's resolvconf.
    Debian,
}

/// What was observed of the host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The name servers of the resolver file, or of the one that ours replaced.
    pub nameservers: Vec<IpAddr>,
    /// Who wrote that file.
    pub owner: Owner,
    /// The resolver file cannot be read; why.
    pub unreadable: Option<String>,
    /// systemd-resolved answers on D-Bus, or can be started by it.
    pub resolved: bool,
    /// `hosts:` in nsswitch.conf asks systemd-resolved without the file.
    pub nss_resolve: bool,
    /// NetworkManager's way with DNS, if it runs: `default`, `dnsmasq`, `systemd-resolved`, `none`.
    pub network_manager: Option<String>,
    /// The program named resolvconf.
    pub resolvconf: Option<Flavor>,
}

/// How the host is told of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// systemd-resolved routes our names to us.
    Resolved,
    /// NetworkManager's dnsmasq routes our names to us.
    NetworkManager,
    /// We are the host's resolver, by resolvconf.
    Resolvconf(Flavor),
    /// We are the host's resolver, by its file.
    Direct,
    /// The host is left alone.
    Off,
}

impl Mode {
    /// The word for it, as in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::NetworkManager => "networkmanager",
            Self::Resolvconf(_) => "resolvconf",
            Self::Direct => "direct",
            Self::Off => "off",
        }
    }

    /// Whether every question of the host comes to us, so that those of others are forwarded.
    #[must_use]
    pub const fn is_whole_host(self) -> bool {
        matches!(self, Self::Resolvconf(_) | Self::Direct)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The mode, and the observations that led to it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The mode.
    pub mode: Mode,
    /// What was looked at, and what was found.
    pub trail: Vec<(&'static str, String)>,
}

/// Decides. `configured` is the setting; all but `auto` is obeyed as far as the host allows.
#[must_use]
pub fn detect(configured: DnsMode, facts: &Facts) -> Decision {
    let mut trail = observed(facts);
    let word = DnsMode::WORDS.iter().find(|(_, mode)| *mode == configured).map_or("", |(word, _)| word);
    trail.insert(0, ("configured", word.to_owned()));
    let (mode, why) = match configured {
        DnsMode::Auto => ladder(facts),
        DnsMode::Resolved => (Mode::Resolved, "as configured"),
        DnsMode::NetworkManager => (Mode::NetworkManager, "as configured"),
        // Without the program it is the one whose absence says so.
        DnsMode::Resolvconf => (Mode::Resolvconf(facts.resolvconf.unwrap_or(Flavor::Openresolv)), "as configured"),
        DnsMode::Direct => (Mode::Direct, "as configured"),
        DnsMode::Off => (Mode::Off, "as configured"),
    };
    trail.push(("because", why.to_owned()));
    Decision { mode, trail }
}

/// The observations, as they are shown.
fn observed(facts: &Facts) -> Vec<(&'static str, String)> {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let owner = match facts.owner {
        Owner::Unknown => "nobody known",
        Owner::Us => "tarnetd",
        Owner::Resolved => "systemd-resolved",
        Owner::NetworkManager => "NetworkManager",
        Owner::Resolvconf => "resolvconf",
    };
    let servers: Vec<String> = facts.nameservers.iter().map(ToString::to_string).collect();
    let flavor = match facts.resolvconf {
        None => "absent",
        Some(Flavor::Openresolv) => "openresolv",
        Some(Flavor::Debian) => "Debian's",
    };
    vec![
        ("resolv.conf", facts.unreadable.clone().unwrap_or_else(|| format!("of {owner}"))),
        ("nameservers", if servers.is_empty() { "none".into() } else { servers.join(" ") }),
        ("nss-resolve", yes(facts.nss_resolve)),
        ("resolved", yes(facts.resolved)),
        ("networkmanager", facts.network_manager.clone().unwrap_or_else(|| "not running".into())),
        ("resolvconf", flavor.into()),
    ]
}

/// The best mode that this host has, and why.
fn ladder(facts: &Facts) -> (Mode, &'static str) {
    let stub = |address: &IpAddr| matches!(address, IpAddr::V4(v4) if STUBS.contains(&v4.octets()));
    let to_stub = !facts.nameservers.is_empty() && facts.nameservers.iter().all(stub);
    if to_stub {
        // At boot resolved may not be there yet: who points at its stub means it.
        return (Mode::Resolved, "resolv.conf names systemd-resolved's stub");
    }
    if facts.resolved && facts.nss_resolve {
        return (Mode::Resolved, "nsswitch.conf asks systemd-resolved");
    }
    let local = facts.nameservers.iter().all(IpAddr::is_loopback);
    if facts.network_manager.as_deref() == Some("dnsmasq") && local {
        return (Mode::NetworkManager, "NetworkManager's dnsmasq is the host's resolver");
    }
    if let (Some(flavor), Owner::Resolvconf) = (facts.resolvconf, facts.owner) {
        return (Mode::Resolvconf(flavor), "resolvconf writes resolv.conf");
    }
    // A file that says "resolved" and names other servers goes past its stub: its words are not enough.
    (
        Mode::Direct,
        if facts.owner == Owner::Resolved {
            "resolv.conf bypasses resolved's stub"
        } else {
            "nothing else owns resolv.conf"
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of the table.
    fn facts(servers: &[&str], owner: Owner) -> Facts {
        Facts { nameservers: servers.iter().map(|text| text.parse().unwrap()).collect(), owner, ..Facts::default() }
    }

    #[test]
    fn every_kind_of_host_gets_the_mode_that_fits() {
        let stub = || facts(&["127.0.0.53"], Owner::Resolved);
        let uplink = || facts(&["192.0.2.1"], Owner::Resolved);
        let plain = || facts(&["192.0.2.1"], Owner::Unknown);
        let nm = |way: &str, servers: &[&str]| Facts {
            network_manager: Some(way.into()),
            ..facts(servers, Owner::NetworkManager)
        };
        let rc = |flavor, owner| Facts { resolvconf: Some(flavor), ..facts(&["192.0.2.1"], owner) };
        let table: Vec<(&str, Facts, Mode)> = vec![
            ("stub, resolved up", Facts { resolved: true, ..stub() }, Mode::Resolved),
            ("stub, resolved not up yet (tailscale#3742)", stub(), Mode::Resolved),
            (
                "stub in a file of nobody",
                Facts { resolved: true, ..facts(&["127.0.0.53"], Owner::Unknown) },
                Mode::Resolved,
            ),
            ("second stub address", Facts { resolved: true, ..facts(&["127.0.0.54"], Owner::Unknown) }, Mode::Resolved),
            ("says resolved but is not (tailscale#2136)", Facts { resolved: true, ..uplink() }, Mode::Direct),
            ("uplink file, but nss-resolve", Facts { resolved: true, nss_resolve: true, ..uplink() }, Mode::Resolved),
            ("nss-resolve without resolved", Facts { nss_resolve: true, ..plain() }, Mode::Direct),
            (
                "stub beside another server",
                Facts { resolved: true, ..facts(&["127.0.0.53", "192.0.2.1"], Owner::Unknown) },
                Mode::Direct,
            ),
            ("resolved runs, nobody asks it", Facts { resolved: true, ..plain() }, Mode::Direct),
            ("NM with dnsmasq", nm("dnsmasq", &["127.0.0.1"]), Mode::NetworkManager),
            ("NM with dnsmasq, file of another", nm("dnsmasq", &["192.0.2.1"]), Mode::Direct),
            ("NM writes the file itself", nm("default", &["192.0.2.1"]), Mode::Direct),
            ("NM with resolved", Facts { resolved: true, ..nm("systemd-resolved", &["127.0.0.53"]) }, Mode::Resolved),
            ("openresolv", rc(Flavor::Openresolv, Owner::Resolvconf), Mode::Resolvconf(Flavor::Openresolv)),
            ("Debian's resolvconf", rc(Flavor::Debian, Owner::Resolvconf), Mode::Resolvconf(Flavor::Debian)),
            ("resolvconf there, file not its own", rc(Flavor::Openresolv, Owner::Unknown), Mode::Direct),
            ("file of resolvconf, program gone", facts(&["192.0.2.1"], Owner::Resolvconf), Mode::Direct),
            ("plain file", plain(), Mode::Direct),
            ("empty file", facts(&[], Owner::Unknown), Mode::Direct),
            ("no file", Facts { unreadable: Some("no such file".into()), ..Facts::default() }, Mode::Direct),
        ];
        for (what, facts, mode) in table {
            assert_eq!(detect(DnsMode::Auto, &facts).mode, mode, "{what}");
        }
    }

    #[test]
    fn what_is_configured_is_obeyed_and_the_trail_says_so() {
        let stub = Facts { resolved: true, ..facts(&["127.0.0.53"], Owner::Resolved) };
        for (configured, mode) in [
            (DnsMode::Off, Mode::Off),
            (DnsMode::Direct, Mode::Direct),
            (DnsMode::Resolvconf, Mode::Resolvconf(Flavor::Openresolv)),
            (DnsMode::NetworkManager, Mode::NetworkManager),
            (DnsMode::Resolved, Mode::Resolved),
        ] {
            let decision = detect(configured, &stub);
            assert_eq!(decision.mode, mode);
            assert_eq!(decision.trail[0], ("configured", mode.as_str().to_owned()));
            assert_eq!(decision.trail.last(), Some(&("because", "as configured".to_owned())));
        }
        let trail = detect(DnsMode::Auto, &stub).trail;
        assert!(trail.contains(&("nameservers", "127.0.0.53".into())) && trail.contains(&("resolved", "yes".into())));
    }
}
