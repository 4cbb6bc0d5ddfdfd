//! The address map under hand-made and random histories.

use super::*;

const HOUR: u64 = 3_600;

fn map(addresses: u32) -> AddressMap {
    AddressMap::new([7; 32], addresses, [])
}

#[test]
fn a_name_keeps_its_slot_over_restarts_and_after_the_loss_of_the_journal() {
    let mut first = map(131_072);
    let slot = first.assign(10, "blog.alice").unwrap().slot;
    assert_eq!(first.assign(99_999, "blog.alice").unwrap().slot, slot);
    let mut again = AddressMap::new([7; 32], 131_072, first.entries());
    assert_eq!(again.assign(10, "blog.alice").unwrap().slot, slot);
    assert_eq!(map(131_072).assign(10, "blog.alice").unwrap().slot, slot);
    assert_ne!(AddressMap::new([8; 32], 131_072, []).assign(10, "blog.alice").unwrap().slot, slot);
}

#[test]
fn answers_wait_for_the_disk_until_it_has_the_name() {
    let mut map = map(64);
    let first = map.assign(10, "a").unwrap();
    assert!(first.wait && first.write.is_some());
    let second = map.assign(10, "a").unwrap();
    assert!(second.wait && second.write.is_none());
    map.handle_written(first.slot);
    assert!(!map.assign(10, "a").unwrap().wait);
    assert!(map.assign(10 + TOUCH_INTERVAL_S, "a").unwrap().write.is_some());
}

#[test]
fn a_name_that_could_not_be_written_loses_its_slot() {
    let mut map = map(64);
    let slot = map.assign(10, "a").unwrap().slot;
    map.handle_write_failed(slot);
    assert_eq!((map.name(slot), map.len()), (None, 0));
    assert!(map.zones.is_empty());
}

#[test]
fn a_full_pool_refuses_new_names_and_frees_only_what_rested_long_enough() {
    let mut map = map(8);
    for name in ["a", "b", "c", "d"] {
        map.assign(0, name).unwrap();
    }
    let a = map.assign(0, "a").unwrap().slot;
    map.open_flow(0, a).unwrap();
    assert_eq!(map.assign(0, "e"), Err(AddressError::Full));
    assert_eq!(map.assign(24 * HOUR, "e"), Err(AddressError::Full));
    let late = 26 * HOUR;
    let taken: Vec<Slot> = ["e", "f", "g"].map(|name| map.assign(late, name).unwrap().slot).into();
    assert!(!taken.contains(&a), "a flow uses it");
    assert_eq!(map.assign(late, "h"), Err(AddressError::Full));
    map.close_flow(late, a);
    assert_eq!(map.assign(late + HOUR, "h"), Err(AddressError::Full), "the flow ended an hour ago");
    assert!(map.assign(late + 26 * HOUR, "h").is_ok());
}

#[test]
fn a_flow_that_was_there_at_a_crash_counts_as_recent_after_it() {
    let mut first = map(8);
    for name in ["a", "b", "c", "d"] {
        let slot = first.assign(0, name).unwrap().slot;
        first.handle_written(slot);
    }
    let a = first.assign(0, "a").unwrap().slot;
    first.open_flow(0, a).unwrap();
    // Three days later the flow is still there, and the machine dies.
    let mut journal = first.entries();
    let (mut now_s, end_s) = (0, 72 * HOUR);
    while now_s < end_s {
        now_s += REFRESH_INTERVAL_S;
        journal.extend(first.handle_timeout(now_s));
    }
    assert!(journal.iter().filter(|entry| entry.slot != a).count() == 3, "only what is used is written down again");
    let mut again = AddressMap::new([7; 32], 8, journal);
    let taken: Vec<Slot> = ["e", "f", "g"].map(|name| again.assign(end_s + HOUR, name).unwrap().slot).into();
    assert!(!taken.contains(&a));
    assert_eq!(again.name(a).as_deref(), Some("a"));
    assert_eq!(again.assign(end_s + HOUR, "h"), Err(AddressError::Full));
}

#[test]
fn one_zone_cannot_take_the_whole_pool() {
    let mut map = map(131_072);
    for name in 0..NAMES_PER_ZONE_MAX {
        map.assign(0, &format!("n{name}.greedy")).unwrap();
    }
    assert_eq!(map.assign(0, "more.greedy"), Err(AddressError::ZoneFull));
    assert!(map.assign(0, "blog.alice").is_ok());
    assert_eq!(map.assign(0, ""), Err(AddressError::BadName));
    assert_eq!(map.assign(0, &"x".repeat(256)), Err(AddressError::BadName));
}

mod histories;
