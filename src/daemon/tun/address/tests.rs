//! The address map under hand-made and random histories.

use proptest::prelude::*;

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
    map.open_flow(a).unwrap();
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

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Ask(u8),
    Open(u8),
    Close(u8),
    Wait(u32),
    /// Restart from the journal, of which the last lines were lost.
    Restart(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..24).prop_map(Step::Ask),
        2 => (0_u8..24).prop_map(Step::Open),
        2 => (0_u8..24).prop_map(Step::Close),
        1 => (1_u32..200_000).prop_map(Step::Wait),
        1 => any::<u8>().prop_map(Step::Restart),
    ]
}

proptest! {
    /// Whatever happens: a slot goes to another name only without flows, a day after its last
    /// answer, and what was acknowledged survives a journal that is torn behind it.
    #[test]
    fn a_slot_never_changes_hands_too_early(steps in prop::collection::vec(step(), 1..200)) {
        const ADDRESSES: u32 = 16;
        let (mut map, mut now_s) = (map(ADDRESSES), 1_000_000_u64);
        let mut journal: Vec<Entry> = Vec::new();
        let mut model: BTreeMap<u32, (String, u64)> = BTreeMap::new();
        let mut flows: BTreeMap<u8, Slot> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Ask(name) => {
                    let name = format!("n{name}.z");
                    if let Ok(assigned) = map.assign(now_s, &name) {
                        journal.extend(assigned.write);
                        map.handle_written(assigned.slot);
                        if let Some((holder, last_s)) = model.get(&assigned.slot.0) && *holder != name {
                            prop_assert!(now_s > last_s + ADDRESS_HOLD_S, "{holder} lost its slot early");
                            prop_assert!(!flows.values().any(|slot| *slot == assigned.slot));
                        }
                        prop_assert!((SLOT_FIRST..ADDRESSES - 1).contains(&assigned.slot.0));
                        model.insert(assigned.slot.0, (name, now_s));
                    }
                }
                Step::Open(flow) => {
                    let slot = model.keys().nth(usize::from(flow) % model.len().max(1)).copied().map(Slot);
                    if let Some(slot) = slot.filter(|_| !flows.contains_key(&flow)) {
                        let opened = map.open_flow(slot);
                        prop_assert_eq!(opened.as_deref(), Some(model[&slot.0].0.as_str()));
                        flows.insert(flow, slot);
                    }
                }
                Step::Close(flow) => {
                    if let Some(slot) = flows.remove(&flow) {
                        map.close_flow(now_s, slot);
                    }
                }
                Step::Wait(seconds) => now_s += u64::from(seconds),
                Step::Restart(torn) => {
                    flows.clear();
                    // A line that was never acknowledged is torn off in the middle.
                    let mut bytes = crate::tun::journal::encode_all(&journal);
                    let whole = bytes.len();
                    bytes.extend(crate::tun::journal::encode_all(&[Entry { slot: Slot(5), answered_s: now_s, name: "torn".into() }]).split_off(8));
                    bytes.truncate(whole + usize::from(torn) % (bytes.len() - whole));
                    map = AddressMap::new([7; 32], ADDRESSES, crate::tun::journal::decode_all(&bytes));
                    journal = map.entries();
                    for (slot, (name, _)) in &model {
                        let kept = map.name(Slot(*slot));
                        prop_assert_eq!(kept.as_deref(), Some(name.as_str()));
                    }
                }
            }
        }
    }
}
