//! Bytes between front ends' channels and the node's.

use std::collections::HashMap;

use bytes::Buf;
use tarnet_core::dht::MemoryStore;
use tarnet_core::node::Node;
use tarnet_core::session::ChannelRef;
use tarnet_core::time::Now;

use crate::channel::{Channel, ChannelEnd, ChannelError, ChannelKey, Kicks, channel};

/// One channel.
struct Entry {
    node: ChannelRef,
    end: ChannelEnd,
    /// Our direction was finished in the session.
    finished: bool,
}

/// All channels that front ends hold.
pub struct Channels {
    kicks: Kicks,
    next: u64,
    by_key: HashMap<ChannelKey, Entry>,
    by_ref: HashMap<ChannelRef, ChannelKey>,
}

impl Channels {
    /// No channels. Front ends wake the engine through `kicks`.
    pub fn new(kicks: Kicks) -> Self {
        Self { kicks, next: 0, by_key: HashMap::new(), by_ref: HashMap::new() }
    }

    /// The front end's side of a channel of the node.
    pub fn attach(&mut self, node: ChannelRef) -> Channel {
        self.next += 1;
        let key = ChannelKey(self.next);
        let (front, end) = channel(key, self.kicks.clone());
        self.by_key.insert(key, Entry { node, end, finished: false });
        self.by_ref.insert(node, key);
        front
    }

    /// A front end has something for us, or room again.
    pub fn on_kick(&mut self, now: Now, node: &mut Node<MemoryStore>, key: ChannelKey) {
        let Some(entry) = self.by_key.get_mut(&key) else { return };
        if entry.end.aborted() {
            node.reset(now, entry.node);
            self.remove(key);
            return;
        }
        up(now, node, entry);
        down(now, node, entry);
    }

    /// Looks at every channel if a wake-up was missed: the queue was full.
    pub fn sweep(&mut self, now: Now, node: &mut Node<MemoryStore>) {
        if self.kicks.take_missed() {
            let keys: Vec<ChannelKey> = self.by_key.keys().copied().collect();
            for key in keys {
                self.on_kick(now, node, key);
            }
        }
    }

    /// The session has room to write.
    pub fn on_writable(&mut self, now: Now, node: &mut Node<MemoryStore>, channel: ChannelRef) {
        if let Some(entry) = self.entry(channel) {
            up(now, node, entry);
        }
    }

    /// The session has something to read.
    pub fn on_readable(&mut self, now: Now, node: &mut Node<MemoryStore>, channel: ChannelRef) {
        if let Some(entry) = self.entry(channel) {
            down(now, node, entry);
        }
    }

    /// The far side has finished, and everything was read.
    pub fn on_finished(&mut self, channel: ChannelRef) {
        if let Some(entry) = self.entry(channel) {
            entry.end.finish();
        }
    }

    /// The channel is gone.
    pub fn on_end(&mut self, channel: ChannelRef, error: Option<ChannelError>) {
        let Some(key) = self.by_ref.get(&channel).copied() else { return };
        if let (Some(error), Some(entry)) = (error, self.by_key.get_mut(&key)) {
            entry.end.fail(error);
        }
        self.remove(key);
    }

    /// The entry of a channel of the node.
    fn entry(&mut self, channel: ChannelRef) -> Option<&mut Entry> {
        self.by_key.get_mut(self.by_ref.get(&channel)?)
    }

    /// Forgets a channel.
    fn remove(&mut self, key: ChannelKey) {
        if let Some(entry) = self.by_key.remove(&key) {
            self.by_ref.remove(&entry.node);
        }
    }
}

/// From the front end into the session, as much as it takes.
fn up(now: Now, node: &mut Node<MemoryStore>, entry: &mut Entry) {
    while let Some(mut chunk) = entry.end.take() {
        let Some(taken) = node.write(now, entry.node, chunk.clone()) else { return };
        if taken < chunk.len() {
            chunk.advance(taken);
            entry.end.untake(chunk);
            return;
        }
    }
    if !entry.finished && entry.end.finished() {
        entry.finished = true;
        node.finish(now, entry.node);
    }
}

/// From the session to the front end, as much as it takes.
fn down(now: Now, node: &mut Node<MemoryStore>, entry: &mut Entry) {
    while entry.end.room() > 0 {
        let Some(chunk) = node.read(now, entry.node) else { return };
        entry.end.give(chunk);
    }
}
