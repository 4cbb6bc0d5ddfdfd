//! What is advertised while nothing should change: an item that repeats the distance told before, under a newer
//! sequence, is a refresh; all else is counted.

use std::collections::HashMap;

use bytes::Bytes;
use tarnet_core::wire::kind;
use tarnet_core::wire::link::next_message;
use tarnet_core::wire::routing::{Advert, Short, Subject, short};

use super::Network;

/// What was counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    /// Items that repeated a distance.
    pub refreshes: u64,
    /// Items that told another distance, or of a destination that was not told of.
    pub changes: u64,
    /// Retractions, and requests for sequences and tables: messages.
    pub others: u64,
}

/// A look at everything that honest machines advertise.
pub(super) struct Watch {
    told: HashMap<(usize, Short), u16>,
    noise: Noise,
    /// The first changes: who told, of whom, what.
    changes: Vec<Change>,
}

/// Changes that are kept to be told of.
const CHANGES_MAX: usize = 64;

/// An item that told another distance than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Who told it.
    pub host: usize,
    /// Of whom.
    pub dest: Short,
    /// The distance before, if any was told.
    pub before: Option<u16>,
    /// The distance now.
    pub now: u16,
    /// The number of its sequence.
    pub seq: u8,
}

impl Watch {
    /// A batch of a machine. Its first byte is its flags.
    pub(super) fn see(&mut self, host: usize, batch: &[u8]) {
        let mut rest = Bytes::copy_from_slice(batch.get(1..).unwrap_or_default());
        while let Ok(Some((kind, body))) = next_message(&mut rest) {
            match kind {
                kind::ADVERT => self.advert(host, &body),
                kind::WITHDRAW | kind::UNREACH | kind::SEQREQ | kind::REFILL => self.noise.others += 1,
                _ => {}
            }
        }
    }

    /// A batch of routes. It goes to every neighbour: the second copy repeats the first.
    fn advert(&mut self, host: usize, body: &[u8]) {
        let Ok((advert, _)) = Advert::decode(body) else { return };
        for item in advert.items {
            let at = match item.subject {
                Subject::Proven(proof) => short(&proof.peer_id()),
                Subject::Known { short, .. } => short,
            };
            // Nobody else is at distance zero.
            let before = if item.metric == 0 { Some(0) } else { self.told.insert((host, at), item.metric) };
            let same = before == Some(item.metric);
            if !same && self.changes.len() < CHANGES_MAX {
                self.changes.push(Change { host, dest: at, before, now: item.metric, seq: item.seq });
            }
            *(if same { &mut self.noise.refreshes } else { &mut self.noise.changes }) += 1;
        }
    }
}

impl Network {
    /// Counts what is advertised from now on, by machines that do not lie.
    pub fn watch(&mut self) {
        let mut told = HashMap::new();
        for host in (0..self.hosts.len()).filter(|host| self.forwards(*host)) {
            let node = self.node(host).into_iter();
            told.extend(node.flat_map(|node| node.told()).map(|(peer, metric)| ((host, short(&peer)), metric)));
        }
        self.watch = Some(Watch { told, noise: Noise::default(), changes: Vec::new() });
    }

    /// What was counted, and the first changes; ends it.
    pub fn unwatch(&mut self) -> (Noise, Vec<Change>) {
        self.watch.take().map(|watch| (watch.noise, watch.changes)).unwrap_or_default()
    }
}
