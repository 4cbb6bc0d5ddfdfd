//! A host with a resolver of its own: an `/etc`, a bus, and a network whose DNS server writes down
//! what it is asked. It serves itself: `blog.alice` is an identity of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use super::super::lab::serve::{self, Body};
use super::super::lab::{Lab, Machine, sh, until};

/// The DNS server of the network.
pub const LAN: &str = "192.0.2.1";
/// What it answers to everything.
pub const ELSEWHERE: &str = "203.0.113.80";
/// The page.
pub const PAGE: &str = "hello from the blog\n";
/// Names of ours, as programs ask.
pub const OURS: &[&str] = &["blog.alice", "alice", "blog.alice.tarnet.alt"];
/// The bus.
const BUS: &str = "/run/dbus/system_bus_socket";

/// The host.
pub struct Host {
    /// It.
    pub machine: Machine,
    /// Everything that its network's DNS server was asked, in lower case.
    asked: Arc<Mutex<Vec<String>>>,
    /// What runs on it; ended with the test.
    running: Vec<Child>,
}

impl Host {
    /// A host whose network is up, unless `bare`: then only the cable is there.
    pub fn new(lab: &Lab, bare: bool) -> Self {
        let (mut machine, lan) = (lab.machine("bob"), lab.machine("lan"));
        machine.own_etc();
        let (bob, far) = (machine.name(), lan.name());
        sh(&format!(
            "ip link add wan0 netns {bob} type veth peer name wan0 netns {far}
             ip -n {far} addr add {LAN}/24 dev wan0; ip -n {far} link set wan0 up"
        ));
        if !bare {
            sh(&format!(
                "ip -n {bob} addr add 192.0.2.2/24 dev wan0; ip -n {bob} link set wan0 up
                 ip -n {bob} route add default via {LAN}"
            ));
        }
        // Daemons drop to users of their own; where only one user is mapped, these are it.
        for (file, line) in [("passwd", "x:0:0::/:/bin/false"), ("group", "x:0:")] {
            let path = machine.path("etc").join(file);
            let mut text = std::fs::read_to_string(&path).expect("it was copied");
            let users = ["messagebus", "systemd-resolve", "dnsmasq"];
            text = text
                .lines()
                .filter(|line| !users.iter().any(|user| line.starts_with(user)))
                .fold(String::new(), |text, line| text + line + "\n");
            users.iter().for_each(|user| text.push_str(&format!("{user}:{line}\n")));
            std::fs::write(&path, text).expect("a file of the laboratory");
        }
        machine.etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
        let asked = dns_server(&lan);
        let service = "local = \"127.0.0.1:4001\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"blog\"\n";
        machine.service("blog", service);
        // The bare label is the zone's apex.
        machine.service("home", "local = \"127.0.0.1:4001\"\nport = 80\nidentity = \"alice\"\n");
        serve::web(&machine, "127.0.0.1:4001", &[("/", Body::Text(PAGE.into()))]);
        Self { machine, asked, running: Vec::new() }
    }

    /// Runs a daemon of the host's, its output in a log of the laboratory.
    pub fn run(&mut self, words: &[&str], environment: &[(&str, &str)]) {
        let name = Path::new(words[0]).file_name().expect("a program").to_string_lossy().into_owned();
        let log = std::fs::File::create(self.machine.path(&format!("{name}.log"))).expect("a log");
        let mut command = self.machine.command(words);
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.running.push(self.machine.start_command(command));
    }

    /// Runs a program that must succeed.
    #[track_caller]
    pub fn run_once(&self, words: &[&str]) {
        let said = self.machine.run(words);
        assert_eq!(said.code, 0, "{words:?}: {}{}", said.out, said.err);
    }

