//! What only root may do: the files and programs of the modes that have some. Plain root does it
//! in the daemon. The packaged daemon is no root: it writes down what it wants, and
//! `tarnet-dns.service` reads that, believes none of it unchecked, and does it.
//!
//! The paper holds no file content and no path, only a mode, addresses and names. Addresses must
//! lie on a TUN of this host, names must be names, and none may be one of the Internet's: whoever
//! has taken the daemon over could at most have its own names asked of itself.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tarnet_core::names::reserved_petname;
use tokio::time::Instant;

use super::Wiring;
use super::bus::BusError;
use super::detect::{Flavor, Mode, detect};
use super::direct::{self, Tree};
use super::{facts, networkmanager, resolvconf};
use crate::config::DnsMode;
use crate::tun::plan::link_local;

/// Where the paper lies in the packaged service.
pub const PAPER: &str = "/run/tarnet/dns.want";
/// Bytes of the largest paper: [`PETNAMES_MAX`] names of the greatest length.
const PAPER_BYTES_MAX: u64 = 512 * 1024;
/// Petnames taken at most: dnsmasq reads a line for each.
pub const PETNAMES_MAX: usize = 4_096;
/// Bytes of a label, and of a name (RFC 1035 §2.3.4).
const LABEL_LEN_MAX: usize = 63;
const NAME_LEN_MAX: usize = 253;
/// Servers and reverse zones taken at most.
const FEW: usize = 32;
/// How long the unit may take: it starts, writes a file, and talks to one other daemon.
const DONE_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file or program.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other daemon does not do its part.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The paper is not to be believed.
    #[error("{0}: refused: {1}")]
    Paper(String, &'static str),
    /// The unit has not done it.
    #[error(
        "tarnet-dns.service, which does it as root, has not done it; `systemctl status tarnet-dns.path tarnet-dns.service` says more"
    )]
    NotDone,
}

/// What root is to bring about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// One of the modes that need root, or off.
    pub mode: Mode,
    /// The link, servers, suffix and reverse zones.
    pub wiring: Wiring,
    /// The petnames to route, where the mode does.
    pub petnames: Vec<String>,
}

impl Want {
    /// Nothing of ours.
    #[must_use]
    pub fn off() -> Self {
        Self { mode: Mode::Off, wiring: Wiring::default(), petnames: Vec::new() }
    }

    /// Whether the host already is as wanted.
    #[must_use]
    pub fn is_done(&self, tree: &Tree) -> bool {
        let Wiring { servers, suffix, .. } = &self.wiring;
        match self.mode {
            Mode::Direct => direct::is_applied(tree, servers, suffix),
            Mode::Resolvconf(_) => resolvconf::is_applied(tree, servers),
            Mode::NetworkManager => {
                networkmanager::is_applied(tree, &networkmanager::text(&self.wiring, &self.petnames))
            }
            Mode::Resolved | Mode::Off => {
                !direct::is_ours(tree) && !resolvconf::is_given(tree) && !networkmanager::is_there(tree)
            }
        }
    }

    /// The paper: a word and a value in each line.
    #[must_use]
    pub fn to_paper(&self) -> String {
        let mode = match self.mode {
            Mode::Resolvconf(Flavor::Openresolv) => "openresolv",
            Mode::Resolvconf(Flavor::Debian) => "resolvconf",
            other => other.as_str(),
        };
        let mut text = format!("mode {mode}\n");
        if !self.wiring.link.is_empty() {
            let _ = writeln!(text, "link {}\nsuffix {}", self.wiring.link, self.wiring.suffix);
        }
        for server in &self.wiring.servers {
            let _ = writeln!(text, "server {server}");
        }
        for (word, names) in [("reverse", &self.wiring.reverse), ("petname", &self.petnames)] {
            for name in names {
                let _ = writeln!(text, "{word} {name}");
            }
        }
        text
    }
}

impl FromStr for Want {
    type Err = RootError;

    /// Reads a paper; only what has a form that can do no harm.
    fn from_str(text: &str) -> Result<Self, RootError> {
        let mut want = Self::off();
        for line in text.lines() {
            let bad = |why| RootError::Paper(line.chars().take(80).collect(), why);
            let (word, value) = line.split_once(' ').ok_or_else(|| bad("a word and a value"))?;
            match word {
                "mode" => want.mode = mode(value).ok_or_else(|| bad("no mode of root's"))?,
                "link" if is_name(value, 15) => want.wiring.link = value.into(),
                // A top-level domain of its own would be more than names below ours.
                "suffix" if value.contains('.') && is_name(value, NAME_LEN_MAX) => want.wiring.suffix = value.into(),
                "server" if want.wiring.servers.len() < FEW => {
                    want.wiring.servers.push(value.parse().map_err(|_| bad("no address"))?);
                }
                "reverse" if want.wiring.reverse.len() < FEW && is_reverse(value) => {
                    want.wiring.reverse.push(value.into());
                }
                "petname" if want.petnames.len() < PETNAMES_MAX && is_label(value) => {
                    // A name of the Internet is routed nowhere else by us, whatever its owner has forced.
                    if reserved_petname(value, &[]).is_none() {
                        want.petnames.push(value.into());
                    }
                }
                _ => return Err(bad("not understood, or too much of it")),
            }
        }
        Ok(want)
    }
}

