//! Spoiled frames in packets that are sealed as they should be: what a peer may send that follows no rule.

use bytes::{BufMut, BytesMut};

use super::net::{Faults, Net};
use crate::crypto::Aead;
use crate::fuzz::{TARGETS, engine::Fuzz, samples};
use crate::session::established::CarrierId;
use crate::session::established::limits::{CHANNELS_MAX, SESSION_WINDOW};
use crate::session::established::packet::Sealer;
use crate::time::Instant;
use crate::wire::session_packet::HEADER_LEN;

/// Packets that one session gets.
const PACKETS: u64 = 200;

#[test]
fn spoiled_frames_close_the_session_or_are_taken_and_memory_stays_bounded() {
    let mut fuzz = Fuzz::new("session frames", TARGETS);
    let samples: Vec<Vec<u8>> = samples::frames()
        .iter()
        .map(|frame| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            bytes
        })
        .collect();
    while fuzz.goes_on() {
        let mut net = Net::new(Faults::clean(5), 1);
        let mut sealer = Sealer::new(Instant::ZERO, Aead::Aegis256X2, &[1; 32]);
        for number in 0..PACKETS {
            let mut packet = BytesMut::zeroed(HEADER_LEN);
            // The channels are there first, then anything goes.
            let honest = number < 2;
            for _ in 0..=fuzz.below(4) {
                let sample =
                    if honest { samples[usize::from(number == 1)].clone() } else { fuzz.pick(&samples).clone() };
                packet.put_slice(&if honest || fuzz.below(2) == 0 { sample } else { fuzz.spoil(&sample) });
                if honest {
                    break;
                }
            }
            sealer.seal(Instant::ZERO, 1_000, number, &mut packet);
            let result = net.ends[1].handle_packet(net.now, CarrierId(1), packet, false);
            assert!(net.ends[1].closed().is_some() || !result.is_err_and(|error| error.fatal()));
            net.now = net.now.after(std::time::Duration::from_millis(1));
            net.ends[1].handle_timeout(net.now);
            while net.ends[1].poll_transmit(net.now, &mut |_| true).is_some() {}
            while net.ends[1].poll_event().is_some() {}
            assert!(net.ends[1].flow.unread() <= SESSION_WINDOW && net.ends[1].channel_count() <= CHANNELS_MAX * 2);
            if net.ends[1].closed().is_some() {
                break;
            }
        }
    }
}
