//! The identity that acts for a flow: by the user that owns the socket, as the kernel's
//! socket diagnosis tells it, else the configured one.
//!
//! | the socket's user | who acts |
//! | --- | --- |
//! | mapped by `tun.users` | the mapped identity |
//! | another | `tun.identity` |
//! | none, and forwarded traffic is let in | `tun.forwarded` |
//! | none, and the kernel keeps forwarded traffic out | `tun.identity`; nobody where users are mapped |
//! | none, and nothing keeps it out | nobody |
//!
//! A flow has no user when it was forwarded (a container's) or when its socket is closed
//! already, as that of a program which sends one datagram and goes. `nobody` is told the
//! program as prohibited.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use nix::unistd::User;
use tarnet_core::session::Refusal;

use super::TunError;
use super::diag::Diag;
use crate::handle::ConnectError;

pub(crate) use super::diag::owner;

/// A user of the host; absent: the flow has none.
pub type Uid = Option<u32>;

/// Chooses the acting identity.
pub struct Acting {
    identity: Arc<str>,
    users: BTreeMap<u32, Arc<str>>,
    /// Acts for flows without a user; absent: as the table says.
    forwarded: Option<Arc<str>>,
    /// Whether the kernel keeps forwarded traffic from us.
    gated: bool,
    diag: Option<Diag>,
}

/// Who acts for a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// The user.
    pub uid: Uid,
    /// The acting identity; absent: nobody may.
    pub identity: Option<Arc<str>>,
    /// Whether it is another identity than the one whose names DNS shows.
    foreign: bool,
}

impl Acting {
    /// Looks the mapped users up. `forwarded` is empty where forwarded traffic is refused.
    ///
    /// # Errors
    /// A user does not exist.
    pub fn new(identity: &str, users: &BTreeMap<String, String>, forwarded: &str) -> Result<Self, TunError> {
        let mut by_uid = BTreeMap::new();
        for (user, identity) in users {
            let known = User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
            let uid = known.or_else(|| user.parse().ok()).ok_or_else(|| TunError::NoSuchUser(user.clone()))?;
            by_uid.insert(uid, identity.as_str().into());
        }
        let diag = Diag::open().inspect_err(|error| tracing::warn!(%error, "sockets' users cannot be told")).ok();
        let forwarded = Some(forwarded).filter(|identity| !identity.is_empty()).map(Into::into);
        Ok(Self { identity: identity.into(), users: by_uid, forwarded, gated: false, diag })
    }

    /// Whether forwarded traffic is let in.
    #[must_use]
    pub fn takes_forwarded(&self) -> bool {
        self.forwarded.is_some()
    }

    /// The kernel keeps forwarded traffic from us.
    pub fn set_gated(&mut self) {
        self.gated = true;
    }

    /// The configured identity, for what has no user.
    #[must_use]
    pub fn default_identity(&self) -> &str {
        &self.identity
    }

    /// Who acts for a flow of `protocol` (6 or 17) from the first to the second address. One question to
    /// the kernel, which answers in the same call.
    #[must_use]
    pub fn of(&self, protocol: u8, (source, destination): (SocketAddr, SocketAddr)) -> Actor {
        let uid = self.diag.as_ref().and_then(|diag| diag.owner(protocol, source, destination));
        self.actor(uid)
    }

    /// Who acts for a user.
    fn actor(&self, uid: Uid) -> Actor {
        let identity = match uid {
            Some(uid) => Some(self.users.get(&uid).unwrap_or(&self.identity)),
            None if self.forwarded.is_some() => self.forwarded.as_ref(),
            None => Some(&self.identity).filter(|_| self.gated && self.users.is_empty()),
        };
        let foreign = identity.is_some_and(|identity| *identity != self.identity);
        Actor { uid, identity: identity.cloned(), foreign }
    }
}

impl Actor {
    /// What a failure means to this actor's program: a name that DNS showed it, but that its own identity
    /// does not know, is there and not for it.
    #[must_use]
    pub fn verdict(&self, error: ConnectError) -> ConnectError {
        match error {
            ConnectError::NoSuchName if self.foreign => ConnectError::Refused(Refusal::NotAllowed),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_and_unknown_users_are_told_apart() {
        let users = |name: &str| BTreeMap::from([(name.to_string(), "work".to_string())]);
        assert!(Acting::new("default", &users("root"), "").unwrap().users.contains_key(&0));
        assert!(Acting::new("default", &users("4242"), "").unwrap().users.contains_key(&4242));
        assert!(matches!(Acting::new("default", &users("no such user"), ""), Err(TunError::NoSuchUser(_))));
    }

    /// Who acts for a mapped user, another user, and a flow without one.
    fn actors(users: &[(&str, &str)], forwarded: &str, gated: bool) -> [Option<String>; 3] {
        let users = users.iter().map(|(user, identity)| ((*user).to_owned(), (*identity).to_owned())).collect();
        let mut acting = Acting::new("default", &users, forwarded).unwrap();
        if gated {
            acting.set_gated();
        }
        [Some(7), Some(8), None].map(|uid| acting.actor(uid).identity.map(|identity| identity.to_string()))
    }

    #[test]
    fn a_flow_without_a_user_acts_only_where_that_can_be_no_mistake() {
        let [work, default, guests] = ["work", "default", "guests"].map(|name| Some(name.to_owned()));
        let mapped = [("7", "work")];
        assert_eq!(actors(&mapped, "", true), [work.clone(), default.clone(), None]);
        assert_eq!(actors(&mapped, "", false), [work.clone(), default.clone(), None]);
        assert_eq!(actors(&[], "", true), [default.clone(), default.clone(), default.clone()]);
        assert_eq!(actors(&[], "", false), [default.clone(), default.clone(), None]);
        assert_eq!(actors(&mapped, "guests", false), [work, default, guests]);
    }

    #[test]
    fn a_name_that_only_the_shared_identity_knows_is_prohibited_to_others() {
        let users = BTreeMap::from([("7".to_owned(), "work".to_owned())]);
        let acting = Acting::new("default", &users, "").unwrap();
        let verdict = |uid, error| acting.actor(Some(uid)).verdict(error);
        assert_eq!(verdict(7, ConnectError::NoSuchName), ConnectError::Refused(Refusal::NotAllowed));
        assert_eq!(verdict(7, ConnectError::NoRoute), ConnectError::NoRoute);
        assert_eq!(verdict(8, ConnectError::NoSuchName), ConnectError::NoSuchName);
    }
}
