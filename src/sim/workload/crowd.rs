//! One bulk transfer, and beside it many callers who ask for little and wait for the answer:
//! how long they wait, and what the transfer gets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tarnet_core::node::{Event, Target, WantId, Wanted};
use tarnet_core::session::{ChannelRef, Listen, ListenerId, Mode, Owner};
use tarnet_core::time::Instant;

use super::names::port;
use crate::network::Network;

/// Bytes of a question, and of its answer.
const CALL_LEN: usize = 200;
/// How long a caller thinks before it asks again.
const THINK_TIME: Duration = Duration::from_millis(50);
/// Bytes offered to the bulk channel at once.
const CHUNK_LEN: usize = 64 * 1024;

/// One caller's channel.
struct Caller {
    host: usize,
    channel: ChannelRef,
    /// When it asked, while it waits; else when it asks next.
    at: Instant,
    /// Bytes of the answer that are missing; none: it thinks.
    missing: usize,
}

/// The transfer and the callers.
pub struct Crowd {
    server: usize,
    listeners: [ListenerId; 2],
    /// Channels under way: who asked, and whether it is the bulk one.
    opening: BTreeMap<WantId, (usize, bool)>,
    /// The bulk channel's sending end.
    bulk: Option<(usize, ChannelRef)>,
    /// Channels at the server, and whether they are answered.
    served: BTreeMap<ChannelRef, bool>,
    callers: Vec<Caller>,
    /// Bytes of the transfer that came.
    pub received: u64,
    /// How long callers waited for each answer.
    pub waits: Vec<Duration>,
}

/// The port of the transfer, and of the callers.
const PORTS: [&str; 2] = ["bulk", "call"];

impl Crowd {
    /// Has `server` listen. Nobody asks yet.
    ///
    /// # Panics
    /// The server is off, or listens already.
    #[must_use]
    pub fn new(network: &mut Network, server: usize) -> Self {
        let service = network.hosts()[server].service;
        let listeners = PORTS.map(|name| {
            let listen = Listen {
                owner: Owner::Service(service),
                label: None,
                port: port(name),
                mode: Mode::ReliableOrdered,
                allow: Vec::new(),
                await_caller: false,
                channels_max: 0,
            };
            let listener = network.with_node(server, |node, _| node.listen(listen).expect("the port is free"));
            listener.expect("the server is on")
        });
        Self {
            server,
            listeners,
            opening: BTreeMap::new(),
            bulk: None,
            served: BTreeMap::new(),
            callers: Vec::new(),
            received: 0,
            waits: Vec::new(),
        }
    }

    /// Has `host` send to the server as fast as it can.
    pub fn start_bulk(&mut self, network: &mut Network, host: usize) {
        self.connect(network, host, true);
    }

    /// Has `host` make so many callers.
    pub fn start_callers(&mut self, network: &mut Network, host: usize, count: usize) {
        (0..count).for_each(|_| self.connect(network, host, false));
    }

    /// Lets time pass.
    pub fn run(&mut self, network: &mut Network, time: Duration) {
        let end = network.now().instant + time;
        loop {
            self.take_answers(network);
            while let Some((host, event)) = network.take_channel_event() {
                self.on_event(network, host, event);
            }
            self.ask(network);
            let thinking = self.callers.iter().filter(|caller| caller.missing == 0).map(|caller| caller.at);
            let next = thinking.fold(end, Instant::min);
            if !network.step(next) {
                if next == end {
                    return network.run_until(end);
                }
                network.run_until(next);
            }
        }
    }

    /// The wait that so many percent of the answers did not exceed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1))).copied().unwrap_or(Duration::MAX)
    }

    /// Opens a channel to the server.
    fn connect(&mut self, network: &mut Network, host: usize, bulk: bool) {
        let (want, acting) = (network.next_want(), network.hosts()[host].service);
        let target = Target::Service(network.hosts()[self.server].service, None);
        let name = PORTS[usize::from(!bulk)];
        let wanted = Wanted { port: port(name), mode: Mode::ReliableOrdered, early: Bytes::new() };
        network.with_node(host, |node, now| node.connect(now, want, acting, target, wanted));
        self.opening.insert(want, (host, bulk));
    }

    /// Takes the channels that were opened.
    fn take_answers(&mut self, network: &mut Network) {
        let mut opened = Vec::new();
        self.opening.retain(|want, (host, bulk)| match network.take_answer(*want) {
            Some((at, Event::Connected { channel, .. })) => {
                opened.push((*host, *bulk, channel, at));
                false
            }
            Some((_, other)) => panic!("not connected: {other:?}"),
            None => true,
        });
        for (host, bulk, channel, at) in opened {
            if bulk {
                self.bulk = Some((host, channel));
                self.write_bulk(network);
            } else {
                self.callers.push(Caller { host, channel, at, missing: 0 });
            }
        }
    }

    /// One report.
    fn on_event(&mut self, network: &mut Network, host: usize, event: Event) {
        match event {
            Event::Incoming { channel, listener, .. } => {
                self.served.insert(channel, listener == self.listeners[1]);
                network.with_node(host, |node, now| node.accept(now, channel));
            }
            Event::Readable(channel) if host == self.server => self.serve(network, channel),
            Event::Readable(channel) => self.take_reply(network, host, channel),
            Event::Writable(channel) if self.bulk == Some((host, channel)) => self.write_bulk(network),
            Event::Reset { .. } => panic!("a channel was reset at machine {host}"),
            _ => {}
        }
    }

    /// Reads at the server; gives callers back what they said.
    fn serve(&mut self, network: &mut Network, channel: ChannelRef) {
        let answer = self.served.get(&channel).copied().unwrap_or(false);
        while let Some(Some(chunk)) = network.with_node(self.server, |node, now| node.read(now, channel)) {
            if answer {
                network.with_node(self.server, |node, now| node.write(now, channel, chunk));
            } else {
                self.received += chunk.len() as u64;
            }
        }
    }

    /// Reads at a caller.
    fn take_reply(&mut self, network: &mut Network, host: usize, channel: ChannelRef) {
        let found = self.callers.iter_mut().find(|caller| (caller.host, caller.channel) == (host, channel));
        let Some(caller) = found else { return };
        while let Some(Some(chunk)) = network.with_node(host, |node, now| node.read(now, channel)) {
            caller.missing -= chunk.len();
            if caller.missing == 0 {
                let now = network.now().instant;
                self.waits.push(now - caller.at);
                caller.at = now + THINK_TIME;
            }
        }
    }

    /// Asks for every caller that has thought enough.
    fn ask(&mut self, network: &mut Network) {
        let now = network.now().instant;
        for caller in self.callers.iter_mut().filter(|caller| caller.missing == 0 && caller.at <= now) {
            (caller.missing, caller.at) = (CALL_LEN, now);
            let (channel, question) = (caller.channel, Bytes::from_static(&[7; CALL_LEN]));
            network.with_node(caller.host, |node, now| node.write(now, channel, question));
        }
    }

    /// Writes what there is room for.
    fn write_bulk(&mut self, network: &mut Network) {
        let Some((host, channel)) = self.bulk else { return };
        loop {
            let chunk = BytesMut::zeroed(CHUNK_LEN).freeze();
            let taken = network.with_node(host, |node, now| node.write(now, channel, chunk)).flatten();
            if taken.is_none_or(|taken| taken < CHUNK_LEN) {
                return;
            }
        }
    }
}
