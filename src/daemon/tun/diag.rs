//! Whose socket is it: the kernel's socket diagnosis, `sock_diag(7)`.
//!
//! An exact look-up by both ends, which works while a TCP socket is in SYN-SENT and for UDP
//! sockets that are not connected. The kernel answers within the call that asks, so nothing waits.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// Message type of a lookup by family (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Netlink flag of a request.
const NLM_F_REQUEST: u16 = 1;
/// Bytes of a netlink header.
const NETLINK_HEADER: usize = 16;
/// Bytes of `inet_diag_req_v2` (linux/inet_diag.h).
const REQUEST: usize = 56;
/// Where the uid is in `inet_diag_msg`: four bytes, the socket's identity, expires, rqueue, wqueue.
const UID_AT: usize = NETLINK_HEADER + 4 + 48 + 12;
/// Bytes of an answer that are read; the uid is in the first hundred.
const ANSWER_BYTES_MAX: usize = 512;
/// Answers to earlier questions that are skipped: none should be there.
const STALE_MAX: usize = 8;

/// A socket to ask through.
pub struct Diag(Mutex<(OwnedFd, u32)>);

impl Diag {
    /// Opens it. No privilege is needed.
    ///
    /// # Errors
    /// The kernel has no socket diagnosis, or no descriptor is left.
    pub fn open() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
        Ok(Self(Mutex::new((socket, 0))))
    }

    /// The uid that owns a socket of `protocol` (6 or 17) from `source` to `destination`; `None` when this
    /// network namespace does not know it.
    #[must_use]
    pub fn owner(&self, protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
        // A poisoned lock leaves at worst a stale answer, which its number tells.
        let mut inner = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.1 = inner.1.wrapping_add(1);
        let (socket, sequence) = (inner.0.as_raw_fd(), inner.1);
        let question = request(sequence, protocol, source, destination);
        sendto(socket, &question, &NetlinkAddr::new(0, 0), MsgFlags::empty()).ok()?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        for _ in 0..STALE_MAX {
            let length = recv(socket, &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
            let answer = answer.get(..length)?;
            if answer.get(8..12)? == sequence.to_ne_bytes() {
                return uid(answer);
            }
        }
        None
    }
}

/// The uid that owns a socket, for who asks rarely. See [`Diag::owner`].
pub(crate) fn owner(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
    Diag::open().ok()?.owner(protocol, source, destination)
}

/// The question: exactly this socket. The kernel looks it up from the owner's side for TCP;
/// for UDP it wants the ends the other way round, as the packet of an answer would have them.
fn request(sequence: u32, protocol: u8, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let udp = protocol == super::packet::UDP;
    let (first, second) = if udp { (destination, source) } else { (source, destination) };
    let mut message = Vec::with_capacity(NETLINK_HEADER + REQUEST);
    let length = u32::try_from(NETLINK_HEADER + REQUEST).unwrap_or(0);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&[0; 4]);
    let family = if source.is_ipv4() { nix::libc::AF_INET } else { nix::libc::AF_INET6 };
    message.extend_from_slice(&[u8::try_from(family).unwrap_or(0), protocol, 0, 0]);
    message.extend_from_slice(&u32::MAX.to_ne_bytes());
    message.extend_from_slice(&first.port().to_be_bytes());
    message.extend_from_slice(&second.port().to_be_bytes());
    for address in [first.ip(), second.ip()] {
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => octets = address.octets(),
        }
        message.extend_from_slice(&octets);
    }
    // Any interface, no cookie.
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(&[0xff; 8]);
    message
}

/// The uid in the kernel's answer; `None` when it is an error or too short.
fn uid(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let field = answer.get(UID_AT..UID_AT + 4)?.try_into().ok()?;
    (kind == SOCK_DIAG_BY_FAMILY).then(|| u32::from_ne_bytes(field))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::super::packet::{TCP, UDP};
    use super::*;

    /// An address as it is on the wire: an IPv4 one without its IPv6 clothes.
    fn plain(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    #[test]
    fn the_owner_of_a_socket_of_ours_is_us_in_both_protocols_and_families() {
        let me = Some(nix::unistd::getuid().as_raw());
        let diag = Diag::open().unwrap();
        for (bind, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            // A machine without IPv6 has only the first.
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let to = SocketAddr::new(connect.parse().unwrap(), listener.local_addr().unwrap().port());
            let stream = TcpStream::connect(to).unwrap();
            assert_eq!(diag.owner(TCP, stream.local_addr().unwrap(), stream.peer_addr().unwrap()), me, "{bind}");
            let accepted = listener.accept().unwrap().0;
            let (ours, theirs) = (accepted.local_addr().unwrap(), accepted.peer_addr().unwrap());
            assert_eq!(diag.owner(TCP, plain(ours), plain(theirs)), me, "{bind}: two families in one socket");
            let udp = UdpSocket::bind(bind).unwrap();
            let from = SocketAddr::new(connect.parse().unwrap(), udp.local_addr().unwrap().port());
            assert_eq!(
                diag.owner(UDP, from, SocketAddr::new(connect.parse().unwrap(), 9)),
                me,
                "{bind}: not connected"
            );
            udp.connect(SocketAddr::new(connect.parse().unwrap(), 9)).unwrap();
            let ours = plain(udp.local_addr().unwrap());
            assert_eq!(diag.owner(UDP, ours, plain(udp.peer_addr().unwrap())), me, "{bind}: connected");
        }
    }

    #[test]
    fn a_socket_that_is_not_there_has_no_owner_and_disturbs_no_later_question() {
        let diag = Diag::open().unwrap();
        let (one, two) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!((diag.owner(TCP, one, two), diag.owner(UDP, one, two), owner(TCP, one, two)), (None, None, None));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(diag.owner(UDP, udp.local_addr().unwrap(), one).is_some());
    }
}
