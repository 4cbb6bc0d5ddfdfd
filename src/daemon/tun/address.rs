//! The address map, as a machine: which name has which slot. A slot is one number for
//! both families: the IPv4 and the IPv6 address of a name are the same slot of two prefixes.
//!
//! A name's slot is seeded by a keyed hash and found by linear probing, so that it is
//! the same after the map was lost. It never changes while the map lives, and never
//! goes to another name while a flow uses it or within [`ADDRESS_HOLD_S`] of its last
//! answer. When nothing is free a new name gets none; nobody is evicted for it.
//!
//! Bounds: the prefix's slots, and [`NAMES_PER_ZONE_MAX`] names under one last label.
//! What must reach the disk before an answer is told through [`Assigned::write`]; what was
//! used meanwhile, through [`AddressMap::handle_timeout`], which wants to be called every
//! [`REFRESH_INTERVAL_S`]: so a flow that was there at a crash counts as recent after it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tarnet_core::crypto::keyed_mac;

use super::limits::{ADDRESS_HOLD_S, NAME_BYTES_MAX, NAMES_PER_ZONE_MAX, REFRESH_INTERVAL_S, TOUCH_INTERVAL_S};

/// First slot that a name may get: 0 is the network, 1 our own address, 2 the DNS server.
pub const SLOT_FIRST: u32 = 3;
/// The slot of the link's own address.
pub const SLOT_OURS: u32 = 1;
/// The slot that answers DNS.
pub const SLOT_DNS: u32 = 2;

/// One number for a name's addresses in both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A line of the journal: this slot stood for this name at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The slot.
    pub slot: Slot,
    /// When it was last answered, seconds since 1970; written at most once in [`TOUCH_INTERVAL_S`].
    pub answered_s: u64,
    /// The canonical name.
    pub name: Arc<str>,
}

/// A slot for a name, and what must be durable before the answer leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The slot.
    pub slot: Slot,
    /// To be journaled first; absent: only what was given earlier must have reached the disk.
    pub write: Option<Entry>,
    /// Whether something given earlier for this name may not have reached the disk yet.
    pub wait: bool,
}

/// Why a name gets no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Every slot is in use or held.
    #[error("no synthetic address is free")]
    Full,
    /// Too many names under its last label.
    #[error("too many names of one zone")]
    ZoneFull,
    /// Longer than DNS allows, or empty.
    #[error("not a name that can have an address")]
    BadName,
}

/// What a slot stands for.
struct Holder {
    name: Arc<str>,
    /// Last answer, seconds since 1970.
    answered_s: u64,
    /// Last answer as the journal has it.
    written_s: u64,
    durable: bool,
    flows: u32,
}

impl Holder {
    /// What the journal does not know yet, if that is long enough.
    fn refresh(&mut self, slot: Slot) -> Option<Entry> {
        let due = self.durable && self.answered_s >= self.written_s.saturating_add(REFRESH_INTERVAL_S);
        due.then(|| {
            self.written_s = self.answered_s;
            Entry { slot, answered_s: self.answered_s, name: Arc::clone(&self.name) }
        })
    }
}

/// The map.
pub struct AddressMap {
    /// Keyed so that nobody can choose names that collide here.
    secret: [u8; 32],
    /// Slots that names may have: `SLOT_FIRST..end`.
    end: u32,
    slots: HashMap<Slot, Holder>,
    names: HashMap<Arc<str>, Slot>,
    /// Names per last label.
    zones: BTreeMap<Box<str>, usize>,
}

impl AddressMap {
    /// A map over the slots of a prefix with `addresses` addresses, the last of which is
    /// the broadcast address. Journal lines that do not fit it are dropped; of two for one
    /// name or slot the later wins.
    #[must_use]
    pub fn new(secret: [u8; 32], addresses: u32, journal: impl IntoIterator<Item = Entry>) -> Self {
        let end = addresses.saturating_sub(1);
        let mut map = Self { secret, end, slots: HashMap::new(), names: HashMap::new(), zones: BTreeMap::new() };
        for entry in journal {
            if (SLOT_FIRST..map.end).contains(&entry.slot.0) && valid(&entry.name) {
                map.release_name(&entry.name);
                map.release_slot(entry.slot);
                map.occupy(entry.slot, entry.name, entry.answered_s, true);
            }
        }
        map
    }

    /// The slot of `name` for an answer at `now_s` (seconds since 1970), a new one if it has none.
    ///
    /// # Errors
    /// Nothing is free, the zone's quota is used up, or the name is unfit.
    pub fn assign(&mut self, now_s: u64, name: &str) -> Result<Assigned, AddressError> {
        if let Some(slot) = self.names.get(name) {
            let slot = *slot;
            return Ok(self.touch(now_s, slot));
        }
        if !valid(name) {
            return Err(AddressError::BadName);
        }
        if self.zones.get(last_label(name)).is_some_and(|names| *names >= NAMES_PER_ZONE_MAX) {
            return Err(AddressError::ZoneFull);
        }
        let slot = self.find(now_s, name).ok_or(AddressError::Full)?;
        let name: Arc<str> = name.into();
        self.release_slot(slot);
        self.occupy(slot, Arc::clone(&name), now_s, false);
        Ok(Assigned { slot, write: Some(Entry { slot, answered_s: now_s, name }), wait: true })
    }

