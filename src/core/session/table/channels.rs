//! What listeners and connectors do with their channels. A channel that is gone takes
//! nothing and gives nothing.

use bytes::Bytes;

use super::{Channel, ChannelRef, Session, SessionId, Sessions};
use crate::session::established::WriteError;
use crate::session::{ChannelId, Refusal};
use crate::time::Now;

impl Sessions {
    /// The session of an open channel.
    fn open_session(&mut self, at: ChannelRef) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&at.session)?;
        matches!(session.channels.get(&at.channel), Some(Channel::Open(_))).then_some(session)
    }

    /// Takes the decision about an incoming channel, once.
    fn decide(&mut self, at: ChannelRef) -> Option<(SessionId, ChannelId)> {
        let slot = self.sessions.get_mut(&at.session)?.channels.get_mut(&at.channel)?;
        let Channel::Undecided(listener) = *slot else { return None };
        *slot = Channel::Open(Some(listener));
        Some((at.session, at.channel))
    }

    /// Accepts an incoming channel.
    pub fn accept(&mut self, now: Now, channel: ChannelRef) {
        let Some((id, channel)) = self.decide(channel) else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.machine.accept(now, channel);
        }
        self.settle(now, id);
    }

    /// Refuses an incoming channel.
    pub fn refuse(&mut self, now: Now, channel: ChannelRef, why: Refusal) {
        let Some((id, channel)) = self.decide(channel) else { return };
        self.remove_channel(id, channel);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.machine.refuse(now, channel, why);
        }
        self.settle(now, id);
    }

    /// Writes: `ro` takes as many bytes as there is room for, other modes all or none; `Writable` follows when there is room.
    ///
    /// # Errors
    /// The channel is gone or finished, or the message too long.
    pub fn write(&mut self, now: Now, channel: ChannelRef, bytes: Bytes) -> Result<usize, WriteError> {
        let session = self.open_session(channel).ok_or(WriteError::Closed)?;
        let taken = session.machine.write(channel.channel, bytes)?;
        self.settle(now, channel.session);
        Ok(taken)
    }

    /// Bytes that a channel takes now.
    #[must_use]
    pub fn write_room(&self, channel: ChannelRef) -> usize {
        self.sessions.get(&channel.session).map_or(0, |session| session.machine.write_room(channel.channel))
    }

    /// The next bytes or message.
    pub fn read(&mut self, now: Now, channel: ChannelRef) -> Option<Bytes> {
        let bytes = self.open_session(channel)?.machine.read(now, channel.channel);
        self.settle(now, channel.session);
        bytes
    }

    /// No more will be written.
    pub fn finish(&mut self, now: Now, channel: ChannelRef) {
        if let Some(session) = self.open_session(channel) {
            session.machine.finish(now, channel.channel);
            self.settle(now, channel.session);
        }
    }

    /// Nobody will read any more.
    pub fn stop(&mut self, now: Now, channel: ChannelRef) {
        if let Some(session) = self.open_session(channel) {
            session.machine.stop(now, channel.channel);
            self.settle(now, channel.session);
        }
    }

    /// Breaks a channel off. No event follows.
    pub fn reset(&mut self, now: Now, channel: ChannelRef) {
        if self.open_session(channel).is_none() {
            return;
        }
        self.remove_channel(channel.session, channel.channel);
        if let Some(session) = self.sessions.get_mut(&channel.session) {
            session.machine.reset(now, channel.channel);
        }
        self.settle(now, channel.session);
    }
}
