//! The address map as the rest of the daemon uses it: shared, with its journal and the
//! wall clock. An address is on disk before it is told.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::TunError;
use super::address::{AddressError, AddressMap, Slot};
use super::journal::{self, Journal};
use super::limits::REFRESH_INTERVAL_S;
use super::plan::{AddressPlan, Addresses};
use super::told::Told;

/// File of the journal, in the TUN's state folder.
pub const JOURNAL_FILE: &str = "names.journal";

/// Why a name has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The map says no.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It could not be written down.
    #[error("the address could not be written to disk")]
    Disk,
}

/// Names and their addresses; clones share them.
#[derive(Clone)]
pub struct AddressBook {
    map: Arc<Mutex<AddressMap>>,
    journal: Journal,
    addresses: Addresses,
    /// Who was told what, where identities are kept apart.
    told: Option<Arc<Mutex<Told>>>,
}

/// Keeps an address with its name while a flow uses it.
pub struct Lease {
    book: AddressBook,
    slot: Slot,
    name: Arc<str>,
}

impl AddressBook {
    /// Reads the journal of `folder`, compacts it and opens it.
    ///
    /// # Errors
    /// The folder cannot be read or written, or the plan is damaged.
    pub fn open(folder: &Path, plan: &AddressPlan) -> Result<Self, TunError> {
        let addresses = plan.addresses()?;
        let path = folder.join(JOURNAL_FILE);
        let journal::Decoded { entries, damaged } = journal::load(&path).map_err(TunError::State)?;
        if damaged > 0 {
            // A torn tail after a power cut is no loss; anything more may be of use to whoever looks for the cause.
            let kept = path.with_extension("damaged");
            tracing::warn!(bytes = damaged, kept = %kept.display(), "the journal of addresses is damaged; what could be read is used");
            let _ = std::fs::copy(&path, &kept);
        }
        let map = AddressMap::new(plan.secret(), addresses.ipv4.addresses(), entries);
        let journal = Journal::start(path, &map.entries()).map_err(TunError::State)?;
        Ok(Self { map: Arc::new(Mutex::new(map)), journal, addresses, told: None })
    }

    /// From now on an identity learns from an address only the name that it asked for.
    #[must_use]
    pub fn keeping_apart(self) -> Self {
        Self { told: Some(Arc::default()), ..self }
    }

    /// The slot of `name` for an identity that asks for it, durable: may be answered at once.
    ///
    /// # Errors
    /// No address is free, or the disk fails.
    pub async fn assign(&self, identity: &str, name: &str) -> Result<Slot, BookError> {
        let slot = self.assign_to_all(name).await?;
        if let (Some(told), Some(name)) = (&self.told, self.name(slot)) {
            told.lock().unwrap_or_else(PoisonError::into_inner).tell(identity, slot, &name);
        }
        Ok(slot)
    }

    /// The slot of `name`, whoever asks.
    async fn assign_to_all(&self, name: &str) -> Result<Slot, BookError> {
        let assigned = self.lock().assign(unix_s(), name)?;
        if !assigned.wait {
            return Ok(assigned.slot);
        }
        if self.journal.append(assigned.write.into_iter().collect()).await {
            self.lock().handle_written(assigned.slot);
            Ok(assigned.slot)
        } else {
            self.lock().handle_write_failed(assigned.slot);
            Err(BookError::Disk)
        }
    }

    /// Writes down what is in use, for ever. May be dropped.
    pub async fn keep(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(REFRESH_INTERVAL_S));
        loop {
            ticks.tick().await;
            let used = self.lock().handle_timeout(unix_s());
            let slots: Vec<Slot> = used.iter().map(|entry| entry.slot).collect();
            if !used.is_empty() && !self.journal.append(used).await {
                tracing::warn!("the addresses in use could not be written down; they are tried again");
                let mut map = self.lock();
                slots.into_iter().for_each(|slot| map.handle_write_failed(slot));
            }
        }
    }

    /// The name of a slot.
    #[must_use]
    pub fn name(&self, slot: Slot) -> Option<Arc<str>> {
        self.lock().name(slot)
    }

    /// The name of a slot as far as an identity knows it.
    #[must_use]
    pub fn name_for(&self, identity: &str, slot: Slot) -> Option<Arc<str>> {
        let known = |name: &Arc<str>| match &self.told {
            Some(told) => told.lock().unwrap_or_else(PoisonError::into_inner).knows(identity, slot, name),
            None => true,
        };
        self.name(slot).filter(known)
    }

    /// The name of a slot, held for a flow; `None` when it stands for nothing.
    #[must_use]
    pub fn lease(&self, slot: Slot) -> Option<Lease> {
        let mut map = self.lock();
        let (name, write) = map.open_flow(unix_s(), slot)?;
        // The flow does not wait for the disk; what the queue does not take is tried again by `keep`.
        if write.is_some_and(|entry| !self.journal.note(entry)) {
            map.handle_write_failed(slot);
        }
        drop(map);
        Some(Lease { book: self.clone(), slot, name })
    }

    /// The prefixes.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The map, for a moment. A poisoned lock only means that another thread panicked between two plain stores.
    fn lock(&self) -> MutexGuard<'_, AddressMap> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The name that the address stands for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.book.lock().close_flow(unix_s(), self.slot);
    }
}

/// Seconds since 1970.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
