//! A machine: a network namespace with its own resolver file, and a daemon that can be
//! started, killed and asked.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::until::{until, wait_for};
use super::{resolver, sh};

/// Where the daemon's DNS responder answers: the second address of the TUN's range.
const RESPONDER: &str = "198.18.0.2";
/// How long a daemon may take until it answers on its control socket, seconds.
const START_S: u64 = 20;
/// How long a daemon may take to stop when told to.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A machine of the laboratory.
pub struct Machine {
    place: Place,
    /// Where its control socket lies.
    socket: PathBuf,
    daemon: RefCell<Option<Child>>,
    /// What its daemon is started by, which takes the daemon's words as its last.
    starter: RefCell<Vec<String>>,
}

/// Which namespace and folder a machine has: what threads need to enter it.
struct Place {
    name: String,
    folder: PathBuf,
    /// It has an `/etc` of its own, in its folder.
    etc: bool,
    /// What else is mounted for it, as lines of shell.
    mounts: Vec<String>,
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code, minus the number of the signal that ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The exit code, or minus the signal.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: code(output.status), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Machine {
    /// Makes the namespace. People run CUBIC, whatever the default of this kernel is.
    pub(super) fn new(name: &str, folder: PathBuf) -> Self {
        sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        let _ = Command::new("ip")
            .args(["netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=cubic"])
            .output();
        fs::create_dir_all(folder.join("services.d")).expect("a folder of the laboratory");
        fs::write(folder.join("tarnetd.toml"), "").expect("a file of the laboratory");
        let text = format!("nameserver {RESPONDER}\noptions timeout:2 attempts:2\n");
        fs::write(folder.join("resolv.conf"), text).expect("a file of the laboratory");
        let place = Place { name: name.to_owned(), folder, etc: false, mounts: Vec::new() };
        let socket = place.folder.join("tarnet.sock");
        Self { place, socket, daemon: RefCell::default(), starter: RefCell::default() }
    }

    /// Gives it an `/etc` of its own, a copy of the host's as far as that can be read; its daemon may then tell
    /// its resolver. Before anything runs on it.
    pub fn own_etc(&mut self) {
        let etc = self.path("etc");
        // Keys and passwords stay where they are: an ordinary user cannot read them, and nobody needs them here.
        let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).output().expect("cp runs");
        assert!(etc.join("passwd").exists(), "{}", String::from_utf8_lossy(&copied.stderr));
        self.place.etc = true;
    }

    /// Writes a file of its own `/etc`.
    pub fn etc(&self, file: &str, text: &str) {
        fs::write(self.path("etc").join(file), text).expect("a file of the laboratory");
    }

    /// Mounts something for whatever runs on it from now on: a line of shell.
    pub fn mounts(&mut self, line: String) {
        self.place.mounts.push(line);
    }

    /// Puts its control socket elsewhere.
    pub fn socket(&mut self, path: &str) {
        self.socket = path.into();
    }

    /// Lays a folder over one of the system's, for whatever runs on it from now on.
    pub fn overlay(&mut self, upper: &Path, place: &str) {
        let upper = upper.display();
        self.mounts(format!("mount -t overlay overlay -o lowerdir={upper}:{place} {place}"));
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// A file of its folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.place.folder.join(file)
    }

    /// Writes its `tarnetd.toml`.
    pub fn config(&self, text: &str) {
        fs::write(self.path("tarnetd.toml"), text).expect("a file of the laboratory");
    }

    /// Writes a service file.
    pub fn service(&self, name: &str, text: &str) {
        fs::write(self.path("services.d").join(format!("{name}.toml")), text).expect("a file of the laboratory");
    }

