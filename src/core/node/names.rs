//! Names' part of the node: identities and their zones, what the resolver and the
//! publisher ask for, and the node's own Hello.

use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::limits::HELLO_LIFE;
use super::lookups::Purpose;
use crate::crypto::{ServiceId, SigningKey};
use crate::dht::{self, HELLO_RELAY, Hello, Store};
use crate::names::{self, SetError, ZoneEntry, ZoneLabel};
use crate::session::TooManyIdentities;
use crate::time::{Instant, Now, UnixTime};
use crate::wire::block::Kind;

/// The node's own Hello: published when its descriptor changes, and at half its life.
pub(super) struct HelloPublisher {
    addresses: Vec<String>,
    descriptor: Option<Bytes>,
    due: Option<Instant>,
}

impl HelloPublisher {
    /// Nothing to publish yet.
    pub(super) fn new(addresses: Vec<String>) -> Self {
        Self { addresses, descriptor: None, due: None }
    }

    /// A new descriptor: to be published at once.
    pub(super) fn set_descriptor(&mut self, now: Now, descriptor: Bytes) {
        self.descriptor = Some(descriptor);
        self.due = Some(now.instant);
    }

    /// Others than before are nearest: to be published again, if it was.
    pub(super) fn again(&mut self, now: Now) {
        if self.descriptor.is_some() {
            self.due = Some(now.instant);
        }
    }

    /// When to publish next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

impl<S: Store> Node<S> {
    /// Takes an identity: it is served, published and acted as from now on. `saved` are its session keys, as
    /// last persisted.
    ///
    /// # Errors
    /// There are as many as one node keeps.
    pub fn add_identity(
        &mut self,
        now: Now,
        key: Arc<SigningKey>,
        saved: Option<&[u8]>,
    ) -> Result<(), TooManyIdentities> {
        let id = key.public().service_id();
        self.sessions.add_identity(now, Arc::clone(&key), saved)?;
        self.zones.add_zone(id);
        self.publisher.add_identity(Arc::clone(&key));
        self.identities.insert(id, key);
        Ok(())
    }

    /// Gives an identity up, and withdraws what it has published.
    pub fn remove_identity(&mut self, now: Now, id: ServiceId) {
        self.identities.remove(&id);
        self.zones.remove_zone(&id);
        self.publisher.withdraw_identity(&id);
        self.sessions.remove_identity(now, id);
    }

    /// The records of one of our zones.
    pub fn zone(&self, id: &ServiceId) -> impl Iterator<Item = (&ZoneLabel, &ZoneEntry)> {
        self.zones.list(id)
    }

    /// Replaces the records of one type under a label of one of our zones.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn set_record(&mut self, id: ServiceId, label: ZoneLabel, entry: ZoneEntry) -> Result<(), SetError> {
        self.zones.set(&id, label, entry)?;
        self.publisher.sync(id, &self.zones);
        Ok(())
    }

    /// Removes the records of a label, or only those of `expose`. Says how many there were.
    pub fn remove_records(&mut self, id: ServiceId, label: &ZoneLabel, by_expose_only: bool) -> usize {
        let removed = self.zones.remove(&id, label, by_expose_only);
        self.publisher.sync(id, &self.zones);
        removed
    }

    /// Handles everything that the resolver and the publisher report.
    pub(super) fn drain_names(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Some(fetch) = self.resolver.poll_fetch() {
            busy = true;
            self.query(now, Purpose::Fetch(fetch.fetch), fetch.key, Kind::Name);
        }
        while let Some(event) = self.resolver.poll_event() {
            busy = true;
            match event {
                names::Event::Resolved { id, result, trace } => self.on_resolved(now, id, result, trace),
                names::Event::Node { id, result } => self.on_node_record(now, id, result),
            }
        }
        while let Some(put) = self.publisher.poll_put(now) {
            busy = true;
            self.store(now, Purpose::Publish(put.put), put.block);
        }
        busy
    }

    /// Publishes the node's Hello when it is due.
    pub(super) fn refresh_hello(&mut self, now: Now) {
        if self.hello.due.is_none_or(|due| due > now.instant) {
            return;
        }
        self.hello.due = Some(now.instant + HELLO_LIFE / 2);
        let Some(descriptor) = self.hello.descriptor.clone() else { return };
        let hello = Hello {
            peer: self.me,
            node: self.key.public().clone(),
            flags: HELLO_RELAY,
            addresses: self.hello.addresses.clone(),
            descriptor,
            sequence: now.unix.0,
            expiry: UnixTime(now.unix.0.saturating_add(HELLO_LIFE.as_secs())),
        };
        match dht::seal_hello(&self.key, &hello) {
            Ok(block) => {
                self.routing.set_blob(now, block.encode().into());
                self.store(now, Purpose::OwnHello, block);
            }
            Err(error) => tracing::warn!(%error, "the Hello cannot be published"),
        }
    }
}
