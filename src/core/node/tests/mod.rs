//! Whole nodes against each other.

mod flood;
mod fuzz;
mod net;

use std::time::Duration;

use bytes::Bytes;

use self::net::Net;
use super::{Event, Target, WantError, WantId, Wanted};
use crate::crypto::ServiceId;
use crate::names::{Record, ZoneEntry, ZoneLabel};
use crate::session::{ChannelRef, Listen, Mode, Owner, Port, Refusal};

/// A page of some length.
fn page(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7 + i / 251).to_le_bytes()[0]).collect()
}

/// Opens a service on a node, published under a label.
fn serve(net: &mut Net, node: usize, owner: ServiceId, label: &str) {
    let listen = Listen {
        owner: Owner::Service(owner),
        label: Some(label.into()),
        port: Port::from(80),
        mode: Mode::ReliableOrdered,
        allow: Vec::new(),
        channels_max: 0,
        await_caller: false,
    };
    net.nodes[node].listen(listen).unwrap();
    let entry = ZoneEntry { record: Record::Identity(owner), ttl_s: 60, public: true, by_expose: true };
    net.nodes[node].set_record(owner, ZoneLabel::new(label).unwrap(), entry).unwrap();
    net.drain(node);
}

/// Gives an identity of a node a petname.
fn petname(net: &mut Net, node: usize, acting: ServiceId, label: &str, zone: ServiceId) {
    let entry = ZoneEntry { record: Record::Zone(zone), ttl_s: 60, public: false, by_expose: false };
    net.nodes[node].set_record(acting, ZoneLabel::new(label).unwrap(), entry).unwrap();
    net.drain(node);
}

/// Asks a node for a channel to a name.
fn connect(net: &mut Net, node: usize, want: u64, acting: ServiceId, name: &str) {
    let wanted = Wanted { port: Port::from(80), mode: Mode::ReliableOrdered, early: Bytes::from_static(b"GET /") };
    net.nodes[node].connect(net.now, WantId(want), acting, Target::Name(name.into()), wanted);
    net.drain(node);
}

/// The channel that a request got.
fn connected(net: &mut Net, node: usize, want: u64) -> Option<Result<ChannelRef, WantError>> {
    net.take(node, |event| match event {
        Event::Connected { want: id, channel } if id.0 == want => Some(Ok(*channel)),
        Event::Failed { want: id, why } if id.0 == want => Some(Err(*why)),
        _ => None,
    })
}

/// Serves whoever asks on a node, with a page.
fn answer(net: &mut Net, node: usize, page: &Bytes) {
    if let Some(channel) = net.take(node, |event| match event {
        Event::Incoming { channel, .. } => Some(*channel),
        _ => None,
    }) {
        net.nodes[node].accept(net.now, channel);
        let taken = net.nodes[node].write(net.now, channel, page.clone()).unwrap();
        assert_eq!(taken, page.len(), "the page fits the send buffer");
        net.nodes[node].finish(net.now, channel);
        net.drain(node);
    }
}

/// Reads what has come on a channel.
fn read(net: &mut Net, node: usize, channel: ChannelRef, got: &mut Vec<u8>) -> bool {
    while let Some(chunk) = net.nodes[node].read(net.now, channel) {
        got.extend_from_slice(&chunk);
    }
    net.drain(node);
    net.take(node, |event| matches!(event, Event::Finished(id) if *id == channel).then_some(())).is_some()
}

#[test]
fn a_page_travels_by_name_through_a_relay() {
    let mut net = Net::new(3, 1);
    net.link(0, 1);
    net.link(2, 1);
    let (alice, bob) = (net.identity(0), net.identity(2));
    serve(&mut net, 0, alice, "blog");
    petname(&mut net, 2, bob, "alice", alice);
    let target = net.peer(0);
    net.until(Duration::from_secs(5), "bob has a route to alice", |net| {
        net.nodes[2].routes().any(|route| route.peer_id == target)
    });
    let page = page(300_000);
    for (want, name) in
        ["blog.alice", "BLOG.Alice.tarnet.alt.", &format!("blog.{alice}.tarnet.alt")].into_iter().enumerate()
    {
        let want = want as u64;
        connect(&mut net, 2, want, bob, name);
        let mut channel = None;
        net.until(Duration::from_secs(5), name, |net| {
            answer(net, 0, &page);
            channel = connected(net, 2, want);
            channel.is_some()
        });
        let channel = channel.unwrap().unwrap();
        net.nodes[2].finish(net.now, channel);
        let mut got = Vec::new();
        net.until(Duration::from_secs(10), "the page is there", |net| read(net, 2, channel, &mut got));
        assert!(got == page, "the page arrived as it was sent");
    }
}

