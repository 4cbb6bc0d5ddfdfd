//! People: users of a machine, each a uid of its own, and a daemon that runs as none of them.

use std::fs;
use std::path::Path;

use super::{Lab, Machine, Said, sh};

/// The uid and gid of the daemon where it does not run as root, as the package's.
pub const DAEMON: u32 = 990;

/// The name service switch of a host with the module.
const SWITCH: &str = "hosts: files tarnet [TRYAGAIN=return] dns\n";

/// A user of a machine.
pub struct User<'a> {
    machine: &'a Machine,
    uid: u32,
    group: bool,
}

/// Whether this laboratory has more users than one: one of an ordinary user has not.
pub fn possible() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("a process has one");
    let len = map.split_whitespace().nth(2).and_then(|len| len.parse().ok());
    len.is_some_and(|len: u64| len > u64::from(u16::MAX))
}

impl Lab {
    /// Lets a machine's daemon run as the package's does: a user of its own, with CAP_NET_ADMIN alone.
    pub fn as_packaged(&self, machine: &Machine) {
        let folder = machine.path("");
        sh(&format!(
            "[ -e /run/tun ] || {{ mknod /run/tun c 10 200; chmod 0666 /run/tun; mount --bind /run/tun /dev/net/tun; }}
             chown -R {DAEMON}:{DAEMON} {}",
            folder.display()
        ));
        let (uid, gid) = (format!("--reuid={DAEMON}"), format!("--regid={DAEMON}"));
        let caps = ["--inh-caps=-all,+net_admin", "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin"];
        machine.started_by(&[&["setpriv", &uid, &gid, "--clear-groups"], &caps[..]].concat());
    }

    /// Puts the name service module where a machine's programs find it.
    pub fn install_module(&self) {
        let built = Path::new(env!("CARGO_BIN_EXE_tarnet")).with_file_name("libnss_tarnet.so");
        assert!(built.exists(), "{} is missing: cargo build -p tarnet-nss", built.display());
        let folder = self.folder().join("lib");
        fs::create_dir_all(&folder).expect("a folder of the laboratory");
        fs::copy(built, folder.join("libnss_tarnet.so.2")).expect("a file of the laboratory");
        fs::write(self.folder().join("nsswitch.conf"), SWITCH).expect("a file of the laboratory");
    }
}

impl Machine {
    /// A user of this machine, who may open the control socket when in the daemon's `group`.
    pub fn user(&self, uid: u32, group: bool) -> User<'_> {
        User { machine: self, uid, group }
    }
}

impl User<'_> {
    /// The words before a program of this user.
    fn before(&self) -> Vec<String> {
        let groups = if self.group { format!("--groups={DAEMON}") } else { "--clear-groups".into() };
        vec!["setpriv".into(), format!("--reuid={}", self.uid), format!("--regid={}", self.uid), groups]
    }

    /// Runs a program as this user to its end.
    pub fn run(&self, words: &[&str]) -> Said {
        let before = self.before();
        let words: Vec<&str> = before.iter().map(String::as_str).chain(words.iter().copied()).collect();
        self.machine.run(&words)
    }

    /// Runs `tarnet` as this user.
    pub fn tarnet(&self, words: &[&str]) -> Said {
        self.run(&[&[env!("CARGO_BIN_EXE_tarnet")], words].concat())
    }

    /// Runs `tarnet --json` as this user, which must succeed.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        let said = self.tarnet(&[words, &["--json"]].concat());
        assert_eq!(said.code, 0, "uid {}: tarnet {}: {}", self.uid, words.join(" "), said.err);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("tarnet {words:?} printed {}: {error}", said.out))
    }

    /// Runs a dynamic program as this user on a host with the name service module.
    pub fn with_module(&self, words: &[&str]) -> Said {
        let lab = self.machine.path("..");
        let enter = "mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf; export LD_LIBRARY_PATH=\"$1/lib\" \
                     TARNET_RESOLVE_SOCKET=\"$2\"; shift 2; exec \"$@\"";
        let (lab, socket) = (lab.display().to_string(), self.machine.path("resolve.sock").display().to_string());
        let before = self.before();
        let user: Vec<&str> = before.iter().map(String::as_str).collect();
        self.machine.run(&[&["sh", "-ec", enter, "sh", &lab, &socket], &user[..], words].concat())
    }

    /// What `getent hosts` prints for a name or an address, by the name service module.
    pub fn hosts(&self, what: &str) -> String {
        self.with_module(&["getent", "ahosts", what]).out
    }
}
