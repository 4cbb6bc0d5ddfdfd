//! Several carriers at once: which takes what, and what happens when one falls silent.

use std::time::Duration;

use super::net::{Faults, Net, Transfer};
use crate::session::Mode;
use crate::session::established::{CarrierId, Event};
use crate::time::Instant;

/// A line of so many Mbit/s and one-way delay, with a queue of 30 ms, or some packets, that marks in its middle.
fn line(mbit: u64, delay_ms: u64) -> Faults {
    let rate = mbit * 125_000;
    let (queue, mark) = ((rate * 30 / 1_000).max(256 << 10), (rate * 10 / 1_000).max(48 << 10));
    Faults { rate, queue, mark, ..Faults::clean(delay_ms) }
}

/// Two ends joined by lines, carriers 1, 2 …; a channel is open, and all are known to answer.
fn joined(lines: &[Faults], seed: u8) -> (Net, crate::session::ChannelId) {
    let mut net = Net::new(lines[0], seed);
    for (number, line) in (1..).zip(lines) {
        net.lines.insert(CarrierId(number), *line);
    }
    let id = net.open(Mode::ReliableOrdered);
    for number in 2..=lines.len() as u64 {
        net.ends.iter_mut().for_each(|end| end.add_carrier(net.now, CarrierId(number)));
    }
    net.rest(Duration::from_secs(1));
    (net, id)
}

/// Mbit/s of a transfer of so many bytes from the second end, as in a download.
fn download(net: &mut Net, id: crate::session::ChannelId, len: usize) -> f64 {
    let mut transfer = Transfer::new(1, id, len);
    let start = net.now.instant;
    net.run(Duration::from_secs(120), |net| transfer.advance(net));
    len as f64 * 8.0 / net.now.instant.saturating_since(start).as_secs_f64() / 1e6
}

#[test]
fn two_lines_of_fifty_carry_a_single_download_of_eighty_five() {
    for (seed, delays) in [(1, [10, 10]), (2, [10, 20]), (3, [20, 30])] {
        let (mut net, id) = joined(&delays.map(|delay| line(50, delay)), seed);
        let got = download(&mut net, id, 60_000_000);
        println!("delays {delays:?}: {got:.1} Mbit/s");
        assert!(got >= 85.0, "delays {delays:?}: {got:.1} Mbit/s");
    }
}

#[test]
fn a_line_that_would_only_make_others_wait_is_not_used() {
    let (mut net, id) = joined(&[line(50, 5), line(50, 400)], 1);
    let alone = {
        let (mut net, id) = joined(&[line(50, 5)], 1);
        download(&mut net, id, 10_000_000)
    };
    let both = download(&mut net, id, 10_000_000);
    assert!(both > alone * 0.95, "{both:.1} with a slow line beside it, {alone:.1} Mbit/s without");
}

/// The longest time without a byte while `meddle` may break things.
fn longest_pause(net: &mut Net, transfer: &mut Transfer, mut meddle: impl FnMut(&mut Net, usize)) -> Duration {
    let (mut last, mut got, mut longest) = (net.now.instant, 0, Duration::ZERO);
    net.run(Duration::from_secs(120), |net| {
        let done = transfer.advance(net);
        if transfer.got.len() > got {
            longest = longest.max(net.now.instant.saturating_since(last));
            (last, got) = (net.now.instant, transfer.got.len());
        }
        meddle(net, got);
        done
    });
    longest
}

#[test]
fn the_other_carrier_takes_over_when_one_falls_silent() {
    for (seed, delay) in [(1, 5), (2, 20), (3, 60)] {
        for from in [0, 1] {
            let (mut net, id) = joined(&[line(50, delay), line(50, delay + 2)], seed);
            let mut transfer = Transfer::new(from, id, 8_000_000);
            let pause = longest_pause(&mut net, &mut transfer, |net, got| {
                if got > 2_000_000 {
                    net.cut.insert(CarrierId(1));
                }
            });
            assert!(pause < Duration::from_millis(1_000), "delay {delay} ms, from {from}: {pause:?}");
        }
    }
}

#[test]
fn a_lone_carrier_that_falls_silent_in_the_middle_is_told_of_soon_and_the_next_goes_on() {
    for from in [0, 1] {
        let (mut net, id) = joined(&[line(50, 20)], 1);
        let mut transfer = Transfer::new(from, id, 8_000_000);
        let mut next = 0;
        let pause = longest_pause(&mut net, &mut transfer, |net, got| {
            if got > 2_000_000 {
                net.cut.insert(CarrierId(1));
            }
            if next == 0 && net.saw(0, &Event::CarrierSilent(CarrierId(1))) {
                next = 2;
                net.lines.insert(CarrierId(2), line(50, 20));
                net.ends.iter_mut().for_each(|end| end.add_carrier(net.now, CarrierId(2)));
            }
        });
        assert_eq!(next, 2);
        assert!(pause < Duration::from_millis(1_500), "from {from}: {pause:?}");
    }
}

