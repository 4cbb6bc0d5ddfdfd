//! A whole node with a malicious neighbour: authenticated, in possession of all that honest nodes
//! ever say, and spoiling it.

use bytes::BytesMut;

use super::*;
use crate::circuit;
use crate::fuzz::{TARGETS, engine::Fuzz, samples};
use crate::routing;
use crate::wire::kind;
use crate::wire::link::{next_message, put_message};

/// Who is attacked: the relay between Alice and Bob.
const RELAY: usize = 1;
/// Who attacks it.
const MALLORY: usize = 3;

/// What is sent between neighbours.
const KINDS: &[u8] = &[
    kind::PING,
    kind::PONG,
    kind::ADVERT,
    kind::WITHDRAW,
    kind::UNREACH,
    kind::SEQREQ,
    kind::REFILL,
    kind::DIGEST,
    kind::PROBE,
    kind::PROBE_FOUND,
    kind::PATH_OPEN,
    kind::PATH_OPENED,
    kind::PATH_FAILED,
    kind::PATH_CLOSE,
    kind::CELL,
    kind::ROUTED,
    kind::ROUTED_ANSWER,
];

/// A message as it stands in a batch.
type Message = (u8, Bytes);

/// Alice, a relay, Bob and Mallory, and everything that honest traffic consists of.
fn network() -> (Net, ServiceId, Vec<Message>) {
    let mut net = Net::new(4, 7);
    net.heard = Some(Vec::new());
    for node in [0, 2, MALLORY] {
        net.link(node, RELAY);
    }
    let (alice, bob, mallory) = (net.identity(0), net.identity(2), net.identity(MALLORY));
    serve(&mut net, 0, alice, "blog");
    petname(&mut net, 2, bob, "alice", alice);
    petname(&mut net, MALLORY, mallory, "alice", alice);
    net.run(Duration::from_secs(3));
    for (node, acting) in [(2, bob), (MALLORY, mallory)] {
        fetch(&mut net, node, 1, acting);
    }
    net.nodes[0].dht_put(net.now, WantId(1), b"hello").unwrap();
    net.drain(0);
    let (nobody, now) = (crate::crypto::PeerId([9; 32]), net.now);
    net.nodes[2].ping(now, WantId(5), bob, Target::Peer(nobody));
    net.drain(2);
    net.run(Duration::from_secs(40));
    let mut messages = Vec::new();
    for mut batch in net.heard.take().unwrap() {
        while let Some(message) = next_message(&mut batch).unwrap() {
            messages.push(message);
        }
    }
    let heard: std::collections::BTreeSet<u8> = messages.iter().map(|(kind, _)| *kind).collect();
    assert!(heard.len() >= 10, "traffic of most kinds was heard: {heard:x?}");
    messages.extend(samples::messages().into_iter().map(|(kind, body)| (kind, Bytes::from(body))));
    (net, bob, messages)
}

/// Fetches a page from Alice, within reasonable time.
fn fetch(net: &mut Net, node: usize, want: u64, acting: ServiceId) {
    let page = page(100_000);
    connect(net, node, want, acting, "blog.alice");
    let mut channel = None;
    net.until(Duration::from_secs(20), "connected", |net| {
        answer(net, 0, &page);
        channel = connected(net, node, want);
        channel.is_some()
    });
    let (channel, mut got) = (channel.unwrap().expect("a connection"), Vec::new());
    net.until(Duration::from_secs(20), "the page", |net| read(net, node, channel, &mut got));
    assert!(got == page);
    net.nodes[node].reset(net.now, channel);
    net.drain(node);
}

/// A batch of messages, most of them spoiled.
fn batch(fuzz: &mut Fuzz, messages: &[Message], wire: &[Vec<u8>]) -> BytesMut {
    let mut batch = BytesMut::from(&[0][..]);
    for _ in 0..=fuzz.below(4) {
        // Every kind as often as any other, however much of it there was.
        let wanted = fuzz.pick(messages).0;
        let wanted = if fuzz.below(2) == 0 { wanted } else { *fuzz.pick(KINDS) };
        let same: Vec<&Message> = messages.iter().filter(|(kind, _)| *kind == wanted).collect();
        let (kind, body) = (*fuzz.pick(&same)).clone();
        let kind = match fuzz.below(12) {
            // The length of a batch is the transport's affair: a link ends there, which is tried often enough.
            0 => kind::PING.wrapping_add(u8::try_from(fuzz.below(0x50)).unwrap()),
            _ => kind,
        };
        let body = match fuzz.below(8) {
            0 => body.to_vec(),
            1 => fuzz.pick(wire).clone(),
            _ => fuzz.spoil(&body),
        };
        if kind != kind::BYE && batch.len() + body.len() < 30_000 {
            put_message(&mut batch, kind, &[], &body);
        }
    }
    batch
}

#[test]
fn a_malicious_neighbour_disturbs_nobody_else_and_fills_nothing() {
    let mut fuzz = Fuzz::new("node", TARGETS);
    let (mut net, bob, messages) = network();
    let wire = samples::all();
    let mut step = 0u64;
    while fuzz.goes_on() {
        let batch = batch(&mut fuzz, &messages, &wire);
        if !net.inject(MALLORY, RELAY, batch) {
            net.run(Duration::from_secs(1));
            net.link(MALLORY, RELAY);
        }
        net.run(Duration::from_millis(5));
        let relay = &net.nodes[RELAY];
        let (_, transit) = relay.path_counts();
        assert!(transit <= circuit::Limits::default().transit_max);
        assert!(relay.routes().count() <= routing::Limits::default().table);
        let honest = [net.peer(0), net.peer(2)];
        let linked = |peer| net.nodes[RELAY].link_status().any(|link| link.peer == peer);
        assert!(honest.into_iter().all(linked), "the honest links stay up");
        net.events.iter_mut().for_each(Vec::clear);
        step += 1;
        if step.is_multiple_of(500) {
            fetch(&mut net, 2, 100 + step, bob);
        }
    }
    fetch(&mut net, 2, 99, bob);
}
