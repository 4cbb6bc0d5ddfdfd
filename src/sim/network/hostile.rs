//! Machines that lie. Their node is an honest one; what passes between it and its links is changed on the way, with
//! its own keys and with nothing that the attacker could not have.
//!
//! A lying *router* claims every distance that it heard from anybody as its own, which the hash chains let it, hides
//! from its neighbours where its own ways go, takes nothing back, and passes nothing on. A lying *storer* routes as it
//! should, but drops queries, denies what it was given, or answers with blocks of its own.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tarnet_core::crypto::{DhtKey, PeerId, Purpose, SigningKey};
use tarnet_core::node::Input;
use tarnet_core::routing::advance_element;
use tarnet_core::time::UnixTime;
use tarnet_core::wire::block::{Block, Kind};
use tarnet_core::wire::dht::{Message, Progress, Reply};
use tarnet_core::wire::kind;
use tarnet_core::wire::link::{next_message, put_message};
use tarnet_core::wire::routing::{
    Advert, Element, Item, METRIC_END, OriginProof, Routed, RoutedAnswer, Sequence, Short, Subject, short,
};

use super::Network;
use super::conns::conn_id;

/// Life of a forged block, seconds.
const FORGED_LIFE_S: u64 = 3600;

/// How a machine lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// About its distances; and it passes nothing on.
    Router,
    /// It does not answer queries of the DHT.
    Silent,
    /// It says that there is nothing, and that it stores what it does not.
    Denier,
    /// The same, and it answers with blocks that it made.
    Forger,
}

/// The best that was heard of a destination.
struct Heard {
    proof: OriginProof,
    sequence: Sequence,
    metric: u16,
    element: Element,
}

/// Bytes of answers that go back with one batch, at most: they must fit a frame.
const ANSWERS_LEN_MAX: usize = 12_000;

/// A machine that lies.
pub(super) struct Hostile {
    lie: Lie,
    me: PeerId,
    keys: Arc<SigningKey>,
    heard: HashMap<Short, Heard>,
}

/// A batch on its way to a node: what is left of it, and what goes back at once.
pub(super) struct Incoming {
    /// For the node.
    pub(super) plaintext: BytesMut,
    /// Back to where it came from, if anything.
    pub(super) answers: Option<BytesMut>,
}

impl Hostile {
    /// Lies from now on.
    pub(super) fn new(lie: Lie, me: PeerId, keys: Arc<SigningKey>) -> Self {
        Self { lie, me, keys, heard: HashMap::new() }
    }

    /// How it lies.
    pub(super) fn lie(&self) -> Lie {
        self.lie
    }

    /// Whether others' messages end here.
    pub(super) fn is_router(&self) -> bool {
        self.lie == Lie::Router
    }

    /// Messages for the node.
    pub(super) fn incoming(&mut self, plaintext: BytesMut, now: UnixTime) -> Incoming {
        let mut rest = plaintext.freeze();
        let (mut kept, mut answers) = (BytesMut::new(), BytesMut::from(&[0u8][..]));
        while let Ok(Some((kind, body))) = next_message(&mut rest) {
            let keep =
                if self.is_router() { self.hear(kind, &body) } else { self.serve(kind, &body, now, &mut answers) };
            if keep {
                put_message(&mut kept, kind, &[], &body);
            }
        }
        Incoming { plaintext: kept, answers: (answers.len() > 1).then_some(answers) }
    }

    /// Messages of the node. The first byte of a batch is its flags.
    pub(super) fn outgoing(&mut self, batch: BytesMut) -> BytesMut {
        if !self.is_router() {
            return batch;
        }
        let mut rest = batch.freeze();
        let mut out = BytesMut::from(&rest.split_to(1)[..]);
        while let Ok(Some((kind, body))) = next_message(&mut rest) {
            match kind {
                kind::ADVERT => put_message(&mut out, kind, &[], &self.claim(&body)),
                // A digest would tell that what was said is not what the node said.
                kind::WITHDRAW | kind::UNREACH | kind::DIGEST | kind::SEQREQ => {}
                _ => put_message(&mut out, kind, &[], &body),
            }
        }
        out
    }

    /// Learns from adverts; says whether the node gets the message.
    fn hear(&mut self, kind: u8, body: &[u8]) -> bool {
        if kind == kind::ADVERT
            && let Ok((advert, _)) = Advert::decode(body)
        {
            advert.items.into_iter().for_each(|item| self.note(item));
        }
        let passed_on = matches!(kind, kind::SEQREQ | kind::PROBE | kind::PROBE_FOUND | kind::ROUTED);
        let carried = matches!(kind, kind::REGISTER | kind::PLACE | kind::PATH_OPEN..=kind::CELL);
        !passed_on && !carried
    }

