//! What is on disk: keys, sockets, services, room; and the clock, which files remember.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::geteuid;
use tarnet_api::Check;

use super::Doctor;
use crate::expose::Exposer;

/// Files of the key folder that are looked at: more than one node keeps identities.
const KEY_FILES_MAX: usize = 65_536;
/// A clock before this is wrong: 2026-01-01, when nothing of Tarnet was there yet. Seconds since 1970.
const CLOCK_MIN: u64 = 1_767_225_600;
/// A clock after this is wrong: 2100-01-01.
const CLOCK_MAX: u64 = 4_102_444_800;
/// How far behind a file of its own the clock may be.
const BEHIND_MAX: Duration = Duration::from_secs(3_600);
/// What mends a wrong clock.
pub const SET_CLOCK: &str = "set it: timedatectl set-ntp true";

/// Looks at all of it.
pub fn look(doctor: &Doctor) -> Vec<Check> {
    let state = &doctor.paths.state_dir;
    vec![
        keys(&state.join("keys")),
        sockets(&doctor.paths.socket),
        services(doctor),
        tarnet_api::room(state),
        clock(SystemTime::now(), newest(state)),
    ]
}

/// That only we can read the keys.
fn keys(folder: &Path) -> Check {
    let us = geteuid().as_raw();
    let files = inside(folder);
    for path in &files {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let (shown, mode) = (path.display(), meta.mode() & 0o7777);
        if mode & 0o077 != 0 {
            let wanted = if meta.is_dir() { "0700" } else { "0600" };
            let detail = format!("{shown} can be read by others (mode {mode:04o})");
            return Check::fail("key files", detail, format!("chmod {wanted} {shown}"));
        }
        if meta.uid() != us {
            let detail = format!("{shown} belongs to uid {}, not to the daemon's", meta.uid());
            return Check::fail("key files", detail, format!("chown {us} {shown}"));
        }
    }
    Check::ok("key files", format!("only the daemon can read {}", folder.display()))
}

/// A folder, its folders, and their files.
fn inside(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
        let room = KEY_FILES_MAX.saturating_sub(found.len());
        found.extend(entries.map(|entry| entry.path()).take(room));
    }
    found
}

/// That both sockets are where programs look, and open to whom they should be.
fn sockets(control: &Path) -> Check {
    let restart = "restart the daemon: systemctl restart tarnetd";
    for (path, mode) in [(control.to_owned(), 0o660), (control.with_file_name("resolve.sock"), 0o666)] {
        let shown = path.display();
        match path.metadata() {
            Err(error) => return Check::fail("sockets", format!("{shown}: {error}"), restart),
            Ok(meta) if meta.mode() & 0o777 != mode => {
                let detail = format!("{shown} has mode {:04o}", meta.mode() & 0o777);
                return Check::fail("sockets", detail, format!("chmod {mode:04o} {shown}"));
            }
            Ok(_) => {}
        }
    }
    Check::ok("sockets", control.display().to_string())
}

/// The service files, and how their services do.
fn services(doctor: &Doctor) -> Check {
    let Some(exposer) = &doctor.exposer else { return Check::ok("services", "switched off") };
    let mend = "correct it, then `tarnet reload`";
    if let Some(error) = Exposer::check(doctor.paths.services(&doctor.config)).first() {
        return Check::fail("services", error.to_string(), mend);
    }
    let all = exposer.list();
    match all.iter().find(|service| service.state != "listening") {
        Some(service) => Check::fail("services", format!("{}: {}", service.name, service.state), mend),
        None => Check::ok("services", format!("{} listening", all.len())),
    }
}

/// When the newest file of the state folder was written.
fn newest(state: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(state).ok()?;
    entries.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

/// A clock of which others say that it is `ahead` or `behind`.
#[must_use]
pub fn wrong_clock(how: &str) -> String {
    format!("this machine's clock seems to be wrong: more than 12 hours {how}, by what comes from other nodes")
}

/// A clock that can be right: certificates of time are all that blocks and sessions have.
fn clock(now: SystemTime, newest: Option<SystemTime>) -> Check {
    let unix_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if !(CLOCK_MIN..CLOCK_MAX).contains(&unix_s) {
        return Check::fail("clock", format!("it says {unix_s} s since 1970, which cannot be"), SET_CLOCK);
    }
    let behind = newest.and_then(|newest| newest.duration_since(now).ok()).unwrap_or_default();
    if behind > BEHIND_MAX {
        let detail = format!("it is {} h behind files that were written by it", behind.as_secs() / 3_600);
        return Check::fail("clock", detail, SET_CLOCK);
    }
    Check::ok("clock", "plausible")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tarnet_api::Health;

    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_named() {
        let at = |unix_s| UNIX_EPOCH + Duration::from_secs(unix_s);
        assert_eq!(clock(at(1_800_000_000), None).state, Health::Ok);
        assert_eq!(clock(at(1_800_000_000), Some(at(1_800_000_100))).state, Health::Ok);
        for (now, newest) in [(0, None), (4_200_000_000, None), (1_800_000_000, Some(at(1_831_536_000)))] {
            assert_eq!(clock(at(now), newest).state, Health::Fail, "{now}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_named_with_its_mend() {
        let folder = std::env::temp_dir().join(format!("tarnet-doctor-{}", std::process::id()));
        let (inner, file) = (folder.join("identities"), folder.join("identities/x.key"));
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(&file, "secret").unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(&folder, 0o700);
        mode(&inner, 0o700);
        mode(&file, 0o600);
        assert_eq!(keys(&folder).state, Health::Ok);
        mode(&file, 0o640);
        let check = keys(&folder);
        assert!(check.state == Health::Fail && check.mend == format!("chmod 0600 {}", file.display()), "{check:?}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
