//! The network: machines, cables, connections, and the queue of what happens next.
//!
//! A cable's first end keeps dialling the second while there is no connection, with the
//! back-off of the daemon. Each connection end plays the daemon's connection task: it holds
//! sealer and opener, answers every batch with "ready" once the wire has taken it, and passes
//! frames on as handshake or opened.
//!
//! A machine that is killed is a process that died: its kernel closes its connections, and
//! the far ends hear of it after the delay. A cable that is cut is silent: nothing passes any
//! more, and each end must find out by itself; what was in it is lost with its connection.
//!
//! Bounds: connections are never reused and their numbers never repeat; what is in flight is
//! bounded by the credit of two batches per link end.

mod conns;
mod faults;
mod host;
mod hostile;
mod pipe;
mod queue;
mod reach;
mod watch;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use tarnet_core::crypto::PeerId;
use tarnet_core::node::{Event, Input, Output, Target, WantId};
use tarnet_core::rng::Rng;
use tarnet_core::time::{Instant, Now, UnixTime};

pub use host::{Host, Kept, SimNode, Traffic};
pub use hostile::Lie;
pub use pipe::{MILLION, Shape};
pub use reach::Reach;
pub use watch::{Change, Noise};

use conns::{Cable, Conn, Happening};
use queue::Queue;
use reach::address;
use watch::Watch;

use crate::delays::Delays;
use crate::measure::Graph;
use crate::topology::Topology;

/// The wall clock at the virtual beginning: a date at which certificates of tests are valid.
const UNIX_START: u64 = 1_800_000_000;

/// Pause before a node that wants to be asked again at once, after it just was.
const OVERDUE_PAUSE: Duration = Duration::from_millis(1);

/// Messages of one kind that all machines have sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// How many.
    pub messages: u64,
    /// Their bytes, before padding and tags.
    pub bytes: u64,
}

/// What was sent, by kind of message.
pub type Kinds = BTreeMap<u8, Sent>;

/// Everything.
pub struct Network {
    now: Instant,
    queue: Queue<Happening>,
    hosts: Vec<Host>,
    cables: Vec<Cable>,
    conns: Vec<Conn>,
    rng: Rng,
    wants: u64,
    answers: BTreeMap<WantId, (Instant, Event)>,
    channel_events: VecDeque<(usize, Event)>,
    /// Nodes whose machine another took the place of.
    gone: HashSet<PeerId>,
    kept: Kept,
    watch: Option<Watch>,
    /// How often a node asked for a time that had passed, right after it was given that time.
    pub overdue: u64,
    /// What was sent over links, by kind of message.
    pub kinds: Kinds,
    /// Links that went down since the beginning.
    pub links_lost: u64,
    /// Whether sockets take what their node allows before the wire does; else a batch is written when it is sent.
    pub sockets: bool,
}

impl Network {
    /// Machines and cables of a topology, all on at time 0, none connected yet.
    #[must_use]
    pub fn new(topology: &Topology, rng: Rng, kept: impl Into<Kept>) -> Self {
        Self::with_nats(topology, rng, kept, None)
    }

    /// The same where so many of a million machines are behind NATs, and the others can be dialled.
    #[must_use]
    pub fn with_nats(topology: &Topology, mut rng: Rng, kept: impl Into<Kept>, natted: Option<u32>) -> Self {
        let kept = kept.into();
        let host = |i| {
            let mut rng = rng.fork(&format!("host {i}"));
            // Drawn only if asked for: a run without NATs must not change.
            let reach = natted.map_or(Reach::Cabled, |parts| Reach::draw(parts, &mut rng.fork("reach")));
            Host::new(rng, kept, reach, address(i))
        };
        let mut hosts: Vec<Host> = (0..topology.nodes).map(host).collect();
        for (cable, edge) in topology.edges.iter().enumerate() {
            hosts[edge.from].cables.push(cable);
            hosts[edge.to].cables.push(cable);
        }
        let mut network = Self {
            now: Instant::ZERO,
            queue: Queue::default(),
            hosts,
            cables: topology.edges.iter().map(Cable::new).collect(),
            conns: Vec::new(),
            rng: rng.fork("world"),
            wants: 0,
            answers: BTreeMap::new(),
            channel_events: VecDeque::new(),
            gone: HashSet::new(),
            kept,
            watch: None,
            overdue: 0,
            kinds: Kinds::new(),
            links_lost: 0,
            sockets: false,
        };
        for host in 0..network.hosts.len() {
            network.start(host);
        }
        network
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { instant: self.now, unix: UnixTime(UNIX_START + self.now.as_micros() / 1_000_000) }
    }

    /// The machines.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The node of a machine, if it is on.
    #[must_use]
    pub fn node(&self, host: usize) -> Option<&SimNode> {
        self.hosts[host].node.as_deref()
    }

    /// Whether a node lived once and never will again.
    #[must_use]
    pub fn is_gone(&self, peer: &PeerId) -> bool {
        self.gone.contains(peer)
    }

    /// The machine of a node.
    #[must_use]
    pub fn host_of(&self, peer: &PeerId) -> Option<usize> {
        self.hosts.iter().position(|host| host.peer == *peer)
    }

    /// Working cables between living machines that pass on what they should.
    #[must_use]
    pub fn graph(&self) -> Graph {
        let alive = |cable: &&Cable| cable.works() && cable.ends.iter().all(|&end| self.forwards(end));
        Graph::new(self.hosts.len(), self.cables.iter().filter(alive).map(|cable| (cable.ends[0], cable.ends[1])))
    }

