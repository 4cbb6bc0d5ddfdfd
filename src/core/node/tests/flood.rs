//! A relay between honest nodes, and neighbours that send it as much as the link takes of everything:
//! set-ups, cells, datagrams, and channels to a service. The honest link stays up, what the relay holds
//! stays within its bounds, and the page still comes.

use std::collections::BTreeSet;

use bytes::BytesMut;

use super::*;
use crate::circuit;
use crate::crypto::{PeerId, path_tag};
use crate::link;
use crate::wire::kind;
use crate::wire::link::put_message;
use crate::wire::path::{Label, Open, SetupId};
use crate::wire::routing::{Register, Routed};
use crate::wire::way::{Way, Waypoint};

/// Who is flooded.
const RELAY: usize = 1;
/// Who floods.
const FLOODERS: [usize; 2] = [3, 4];
/// Floods that make the relay read a flooder less, at most.
const FLOODS_MAX: usize = 400;
/// Batches that each flooder sends at once, again and again.
const BATCHES: usize = 20;

/// Alice, the relay, Bob, and two flooders, all linked to the relay.
fn network() -> (Net, ServiceId) {
    let mut net = Net::new(5, 11);
    for node in [0, 2, 3, 4] {
        net.link(node, RELAY);
    }
    let (alice, bob) = (net.identity(0), net.identity(2));
    for flooder in FLOODERS {
        net.identity(flooder);
    }
    serve(&mut net, 0, alice, "blog");
    petname(&mut net, 2, bob, "alice", alice);
    net.run(Duration::from_secs(3));
    (net, bob)
}

/// A batch full of one kind of message.
fn batch(kind: u8, mut message: impl FnMut() -> Bytes) -> BytesMut {
    let mut batch = BytesMut::from(&[0][..]);
    loop {
        let body = message();
        if batch.len() + body.len() + 8 > link::limits::BATCH_LEN_MAX {
            return batch;
        }
        put_message(&mut batch, kind, &[], &body);
    }
}

/// What a flooder sends in one go: `what` names it.
fn flood(net: &mut Net, flooder: usize, what: usize, dest: PeerId) {
    for _ in 0..BATCHES {
        let rng = &mut net.rng;
        let batch = match what {
            0 => batch(kind::PATH_OPEN, || {
                let id: [u8; 16] = rng.public_array();
                let open = Open {
                    label: Label(rng.public_u32()),
                    tag: path_tag(&id, &dest),
                    id: SetupId(id),
                    proof_hash: [7; 32],
                    hop_limit: 100,
                    budget: 100,
                    patience_ms: 9000,
                    avoid: crate::wire::path::Avoid::default(),
                    way: Default::default(),
                    blob: Bytes::from_static(&[1; 4000]),
                };
                open.encode()
            }),
            1 => batch(kind::CELL, || {
                let head = rng.public_u32().to_le_bytes();
                Bytes::from([&head[..], &[0; 60]].concat())
            }),
            2 => batch(kind::REGISTER, || {
                let token = rng.public_array();
                let way = Way::new(vec![Waypoint { short: [7; 8], left: 0 }; 20]);
                Register { landmark: dest, hops_left: 20, token, distance: 0, way }.encode()
            }),
            _ => batch(if what == 3 { kind::PLACE } else { kind::ROUTED }, || {
                let token = rng.public_array();
                Routed {
                    dest,
                    way: Default::default(),
                    hops_left: 20,
                    token,
                    payload: Bytes::from_static(&[3; 20_000]),
                }
                .encode()
            }),
        };
        assert!(net.inject(flooder, RELAY, batch), "the flooder still has its link");
    }
}

/// Bob fetches Alice's page; how long it took.
fn fetch(net: &mut Net, want: u64, bob: ServiceId, page: &Bytes, mut meanwhile: impl FnMut(&mut Net)) -> Duration {
    let start = net.now.instant;
    connect(net, 2, want, bob, "blog.alice");
    let mut channel = None;
    net.until(Duration::from_secs(20), "connected", |net| {
        meanwhile(net);
        answer(net, 0, page);
        channel = connected(net, 2, want);
        channel.is_some()
    });
    let (channel, mut got) = (channel.unwrap().unwrap(), Vec::new());
    net.until(Duration::from_secs(20), "the page", |net| {
        meanwhile(net);
        read(net, 2, channel, &mut got)
    });
    assert!(got == *page);
    net.now.instant - start
}

