//! The session keys of one owner that this node takes sessions for: the current pair, and
//! earlier ones whose descriptors are still in caches. Rotated daily (jitter per owner),
//! deleted 48 h after they were made: a recorded first message is safe from then on.
//!
//! Kept over restarts, so that whoever holds a cached descriptor can connect at once. What
//! a key's replay cache had seen is not kept: a key that comes back from disk takes no
//! early data any more, therefore a restart also rotates while there is room.
//!
//! Bounds: [`KEYS_MAX`] keys per owner (the oldest goes), [`REPLAYS_MAX`] first messages
//! remembered per key (beyond it early data is refused until the next rotation).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BufMut;
use zeroize::Zeroizing;

use super::descriptor::{CLOCK_TOLERANCE, Keys, LIFETIME};
use super::handshake::{DescriptorName, short};
use crate::crypto::{AgreementSecret, Group, SigningKey};
use crate::defence::{self, Defence};
use crate::rng::Rng;
use crate::time::{Instant, Now, UnixTime, earliest};
use crate::wire::session_handshake::{Descriptor, Owner};
use crate::wire::{Error, Reader, put_vec16};

/// Keys of one owner at once: the current one, and what a day's rotation and a restart or two leave.
pub(super) const KEYS_MAX: usize = 3;
/// First messages remembered per key, 16 bytes each.
pub(super) const REPLAYS_MAX: usize = 16_384;
/// Age at which the next key takes over.
const ROTATE_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// How far rotation times are spread, percent.
const ROTATE_JITTER: u32 = 10;
/// Version of the saved form.
const SAVED_VERSION: u8 = 1;

/// The first messages that a key has seen.
struct ReplayCache {
    seen: BTreeSet<[u8; 16]>,
    complete: bool,
}

/// One key pair and its descriptor.
pub(super) struct ResponderKey {
    /// X25519 key of the trial.
    pub trial: AgreementSecret,
    /// Hybrid key.
    pub hybrid: AgreementSecret,
    /// What was published.
    pub descriptor: Descriptor,
    /// The descriptor's owner and digest.
    pub name: DescriptorName,
    made: UnixTime,
    delete_at: Instant,
    replays: ReplayCache,
}

impl ResponderKey {
    /// Draws a fresh pair.
    fn generate(now: Now, owner: Owner, node_key: &SigningKey, rng: &mut Rng) -> Self {
        let trial = AgreementSecret::generate(Group::X25519, rng);
        let hybrid = AgreementSecret::generate(Group::X25519MlKem768, rng);
        let public = trial.public_share().try_into().expect("an X25519 share is 32 bytes");
        let expiry = UnixTime(now.unix.0.saturating_add(LIFETIME.as_secs()));
        let descriptor =
            Descriptor::sign(owner, node_key, expiry, Keys { trial: public, share: hybrid.public_share() });
        let replays = ReplayCache { seen: BTreeSet::new(), complete: true };
        Self::new(now, now.unix, descriptor, [trial, hybrid], replays)
    }

    /// Puts the parts together.
    fn new(
        now: Now,
        made: UnixTime,
        descriptor: Descriptor,
        secrets: [AgreementSecret; 2],
        replays: ReplayCache,
    ) -> Self {
        let [trial, hybrid] = secrets;
        let name = DescriptorName { owner: descriptor.owner, digest: descriptor.digest() };
        let delete_at = now.instant + (LIFETIME + CLOCK_TOLERANCE).saturating_sub(age(now, made));
        Self { trial, hybrid, descriptor, name, made, delete_at, replays }
    }

    /// Remembers a first message. `None`: it was seen before. Else whether its early data may be used,
    /// which needs that every message ever sealed to this key is remembered.
    pub fn first_seen(&mut self, hash: [u8; 32]) -> Option<bool> {
        let hash = short(hash);
        if self.replays.seen.contains(&hash) && defence::on(Defence::FirstMessageOnce) {
            return None;
        }
        if self.replays.seen.len() >= REPLAYS_MAX {
            self.replays.complete = false;
        } else {
            self.replays.seen.insert(hash);
        }
        Some(self.replays.complete)
    }
}

