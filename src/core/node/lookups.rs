//! The DHT's part of the node: its messages travel as routed datagrams, its contacts are
//! routing's destinations, and each query remembers what it is for.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use super::Node;
use super::event::{Event, Persist, WantError, WantId};
use super::limits::SIGNED_VALUES_MAX;
use crate::crypto::{DhtKey, PeerId, ServiceId};
use crate::dht::{self, Hello, Outcome, QueryId, Store, To, Via};
use crate::names::{self, FetchId, PutId};
use crate::routing::{self, ReturnToken};
use crate::time::Now;
use crate::wire::block::{Block, Kind};

/// Return tokens that are kept for answers. Routing's own live 30 s and are bounded per neighbour.
const TOKENS_LEN_MAX: usize = 16_384;

/// What a query is for.
pub(super) enum Purpose {
    /// Names look for a block.
    Fetch(FetchId),
    /// Names store a block.
    Publish(PutId),
    /// Our own Hello is stored; nobody waits.
    OwnHello,
    /// A connection looks for a node's Hello.
    HelloFor(WantId, PeerId, Option<Hello>),
    /// A direct link to that peer may be made.
    Direct(PeerId),
    /// The shell stores a block.
    Put(WantId, DhtKey),
    /// The shell looks for a value by its hash.
    Content(WantId, [u8; 32]),
    /// The shell looks for signed values.
    Signed(WantId, BTreeMap<ServiceId, (u64, Vec<u8>)>),
    /// The shell looks for a Hello.
    Hello(WantId, PeerId, Option<Hello>),
}

/// Queries under way, and return tokens by number.
#[derive(Default)]
pub(super) struct Lookups {
    next_query: u64,
    queries: HashMap<QueryId, Purpose>,
    next_token: u64,
    tokens: HashMap<u64, ReturnToken>,
    token_order: VecDeque<u64>,
    /// Queries of a node that has no DHT.
    denied: VecDeque<QueryId>,
}

impl Lookups {
    /// A number for a query.
    fn add(&mut self, purpose: Purpose) -> QueryId {
        self.next_query += 1;
        self.queries.insert(QueryId(self.next_query), purpose);
        QueryId(self.next_query)
    }

    /// A number for a return token; the oldest is forgotten first.
    fn add_token(&mut self, token: ReturnToken) -> u64 {
        if self.token_order.len() >= TOKENS_LEN_MAX
            && let Some(oldest) = self.token_order.pop_front()
        {
            self.tokens.remove(&oldest);
        }
        self.next_token += 1;
        self.tokens.insert(self.next_token, token);
        self.token_order.push_back(self.next_token);
        self.next_token
    }
}

impl<S: Store> Node<S> {
    /// Handles everything that routing reports.
    pub(super) fn drain_routing(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Some(event) = self.routing.poll_event() {
            busy = true;
            match event {
                routing::Event::RouteUp { dest } => {
                    self.contact_up(now, dest);
                    self.sessions.handle_route_up(now, &dest);
                }
                routing::Event::RouteDown { dest } => self.contact_down(now, dest),
                routing::Event::Datagram { payload, neighbour, reply } => {
                    let via = match reply {
                        Some(token) => Via::Routed { neighbour, token: self.lookups.add_token(token) },
                        None => Via::Link(neighbour),
                    };
                    self.dht.handle_message(now, via, &payload);
                }
                routing::Event::Answer { payload, .. } => self.dht.handle_message(now, Via::Link(self.me), &payload),
                routing::Event::Persist(epoch) => self.events.push_back(Event::Persist(Persist::Epoch(epoch))),
                routing::Event::Acquaintances(known) => {
                    self.events.push_back(Event::Persist(Persist::Acquaintances(known)));
                }
                routing::Event::Found { lookup, .. } => self.on_route_found(now, lookup),
                routing::Event::Located { lookup, dest, blob } => self.on_located(now, lookup, dest, &blob),
                routing::Event::NotLocated { lookup, .. } => self.on_not_located(now, lookup),
                routing::Event::Listed { peers } => self.on_listed(now, &peers),
                routing::Event::NotFound { lookup, .. } => self.on_route_missing(now, lookup),
            }
        }
        busy
    }

    /// Sends a contact what the DHT asks it. One that nothing leads to any more is none: no route to it goes down where
    /// it is known by a place alone, which just expires.
    fn ask_contact(&mut self, now: Now, peer: PeerId, body: Bytes) -> bool {
        let sent = self.routing.send_routed(now, peer, body, true);
        if sent == Err(routing::SendError::NoRoute) {
            self.contact_down(now, peer);
        }
        sent.is_ok()
    }

