//! How large the network is, as log2 in quarters ("L"). From the occupancy of the
//! buckets nearest to us, up to the first that is full: `n` places from the i-th on mean `n * 2^i` peers, give or
//! take two standard deviations. What others estimate moves ours within that interval and no further, so liars
//! cannot make queries long or short.

use std::collections::BTreeMap;

use super::contacts::Contacts;
use super::limits::{BUCKET_LEN, REPORTS_LEN, REPORTS_MIN};
use crate::crypto::PeerId;

/// Largest estimate: 2^40 peers.
const QUARTERS_MAX: u8 = 160;

/// An estimate and its bounds, quarters of log2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    low: u8,
    mid: u8,
    high: u8,
}

/// What others estimate; one place per reporter, the lowest ids kept when there are too many.
#[derive(Default)]
pub(super) struct Reports {
    by_peer: BTreeMap<PeerId, u8>,
}

impl Reports {
    /// Takes another's estimate.
    pub fn insert(&mut self, peer: PeerId, quarters: u8) {
        self.by_peer.insert(peer, quarters.min(QUARTERS_MAX));
        if self.by_peer.len() > REPORTS_LEN {
            self.by_peer.pop_last();
        }
    }

    /// Forgets a reporter.
    pub fn remove(&mut self, peer: &PeerId) {
        self.by_peer.remove(peer);
    }

    /// The middle one, when there are enough.
    fn median(&self) -> Option<u8> {
        if self.by_peer.len() < REPORTS_MIN {
            return None;
        }
        let mut all: Vec<u8> = self.by_peer.values().copied().collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

/// Our estimate from our own buckets alone.
pub(super) fn own_interval(contacts: &Contacts) -> Interval {
    if contacts.complete() {
        let exact = log2_quarters(contacts.len() as u64 + 1);
        return Interval { low: exact, mid: exact, high: exact };
    }
    let (mut from, mut count) = (0, 0u64);
    for (at, known) in contacts.occupancy().rev() {
        (from, count) = (at, count + known as u64);
        if known >= BUCKET_LEN {
            break;
        }
    }
    let spread = 2 * count.isqrt();
    let scaled = |n: u64| log2_quarters(n.max(1).saturating_mul(1u64.checked_shl(from).unwrap_or(u64::MAX)));
    Interval { low: scaled(count.saturating_sub(spread)), mid: scaled(count), high: scaled(count + spread) }
}

/// Our estimate, with what others say.
pub(super) fn quarters(contacts: &Contacts, reports: &Reports) -> u8 {
    let own = own_interval(contacts);
    reports.median().map_or(own.mid, |median| median.clamp(own.low, own.high))
}

/// log2 in quarters, rounded down.
fn log2_quarters(n: u64) -> u8 {
    let whole = n.max(1).ilog2();
    // 2^(1/4), 2^(2/4), 2^(3/4), in thousandths.
    let thousandths = (u128::from(n.max(1)) * 1000) >> whole;
    let parts = [1190, 1415, 1682].iter().filter(|bound| thousandths >= **bound).count();
    u8::try_from(whole as usize * 4 + parts).unwrap_or(QUARTERS_MAX).min(QUARTERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::contacts::dht_id;
    use super::*;

    fn contacts(count: u32) -> Contacts {
        let peer = |n: u32| PeerId(crate::crypto::hash(&n.to_le_bytes()));
        let mut contacts = Contacts::new(dht_id(&peer(0)));
        (1..count).for_each(|n| {
            contacts.insert(peer(n));
        });
        contacts
    }

    #[test]
    fn logarithms_come_in_quarters() {
        assert_eq!([1, 2, 3, 4, 1000, 1024].map(log2_quarters), [0, 4, 6, 8, 39, 40]);
        assert_eq!(log2_quarters(u64::MAX), QUARTERS_MAX);
    }

    #[test]
    fn small_networks_are_counted_and_large_ones_estimated() {
        assert_eq!(own_interval(&contacts(8)).mid, 12);
        for count in [200, 1000, 4000] {
            let (got, want) = (own_interval(&contacts(count)), log2_quarters(u64::from(count)));
            assert!(got.low <= want && want <= got.high, "{count}: {got:?} and {want}");
        }
    }

    #[test]
    fn others_move_the_estimate_within_the_interval_only() {
        let contacts = contacts(1000);
        let own = own_interval(&contacts);
        let mut reports = Reports::default();
        reports.insert(PeerId([1; 32]), 255);
        assert_eq!(quarters(&contacts, &reports), own.mid);
        (2..100).for_each(|n| reports.insert(PeerId([n; 32]), 255));
        assert_eq!(quarters(&contacts, &reports), own.high);
        assert!(reports.by_peer.len() <= REPORTS_LEN);
        (0..100).for_each(|n| reports.insert(PeerId([n; 32]), 0));
        assert_eq!(quarters(&contacts, &reports), own.low);
    }
}