    /// The journal has everything given for `slot` up to `answered_s`.
    pub fn handle_written(&mut self, slot: Slot) {
        if let Some(holder) = self.slots.get_mut(&slot) {
            holder.durable = true;
        }
    }

    /// The journal could not take what was given for `slot`: a name that was never written down loses it.
    pub fn handle_write_failed(&mut self, slot: Slot) {
        match self.slots.get_mut(&slot) {
            Some(holder) if holder.durable => holder.written_s = 0,
            Some(holder) if holder.flows == 0 => self.release_slot(slot),
            Some(_) | None => {}
        }
    }

    /// The name a slot stands for.
    #[must_use]
    pub fn name(&self, slot: Slot) -> Option<Arc<str>> {
        self.slots.get(&slot).map(|holder| Arc::clone(&holder.name))
    }

    /// A flow starts to use a slot at `now_s`: its name, and what the journal should know of it; nothing if it
    /// stands for no name. A program may have had the address for long before it uses it.
    pub fn open_flow(&mut self, now_s: u64, slot: Slot) -> Option<(Arc<str>, Option<Entry>)> {
        let holder = self.slots.get_mut(&slot)?;
        holder.flows += 1;
        holder.answered_s = holder.answered_s.max(now_s);
        Some((Arc::clone(&holder.name), holder.refresh(slot)))
    }

    /// A flow that [`Self::open_flow`] counted is over at `now_s`.
    pub fn close_flow(&mut self, now_s: u64, slot: Slot) {
        if let Some(holder) = self.slots.get_mut(&slot) {
            holder.flows = holder.flows.saturating_sub(1);
            // A program that used it a moment ago may use it again without asking.
            holder.answered_s = holder.answered_s.max(now_s);
        }
    }

    /// What was used lately and the journal does not know yet. The caller appends it.
    pub fn handle_timeout(&mut self, now_s: u64) -> Vec<Entry> {
        let mut due = Vec::new();
        for (slot, holder) in &mut self.slots {
            if holder.flows > 0 {
                holder.answered_s = holder.answered_s.max(now_s);
            }
            due.extend(holder.refresh(*slot));
        }
        due.sort_unstable_by_key(|entry| entry.slot);
        due
    }

    /// Every name, for compacting the journal.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .slots
            .iter()
            .map(|(slot, holder)| Entry { slot: *slot, answered_s: holder.answered_s, name: Arc::clone(&holder.name) })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.slot);
        entries
    }

    /// Names that have a slot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no name has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A name that has its slot already was asked for again.
    fn touch(&mut self, now_s: u64, slot: Slot) -> Assigned {
        let mut assigned = Assigned { slot, write: None, wait: false };
        if let Some(holder) = self.slots.get_mut(&slot) {
            holder.answered_s = holder.answered_s.max(now_s);
            assigned.wait = !holder.durable;
            if now_s >= holder.written_s.saturating_add(TOUCH_INTERVAL_S) {
                holder.written_s = now_s;
                assigned.wait = true;
                assigned.write = Some(Entry { slot, answered_s: now_s, name: Arc::clone(&holder.name) });
            }
        }
        assigned
    }

    /// The slot for a new name: the first never-used one from its seed on, else the first whose time is over.
    fn find(&self, now_s: u64, name: &str) -> Option<Slot> {
        let slots = self.end.checked_sub(SLOT_FIRST).filter(|slots| *slots > 0)?;
        let mac = keyed_mac(&self.secret, name.as_bytes());
        let seed = u32::from_le_bytes([mac[0], mac[1], mac[2], mac[3]]) % slots;
        let probe = || (0..slots).map(|step| Slot(SLOT_FIRST + (seed + step) % slots));
        if self.slots.len() < usize::try_from(slots).unwrap_or(usize::MAX) {
            return probe().find(|slot| !self.slots.contains_key(slot));
        }
        probe().find(|slot| self.slots.get(slot).is_some_and(|holder| reusable(holder, now_s)))
    }

    /// Puts a name into a free slot.
    fn occupy(&mut self, slot: Slot, name: Arc<str>, answered_s: u64, durable: bool) {
        *self.zones.entry(last_label(&name).into()).or_default() += 1;
        self.names.insert(Arc::clone(&name), slot);
        self.slots.insert(slot, Holder { name, answered_s, written_s: answered_s, durable, flows: 0 });
    }

    /// Takes a name out of the map.
    fn release_name(&mut self, name: &str) {
        if let Some(slot) = self.names.get(name) {
            self.release_slot(*slot);
        }
    }

    /// Frees a slot.
    fn release_slot(&mut self, slot: Slot) {
        let Some(holder) = self.slots.remove(&slot) else { return };
        self.names.remove(&holder.name);
        let label = last_label(&holder.name);
        if let Some(names) = self.zones.get_mut(label) {
            *names -= 1;
            if *names == 0 {
                self.zones.remove(label);
            }
        }
    }
}

/// Whether a slot may go to another name. The journal may know an answer up to one interval late.
fn reusable(holder: &Holder, now_s: u64) -> bool {
    let last_s = holder.answered_s.max(holder.written_s.saturating_add(TOUCH_INTERVAL_S));
    holder.flows == 0 && now_s > last_s.saturating_add(ADDRESS_HOLD_S)
}

/// Whether a name may have an address.
fn valid(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}

/// A name's last label: the petname or ServiceId it hangs from.
fn last_label(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests;
