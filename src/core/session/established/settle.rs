//! What follows when something was read, arrived, was lost, or ended: credit, room,
//! queues, and the end of channels. The only place that adds and removes channels.

use super::Established;
use super::channel::{Channel, SendHalf, State};
use super::event::{ChannelId, Event};
use super::limits::IDLE_AFTER;
use super::sent::{Control, SentFrame};
use crate::time::Instant;

impl Established {
    /// Adds a channel.
    pub(super) fn add_channel(&mut self, now: Instant, id: ChannelId, channel: Channel) {
        self.channels.insert(id, channel);
        self.note_idle(now);
    }

    /// Removes a channel: its credit and buffers go back to the session.
    pub(super) fn remove_channel(&mut self, now: Instant, id: ChannelId) {
        let Some(channel) = self.channels.remove(&id) else { return };
        self.send_buffered -= channel.buffered();
        self.send_unsent -= channel.unsent();
        self.flow.tuned -= channel.window.tuned();
        self.counters.messages_dropped += channel.dropped();
        self.give_back(channel.session_unread());
        self.note_idle(now);
    }

    /// Keeps the two times that depend on whether there are channels.
    pub(super) fn note_idle(&mut self, now: Instant) {
        if self.channels.is_empty() {
            if self.busy_since.take().is_some() {
                self.idle_at = Some(now + IDLE_AFTER);
            }
        } else if self.busy_since.is_none() {
            self.busy_since = Some(now);
            self.carriers.iter_mut().for_each(|carrier| carrier.pinged_at = now);
            self.idle_at = None;
        }
    }

    /// Changes a channel and keeps the session's sums.
    pub(super) fn edit<R>(&mut self, id: ChannelId, change: impl FnOnce(&mut Channel) -> R) -> Option<R> {
        let channel = self.channels.get_mut(&id)?;
        let (buffered, unsent, consumed) = (channel.buffered(), channel.unsent(), channel.session_consumed());
        let result = change(channel);
        self.send_buffered = self.send_buffered - buffered + channel.buffered();
        self.send_unsent = self.send_unsent - unsent + channel.unsent();
        let read = channel.session_consumed() - consumed;
        self.give_back(read);
        Some(result)
    }

    /// Gives session credit back.
    fn give_back(&mut self, len: u64) {
        if self.flow.handle_consumed(len) && !self.max_data_queued {
            self.max_data_queued = true;
            self.control.push_back(Control::MaxData);
        }
    }

    /// Puts a channel that has something to send into its queue.
    pub(super) fn enqueue(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.state == State::Open
            && let SendHalf::Messages(messages) = &mut channel.send
            && messages.take_end()
        {
            self.control.push_back(Control::MessagesEnd(id));
        }
        if channel.queued || !channel.wants() {
            return;
        }
        channel.queued = true;
        if channel.interactive() {
            self.interactive.push_back(id);
        } else {
            self.bulk.push_back(id);
        }
    }

    /// After something was read or discarded: gives credit, tells of the end, closes.
    pub(super) fn settle_read(&mut self, now: Instant, id: ChannelId) {
        let rtt = self.rtt_or_guess();
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if !channel.readable() {
            channel.readable_told = false;
        }
        let credit = channel.mode.reliable() && !channel.ended();
        if credit && channel.window.update(now, channel.consumed(), rtt, &mut self.flow) && !channel.max_queued {
            channel.max_queued = true;
            self.control.push_back(Control::MaxChannelData(id));
        }
        self.tell_readable(id);
        self.settle_end(now, id);
    }

    /// Closes a channel of which nothing is left to do.
    pub(super) fn settle_end(&mut self, now: Instant, id: ChannelId) {
        let done = self.channels.get(&id).is_some_and(|channel| channel.state == State::Open && channel.done());
        if done {
            self.remove_channel(now, id);
            self.events.push_back(Event::Closed(id));
        }
    }

    /// Tells a writer that waits of room.
    pub(super) fn tell_writable(&mut self, id: ChannelId) {
        let Some(wanted) = self.channels.get(&id).and_then(|channel| channel.wanted) else { return };
        if self.write_room(id) as u64 >= wanted {
            self.edit(id, |channel| channel.wanted = None);
            self.events.push_back(Event::Writable(id));
        }
    }

