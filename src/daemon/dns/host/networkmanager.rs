//! NetworkManager with a dnsmasq of its own: a file in that dnsmasq's folder sends our names to
//! our responder, and NetworkManager starts its dnsmasq again. Other names go where they went.
//!
//! dnsmasq has no bound on such lines, and takes a bare label by the same line as the names
//! below it. While we are down the lines still lead to us and nobody else is asked.

use std::fmt::Write as _;
use std::io;

use super::Wiring;
use super::bus::{self, BusError, Object};
use super::direct::Tree;

/// Its name on the bus.
pub const NAME: &str = "org.freedesktop.NetworkManager";
/// The folder that NetworkManager's dnsmasq reads; there is none in `/run`.
const FOLDER: &str = "etc/NetworkManager/dnsmasq.d";
/// Our file there.
const FILE: &str = "etc/NetworkManager/dnsmasq.d/tarnet.conf";
/// Where it is written first: outside, since dnsmasq reads every file of the folder.
const FRESH: &str = "etc/NetworkManager/.tarnet.conf";
/// `Reload`: start the DNS plugin again and have it read its settings (NetworkManager's D-Bus API, `DNS_FULL`).
const RELOAD_DNS: u32 = 4;

/// The file as it is to be.
#[must_use]
pub fn text(wiring: &Wiring, petnames: &[String]) -> String {
    let mut text = "# Written by tarnetd: its names are asked of it. Removed when it stops.\n".to_owned();
    let names = std::iter::once(&wiring.suffix).chain(petnames).chain(&wiring.reverse);
    for name in names {
        for server in &wiring.servers {
            let _ = writeln!(text, "server=/{name}/{server}");
        }
    }
    text
}

/// Whether the file is as it is to be.
#[must_use]
pub fn is_applied(tree: &Tree, text: &str) -> bool {
    tree.read(FILE).is_ok_and(|found| found == text)
}

/// Whether there is a file of ours.
#[must_use]
pub fn is_there(tree: &Tree) -> bool {
    tree.path(FILE).exists()
}

/// Writes the file; says whether that changed anything.
///
/// # Errors
/// It cannot be written.
pub fn apply(tree: &Tree, text: &str) -> io::Result<bool> {
    if is_applied(tree, text) {
        return Ok(false);
    }
    std::fs::create_dir_all(tree.path(FOLDER))?;
    tree.replace(FILE, FRESH, text, 0o644)?;
    Ok(true)
}

/// Removes the file; says whether there was one.
///
/// # Errors
/// It cannot be removed.
pub fn restore(tree: &Tree) -> io::Result<bool> {
    tree.remove(FILE)
}

/// Has NetworkManager start its dnsmasq again.
///
/// # Errors
/// It does not run, or says no.
pub async fn reload() -> Result<(), BusError> {
    let bus = bus::connect().await?;
    let manager = Object { owner: NAME, path: "/org/freedesktop/NetworkManager", interface: NAME };
    manager.call(&bus, "Reload", &(RELOAD_DNS,)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_routes_our_names_and_no_others_and_goes_without_a_trace() {
        let root = std::env::temp_dir().join(format!("tarnet-nm-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join(FOLDER)).unwrap();
        let tree = Tree::new(&root);
        let wiring = Wiring {
            link: "tarnet0".into(),
            index: 7,
            servers: vec!["198.18.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            suffix: "tarnet.alt".into(),
            reverse: vec!["18.198.in-addr.arpa".into()],
        };
        let wanted = text(&wiring, &["alice".into()]);
        let lines: Vec<&str> = wanted.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "server=/tarnet.alt/198.18.0.2",
                "server=/tarnet.alt/fd00::2",
                "server=/alice/198.18.0.2",
                "server=/alice/fd00::2",
                "server=/18.198.in-addr.arpa/198.18.0.2",
                "server=/18.198.in-addr.arpa/fd00::2",
            ]
        );
        assert!(apply(&tree, &wanted).unwrap() && !apply(&tree, &wanted).unwrap() && is_applied(&tree, &wanted));
        assert!(restore(&tree).unwrap() && !restore(&tree).unwrap());
        let left = std::fs::read_dir(root.join(FOLDER)).unwrap().count();
        assert_eq!((left, std::fs::read_dir(root.join("etc/NetworkManager")).unwrap().count()), (0, 1));
    }
}
