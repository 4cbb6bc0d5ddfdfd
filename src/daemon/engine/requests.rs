//! Requests of the front ends, and their answers.

use std::collections::HashMap;

use tarnet_core::crypto::{DhtKey, ServiceId};
use tarnet_core::node::{Event, Target as NodeTarget, WantError, WantId, Wanted};
use tokio::sync::oneshot;

use super::Engine;
use crate::admin::{AdminError, Reply};
use crate::channel::Channel;
use crate::handle::{
    ConnectError, ConnectRequest, Pong, Request, ResolveError, Resolved, ResolvedRecord, Target, TraceStep,
};

/// Where an answer goes.
pub(super) enum Waiting {
    /// To a resolver.
    Resolve(oneshot::Sender<Result<Resolved, ResolveError>>),
    /// To whoever wants a channel.
    Connect(oneshot::Sender<Result<Channel, ConnectError>>),
    /// To a ping.
    Ping(oneshot::Sender<Result<Pong, ConnectError>>),
    /// To `dht put`: the printed hash.
    Put(String, Reply<String>),
    /// To `dht put-signed`.
    PutSigned(Reply<DhtKey>),
    /// To `dht get`.
    Content(Reply<Vec<u8>>),
    /// To `dht get-signed`.
    Signed(Reply<Vec<(ServiceId, Vec<u8>)>>),
    /// To `dht hello`.
    Hello(Reply<tarnet_api::Hello>),
}

/// Requests under way.
#[derive(Default)]
pub(super) struct Requests {
    next: u64,
    waiting: HashMap<WantId, Waiting>,
}

impl Requests {
    /// A number for a request.
    pub(super) fn add(&mut self, waiting: Waiting) -> WantId {
        let want = self.reserve();
        self.wait(want, waiting);
        want
    }

    /// A number for a request that may yet be refused.
    pub(super) fn reserve(&mut self) -> WantId {
        self.next += 1;
        WantId(self.next)
    }

    /// Notes who waits for a request.
    pub(super) fn wait(&mut self, want: WantId, waiting: Waiting) {
        self.waiting.insert(want, waiting);
    }
}

/// A failure as a connecting front end sees it.
fn connect_error(error: WantError) -> ConnectError {
    match error {
        WantError::UnknownIdentity => ConnectError::UnknownIdentity,
        WantError::BadName | WantError::NoSuchName | WantError::Loop => ConnectError::NoSuchName,
        WantError::NameTimeout => ConnectError::NameTimeout,
        WantError::NoRoute => ConnectError::NoRoute,
        WantError::Refused(why) => ConnectError::Refused(why),
        WantError::Timeout => ConnectError::Timeout,
        WantError::TooMany | WantError::TooLong => ConnectError::TooMany,
    }
}

/// A failure as a resolver sees it.
fn resolve_error(error: WantError) -> ResolveError {
    match error {
        WantError::UnknownIdentity => ResolveError::UnknownIdentity,
        WantError::BadName => ResolveError::BadName,
        WantError::NoSuchName | WantError::NoRoute | WantError::Refused(_) => ResolveError::NoSuchName,
        WantError::Loop => ResolveError::Loop,
        WantError::NameTimeout | WantError::Timeout | WantError::TooMany | WantError::TooLong => ResolveError::Timeout,
    }
}

/// A failure as the operator sees it.
fn admin_error(error: WantError) -> AdminError {
    match error {
        WantError::NoSuchName => AdminError::NotFound("nothing is stored there".into()),
        WantError::Timeout | WantError::NameTimeout => AdminError::TimedOut,
        WantError::UnknownIdentity => AdminError::NotFound(error.to_string()),
        other => AdminError::Refused(other.to_string()),
    }
}

