//! Debian's packages, unpacked into a folder: installing them would change the host's own resolver,
//! and some exclude each other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Where a set of packages lies unpacked. Fetched when it is missing, which needs the host's network: to be
/// called before the laboratory is entered, and again inside.
pub fn unpacked(packages: &[&str]) -> PathBuf {
    static FETCHING: Mutex<()> = Mutex::new(());
    let _one = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debs").join(packages.join("+"));
    if folder.exists() {
        return folder;
    }
    // Other processes may fetch the same: each into a folder of its own, and the first that is ready counts.
    let fresh = folder.with_extension(std::process::id().to_string());
    std::fs::create_dir_all(&fresh).expect("a folder of the build");
    let ends = |command: &mut Command| command.current_dir(&fresh).output().expect("it runs");
    let run = |command: &mut Command| {
        let output = ends(command);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let mut download = Command::new("apt-get");
    download.args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(packages);
    if !ends(&mut download).status.success() {
        // A new machine has no lists of packages, or those of another day.
        run(Command::new("apt-get").args(["-q", "-o", "DPkg::Lock::Timeout=600", "update"]));
        run(&mut download);
    }
    run(Command::new("sh").args(["-ec", "for deb in *.deb; do dpkg -x \"$deb\" .; rm \"$deb\"; done"]));
    if std::fs::rename(&fresh, &folder).is_err() {
        let _ = std::fs::remove_dir_all(&fresh);
    }
    folder
}