/// A mode by its word on the paper.
fn mode(word: &str) -> Option<Mode> {
    match word {
        "openresolv" => Some(Mode::Resolvconf(Flavor::Openresolv)),
        "resolvconf" => Some(Mode::Resolvconf(Flavor::Debian)),
        "networkmanager" => Some(Mode::NetworkManager),
        "direct" => Some(Mode::Direct),
        "off" => Some(Mode::Off),
        _ => None,
    }
}

/// Whether a text is a label of letters that mean nothing to any program.
fn is_label(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LABEL_LEN_MAX).contains(&text.len()) && text.bytes().all(known)
}

/// Whether a text is such labels with dots between.
fn is_name(text: &str, len_max: usize) -> bool {
    text.len() <= len_max && text.split('.').all(is_label)
}

/// Whether a text is a zone of the reverse tree, below its two roots.
fn is_reverse(text: &str) -> bool {
    let below = |root: &str| text.strip_suffix(root).is_some_and(|rest| is_name(rest, NAME_LEN_MAX));
    below(".in-addr.arpa") || below(".ip6.arpa")
}

/// Brings it about. Other modes' traces go first, so that any order of modes ends in the last.
///
/// # Errors
/// A file cannot be written, or a program or daemon fails.
pub async fn carry_out(tree: &Tree, want: &Want) -> Result<bool, RootError> {
    let mut changed = false;
    if want.mode != Mode::Direct {
        changed |= direct::restore(tree)?;
    }
    if !matches!(want.mode, Mode::Resolvconf(_)) {
        changed |= resolvconf::restore(tree)?;
    }
    if want.mode != Mode::NetworkManager && networkmanager::restore(tree)? {
        changed = true;
        // Where it no longer runs there is nothing to be told.
        if let Err(error) = networkmanager::reload().await {
            tracing::debug!(%error, "NetworkManager was not told");
        }
    }
    let Wiring { servers, suffix, .. } = &want.wiring;
    match want.mode {
        Mode::Direct => direct::apply(tree, servers, suffix)?,
        Mode::Resolvconf(flavor) => resolvconf::apply(tree, flavor, servers, suffix)?,
        Mode::NetworkManager => {
            if networkmanager::apply(tree, &networkmanager::text(&want.wiring, &want.petnames))? {
                networkmanager::reload().await?;
            }
        }
        Mode::Resolved | Mode::Off => {}
    }
    Ok(changed)
}

/// Who does root's work.
#[derive(Debug, Clone)]
pub enum Hand {
    /// We are root.
    Own(Tree),
    /// The unit, which reads the paper at this path.
    Unit(PathBuf),
}

impl Hand {
    /// The hand of this process. `paper` is where a unit would read.
    #[must_use]
    pub fn of_process(paper: PathBuf) -> Self {
        if nix::unistd::geteuid().is_root() { Self::Own(Tree::default()) } else { Self::Unit(paper) }
    }

