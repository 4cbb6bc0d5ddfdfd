//! Honest bytes of every kind, for decoders to be lied to with.

use bytes::Bytes;

use crate::crypto::{DhtKey, PeerId, Scheme, ServiceId, SigningKey};
use crate::rng::Rng;
use crate::time::UnixTime;
use crate::wire::block::{Block, Header, Kind, seal};
use crate::wire::dht::{BLOOM_LEN, Message as DhtMessage, Progress, Reply, Route};
use crate::wire::link::{First, Proof, Second, encode_third, put_message};
use crate::wire::names::{Payload, Record, TimedRecord, encode_records};
use crate::wire::path::{self, Label, Reason, SetupId};
use crate::wire::routing::{self, Advert, Item, Marks, OriginProof, Sequence, Subject};
use crate::wire::session_handshake::{self as handshake, Descriptor, FirstOpen, FirstPayload, Owner, Signed};
use crate::wire::session_packet::{Ack, Frame, Message, Open};
use crate::wire::way::{Way, Waypoint};
use crate::wire::{kind, put_vec16};

/// One or more of everything. The first is a block.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut all = vec![block().encode()];
    all.extend(dht());
    all.extend(link());
    all.extend(names());
    all.extend(messages().into_iter().map(|(_, body)| body));
    all.extend([second_refill(), cell()]);
    all.extend(sessions());
    all.extend(keys());
    all
}

/// A block that opens with the key of sevens.
fn block() -> Block {
    let (signer, key, expiry) = (SigningKey::from_seed(&[5; 32]), DhtKey([1; 64]), UnixTime(9));
    let header = Header { kind: Kind::Name, key: &key, signer: signer.public(), sequence: 3, expiry };
    let ciphertext = seal(&[7; 32], &header, b"plaintext").expect("short");
    Block::create(Kind::Name, key, &signer, 3, expiry, ciphertext).expect("a block by the rules")
}

/// Messages of the DHT.
fn dht() -> Vec<Vec<u8>> {
    let route = || Route { token: 1, query: 2, patience_ms: 77, hop: 3, replication: 8, bloom: [9; BLOOM_LEN] };
    let reply = |progress, block| DhtMessage::Reply(Reply { token: 5, progress, size: 3, stored: 2, block });
    let messages = [
        DhtMessage::Get { route: route(), kind: Kind::Hello, key: DhtKey([2; 64]) },
        DhtMessage::Put { route: route(), lease: UnixTime(8), block: block() },
        reply(Progress::Complete, None),
        reply(Progress::More, Some(block())),
    ];
    messages.iter().map(|message| message.encode().to_vec()).collect()
}

/// Messages of a link's handshake, and a batch.
fn link() -> Vec<Vec<u8>> {
    let groups = vec![(2, vec![3; 1216]), (1, vec![4; 32])];
    let first =
        First { version_min: 1, version_max: 1, groups, aeads: vec![3, 2, 1], schemes: vec![1, 2], nonce: [6; 16] };
    let second = Second { version: 1, group: 1, aead: 1, answer: vec![8; 32], nonce: [7; 16] };
    let mut whole = second.encode();
    put_vec16(&mut whole, &[9; 200]);
    let mut batch = Vec::new();
    put_message(&mut batch, 0x10, b"head", b"body");
    put_message(&mut batch, 0x24, &[1, 0, 0, 0, 0], &[3; 300]);
    batch.extend_from_slice(&[0; 40]);
    let proof = Proof { scheme: 1, key: vec![1; 32], signature: vec![2; 64] };
    vec![first.encode(), whole, encode_third(&[5; 100]), proof.encode(), batch]
}

/// Records, and names as people write them.
fn names() -> Vec<Vec<u8>> {
    let records = [
        Record::Identity(ServiceId([1; 32])),
        Record::Zone(ServiceId([2; 32])),
        Record::Alias("www.alice".into()),
        Record::Text("hello".into()),
        Record::Content([3; 32]),
        Record::Node(Bytes::from_static(b"descriptor")),
    ];
    let records = records.map(|record| TimedRecord { record, ttl_s: 60 });
    let records = encode_records(&records).expect("few and short");
    let identity = SigningKey::from_seed(&[1; 32]).public().clone();
    let payload = Payload { identity, signature: vec![4; 64], records: records.clone() };
    let mut out = vec![records, payload.encode()];
    let texts = ["blog.alice", "BÜCHER.bob.tarnet.alt.", "xn--bcher-kva.x", "a", "@", "*.alice"].map(str::to_owned);
    out.extend(texts.into_iter().map(String::into_bytes));
    out.extend(
        [PeerId([1; 32]).to_string(), ServiceId([2; 32]).to_string(), DhtKey([3; 64]).to_string()]
            .map(String::into_bytes),
    );
    out
}

