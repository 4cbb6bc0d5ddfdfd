//! The node's identities by their local names.

use std::collections::BTreeMap;
use std::sync::Arc;

use tarnet_api as api;
use tarnet_core::crypto::{PeerId, Scheme, ServiceId, SigningKey};
use tarnet_core::session::Owner;

use super::Engine;
use crate::admin::{AdminError, Reply};
use crate::store::KeyFolder;

/// The identity that always exists.
pub const DEFAULT: &str = "default";

/// Names and keys.
pub(super) struct Identities {
    folder: KeyFolder,
    by_name: BTreeMap<String, Arc<SigningKey>>,
}

impl Identities {
    /// The identities loaded at start.
    pub(super) fn new(folder: KeyFolder, loaded: Vec<(String, Arc<SigningKey>)>) -> Self {
        Self { folder, by_name: loaded.into_iter().collect() }
    }

    /// The ServiceId of a name.
    pub(super) fn id(&self, name: &str) -> Option<ServiceId> {
        self.by_name.get(name).map(|key| key.public().service_id())
    }

    /// Who listens: an identity by name, or `peer` for the machine.
    pub(super) fn owner(&self, name: &str, me: PeerId) -> Option<Owner> {
        if name == "peer" { Some(Owner::Peer(me)) } else { self.id(name).map(Owner::Service) }
    }

    /// All of them, for people.
    pub(super) fn list(&self) -> Vec<api::Identity> {
        self.by_name.iter().map(|(name, key)| describe(name, key)).collect()
    }
}

/// An identity for people. Public identities have one hop.
fn describe(name: &str, key: &SigningKey) -> api::Identity {
    api::Identity {
        name: name.to_owned(),
        service_id: key.public().service_id().to_string(),
        scheme: key.public().scheme().as_str().into(),
        privacy: "public".into(),
        intro_points: 0,
        outbound_hops: 1,
    }
}

impl Engine {
    /// Makes an identity. Its key is on disk before anybody hears of it.
    pub(super) fn identity_create(&mut self, name: &str, scheme: Scheme, reply: Reply<api::Identity>) {
        let mut rng = tarnet_core::rng::Rng::from_seed(crate::seed());
        let key = SigningKey::generate(scheme, &mut rng);
        let _ = reply.send(self.identity_add(name, key));
    }

    /// Takes an exported identity.
    pub(super) fn identity_import(&mut self, name: &str, bytes: &[u8], reply: Reply<api::Identity>) {
        let result = KeyFolder::import(bytes).map_err(AdminError::Refused).and_then(|key| self.identity_add(name, key));
        let _ = reply.send(result);
    }

    /// Adds an identity under a free name.
    fn identity_add(&mut self, name: &str, key: SigningKey) -> Result<api::Identity, AdminError> {
        crate::store::identity_name(name).map_err(|error| AdminError::Refused(error.to_string()))?;
        if self.identities.by_name.contains_key(name) {
            return Err(AdminError::Refused(format!("there is an identity '{name}' already")));
        }
        if self.identities.by_name.values().any(|known| known.public() == key.public()) {
            return Err(AdminError::Refused("this identity is here already under another name".into()));
        }
        self.identities.folder.create(name, &key).map_err(|error| AdminError::Disk(error.to_string()))?;
        let key = Arc::new(key);
        let added = self.node.add_identity(self.clock.now(), Arc::clone(&key), None);
        added.map_err(|_| AdminError::Refused("there are as many identities as one node keeps".into()))?;
        self.identities.by_name.insert(name.to_owned(), Arc::clone(&key));
        Ok(describe(name, &key))
    }

    /// Deletes an identity for good: key, zone, session keys.
    pub(super) fn identity_delete(&mut self, name: &str, reply: Reply<()>) {
        if name == DEFAULT {
            let _ = reply.send(Err(AdminError::Refused("the identity 'default' cannot be deleted".into())));
            return;
        }
        let Some(key) = self.identities.by_name.get(name).cloned() else {
            let _ = reply.send(Err(AdminError::NotFound(format!("there is no identity '{name}'"))));
            return;
        };
        if let Err(error) = self.identities.folder.remove(name) {
            let _ = reply.send(Err(AdminError::Disk(error.to_string())));
            return;
        }
        self.identities.by_name.remove(name);
        self.node.remove_identity(self.clock.now(), key.public().service_id());
        let ops =
            vec![crate::store::Op::RemovePrefix(crate::store::Table::Zones, crate::store::records::zone_prefix(name))];
        self.after_disk(ops, reply, ());
    }

    /// The secret key file of an identity.
    pub(super) fn identity_export(&self, name: &str, reply: Reply<Vec<u8>>) {
        let result = match self.identities.by_name.get(name) {
            None => Err(AdminError::NotFound(format!("there is no identity '{name}'"))),
            Some(_) => {
                let exported = self.identities.folder.export(name);
                exported.map(|bytes| bytes.to_vec()).map_err(|error| AdminError::Disk(error.to_string()))
            }
        };
        let _ = reply.send(result);
    }
}
