//! Attacks on names: forged, rolled back, squatted before their owner, listed and linked by those who store them.

use super::*;
use crate::crypto::{Context, Purpose, derive_into};
use crate::defence::{Defence, stops};
use crate::wire::names::Record;

/// A block for `name` of zone `n`, by somebody who knows both, and the zone's public key, and nothing secret.
fn forged(n: u8, name: &str, sequence: u64, service: u8) -> Block {
    let forger = SigningKey::claiming(&[77; 32], key(n).public());
    let records = lasting(60, &[Record::Identity(id(service))]);
    let said = LabelBlock { records, sequence, expiry: UnixTime(START.unix.0 + 86_400) };
    create_block(&forger, &label(name), &said).unwrap()
}

/// A world in which `alice` is zone 2.
fn world() -> World {
    let mut world = World::new();
    world.own("alice", Record::Zone(id(2)));
    world
}

/// Where `blog.alice` leads now, past all caches, waiting as long as people do.
fn leads_now(world: &mut World) -> Option<ServiceId> {
    world.start("blog.alice", ResolveOptions { fresh: true });
    world.pass(Duration::from_secs(4));
    world.result().and_then(Result::ok).and_then(|answer| answer.service)
}

#[test]
fn a_forged_name_leads_nowhere() {
    stops(Defence::Signature(Purpose::NameRecords), || {
        let mut world = world();
        world.says(2, "blog", Record::Identity(id(3)));
        world.publish(forged(2, "blog", 99, 66));
        leads_now(&mut world) == Some(id(66))
    });
}

#[test]
fn a_name_block_of_one_label_is_worth_nothing_under_another() {
    let mut world = world();
    let real = block(2, "blog", 1, &[Record::Identity(id(3))]);
    world.stored.insert(block_key(&id(2), &label("shop")), vec![real.clone()]);
    let moved = Block { key: block_key(&id(2), &label("shop")), ..real };
    world.publish(moved);
    world.start("shop.alice", ResolveOptions::default());
    world.pass(Duration::from_secs(4));
    assert_eq!(world.result(), Some(Err(ResolveError::TimedOut)));
}

#[test]
fn a_name_is_not_rolled_back_to_an_earlier_state() {
    stops(Defence::RememberedSequence, || {
        let mut world = world();
        let old = block(2, "blog", 1, &[Record::Identity(id(66))]);
        world.stored.insert(old.key, vec![block(2, "blog", 2, &[Record::Identity(id(3))])]);
        assert_eq!(leads_now(&mut world), Some(id(3)));
        world.stored.insert(old.key, vec![old]);
        leads_now(&mut world) == Some(id(66))
    });
}

#[test]
fn a_label_that_was_squatted_before_its_owner_published_is_its_owners() {
    stops(Defence::Signature(Purpose::NameRecords), || {
        let mut world = world();
        for _ in 0..8 {
            world.publish(forged(2, "blog", u64::MAX, 66));
        }
        let before = leads_now(&mut world);
        world.says(2, "blog", Record::Identity(id(3)));
        let after = leads_now(&mut world);
        assert!(before.is_some() || after == Some(id(3)), "nobody but the squatter or the owner");
        before == Some(id(66)) && after == Some(id(66))
    });
}

/// What storers see: two labels of zone 2, one of zone 3.
fn stored() -> [Block; 3] {
    [block(2, "blog", 1, &[]), block(2, "shop", 1, &[]), block(3, "blog", 1, &[])]
}

#[test]
fn storage_nodes_cannot_list_labels_they_guess() {
    stops(Defence::KeyedLocations, || {
        // A dictionary of labels is all that a storer has; it knows no zone.
        let dictionary = ["shop", "mail", "blog"];
        let guess = |label: &str| {
            let mut place = DhtKey([0; 64]);
            derive_into(Context::NameKey, &[&[], label.as_bytes()], &mut place.0);
            place
        };
        stored().iter().any(|block| dictionary.iter().any(|label| guess(label) == block.key))
    });
}

#[test]
fn storage_nodes_cannot_link_the_labels_of_a_zone() {
    stops(Defence::Pseudonyms, || {
        let [blog, shop, other] = stored();
        assert_ne!(blog.signer.to_bytes(), other.signer.to_bytes());
        blog.signer.to_bytes() == shop.signer.to_bytes()
    });
}

#[test]
fn storage_nodes_cannot_learn_whose_a_block_is() {
    let owner = key(2);
    for block in stored() {
        assert_ne!(block.signer.service_id(), owner.public().service_id());
        let bytes = block.encode();
        for secret in [owner.public().to_bytes(), id(2).0.to_vec(), b"blog".to_vec(), b"shop".to_vec()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "nothing of it is in the block");
        }
    }
}
