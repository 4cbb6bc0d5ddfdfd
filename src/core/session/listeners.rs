//! Who answers for which owner, label and port, and who may call. Pure look-up: the table
//! of sessions asks, accepts and refuses.
//!
//! Bound: [`LISTENERS_MAX`] listeners per node; more are refused.

use std::collections::BTreeMap;

use super::{Mode, Owner, Port, Refusal};
use crate::crypto::ServiceId;

/// Listeners of a node.
pub const LISTENERS_MAX: usize = 4_096;

/// One listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u64);

/// What a listener answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Our identity, or the node itself.
    pub owner: Owner,
    /// The TNS label that it is reached under; absent: any.
    pub label: Option<String>,
    /// The port.
    pub port: Port,
    /// The delivery mode.
    pub mode: Mode,
    /// Who may call; empty: anyone. Not empty: nothing is opened before the caller has proven its identity.
    pub allow: Vec<ServiceId>,
    /// Wait for the caller's identity proof (one more half round trip) also where anyone may call.
    pub await_caller: bool,
    /// Channels at once; 0: the node-wide bound.
    pub channels_max: usize,
}

/// Why listening failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens on that owner, label and port in that mode already.
    #[error("that port is taken")]
    Taken,
    /// The owner does not take sessions here.
    #[error("no such identity")]
    UnknownOwner,
    /// [`LISTENERS_MAX`] is reached.
    #[error("too many listeners")]
    TooMany,
}

/// Whether a caller may open a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Admitted,
    /// Its proof must arrive first.
    AwaitProof,
    /// No.
    Refused(Refusal),
}

/// What is known about a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// It said that it will prove an identity.
    Awaited,
    /// It proved this one.
    Proven(ServiceId),
    /// It stays anonymous, or its proof did not hold.
    Anonymous,
}

impl Caller {
    /// The proven identity.
    pub fn identity(self) -> Option<ServiceId> {
        match self {
            Self::Proven(id) => Some(id),
            Self::Awaited | Self::Anonymous => None,
        }
    }
}

/// A listener and its channels.
struct Entry {
    listen: Listen,
    channels: usize,
}

/// The listeners of one label, by mode: as ports of TCP and UDP are apart, so are those of streams and datagrams.
type Modes = BTreeMap<Mode, ListenerId>;

/// All listeners of a node.
#[derive(Default)]
pub(super) struct Listeners {
    by_id: BTreeMap<ListenerId, Entry>,
    by_place: BTreeMap<(Owner, Port), BTreeMap<Option<String>, Modes>>,
    next: u64,
}

/// Labels are compared as TNS does: without case.
fn canonical(label: Option<&str>) -> Option<String> {
    label.map(str::to_lowercase)
}

impl Listeners {
    /// Adds a listener.
    ///
    /// # Errors
    /// Taken, or too many.
    pub fn add(&mut self, listen: Listen) -> Result<ListenerId, ListenError> {
        if self.by_id.len() >= LISTENERS_MAX {
            return Err(ListenError::TooMany);
        }
        let place = self.by_place.entry((listen.owner, listen.port.clone())).or_default();
        let modes = place.entry(canonical(listen.label.as_deref())).or_default();
        if modes.contains_key(&listen.mode) {
            return Err(ListenError::Taken);
        }
        let id = ListenerId(self.next);
        self.next += 1;
        modes.insert(listen.mode, id);
        self.by_id.insert(id, Entry { listen, channels: 0 });
        Ok(id)
    }

    /// Removes a listener; its channels live on.
    pub fn remove(&mut self, id: ListenerId) {
        let Some(Entry { listen, .. }) = self.by_id.remove(&id) else { return };
        let (place, label) = ((listen.owner, listen.port), canonical(listen.label.as_deref()));
        let Some(labels) = self.by_place.get_mut(&place) else { return };
        if let Some(modes) = labels.get_mut(&label) {
            modes.remove(&listen.mode);
            if modes.is_empty() {
                labels.remove(&label);
            }
        }
        if labels.is_empty() {
            self.by_place.remove(&place);
        }
    }