    /// Handles everything that the DHT wants sent, and reports.
    pub(super) fn drain_dht(&mut self, now: Now) -> bool {
        let mut busy = false;
        while let Some(transmit) = self.dht.poll_transmit() {
            busy = true;
            let sent = match transmit.to {
                To::Peer(peer) => self.ask_contact(now, peer, transmit.body),
                To::Reply(Via::Link(peer)) => self.routing.send_routed(now, peer, transmit.body, false).is_ok(),
                To::Reply(Via::Routed { token, .. }) => match self.lookups.tokens.get(&token).copied() {
                    Some(token) => self.routing.answer_routed(now, token, transmit.body).is_ok(),
                    None => false,
                },
            };
            if !sent {
                self.counters.dht_unsent += 1;
            }
        }
        while let Some(query) = self.lookups.denied.pop_front() {
            busy = true;
            self.on_query_done(now, query, Outcome::TimedOut);
        }
        while let Some(event) = self.dht.poll_event() {
            busy = true;
            match event {
                dht::Event::Block { query, block } => self.on_block(now, query, block),
                dht::Event::Done { query, outcome } => self.on_query_done(now, query, outcome),
                dht::Event::Persist(op) => self.events.push_back(Event::Persist(Persist::Store(op))),
            }
        }
        busy
    }

    /// Whether the DHT is asked for a Hello on a request's behalf.
    pub(super) fn seeks_hello(&self, want: WantId) -> bool {
        self.hello_query(want).is_some()
    }

    /// Stops asking the DHT for a Hello.
    pub(super) fn end_hello_query(&mut self, want: WantId) {
        if let Some(query) = self.hello_query(want) {
            self.lookups.queries.remove(&query);
            self.dht.cancel(query);
        }
    }

    /// The query for a Hello on a request's behalf.
    fn hello_query(&self, want: WantId) -> Option<QueryId> {
        let is_it = |purpose: &Purpose| matches!(purpose, Purpose::HelloFor(asker, ..) if *asker == want);
        self.lookups.queries.iter().find(|(_, purpose)| is_it(purpose)).map(|(query, _)| *query)
    }

    /// Looks for blocks.
    pub(super) fn query(&mut self, now: Now, purpose: Purpose, key: DhtKey, kind: Kind) {
        let query = self.lookups.add(purpose);
        if self.has_dht {
            self.dht.get(now, query, key, kind);
        } else {
            self.lookups.denied.push_back(query);
        }
    }

    /// Stores a block.
    pub(super) fn store(&mut self, now: Now, purpose: Purpose, block: Block) {
        let query = self.lookups.add(purpose);
        if self.has_dht {
            self.dht.put(now, query, block);
        } else {
            self.lookups.denied.push_back(query);
        }
    }

    /// A block was found.
    fn on_block(&mut self, now: Now, query: QueryId, block: Block) {
        let Some(purpose) = self.lookups.queries.get_mut(&query) else { return };
        match purpose {
            Purpose::Fetch(fetch) => {
                let fetch = *fetch;
                self.resolver.handle_block(now, fetch, &block);
                self.publisher.handle_seen(&block);
            }
            Purpose::HelloFor(_, peer, best) | Purpose::Hello(_, peer, best) => {
                if let Some(hello) = dht::open_hello(peer, &block)
                    && best.as_ref().is_none_or(|best| best.sequence < hello.sequence)
                {
                    *best = Some(hello);
                }
            }
            Purpose::Direct(peer) => {
                if let Some(hello) = dht::open_hello(peer, &block) {
                    self.lookups.queries.remove(&query);
                    self.dht.cancel(query);
                    self.on_direct_hello(now, hello);
                }
            }
            Purpose::Content(want, hash) => {
                if let Some(value) = dht::open_content(hash, &block) {
                    let want = *want;
                    self.lookups.queries.remove(&query);
                    self.dht.cancel(query);
                    self.answer(want, Event::Content { want, value: value.to_vec() });
                }
            }
            Purpose::Signed(_, values) => {
                if let Some((signer, value)) = dht::open_signed(&block)
                    && (values.len() < SIGNED_VALUES_MAX || values.contains_key(&signer))
                    && values.get(&signer).is_none_or(|(sequence, _)| *sequence < block.sequence)
                {
                    values.insert(signer, (block.sequence, value.to_vec()));
                }
            }
            Purpose::Publish(_) | Purpose::OwnHello | Purpose::Put(..) => {}
        }
        self.hello_at_once(now, query);
    }

    /// A connection does not wait for a second opinion about a Hello: it is signed, and a stale one only
    /// costs another look.
    fn hello_at_once(&mut self, now: Now, query: QueryId) {
        if !matches!(self.lookups.queries.get(&query), Some(Purpose::HelloFor(_, _, Some(_)))) {
            return;
        }
        if let Some(Purpose::HelloFor(want, _, found)) = self.lookups.queries.remove(&query) {
            self.dht.cancel(query);
            self.on_node_hello(now, want, found);
        }
    }