#[test]
fn names_and_ports_that_do_not_exist_fail_soon_and_for_their_reason() {
    let mut net = Net::new(3, 2);
    net.link(0, 1);
    net.link(2, 1);
    let (alice, bob) = (net.identity(0), net.identity(2));
    serve(&mut net, 0, alice, "blog");
    petname(&mut net, 2, bob, "alice", alice);
    net.run(Duration::from_secs(3));
    for (want, name, why) in [
        (1, "nothing.alice", WantError::NoSuchName),
        (2, "carol", WantError::NoSuchName),
        (3, "a..b", WantError::BadName),
    ] {
        connect(&mut net, 2, want, bob, name);
        let mut got = None;
        net.until(Duration::from_secs(1), name, |net| {
            got = connected(net, 2, want);
            got.is_some()
        });
        assert_eq!(got, Some(Err(why)), "{name}");
    }
    let wanted = Wanted { port: Port::from(81), mode: Mode::ReliableOrdered, early: Bytes::new() };
    net.nodes[2].connect(net.now, WantId(9), bob, Target::Name("blog.alice".into()), wanted);
    net.drain(2);
    let mut got = None;
    net.until(Duration::from_secs(1), "refused", |net| {
        got = connected(net, 2, 9);
        got.is_some()
    });
    assert_eq!(got, Some(Err(WantError::Refused(Refusal::NoListener))));
}

#[test]
fn a_ping_by_peer_id_tells_time_and_hops_and_everything_is_given_back() {
    let mut net = Net::new(4, 3);
    for node in 0..3 {
        net.link(node, node + 1);
    }
    let acting = net.identity(0);
    let (near, far) = (net.peer(1), net.peer(3));
    net.until(Duration::from_secs(5), "a route to the far end", |net| {
        net.nodes[0].routes().any(|route| route.peer_id == far)
    });
    for (want, peer, hops) in [(1, near, 1), (2, far, 3)] {
        net.nodes[0].ping(net.now, WantId(want), acting, Target::Peer(peer));
        net.drain(0);
        let mut pong = None;
        net.until(Duration::from_secs(5), "a pong", |net| {
            pong = net.take(0, |event| match event {
                Event::Pong { want: id, hops, rtt } if id.0 == want => Some((*hops, *rtt)),
                _ => None,
            });
            pong.is_some()
        });
        let (got, rtt) = pong.unwrap();
        assert_eq!(got, hops);
        // The refusal follows the path's opening in the same batch: a session that is not there yet would lose it,
        // and it would come again only after the first probe timeout, a third of a second later.
        let round_trip = Duration::from_millis(4) * u32::from(hops);
        assert!(rtt >= round_trip && rtt < 3 * round_trip, "{rtt:?}");
    }
    net.run(Duration::from_secs(200));
    for node in &net.nodes {
        assert_eq!((node.path_counts(), node.session_status().len()), ((0, 0), 0), "idle sessions and paths are gone");
    }
}

#[test]
fn an_identity_of_the_same_node_is_reached_without_a_link() {
    let mut net = Net::new(1, 4);
    let (alice, bob) = (net.identity(0), net.identity(0));
    serve(&mut net, 0, alice, "blog");
    petname(&mut net, 0, bob, "alice", alice);
    connect(&mut net, 0, 1, bob, "blog.alice");
    let page = page(50_000);
    let mut channel = None;
    net.until(Duration::from_secs(3), "connected", |net| {
        answer(net, 0, &page);
        channel = connected(net, 0, 1);
        channel.is_some()
    });
    let (channel, mut got) = (channel.unwrap().unwrap(), Vec::new());
    net.until(Duration::from_secs(3), "the page", |net| read(net, 0, channel, &mut got));
    assert!(got == page);
}

#[test]
fn blocks_of_every_kind_are_found_from_another_node() {
    let mut net = Net::new(3, 5);
    net.link(0, 1);
    net.link(2, 1);
    let alice = net.identity(0);
    net.run(Duration::from_secs(3));
    let hash = net.nodes[0].dht_put(net.now, WantId(1), b"hello").unwrap();
    let key = net.nodes[0].dht_put_signed(net.now, WantId(2), alice, None, b"signed", 3600).unwrap();
    net.drain(0);
    for want in [1, 2] {
        net.until(Duration::from_secs(5), "stored", |net| {
            net.take(0, |event| {
                matches!(event, Event::Stored { want: id, replicas, .. } if id.0 == want && *replicas > 1).then_some(())
            })
            .is_some()
        });
    }
    let peer = net.peer(0);
    let now = net.now;
    net.nodes[2].dht_get(now, WantId(3), hash);
    net.nodes[2].dht_get_signed(now, WantId(4), key);
    net.nodes[2].dht_hello(now, WantId(5), peer);
    net.drain(2);
    let mut found = 0;
    net.until(Duration::from_secs(8), "all found", |net| {
        found += usize::from(
            net.take(2, |event| match event {
                Event::Content { value, .. } => (value == b"hello").then_some(()),
                Event::Signed { values, .. } => (values == &[(alice, b"signed".to_vec())]).then_some(()),
                Event::Hello { hello, .. } => (hello.peer == peer).then_some(()),
                _ => None,
            })
            .is_some(),
        );
        found == 3
    });
}

