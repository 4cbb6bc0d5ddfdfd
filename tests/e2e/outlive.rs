//! The TUN device outlives the daemon: a service manager made by hand keeps its descriptor, as
//! systemd does, and gives it to the next run.

use std::collections::VecDeque;
use std::io::{IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sockopt};

use super::flows::begin;
use super::lab::{Lab, Machine, Trio, in_lab, serve, sh, until};

/// The watchdog's time, microseconds: short, so that a test sees it.
const WATCHDOG_US: u64 = 900_000;

/// The service manager: messages as they come, and at most one descriptor kept.
struct Manager {
    socket: UnixDatagram,
    path: String,
    kept: Option<OwnedFd>,
    said: VecDeque<String>,
}

impl Manager {
    fn new(lab: &Lab) -> Self {
        let path = lab.folder().join("notify").to_str().expect("text").to_owned();
        let socket = UnixDatagram::bind(&path).expect("a free path");
        socket.set_nonblocking(true).expect("a socket");
        Self { socket, path, kept: None, said: VecDeque::new() }
    }

    /// Takes what has arrived: descriptors are kept and let go as it says, everything is noted.
    fn serve(&mut self) {
        loop {
            let mut text = [0; 4096];
            let mut space = nix::cmsg_space!([i32; 4]);
            let mut parts = [IoSliceMut::new(&mut text)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let Ok(message) = recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags) else {
                return;
            };
            let mut descriptors = Vec::new();
            for control in message.cmsgs().expect("room enough") {
                let ControlMessageOwned::ScmRights(rights) = control else { continue };
                for number in rights {
                    #[allow(unsafe_code)]
                    // SAFETY: the kernel has just made it for us, and nothing else has it.
                    descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            let length = message.bytes;
            let text = String::from_utf8_lossy(&text[..length]).into_owned();
            if text == "FDSTORE=1\nFDNAME=tun0" {
                self.kept = descriptors.pop();
                assert!(self.kept.is_some(), "nothing to keep");
            } else if text == "FDSTOREREMOVE=1\nFDNAME=tun0" {
                self.kept = None;
            }
            self.said.push_back(text);
        }
    }

    /// Waits for a message that starts so; those before it are passed over.
    #[track_caller]
    fn hears(&mut self, start: &str) -> String {
        let mut heard = None;
        until(30, start, || {
            self.serve();
            while heard.is_none()
                && let Some(text) = self.said.pop_front()
            {
                heard = text.starts_with(start).then_some(text);
            }
            heard.is_some()
        });
        heard.expect("it was heard")
    }

    /// Starts a daemon as systemd would, with what is kept for it.
    fn start(&self, machine: &Machine) {
        let handed = self.kept.as_ref().map(|kept| kept.try_clone().expect("a descriptor"));
        machine.start_by(|daemon| {
            // The shell knows its own number, which the daemon will have.
            let script = if handed.is_some() {
                "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=tun0 WATCHDOG_PID=$$; exec \"$@\""
            } else {
                "exec \"$@\""
            };
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).arg(daemon.get_program()).args(daemon.get_args());
            command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", WATCHDOG_US.to_string());
            command.stdin(handed.map_or_else(Stdio::null, Stdio::from));
            command
        });
    }
}

/// The number of bob's device; none while there is no such device.
fn device() -> String {
    sh("ip -n bob -o link show tarnet0 2>/dev/null | cut -d: -f1 || true")
}

/// Bob's unreachable routes.
fn unreachable() -> String {
    sh("ip -n bob route show type unreachable; ip -n bob -6 route show type unreachable")
}

#[test]
fn the_device_its_addresses_and_names_outlive_a_crash_and_go_with_a_clean_stop() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::echo(&trio.alice, "127.0.0.1:4007");
        trio.alice
            .service("echo", "local = \"127.0.0.1:4007\"\nport = 7\nidentity = \"alice\"\nsubdomain = \"blog\"\n");
        trio.start();
        trio.bob.stop();
        let mut manager = Manager::new(lab);
        manager.start(&trio.bob);
        manager.hears("FDSTORE=1");
        manager.hears("READY=1");
        let (first, addresses) = (device(), trio.bob.lookup("blog.alice"));
        let links = sh("ip -n bob addr show dev tarnet0 | grep inet");
        assert_eq!(addresses.len(), 2);
        let open = trio.bob.inside(|| {
            let mut stream = TcpStream::connect((addresses[0], 7)).expect("the echo is there");
            stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0])).expect("it echoes");
            stream
        });
        trio.bob.kill();
        assert_eq!(device(), first, "the device outlives the daemon");
        assert_eq!(sh("ip -n bob addr show dev tarnet0 | grep inet"), links);
        // Who connects meanwhile waits, and is served by the next run.
        let waiting = trio.bob.inside(|| begin(SocketAddr::new(addresses[1], 7), None));
        manager.start(&trio.bob);
        until(30, "the next run answers", || {
            let mut ends = [PollFd::new(waiting.as_fd(), PollFlags::POLLOUT)];
            poll(&mut ends, PollTimeout::ZERO) == Ok(1)
        });
        assert_eq!(getsockopt(&waiting, sockopt::SocketError), Ok(0));
        assert_eq!(device(), first, "the next run has the same device");
        assert_eq!(trio.bob.lookup("blog.alice"), addresses);
        assert_eq!(trio.page().out, Trio::PAGE);
        // The connection of before is over, and its program hears of it at once.
        let mut open = open;
        open.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        let ended = open.write_all(b"anyone there?").and_then(|()| open.read(&mut [0; 8]));
        assert_eq!(ended.expect_err("it is over").raw_os_error(), Some(nix::libc::ECONNRESET));
        // A restart keeps the device, a stop does not.
        manager.serve();
        trio.bob.stop_by(Signal::SIGUSR2);
        manager.hears("STOPPING=1");
        manager.serve();
        assert!(manager.kept.is_some() && device() == first && !unreachable().is_empty());
        manager.start(&trio.bob);
        assert_eq!(device(), first);
        trio.bob.stop();
        manager.hears("FDSTOREREMOVE=1");
        until(10, "the device is gone", || device().is_empty());
        assert_eq!(unreachable(), "");
    });
}

#[test]
fn the_watchdog_hears_only_of_a_node_that_turns_and_a_reload_is_announced() {
    in_lab(|lab| {
        let bob = lab.machine("bob");
        let mut manager = Manager::new(lab);
        manager.start(&bob);
        manager.hears("READY=1");
        manager.hears("WATCHDOG=1");
        assert!(manager.hears("STATUS=").contains("TUN up"));
        for _ in 0..3 {
            manager.hears("WATCHDOG=1");
        }
        bob.signal(Signal::SIGHUP);
        let announced = manager.hears("RELOADING=1");
        let stamp = announced.split_once("MONOTONIC_USEC=").expect("a time").1;
        assert!(stamp.parse::<u64>().expect("a number") > 0);
        manager.hears("READY=1");
        // Something else under our name is not taken for the device, nor is a device of another name.
        bob.kill();
        manager.serve();
        manager.kept = Some(std::fs::File::open("/dev/null").expect("a file").into());
        manager.start(&bob);
        manager.hears("FDSTOREREMOVE=1");
        manager.hears("FDSTORE=1");
        assert!(!device().is_empty() && bob.status()["tun"]["state"] == "up");
        bob.stop();
    });
}
