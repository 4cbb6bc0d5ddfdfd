use bytes::Bytes;

use super::*;
use crate::crypto::{SigningKey, hash_xof64};
use crate::dht::limits::SIGNERS_PER_KEY;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn store(limits: StoreLimits) -> MemoryStore {
    MemoryStore::new(DhtKey([0; 64]), limits, true)
}

fn small(blocks: usize) -> MemoryStore {
    store(StoreLimits { blocks, ..StoreLimits::default() })
}

fn peer(n: u8) -> Option<PeerId> {
    Some(PeerId([n; 32]))
}

/// A block whose key begins with `near`: the lower, the nearer to us.
fn block(near: u8, signer: u8, sequence: u64, life_s: u64) -> Block {
    let mut key = hash_xof64(&[near]);
    key[0] = near;
    let signer = SigningKey::from_seed(&[signer; 32]);
    let expiry = UnixTime(NOW.0 + life_s);
    Block::create(Kind::Name, DhtKey(key), &signer, sequence, expiry, Bytes::from_static(b"x")).unwrap()
}

fn entry(block: Block, introducer: Option<PeerId>) -> Entry {
    Entry::new(block, UnixTime(0), NOW, introducer)
}

fn put(store: &mut MemoryStore, block: Block, introducer: Option<PeerId>) -> Result<Kept, Refused> {
    store.put(NOW, entry(block, introducer))
}

#[test]
fn the_highest_sequence_of_a_signer_stays() {
    let mut store = small(100);
    assert_eq!(put(&mut store, block(1, 1, 5, 100), peer(1)), Ok(Kept::New));
    assert_eq!(put(&mut store, block(1, 1, 5, 100), peer(1)), Ok(Kept::Same));
    assert_eq!(put(&mut store, block(1, 1, 4, 100), peer(1)), Err(Refused::Older));
    assert_eq!(put(&mut store, block(1, 1, 6, 100), peer(2)), Ok(Kept::Newer));
    let key = block(1, 1, 6, 100).key;
    let held = store.entries(NOW, &key);
    assert_eq!((held.len(), held[0].block.sequence, held[0].introducer), (1, 6, peer(2)));
    assert_eq!(store.usage().blocks, 1);
}

#[test]
fn ended_and_far_ahead_blocks_are_refused_and_stored_ones_expire() {
    let mut store = small(100);
    let late = UnixTime(NOW.0 + 100 + crate::wire::block::CLOCK_TOLERANCE_S);
    assert_eq!(store.put(late, entry(block(1, 1, 1, 100), peer(1))), Err(Refused::Invalid(Invalid::Expired)));
    let far = block(1, 1, 1, LIFE_S_MAX + crate::wire::block::CLOCK_TOLERANCE_S + 1);
    assert_eq!(put(&mut store, far, peer(1)), Err(Refused::Invalid(Invalid::TooFar)));
    (1..=3).for_each(|n| {
        let _ = put(&mut store, block(n, 1, 1, 100 * u64::from(n)), peer(1));
    });
    assert_eq!(store.next_expiry(), Some(late));
    assert_eq!(store.expire(UnixTime(late.0 - 1), 9), 0);
    assert_eq!(store.expire(late, 9), 1);
    assert_eq!(store.expire(UnixTime(late.0 + 1000), 1), 1);
    assert_eq!(store.usage().blocks, 1);
    assert!(store.entries(UnixTime(late.0 + 1000), &block(3, 1, 1, 300).key).is_empty());
}

#[test]
fn a_crowded_key_keeps_the_signers_with_most_work() {
    let mut store = small(1000);
    let key = block(1, 0, 1, 100).key;
    (0..8).for_each(|n| assert_eq!(put(&mut store, block(1, n, 1, 100), peer(n)), Ok(Kept::New)));
    let strongest = store.entries(NOW, &key).iter().map(|entry| entry.block.work_bits()).max().unwrap();
    let signer = SigningKey::from_seed(&[9; 32]);
    let worked = block(1, 9, 1, 100).with_work(&signer, strongest + 1, 0, 1 << 20).unwrap();
    assert_eq!(put(&mut store, worked.clone(), peer(9)), Ok(Kept::New));
    let held = store.entries(NOW, &key);
    assert_eq!(held.len(), SIGNERS_PER_KEY);
    assert!(held.iter().any(|entry| entry.block == worked));
    // Blocks without work cannot push it out again, however many come.
    for n in 10..200u8 {
        let _ = put(&mut store, block(1, n, 1, 100), peer(n));
    }
    assert!(store.entries(NOW, &key).iter().any(|entry| entry.block == worked));
    assert_eq!(store.entries(NOW, &key).len(), SIGNERS_PER_KEY);
}

