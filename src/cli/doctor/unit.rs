//! The service unit, where systemd is there: whether it runs, is watched, and keeps the TUN's
//! descriptor over a crash.

use std::path::Path;
use std::time::Duration;

use tarnet_api::Check;
use tokio::process::Command;
use tokio::time::timeout;

/// Where systemd runs (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// The unit.
const UNIT: &str = "tarnetd.service";
/// The packaged service's folder of sockets.
const PACKAGED: &str = "/run/tarnet";
/// How long systemd may take to answer.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Looks at it.
pub async fn look(socket: &Path) -> Check {
    if !Path::new(BOOTED).exists() {
        return Check::ok("unit", "no systemd here");
    }
    let properties = "--property=LoadState,ActiveState,WatchdogUSec,FileDescriptorStoreMax";
    let asked = Command::new("systemctl").args(["show", UNIT, properties]).kill_on_drop(true).output();
    match timeout(TIME_MAX, asked).await {
        Ok(Ok(output)) if output.status.success() => {
            judge(&String::from_utf8_lossy(&output.stdout), socket.starts_with(PACKAGED))
        }
        Ok(Ok(_) | Err(_)) | Err(_) => {
            Check::warn("unit", "systemctl does not answer", "see `systemctl status tarnetd`")
        }
    }
}

/// What the properties mean; `ours` when the daemon asked is the packaged one.
fn judge(properties: &str, ours: bool) -> Check {
    let property = |name: &str| {
        let value = properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim()
    };
    let reinstall = "install the unit of the package again, then systemctl daemon-reload";
    match (property("LoadState"), property("ActiveState")) {
        ("not-found" | "", _) => Check::ok("unit", format!("{UNIT} is not installed")),
        ("loaded", "active" | "reloading") if is_none(property("WatchdogUSec")) => {
            Check::warn("unit", format!("{UNIT} has no watchdog: a daemon that hangs stays"), reinstall)
        }
        ("loaded", "active" | "reloading") if is_none(property("FileDescriptorStoreMax")) => {
            Check::warn("unit", format!("{UNIT} keeps no descriptors: the TUN goes with a crash"), reinstall)
        }
        ("loaded", "active" | "reloading") => Check::ok("unit", format!("{UNIT} runs, watched, its TUN kept")),
        ("loaded", state) if ours => Check::fail(
            "unit",
            format!("{UNIT} is {state}"),
            "systemctl restart tarnetd; journalctl -u tarnetd says why",
        ),
        ("loaded", state) => Check::ok("unit", format!("{UNIT} is {state}; another daemon is asked")),
        (state, _) => Check::fail("unit", format!("{UNIT} is {state}"), reinstall),
    }
}

/// Whether a number or time of systemd's means that there is none.
fn is_none(value: &str) -> bool {
    ["", "0", "infinity"].contains(&value)
}

#[cfg(test)]
mod tests {
    use tarnet_api::Health;

    use super::*;

    #[test]
    fn each_state_of_the_unit_is_judged() {
        let all = |load: &str, active: &str, watchdog: &str, store: &str| {
            format!("LoadState={load}\nActiveState={active}\nWatchdogUSec={watchdog}\nFileDescriptorStoreMax={store}\n")
        };
        for (properties, ours, want) in [
            (all("loaded", "active", "30s", "4"), true, Health::Ok),
            (all("loaded", "active", "infinity", "4"), true, Health::Warn),
            (all("loaded", "active", "30s", "0"), true, Health::Warn),
            (all("loaded", "failed", "30s", "4"), true, Health::Fail),
            (all("loaded", "inactive", "30s", "4"), false, Health::Ok),
            (all("masked", "inactive", "", ""), true, Health::Fail),
            (all("not-found", "inactive", "", ""), true, Health::Ok),
            (String::new(), true, Health::Ok),
        ] {
            assert_eq!(judge(&properties, ours).state, want, "{properties}");
        }
    }
}
