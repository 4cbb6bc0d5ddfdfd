//! What we keep per neighbour: its link's cost, how far its word was heard, what it still
//! has to be told, and what it may ask.

use std::collections::BTreeSet;

use super::bucket::Bucket;
use super::limits::{PLACE_RATE, PROBE_RATE, REFILL_RATE, SEQ_REQUEST_RATE, VERIFY_RATE, WANTED_RATE};
use crate::crypto::{PeerId, PublicKey, hash};
use crate::time::Instant;
use crate::wire::routing::{Digest, Short};

/// A retelling of our table on its way to a neighbour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retelling {
    /// The last destination told; none before the first batch.
    pub(super) after: Option<PeerId>,
}

/// One neighbour.
pub(super) struct Neighbour {
    /// Cost of the link, 1 to 16.
    pub(super) cost: u16,
    /// Its key, once it told its proof.
    pub(super) key: Option<PublicKey>,
    /// The highest number of its batches, of retractions too.
    pub(super) heard: Option<u64>,
    /// Its current retelling.
    pub(super) telling: u32,
    /// What it told us since its last retelling began.
    pub(super) received: Digest,
    /// What we told it since ours began.
    pub(super) sent: Digest,
    /// Times that we asked for its table since it last told all of it.
    pub(super) asked: Option<u32>,
    /// Some of what it told did not fit its verification budget.
    pub(super) curtailed: bool,
    /// Our table on its way to it.
    pub(super) retelling: Option<Retelling>,
    /// Destinations that it asked for.
    pub(super) answers: BTreeSet<PeerId>,
    /// Destinations that we want to ask for, at most 64.
    pub(super) wanted: BTreeSet<Short>,
    /// Its requests for newer sequences.
    pub(super) seq_requests: Bucket,
    /// Its requests for our table.
    pub(super) refills: Bucket,
    /// Its requests for named routes.
    pub(super) wants: Bucket,
    /// Its probes.
    pub(super) probes: Bucket,
    /// Verifications on its behalf.
    pub(super) verifications: Bucket,
    /// Requests to our directory that it brings.
    pub(super) places: Bucket,
}

impl Neighbour {
    /// A neighbour that has just come.
    pub(super) fn new(now: Instant, cost: u16) -> Self {
        Self {
            cost,
            key: None,
            heard: None,
            telling: 0,
            received: Digest::default(),
            sent: Digest::default(),
            asked: None,
            curtailed: false,
            retelling: None,
            answers: BTreeSet::new(),
            wanted: BTreeSet::new(),
            seq_requests: Bucket::new(SEQ_REQUEST_RATE, now),
            refills: Bucket::new(REFILL_RATE, now),
            wants: Bucket::new(WANTED_RATE, now),
            probes: Bucket::new(PROBE_RATE, now),
            verifications: Bucket::new(VERIFY_RATE, now),
            places: Bucket::new(PLACE_RATE, now),
        }
    }
}

/// Adds a message to a digest. A sum, so that the order does not matter.
pub(super) fn absorb(digest: &mut Digest, kind: u8, body: &[u8]) {
    let hash = hash(body);
    let first = hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    digest.sum = digest.sum.wrapping_add(first ^ u64::from(kind));
    digest.count = digest.count.wrapping_add(1);
}
