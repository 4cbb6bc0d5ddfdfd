//! Which user of this host may act as which identity over SOCKS5 (INTERFACE.md, "The control
//! socket"): root and the daemon's own user as any, everybody as the default one, others
//! only as the one that `tun.users` maps to them. A caller of another host, or of another
//! network namespace, has no user here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use nix::unistd::{User, geteuid};

use crate::tun::acting::owner;

/// The identity of programs that show none.
pub(super) const DEFAULT_IDENTITY: &str = "default";
/// TCP, as IP names it.
const TCP: u8 = 6;

/// The identities of the host's users.
#[derive(Debug, Clone, Default)]
pub struct Users(BTreeMap<u32, String>);

impl Users {
    /// Looks up the users of `tun.users` (names or uids). One that does not exist maps nobody.
    #[must_use]
    pub fn new(users: &BTreeMap<String, String>) -> Self {
        let uid = |user: &String| {
            User::from_name(user).ok().flatten().map(|user| user.uid.as_raw()).or_else(|| user.parse().ok())
        };
        Self(users.iter().filter_map(|(user, identity)| Some((uid(user)?, identity.clone()))).collect())
    }

    /// Whether the program behind a connection from `program` to `ours` may act as `identity`.
    pub(super) async fn may_act(&self, identity: &str, program: SocketAddr, ours: SocketAddr) -> bool {
        if identity == DEFAULT_IDENTITY {
            return true;
        }
        let uid = owner(TCP, program, ours);
        self.allows(identity, uid, geteuid().as_raw())
    }

    /// Whether `uid` may act as `identity` while the daemon runs as `us`.
    fn allows(&self, identity: &str, uid: Option<u32>, us: u32) -> bool {
        uid.is_some_and(|uid| uid == 0 || uid == us || self.0.get(&uid).is_some_and(|mapped| mapped == identity))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn others_act_only_as_what_is_mapped_to_them() {
        let users = Users(BTreeMap::from([(1000, "work".to_owned())]));
        for (uid, identity, may) in [
            (Some(0), "work", true),
            (Some(990), "work", true),
            (Some(1000), "work", true),
            (Some(1000), "home", false),
            (Some(1001), "work", false),
            (None, "work", false),
        ] {
            assert_eq!(users.allows(identity, uid, 990), may, "{uid:?} as {identity}");
        }
        assert_eq!(
            Users::new(&BTreeMap::from([
                ("4242".to_owned(), "a".to_owned()),
                ("no such user".to_owned(), "b".to_owned())
            ]))
            .0
            .len(),
            1
        );
    }

    #[tokio::test]
    async fn the_kernel_knows_who_calls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listener.local_addr().unwrap();
        let program = TcpStream::connect(ours).await.unwrap();
        let users = Users::default();
        assert!(users.may_act("work", program.local_addr().unwrap(), ours).await, "our own user");
        assert!(!users.may_act("work", "127.0.0.1:1".parse().unwrap(), ours).await, "no such socket");
        assert!(users.may_act("default", "127.0.0.1:1".parse().unwrap(), ours).await);
    }
}
