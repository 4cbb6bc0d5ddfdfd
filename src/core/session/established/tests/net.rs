//! Two sessions and a network between them, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::crypto::Aead;
use crate::rng::Rng;
use crate::session::established::{CarrierId, ChannelId, Established, Event, OpenRequest, Secrets, Side};
use crate::session::{Mode, Port};
use crate::time::{Instant, Now};

/// What the network does to packets.
#[derive(Clone, Copy)]
pub struct Faults {
    /// One-way delay.
    pub delay: Duration,
    /// Random extra delay at most, which reorders.
    pub jitter: Duration,
    /// Of 1,000 packets, how many are lost.
    pub loss: u64,
    /// Of 1,000 packets, how many arrive twice.
    pub repeat: u64,
    /// Bytes a second; zero for no limit.
    pub rate: u64,
    /// Queue in front of the rate, bytes; what exceeds it is dropped.
    pub queue: u64,
    /// Queue from which packets are marked, bytes.
    pub mark: u64,
}

impl Faults {
    /// A clean path.
    pub const fn clean(delay_ms: u64) -> Self {
        let delay = Duration::from_millis(delay_ms);
        Self { delay, jitter: Duration::ZERO, loss: 0, repeat: 0, rate: 0, queue: u64::MAX, mark: u64::MAX }
    }
}

/// A packet on its way.
struct Flying {
    to: usize,
    carrier: CarrierId,
    packet: BytesMut,
    marked: bool,
}

/// Both ends and what is between.
pub struct Net {
    pub ends: [Established; 2],
    pub now: Now,
    pub faults: Faults,
    pub cut: BTreeSet<CarrierId>,
    /// Carriers with faults of their own.
    pub lines: BTreeMap<CarrierId, Faults>,
    flying: BTreeMap<(Instant, u64), Flying>,
    sent: u64,
    busy_until: BTreeMap<(usize, CarrierId), Instant>,
    rng: Rng,
    pub events: [Vec<Event>; 2],
    pub bytes_sent: u64,
    pub largest_len: usize,
    pub captured: Vec<(usize, CarrierId, BytesMut)>,
    pub capture: bool,
}

impl Net {
    /// Two ends with one carrier.
    pub fn new(faults: Faults, seed: u8) -> Self {
        let secret = |byte| Zeroizing::new([byte; 32]);
        // Precompiled, so that tests of unoptimised builds are quick; what the cipher is makes no difference here.
        let aead = Aead::Aegis256X2;
        let secrets = |send, recv| Secrets { send: secret(send), recv: secret(recv), aead };
        let mut ends = [
            Established::new(Now::ZERO, Side::Initiator, &secrets(1, 2)),
            Established::new(Now::ZERO, Side::Responder, &secrets(2, 1)),
        ];
        for end in &mut ends {
            end.add_carrier(Now::ZERO, CarrierId(1));
        }
        Self {
            ends,
            now: Now::ZERO,
            faults,
            cut: BTreeSet::new(),
            lines: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            busy_until: BTreeMap::new(),
            rng: Rng::from_seed([seed; 32]),
            events: [Vec::new(), Vec::new()],
            bytes_sent: 0,
            largest_len: 0,
            captured: Vec::new(),
            capture: false,
        }
    }

    /// Puts a packet on its way, unless the network loses it.
    fn send(&mut self, from: usize, carrier: CarrierId, packet: BytesMut) {
        self.bytes_sent += packet.len() as u64;
        self.largest_len = self.largest_len.max(packet.len());
        if self.capture {
            self.captured.push((1 - from, carrier, packet.clone()));
        }
        let faults = self.lines.get(&carrier).copied().unwrap_or(self.faults);
        if self.cut.contains(&carrier) || self.rng.public_below(1_000) < faults.loss {
            return;
        }
        let (mut at, mut marked) = (self.now.instant, false);
        if faults.rate > 0 {
            // Carriers without faults of their own share one line.
            let line = if self.lines.contains_key(&carrier) { carrier } else { CarrierId(0) };
            let free = self.busy_until.get(&(from, line)).copied().unwrap_or(Instant::ZERO).max(at);
            let backlog = faults.rate as u128 * free.saturating_since(at).as_micros() / 1_000_000;
            if backlog > u128::from(faults.queue) {
                return;
            }
            marked = backlog > u128::from(faults.mark);
            at = free + Duration::from_micros(packet.len() as u64 * 1_000_000 / faults.rate);
            self.busy_until.insert((from, line), at);
        }
        let copies = if self.rng.public_below(1_000) < faults.repeat { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.rng.public_below(crate::time::micros(faults.jitter) + 1);
            let at = at + faults.delay + Duration::from_micros(jitter);
            self.sent += 1;
            self.flying.insert((at, self.sent), Flying { to: 1 - from, carrier, packet: packet.clone(), marked });
        }
    }