impl Engine {
    /// One request. Its answer may come at once.
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Resolve { acting, name, zone, reply } => self.resolve(&acting, &name, zone, reply),
            Request::Connect { request, reply } => self.connect(request, reply),
            Request::Listen { request, reply } => {
                let _ = reply.send(self.listen(request));
            }
            Request::Ping { acting, target, reply } => self.ping(&acting, target, reply),
            Request::Control(call) => self.on_admin(*call),
        }
    }

    /// Resolves a name.
    fn resolve(
        &mut self,
        acting: &str,
        name: &str,
        zone: Option<ServiceId>,
        reply: oneshot::Sender<Result<Resolved, ResolveError>>,
    ) {
        let Some(acting) = self.identities.id(acting) else {
            let _ = reply.send(Err(ResolveError::UnknownIdentity));
            return;
        };
        let want = self.requests.add(Waiting::Resolve(reply));
        self.node.resolve(self.clock.now(), want, acting, zone, name);
    }

    /// Opens a channel.
    fn connect(&mut self, request: ConnectRequest, reply: oneshot::Sender<Result<Channel, ConnectError>>) {
        let Some(acting) = self.identities.id(&request.acting) else {
            let _ = reply.send(Err(ConnectError::UnknownIdentity));
            return;
        };
        let want = self.requests.add(Waiting::Connect(reply));
        let wanted = Wanted { port: request.port, mode: request.mode, early: request.early };
        self.node.connect(self.clock.now(), want, acting, node_target(request.target), wanted);
    }

    /// One overlay round trip.
    fn ping(&mut self, acting: &str, target: Target, reply: oneshot::Sender<Result<Pong, ConnectError>>) {
        let Some(acting) = self.identities.id(acting) else {
            let _ = reply.send(Err(ConnectError::UnknownIdentity));
            return;
        };
        let want = self.requests.add(Waiting::Ping(reply));
        self.node.ping(self.clock.now(), want, acting, node_target(target));
    }

    /// An answer of the node to one of the requests.
    pub(super) fn on_answer(&mut self, event: Event) {
        let (want, result) = match event {
            Event::Resolved { want, result: Ok(resolution) } => (want, Ok(Answer::Resolved(Box::new(resolution)))),
            Event::Resolved { want, result: Err(why) } | Event::Failed { want, why } => (want, Err(why)),
            Event::Connected { want, channel } => (want, Ok(Answer::Connected(channel))),
            Event::Pong { want, rtt, hops } => (want, Ok(Answer::Pong(Pong { rtt, hops }))),
            Event::Stored { want, key, replicas } => (want, Ok(Answer::Stored(key, replicas))),
            Event::Content { want, value } => (want, Ok(Answer::Content(value))),
            Event::Signed { want, values } => (want, Ok(Answer::Signed(values))),
            Event::Hello { want, hello } => (want, Ok(Answer::Hello(hello))),
            _ => return,
        };
        let Some(waiting) = self.requests.waiting.remove(&want) else {
            if let Ok(Answer::Connected(channel)) = result {
                self.node.reset(self.clock.now(), channel);
            }
            return;
        };
        self.answer(waiting, result);
    }

    /// Gives an answer to whoever waits. Whoever has left meanwhile is not missed.
    fn answer(&mut self, waiting: Waiting, result: Result<Answer, WantError>) {
        match (waiting, result) {
            (Waiting::Connect(reply), Ok(Answer::Connected(channel))) => {
                self.hand_over(channel, |front| reply.send(Ok(front)).is_ok());
            }
            (Waiting::Connect(reply), Err(why)) => drop(reply.send(Err(connect_error(why)))),
            (Waiting::Resolve(reply), Ok(Answer::Resolved(found))) => drop(reply.send(Ok(resolved(*found)))),
            (Waiting::Resolve(reply), Err(why)) => drop(reply.send(Err(resolve_error(why)))),
            (Waiting::Ping(reply), Ok(Answer::Pong(pong))) => drop(reply.send(Ok(pong))),
            (Waiting::Ping(reply), Err(why)) => drop(reply.send(Err(connect_error(why)))),
            (Waiting::Put(hash, reply), Ok(Answer::Stored(_, replicas))) => self.answer_durably(replicas, hash, reply),
            (Waiting::Put(_, reply), Err(why)) => drop(reply.send(Err(admin_error(why)))),
            (Waiting::PutSigned(reply), Ok(Answer::Stored(key, replicas))) => self.answer_durably(replicas, key, reply),
            (Waiting::PutSigned(reply), Err(why)) => drop(reply.send(Err(admin_error(why)))),
            (Waiting::Content(reply), Ok(Answer::Content(value))) => drop(reply.send(Ok(value))),
            (Waiting::Content(reply), Err(why)) => drop(reply.send(Err(admin_error(why)))),
            (Waiting::Signed(reply), Ok(Answer::Signed(values))) => drop(reply.send(Ok(values))),
            (Waiting::Signed(reply), Err(why)) => drop(reply.send(Err(admin_error(why)))),
            (Waiting::Hello(reply), Ok(Answer::Hello(hello))) => drop(reply.send(Ok(api_hello(&hello)))),
            (Waiting::Hello(reply), Err(why)) => drop(reply.send(Err(admin_error(why)))),
            // The node answers each request in its own kind.
            (_, Ok(_)) => tracing::error!("an answer of another kind than its request"),
        }
    }

    /// Answers once everything queued for the disk is there.
    fn answer_durably<T: Send + 'static>(&self, replicas: usize, value: T, reply: Reply<T>) {
        tracing::debug!(replicas, "block stored");
        self.after_disk(Vec::new(), reply, value);
    }

    /// Writes, and answers once that is on disk.
    pub(super) fn after_disk<T: Send + 'static>(&self, ops: Vec<crate::store::Op>, reply: Reply<T>, value: T) {
        match self.disk.write(ops, crate::store::When::Now) {
            Ok(written) => {
                tokio::spawn(async move {
                    let written = written.await.map_err(|error| AdminError::Disk(error.to_string()));
                    let _ = reply.send(written.map(|()| value));
                });
            }
            Err(busy) => drop(reply.send(Err(AdminError::Disk(busy.to_string())))),
        }
    }
}

