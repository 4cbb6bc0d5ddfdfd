//! Streams between two machines while what lies between them is killed, stopped and cut: every
//! byte once and in order, and how long nothing came.
//!
//! Between the ends lie relays, in one layer or in two; each end has a cable to every relay of its
//! layer. Every few seconds something between the ends fails for a few seconds, never so that no way
//! is left. A *pause* is time in which no stream got a byte although all wanted to; it belongs to the
//! first failure within it, or the last before it, and the longest of each failure counts, if it is
//! long enough to be felt.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tarnet_core::node::{Event, Target, WantId, Wanted};
use tarnet_core::rng::Rng;
use tarnet_core::routing;
use tarnet_core::session::{ChannelRef, Listen, ListenerId, Mode, Owner};
use tarnet_core::time::Instant;

use super::names::port;
use crate::measure::Graph;
use crate::network::{Network, Shape};
use crate::scenario::seeded;
use crate::topology::{Edge, Topology};

/// Streams of one run; every other one flows from the machine that was connected to.
pub const STREAMS: usize = 16;
/// Relays of a layer.
const RELAYS: usize = 3;
/// Bytes offered at once.
const CHUNK_LEN: u64 = 16 * 1024;
/// Time for links and routes before the streams begin.
const SETTLE: Duration = Duration::from_secs(8);
/// Time between two failures: this, and up to twice as much more.
const FAILURE_EVERY: Duration = Duration::from_millis(1_500);
/// How long a failure lasts: this, and up to four times as much more.
const FAILURE_LASTS: Duration = Duration::from_secs(1);
/// Most time that a run may take once the streams have begun.
const RUN_MAX: Duration = Duration::from_secs(600);
/// A shorter pause is not felt.
const FELT: Duration = Duration::from_millis(100);

/// What is broken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// A relay's process is dead: its neighbours' connections are closed.
    Killed(usize),
    /// A relay's process is stopped: it says nothing.
    Stopped(usize),
    /// A cable carries nothing.
    Cut(usize),
    /// A connection was reset: dialled again at once.
    Reset(usize),
}

/// What a run showed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Failures in all.
    pub failures: usize,
    /// Pauses that were felt, one per failure at most.
    pub pauses: Vec<Duration>,
    /// What went wrong, if anything.
    pub error: Option<String>,
}

/// What many runs showed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Runs.
    pub runs: usize,
    /// Runs that went wrong.
    pub wrong: usize,
    /// Failures in all.
    pub failures: usize,
    /// Pauses that were felt.
    pub pauses: Vec<Duration>,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.wrong += usize::from(outcome.error.is_some());
        self.failures += outcome.failures;
        self.pauses.extend(&outcome.pauses);
    }

    /// The pause that so many percent of those felt are not longer than.
    #[must_use]
    pub fn felt(&self, percent: usize) -> Duration {
        self.at((self.pauses.len() * percent).div_ceil(100))
    }

    /// The pause that so many percent of all failures' are not longer than; zero for one that was not felt.
    #[must_use]
    pub fn pause(&self, percent: usize) -> Duration {
        let unfelt = self.failures.saturating_sub(self.pauses.len());
        self.at((self.failures * percent).div_ceil(100).saturating_sub(unfelt))
    }

    /// The n-th shortest that was felt, from 1; zero for none.
    fn at(&self, n: usize) -> Duration {
        let mut sorted = self.pauses.clone();
        sorted.sort_unstable();
        n.checked_sub(1).and_then(|at| sorted.get(at)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, wrong, failures, pauses } = self;
        let (p50, p99, most) = (self.felt(50).as_millis(), self.felt(99).as_millis(), self.felt(100).as_millis());
        write!(
            f,
            "{runs} runs, {wrong} wrong; {failures} failures, p99 of their pauses {} ms; ",
            self.pause(99).as_millis()
        )?;
        write!(f, "{} felt: p50 {p50} ms, p99 {p99} ms, longest {most} ms", pauses.len())
    }
}