    /// Remembers the shortest distance of the newest sequence.
    fn note(&mut self, item: Item) {
        if item.metric >= METRIC_END {
            return;
        }
        let at = match item.subject {
            Subject::Proven(proof) => {
                let at = short(&proof.peer_id());
                if self.heard.get(&at).is_none_or(|heard| heard.proof.epoch < proof.epoch) {
                    let (sequence, metric) = (Sequence { epoch: proof.epoch, seq: 0 }, METRIC_END);
                    self.heard.insert(at, Heard { proof: *proof, sequence, metric, element: item.chain });
                }
                at
            }
            Subject::Known { short, epoch_low, .. } => {
                let epoch = self.heard.get(&short).map(|heard| heard.proof.epoch.to_le_bytes()[0]);
                if epoch != Some(epoch_low) {
                    return;
                }
                short
            }
        };
        let Some(heard) = self.heard.get_mut(&at) else { return };
        let sequence = Sequence { epoch: heard.proof.epoch, seq: item.seq };
        if sequence > heard.sequence || sequence == heard.sequence && item.metric < heard.metric {
            (heard.sequence, heard.metric, heard.element) = (sequence, item.metric, item.chain);
        }
    }

    /// An advert of the node with the shortest distances that others will believe.
    fn claim(&self, body: &[u8]) -> Bytes {
        let Ok((mut advert, _)) = Advert::decode(body) else { return Bytes::copy_from_slice(body) };
        advert.items.iter_mut().for_each(|item| self.shorten(item));
        let unsigned = Advert::encode_unsigned(advert.marks, advert.number, &advert.items);
        let signature = self.keys.sign(Purpose::RouteAdvert, &[&self.me.0, &unsigned]);
        advert.signature = signature.try_into().expect("node keys are Ed25519");
        advert.encode()
    }

    /// Replaces a distance by the best that was heard. Zero is the destination's alone.
    fn shorten(&self, item: &mut Item) {
        let (at, epoch) = match &item.subject {
            Subject::Proven(proof) => (short(&proof.peer_id()), proof.epoch.to_le_bytes()[0]),
            Subject::Known { short, epoch_low, .. } => (*short, *epoch_low),
        };
        if item.metric == 0 || item.metric >= METRIC_END {
            return;
        }
        let Some(heard) = self.heard.get(&at).filter(|heard| heard.proof.epoch.to_le_bytes()[0] == epoch) else {
            return;
        };
        if heard.metric >= METRIC_END || heard.sequence.seq < item.seq {
            return;
        }
        let dest = heard.proof.peer_id();
        let steps = u16::from(heard.metric == 0);
        item.chain = advance_element(&dest, heard.proof.epoch, heard.proof.span(), &heard.element, steps.into());
        (item.seq, item.metric, item.tag) = (heard.sequence.seq, heard.metric + steps, [0; 4]);
    }

    /// Answers a query of the DHT in the node's place; says whether the node gets the message.
    fn serve(&self, kind: u8, body: &[u8], now: UnixTime, answers: &mut BytesMut) -> bool {
        if kind != kind::ROUTED {
            return true;
        }
        let Ok(routed) = Routed::decode(body) else { return true };
        if routed.dest != self.me {
            return true;
        }
        let (token, stored, block) = match Message::decode(&routed.payload) {
            Ok(Message::Get { route, kind, key }) => (route.token, 0, self.forged(kind, key, now)),
            Ok(Message::Put { route, .. }) => (route.token, 1, None),
            Ok(Message::Reply(_)) | Err(_) => return true,
        };
        if self.lie != Lie::Silent && answers.len() < ANSWERS_LEN_MAX {
            let reply = Reply { token, progress: Progress::Complete, size: 0, stored, block };
            let answer = RoutedAnswer { token: routed.token, payload: Message::Reply(reply).encode() };
            put_message(answers, kind::ROUTED_ANSWER, &[], &answer.encode());
        }
        false
    }

    /// A block under a key that everybody on the way must think valid.
    fn forged(&self, kind: Kind, key: DhtKey, now: UnixTime) -> Option<Block> {
        if self.lie != Lie::Forger {
            return None;
        }
        let (sequence, expiry) = match kind {
            Kind::Content => (0, UnixTime(0)),
            _ => (u64::MAX, UnixTime(now.0 + FORGED_LIFE_S)),
        };
        Block::create(kind, key, &self.keys, sequence, expiry, Bytes::from_static(&[7; 64])).ok()
    }
}

impl Network {
    /// A machine is taken over: its node starts anew, and lies from now on.
    pub fn turn(&mut self, host: usize, lie: Lie) {
        self.kill(host);
        self.hosts[host].turn(lie);
        self.start(host);
    }

    /// Whether a machine passes on what it should.
    #[must_use]
    pub fn forwards(&self, host: usize) -> bool {
        let lies = self.hosts[host].hostile.as_ref().is_some_and(|hostile| hostile.is_router());
        self.hosts[host].is_alive() && !lies
    }

    /// Opened messages for a machine's node, through whoever took the machine over.
    pub(super) fn deliver(&mut self, conn: usize, host: usize, plaintext: BytesMut) {
        let (now, id) = (self.now().unix, conn_id(conn));
        let Some(hostile) = &mut self.hosts[host].hostile else {
            return self.feed(host, Input::Plaintext { conn: id, plaintext });
        };
        let Incoming { plaintext, answers } = hostile.incoming(plaintext, now);
        if let Some(batch) = answers {
            self.send_aside(host, conn, batch);
        }
        self.feed(host, Input::Plaintext { conn: id, plaintext });
    }
}
