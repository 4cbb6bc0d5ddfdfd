//! Two sessions against each other through a network that loses, delays, repeats, reorders and marks.

mod net;

use std::time::Duration;

use super::*;
use crate::session::Mode;
use net::{Faults, Net, Transfer, request};

#[test]
fn a_stream_arrives_once_and_in_order_through_a_bad_network() {
    for seed in 0..6 {
        let faults = Faults { jitter: Duration::from_millis(5), loss: 50, repeat: 50, ..Faults::clean(10) };
        let mut net = Net::new(faults, seed);
        let id = net.open(Mode::ReliableOrdered);
        let mut transfer = Transfer::new(usize::from(seed % 2), id, 3_000_000);
        net.run(Duration::from_secs(120), |net| transfer.advance(net));
    }
}