    /// Brings it about, or has it brought about.
    ///
    /// # Errors
    /// It was not done.
    pub async fn carry_out(&self, want: &Want) -> Result<(), RootError> {
        let paper = match self {
            Self::Own(tree) => return carry_out(tree, want).await.map(drop),
            Self::Unit(paper) => paper,
        };
        let text = want.to_paper();
        if fs::read_to_string(paper).is_ok_and(|found| found == text) && want.is_done(&Tree::default()) {
            return Ok(());
        }
        if want.mode == Mode::Off && !paper.exists() {
            return Ok(());
        }
        let fresh = paper.with_extension("fresh");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, paper)?;
        let end = Instant::now() + DONE_TIME_MAX;
        while !want.is_done(&Tree::default()) {
            if Instant::now() >= end {
                return Err(RootError::NotDone);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

/// The unit's whole work: read the paper, check it, bring it about. Without a paper, nothing of ours stays.
/// The mode must be the one that this host calls for, or the one of the configuration, which is root's.
///
/// # Errors
/// The paper is not to be believed, or it was not done.
pub async fn obey(paper: &Path, configured: DnsMode) -> Result<(), RootError> {
    let want = match read_paper(paper) {
        Ok(text) => text.parse()?,
        Err(RootError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Want::off(),
        Err(error) => return Err(error),
    };
    if want.mode != Mode::Off {
        let strange = want.wiring.servers.iter().find(|server| !is_of_tun(&want.wiring.link, **server));
        if let Some(server) = strange {
            return Err(RootError::Paper(format!("server {server}"), "not an address of that TUN's network"));
        }
        if want.wiring.servers.is_empty() || want.wiring.suffix.is_empty() {
            return Err(RootError::Paper("the paper".into(), "no server or no suffix"));
        }
        if detect(configured, &facts::gather(&Tree::default()).await).mode != want.mode {
            return Err(RootError::Paper(format!("mode {}", want.mode), "neither fits this host nor is configured"));
        }
    }
    carry_out(&Tree::default(), &want).await.map(drop)
}

/// The text of the paper: a plain file, not of another's making by a link, and not too long.
fn read_paper(paper: &Path) -> Result<String, RootError> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(paper)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 || meta.len() > PAPER_BYTES_MAX {
        return Err(RootError::Paper(paper.display().to_string(), "no plain file of a fitting size"));
    }
    let mut text = String::new();
    file.take(PAPER_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether an address lies in a network of this TUN of the host's.
fn is_of_tun(link: &str, address: IpAddr) -> bool {
    if !Path::new("/sys/class/net").join(link).join("tun_flags").exists() {
        return false;
    }
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return false };
    all.filter(|entry| entry.interface_name == link).any(|entry| {
        let (Some(own), Some(mask)) = (entry.address, entry.netmask) else { return false };
        match address {
            IpAddr::V4(v4) => own.as_sockaddr_in().zip(mask.as_sockaddr_in()).is_some_and(|(own, mask)| {
                let mask = u32::from(mask.ip());
                mask != 0 && u32::from(own.ip()) & mask == u32::from(v4) & mask
            }),
            // Our link's own address names the prefix, which is the link's by a route alone.
            IpAddr::V6(v6) => own.as_sockaddr_in6().is_some_and(|own| own.ip() == link_local(v6)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A paper with everything on it.
    fn want() -> Want {
        Want {
            mode: Mode::NetworkManager,
            wiring: Wiring {
                link: "tarnet0".into(),
                index: 0,
                servers: vec!["198.18.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                suffix: "tarnet.alt".into(),
                reverse: vec!["18.198.in-addr.arpa".into()],
            },
            petnames: vec!["alice".into(), "xn--bcher-kva".into()],
        }
    }

    #[test]
    fn a_paper_comes_back_as_it_was_written() {
        for mode in
            [Mode::NetworkManager, Mode::Direct, Mode::Resolvconf(Flavor::Debian), Mode::Resolvconf(Flavor::Openresolv)]
        {
            let written = Want { mode, ..want() };
            assert_eq!(written.to_paper().parse::<Want>().unwrap(), written);
        }
        assert_eq!(Want::off().to_paper().parse::<Want>().unwrap(), Want::off());
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        for text in [
            "mode resolved",
            "mode /etc/passwd",
            "file /etc/passwd",
            "server 192.0.2.1\nnameserver x",
            "server localhost",
            "petname a.b",
            "petname a/b",
            "petname a\tb",
            "petname ",
            "reverse com",
            "reverse in-addr.arpa",
            "suffix a..b",
            "suffix com",
            "suffix tarnet.alt\u{7f}",
            "link ../../x",
            "mode",
        ] {
            assert!(matches!(text.parse::<Want>(), Err(RootError::Paper(..))), "{text}");
        }
        let many = |word: &str, count: usize| (0..count).map(|at| format!("{word}{at}\n")).collect::<String>();
        assert!(many("petname p", PETNAMES_MAX).parse::<Want>().is_ok());
        assert!(many("petname p", PETNAMES_MAX + 1).parse::<Want>().is_err());
        assert!(many("server 10.0.0.", FEW + 1).parse::<Want>().is_err());
        // Names of the Internet are left out, not routed.
        assert_eq!("petname com\npetname alice".parse::<Want>().unwrap().petnames, ["alice"]);
    }

    #[test]
    fn only_a_plain_file_is_read() {
        let folder = std::env::temp_dir().join(format!("tarnet-paper-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (real, link) = (folder.join("want"), folder.join("link"));
        fs::write(&real, "mode off\n").unwrap();
        assert_eq!(read_paper(&real).unwrap(), "mode off\n");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(read_paper(&link).is_err());
        fs::hard_link(&real, folder.join("other")).unwrap();
        assert!(read_paper(&real).is_err());
        assert!(!is_of_tun("lo", "127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn each_mode_takes_the_traces_of_the_others_away() {
        let root = std::env::temp_dir().join(format!("tarnet-root-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("etc")).unwrap();
        let tree = Tree::new(&root);
        fs::write(tree.path("etc/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        let direct = Want { mode: Mode::Direct, ..want() };
        carry_out(&tree, &direct).await.unwrap();
        assert!(direct.is_done(&tree));
        for _ in 0..2 {
            carry_out(&tree, &Want::off()).await.unwrap();
            assert_eq!(tree.read("etc/resolv.conf").unwrap(), "nameserver 192.0.2.1\n");
            assert_eq!(fs::read_dir(root.join("etc")).unwrap().count(), 1);
        }
    }
}
