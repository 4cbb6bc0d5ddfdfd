//! On a folder that stands for the root.

use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;

/// A root of a test's own, with `etc`.
fn tree(test: &str) -> Tree {
    let root = std::env::temp_dir().join(format!("tarnet-direct-{test}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("etc")).unwrap();
    Tree::new(&root)
}

fn ours() -> Vec<IpAddr> {
    vec!["198.18.0.2".parse().unwrap()]
}

/// Everything about what lies in `etc` that restoration must bring back.
fn inventory(tree: &Tree) -> Vec<(String, String, u32, u64, SystemTime)> {
    let mut found: Vec<_> = fs::read_dir(tree.path("etc"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let text = match meta.is_symlink() {
                true => format!("-> {}", fs::read_link(&path).unwrap().display()),
                false => fs::read_to_string(&path).unwrap(),
            };
            (path.display().to_string(), text, meta.mode(), meta.ino(), meta.modified().unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_file_is_replaced_and_comes_back_as_it_was() {
    let tree = tree("file");
    fs::write(tree.path(FILE), "nameserver 192.0.2.1\nsearch lan\n").unwrap();
    fs::set_permissions(tree.path(FILE), Permissions::from_mode(0o640)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::options().write(true).open(tree.path(FILE)).unwrap().set_modified(old).unwrap();
    let before_us = inventory(&tree);
    for _ in 0..3 {
        // Twice the same, as after a crash, changes nothing more.
        for _ in 0..2 {
            apply(&tree, &ours(), "tarnet.alt").unwrap();
            assert!(is_applied(&tree, &ours(), "tarnet.alt"));
            assert_eq!(fs::metadata(tree.path(FILE)).unwrap().mode() & 0o777, MODE);
            assert_eq!(before(&tree).unwrap().nameservers, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        }
        assert!(restore(&tree).unwrap());
        assert!(!restore(&tree).unwrap());
        assert_eq!(inventory(&tree), before_us);
    }
}

#[test]
fn a_link_comes_back_as_a_link() {
    let tree = tree("link");
    fs::create_dir_all(tree.path("run")).unwrap();
    fs::write(tree.path("run/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
    symlink("../run/resolv.conf", tree.path(FILE)).unwrap();
    let before_us = inventory(&tree);
    apply(&tree, &ours(), "tarnet.alt").unwrap();
    // The target is another's and is left alone.
    assert_eq!(fs::read_to_string(tree.path("run/resolv.conf")).unwrap(), "nameserver 192.0.2.1\n");
    assert_eq!(before(&tree).unwrap().nameservers.len(), 1);
    assert!(restore(&tree).unwrap());
    assert_eq!(inventory(&tree), before_us);
}

#[test]
fn nothing_comes_back_as_nothing() {
    let tree = tree("nothing");
    apply(&tree, &ours(), "tarnet.alt").unwrap();
    assert!(is_applied(&tree, &ours(), "tarnet.alt"));
    assert!(restore(&tree).unwrap());
    assert_eq!(inventory(&tree), []);
}

#[test]
fn what_another_has_written_since_is_left_alone() {
    let tree = tree("another");
    fs::write(tree.path(FILE), "nameserver 192.0.2.1\n").unwrap();
    apply(&tree, &ours(), "tarnet.alt").unwrap();
    fs::write(tree.path("etc/new"), "nameserver 192.0.2.9\n").unwrap();
    fs::rename(tree.path("etc/new"), tree.path(FILE)).unwrap();
    assert!(!is_applied(&tree, &ours(), "tarnet.alt"));
    assert!(!restore(&tree).unwrap());
    assert_eq!(fs::read_to_string(tree.path(FILE)).unwrap(), "nameserver 192.0.2.9\n");
    assert!(!tree.path(BACKUP).exists());
    // What it says now is what we forward to when we take its place again.
    apply(&tree, &ours(), "tarnet.alt").unwrap();
    assert_eq!(before(&tree).unwrap().nameservers, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_file_that_cannot_be_replaced_keeps_what_it_said_to_the_byte() {
    for former in ["nameserver 192.0.2.1\n", "nameserver 192.0.2.1", "\n\nnameserver 192.0.2.1\n\n#| x\n"] {
        let tree = tree("place");
        fs::write(tree.path(FILE), former).unwrap();
        let inode = fs::metadata(tree.path(FILE)).unwrap().ino();
        let text = wanted(&tree, &ours(), "tarnet.alt").unwrap();
        in_place(&tree, &keeping(&text, former)).unwrap();
        assert!(is_applied(&tree, &ours(), "tarnet.alt"));
        assert_eq!(before(&tree).unwrap(), ResolvConf::parse(former));
        // Another suffix: what is kept stays kept.
        apply(&tree, &ours(), "other.alt").unwrap();
        assert!(is_applied(&tree, &ours(), "other.alt") && !is_applied(&tree, &ours(), "tarnet.alt"));
        assert!(restore(&tree).unwrap() && !restore(&tree).unwrap());
        assert_eq!(fs::read_to_string(tree.path(FILE)).unwrap(), former);
        assert_eq!(fs::metadata(tree.path(FILE)).unwrap().ino(), inode);
        assert_eq!(fs::read_dir(tree.path("etc")).unwrap().count(), 1);
    }
}

#[test]
fn a_lost_backup_is_an_error_and_changes_nothing() {
    let tree = tree("lost");
    fs::write(tree.path(FILE), "nameserver 192.0.2.1\n").unwrap();
    apply(&tree, &ours(), "tarnet.alt").unwrap();
    tree.remove(BACKUP).unwrap();
    assert_eq!(restore(&tree).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(tree.read(FILE).unwrap().starts_with(MARK));
}
