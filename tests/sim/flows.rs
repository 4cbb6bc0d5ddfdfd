//! Channels over lossy cables and dying relays: every byte once, in order.

use std::time::Duration;

use tarnet_sim::topology::Kind;
use tarnet_sim::workload::transfer::Transfer;

use crate::world::{LOSS_PPM, World};

/// Moves bytes until the transfer is over or its time is; after every step, `meddle` may break things.
fn run(world: &mut World, transfer: &mut Transfer, limit: Duration, mut meddle: impl FnMut(&mut World, &Transfer)) {
    let end = world.network.now().instant + limit;
    while !transfer.is_over() && world.network.step(end) {
        transfer.advance(&mut world.network);
        meddle(world, transfer);
    }
    assert_eq!(transfer.error, None, "after {} of {} bytes", transfer.received, transfer.sent);
    assert!(transfer.finished, "only {} bytes of {} sent came in {limit:?}", transfer.received, transfer.sent);
}

#[test]
fn bytes_arrive_over_a_lossy_line() {
    let mut world = World::new(Kind::Line, 6);
    world.network.set_loss(LOSS_PPM);
    world.settle(Duration::from_secs(10));
    let mut transfer = Transfer::new(&mut world.network, 0, 5, 2_000_000);
    run(&mut world, &mut transfer, Duration::from_secs(120), |_, _| {});
    assert_eq!(transfer.received, 2_000_000);
}

/// On a ring the relay next to the sender dies in the middle: the rest goes the other way round.
#[test]
fn relay_dies_in_the_middle_of_a_transfer() {
    for silent in [false, true] {
        let mut world = World::new(Kind::Ring, 8);
        world.network.set_loss(LOSS_PPM);
        world.settle(Duration::from_secs(10));
        let mut transfer = Transfer::new(&mut world.network, 0, 3, 2_000_000);
        let mut dead = false;
        run(&mut world, &mut transfer, Duration::from_secs(120), |world, transfer| {
            if !dead && transfer.received > 500_000 {
                dead = true;
                if silent {
                    let of = |ends: &[usize; 2]| ends.contains(&1);
                    let cables = world.network.cables();
                    (0..cables.len()).filter(|&i| of(&cables[i])).for_each(|i| world.network.cut(i));
                } else {
                    world.network.kill(1);
                }
            }
        });
        assert!(dead);
        assert_eq!(transfer.received, 2_000_000);
    }
}

/// Both ends lose every link for a while, as when both get new addresses: the stream goes on where it was.
#[test]
fn both_ends_lose_all_links_and_the_stream_goes_on() {
    let mut world = World::new(Kind::Ring, 6);
    world.settle(Duration::from_secs(10));
    let mut transfer = Transfer::new(&mut world.network, 0, 3, 4_000_000);
    let mut mended_at = None;
    run(&mut world, &mut transfer, Duration::from_secs(120), |world, transfer| {
        let now = world.network.now().instant;
        let cables = world.network.cables();
        let ours = |ends: &[usize; 2]| ends.contains(&0) || ends.contains(&3);
        let mut all = (0..cables.len()).filter(|&i| ours(&cables[i]));
        match mended_at {
            None if transfer.received > 1_000_000 => {
                all.for_each(|i| world.network.cut(i));
                mended_at = Some(now + Duration::from_secs(15));
            }
            Some(at) if now >= at && all.any(|i| world.network.is_cut(i)) => {
                (0..cables.len()).for_each(|i| world.network.mend(i));
            }
            _ => {}
        }
    });
    assert!(mended_at.is_some());
    assert_eq!(transfer.received, 4_000_000);
}

/// The far machine restarts: its channels are reset within seconds, and a new one opens.
#[test]
fn a_restarted_end_resets_its_channels_and_takes_new_ones() {
    let mut world = World::new(Kind::Line, 3);
    world.settle(Duration::from_secs(10));
    let mut transfer = Transfer::new(&mut world.network, 0, 2, 20_000_000);
    let end = world.network.now().instant + Duration::from_secs(60);
    let mut restarted = None;
    while !transfer.is_over() && world.network.step(end) {
        transfer.advance(&mut world.network);
        if restarted.is_none() && transfer.received > 1_000_000 {
            world.network.kill(2);
            world.network.start(2);
            restarted = Some(world.network.now().instant);
        }
    }
    let took = world.network.now().instant - restarted.expect("it restarted");
    assert!(transfer.error.as_ref().is_some_and(|error| error.contains("lost: true")), "{:?}", transfer.error);
    assert!(took < Duration::from_secs(15), "{took:?}");
    world.settle(Duration::from_secs(10));
    let mut again = Transfer::new(&mut world.network, 0, 2, 100_000);
    run(&mut world, &mut again, Duration::from_secs(30), |_, _| {});
    assert_eq!(again.received, 100_000);
}