/// A good answer of the node.
enum Answer {
    Resolved(Box<tarnet_core::node::Resolution>),
    Connected(tarnet_core::session::ChannelRef),
    Pong(Pong),
    Stored(DhtKey, usize),
    Content(Vec<u8>),
    Signed(Vec<(ServiceId, Vec<u8>)>),
    Hello(Box<tarnet_core::dht::Hello>),
}

/// A front end's target as the node's.
fn node_target(target: Target) -> NodeTarget {
    match target {
        Target::Name(name) => NodeTarget::Name(name),
        Target::Service(service) => NodeTarget::Service(service, None),
        Target::Peer(peer) => NodeTarget::Peer(peer),
    }
}

/// The core's resolution in the front ends' words.
fn resolved(found: tarnet_core::node::Resolution) -> Resolved {
    let record =
        |record: tarnet_core::names::AnswerRecord| ResolvedRecord { record: record.record, ttl_s: record.ttl_s };
    let step = |step: tarnet_core::names::TraceStep| TraceStep {
        zone: step.zone,
        label: step.label.as_str().to_owned(),
        key: step.key.map(|key| key.to_string()).unwrap_or_default(),
        found: step.found,
        us: step.us,
    };
    Resolved {
        name: found.name,
        zone: found.answer.zone,
        records: found.answer.records.into_iter().map(record).collect(),
        service: found.answer.service,
        label: found.answer.label.map(|label| label.as_str().to_owned()),
        trace: found.trace.into_iter().map(step).collect(),
    }
}

/// A Hello as the control socket shows it.
fn api_hello(hello: &tarnet_core::dht::Hello) -> tarnet_api::Hello {
    let transports: std::collections::BTreeSet<String> = hello
        .addresses
        .iter()
        .filter_map(|address| address.split_once("://"))
        .map(|(scheme, _)| scheme.to_owned())
        .collect();
    tarnet_api::Hello {
        peer_id: hello.peer.to_string(),
        addresses: hello.addresses.clone(),
        transports: transports.into_iter().collect(),
        expires_unix: hello.expiry.0,
    }
}