/// Messages between neighbours about paths and routes, by their kinds.
pub(crate) fn messages() -> Vec<(u8, Vec<u8>)> {
    let kinds = paths().into_iter().chain(routes());
    kinds.map(|(kind, body)| (kind, body.to_vec())).collect()
}

/// Messages about paths.
fn paths() -> [(u8, Bytes); 4] {
    let (label, blob) = (Label(7 << 20), Bytes::from_static(&[3; 90]));
    let open = path::Open {
        label,
        id: SetupId([4; 16]),
        tag: [5; 16],
        proof_hash: [6; 32],
        hop_limit: 64,
        budget: 32,
        patience_ms: 9000,
        avoid: path::Avoid { setups: smallvec::smallvec![SetupId([8; 16])], strict: true },
        way: way(),
        blob: blob.clone(),
    };
    let opened = path::Opened { label, reveal: [7; 32], hops: 3, parted: true, blob };
    let failed = path::Failed { label, reason: Reason::Limit, budget: 3 };
    let close = path::Close { label, reason: Reason::Closed };
    [
        (kind::PATH_OPEN, open.encode()),
        (kind::PATH_OPENED, opened.encode()),
        (kind::PATH_FAILED, failed.encode()),
        (kind::PATH_CLOSE, close.encode()),
    ]
}

/// A cell.
fn cell() -> Vec<u8> {
    [&path::cell_head(Label(7 << 20), true)[..], &[3; 90]].concat()
}

/// A request for a whole table.
fn second_refill() -> Vec<u8> {
    routing::Refill { wanted: vec![] }.encode().to_vec()
}

/// A way of two waypoints.
fn way() -> Way {
    Way::new(vec![Waypoint { short: [7; 8], left: 300 }, Waypoint { short: [8; 8], left: 9 }])
}

/// A place.
pub(super) fn place() -> routing::Place {
    let keys = SigningKey::from_seed(&[1; 32]);
    routing::Place::sign(&keys, 5, vec![way()], Bytes::from_static(b"hello")).expect("a short blob")
}

/// Messages of routing.
fn routes() -> [(u8, Bytes); 12] {
    let proof = OriginProof { key: [1; 32], epoch: 2, anchor: [3; 16], flags: 0, signature: [4; 64] };
    let item = |subject| Item { subject, seq: 3, metric: 2, tag: [5; 4], chain: [6; 16] };
    let items = vec![
        item(Subject::Known { short: [7; 8], epoch_low: 2, landmark: true }),
        item(Subject::Proven(Box::new(proof.clone()))),
    ];
    let advert = Advert { marks: Marks { start: true, end: false }, number: 9, items, signature: [8; 64] };
    let sequence = Sequence { epoch: 2, seq: 3 };
    let gone = routing::Retraction { short: [7; 8], sequence };
    let (dest, nonce, payload) = (PeerId([9; 32]), [1; 8], Bytes::from_static(b"payload"));
    let place = routing::PlaceRequest::Put(place()).encode();
    [
        (kind::ADVERT, advert.encode()),
        (kind::WITHDRAW, routing::Retractions { number: 10, list: vec![gone, gone] }.encode()),
        (kind::UNREACH, routing::Retractions { number: 11, list: vec![gone] }.encode()),
        (kind::SEQREQ, routing::SeqRequest { dest, newer_than: sequence, hops_left: 5 }.encode()),
        (kind::REFILL, routing::Refill { wanted: vec![[7; 8], [8; 8]] }.encode()),
        (kind::DIGEST, routing::Digest { sum: 5, count: 6 }.encode()),
        (kind::PROBE, routing::Probe { nonce, dest, hops_left: 4 }.encode()),
        (kind::PROBE_FOUND, routing::ProbeFound { nonce, proof, seq: 3, metric: 2, chain: [6; 16] }.encode()),
        (
            kind::ROUTED,
            routing::Routed { dest, hops_left: 5, token: nonce, way: way(), payload: payload.clone() }.encode(),
        ),
        (
            kind::REGISTER,
            routing::Register { landmark: dest, hops_left: 5, token: nonce, distance: 7, way: way() }.encode(),
        ),
        (
            kind::PLACE,
            routing::Routed { dest, hops_left: 5, token: nonce, way: Way::default(), payload: place }.encode(),
        ),
        (kind::ROUTED_ANSWER, routing::RoutedAnswer { token: nonce, payload }.encode()),
    ]
}