#[test]
fn the_farthest_goes_first_and_within_a_key_the_soonest_to_end() {
    let mut store = small(16);
    (1..=14).for_each(|n| assert_eq!(put(&mut store, block(n, 1, 1, 100), peer(n)), Ok(Kept::New)));
    assert_eq!(put(&mut store, block(100, 1, 1, 500), peer(15)), Ok(Kept::New));
    assert_eq!(put(&mut store, block(100, 2, 1, 100), peer(16)), Ok(Kept::New));
    assert_eq!(put(&mut store, block(20, 1, 1, 100), peer(17)), Ok(Kept::New));
    let key = block(100, 1, 1, 100).key;
    let held = store.entries(NOW, &key);
    assert_eq!(held.iter().map(|entry| entry.until.0).collect::<Vec<_>>(), [NOW.0 + 500]);
    assert_eq!(put(&mut store, block(21, 1, 1, 100), peer(18)), Ok(Kept::New));
    assert!(store.entries(NOW, &key).is_empty());
    assert_eq!(put(&mut store, block(200, 1, 1, 100), peer(19)), Err(Refused::Full));
    // The oldest is still there: age does not count.
    assert_eq!(store.entries(NOW, &block(1, 1, 1, 100).key).len(), 1);
    assert_eq!((store.usage().blocks, store.evicted), (16, 3));
}

#[test]
fn one_introducer_fills_its_share_and_pushes_out_only_itself() {
    let mut store = small(80);
    (100..150).for_each(|n| {
        let _ = put(&mut store, block(n, 1, 1, 100), peer(n));
    });
    let before: Vec<_> = store.iter().map(|entry| entry.block.key).collect();
    (0..100).for_each(|n| {
        let _ = put(&mut store, block(n, 2, 1, 100), peer(1));
    });
    assert!(before.iter().all(|key| !store.entries(NOW, key).is_empty()));
    let flood: Vec<_> = store.iter().filter(|entry| entry.introducer == peer(1)).map(|e| e.block.key.0[0]).collect();
    assert_eq!(flood, (0..10).collect::<Vec<_>>());
}

#[test]
fn bytes_are_bounded_too() {
    let mut store = store(StoreLimits { bytes: 100_000, ..StoreLimits::default() });
    for n in 0..200u8 {
        let signer = SigningKey::from_seed(&[n; 32]);
        let ciphertext = Bytes::from(vec![0; 4000]);
        let made = Block::create(Kind::Name, DhtKey([n; 64]), &signer, 1, UnixTime(NOW.0 + 9), ciphertext).unwrap();
        let _ = put(&mut store, made, peer(n % 20));
        assert!(store.usage().bytes <= 100_000);
    }
    assert!(store.usage().blocks > 15);
}

#[test]
fn our_own_blocks_are_exempt_until_disowned_and_have_their_own_bound() {
    let mut store = store(StoreLimits { blocks: 16, own: 2, ..StoreLimits::default() });
    let far = block(250, 1, 1, 100);
    assert_eq!(put(&mut store, far.clone(), None), Ok(Kept::New));
    assert_eq!(put(&mut store, block(249, 1, 1, 100), None), Ok(Kept::New));
    (1..100).for_each(|n| {
        let _ = put(&mut store, block(n, 1, 1, 100), peer(n));
    });
    assert_eq!(store.entries(NOW, &far.key).len(), 1);
    assert_eq!(store.usage().blocks, 18);
    assert_eq!(put(&mut store, block(248, 1, 1, 100), None), Err(Refused::Full), "a third is like anybody's");
    store.disown(&far.key, &far.slot());
    assert!(store.entries(NOW, &far.key).is_empty());
    // Another's copy of an own block does not end the exemption.
    assert_eq!(put(&mut store, block(249, 1, 2, 100), peer(9)), Ok(Kept::Newer));
    assert!(store.iter().any(|entry| entry.own && entry.block.sequence == 2));
}

