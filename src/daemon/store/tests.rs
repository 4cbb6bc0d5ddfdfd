//! State folders that are new, reopened after a crash, shared, exposed or damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tarnet_core::crypto::{Scheme, SigningKey};
use tarnet_core::rng::Rng;

use super::*;

/// A folder of its own, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("tarnet-store-{}-{n}", std::process::id())))
    }

    fn open(&self) -> Result<State, Error> {
        State::open(&self.0)
    }

    /// The message of the error that opening gives.
    fn error(&self) -> String {
        self.open().map(|_| ()).unwrap_err().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key(seed: u8, scheme: Scheme) -> SigningKey {
    SigningKey::generate(scheme, &mut Rng::from_seed([seed; 32]))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_come_back_as_they_were_and_only_we_can_read_them() {
    let folder = Folder::new();
    let state = folder.open().unwrap();
    assert!(state.keys.node().unwrap().is_none() && state.keys.identities().unwrap().is_empty());
    let (node, alice) = (key(1, Scheme::Ed25519), key(2, Scheme::FalconEd25519));
    state.keys.create_node(&node).unwrap();
    state.keys.create("alice", &alice).unwrap();
    assert!(state.keys.create_node(&node).is_err(), "never overwritten");
    assert!(matches!(state.keys.create("alice", &alice), Err(Error::Exists(_))));
    let backup = state.keys.export("alice").unwrap();
    state.close();
    let state = folder.open().unwrap();
    assert_eq!(state.keys.node().unwrap().unwrap().public().peer_id(), node.public().peer_id());
    let found = state.keys.identities().unwrap();
    assert_eq!((found[0].0.as_str(), found[0].1.public().service_id()), ("alice", alice.public().service_id()));
    assert_eq!(KeyFolder::import(&backup).map_err(drop).unwrap().public().service_id(), alice.public().service_id());
    assert_eq!((mode(&folder.0.join("keys")), mode(&folder.0.join("keys/node.key"))), (0o700, 0o600));
    assert_eq!(mode(&folder.0.join("keys/identities/alice.key")), 0o600);
    state.keys.remove("alice").unwrap();
    assert!(matches!(state.keys.remove("alice"), Err(Error::Absent(_))));
    assert!(matches!(state.keys.export("alice"), Err(Error::Absent(_))));
    state.close();
}

#[test]
fn names_of_identities_are_plain() {
    for name in ["a", "default", "work-2", "x_y", "0"] {
        assert!(identity_name(name).is_ok(), "{name}");
    }
    let long = "x".repeat(64);
    for name in ["", "peer", "Work", "-a", "_a", "a/b", "..", "ä", "a b", &long] {
        assert!(matches!(identity_name(name), Err(Error::Name(_))), "{name}");
    }
}

#[test]
fn keys_that_others_can_read_are_refused_with_the_cure() {
    let folder = Folder::new();
    let state = folder.open().unwrap();
    state.keys.create("alice", &key(3, Scheme::Ed25519)).unwrap();
    let file = folder.0.join("keys/identities/alice.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = state.keys.identities().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("mode 0640") && error.ends_with(&format!("chmod 600 {}", file.display())), "{error}");
    state.close();
    fs::set_permissions(folder.0.join("keys"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(folder.error().contains("chmod 700"));
}

#[test]
fn damaged_keys_are_told_and_not_replaced() {
    let folder = Folder::new();
    let state = folder.open().unwrap();
    state.keys.create_node(&key(4, Scheme::Ed25519)).unwrap();
    let file = folder.0.join("keys/node.key");
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    let mut newer = good.clone();
    newer[9] = 2;
    for (bytes, want) in [
        (good[..good.len() - 1].to_vec(), "wrong length"),
        (Vec::new(), "wrong length"),
        (flipped, "check does not match"),
        (newer, "newer tarnet"),
        (b"-----BEGIN KEY-----".to_vec(), "no tarnet key"),
    ] {
        fs::write(&file, &bytes).unwrap();
        let error = state.keys.node().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(want) && error.contains("backup"), "{error}");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(KeyFolder::import(&bad).is_err() && KeyFolder::import(&good[..at]).is_err());
    }
    fs::write(folder.0.join("keys/left.tmp"), b"x").unwrap();
    state.close();
    folder.open().unwrap().close();
    assert!(!folder.0.join("keys/left.tmp").exists());
}

#[test]
fn two_daemons_cannot_share_a_state() {
    let folder = Folder::new();
    let state = folder.open().unwrap();
    assert!(matches!(folder.open(), Err(Error::Locked(_))));
    assert!(folder.error().contains("--state-dir"));
    state.close();
    folder.open().unwrap().close();
}

/// A put into the zones.
fn put(key: &str, value: &str) -> Op {
    Op::Put(Table::Zones, key.into(), value.into())
}

#[tokio::test]
async fn acknowledged_writes_are_in_the_file_even_if_nobody_closes_it() {
    let folder = Folder::new();
    let state = folder.open().unwrap();
    state.disk.write(vec![put("a", "1"), put("b", "2")], When::Now).unwrap().await.unwrap();
    // A power cut: the file as it is on the disk now, opened elsewhere.
    let other = Folder::new();
    fs::create_dir_all(&other.0).unwrap();
    fs::copy(folder.0.join("state.redb"), other.0.join("state.redb")).unwrap();
    let survivor = other.open().unwrap();
    let rows = survivor.disk.load(Table::Zones).await.unwrap();
    assert_eq!(rows, [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    survivor.close();
    state.close();
}

#[tokio::test]
async fn writes_apply_in_order_and_close_brings_the_lazy_ones_to_the_disk() {
    let folder = Folder::new();
    let state = folder.open().unwrap();
    let pending: Vec<_> = (0..100)
        .map(|n| state.disk.write(vec![put("n", &n.to_string()), put(&format!("k{n:02}"), "x")], When::Soon).unwrap())
        .collect();
    let gone = state
        .disk
        .write(
            vec![Op::RemovePrefix(Table::Zones, b"k1".to_vec()), Op::Remove(Table::Zones, b"k99".to_vec())],
            When::Soon,
        )
        .unwrap();
    state.close();
    for write in pending {
        write.await.unwrap();
    }
    gone.await.unwrap();
    let state = folder.open().unwrap();
    let rows = state.disk.load(Table::Zones).await.unwrap();
    assert_eq!(rows.len(), 1 + 100 - 10 - 1);
    assert!(rows.contains(&(b"n".to_vec(), b"99".to_vec())) && rows.iter().all(|(key, _)| !key.starts_with(b"k1")));
    assert!(state.disk.load(Table::Peers).await.unwrap().is_empty());
    state.close();
}

#[test]
fn a_damaged_database_is_told_and_not_replaced() {
    let folder = Folder::new();
    folder.open().unwrap().close();
    let file = folder.0.join("state.redb");
    assert_eq!(mode(&file), 0o600);
    let good = fs::read(&file).unwrap();
    fs::write(&file, b"this is no database, whatever its name says").unwrap();
    assert!(folder.error().contains("damaged") && folder.error().contains("move it away"));
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    assert!(folder.error().contains("state.redb"));
    fs::write(&file, &good).unwrap();
    folder.open().unwrap().close();
}
