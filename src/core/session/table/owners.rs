//! For whom this node takes sessions: identities come and go, keys rotate; and who listens.

use std::sync::Arc;

use super::limits::OWNERS_MAX;
use super::{Acting, End, Event, SavedKeys, SessionId, Sessions, Timer};
use crate::crypto::{ServiceId, SigningKey};
use crate::session::keys::OwnerKeys;
use crate::session::listeners::{Listen, ListenError, ListenerId};
use crate::session::{Descriptor, Owner};
use crate::time::Now;

/// The bound on identities is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many identities")]
pub struct TooManyIdentities;

impl Sessions {
    /// Acts as `identity` and takes sessions for it from now on. `saved` is what [`Event::Persist`] gave before a restart.
    ///
    /// # Errors
    /// There are [`OWNERS_MAX`] already.
    pub fn add_identity(
        &mut self,
        now: Now,
        identity: Arc<SigningKey>,
        saved: Option<&[u8]>,
    ) -> Result<(), TooManyIdentities> {
        let id = identity.public().service_id();
        if self.identities.contains_key(&id) {
            return Ok(());
        }
        if self.owners.len() >= OWNERS_MAX {
            return Err(TooManyIdentities);
        }
        self.identities.insert(id, identity);
        self.add_owner(now, Owner::Service(id), saved);
        Ok(())
    }

    /// Stops acting as an identity: its listeners go, and the sessions that it acts in or that were opened to it.
    pub fn remove_identity(&mut self, now: Now, id: ServiceId) {
        if self.identities.remove(&id).is_none() {
            return;
        }
        let owner = Owner::Service(id);
        self.owners.remove(&owner);
        self.timers.clear(&Timer::Owner(owner));
        self.listeners.remove_owner(owner);
        self.events.push_back(Event::Forget { owner });
        let acting = Acting::Identity(id);
        let dials: Vec<SessionId> =
            self.dials.iter().filter(|(_, dial)| dial.acting == acting).map(|(id, _)| *id).collect();
        for dial in dials {
            self.fail_dial(now, dial, super::Failure::UnknownIdentity);
        }
        let concerned = |end: &End, of: Owner| match end {
            End::Initiator(end) => end.acting == acting,
            End::Responder(_) => of == owner,
        };
        let gone = self.sessions.iter().filter(|(_, session)| concerned(&session.end, session.owner));
        let gone: Vec<SessionId> = gone.map(|(id, _)| *id).collect();
        for session in gone {
            self.remove_session(now, session);
        }
    }

    /// Takes sessions for an owner.
    pub(super) fn add_owner(&mut self, now: Now, owner: Owner, saved: Option<&[u8]>) {
        let mut rng = self.rng.fork("owner");
        let keys = OwnerKeys::new(now, owner, &self.node_key, saved, &mut rng);
        self.owners.insert(owner, keys);
        self.announce_keys(owner);
    }

    /// Rotates or deletes what is due of an owner's keys.
    pub(super) fn turn_keys(&mut self, now: Now, owner: Owner) {
        let Some(keys) = self.owners.get_mut(&owner) else { return };
        if keys.handle_timeout(now, &self.node_key, &mut self.rng) {
            self.announce_keys(owner);
        } else if let Some(at) = keys.poll_timeout() {
            self.timers.set(Timer::Owner(owner), at);
        }
    }

    /// Has new keys written down, then published.
    fn announce_keys(&mut self, owner: Owner) {
        let Some(keys) = self.owners.get(&owner) else { return };
        self.events.push_back(Event::Persist { owner, keys: SavedKeys(keys.export()) });
        self.events.push_back(Event::DescriptorChanged { owner });
        if let Some(at) = keys.poll_timeout() {
            self.timers.set(Timer::Owner(owner), at);
        }
    }

    /// What to publish for an identity of ours, or for the node.
    #[must_use]
    pub fn descriptor(&self, owner: Owner) -> Option<&Descriptor> {
        self.owners.get(&owner).map(|keys| &keys.current().descriptor)
    }

    /// Everything to keep over a restart: what every [`Event::Persist`] said last.
    pub fn export_keys(&self) -> impl Iterator<Item = (Owner, SavedKeys)> {
        self.owners.iter().map(|(owner, keys)| (*owner, SavedKeys(keys.export())))
    }

    /// Listens.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen(&mut self, listen: Listen) -> Result<ListenerId, ListenError> {
        if !self.owners.contains_key(&listen.owner) {
            return Err(ListenError::UnknownOwner);
        }
        self.listeners.add(listen)
    }

    /// Stops listening; channels that are open live on, those that wait for a decision may still be accepted.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.listeners.remove(listener);
    }

    /// Replaces who may call, for channels to come.
    pub fn set_allow(&mut self, listener: ListenerId, allow: Vec<ServiceId>) {
        self.listeners.set_allow(listener, allow);
    }
}
