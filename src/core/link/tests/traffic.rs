//! What goes over links that are up.

use super::*;
use crate::link::limits::{BATCH_LEN_MAX, BATCHES_OUTSTANDING, CONTROL_QUEUE_MAX, DELAY_TARGET, MESSAGE_LEN_MAX};
use crate::wire::kind;
use crate::wire::link::put_message;

const BULK: Class = Class::Cell { flow: 1, interactive: false, from: Some(PeerId([8; 32])) };
const INTERACTIVE: Class = Class::Cell { flow: 2, interactive: true, from: Some(PeerId([8; 32])) };

#[test]
fn messages_arrive_once_and_in_order_while_keys_change() {
    let mut net = Net::new(2);
    net.link(0, 1);
    for n in 0..600u16 {
        net.send(0, 1, Class::Control, &n.to_le_bytes());
        net.send(1, 0, BULK, &n.to_le_bytes());
        net.advance(Duration::from_secs(1));
    }
    let want: Vec<_> = (0..600u16).map(|n| n.to_le_bytes().to_vec()).collect();
    assert_eq!(net.received(1), want);
    let cells: Vec<_> = net.received(0).into_iter().map(|body| body.slice(5..)).collect();
    assert_eq!(cells, want);
    assert_eq!(net.nodes[0].links.counters(), Counters::default());
}

#[test]
fn under_load_many_cells_share_a_full_batch() {
    let mut net = Net::new(2);
    net.link(0, 1);
    net.make_fast(0, 1);
    net.ready = false;
    let conn = net.only(0).unwrap().conn;
    (0..400).for_each(|_| net.send(0, 1, BULK, &[7; 2048]));
    net.nodes[0].batch_lens.clear();
    for _ in 0..20 {
        net.nodes[0].links.handle_ready(net.now, conn);
        net.pump(0);
    }
    assert!(net.nodes[0].batch_lens[..10].iter().all(|len| *len > 60_000 && *len <= BATCH_LEN_MAX));
    net.run();
    assert_eq!(net.received(1).len(), 400);
}

#[test]
fn no_batch_is_built_without_credit_and_interactive_cells_overtake() {
    let mut net = Net::new(2);
    net.link(0, 1);
    net.make_fast(0, 1);
    net.ready = false;
    let conn = net.only(0).unwrap().conn;
    net.nodes[0].batch_lens.clear();
    (0..100).for_each(|_| net.send(0, 1, BULK, &[1; 2000]));
    assert_eq!(net.nodes[0].batch_lens.len(), usize::from(BATCHES_OUTSTANDING));
    let peer = net.id(1);
    assert!(!net.nodes[0].links.room(&peer));
    net.send(0, 1, INTERACTIVE, &[2; 100]);
    net.send(0, 1, Class::Control, &[3; 100]);
    net.run();
    net.nodes[1].events.clear();
    net.now = net.now.after(DELAY_TARGET + Duration::from_micros(1));
    net.nodes[0].links.handle_ready(net.now, conn);
    net.run();
    let got = net.received(1);
    assert_eq!(got[0][..], [3; 100]);
    assert_eq!((got[1][4], got[1][5]), (1, 2), "then the interactive cell, marked");
    assert!(got[2..].iter().all(|cell| (cell[4], cell[5]) == (1, 1)), "then bulk, marked");
    assert_eq!(net.only(0).unwrap().cells_marked, got.len() as u64 - 1);
    while net.only(0).unwrap().queued_bytes > 0 {
        net.nodes[0].links.handle_ready(net.now, conn);
        net.run();
    }
    assert!(net.nodes[0].links.room(&peer));
}

#[test]
fn control_that_piles_up_costs_the_link_and_nothing_else() {
    let mut net = Net::new(3);
    net.link(0, 1);
    net.link(0, 2);
    net.ready = false;
    let (peer, now) = (net.id(1), net.now);
    let links = &mut net.nodes[0].links;
    let sent = (0..100)
        .take_while(|_| links.send(now, &peer, Class::Control, kind::ADVERT, &[], vec![0; 50_000].into()).is_ok())
        .count();
    assert!(sent > CONTROL_QUEUE_MAX / 51_000 - 1 && sent < 100);
    net.run();
    assert_eq!(net.only(0).unwrap().peer, net.id(2));
    assert_eq!(net.nodes[0].links.counters().control_overflows, 1);
    assert!(
        net.nodes[0].events.iter().any(|event| matches!(event, Event::Down { reason: Error::ControlOverflow, .. }))
    );
}