#[test]
fn content_is_kept_by_its_longest_lease_and_its_most_work() {
    let mut store = small(100);
    let (_, content) = crate::dht::seal_content(b"value").unwrap();
    let lease = |s: u64| Entry::new(content.clone(), UnixTime(NOW.0 + s), NOW, peer(1));
    assert_eq!(store.put(NOW, lease(100)), Ok(Kept::New));
    assert_eq!(store.put(NOW, lease(900)), Ok(Kept::Same));
    assert_eq!(store.put(NOW, lease(50)), Ok(Kept::Same));
    assert_eq!(store.entries(NOW, &content.key)[0].until.0, NOW.0 + 900);
    assert_eq!(store.put(NOW, lease(LIFE_S_MAX * 5)), Ok(Kept::Same));
    assert_eq!(store.entries(NOW, &content.key)[0].until.0, NOW.0 + LIFE_S_MAX);
    assert_eq!(store.usage().blocks, 1);
}

#[test]
fn what_was_written_down_fills_a_new_store_alike() {
    let limits = StoreLimits { blocks: 30, ..StoreLimits::default() };
    let mut live = store(limits);
    let mut disk = std::collections::BTreeMap::new();
    let mut follow = |store: &mut MemoryStore| {
        while let Some(op) = store.poll_op() {
            match op {
                StoreOp::Put(entry) => drop(disk.insert((entry.block.key, entry.block.slot()), *entry)),
                StoreOp::Remove { key, slot } => assert!(disk.remove(&(key, slot)).is_some()),
            }
        }
    };
    for n in 0..200u8 {
        let _ = put(&mut live, block(n.wrapping_mul(37), n % 3, u64::from(n), 100 + u64::from(n)), peer(n % 16));
        follow(&mut live);
    }
    put(&mut live, block(255, 9, 1, 100), None).unwrap();
    live.expire(UnixTime(NOW.0 + 150 + crate::wire::block::CLOCK_TOLERANCE_S), 5);
    follow(&mut live);
    let mut again = store(limits);
    again.load(NOW, disk.into_values());
    assert!(live.iter().eq(again.iter()));
    assert_eq!(live.usage(), again.usage());
    assert_eq!(again.poll_op(), None, "loading writes nothing down again");
}

#[test]
fn keys_that_agree_in_their_first_bits_stay_apart() {
    let mut store = small(100);
    let signer = SigningKey::from_seed(&[1; 32]);
    let at = |key: DhtKey, sequence| {
        Block::create(Kind::Name, key, &signer, sequence, UnixTime(NOW.0 + 100), Bytes::from_static(b"x")).unwrap()
    };
    // In an order that is not theirs; the last differ in the first bits, too.
    let mut keys: Vec<DhtKey> =
        [5u8, 1, 4, 2, 3].iter().map(|last| DhtKey([&[7; 63][..], &[*last]].concat().try_into().unwrap())).collect();
    keys.extend([DhtKey([6; 64]), DhtKey([8; 64]), DhtKey([0xff; 64])]);
    keys.iter().for_each(|key| assert_eq!(put(&mut store, at(*key, 1), peer(1)), Ok(Kept::New)));
    let listed: Vec<_> = store.iter().map(|entry| entry.block.key).collect();
    keys.sort_unstable();
    assert_eq!(listed, keys);
    for key in &keys {
        assert_eq!(put(&mut store, at(*key, 2), peer(2)), Ok(Kept::Newer));
        let held = store.entries(NOW, key);
        assert_eq!(held.iter().map(|entry| (entry.block.key, entry.block.sequence)).collect::<Vec<_>>(), [(*key, 2)]);
    }
    assert_eq!((store.usage().blocks, store.next_key(keys.last())), (8, None));
}

#[test]
fn an_introducer_whose_blocks_are_gone_leaves_its_number_and_its_share() {
    let mut store = small(80);
    for round in 1..=20u8 {
        (0..12).for_each(|n| {
            let _ = put(&mut store, block(n, round, 1, u64::from(round)), peer(round));
        });
        let held = store.iter().filter(|entry| entry.introducer == peer(round)).count();
        assert_eq!((held, store.usage().blocks), (10, 10), "an eighth of 80");
        store.expire(UnixTime(NOW.0 + u64::from(round) + crate::wire::block::CLOCK_TOLERANCE_S), 80);
        assert_eq!(store.usage(), Usage::default());
    }
}
