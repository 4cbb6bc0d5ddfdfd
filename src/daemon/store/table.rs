//! The tables of the database, all from bytes to bytes: what they mean is [`super::records`]'s.

use redb::TableDefinition;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// DHT blocks: key and signer to the stored entry.
    Blocks,
    /// Zones: identity and label to records.
    Zones,
    /// Properties of identities: name to settings.
    Identities,
    /// Peers: PeerId to what we remember of it.
    Peers,
    /// Bootstrap URIs without a pin: URI to the PeerId that answered first.
    Places,
    /// Session keys and replay caches: identity to blob.
    SessionKeys,
    /// Synthetic addresses: slot to name.
    Addresses,
    /// Single values: routing epoch, chosen prefixes, version.
    Meta,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 8] = [
        Self::Blocks,
        Self::Zones,
        Self::Identities,
        Self::Peers,
        Self::Places,
        Self::SessionKeys,
        Self::Addresses,
        Self::Meta,
    ];

    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Zones => "zones",
            Self::Identities => "identities",
            Self::Peers => "peers",
            Self::Places => "places",
            Self::SessionKeys => "session-keys",
            Self::Addresses => "addresses",
            Self::Meta => "meta",
        }
    }

    /// Its definition for the database.
    pub(super) const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a value.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a value, if it is there.
    Remove(Table, Vec<u8>),
    /// Removes every value whose key begins so.
    RemovePrefix(Table, Vec<u8>),
}

impl Op {
    /// Bytes that it holds in the queue.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Put(_, key, value) => key.len() + value.len(),
            Self::Remove(_, key) | Self::RemovePrefix(_, key) => key.len(),
        }
    }
}