    /// Runs `work` in a thread that is on this machine: its sockets and programs are this machine's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place = &self.place;
        let run = || {
            place.enter();
            work()
        };
        let joined = std::thread::scope(|scope| scope.spawn(run).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a program on this machine, its standard input closed, its output piped.
    pub fn spawn(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.start_command(command)
    }

    /// Starts a prepared program on this machine.
    pub fn start_command(&self, mut command: Command) -> Child {
        self.inside(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// A program with this machine's control socket in its environment.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("TARNET_SOCKET", &self.socket);
        if !self.place.etc {
            // Its /etc is the host's: nothing there is ours to write.
            command.env("TARNET_DNS_MODE", "off");
        }
        command
    }

    /// Runs a program on this machine to its end.
    pub fn run(&self, words: &[&str]) -> Said {
        self.spawn(words).wait_with_output().expect("its output can be read").into()
    }

    /// Runs a prepared program to its end. Its output goes to files: what it leaves running holds no pipe.
    pub fn run_command(&self, mut command: Command) -> Said {
        let [out, err] = ["command.out", "command.err"].map(|file| self.path(file));
        let open = |path: &Path| File::create(path).expect("a file of the laboratory");
        command.stdout(open(&out)).stderr(open(&err));
        let status = self.start_command(command).wait().expect("our child");
        let text = |path: &Path| fs::read_to_string(path).expect("a file of the laboratory");
        Said { code: code(status), out: text(&out), err: text(&err) }
    }

    /// Runs `tarnet` on this machine.
    pub fn tarnet(&self, words: &[&str]) -> Said {
        self.run(&[&[env!("CARGO_BIN_EXE_tarnet")], words].concat())
    }

    /// Runs `tarnet` on this machine, which must succeed; gives what it printed.
    #[track_caller]
    pub fn tn(&self, words: &[&str]) -> String {
        let said = self.tarnet(words);
        assert_eq!(said.code, 0, "{}: tarnet {}: {}", self.name(), words.join(" "), said.err);
        said.out.trim_end().to_owned()
    }

    /// Runs `tarnet --json`, which must succeed; gives its object.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.tn(&[words, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("tarnet {words:?} printed {text}: {error}"))
    }

    /// `tarnet status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// The machine's PeerId.
    #[track_caller]
    pub fn peer_id(&self) -> String {
        self.status()["peer_id"].as_str().expect("a peer id").to_owned()
    }

    /// How many links it has.
    #[track_caller]
    pub fn links(&self) -> usize {
        self.status()["links"].as_array().expect("links").len()
    }

    /// Has the daemon started by a program, these words, instead of directly.
    pub fn started_by(&self, words: &[&str]) {
        *self.starter.borrow_mut() = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&self) {
        self.start_by(|command| command);
    }

    /// Starts the daemon by a command made from the usual one, and waits until it answers.
    pub fn start_by(&self, prepare: impl FnOnce(Command) -> Command) {
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        let starter = self.starter.borrow();
        let words = starter.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_tarnetd")]);
        let mut command = self.command(&words.collect::<Vec<_>>());
        let paths = ["config", "state-dir", "services-dir"];
        for (flag, file) in paths.iter().zip(["tarnetd.toml", "state", "services.d"]) {
            command.arg(format!("--{flag}")).arg(self.path(file));
        }
        command.arg("--socket").arg(&self.socket).stdin(Stdio::null());
        let mut command = prepare(command);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        *self.daemon.borrow_mut() = Some(self.start_command(command));
        until(START_S, &format!("the daemon of {} answers", self.name()), || {
            let ended = self.daemon.borrow_mut().as_mut().and_then(|child| child.try_wait().expect("our child"));
            assert!(ended.is_none(), "the daemon of {} ended: {ended:?}", self.name());
            self.tarnet(&["status"]).code == 0
        });
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.borrow().as_ref().expect("the daemon runs").id()
    }

    /// Kills the daemon as the kernel would: it can do nothing about it.
    pub fn kill(&self) {
        let mut child = self.daemon.borrow_mut().take().expect("the daemon runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Stops the daemon as systemd would; it must end cleanly.
    #[track_caller]
    pub fn stop(&self) {
        self.stop_by(Signal::SIGTERM);
    }

    /// Stops the daemon by a signal; it must end cleanly.
    #[track_caller]
    pub fn stop_by(&self, signal: Signal) {
        let mut child = self.daemon.borrow_mut().take().expect("the daemon runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        kill(pid, signal).expect("our child");
        let ended = wait_for(STOP_MAX, || child.try_wait().expect("our child"));
        let status = ended.unwrap_or_else(|| panic!("the daemon of {} does not stop", self.name()));
        assert!(status.success(), "the daemon of {} stopped with {status}", self.name());
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).expect("a process id")), signal).expect("our child");
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The addresses that the resolver gives for a name, IPv4 first.
    pub fn lookup(&self, name: &str) -> Vec<std::net::IpAddr> {
        let said = self.run(&["busybox", "nslookup", name, RESPONDER]);
        let answers = said.out.split("Name:").skip(1);
        let lines = answers.flat_map(str::lines).filter_map(|line| line.strip_prefix("Address"));
        let mut found: Vec<_> = lines.filter_map(|line| line.rsplit(' ').next()?.trim().parse().ok()).collect();
        found.sort();
        found
    }

    /// A field of `/proc/PID/status` of the daemon, in bytes: `VmRSS`, `VmHWM`.
    pub fn memory(&self, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon runs");
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("a figure in kB");
        kib * 1024
    }
}

impl Place {
    /// Moves the calling thread here: the network, and a resolver file of our own.
    fn enter(&self) {
        let network = File::open(Path::new("/run/netns").join(&self.name)).expect("the machine has a namespace");
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        setns(network, CloneFlags::CLONE_NEWNET).expect("the machine's network");
        if self.etc {
            let etc = self.folder.join("etc");
            mount(Some(&etc), "/etc", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("an /etc");
            self.mounts.iter().for_each(|line| drop(sh(line)));
            return;
        }
        let file = self.folder.join("resolv.conf");
        mount(Some(&file), &resolver(), None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a resolver file");
    }
}
