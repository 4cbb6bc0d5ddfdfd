//! The laboratory: machines as network namespaces, cables as veth pairs, daemons as
//! processes. It is entered through [`in_lab`] and vanishes with the test.

mod cable;
mod enter;
mod long;
mod machine;
pub mod pipe;
pub mod serve;
pub mod socks;
mod trio;
mod until;
pub mod users;
pub mod watch;

use std::cell::RefCell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

pub use enter::in_lab;
pub use long::Line;
pub use machine::{Machine, Said};
pub use trio::Trio;
pub use until::{until, wait_for};
pub use watch::copy_descriptor;

/// Where machines keep their files, in the laboratory's own `/run`.
const FOLDER: &str = "/run/lab";
/// Lines of each daemon's log that a failure shows.
const LOG_LINES: usize = 60;

/// One laboratory.
pub struct Lab {
    /// Where its machines keep their files.
    folder: PathBuf,
    /// The names of its machines, to show their logs.
    machines: RefCell<Vec<String>>,
}

impl Lab {
    /// Builds the laboratory inside the namespaces that we are in, and runs the test.
    fn run(body: impl FnOnce(&Self)) {
        sh("mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lab && ip link set lo up");
        // A resolver file that points into the host's /run needs its target again.
        let resolver = resolver();
        fs::create_dir_all(resolver.parent().expect("it lies in a folder")).expect("a folder of /run");
        if !resolver.exists() {
            fs::write(&resolver, "").expect("a file of /run");
        }
        let lab = Self { folder: PathBuf::from(FOLDER), machines: RefCell::default() };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&lab))) {
            lab.show_logs();
            resume_unwind(panic);
        }
    }

    /// A folder that all machines see.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new machine: a namespace with its loopback up, resolver and folder.
    pub fn machine(&self, name: &str) -> Machine {
        self.machines.borrow_mut().push(name.to_owned());
        Machine::new(name, self.folder.join(name))
    }

    /// Prints the end of every daemon's log.
    fn show_logs(&self) {
        for name in self.machines.borrow().iter() {
            let log = fs::read_to_string(self.folder.join(name).join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- log of {name}\n{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
        }
    }
}

/// Whether this laboratory has more than one user: not where an ordinary user has made it.
pub fn has_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("the kernel says who is mapped");
    map.split_whitespace().nth(2).is_some_and(|count| count != "1")
}

/// The file that programs read for their resolver.
fn resolver() -> PathBuf {
    let path = Path::new("/etc/resolv.conf");
    match fs::read_link(path) {
        Ok(target) => Path::new("/etc").join(target),
        Err(_) => path.to_owned(),
    }
}

/// Runs a line of shell that must succeed.
#[track_caller]
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().expect("a shell runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