    /// Frames arrived.
    pub(super) fn settle_acked(&mut self, now: Instant, frames: &[SentFrame]) {
        for frame in frames {
            match *frame {
                SentFrame::Ack { circuit, largest } => {
                    if let Some(received) = self.received.get_mut(&circuit) {
                        received.handle_ack_seen(largest);
                    }
                }
                SentFrame::Data { channel, offset, len, fin } => self.settle_payload(now, ChannelId(channel), |send| {
                    if let SendHalf::Stream(stream) = send {
                        stream.handle_acked(offset, len, fin);
                    }
                }),
                SentFrame::Message { channel, id, offset, len } => {
                    self.settle_payload(now, ChannelId(channel), |send| {
                        if let SendHalf::Messages(messages) = send {
                            messages.handle_acked(id, offset, len);
                        }
                    })
                }
                SentFrame::Control(control) => self.settle_control(now, control),
            }
        }
    }

    /// Payload of a channel arrived.
    fn settle_payload(&mut self, now: Instant, id: ChannelId, change: impl FnOnce(&mut SendHalf)) {
        self.edit(id, |channel| change(&mut channel.send));
        self.tell_writable(id);
        self.settle_end(now, id);
    }

    /// A small frame arrived.
    fn settle_control(&mut self, now: Instant, control: Control) {
        match control {
            Control::Open(id) => {
                self.edit(id, |channel| channel.open = None);
            }
            Control::MessagesEnd(id) => self.settle_payload(now, id, |send| {
                if let SendHalf::Messages(messages) = send {
                    messages.handle_end_acked();
                }
            }),
            Control::Proof => self.proof = None,
            Control::Opened(_)
            | Control::Refused(..)
            | Control::Reset(..)
            | Control::Stop(_)
            | Control::MaxData
            | Control::MaxChannelData(_)
            | Control::Close(_) => {}
        }
    }

    /// Frames were lost, or are repeated as probes: they travel again, on whatever carrier comes next.
    pub(super) fn settle_lost(&mut self, frames: &[SentFrame]) {
        self.counters.frames_lost += frames.len() as u64;
        for frame in frames {
            match *frame {
                SentFrame::Ack { .. } => {}
                SentFrame::Data { channel, offset, len, fin } => self.requeue_payload(ChannelId(channel), |send| {
                    if let SendHalf::Stream(stream) = send {
                        stream.handle_lost(offset, len, fin);
                    }
                }),
                SentFrame::Message { channel, id, offset, len } => self.requeue_payload(ChannelId(channel), |send| {
                    if let SendHalf::Messages(messages) = send {
                        messages.handle_lost(id, offset, len);
                    }
                }),
                SentFrame::Control(control) => self.requeue_control(control),
            }
        }
    }

    /// Payload of a channel must travel again.
    fn requeue_payload(&mut self, id: ChannelId, change: impl FnOnce(&mut SendHalf)) {
        if let Some(channel) = self.channels.get_mut(&id) {
            change(&mut channel.send);
            self.enqueue(id);
        }
    }

    /// A small frame must travel again, unless what it says is no longer of interest.
    fn requeue_control(&mut self, control: Control) {
        let wanted = match control {
            Control::Open(id) => self.channels.get(&id).is_some_and(|channel| channel.open.is_some()),
            Control::Opened(id) | Control::Stop(id) | Control::MessagesEnd(id) => self.channels.contains_key(&id),
            Control::Refused(..) | Control::Reset(..) => true,
            Control::MaxData => !std::mem::replace(&mut self.max_data_queued, true),
            Control::MaxChannelData(id) => {
                let channel = self.channels.get_mut(&id).filter(|channel| !channel.ended());
                channel.is_some_and(|channel| !std::mem::replace(&mut channel.max_queued, true))
            }
            Control::Proof => self.proof.is_some(),
            Control::Close(_) => false,
        };
        if wanted && self.closed.is_none() {
            self.control.push_back(control);
        }
    }
}