    /// A query ended.
    fn on_query_done(&mut self, now: Now, query: QueryId, outcome: Outcome) {
        let Some(purpose) = self.lookups.queries.remove(&query) else { return };
        let missing = if outcome == Outcome::TimedOut { WantError::Timeout } else { WantError::NoSuchName };
        match purpose {
            Purpose::Fetch(fetch) => {
                let outcome = match outcome {
                    Outcome::Found => names::Outcome::Found,
                    Outcome::Absent => names::Outcome::Absent,
                    Outcome::TimedOut | Outcome::Stored { .. } | Outcome::Refused(_) => names::Outcome::TimedOut,
                };
                self.resolver.handle_done(now, &self.zones, fetch, outcome);
            }
            Purpose::Publish(put) => {
                let replicas = if let Outcome::Stored { replicas } = outcome { replicas as usize } else { 0 };
                self.publisher.handle_stored(now, put, replicas);
            }
            Purpose::OwnHello | Purpose::Direct(_) => {}
            Purpose::HelloFor(want, _, found) => self.on_node_hello(now, want, found),
            Purpose::Put(want, key) => {
                let event = match outcome {
                    Outcome::Stored { replicas } => Event::Stored { want, key, replicas: replicas as usize },
                    Outcome::Refused(_) => Event::Failed { want, why: WantError::TooLong },
                    Outcome::Found | Outcome::Absent | Outcome::TimedOut => {
                        Event::Failed { want, why: WantError::Timeout }
                    }
                };
                self.answer(want, event);
            }
            Purpose::Content(want, _) => self.answer(want, Event::Failed { want, why: missing }),
            Purpose::Signed(want, values) if values.is_empty() => {
                self.answer(want, Event::Failed { want, why: missing })
            }
            Purpose::Signed(want, values) => {
                let values = values.into_iter().map(|(signer, (_, value))| (signer, value)).collect();
                self.answer(want, Event::Signed { want, values });
            }
            Purpose::Hello(want, _, Some(hello)) => self.answer(want, Event::Hello { want, hello: Box::new(hello) }),
            Purpose::Hello(want, _, None) => self.answer(want, Event::Failed { want, why: missing }),
        }
    }

    /// Stores a value under its hash; says the hash.
    ///
    /// # Errors
    /// It does not fit a block.
    pub fn dht_put(&mut self, now: Now, want: WantId, value: &[u8]) -> Result<[u8; 32], WantError> {
        let (hash, block) = dht::seal_content(value).map_err(|_| WantError::TooLong)?;
        let key = block.key;
        self.begin(now, want);
        self.store(now, Purpose::Put(want, key), block);
        Ok(hash)
    }

    /// Looks for a value by its hash.
    pub fn dht_get(&mut self, now: Now, want: WantId, hash: [u8; 32]) {
        self.begin(now, want);
        self.query(now, Purpose::Content(want, hash), dht::content_key(&hash), Kind::Content);
    }

    /// Stores a value signed by one of our identities, under its own key or another.
    ///
    /// # Errors
    /// The identity is not here, or the value does not fit a block.
    pub fn dht_put_signed(
        &mut self,
        now: Now,
        want: WantId,
        identity: ServiceId,
        key: Option<DhtKey>,
        value: &[u8],
        ttl_s: u32,
    ) -> Result<DhtKey, WantError> {
        let signer = self.identities.get(&identity).ok_or(WantError::UnknownIdentity)?;
        let key = key.unwrap_or_else(|| dht::signed_key(&identity));
        let expiry = crate::time::UnixTime(now.unix.0.saturating_add(u64::from(ttl_s)));
        // The sequence is the time: a later value of the same identity replaces an earlier one.
        let block = dht::seal_signed(signer, key, now.unix.0, expiry, value).map_err(|_| WantError::TooLong)?;
        self.begin(now, want);
        self.store(now, Purpose::Put(want, key), block);
        Ok(key)
    }

    /// Looks for signed values.
    pub fn dht_get_signed(&mut self, now: Now, want: WantId, key: DhtKey) {
        self.begin(now, want);
        self.query(now, Purpose::Signed(want, BTreeMap::new()), key, Kind::Signed);
    }

    /// Looks for a node's Hello.
    pub fn dht_hello(&mut self, now: Now, want: WantId, peer: PeerId) {
        self.begin(now, want);
        self.query(now, Purpose::Hello(want, peer, None), dht::hello_key(&peer), Kind::Hello);
    }
}
