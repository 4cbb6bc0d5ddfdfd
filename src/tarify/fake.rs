//! Process-local addresses for names, in SOCKS mode: 127.66.0.0/16 stands for the names
//! that this process has looked up, in order. A child that does not exec inherits them.
//! Bound: [`NAMES_MAX`] names; beyond, the look-up fails.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{sockaddr, socklen_t};

/// Names of one process.
const NAMES_MAX: usize = 65_000;

/// Connections whose peer name is remembered; the oldest is forgotten first.
const PEERS_MAX: usize = 4096;

/// The first two bytes of every process-local address.
const PREFIX: [u8; 2] = [127, 66];

/// Where a process-local address leads.
pub struct Target {
    /// The name.
    pub name: String,
    /// The port asked for.
    pub port: u16,
    /// The address that the program used.
    pub address: SocketAddrV4,
}

/// Names by number, numbers by name, and descriptors connected to them.
#[derive(Default)]
struct Table {
    names: Vec<String>,
    numbers: BTreeMap<String, u16>,
    /// By descriptor: the address asked for, and the socket's inode, so that a reused descriptor is not mistaken.
    peers: BTreeMap<i32, (SocketAddrV4, u64)>,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

/// The table, whoever panicked before.
fn table() -> MutexGuard<'static, Option<Table>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address that stands for a name in this process.
pub fn address_of(name: &str) -> Option<IpAddr> {
    let mut guard = table();
    let table = guard.get_or_insert_default();
    let number = match table.numbers.get(name) {
        Some(number) => *number,
        None => {
            let number = u16::try_from(table.names.len() + 1).ok().filter(|_| table.names.len() < NAMES_MAX)?;
            table.names.push(name.to_owned());
            table.numbers.insert(name.to_owned(), number);
            number
        }
    };
    let [high, low] = number.to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(PREFIX[0], PREFIX[1], high, low)))
}

/// Reads a C address.
///
/// # Safety
/// `address` is null or points to `len` readable bytes.
unsafe fn read(address: *const sockaddr, len: socklen_t) -> Option<SocketAddr> {
    let len = len as usize;
    if address.is_null() || len < size_of::<libc::sa_family_t>() {
        return None;
    }
    // SAFETY: at least the family is readable; reads need no alignment.
    let family = i32::from(unsafe { std::ptr::read_unaligned(address.cast::<libc::sa_family_t>()) });
    if family == libc::AF_INET && len >= size_of::<libc::sockaddr_in>() {
        // SAFETY: a whole sockaddr_in is readable.
        let v4 = unsafe { std::ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
        let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
        return Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))));
    }
    if family == libc::AF_INET6 && len >= size_of::<libc::sockaddr_in6>() {
        // SAFETY: a whole sockaddr_in6 is readable.
        let v6 = unsafe { std::ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
        return Some(SocketAddr::from((Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port))));
    }
    None
}

/// Where an address leads, if it is process-local; also in its IPv4-mapped form.
///
/// # Safety
/// `address` is null or points to `len` readable bytes.
pub unsafe fn target(address: *const sockaddr, len: socklen_t) -> Option<Target> {
    // SAFETY: the caller's contract.
    let address = unsafe { read(address, len) }?;
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => ip.to_ipv4_mapped()?,
    };
    let [a, b, high, low] = ip.octets();
    let number = u16::from_be_bytes([high, low]);
    if [a, b] != PREFIX || number == 0 {
        return None;
    }
    let guard = table();
    let name = guard.as_ref()?.names.get(usize::from(number) - 1)?.clone();
    Some(Target { name, port: address.port(), address: SocketAddrV4::new(ip, address.port()) })
}

/// The inode of a descriptor's socket.
fn inode(fd: i32) -> Option<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` has room for the result, which is read only after success.
    let stat = unsafe {
        if libc::fstat(fd, stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    Some(stat.st_ino)
}

/// Remembers what a descriptor was connected to.
pub fn remember_peer(fd: i32, address: SocketAddrV4) {
    let Some(inode) = inode(fd) else { return };
    let mut guard = table();
    let table = guard.get_or_insert_default();
    if table.peers.len() >= PEERS_MAX {
        table.peers.pop_first();
    }
    table.peers.insert(fd, (address, inode));
}

/// Replaces the proxy's address by what the program asked for.
///
/// # Safety
/// `address` and `len` are as a successful `getpeername` left them.
pub unsafe fn rewrite_peer(fd: i32, address: *mut sockaddr, len: *mut socklen_t) {
    let known = table().as_ref().and_then(|table| table.peers.get(&fd).copied());
    let Some((peer, socket)) = known.filter(|(_, socket)| Some(*socket) == inode(fd)) else { return };
    debug_assert_ne!(socket, 0);
    // SAFETY: the caller's contract: `address` holds what the family says.
    unsafe {
        if len.is_null() || address.is_null() || (*address).sa_family != libc::AF_INET as libc::sa_family_t {
            return;
        }
        if (*len as usize) < size_of::<libc::sockaddr_in>() {
            return;
        }
        let v4 = address.cast::<libc::sockaddr_in>();
        (*v4).sin_addr.s_addr = u32::from(*peer.ip()).to_be();
        (*v4).sin_port = peer.port().to_be();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c_address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
        // SAFETY: all-zero is a valid sockaddr_in.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from(ip).to_be();
        address.sin_port = port.to_be();
        address
    }

    #[test]
    fn a_name_keeps_its_address_and_the_address_leads_back() {
        let first = address_of("blog.alice").unwrap();
        assert_eq!(address_of("blog.alice"), Some(first));
        let second = address_of("wiki.alice").unwrap();
        assert_ne!(first, second);
        let IpAddr::V4(ip) = second else { panic!("IPv4 expected") };
        let c = c_address(ip, 80);
        let len = size_of::<libc::sockaddr_in>() as socklen_t;
        // SAFETY: a whole sockaddr_in.
        let target = unsafe { target((&raw const c).cast(), len) }.unwrap();
        assert_eq!((target.name.as_str(), target.port), ("wiki.alice", 80));
    }

    #[test]
    fn other_addresses_and_short_ones_are_not_ours() {
        let len = size_of::<libc::sockaddr_in>() as socklen_t;
        let c = c_address(Ipv4Addr::new(127, 0, 0, 1), 80);
        // SAFETY: a whole sockaddr_in, a part of one, and null.
        unsafe {
            assert!(target((&raw const c).cast(), len).is_none());
            assert!(target((&raw const c).cast(), 4).is_none());
            assert!(target(std::ptr::null(), 0).is_none());
        }
    }
}