/// Messages of a session's handshake, and the frames of one.
fn sessions() -> Vec<Vec<u8>> {
    let signed = |scheme: Scheme| Signed {
        scheme,
        key: vec![1; scheme.public_len()],
        signature: vec![2; scheme.signature_len()],
    };
    let descriptor = Descriptor {
        owner: Owner::Service(ServiceId([3; 32])),
        node: PeerId([4; 32]),
        expiry: 5,
        trial: [6; handshake::TRIAL_LEN],
        share: vec![7; handshake::SHARE_LEN],
        node_signature: signed(Scheme::Ed25519),
    };
    let open = FirstOpen { mode: 0, label: Some("blog"), port: "80", early: b"GET /" };
    let payload =
        FirstPayload { gcm: true, aegis: false, proves: true, share: &[8; handshake::SHARE_LEN], open: Some(open) };
    let sealed = [payload.encode(), vec![9; 16]].concat();
    let head = handshake::Message::first_head([1; handshake::SHORT_LEN]);
    let first =
        [&head[..], &[2; handshake::TRIAL_LEN], &[3; handshake::SHORT_LEN], &[4; handshake::ANSWER_LEN], &sealed];
    let answer =
        handshake::Answer { agreement: &[4; handshake::ANSWER_LEN], sealed: &[5; handshake::SEALED_ANSWER_LEN] };
    let mut out = vec![
        descriptor.encode(),
        signed(Scheme::Ed25519).encode(),
        signed(Scheme::FalconEd25519).encode(),
        payload.encode(),
        first.concat(),
        handshake::Message::Answer(answer).encode(),
        handshake::Message::Resume([4; handshake::SHORT_LEN]).encode(),
        handshake::Message::Resumed([4; handshake::SHORT_LEN]).encode(),
        vec![1, 1],
    ];
    out.extend(frames().iter().map(|frame| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes
    }));
    out
}

/// One of each frame of a session, on channels 0 (a stream) and 2 (messages).
pub(crate) fn frames() -> Vec<Frame<'static>> {
    let ranges: &[(u64, u64)] = &[(400, 498), (0, 0)];
    vec![
        Frame::Open(Open { channel: 0, mode: 0, port: "http", label: Some("blog"), early: b"GET /" }),
        Frame::Open(Open { channel: 2, mode: 3, port: "53", label: None, early: b"" }),
        Frame::Ping,
        Frame::Ack(Ack { circuit: 0, delay_us: 250, marked: 9, ranges: ranges.into() }),
        Frame::Opened { channel: 1 },
        Frame::Refused { channel: 1, why: 4 },
        Frame::Data { channel: 0, offset: 5, bytes: b"hello", fin: false },
        Frame::Data { channel: 0, offset: 300, bytes: b"later", fin: true },
        Frame::Message(Message { channel: 2, id: 1, total: 10, offset: 4, bytes: b"sixsix" }),
        Frame::Message(Message { channel: 2, id: 2, total: 3, offset: 0, bytes: b"all" }),
        Frame::MessagesEnd { channel: 2, count: 3 },
        Frame::Reset { channel: 0, end: 99 },
        Frame::Stop { channel: 0 },
        Frame::MaxData(1 << 26),
        Frame::MaxChannelData { channel: 0, max: 1 << 18 },
        Frame::Proof(b"proof"),
        Frame::Close(1),
        Frame::Padding(3),
    ]
}

/// Keys of both schemes, public and secret.
fn keys() -> Vec<Vec<u8>> {
    let mut rng = Rng::from_seed([1; 32]);
    let both = [Scheme::Ed25519, Scheme::FalconEd25519].map(|scheme| SigningKey::generate(scheme, &mut rng));
    both.iter().flat_map(|key| [key.public().to_bytes(), key.to_secret_bytes().to_vec()]).collect()
}
