//! Listeners of the front ends.

use std::collections::HashMap;

use tarnet_core::session::{ChannelRef, ListenerId, Refusal};
use tokio::sync::{mpsc, oneshot};

use super::Engine;
use crate::channel::Channel;
use crate::handle::{BACKLOG_LEN_MAX, Decision, Incoming, ListenError, ListenRequest, Listener};

/// What the node calls a listener, and where its connections go.
pub struct Listeners {
    decide: mpsc::Sender<(ChannelRef, Decision)>,
    by_id: HashMap<ListenerId, mpsc::Sender<Incoming>>,
}

impl Listeners {
    /// No listeners. Decisions come back through `decide`.
    pub fn new(decide: mpsc::Sender<(ChannelRef, Decision)>) -> Self {
        Self { decide, by_id: HashMap::new() }
    }
}

impl Engine {
    /// Starts to listen.
    pub(super) fn listen(&mut self, request: ListenRequest) -> Result<Listener, ListenError> {
        self.sweep_listeners();
        let owner = self.identities.owner(&request.identity, self.node.me()).ok_or(ListenError::UnknownIdentity)?;
        let listen = tarnet_core::session::Listen {
            owner,
            label: request.label,
            port: request.port,
            mode: request.mode,
            allow: request.allow,
            await_caller: request.await_caller,
            channels_max: request.connections_max,
        };
        let id = self.node.listen(listen).map_err(|error| match error {
            tarnet_core::session::ListenError::Taken => ListenError::Taken,
            tarnet_core::session::ListenError::TooMany => ListenError::TooMany,
            tarnet_core::session::ListenError::UnknownOwner => ListenError::UnknownIdentity,
        })?;
        let (sender, incoming) = mpsc::channel(BACKLOG_LEN_MAX);
        self.listeners.by_id.insert(id, sender);
        Ok(Listener { incoming })
    }

    /// Ends listeners whose front end has dropped them.
    pub(super) fn sweep_listeners(&mut self) {
        let gone: Vec<ListenerId> =
            self.listeners.by_id.iter().filter(|(_, sender)| sender.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.listeners.by_id.remove(&id);
            self.node.unlisten(id);
        }
    }

    /// Somebody opens a channel: the front end decides in its own time.
    pub(super) fn on_incoming(
        &mut self,
        channel: ChannelRef,
        listener: ListenerId,
        caller: Option<tarnet_core::crypto::ServiceId>,
    ) {
        let now = self.clock.now();
        let (decide, decision) = oneshot::channel();
        let Some(sender) = self.listeners.by_id.get(&listener) else {
            return self.node.refuse(now, channel, Refusal::NoListener);
        };
        match sender.try_send(Incoming { caller, decide }) {
            Ok(()) => {
                let decided = self.listeners.decide.clone();
                tokio::spawn(async move {
                    let decision = decision.await.unwrap_or(Decision::Refuse(Refusal::LocalUnreachable));
                    let _ = decided.send((channel, decision)).await;
                });
            }
            Err(mpsc::error::TrySendError::Full(_)) => self.node.refuse(now, channel, Refusal::TooMany),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.node.refuse(now, channel, Refusal::NoListener);
                self.sweep_listeners();
            }
        }
    }

    /// The front end has decided.
    pub(super) fn on_decision(&mut self, channel: ChannelRef, decision: Decision) {
        let now = self.clock.now();
        match decision {
            Decision::Refuse(why) => self.node.refuse(now, channel, why),
            Decision::Accept(place) => {
                self.node.accept(now, channel);
                self.hand_over(channel, |front: Channel| place.send(front).is_ok());
            }
        }
    }

    /// Gives a channel to a front end; resets it when nobody is there any more.
    pub(super) fn hand_over(&mut self, channel: ChannelRef, give: impl FnOnce(Channel) -> bool) {
        let now = self.clock.now();
        let front = self.channels.attach(channel);
        // A channel that could not be given is dropped by `give`, which resets it.
        if give(front) {
            self.channels.on_readable(now, &mut self.node, channel);
        }
    }
}