    /// Removes all listeners of an owner.
    pub fn remove_owner(&mut self, owner: Owner) {
        let gone: Vec<_> =
            self.by_id.iter().filter(|(_, entry)| entry.listen.owner == owner).map(|(id, _)| *id).collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Replaces who may call, for channels to come.
    pub fn set_allow(&mut self, id: ListenerId, allow: Vec<ServiceId>) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.listen.allow = allow;
        }
    }

    /// The listener for a channel: the exact label, else an unlabelled one, else, if no label was carried, the port's only one.
    ///
    /// # Errors
    /// No listener, or only ones of other modes.
    pub fn find(&self, owner: Owner, label: Option<&str>, port: &Port, mode: Mode) -> Result<ListenerId, Refusal> {
        let labels = self.by_place.get(&(owner, port.clone())).ok_or(Refusal::NoListener)?;
        let label = canonical(label);
        let only = || labels.values().next().filter(|_| label.is_none() && labels.len() == 1);
        let modes = labels.get(&label).or_else(|| labels.get(&None)).or_else(only).ok_or(Refusal::NoListener)?;
        modes.get(&mode).copied().ok_or(Refusal::ModeMismatch)
    }

    /// Whether that caller may open one more channel.
    pub fn admit(&self, id: ListenerId, caller: Caller) -> Admission {
        let Some(Entry { listen, channels }) = self.by_id.get(&id) else {
            return Admission::Refused(Refusal::NoListener);
        };
        let listed = |id: &ServiceId| listen.allow.is_empty() || listen.allow.contains(id);
        let allowed = match caller {
            Caller::Awaited if !listen.allow.is_empty() || listen.await_caller => return Admission::AwaitProof,
            Caller::Proven(id) => listed(&id),
            Caller::Awaited | Caller::Anonymous => listen.allow.is_empty(),
        };
        if !allowed {
            Admission::Refused(Refusal::NotAllowed)
        } else if listen.channels_max != 0 && *channels >= listen.channels_max {
            Admission::Refused(Refusal::TooMany)
        } else {
            Admission::Admitted
        }
    }

    /// Counts a channel in.
    pub fn channel_up(&mut self, id: ListenerId) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.channels += 1;
        }
    }

    /// Counts a channel out.
    pub fn channel_down(&mut self, id: ListenerId) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.channels = entry.channels.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner::Service(ServiceId([1; 32]));

    fn listen(label: Option<&str>, port: u16) -> Listen {
        Listen {
            owner: OWNER,
            label: label.map(Into::into),
            port: port.into(),
            mode: Mode::ReliableOrdered,
            allow: Vec::new(),
            await_caller: false,
            channels_max: 0,
        }
    }

    /// INTERFACE.md, "A service file": every row of the rule.
    #[test]
    fn labels_match_exactly_then_unlabelled_then_the_only_one() {
        let mut table = Listeners::default();
        let blog = table.add(listen(Some("blog"), 80)).unwrap();
        let find = |table: &Listeners, label, port: u16| table.find(OWNER, label, &port.into(), Mode::ReliableOrdered);
        assert_eq!(find(&table, Some("blog"), 80), Ok(blog));
        assert_eq!(find(&table, Some("Blog"), 80), Ok(blog));
        assert_eq!(find(&table, Some("shop"), 80), Err(Refusal::NoListener));
        assert_eq!(find(&table, None, 80), Ok(blog));
        assert_eq!(find(&table, None, 81), Err(Refusal::NoListener));
        let shop = table.add(listen(Some("shop"), 80)).unwrap();
        assert_eq!(find(&table, Some("shop"), 80), Ok(shop));
        assert_eq!(find(&table, None, 80), Err(Refusal::NoListener));
        let any = table.add(listen(None, 80)).unwrap();
        assert_eq!(find(&table, None, 80), Ok(any));
        assert_eq!(find(&table, Some("wiki"), 80), Ok(any));
        assert_eq!(find(&table, Some("blog"), 80), Ok(blog));
        table.remove(any);
        table.remove(blog);
        assert_eq!(find(&table, None, 80), Ok(shop));
        assert_eq!(find(&table, Some("blog"), 80), Err(Refusal::NoListener));
    }

    #[test]
    fn places_are_taken_once_per_owner_label_and_port() {
        let mut table = Listeners::default();
        let first = table.add(listen(Some("blog"), 80)).unwrap();
        assert_eq!(table.add(listen(Some("BLOG"), 80)), Err(ListenError::Taken));
        let other = Listen { owner: Owner::Service(ServiceId([2; 32])), ..listen(Some("blog"), 80) };
        assert!(table.add(other).is_ok() && table.add(listen(Some("blog"), 81)).is_ok());
        table.remove(first);
        assert!(table.add(listen(Some("blog"), 80)).is_ok());
        table.remove_owner(OWNER);
        assert_eq!(table.by_id.len(), 1);
    }

    #[test]
    fn modes_must_agree() {
        let mut table = Listeners::default();
        table.add(listen(None, 80)).unwrap();
        let port = Port::from(80);
        assert_eq!(table.find(OWNER, None, &port, Mode::UnreliableUnordered), Err(Refusal::ModeMismatch));
    }

    #[test]
    fn a_port_of_datagrams_stands_beside_that_of_streams() {
        let mut table = Listeners::default();
        let stream = table.add(listen(Some("ns"), 53)).unwrap();
        let datagrams = Listen { mode: Mode::UnreliableUnordered, ..listen(Some("ns"), 53) };
        let datagram = table.add(datagrams.clone()).unwrap();
        assert_eq!(table.add(datagrams), Err(ListenError::Taken));
        let port = Port::from(53);
        for label in [Some("ns"), None] {
            assert_eq!(table.find(OWNER, label, &port, Mode::ReliableOrdered), Ok(stream));
            assert_eq!(table.find(OWNER, label, &port, Mode::UnreliableUnordered), Ok(datagram));
            assert_eq!(table.find(OWNER, label, &port, Mode::ReliableUnordered), Err(Refusal::ModeMismatch));
        }
        table.remove(stream);
        assert_eq!(table.find(OWNER, None, &port, Mode::ReliableOrdered), Err(Refusal::ModeMismatch));
        table.remove(datagram);
        assert!(table.by_place.is_empty());
    }

    #[test]
    fn lists_admit_proven_callers_only_and_bounds_hold() {
        let mut table = Listeners::default();
        let (friend, stranger) = (ServiceId([5; 32]), ServiceId([6; 32]));
        let listed = table.add(Listen { allow: vec![friend], channels_max: 1, ..listen(None, 80) }).unwrap();
        let open = table.add(listen(None, 81)).unwrap();
        let curious = table.add(Listen { await_caller: true, ..listen(None, 82) }).unwrap();
        let not_allowed = Admission::Refused(Refusal::NotAllowed);
        assert_eq!(table.admit(listed, Caller::Awaited), Admission::AwaitProof);
        assert_eq!(table.admit(listed, Caller::Anonymous), not_allowed);
        assert_eq!(table.admit(listed, Caller::Proven(stranger)), not_allowed);
        assert_eq!(table.admit(listed, Caller::Proven(friend)), Admission::Admitted);
        for caller in [Caller::Awaited, Caller::Anonymous, Caller::Proven(stranger)] {
            assert_eq!(table.admit(open, caller), Admission::Admitted);
        }
        assert_eq!(table.admit(curious, Caller::Awaited), Admission::AwaitProof);
        assert_eq!(table.admit(curious, Caller::Anonymous), Admission::Admitted);
        table.channel_up(listed);
        assert_eq!(table.admit(listed, Caller::Proven(friend)), Admission::Refused(Refusal::TooMany));
        table.channel_down(listed);
        assert_eq!(table.admit(listed, Caller::Proven(friend)), Admission::Admitted);
        table.set_allow(listed, vec![stranger]);
        assert_eq!(table.admit(listed, Caller::Proven(friend)), not_allowed);
    }
}
