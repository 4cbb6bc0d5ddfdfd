//! A neighbour that advertises, answers and stores without end: all of it well-formed, none of it asked for. Nobody
//! else loses a route or a record by it. `TARNET_E2E_ADVERTS` says how many of each (default 3,000);
//! `TARNET_E2E_MEASURE=1` asserts the time of look-ups.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use tarnet_core::crypto::{Context, PeerId, Purpose, SigningKey, derive};
use tarnet_core::dht::seal_content;
use tarnet_core::link::limits;
use tarnet_core::rng::Rng;
use tarnet_core::routing::advance_element;
use tarnet_core::time::UnixTime;
use tarnet_core::wire::dht::{BLOOM_LEN, Message, Progress, Reply, Route};
use tarnet_core::wire::kind;
use tarnet_core::wire::link::put_message;
use tarnet_core::wire::routing::{Advert, Item, Marks, OriginProof, Routed, RoutedAnswer, Subject, VICINITY_END};
use tarnet_core::wire::way::Way;

use super::lab::{Machine, Trio, in_lab, until, wait_for};
use super::queues::strict;
use super::raw::{Raw, now, read_frame, write_frame};

/// What the flooded daemon may hold beyond what it held before.
const MORE_MAX: u64 = 16 << 20;
/// How long the flooder may take to be a neighbour.
const LINK_MAX: Duration = Duration::from_secs(10);
/// Look-ups that are timed, before and after.
const LOOKUPS: usize = 15;
/// The flooder's seed.
const SEED: u8 = 200;

/// An item of the flooder about a destination with these keys, so far behind it, with all that proves it.
fn item(keys: &SigningKey, metric: u16, rng: &mut Rng, from: &PeerId, number: u64) -> Item {
    let id = keys.public().peer_id();
    let chain: [u8; 16] = rng.public_array();
    // The element of (0, metric): the anchor is the rest of the first sequence number's stretch away.
    let anchor = advance_element(&id, 1, VICINITY_END, &chain, u32::from(VICINITY_END - metric));
    let signature = keys.sign(Purpose::RouteOrigin, &[&OriginProof::signed_fields(1, &anchor, 0)]);
    let proof = OriginProof {
        key: keys.public().to_bytes().try_into().expect("a key"),
        epoch: 1,
        anchor,
        flags: 0,
        signature: signature.try_into().expect("a signature"),
    };
    let hash = derive(Context::RouteTag, &[&from.0, &number.to_le_bytes(), &from.0]);
    let tag = [hash[0], hash[1], hash[2], hash[3]];
    Item { subject: Subject::Proven(Box::new(proof)), seq: 0, metric, tag, chain }
}

/// The next three messages: an advertisement, an answer that nobody asked for, and a value to store.
fn messages(keys: &SigningKey, dest: PeerId, number: u64, rng: &mut Rng) -> [(u8, Bytes); 3] {
    let from = keys.public().peer_id();
    let invented = SigningKey::from_seed(&rng.public_array());
    // The first says who the flooder is: without its key nothing of it would be believed.
    let told = if number == 1 { item(keys, 0, rng, &from, number) } else { item(&invented, 1, rng, &from, number) };
    let mut advert = Advert::encode_unsigned(Marks::default(), number, &[told]);
    let signature = keys.sign(Purpose::RouteAdvert, &[&from.0, &advert]);
    advert.put_slice(&signature);
    let (_, block) = seal_content(&rng.public_array::<256>()).expect("it fits");
    let reply = Reply { token: number, progress: Progress::More, size: 40, stored: 3, block: Some(block.clone()) };
    let answer = RoutedAnswer { token: rng.public_array(), payload: Message::Reply(reply).encode() };
    let route = Route { token: 0, query: number, patience_ms: 4_000, hop: 0, replication: 255, bloom: [0; BLOOM_LEN] };
    let put = Message::Put { route, lease: UnixTime(u64::MAX / 2), block };
    let put = Routed { dest, hops_left: 20, token: [0; 8], way: Way::default(), payload: put.encode() };
    [(kind::ADVERT, advert.freeze()), (kind::ROUTED_ANSWER, answer.encode()), (kind::ROUTED, put.encode())]
}

