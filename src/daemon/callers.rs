//! Which user of this host may be which identity (INTERFACE.md, "The control socket"): root
//! and the daemon's own user any; a user whom `tun.users` maps the identity it names and no
//! other; everybody else none of their own, and the shared one (`tun.identity`) where names
//! are for all: TUN, DNS, SOCKS5. A caller of another host, or of another network
//! namespace, has no user here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use nix::unistd::{User, geteuid};

use crate::config;
use crate::engine::DEFAULT_IDENTITY;
use crate::tun::acting::owner;

/// TCP, as IP names it.
const TCP: u8 = 6;

/// What stands for the caller's own identity where one is named. No identity has this name.
pub const OWN: &str = "@";

/// The users of this host and their identities.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// The daemon's own user.
    us: u32,
    /// The identity of everybody whom nothing else is said of.
    shared: String,
    /// The identity of each mapped user.
    mapped: BTreeMap<u32, String>,
}

/// How much a caller may see and use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    All,
    /// One identity, and what is its.
    Own,
    /// No identity but the shared one, and that only for connections.
    Shared,
}

/// A user as a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it may see and use.
    pub rights: Rights,
    /// The identity it acts as when it names none.
    pub unnamed: String,
    /// The identity that its flows through the TUN act as.
    pub flows: String,
}

impl Callers {
    /// Looks up the users of `tun.users` (names or uids). One that does not exist maps nobody.
    #[must_use]
    pub fn new(config: &config::Tun) -> Self {
        let uid = |user: &String| {
            User::from_name(user).ok().flatten().map(|user| user.uid.as_raw()).or_else(|| user.parse().ok())
        };
        let mapped = config.users.iter().filter_map(|(user, identity)| Some((uid(user)?, identity.clone()))).collect();
        Self { us: geteuid().as_raw(), shared: config.identity.clone(), mapped }
    }

    /// The caller of this uid; nobody knows whose a connection without one is.
    #[must_use]
    pub fn of(&self, uid: Option<u32>) -> Caller {
        let owns = uid.is_some_and(|uid| uid == 0 || uid == self.us);
        match (uid.and_then(|uid| self.mapped.get(&uid)), owns) {
            (Some(mapped), true) => Caller::new(Rights::All, mapped, mapped),
            (Some(mapped), false) => Caller::new(Rights::Own, mapped, mapped),
            (None, true) => Caller::new(Rights::All, DEFAULT_IDENTITY, &self.shared),
            (None, false) => Caller::new(Rights::Shared, &self.shared, &self.shared),
        }
    }

    /// The caller behind a connection from `program` to `ours`, as the kernel's socket diagnosis tells it.
    pub fn of_connection(&self, program: SocketAddr, ours: SocketAddr) -> Caller {
        self.of(owner(TCP, program, ours))
    }

    /// Whether nobody has an identity of their own: then there is nothing to keep apart.
    #[must_use]
    pub fn is_alike(&self) -> bool {
        self.mapped.is_empty()
    }
}

impl Caller {
    /// A caller.
    fn new(rights: Rights, unnamed: &str, flows: &str) -> Self {
        Self { rights, unnamed: unnamed.to_owned(), flows: flows.to_owned() }
    }

    /// The identity that a caller acts as when it names `named` for a connection or a look-up; `None` when it may not.
    #[must_use]
    pub fn acting<'a>(&'a self, named: Option<&'a str>) -> Option<&'a str> {
        match named {
            None | Some(OWN) => Some(&self.unnamed),
            Some(named) => (self.rights == Rights::All || named == self.unnamed).then_some(named),
        }
    }

    /// Whether the identity is one that the caller may see.
    #[must_use]
    pub fn sees(&self, identity: &str) -> bool {
        match self.rights {
            Rights::All => true,
            Rights::Own => identity == self.unnamed,
            Rights::Shared => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// 1000 is work; the daemon is 990; everybody is `shared`.
    fn callers() -> Callers {
        Callers { us: 990, shared: "shared".into(), mapped: BTreeMap::from([(1000, "work".into())]) }
    }

    #[test]
    fn others_act_only_as_what_is_mapped_to_them() {
        for (uid, identity, may) in [
            (Some(0), "work", true),
            (Some(990), "work", true),
            (Some(1000), "work", true),
            (Some(1000), "home", false),
            (Some(1000), "shared", false),
            (Some(1001), "work", false),
            (Some(1001), "shared", true),
            (None, "work", false),
            (None, "default", false),
        ] {
            assert_eq!(callers().of(uid).acting(Some(identity)).is_some(), may, "{uid:?} as {identity}");
        }
    }

    #[test]
    fn who_names_no_identity_acts_as_its_own() {
        for (uid, unnamed, flows) in [
            (Some(0), "default", "shared"),
            (Some(1000), "work", "work"),
            (Some(1001), "shared", "shared"),
            (None, "shared", "shared"),
        ] {
            let caller = callers().of(uid);
            assert_eq!((caller.acting(None), caller.acting(Some(OWN))), (Some(unnamed), Some(unnamed)), "{uid:?}");
            assert_eq!(caller.flows, flows, "{uid:?}");
        }
    }

    #[test]
    fn only_owners_see_what_is_not_theirs() {
        let sees = |uid, identity: &str| callers().of(uid).sees(identity);
        assert!(sees(Some(0), "work") && sees(Some(1000), "work"));
        assert!(!sees(Some(1000), "shared") && !sees(Some(1001), "shared") && !sees(None, "shared"));
    }

    #[test]
    fn users_are_names_or_numbers_and_a_missing_one_maps_nobody() {
        let users = [("root", "a"), ("4242", "b"), ("no such user", "c")];
        let users = users.map(|(user, identity)| (user.to_owned(), identity.to_owned())).into();
        let callers = Callers::new(&config::Tun { users, ..Default::default() });
        assert_eq!(callers.mapped, BTreeMap::from([(0, "a".to_owned()), (4242, "b".to_owned())]));
        assert!(!callers.is_alike());
    }

    #[tokio::test]
    async fn the_kernel_knows_who_calls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listener.local_addr().unwrap();
        let program = TcpStream::connect(ours).await.unwrap();
        let callers = Callers { us: geteuid().as_raw(), ..callers() };
        assert_eq!(callers.of_connection(program.local_addr().unwrap(), ours).rights, Rights::All);
        let nobody = callers.of_connection("127.0.0.1:1".parse().unwrap(), ours);
        assert_eq!(nobody.rights, Rights::Shared);
    }
}
