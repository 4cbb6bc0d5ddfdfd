//! The identity that acts for a flow: by the user that owns the socket, as the kernel's
//! socket diagnosis tells it, else the configured one.
//!
//! Works while the socket is in SYN-SENT. A socket that the kernel does not know (of
//! another network namespace, or gone) acts as the configured identity. The kernel is
//! asked only where users are mapped at all.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use nix::unistd::User;
use rtnetlink::sys::{
    AsyncSocket, AsyncSocketExt, SocketAddr as NetlinkAddr, TokioSocket, protocols::NETLINK_SOCK_DIAG,
};
use tokio::time::{Duration, timeout};

use super::TunError;

/// How long the kernel may take; it answers in microseconds.
const DIAG_TIMEOUT: Duration = Duration::from_millis(500);
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

/// Chooses the acting identity.
pub struct Acting {
    identity: String,
    users: BTreeMap<u32, String>,
}

impl Acting {
    /// Looks the mapped users up.
    ///
    /// # Errors
    /// One does not exist.
    pub fn new(identity: &str, users: &BTreeMap<String, String>) -> Result<Self, TunError> {
        let mut by_uid = BTreeMap::new();
        for (user, identity) in users {
            let known = User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
            let uid = known.or_else(|| user.parse().ok()).ok_or_else(|| TunError::NoSuchUser(user.clone()))?;
            by_uid.insert(uid, identity.clone());
        }
        Ok(Self { identity: identity.into(), users: by_uid })
    }

    /// The configured identity, for what has no user.
    #[must_use]
    pub fn default_identity(&self) -> &str {
        &self.identity
    }

    /// The identity that acts for a flow of `protocol` (6 or 17) from the first to the second address.
    pub async fn of(&self, protocol: u8, (source, destination): (SocketAddr, SocketAddr)) -> String {
        let uid = if self.users.is_empty() { None } else { owner(protocol, source, destination).await };
        uid.and_then(|uid| self.users.get(&uid)).unwrap_or(&self.identity).clone()
    }
}

/// The uid that owns a socket of `protocol` (6 or 17) from `source` to `destination`; `None` when this
/// host's kernel does not know it.
pub(crate) async fn owner(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
    let socket = TokioSocket::new(NETLINK_SOCK_DIAG).ok()?;
    let exchange = async {
        socket.send_to(&request(protocol, source, destination), &NetlinkAddr::new(0, 0)).await.ok()?;
        socket.recv_from_full().await.ok()
    };
    let (answer, _) = timeout(DIAG_TIMEOUT, exchange).await.ok()??;
    uid(&answer)
}

/// The question: exactly this socket. The kernel looks it up from the owner's side for TCP;
/// for UDP it wants the ends the other way round, as the packet of an answer would have them.
fn request(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let udp = protocol == super::packet::UDP;
    let (first, second) = if udp { (destination, source) } else { (source, destination) };
    let mut message = Vec::with_capacity(NETLINK_HEADER + REQUEST);
    let length = u32::try_from(NETLINK_HEADER + REQUEST).unwrap_or(0);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
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
    use super::*;

    #[test]
    fn unmapped_and_unknown_users_are_told_apart() {
        let users = |name: &str| BTreeMap::from([(name.to_string(), "work".to_string())]);
        assert!(Acting::new("default", &users("root")).unwrap().users.contains_key(&0));
        assert!(Acting::new("default", &users("4242")).unwrap().users.contains_key(&4242));
        assert!(matches!(Acting::new("default", &users("no such user")), Err(TunError::NoSuchUser(_))));
    }

    #[tokio::test]
    async fn the_owner_of_a_socket_of_ours_is_us() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let me = nix::unistd::getuid().as_raw();
        let found = owner(super::super::packet::TCP, stream.local_addr().unwrap(), stream.peer_addr().unwrap()).await;
        assert_eq!(found, Some(me));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:9").unwrap();
        let found = owner(super::super::packet::UDP, udp.local_addr().unwrap(), udp.peer_addr().unwrap()).await;
        assert_eq!(found, Some(me));
        let nobody =
            owner(super::super::packet::TCP, "127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()).await;
        assert_eq!(nobody, None);
    }
}
