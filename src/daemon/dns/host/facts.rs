//! Looking at the host: files, and who is on the bus. Nothing is changed, nothing is started.

use std::io;

use zbus::Connection;

use super::bus::{self, Object};
use super::detect::{Facts, Owner};
use super::direct::{self, Tree};
use super::{networkmanager, resolvconf, resolved};

/// The bus itself.
const BUS: Object<'_> =
    Object { owner: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// What this host is like.
pub async fn gather(tree: &Tree) -> Facts {
    let mut facts =
        Facts { nss_resolve: asks_resolved(&tree.read("etc/nsswitch.conf").unwrap_or_default()), ..Facts::default() };
    match direct::before(tree) {
        Ok(read) => (facts.nameservers, facts.owner) = (read.nameservers, read.owner),
        Err(error) => facts.unreadable = Some(error.to_string()),
    }
    if facts.owner == Owner::Unknown {
        facts.owner = owner_by_link(tree).unwrap_or_default();
    }
    facts.resolvconf = resolvconf::flavor(tree);
    match bus::connect().await {
        Ok(bus) => {
            facts.resolved = has_owner(&bus, resolved::NAME).await || is_activatable(&bus, resolved::NAME).await;
            if has_owner(&bus, networkmanager::NAME).await {
                facts.network_manager = Some(network_manager_mode(&bus).await.unwrap_or_else(|| "unknown".into()));
            }
        }
        Err(error) => tracing::debug!(%error, "nobody is asked over D-Bus"),
    }
    facts
}

/// Whether `hosts:` of nsswitch.conf asks resolved by its own module.
fn asks_resolved(text: &str) -> bool {
    let hosts = text.lines().filter_map(|line| line.trim_start().strip_prefix("hosts:"));
    hosts.flat_map(str::split_whitespace).any(|word| word == "resolve")
}

/// Who owns the resolver file, by where it points.
fn owner_by_link(tree: &Tree) -> Option<Owner> {
    let target = std::fs::read_link(tree.path("etc/resolv.conf")).ok()?;
    let target = target.to_string_lossy().into_owned();
    let known = [
        ("run/resolvconf/", Owner::Resolvconf),
        ("run/systemd/resolve/", Owner::Resolved),
        ("run/NetworkManager/", Owner::NetworkManager),
    ];
    known.iter().find(|(folder, _)| target.contains(folder)).map(|(_, owner)| *owner)
}

/// Whether somebody on the bus has this name.
async fn has_owner(bus: &Connection, name: &str) -> bool {
    let answer = BUS.call(bus, "NameHasOwner", &(name,)).await;
    answer.is_ok_and(|message| message.body().deserialize().unwrap_or(false))
}

/// Whether the bus can start whoever has this name.
async fn is_activatable(bus: &Connection, name: &str) -> bool {
    let answer = BUS.call(bus, "ListActivatableNames", &()).await;
    answer.is_ok_and(|message| {
        message.body().deserialize::<Vec<String>>().is_ok_and(|names| names.iter().any(|known| known == name))
    })
}

/// What NetworkManager does with DNS.
async fn network_manager_mode(bus: &Connection) -> Option<String> {
    let manager = Object {
        owner: networkmanager::NAME,
        path: "/org/freedesktop/NetworkManager/DnsManager",
        interface: "org.freedesktop.NetworkManager.DnsManager",
    };
    manager.property(bus, "Mode").await.ok()
}

/// What the host says of its resolver before we have part in it.
///
/// # Errors
/// It cannot be read.
pub fn before(tree: &Tree, mode: super::detect::Mode) -> io::Result<super::file::ResolvConf> {
    match mode {
        super::detect::Mode::Resolvconf(flavor) => resolvconf::before(tree, flavor),
        _ => direct::before(tree),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nsswitch_is_read_by_its_words() {
        assert!(asks_resolved("passwd: files\nhosts:          files resolve [!UNAVAIL=return] dns\n"));
        assert!(!asks_resolved("#hosts: resolve\nhosts: files dns myhostname\nnetworks: resolve\n"));
    }

    #[test]
    fn links_name_their_owner() {
        let root = std::env::temp_dir().join(format!("tarnet-facts-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("etc")).unwrap();
        let tree = Tree::new(&root);
        assert_eq!(owner_by_link(&tree), None);
        std::os::unix::fs::symlink("../run/resolvconf/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        assert_eq!(owner_by_link(&tree), Some(Owner::Resolvconf));
    }
}