/// How old a key is; zero when the clock says that it comes from the future.
fn age(now: Now, made: UnixTime) -> Duration {
    Duration::from_secs(now.unix.0.saturating_sub(made.0))
}

/// All keys of one owner.
pub(super) struct OwnerKeys {
    owner: Owner,
    /// Newest first, never empty.
    keys: VecDeque<ResponderKey>,
    rotate_at: Instant,
}

impl OwnerKeys {
    /// Keys for `owner`: those of [`Self::export`] as far as they are whole and young enough, and a fresh one.
    pub fn new(now: Now, owner: Owner, node_key: &SigningKey, saved: Option<&[u8]>, rng: &mut Rng) -> Self {
        let mut keys = saved.and_then(|saved| import(now, owner, node_key, saved).ok()).unwrap_or_default();
        keys.retain(|key| key.delete_at > now.instant);
        keys.truncate(KEYS_MAX);
        let mut owner_keys = Self { owner, keys, rotate_at: now.instant };
        if owner_keys.keys.len() < KEYS_MAX {
            owner_keys.rotate(now, node_key, rng);
        } else {
            let rest = ROTATE_AFTER.saturating_sub(age(now, owner_keys.current().made));
            owner_keys.rotate_at = now.instant + rest;
        }
        owner_keys
    }

    /// Makes a fresh key the current one.
    fn rotate(&mut self, now: Now, node_key: &SigningKey, rng: &mut Rng) {
        self.keys.push_front(ResponderKey::generate(now, self.owner, node_key, rng));
        self.keys.truncate(KEYS_MAX);
        self.rotate_at = now.instant + rng.jitter(ROTATE_AFTER, ROTATE_JITTER);
    }

    /// Rotates and deletes what is due; whether anything changed.
    pub fn handle_timeout(&mut self, now: Now, node_key: &SigningKey, rng: &mut Rng) -> bool {
        let before = self.keys.len();
        let rotates = now.instant >= self.rotate_at;
        if rotates {
            self.rotate(now, node_key, rng);
        }
        self.keys.retain(|key| key.delete_at > now.instant);
        rotates || self.keys.len() != before
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest(Some(self.rotate_at), self.keys.iter().map(|key| key.delete_at).min())
    }

    /// The key to publish.
    pub fn current(&self) -> &ResponderKey {
        self.keys.front().expect("an owner has a key: rotation comes a day before deletion")
    }

    /// Every key that messages may be sealed to, the likeliest first.
    pub fn iter(&self) -> impl Iterator<Item = &ResponderKey> {
        self.keys.iter()
    }

    /// The `at`th key of [`Self::iter`].
    pub fn key_mut(&mut self, at: usize) -> Option<&mut ResponderKey> {
        self.keys.get_mut(at)
    }

    /// Everything to keep over a restart. Secret.
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(2_048 * self.keys.len()));
        out.put_u8(SAVED_VERSION);
        for key in &self.keys {
            out.put_u64_le(key.made.0);
            put_vec16(&mut *out, &key.trial.to_secret_bytes());
            put_vec16(&mut *out, &key.hybrid.to_secret_bytes());
            put_vec16(&mut *out, &key.descriptor.encode());
        }
        out
    }
}

