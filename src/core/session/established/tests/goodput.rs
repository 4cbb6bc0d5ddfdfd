//! Goodput over loss and delay in virtual time, pinned so that a change is seen as numbers.

use std::time::Duration;

use super::net::{Faults, Net, Transfer};
use crate::session::Mode;

/// Megabytes per second of a transfer of so many bytes.
fn goodput(faults: Faults, len: usize) -> f64 {
    let mut net = Net::new(faults, 11);
    let id = net.open(Mode::ReliableOrdered);
    let start = net.now.instant;
    let mut transfer = Transfer::new(0, id, len);
    net.run(Duration::from_secs(600), |net| transfer.advance(net));
    len as f64 / net.now.instant.saturating_since(start).as_secs_f64() / 1e6
}

#[test]
fn goodput_over_loss_and_delay_stays_above_its_floor() {
    // Round-trip time in milliseconds, loss in thousandths, floor in MB/s, on a path of 100 MB/s.
    let table = [
        (2, 0, 60.0),
        (2, 10, 20.0),
        (20, 0, 40.0),
        (20, 1, 8.0),
        (20, 10, 4.0),
        (20, 50, 1.5),
        (100, 0, 10.0),
        (100, 10, 0.8),
    ];
    for (rtt_ms, loss, floor) in table {
        let base = Faults::clean(0);
        let delay = Duration::from_micros(rtt_ms * 500);
        let faults = Faults { delay, loss, rate: 100_000_000, queue: 4 << 20, mark: 1 << 20, ..base };
        let got = goodput(faults, 8_000_000);
        println!("rtt {rtt_ms:3} ms  loss {:4.1} %  {got:6.1} MB/s (floor {floor})", loss as f64 / 10.0);
        assert!(got >= floor, "rtt {rtt_ms} ms, loss {loss}/1000: {got} MB/s");
    }
}

#[test]
fn marks_keep_the_queue_short_without_loss() {
    let faults = Faults { rate: 20_000_000, queue: 64 << 20, mark: 400_000, ..Faults::clean(10) };
    let mut net = Net::new(faults, 1);
    let id = net.open(Mode::ReliableOrdered);
    let mut transfer = Transfer::new(0, id, 20_000_000);
    let mut worst = Duration::ZERO;
    net.run(Duration::from_secs(60), |net| {
        if transfer.got.len() > 5_000_000 {
            worst = worst.max(net.ends[0].rtt().unwrap());
        }
        transfer.advance(net)
    });
    let seconds = net.now.instant.as_micros() as f64 / 1e6;
    assert!(20.0 / seconds > 14.0, "{} MB/s of 20", 20.0 / seconds);
    assert!(worst < Duration::from_millis(80), "{worst:?}");
    assert_eq!(net.ends[0].counters().frames_lost, 0);
}

#[test]
fn a_narrow_path_with_a_short_queue_is_shared_without_collapse() {
    let faults = Faults { rate: 2_000_000, queue: 100_000, ..Faults::clean(20) };
    assert!(goodput(faults, 4_000_000) > 1.0);
}