#[test]
fn a_full_window_of_lost_packets_is_found_out_after_one_acknowledgement() {
    let (mut net, id) = joined(&[line(50, 10)], 1);
    let mut transfer = Transfer::new(0, id, 4_000_000);
    let mut was_cut = false;
    net.run(Duration::from_secs(30), |net| {
        if !was_cut && transfer.got.len() > 1_000_000 {
            was_cut = true;
            net.cut.insert(CarrierId(1));
        }
        // Probes are lost as well; the next is the first to arrive, and its acknowledgement says nothing of the rest.
        if net.ends[0].carriers[0].recovery.pto_count() >= 2 {
            net.cut.clear();
        }
        transfer.advance(net)
    });
    assert!(was_cut);
    assert!(net.now.instant < Instant::from_micros(10_000_000), "{:?}", net.now.instant);
}

#[test]
fn a_standby_that_dies_is_found_out_and_costs_little() {
    let (mut net, _) = joined(&[Faults::clean(10), Faults::clean(30)], 1);
    let before = net.bytes_sent;
    net.rest(Duration::from_secs(60));
    assert!(net.bytes_sent - before < 60 * 200, "{}", net.bytes_sent - before);
    net.cut.insert(CarrierId(2));
    net.run(Duration::from_secs(10), |net| net.saw(0, &Event::CarrierDead(CarrierId(2))));
    assert!(!net.saw(0, &Event::CarrierDead(CarrierId(1))));
}

#[test]
fn a_carrier_in_use_outlives_any_number_of_others() {
    let (mut net, id) = joined(&[line(50, 5)], 1);
    let mut transfer = Transfer::new(1, id, 10_000_000);
    let (mut number, mut next_at) = (1, net.now.instant);
    net.run(Duration::from_secs(60), |net| {
        if net.now.instant >= next_at && number < 60 {
            number += 1;
            next_at = net.now.instant + Duration::from_millis(20);
            let (added, gone) = (CarrierId(number), CarrierId(number - 1));
            net.lines.insert(added, line(50, 50));
            for end in &mut net.ends {
                if gone != CarrierId(1) {
                    end.remove_carrier(net.now, gone);
                }
                end.add_carrier(net.now, added);
            }
        }
        transfer.advance(net)
    });
    assert_eq!(number, 60);
    let first = net.ends.iter().all(|end| end.carriers().any(|carrier| carrier == (CarrierId(1), true)));
    assert!(first && net.now.instant > Instant::ZERO, "the first carrier went");
    assert!(net.ends.iter().all(|end| end.received.len() <= super::super::limits::RECEIVED_MAX));
}

/// Row 8 of the data path.
#[test]
fn a_reader_that_reads_nothing_costs_the_one_beside_it_nothing_and_little_memory() {
    let alone = {
        let (mut net, id) = joined(&[line(50, 10)], 1);
        download(&mut net, id, 40_000_000)
    };
    let (mut net, id) = joined(&[line(50, 10)], 1);
    let stalled: Vec<_> = (0..4).map(|_| net.open(Mode::ReliableOrdered)).collect();
    let mut most = 0;
    let mut transfer = Transfer::new(1, id, 40_000_000);
    let start = net.now.instant;
    net.run(Duration::from_secs(60), |net| {
        for id in &stalled {
            while net.ends[1].write(*id, bytes::Bytes::from(vec![7; 65_536])).is_ok_and(|taken| taken > 0) {}
        }
        most = most.max(net.ends[0].flow.unread());
        transfer.advance(net)
    });
    let beside = 320.0 / net.now.instant.saturating_since(start).as_secs_f64();
    assert!(beside >= alone * 0.95, "{beside:.1} Mbit/s beside four that stall, {alone:.1} alone");
    let bound = 4 * super::super::limits::CHANNEL_WINDOW_INITIAL + super::super::limits::CHANNEL_WINDOW_MAX;
    assert!(most <= bound, "{most} bytes held, {bound} allowed");
    assert!(net.ends[1].send_buffered <= 5 * super::super::limits::CHANNEL_WINDOW_MAX);
}

/// What a stream without loss carries of a line, over rate and delay: pinned, so that a change is seen as numbers. A
/// round trip of 300 ms is 30 times the queue at which the line marks, which costs a lone stream a part of it.
#[test]
fn a_line_without_loss_is_filled_over_rate_and_delay() {
    for mbit in [1u32, 10, 50, 200] {
        for (delay_ms, floor) in [(1, 0.9), (10, 0.9), (50, 0.8), (150, 0.5)] {
            let (mut net, id) = joined(&[line(mbit.into(), delay_ms)], 1);
            // 30 s at full rate: slow start is a small part.
            let len = usize::try_from(mbit * 125_000 * 30).unwrap();
            let share = download(&mut net, id, len) / f64::from(mbit);
            println!("{mbit:3} Mbit/s, {delay_ms:3} ms: {:5.1} %", share * 100.0);
            assert!(share >= floor, "{:.1} % of {mbit} Mbit/s, {delay_ms} ms", share * 100.0);
        }
    }
}