/// One stream.
struct Stream {
    want: WantId,
    listener: Option<ListenerId>,
    /// The channel at either machine, once there.
    ends: [Option<ChannelRef>; 2],
    /// The machine that writes.
    from: usize,
    sent: u64,
    received: u64,
    finished: bool,
}

/// A run in progress.
struct Run {
    network: Network,
    rng: Rng,
    streams: Vec<Stream>,
    len: u64,
    /// What is broken, and until when.
    broken: Vec<(Instant, Failure)>,
    /// When the last byte came, and how many failures there had been.
    last_byte: (Instant, usize),
    /// The longest pause of each failure.
    longest: Vec<Duration>,
    outcome: Outcome,
}

/// The byte of a stream at a place.
fn byte_at(stream: usize, place: u64) -> u8 {
    let mixed = (place + ((stream as u64) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (place >> 7);
    mixed.to_le_bytes()[5]
}

/// Two ends, 0 and 1, with one layer of relays between them or two.
fn topology(rng: &mut Rng) -> Topology {
    let layers = if rng.public_below(2) == 0 { 1 } else { 2 };
    let nodes = 2 + RELAYS * layers;
    let mut edges = Vec::new();
    let mut add = |from: usize, to: usize, rng: &mut Rng| {
        let delay = Duration::from_millis(2 + rng.public_below(28));
        let bits_per_s = 8_000_000 + rng.public_below(8_000_000);
        edges.push(Edge { from, to, shape: Shape { bits_per_s, ..Shape::with_delay(delay) } });
    };
    for relay in 2..2 + RELAYS {
        add(0, relay, rng);
        match layers {
            1 => add(1, relay, rng),
            _ => (2 + RELAYS..nodes).for_each(|far| add(relay, far, rng)),
        }
    }
    if layers == 1 {
        (3..nodes).for_each(|relay| add(relay - 1, relay, rng));
    } else {
        (2 + RELAYS..nodes).for_each(|far| add(1, far, rng));
    }
    let places = (0..nodes).map(|_| (0.5, 0.5)).collect();
    Topology::of(nodes, edges, places)
}

/// Runs one seed with streams of so many bytes.
#[must_use]
pub fn run(seed: u64, len: u64) -> Outcome {
    let mut rng = seeded(seed);
    let topology = topology(&mut rng.fork("topology"));
    let network = Network::new(&topology, rng.fork("network"), routing::Limits::default());
    let streams = Vec::new();
    let (last_byte, longest, outcome) = ((Instant::ZERO, 0), Vec::new(), Outcome::default());
    let mut run = Run { network, rng: rng.fork("run"), streams, len, broken: Vec::new(), last_byte, longest, outcome };
    run.network.run_for(SETTLE);
    run.begin();
    run.go();
    run.outcome.pauses = run.longest.into_iter().filter(|pause| *pause >= FELT).collect();
    run.outcome
}

impl Run {
    /// Listens at machine 1 and connects from machine 0, once for each stream.
    fn begin(&mut self) {
        let service = self.network.hosts()[1].service;
        let acting = self.network.hosts()[0].service;
        for stream in 0..STREAMS {
            let port = port(&format!("stream{stream}"));
            let (owner, mode, label, allow) = (Owner::Service(service), Mode::ReliableOrdered, None, Vec::new());
            let listen = Listen { owner, label, port: port.clone(), mode, allow, await_caller: false, channels_max: 0 };
            let listener = self.network.with_node(1, |node, _| node.listen(listen).ok()).flatten();
            let wanted = Wanted { port, mode, early: Bytes::new() };
            let want = self.network.next_want();
            let target = Target::Service(service, None);
            self.network.with_node(0, |node, now| node.connect(now, want, acting, target, wanted));
            let (ends, from) = ([None, None], stream % 2);
            self.streams.push(Stream { want, listener, ends, from, sent: 0, received: 0, finished: false });
        }
        self.last_byte = (self.network.now().instant, 0);
    }

    /// Lets everything happen until all streams are over or something went wrong.
    fn go(&mut self) {
        let end = self.network.now().instant + RUN_MAX;
        let mut next_failure = self.network.now().instant + FAILURE_EVERY;
        while self.outcome.error.is_none() && !self.streams.iter().all(|stream| stream.finished) {
            let until = self.broken.iter().map(|(at, _)| *at).chain([next_failure, end]).min().unwrap_or(end);
            if self.network.step(until) {
                self.advance();
                continue;
            }
            self.network.run_until(until);
            if until >= end {
                let (got, all) = (self.received(), self.len * STREAMS as u64);
                self.outcome.error = Some(format!("{got} of {all} bytes in {RUN_MAX:?}"));
            }
            self.mend_due();
            if until >= next_failure {
                self.fail();
                next_failure = until + FAILURE_EVERY + self.random_time(FAILURE_EVERY * 2);
            }
        }
    }

    /// A random time up to `most`.
    fn random_time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.public_below(tarnet_core::time::micros(most)))
    }

    /// A random number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.public_below(bound as u64)).unwrap_or(0)
    }

    /// Bytes that came in all.
    fn received(&self) -> u64 {
        self.streams.iter().map(|stream| stream.received).sum()
    }

    /// Notes that a byte came, and the pause before it.
    fn note_byte(&mut self) {
        let (now, failures) = (self.network.now().instant, self.longest.len());
        let (before, failures_before) = std::mem::replace(&mut self.last_byte, (now, failures));
        let pause = now.saturating_since(before);
        let whose = if failures > failures_before { Some(failures_before) } else { failures.checked_sub(1) };
        if let Some(longest) = whose.and_then(|failure| self.longest.get_mut(failure)) {
            *longest = pause.max(*longest);
        }
        if pause > Duration::from_secs(1) {
            tracing::info!(?now, ?pause, "pause");
        }
    }

    /// Mends what has been broken long enough.
    fn mend_due(&mut self) {
        let now = self.network.now().instant;
        let due: Vec<(Instant, Failure)> = self.broken.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, failure) in due {
            tracing::info!(?now, ?failure, "mended");
            match failure {
                Failure::Killed(host) => self.network.start(host),
                Failure::Stopped(host) => self.network.thaw(host),
                Failure::Cut(cable) => self.network.mend(cable),
                Failure::Reset(_) => {}
            }
        }
    }

    /// Breaks something that leaves a way.
    fn fail(&mut self) {
        let cables = self.network.cables();
        let relay = 2 + self.below(self.network.hosts().len() - 2);
        let cable = self.below(cables.len());
        let failure = match self.below(4) {
            0 => Failure::Killed(relay),
            1 => Failure::Stopped(relay),
            2 => Failure::Cut(cable),
            _ => Failure::Reset(cable),
        };
        if !self.leaves_a_way(failure) {
            return;
        }
        match failure {
            Failure::Killed(host) => self.network.kill(host),
            Failure::Stopped(host) => self.network.freeze(host),
            Failure::Cut(cable) => self.network.cut(cable),
            Failure::Reset(cable) => self.network.reset(cable),
        }
        let lasts = FAILURE_LASTS + self.random_time(FAILURE_LASTS * 4);
        self.broken.push((self.network.now().instant + lasts, failure));
        self.outcome.failures += 1;
        self.longest.push(Duration::ZERO);
        tracing::info!(now = ?self.network.now().instant, ?failure, ?lasts, "broken");
    }

    /// Whether there is a way of cables with links once that is broken, too, and it is not broken already.
    fn leaves_a_way(&self, failure: Failure) -> bool {
        if self.broken.iter().any(|(_, broken)| *broken == failure) {
            return false;
        }
        let all: Vec<Failure> = self.broken.iter().map(|(_, broken)| *broken).chain([failure]).collect();
        let works = |(cable, ends): &(usize, [usize; 2])| {
            let hit = all.iter().any(|failure| match *failure {
                Failure::Killed(host) | Failure::Stopped(host) => ends.contains(&host),
                Failure::Cut(broken) | Failure::Reset(broken) => broken == *cable,
            });
            !hit && self.network.is_linked(*cable)
        };
        let left = self.network.cables().into_iter().enumerate().filter(works).map(|(_, ends)| (ends[0], ends[1]));
        Graph::new(self.network.hosts().len(), left).distances(0)[1].is_some()
    }

    /// Takes what the network reports, and moves bytes.
    fn advance(&mut self) {
        for index in 0..self.streams.len() {
            match self.network.take_answer(self.streams[index].want) {
                Some((_, Event::Connected { channel, .. })) => {
                    self.streams[index].ends[0] = Some(channel);
                    self.write(index);
                }
                Some((_, other)) => self.outcome.error = Some(format!("stream {index} not connected: {other:?}")),
                None => {}
            }
        }
        while let Some((host, event)) = self.network.take_channel_event() {
            self.on_event(host, event);
        }
    }

    /// The stream of a channel at a machine.
    fn stream_of(&self, host: usize, channel: ChannelRef) -> Option<usize> {
        self.streams.iter().position(|stream| stream.ends.get(host).is_some_and(|end| *end == Some(channel)))
    }

    /// One report.
    fn on_event(&mut self, host: usize, event: Event) {
        match event {
            Event::Incoming { channel, listener, .. } => {
                let Some(index) = self.streams.iter().position(|stream| stream.listener == Some(listener)) else {
                    return;
                };
                self.streams[index].ends[host] = Some(channel);
                self.network.with_node(host, |node, now| node.accept(now, channel));
                self.write(index);
            }
            Event::Readable(channel) | Event::Finished(channel) => {
                let finished = matches!(event, Event::Finished(_));
                if let Some(index) = self.stream_of(host, channel) {
                    self.read(index, channel, finished);
                }
            }
            Event::Writable(channel) => {
                if let Some(index) = self.stream_of(host, channel) {
                    self.write(index);
                }
            }
            Event::Reset { lost, .. } => {
                self.outcome.error = Some(format!("reset at machine {host}, lost: {lost}"));
            }
            _ => {}
        }
    }

    /// Writes what a stream has room for.
    fn write(&mut self, index: usize) {
        let from = self.streams[index].from;
        let Some(channel) = self.streams[index].ends[from] else { return };
        while self.streams[index].sent < self.len {
            let (sent, end) = (self.streams[index].sent, self.len.min(self.streams[index].sent + CHUNK_LEN));
            let chunk: Bytes = (sent..end).map(|place| byte_at(index, place)).collect::<BytesMut>().freeze();
            let offered = chunk.len();
            let taken = self.network.with_node(from, |node, now| node.write(now, channel, chunk)).flatten();
            let Some(taken) = taken else {
                self.outcome.error = Some(format!("stream {index} is gone at its sender"));
                return;
            };
            self.streams[index].sent += taken as u64;
            if taken < offered {
                return;
            }
        }
        self.network.with_node(from, |node, now| node.finish(now, channel));
    }

    /// Reads and compares what came; the reader has nothing to say and finishes, too.
    fn read(&mut self, index: usize, channel: ChannelRef, finished: bool) {
        let to = 1 - self.streams[index].from;
        if self.streams[index].ends[to] != Some(channel) {
            return;
        }
        while let Some(Some(chunk)) = self.network.with_node(to, |node, now| node.read(now, channel)) {
            self.note_byte();
            for byte in chunk {
                let place = self.streams[index].received;
                if byte != byte_at(index, place) {
                    self.outcome.error = Some(format!("byte {place} of stream {index} is not what was sent there"));
                    return;
                }
                self.streams[index].received += 1;
            }
        }
        if finished {
            self.streams[index].finished = true;
            let received = self.streams[index].received;
            if received != self.len {
                self.outcome.error = Some(format!("stream {index} ended after {received} of {} bytes", self.len));
            }
        }
    }
}