#[test]
fn full_packets_fill_the_frames_of_links() {
    use crate::link::Padding;
    use crate::link::limits::{BATCH_LEN_MAX, BATCH_LEN_SLOW, HEAD_LEN_MAX};
    use crate::session::established::limits::{PACKET_LEN_FULL, PACKET_LEN_SLOW};
    for (cells, packet, room) in [(1, PACKET_LEN_SLOW, BATCH_LEN_SLOW), (4, PACKET_LEN_FULL, BATCH_LEN_MAX)] {
        // Flags, and for each cell its kind, the length in three bytes, a head and a packet.
        let batch_len = 1 + cells * (4 + HEAD_LEN_MAX + packet);
        assert!(batch_len <= room);
        let frame_len = Padding::Buckets.frame_len(batch_len);
        assert!(frame_len * 99 <= cells * packet * 100, "{cells}: {frame_len}");
    }
}

/// Whether a node was told where another can be dialled.
fn dialable(net: &mut Net, node: usize, other: usize) -> Option<Vec<String>> {
    let peer = net.peer(other);
    net.take(node, |event| match event {
        Event::Dialable { peer: found, addresses } if *found == peer => Some(addresses.clone()),
        _ => None,
    })
}

#[test]
fn who_is_reached_over_a_relay_is_dialled_and_the_session_moves_to_the_direct_link() {
    let addresses = vec!["tcp://203.0.113.7:7946".to_owned()];
    let mut net = Net::advertising(&[addresses.clone(), Vec::new(), Vec::new()], 9);
    net.link(0, 1);
    net.link(2, 1);
    let (alice, bob) = (net.identity(0), net.identity(2));
    serve(&mut net, 0, alice, "blog");
    petname(&mut net, 2, bob, "alice", alice);
    net.run(Duration::from_secs(5));
    assert_eq!(dialable(&mut net, 2, 0), None, "nobody talks to it yet");
    connect(&mut net, 2, 1, bob, "blog.alice");
    let (mut channel, mut far) = (None, None);
    net.until(Duration::from_secs(5), "a channel over the relay", |net| {
        let incoming = net.take(0, |event| match event {
            Event::Incoming { channel, .. } => Some(*channel),
            _ => None,
        });
        if let Some(incoming) = incoming {
            net.nodes[0].accept(net.now, incoming);
            net.drain(0);
            far = Some(incoming);
        }
        channel = connected(net, 2, 1);
        channel.is_some()
    });
    let (channel, far) = (channel.unwrap().unwrap(), far.unwrap());
    let mut said = None;
    net.until(Duration::from_secs(5), "its addresses", |net| {
        said = dialable(net, 2, 0);
        said.is_some()
    });
    assert_eq!(said, Some(addresses));
    net.link(2, 0);
    net.run(Duration::from_secs(2));
    let relayed = net.nodes[1].counters().relayed_bytes;
    let (page, mut got) = (page(300_000), Vec::new());
    assert_eq!(net.nodes[0].write(net.now, far, page.clone()), Some(page.len()));
    net.nodes[0].finish(net.now, far);
    net.drain(0);
    net.until(Duration::from_secs(10), "the page is there", |net| read(net, 2, channel, &mut got));
    assert!(got == page, "the page arrived as it was sent");
    let more = net.nodes[1].counters().relayed_bytes - relayed;
    // While the direct circuit's first window is full, the other takes what it can.
    assert!(more < 200_000, "{more} bytes of it went over the relay");
}

#[test]
fn who_hangs_on_few_links_hears_where_others_can_be_dialled() {
    let mut net = Net::advertising(&[vec!["tcp://203.0.113.7:7946".to_owned()], Vec::new(), Vec::new()], 11);
    (1..3).for_each(|node| net.link(node - 1, node));
    net.until(Duration::from_secs(120), "its addresses", |net| dialable(net, 2, 0).is_some());
}
