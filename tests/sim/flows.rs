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