#[test]
fn messages_for_nobody_and_too_long_ones_are_refused() {
    let mut net = Net::new(2);
    net.link(0, 1);
    let (peer, now) = (net.id(1), net.now);
    let mut send = |peer: &PeerId, class, head: &[u8], len: usize| {
        net.nodes[0].links.send(now, peer, class, kind::CELL, head, vec![0; len].into())
    };
    assert_eq!(send(&PeerId([9; 32]), BULK, &[], 1), Err(Dropped::NoLink));
    assert_eq!(send(&peer, BULK, &[0; 5], 16_384), Ok(()));
    assert_eq!(send(&peer, BULK, &[0; 5], 16_400), Err(Dropped::TooLong));
    assert_eq!(send(&peer, BULK, &[0; 17], 1), Err(Dropped::TooLong));
    assert_eq!(send(&peer, Class::Control, &[], MESSAGE_LEN_MAX), Ok(()));
    assert_eq!(send(&peer, Class::Control, &[], MESSAGE_LEN_MAX + 1), Err(Dropped::TooLong));
    net.run();
    assert_eq!(net.received(1).len(), 2, "the longest message fits into a frame");
}

#[test]
fn a_peer_that_sends_nonsense_loses_its_link_and_is_counted() {
    let message = |kind, body: &[u8]| {
        let mut batch = BytesMut::new();
        put_message(&mut batch, kind, &[], body);
        batch.freeze()
    };
    let nonsense = [
        Bytes::from_static(&[0x24, 200, 1]),
        Bytes::from_static(&[0x24]),
        message(kind::PING, &[1; 7]),
        message(kind::PING, &[1; 9]),
        message(kind::PONG, &[]),
        message(kind::BYE, &[]),
        message(0x0e, b"from the future"),
    ];
    for batch in nonsense {
        let mut net = Net::new(2);
        let (ours, theirs) = net.link(0, 1);
        net.nodes[0].links.handle_plaintext(net.now, ours, batch);
        net.run();
        assert!(matches!(net.ended(0, ours), Some(Error::Garbage(_))));
        assert_eq!(net.ended(1, theirs), Some(Error::Bye(Bye::Garbage)));
        assert_eq!(net.nodes[0].links.counters().garbage, 1);
        assert!(net.only(0).is_none() && net.only(1).is_none());
        assert!(net.nodes.iter().all(|node| node.links.poll_timeout().is_none()));
    }
}

#[test]
fn random_batches_never_panic() {
    let mut rng = Rng::from_seed([4; 32]);
    let mut net = Net::new(2);
    for _ in 0..300 {
        if net.only(0).is_none() {
            net.link(0, 1);
        }
        let conn = net.only(0).unwrap().conn;
        let mut batch = vec![0; usize::try_from(rng.public_below(64)).unwrap()];
        rng.fill_public(&mut batch);
        net.nodes[0].links.handle_plaintext(net.now, conn, &batch[..]);
        net.advance(Duration::from_secs(1));
    }
    assert!(net.nodes[0].links.counters().garbage > 10);
}

#[test]
fn an_altered_frame_ends_the_link() {
    let mut net = Net::new(2);
    let (ours, theirs) = net.link(0, 1);
    net.send(0, 1, Class::Control, b"x");
    let Some(Wire::Sealed(frame)) = net.wires.get_mut(&(1, theirs)).and_then(VecDeque::back_mut) else {
        panic!("a frame is on its way");
    };
    frame[9] ^= 4;
    net.run();
    assert_eq!(net.ended(1, theirs), Some(Error::BadFrame));
    assert!(net.received(1).is_empty());
    net.nodes[0].links.handle_closed(net.now, ours);
    assert!(net.only(0).is_none());
}