    /// Ends the daemon that was run last.
    pub fn end_last(&mut self) {
        let mut child = self.running.pop().expect("one runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Starts the bus, with the policies of unpacked packages.
    pub fn bus(&mut self, packages: &Path) {
        let policies = self.machine.path("etc/dbus-1/system.d");
        std::fs::create_dir_all(&policies).expect("a folder of the laboratory");
        sh(&format!("cp {}/usr/share/dbus-1/system.d/*.conf {}", packages.display(), policies.display()));
        sh("mkdir -p /run/dbus");
        self.run(&["dbus-daemon", "--system", "--nofork", "--nopidfile"], &[]);
        until(10, "the bus is there", || Path::new(BUS).exists());
    }

    /// Starts Tarnet, and makes `blog.alice`.
    pub fn tarnet(&self) {
        self.machine.start();
        if self.machine.tarnet(&["identity", "show", "alice"]).code != 0 {
            self.machine.tn(&["identity", "create", "alice"]);
            self.machine.tn(&["reload"]);
        }
        self.machine.tn(&["tns", "set", "alice", "zone", "alice"]);
        for name in ["blog.alice", "alice"] {
            self.machine.tn(&["wait", "--name", name, "--timeout", "20s"]);
        }
    }

    /// Waits until `tarnet dns status` says this of itself.
    #[track_caller]
    pub fn wait_state(&self, mode: &str, state: &str) {
        let mut last = String::new();
        let mut look = || {
            let status = self.machine.json(&["dns", "status"]);
            last = status.to_string();
            status["mode"] == mode && status["state"].as_str().is_some_and(|found| found.starts_with(state))
        };
        let seen = super::super::lab::wait_for(std::time::Duration::from_secs(15), || look().then_some(()));
        assert!(seen.is_some(), "{mode} is not {state}: {last}");
    }

    /// A value of the trail of `tarnet dns status`.
    pub fn reason(&self, key: &str) -> String {
        let status = self.machine.json(&["dns", "status"]);
        let trail = status["why"].as_array().expect("a trail");
        let found = trail.iter().rev().find(|reason| reason["key"] == key);
        found.and_then(|reason| reason["value"].as_str()).unwrap_or_default().to_owned()
    }

    /// The IPv4 address that programs get for a name, by the C library.
    pub fn getent(&self, name: &str) -> String {
        let said = self.machine.run(&["timeout", "20", "getent", "ahostsv4", name]);
        said.out.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Names of ours work in every spelling, and lead to the page; names of others are as before.
    #[track_caller]
    pub fn works(&self, bare: bool) {
        let mut names = vec!["blog.alice", "blog.alice.", "blog.alice.tarnet.alt", "alice.tarnet.alt"];
        if bare {
            names.push("alice");
        }
        for name in names {
            let found = self.getent(name);
            assert!(is_synthetic(&found), "{name} is {found:?}\n{}", self.told());
        }
        let page = self.machine.run(&["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://blog.alice/"]);
        assert_eq!(page.out, PAGE, "{}", page.err);
        self.others();
        self.closed();
    }

    /// Names of others are as the network has them.
    #[track_caller]
    pub fn others(&self) {
        assert_eq!(self.getent("www.example.org"), ELSEWHERE, "{}", self.told());
        assert!(self.asked().iter().any(|name| name == "www.example.org"));
    }

    /// These names of ours lead nowhere but to us, by what a resolver remembers, and nobody else is asked.
    #[track_caller]
    pub fn shut(&self, names: &[&str]) {
        for name in names {
            let found = self.getent(name);
            assert!(found.is_empty() || is_synthetic(&found), "{name} is {found}\n{}", self.told());
        }
        self.closed();
    }

    /// No name of ours has reached the network.
    #[track_caller]
    pub fn closed(&self) {
        let leaked: Vec<String> = self.asked().into_iter().filter(|name| is_ours(name)).collect();
        assert!(leaked.is_empty(), "the network was asked {leaked:?}\n{}", self.told());
    }

    /// Everything that the network was asked.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the other side does not panic").clone()
    }

    /// What the host's files say, for a failure.
    fn told(&self) -> String {
        let said = self.machine.run(&["sh", "-c", "cat /etc/resolv.conf; ls -la /etc/resolv.conf*"]);
        format!("{}{}", said.out, said.err)
    }

    /// Everything in `/etc`: names, kinds, modes, owners, times, targets and contents. Folders without their
    /// times, which no file system keeps when a file in them is replaced.
    pub fn etc(&self) -> String {
        let list = "cd /etc && { find . ! -type d -printf '%p %y %m %U %G %T@ %l\\n'; find . -type d -printf '%p %m\\n'; find . -type f -exec md5sum {} + ; } 2>/dev/null | sort";
        self.machine.run(&["sh", "-c", list]).out
    }

    /// Fails unless `/etc` is as it was.
    #[track_caller]
    pub fn etc_is(&self, before: &str) {
        let now = self.etc();
        let differ = |one: &str, two: &str| -> Vec<String> {
            one.lines().filter(|line| !two.lines().any(|other| other == *line)).map(str::to_owned).collect()
        };
        assert!(now == before, "gone: {:#?}\nnew: {:#?}", differ(before, &now), differ(&now, before));
    }

    /// Runs `tarnetd --cleanup` as by hand.
    #[track_caller]
    pub fn cleanup(&self) {
        let daemon = env!("CARGO_BIN_EXE_tarnetd");
        let [config, state, socket] =
            ["tarnetd.toml", "state", "tarnet.sock"].map(|file| self.machine.path(file).display().to_string());
        let words = [daemon, "--config", &config, "--state-dir", &state, "--socket", &socket, "--cleanup"];
        let said = self.machine.run(&words);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["systemd-resolved.log", "NetworkManager.log"] {
                let text = std::fs::read_to_string(self.machine.path(log)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                eprintln!("--- {log}\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether a question is about a name or an address of ours.
fn is_ours(name: &str) -> bool {
    let label = name.split('.').any(|label| label == "alice" || label == "tarnet" || label.starts_with("friend"));
    label || name.ends_with("18.198.in-addr.arpa") || name.ends_with("19.198.in-addr.arpa")
}

/// A DNS server that writes down every question and answers each with [`ELSEWHERE`].
fn dns_server(lan: &Machine) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (udp, tcp) = lan.inside(|| {
        (UdpSocket::bind((LAN, 53)).expect("a free port"), TcpListener::bind((LAN, 53)).expect("a free port"))
    });
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length], &log) {
                let _ = udp.send_to(&answer, from);
            }
        }
    });
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut question).is_ok()
                && let Some(answer) = answer(&question, &log)
            {
                let length = u16::try_from(answer.len()).expect("a short answer");
                let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat());
            }
        }
    });
    asked
}

/// The answer to a question: an address for A, nothing for other types.
fn answer(question: &[u8], log: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while *question.get(at)? != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let kind = question.get(at + 1..at + 5)?;
    log.lock().expect("the other side does not panic").push(labels.join("."));
    let mut answer = question.get(..at + 5)?.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[6..12].fill(0);
    if kind[1] == 1 {
        answer[7] = 1;
        let address: std::net::Ipv4Addr = ELSEWHERE.parse().expect("an address");
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

/// Keeps a process's TUN open beside it, as systemd's descriptor store does: the link outlives the process.
pub fn hold_tun(pid: u32) -> std::fs::File {
    let folder = format!("/proc/{pid}/fd");
    let entries = std::fs::read_dir(&folder).expect("the daemon runs");
    let is_tun = |path: &Path| std::fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/net/tun"));
    let path = entries.map(|entry| entry.expect("a descriptor").path()).find(|path| is_tun(path)).expect("a TUN");
    let number: i32 = path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
    super::super::lab::copy_descriptor(pid, number)
}

/// Whether an address is one that a name of ours has.
pub fn is_synthetic(address: &str) -> bool {
    ["198.18.", "198.19."].iter().any(|prefix| address.starts_with(prefix))
}