/// Reads what [`OwnerKeys::export`] wrote; keys of another node or owner are left out.
fn import(now: Now, owner: Owner, node_key: &SigningKey, saved: &[u8]) -> Result<VecDeque<ResponderKey>, Error> {
    let mut reader = Reader::new(saved);
    if reader.u8()? != SAVED_VERSION {
        return Err(Error::Invalid("version of saved session keys"));
    }
    let mut keys = VecDeque::new();
    while reader.remaining() > 0 && keys.len() < KEYS_MAX {
        let made = UnixTime(reader.u64()?);
        let secret =
            |bytes: &[u8]| AgreementSecret::from_secret_bytes(bytes).ok_or(Error::Invalid("saved session key"));
        let (trial, hybrid) = (secret(reader.vec16()?)?, secret(reader.vec16()?)?);
        let descriptor = Descriptor::decode(reader.vec16()?)?;
        let fits = descriptor.owner == owner
            && descriptor.node == node_key.public().peer_id()
            && trial.public_share() == descriptor.trial
            && hybrid.public_share() == descriptor.share;
        if fits {
            let replays = ReplayCache { seen: BTreeSet::new(), complete: false };
            keys.push_back(ResponderKey::new(now, made, descriptor, [trial, hybrid], replays));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Scheme, ServiceId};

    const OWNER: Owner = Owner::Service(ServiceId([3; 32]));
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn fresh(now: Now) -> (OwnerKeys, SigningKey, Rng) {
        let mut rng = Rng::from_seed([4; 32]);
        let node_key = SigningKey::generate(Scheme::Ed25519, &mut rng);
        let keys = OwnerKeys::new(now, OWNER, &node_key, None, &mut rng);
        (keys, node_key, rng)
    }

    /// Some day in 2026, so that ages can be subtracted.
    fn start() -> Now {
        Now { instant: Instant::ZERO, unix: UnixTime(1_790_000_000) }
    }

    #[test]
    fn keys_rotate_daily_and_go_after_two_days() {
        let (mut keys, node_key, mut rng) = fresh(start());
        let first = keys.current().name;
        assert!(!keys.handle_timeout(start().after(DAY * 4 / 5), &node_key, &mut rng));
        assert!(keys.handle_timeout(start().after(DAY * 6 / 5), &node_key, &mut rng));
        assert!(keys.current().name != first && keys.iter().any(|key| key.name == first));
        keys.handle_timeout(start().after(DAY * 2), &node_key, &mut rng);
        assert!(keys.iter().all(|key| key.name != first));
        assert!(keys.iter().all(|key| key.descriptor.verify(start().after(DAY * 2).unix).is_ok()));
    }

    #[test]
    fn saved_keys_come_back_without_early_data_and_make_room_for_a_fresh_one() {
        let (keys, node_key, mut rng) = fresh(start());
        let later = start().after(DAY / 2);
        let mut again = OwnerKeys::new(later, OWNER, &node_key, Some(&keys.export()), &mut rng);
        assert_ne!(again.current().name, keys.current().name);
        let old = again.key_mut(1).unwrap();
        assert_eq!(old.name, keys.current().name);
        assert_eq!(old.first_seen([1; 32]), Some(false));
        assert_eq!(again.key_mut(0).unwrap().first_seen([1; 32]), Some(true));
        let full = OwnerKeys::new(later, OWNER, &node_key, Some(&again.export()), &mut rng);
        let full = OwnerKeys::new(later, OWNER, &node_key, Some(&full.export()), &mut rng);
        assert_eq!(full.iter().count(), KEYS_MAX);
        assert!(full.iter().any(|key| key.name == keys.current().name));
    }

    #[test]
    fn saved_keys_that_are_old_foreign_or_broken_are_left_out() {
        let (keys, node_key, mut rng) = fresh(start());
        let saved = keys.export();
        let count = |now, owner, node_key: &SigningKey, saved: &[u8], rng: &mut Rng| {
            OwnerKeys::new(now, owner, node_key, Some(saved), rng).iter().count()
        };
        assert_eq!(count(start().after(DAY * 2), OWNER, &node_key, &saved, &mut rng), 1);
        assert_eq!(count(start(), Owner::Service(ServiceId([4; 32])), &node_key, &saved, &mut rng), 1);
        let other = SigningKey::generate(Scheme::Ed25519, &mut rng);
        assert_eq!(count(start(), OWNER, &other, &saved, &mut rng), 1);
        for len in 0..saved.len() {
            assert_eq!(count(start(), OWNER, &node_key, &saved[..len], &mut rng), 1);
        }
        assert_eq!(count(start(), OWNER, &node_key, &saved, &mut rng), 2);
    }

    #[test]
    fn a_full_replay_cache_ends_early_data_but_keeps_what_it_knows() {
        let (mut keys, ..) = fresh(start());
        let key = keys.key_mut(0).unwrap();
        let hash = |n: u64| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            hash
        };
        for n in 0..u64::try_from(REPLAYS_MAX).unwrap() {
            assert_eq!(key.first_seen(hash(n)), Some(true));
        }
        assert_eq!(key.first_seen(hash(u64::MAX)), Some(false));
        assert_eq!(key.first_seen(hash(0)), None);
    }
}