/// Sends so many of each to a relay, as fast as it takes them; bytes that went out.
fn flood(address: SocketAddr, dest: PeerId, count: u64) -> u64 {
    let start = Instant::now();
    let raw = wait_for(LINK_MAX, || Raw::link(address, SEED, start)).expect("a link");
    let Raw { mut stream, mut sealer, mut opener } = raw;
    let mut reader = stream.try_clone().expect("a socket can be cloned");
    std::thread::spawn(move || {
        while read_frame(&mut reader).is_ok_and(|frame| opener.open(BytesMut::from(&frame[..])).is_ok()) {}
    });
    let (keys, mut rng) = (Raw::keys(SEED), Rng::from_seed([SEED; 32]));
    let (mut batch, mut sent) = (BytesMut::from(&[0][..]), 0);
    let mut send = |batch: &mut BytesMut| {
        let frame = sealer.seal(now(start), std::mem::replace(batch, BytesMut::from(&[0][..])));
        write_frame(&mut stream, &frame).expect("the relay keeps the link");
        sent += frame.len() as u64;
    };
    for number in 1..=count {
        for (kind, body) in messages(&keys, dest, number, &mut rng) {
            if batch.len() + body.len() + 8 > limits::BATCH_LEN_MAX / 2 {
                send(&mut batch);
            }
            put_message(&mut batch, kind, &[], &body);
        }
    }
    send(&mut batch);
    sent
}

/// The median time of a look-up, milliseconds.
fn lookup(machine: &Machine, hash: &str, value: &str) -> f64 {
    let mut times: Vec<f64> = (0..LOOKUPS)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(machine.tn(&["dht", "get", hash]), value);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[LOOKUPS / 2]
}

/// A machine's routes.
fn routes(machine: &Machine) -> Vec<Value> {
    machine.json(&["routes"]).as_array().expect("a list").clone()
}

/// Whether the relay's routes lead straight to all of these.
fn straight(relay: &Machine, peers: &[String]) -> bool {
    let routes = routes(relay);
    let leads = |peer: &String| {
        let straight = |route: &Value| route["peer_id"] == peer.as_str() && route["next_hop"] == peer.as_str();
        routes.iter().any(straight)
    };
    peers.iter().all(leads)
}

#[test]
fn what_one_neighbour_advertises_answers_and_stores_costs_nobody_else_anything() {
    let count = std::env::var("TARNET_E2E_ADVERTS").map_or(3_000, |text| text.parse().expect("a number"));
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let mallory = lab.machine("mallory");
        lab.cable(&mallory, &trio.relay, 3);
        let honest = [&trio.alice, &trio.bob].map(Machine::peer_id);
        let hash = trio.alice.json(&["dht", "put", "an honest value"])["hash"].as_str().expect("a hash").to_owned();
        until(20, "the relay has straight routes", || straight(&trio.relay, &honest));
        let time = lookup(&trio.bob, &hash, "an honest value");
        let before = trio.relay.memory("VmRSS");
        let dest: PeerId = trio.relay.peer_id().parse().expect("a PeerId");
        let address = "10.77.3.2:7946".parse().expect("an address");
        let flooding = mallory.inside(move || std::thread::spawn(move || flood(address, dest, count)));
        let (start, mut rounds, mut slowest, mut most) = (Instant::now(), 0, 0_f64, 0);
        while !flooding.is_finished() || rounds == 0 {
            most = most.max(routes(&trio.relay).len());
            assert!(straight(&trio.relay, &honest), "an honest route is lost");
            assert_eq!(trio.page().out, Trio::PAGE, "round {rounds}");
            slowest = slowest.max(lookup(&trio.bob, &hash, "an honest value"));
            rounds += 1;
        }
        let sent = flooding.join().expect("the flood was sent");
        let (peak, after) = (trio.relay.memory("VmHWM"), trio.relay.memory("VmRSS"));
        println!(
            "{count} of each, {} MB in {:.0} s; {most} routes at most; memory {} KiB before, {} after, {} at most; median look-up {time:.1} ms \
             before, {slowest:.1} in the slowest of {rounds} rounds beside it",
            sent / 1_000_000,
            start.elapsed().as_secs_f64(),
            before >> 10,
            after >> 10,
            peak >> 10,
        );
        assert!(most > 100, "the relay took {most} routes at most: it believed none of it");
        assert!(peak <= before + MORE_MAX, "{peak} bytes, {before} before");
        assert!(straight(&trio.relay, &honest), "an honest route is lost");
        // What alice owns is still found by others.
        trio.bob.tn(&["wait", "--name", "blog.alice", "--timeout", "20s"]);
        let found = lookup(&trio.bob, &hash, "an honest value");
        assert!(!strict() || slowest.max(found) <= 2.0 * time, "look-ups take {slowest:.1} and {found:.1} ms");
    });
}
