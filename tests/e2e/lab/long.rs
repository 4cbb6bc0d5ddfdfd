//! Cables that take time: Ethernet frames go from a TAP device to another through a queue of ours, which keeps each
//! for as long as its rate and delay ask, loses some, and drops what finds it full. The kernels of such labs lack
//! netem.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::{Lab, Machine, sh};
use crate::e2e::kills::draw;

/// The longest frame: a packet of the usual MTU behind its Ethernet header.
const FRAME_MAX: usize = 1_514;
/// What the queue holds at least, whatever rate and delay say.
const QUEUE_MIN: usize = 64 << 10;
/// Frames read in one go before those that are due are written.
const BATCH_MAX: usize = 32;
/// How many packets the device itself may hold, so that no frame is lost but by the line.
const DEVICE_QUEUE: u32 = 4_096;

/// What a long cable does to frames, in each direction.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// How long a frame travels.
    pub delay: Duration,
    /// Megabits per second; none: as fast as it goes.
    pub mbit: Option<u32>,
    /// How many of a thousand frames are lost.
    pub per_mille: u64,
    /// How long the queue in front of the line may become: the usual buffer is one round trip.
    pub queue: Duration,
}

impl Line {
    /// A lossless line of this round trip and rate, with a buffer of one round trip, at least 20 ms.
    pub fn new(round_trip: Duration, mbit: u32) -> Self {
        let queue = round_trip.max(Duration::from_millis(20));
        Self { delay: round_trip / 2, mbit: Some(mbit), per_mille: 0, queue }
    }

    /// The same that loses frames.
    pub const fn losing(self, per_mille: u64) -> Self {
        Self { per_mille, ..self }
    }

    /// How long a frame of this length takes to be put on the line.
    fn time_of(self, len: usize) -> Duration {
        let bits = u64::try_from(len).expect("a frame") * 8;
        self.mbit.map_or(Duration::ZERO, |mbit| Duration::from_nanos(bits * 1_000 / u64::from(mbit)))
    }
}

impl Lab {
    /// A cable as [`Lab::cable`] makes it, that does to frames what `line` says until the lab ends.
    pub fn long_cable(&self, a: &Machine, b: &Machine, n: u8, line: Line) {
        let ends = [(a, b, 1), (b, a, 2)].map(|(here, there, last)| {
            let name = format!("to-{}", there.name());
            let device = here.inside(|| {
                let device = DeviceBuilder::new().name(&name).layer(Layer::L2).build_sync().expect("a TAP device");
                device.set_nonblocking(true).expect("a device that need not block");
                device
            });
            let here = here.name();
            sh(&format!(
                "ip -n {here} link set {name} mtu 1500 txqueuelen {DEVICE_QUEUE} up
                 ip -n {here} addr add 10.77.{n}.{last}/24 dev {name}"
            ));
            Arc::new(device)
        });
        for (at, seed) in [(0, 0x5eed), (1, 0xfeed)] {
            let (from, to) = (Arc::clone(&ends[at]), Arc::clone(&ends[1 - at]));
            std::thread::spawn(move || carry(&from, &to, line, seed + u64::from(n)));
        }
    }
}

/// Carries frames one way, until a device is gone.
fn carry(from: &SyncDevice, to: &SyncDevice, line: Line, mut state: u64) {
    let queue_max = line.mbit.map_or(usize::MAX, |mbit| {
        let bytes = line.queue.as_micros() * u128::from(mbit) / 8;
        usize::try_from(bytes).expect("a short queue").max(QUEUE_MIN)
    });
    // Frames on their way with the moment of their arrival, and those of them that still wait to be put on the line.
    let mut travelling: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut free_at = Instant::now();
    let mut frame = [0; FRAME_MAX];
    loop {
        let now = Instant::now();
        while travelling.front().is_some_and(|(due, _)| *due <= now) {
            let (_, frame) = travelling.pop_front().expect("it is there");
            // A machine that takes no frame (its link is down) loses it.
            let _ = to.send(&frame);
        }
        for _ in 0..BATCH_MAX {
            let Ok(len) = from.recv(&mut frame) else { break };
            let begins = free_at.max(now);
            let waiting = (begins - now).as_secs_f64() * f64::from(line.mbit.unwrap_or(0)) * 1e6 / 8.0;
            let lost = draw(&mut state, 1_000) < line.per_mille;
            if lost || waiting + len as f64 > queue_max as f64 {
                continue;
            }
            free_at = begins + line.time_of(len);
            travelling.push_back((free_at + line.delay, frame[..len].to_vec()));
        }
        let wait = travelling.front().map(|(due, _)| TimeSpec::from(due.saturating_duration_since(Instant::now())));
        let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if ppoll(&mut ready, wait, None).is_err() {
            return;
        }
    }
}