    /// The same cables with their delays.
    #[must_use]
    pub fn delays(&self) -> Delays {
        let alive = |cable: &&Cable| cable.works() && cable.ends.iter().all(|&end| self.hosts[end].is_alive());
        let edge = |cable: &Cable| (cable.ends[0], cable.ends[1], cable.shape.delay);
        Delays::new(self.hosts.len(), self.cables.iter().filter(alive).map(edge))
    }

    /// How many things were ever queued: a fingerprint of the run that costs nothing.
    #[must_use]
    pub fn happenings(&self) -> u64 {
        self.queue.count()
    }

    /// Lets everything happen until `end`, and makes it that time.
    pub fn run_until(&mut self, end: Instant) {
        while self.step(end) {}
        self.now = self.now.max(end);
    }

    /// Lets everything happen for `time`.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets the next thing happen, unless it lies behind `end`. Says whether it did.
    pub fn step(&mut self, end: Instant) -> bool {
        if self.queue.next().is_none_or(|next| next > end) {
            return false;
        }
        if let Some((at, what)) = self.queue.pop() {
            self.now = at;
            self.happen(what);
        }
        true
    }

    /// Does something with a node, then what follows from it. `None` when the machine is off.
    pub fn with_node<R>(&mut self, host: usize, call: impl FnOnce(&mut SimNode, Now) -> R) -> Option<R> {
        let now = self.now();
        let result = call(self.hosts[host].node.as_mut()?, now);
        self.drain(host);
        Some(result)
    }

    /// A number for a request, never used before.
    pub fn next_want(&mut self) -> WantId {
        self.wants += 1;
        WantId(self.wants)
    }

    /// Has a machine ping a target as its identity; the answer comes by [`Self::take_answer`].
    pub fn ping(&mut self, host: usize, target: Target) -> WantId {
        let (want, acting) = (self.next_want(), self.hosts[host].service);
        self.with_node(host, |node, now| node.ping(now, want, acting, target));
        want
    }

    /// The answer to a request, if it is there, and when it came.
    pub fn take_answer(&mut self, want: WantId) -> Option<(Instant, Event)> {
        self.answers.remove(&want)
    }

    /// What happened to channels and was not asked for yet, with the machine it happened to.
    pub fn take_channel_event(&mut self) -> Option<(usize, Event)> {
        self.channel_events.pop_front()
    }

    /// Gives a node an input, then does what it wants.
    fn feed(&mut self, host: usize, input: Input) {
        let now = self.now();
        if self.hosts[host].frozen {
            return self.hosts[host].waiting.push(input);
        }
        if let Some(node) = &mut self.hosts[host].node {
            node.handle_input(now, input);
            self.drain(host);
        }
    }

    /// Does what a node wants until it only waits.
    fn drain(&mut self, host: usize) {
        let now = self.now();
        loop {
            let Some(node) = &mut self.hosts[host].node else { return };
            match node.poll_output(now) {
                Output::Transmit(transmit) => self.transmit(host, transmit),
                Output::Event(event) => self.on_event(host, event),
                Output::Timeout(deadline) => {
                    self.hosts[host].deadline = deadline;
                    return self.plan_wake(host);
                }
            }
        }
    }

    /// Queues a wake-up if none comes early enough.
    fn plan_wake(&mut self, host: usize) {
        let Some(deadline) = self.hosts[host].deadline else { return };
        let at = deadline.max(self.now);
        if self.hosts[host].wake.is_none_or(|wake| wake > at) {
            self.hosts[host].wake = Some(at);
            self.queue.push(at, Happening::Wake { host });
        }
    }

    /// A wake-up: early ones, of a deadline that has moved, only plan the next.
    fn on_wake(&mut self, host: usize) {
        if self.hosts[host].wake != Some(self.now) {
            return;
        }
        self.hosts[host].wake = None;
        if self.hosts[host].frozen {
            return;
        }
        if self.hosts[host].deadline.is_none_or(|deadline| deadline > self.now) {
            return self.plan_wake(host);
        }
        self.hosts[host].deadline = None;
        let now = self.now();
        // A node that stays overdue must not stop the time: it is counted, and asked again a little later.
        self.hosts[host].wake = Some(self.now + OVERDUE_PAUSE);
        if let Some(node) = &mut self.hosts[host].node {
            node.handle_input(now, Input::Timeout);
            self.drain(host);
        }
        self.hosts[host].wake = None;
        match self.hosts[host].deadline {
            Some(deadline) if deadline <= self.now => {
                self.overdue += 1;
                self.hosts[host].deadline = Some(self.now + OVERDUE_PAUSE);
            }
            _ => {}
        }
        self.plan_wake(host);
    }

    /// Notes what a node reports.
    fn on_event(&mut self, host: usize, event: Event) {
        match event {
            Event::Persist(persist) => self.hosts[host].disk.write(persist),
            Event::LinkUp { conn, .. } => self.on_link_up(conn),
            Event::LinkDown { .. } => self.links_lost += 1,
            Event::Dialable { peer, addresses } => self.offer(host, peer, &addresses),
            Event::PeerSeen { .. } | Event::ConnFailed { .. } => {}
            Event::Resolved { want, .. }
            | Event::Connected { want, .. }
            | Event::Failed { want, .. }
            | Event::Pong { want, .. }
            | Event::Stored { want, .. }
            | Event::Content { want, .. }
            | Event::Signed { want, .. }
            | Event::Hello { want, .. } => {
                self.answers.insert(want, (self.now, event));
            }
            Event::Incoming { .. }
            | Event::Readable(_)
            | Event::Writable(_)
            | Event::Finished(_)
            | Event::Reset { .. }
            | Event::Closed(_) => self.channel_events.push_back((host, event)),
        }
    }
}