#[test]
fn floods_of_set_ups_cells_and_datagrams_leave_the_relay_bounded_and_the_honest_served() {
    let (mut net, bob) = network();
    let alice = net.peer(0);
    let page = page(300_000);
    let quiet = fetch(&mut net, 1, bob, &page, |_| {});
    for what in 0..5 {
        let (mut next, mut turn) = (net.now.instant, 0);
        let mut worst = 0;
        let took = fetch(&mut net, 10 + what as u64, bob, &page, |net| {
            if net.now.instant >= next {
                next = net.now.instant + Duration::from_millis(2);
                flood(net, FLOODERS[turn % FLOODERS.len()], what, alice);
                turn += 1;
            }
            let held: usize = net.nodes[RELAY].link_status().map(|link| link.queued_bytes).sum();
            worst = worst.max(held);
        });
        // More than a neighbour is allowed at once: it goes on until it is read less.
        let flooders: BTreeSet<_> = FLOODERS.map(|flooder| (RELAY, flooder)).into();
        let asks_itself = what < 2;
        for turn in (0..FLOODS_MAX).take_while(|_| asks_itself) {
            if net.rested == flooders {
                break;
            }
            flood(&mut net, FLOODERS[turn % FLOODERS.len()], what, alice);
            net.run(Duration::from_millis(2));
        }
        let rests = std::mem::take(&mut net.rested);
        println!("flood {what}: {took:?} instead of {quiet:?}, at most {worst} bytes queued, {turn} floods, {rests:?}");
        assert!(turn > 1, "the flood was made");
        // Who floods is read less, and nobody else; nobody is for what it may pass on for others.
        assert_eq!(rests, if asks_itself { flooders } else { BTreeSet::new() }, "flood {what}");
        let limits = circuit::Limits::default();
        let (_, transit) = net.nodes[RELAY].path_counts();
        assert!(transit <= FLOODERS.len() * limits.per_neighbour_max + 8, "{transit} paths");
        let links: Vec<PeerId> = net.nodes[RELAY].link_status().map(|link| link.peer).collect();
        assert!(
            links.contains(&alice) && links.contains(&net.peer(2)),
            "flood {what}: a link of the honest died of it"
        );
        assert!(worst <= 4 * (link::limits::CELL_QUEUE_MAX + link::limits::CONTROL_QUEUE_MAX), "{worst}");
        assert!(took < quiet * 20 + Duration::from_secs(1), "flood {what}: {took:?}");
        net.run(Duration::from_secs(15));
        let held: usize = net.nodes[RELAY].link_status().map(|link| link.queued_bytes).sum();
        assert_eq!(held, 0, "nothing is left of it");
    }
}

/// Accepts a channel of another session than the flooder's, and leaves all others undecided.
fn answer_bob(net: &mut Net, flooder: ChannelRef, page: &Bytes) {
    let found = net.take(0, |event| match event {
        Event::Incoming { channel, .. } if channel.session != flooder.session => Some(*channel),
        _ => None,
    });
    if let Some(channel) = found {
        net.nodes[0].accept(net.now, channel);
        net.nodes[0].write(net.now, channel, page.clone()).unwrap();
        net.nodes[0].finish(net.now, channel);
        net.drain(0);
    }
}

#[test]
fn a_flood_of_channels_to_a_service_costs_its_own_session_only() {
    let (mut net, bob) = network();
    let page = page(100_000);
    let acting = *net.nodes[FLOODERS[0]].identities.keys().next().unwrap();
    let alice = *net.nodes[0].identities.keys().next().unwrap();
    for want in 1000..4000 {
        let wanted =
            Wanted { port: Port::from(80), mode: Mode::ReliableOrdered, early: Bytes::from_static(&[5; 1024]) };
        net.nodes[FLOODERS[0]].connect(net.now, WantId(want), acting, Target::Service(alice, None), wanted);
        net.drain(FLOODERS[0]);
        if want % 500 == 0 {
            net.run(Duration::from_millis(100));
        }
    }
    let flooder = net.take(0, |event| match event {
        Event::Incoming { channel, .. } => Some(*channel),
        _ => None,
    });
    let flooder = flooder.expect("the flood has come");
    connect(&mut net, 2, 1, bob, "blog.alice");
    let mut channel = None;
    net.until(Duration::from_secs(5), "connected", |net| {
        answer_bob(net, flooder, &page);
        channel = connected(net, 2, 1);
        channel.is_some()
    });
    let (channel, mut got) = (channel.unwrap().unwrap(), Vec::new());
    net.until(Duration::from_secs(5), "the page", |net| read(net, 2, channel, &mut got));
    assert!(got == page);
    let channels: usize = net.nodes[0].session_status().iter().map(|session| session.channels).sum();
    assert!(channels > 1000, "the flood was made: {channels}");
}