#[test]
fn an_idle_link_stays_up_and_costs_little() {
    let mut net = Net::new(2);
    net.link(0, 1);
    net.nodes.iter_mut().for_each(|node| node.bytes_sent = 0);
    net.advance(Duration::from_secs(3600));
    let sent = [net.nodes[0].bytes_sent, net.nodes[1].bytes_sent];
    assert!(sent.iter().sum::<usize>() < 40 * 3600, "{sent:?} bytes in an hour");
    assert!(sent.iter().all(|bytes| *bytes > 3600), "both ping or answer");
    assert!(net.only(0).is_some() && net.only(1).is_some());
}

#[test]
fn a_transport_that_takes_nothing_is_noticed_soon_although_the_peer_was_heard_since() {
    // With one cell nothing waits behind the batch that is not taken: who would send more asks for room first.
    for cells in [100, 1] {
        let mut net = Net::new(2);
        let (ours, theirs) = net.link(0, 1);
        net.advance(Duration::from_secs(100));
        net.ready = false;
        (0..cells).for_each(|_| net.send(0, 1, BULK, &[1; 2000]));
        net.send(1, 0, Class::Control, b"still here");
        net.advance(Duration::from_secs(1));
        assert!(!net.nodes[0].links.room(&net.id(1)));
        net.cut.extend([(0, ours), (1, theirs)]);
        net.advance(Duration::from_secs(6));
        assert_eq!(net.ended(0, ours), Some(Error::Silent), "{cells} cells");
    }
}

#[test]
fn a_dead_link_is_noticed_sooner_when_it_carries_cells() {
    for (cells, seconds) in [(false, 35), (true, 6)] {
        let mut net = Net::new(2);
        let (ours, theirs) = net.link(0, 1);
        net.advance(Duration::from_secs(100));
        net.cut.extend([(0, ours), (1, theirs)]);
        if cells {
            net.send(0, 1, BULK, b"anybody?");
        }
        net.advance(Duration::from_secs(2));
        assert!(net.only(0).is_some());
        net.advance(Duration::from_secs(seconds - 2));
        assert_eq!(net.ended(0, ours), Some(Error::Silent));
        assert_eq!(net.nodes[0].links.counters().silent, 1);
        assert!(net.nodes[0].links.poll_timeout().is_none());
    }
}

#[test]
fn the_round_trip_time_shows_in_the_cost() {
    let mut net = Net::new(2);
    net.link(0, 1);
    assert_eq!(net.only(0).unwrap().cost, 1);
    net.nodes[0].events.clear();
    for _ in 0..60 {
        // Every frame takes 60 ms.
        let mut next = net.nodes[0].links.poll_timeout().unwrap();
        next = next.min(net.nodes[1].links.poll_timeout().unwrap());
        net.now = net.now.after(next - net.now.instant);
        net.nodes.iter_mut().for_each(|node| node.links.handle_timeout(net.now));
        net.pump(0);
        net.pump(1);
        while !net.wires.values().all(VecDeque::is_empty) {
            net.now = net.now.after(Duration::from_millis(60));
            net.step();
        }
    }
    let costs: Vec<_> = net.nodes[0].events.iter().filter(|event| matches!(event, Event::Cost { .. })).collect();
    assert!(!costs.is_empty() && costs.len() <= 5, "{costs:?}");
    let link = net.only(0).unwrap();
    assert!((4..=6).contains(&link.cost), "{link:?}");
}

#[test]
fn a_link_closed_on_request_says_so() {
    let mut net = Net::new(3);
    let (_, theirs) = net.link(0, 1);
    net.link(0, 2);
    let peer = net.id(1);
    assert!(net.nodes[0].links.close(net.now, &peer));
    assert!(!net.nodes[0].links.close(net.now, &peer));
    net.run();
    assert_eq!(net.ended(1, theirs), Some(Error::Bye(Bye::Asked)));
    net.nodes[0].links.close_all(net.now);
    net.run();
    assert!((0..3).all(|n| net.only(n).is_none()));
    assert!(net.pipes.is_empty() && net.nodes.iter().all(|node| node.links.poll_timeout().is_none()));
}
