//! What an observer sees: packets on a cable, counters, and the memory of a process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};

use super::{Machine, sh, until};

/// Bytes of packets that the kernel may hold for the capture, so that a busy reader loses none.
const CAPTURE_BUFFER: usize = 64 << 20;

/// A running capture of every packet that a machine sends or receives on any interface, as `tcpdump -i any` would see
/// them, which an ordinary user cannot run in namespaces of his own.
pub struct Capture {
    /// Everything seen so far.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Capture {
    /// Starts it; from now on nothing is missed.
    pub fn start(machine: &Machine) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let socket = machine.inside(|| {
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).expect("a raw socket")
        });
        // An ordinary user gets what the system allows to all.
        let forced = setsockopt(&socket, sockopt::RcvBufForce, &CAPTURE_BUFFER);
        forced.or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &CAPTURE_BUFFER)).expect("a buffer");
        let writer = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut packet = vec![0; 1 << 17];
            while let Ok(count) = nix::unistd::read(&socket, &mut packet) {
                writer.lock().expect("the other side does not panic").extend_from_slice(&packet[..count]);
            }
        });
        Self { seen }
    }

    /// Waits until it has seen `last`, which is sent in the clear; gives all bytes captured.
    pub fn end(self, last: &[u8]) -> Vec<u8> {
        let seen = || self.seen.lock().expect("the other side does not panic");
        until(20, "the capture sees what is sent in the clear", || holds(&seen(), last));
        seen().clone()
    }
}

/// A descriptor of another process, as one of ours: the same open file.
#[allow(unsafe_code, reason = "the two system calls have no safe wrapper")]
pub fn copy_descriptor(pid: u32, number: i32) -> File {
    use nix::libc::{SYS_pidfd_getfd, SYS_pidfd_open, c_long, syscall};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let owned = |result: c_long| {
        let number = i32::try_from(result).expect("a descriptor's number");
        assert!(number >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
        unsafe { OwnedFd::from_raw_fd(number) }
    };
    // SAFETY: the call takes two numbers and touches no memory of ours.
    let process = owned(unsafe { syscall(SYS_pidfd_open, pid, 0) });
    // SAFETY: the call takes three numbers and touches no memory of ours.
    File::from(owned(unsafe { syscall(SYS_pidfd_getfd, process.as_raw_fd(), number, 0) }))
}

/// Everything readable of a process's memory.
pub fn memory_of(pid: u32) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("its memory can be read");
    let mut bytes = Vec::new();
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().expect("a range"), words.next().expect("rights"));
        if !rights.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") || line.contains("vvar")
        {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a hex number");
        let (start, end) = (number(start), number(end));
        memory.seek(SeekFrom::Start(start)).expect("a place in memory");
        // A page that was given back meanwhile ends the range.
        let _ = (&mut memory).take(end - start).read_to_end(&mut bytes);
    }
    bytes
}

/// Whether `bytes` hold `needle`.
pub fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Gives `machine` a way to the Internet (a machine that swallows and counts), as its default
/// route in both families. What a host says on its own (neighbour discovery, multicast) does not count.
pub fn clearnet(machine: &Machine, internet: &Machine) {
    let (name, far) = (machine.name(), internet.name());
    sh(&format!(
        "ip link add wan0 netns {name} type veth peer name wan0 netns {far}
         ip -n {name} addr add 203.0.113.2/24 dev wan0; ip -n {far} addr add 203.0.113.1/24 dev wan0
         ip -n {name} addr add 2001:db8::2/64 dev wan0 nodad; ip -n {far} addr add 2001:db8::1/64 dev wan0 nodad
         ip -n {name} link set wan0 up; ip -n {far} link set wan0 up
         ip -n {name} route add default via 203.0.113.1; ip -n {name} -6 route add default via 2001:db8::1
         ip netns exec {far} nft -f - <<'T'
table netdev watch {{
  counter leaked {{ }}
  chain arriving {{
    type filter hook ingress device wan0 priority 0; policy accept;
    ip daddr != 224.0.0.0/4 counter name leaked
    meta l4proto != ipv6-icmp ip6 daddr != ff00::/8 counter name leaked
  }}
}}
T"
    ));
}

/// Packets that reached the Internet so far.
pub fn leaked(internet: &Machine) -> u64 {
    counted(internet.name(), "netdev watch leaked")
}

/// The packets of a counter (family, table, name) of a machine.
pub fn counted(machine: &str, counter: &str) -> u64 {
    let said = sh(&format!("ip netns exec {machine} nft -j list counter {counter}"));
    let json: serde_json::Value = serde_json::from_str(&said).expect("nft prints JSON");
    let items = json["nftables"].as_array().expect("a list");
    items.iter().find_map(|item| item["counter"]["packets"].as_u64()).expect("the counter")
}
