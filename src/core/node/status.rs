//! The node's state for people, and the calls that pass straight to a machine.

use bytes::Bytes;

use super::Node;
use crate::crypto::PeerId;
use crate::dht::{self, Store};
use crate::link::LinkStatus;
use crate::routing::RouteStatus;
use crate::session::{ChannelRef, Listen, ListenError, ListenerId, Refusal, SessionStatus};
use crate::time::Now;

impl<S: Store> Node<S> {
    /// Every link.
    pub fn link_status(&self) -> impl Iterator<Item = LinkStatus> {
        self.links.links()
    }

    /// Bytes received and sent on links that are up.
    #[must_use]
    pub fn link_traffic(&self) -> (u64, u64) {
        self.links.links().fold((0, 0), |(rx, tx), link| (rx + link.rx_bytes, tx + link.tx_bytes))
    }

    /// The routing table.
    pub fn routes(&self) -> impl Iterator<Item = RouteStatus> {
        self.routing.routes()
    }

    /// Landmarks that routing keeps, and whether this node is one.
    #[must_use]
    pub fn landmarks(&self) -> (usize, bool) {
        self.routing.landmarks()
    }

    /// Landmarks that lead to this node, and those that keep its place.
    #[must_use]
    pub fn home(&self) -> (usize, usize) {
        self.routing.home()
    }

    /// What routing has told neighbours: destinations and distances.
    pub fn told(&self) -> impl Iterator<Item = (PeerId, u16)> {
        self.routing.told()
    }

    /// What routing dropped, refused or sent.
    #[must_use]
    pub fn routing_counters(&self) -> crate::routing::Counters {
        self.routing.counters()
    }

    /// The DHT at a glance.
    #[must_use]
    pub fn dht_status(&self) -> dht::Status {
        self.dht.status()
    }

    /// Whether our clock seems to be wrong, by what comes from others.
    #[must_use]
    pub fn clock_doubt(&self, now: Now) -> Option<dht::ClockDoubt> {
        self.dht.clock_doubt(now)
    }

    /// Every session.
    #[must_use]
    pub fn session_status(&self) -> Vec<SessionStatus> {
        self.sessions.status().collect()
    }

    /// Paths that begin or end here, and that pass through.
    #[must_use]
    pub fn path_counts(&self) -> (usize, usize) {
        (self.paths.own_count(), self.paths.transit_count())
    }

    /// A peer was seen with the hybrid key agreement before: less is refused.
    pub fn set_floor(&mut self, peer: PeerId) {
        self.links.set_floor(peer);
    }

    /// Forgets the least key agreement of a peer.
    pub fn forget_peer(&mut self, peer: PeerId) {
        self.links.forget(&peer);
    }

    /// Listens. See the sessions' table.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen(&mut self, listen: Listen) -> Result<ListenerId, ListenError> {
        self.sessions.listen(listen)
    }

    /// Stops listening; open channels live on.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.sessions.unlisten(listener);
    }

    /// Opens a channel that somebody asked for.
    pub fn accept(&mut self, now: Now, channel: ChannelRef) {
        self.sessions.accept(now, channel);
    }

    /// Refuses a channel that somebody asked for.
    pub fn refuse(&mut self, now: Now, channel: ChannelRef, why: Refusal) {
        self.sessions.refuse(now, channel, why);
    }

    /// Writes to a channel; says how many bytes were taken, or `None` when the channel is gone.
    pub fn write(&mut self, now: Now, channel: ChannelRef, data: Bytes) -> Option<usize> {
        self.sessions.write(now, channel, data).ok()
    }

    /// Reads the next chunk or message of a channel.
    pub fn read(&mut self, now: Now, channel: ChannelRef) -> Option<Bytes> {
        self.sessions.read(now, channel)
    }

    /// Ends our direction of a channel.
    pub fn finish(&mut self, now: Now, channel: ChannelRef) {
        self.sessions.finish(now, channel);
    }

    /// Breaks a channel both ways.
    pub fn reset(&mut self, now: Now, channel: ChannelRef) {
        self.sessions.reset(now, channel);
    }
}