    /// Sends everything that may leave now.
    pub fn flush(&mut self) {
        for from in 0..2 {
            while let Some((carrier, packet)) = self.ends[from].poll_transmit(self.now, &mut |_| true) {
                self.send(from, carrier, packet);
            }
            while let Some(event) = self.ends[from].poll_event() {
                self.events[from].push(event);
            }
        }
    }

    /// Goes to the next thing that happens, at most to `until`; false when that comes first.
    pub fn step(&mut self, until: Instant) -> bool {
        self.flush();
        let packet_at = self.flying.first_key_value().map(|((at, _), _)| *at);
        let timer_at = self.ends.iter().filter_map(Established::poll_timeout).min();
        let Some(at) = packet_at.into_iter().chain(timer_at).min().filter(|at| *at <= until) else {
            self.now = self.now.after(until.saturating_since(self.now.instant));
            return false;
        };
        self.now = self.now.after(at.saturating_since(self.now.instant));
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now.instant) {
            let flying = entry.remove();
            let result = self.ends[flying.to].handle_packet(self.now, flying.carrier, flying.packet, flying.marked);
            assert!(result.is_ok_and(|()| true) || result.is_err_and(|error| !error.fatal()), "{result:?}");
        }
        for end in &mut self.ends {
            end.handle_timeout(self.now);
        }
        self.flush();
        true
    }

    /// Runs until `done`, at most so long in virtual time.
    pub fn run(&mut self, at_most: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let until = self.now.instant + at_most;
        let mut steps = 0u64;
        while !done(self) {
            assert!(self.step(until), "not done in {at_most:?}: {:?}", self.events);
            steps += 1;
            assert!(steps < 20_000_000, "busy without end");
        }
    }

    /// Runs for so long.
    pub fn rest(&mut self, time: Duration) {
        let until = self.now.instant + time;
        while self.step(until) {}
    }

    /// Opens a channel from the first end and accepts it at the second.
    pub fn open(&mut self, mode: Mode) -> ChannelId {
        let id = self.ends[0].open(self.now, request(mode)).unwrap();
        self.run(Duration::from_secs(30), |net| {
            if net.events[1].iter().any(|event| matches!(event, Event::Incoming { channel, .. } if *channel == id)) {
                net.ends[1].accept(net.now, id);
            }
            net.events[0].contains(&Event::Opened(id))
        });
        id
    }

    /// Reads everything there is at an end.
    pub fn read_all(&mut self, end: usize, id: ChannelId) -> Vec<Bytes> {
        let now = self.now;
        std::iter::from_fn(|| self.ends[end].read(now, id)).collect()
    }

    /// Whether an event has happened.
    pub fn saw(&self, end: usize, event: &Event) -> bool {
        self.events[end].contains(event)
    }
}

/// A request to open a channel.
pub fn request(mode: Mode) -> OpenRequest {
    OpenRequest { port: Port::from(80), label: Some("blog".into()), mode, early: Bytes::new() }
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    Rng::from_seed([seed; 32]).fill_public(&mut out);
    out
}

/// A transfer over a stream: writes from one end, reads at the other, and checks.
pub struct Transfer {
    pub from: usize,
    pub id: ChannelId,
    pub source: Bytes,
    pub written: usize,
    pub got: Vec<u8>,
    pub finish: bool,
}

impl Transfer {
    /// A transfer that ends with FIN.
    pub fn new(from: usize, id: ChannelId, len: usize) -> Self {
        let source = Bytes::from(pattern(len, 9));
        Self { from, id, source, written: 0, got: Vec::with_capacity(len), finish: true }
    }

    /// Writes and reads what is possible now; true when everything has arrived.
    pub fn advance(&mut self, net: &mut Net) -> bool {
        while self.written < self.source.len() {
            let end = (self.written + 65_536).min(self.source.len());
            let taken = net.ends[self.from].write(self.id, self.source.slice(self.written..end)).unwrap();
            self.written += taken;
            if taken == 0 {
                break;
            }
        }
        if self.finish && self.written == self.source.len() {
            net.ends[self.from].finish(net.now, self.id);
            self.finish = false;
        }
        while let Some(bytes) = net.ends[1 - self.from].read(net.now, self.id) {
            self.got.extend_from_slice(&bytes);
        }
        net.flush();
        let done = self.got.len() >= self.source.len();
        assert!(!done || self.got == self.source, "bytes differ");
        done
    }
}
