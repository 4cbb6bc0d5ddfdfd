//! Attacks on routing: lies about distance, other people's and earlier words, answers nobody asked for, and greed.

use bytes::{BufMut, Bytes};

use super::hostile::{LATE, advert, invent, item};
use super::net::{Net, seeded};
use crate::crypto::{PeerId, Purpose, Scheme, SigningKey};
use crate::defence::{Defence, stops};
use crate::routing::chain::{Chain, unroll};
use crate::routing::import::next_hop_tag;
use crate::routing::{Error, Limits, LookupId};
use crate::wire::kind;
use crate::wire::routing::{
    Item, METRIC_END, OriginProof, Place, PlaceRequest, Probe, ProbeFound, Routed, RoutedAnswer, SeqRequest, Subject,
    VICINITY_END,
};
use crate::wire::way::Way;

/// The next hop that a node would take.
fn next_hop(net: &Net, from: usize, dest: &PeerId) -> Option<PeerId> {
    net.nodes[from].next_hops(dest).first().map(|(hop, _)| *hop)
}

/// An item that claims a metric for a destination that `liar` knows, with the element that it heard.
fn claim(net: &Net, liar: usize, dest: usize, number: u64, metric: u16) -> Item {
    let entry = &net.nodes[liar].table.entries[&net.id(dest)];
    item(&net.id(liar), number, &entry.proof, metric, entry.best().unwrap().element)
}

#[test]
fn a_liar_that_advertises_nearer_than_true_draws_no_traffic() {
    stops(Defence::RouteChain, || {
        // A ring: three hops one way, four over the liar.
        let mut net = Net::line(7);
        net.check_loops = false;
        net.link(0, 6, 5);
        net.run_secs(10);
        let (dest, liar) = (net.id(3), net.id(6));
        assert_ne!(next_hop(&net, 0, &dest), Some(liar));
        let lie = advert(&net.keys[6], LATE, &[claim(&net, 6, 3, LATE, 1)]);
        net.inject(6, 0, kind::ADVERT, &lie).unwrap();
        next_hop(&net, 0, &dest) == Some(liar)
    });
}

#[test]
fn a_neighbour_of_a_destination_cannot_claim_to_be_it() {
    stops(Defence::MetricZero, || {
        // Two hops either way.
        let mut net = Net::line(4);
        net.check_loops = false;
        net.link(0, 3, 5);
        net.run_secs(10);
        let dest = net.id(2);
        let before = net.nodes[0].next_hops(&dest)[0].1;
        let lie = advert(&net.keys[3], LATE, &[claim(&net, 3, 2, LATE, 0)]);
        net.inject(3, 0, kind::ADVERT, &lie).unwrap();
        net.nodes[0].next_hops(&dest)[0].1 < before
    });
}

#[test]
fn a_destination_that_is_not_there_cannot_be_claimed_for_it() {
    stops(Defence::Signature(Purpose::RouteOrigin), || {
        let mut net = Net::line(3);
        net.run_secs(5);
        // A peer that is known but not in the network; the liar makes up a life and a chain for it.
        let victim = SigningKey::generate(Scheme::Ed25519, &mut seeded(50, "away"));
        let id = victim.public().peer_id();
        let (elements, anchor) = unroll(&Chain::new(&id, 9, VICINITY_END), [1; 16]);
        let impostor = SigningKey::claiming(&[77; 32], victim.public());
        let signature = impostor.sign(Purpose::RouteOrigin, &[&OriginProof::signed_fields(9, &anchor, 0)]);
        let key = victim.public().to_bytes().try_into().unwrap();
        let proof = OriginProof { key, epoch: 9, anchor, flags: 0, signature: signature.try_into().unwrap() };
        let element = Chain::new(&id, 9, VICINITY_END).advance(&elements[0], 1);
        let lie = advert(&net.keys[1], LATE, &[item(&net.id(1), LATE, &proof, 1, element)]);
        net.inject(1, 0, kind::ADVERT, &lie).unwrap();
        net.nodes[0].reaches(&id)
    });
}

#[test]
fn an_advert_that_is_sent_again_brings_no_lost_route_back() {
    stops(Defence::AdvertNumber, || {
        let mut net = Net::line(2);
        net.run_secs(5);
        let (made_up, from) = (invent(0), net.id(1));
        let body = advert(&net.keys[1], LATE, &[item(&from, LATE, &made_up.proof, 1, made_up.element)]);
        net.inject(1, 0, kind::ADVERT, &body).unwrap();
        let gone = Item { metric: METRIC_END, ..item(&from, LATE + 1, &made_up.proof, 1, made_up.element) };
        let gone = advert(&net.keys[1], LATE + 1, &[gone]);
        net.inject(1, 0, kind::ADVERT, &gone).unwrap();
        assert!(!net.nodes[0].reaches(&made_up.id));
        let _ = net.inject(1, 0, kind::ADVERT, &body);
        net.run_secs(1);
        net.nodes[0].table.entries[&made_up.id].route(&from).is_some()
    });
}

#[test]
fn nobody_says_where_another_is() {
    stops(Defence::Signature(Purpose::RoutePlace), || {
        let mut net = Net::line(2);
        net.run_secs(5);
        let victim = SigningKey::generate(Scheme::Ed25519, &mut seeded(51, "away"));
        let impostor = SigningKey::claiming(&[77; 32], victim.public());
        let place = Place::sign(&impostor, 9, Vec::new(), Bytes::from_static(b"lie")).unwrap();
        let payload = PlaceRequest::Put(place).encode();
        let put = Routed { dest: net.id(0), hops_left: 4, token: [1; 8], way: Way::default(), payload };
        net.inject(1, 0, kind::PLACE, &put.encode()).unwrap();
        net.nodes[0].directory.keeps(&victim.public().peer_id())
    });
}

#[test]
fn adverts_signed_by_another_are_not_a_neighbours() {
    stops(Defence::Signature(Purpose::RouteAdvert), || {
        let mut net = Net::line(3);
        net.run_secs(5);
        let (made_up, from) = (invent(0), net.id(1));
        let body = advert(&net.keys[2], LATE, &[item(&from, LATE, &made_up.proof, 1, made_up.element)]);
        let result = net.inject(1, 0, kind::ADVERT, &body);
        assert!(matches!(result, Ok(()) | Err(Error::BadSignature)));
        net.nodes[0].reaches(&made_up.id)
    });
}

#[test]
fn an_old_and_shorter_distance_does_not_beat_a_newer_and_longer_one() {
    stops(Defence::Feasibility, || {
        // The liar was the destination's neighbour once, and still is ours.
        let mut net = Net::line(4);
        net.check_loops = false;
        net.link(0, 3, 5);
        net.run_secs(10);
        let (dest, liar) = (net.id(2), net.id(3));
        let mut old = claim(&net, 3, 2, LATE, 1);
        let entry = &net.nodes[3].table.entries[&dest];
        let best = entry.best().unwrap();
        old.chain = entry.verifier.import(&best.element, best.cost);
        old.seq = best.sequence.seq;
        net.cut(2, 3);
        net.run_secs(5);
        let request = SeqRequest { dest, newer_than: net.nodes[2].origin.sequence(), hops_left: 9 };
        net.inject(1, 2, kind::SEQREQ, &request.encode()).unwrap();
        net.run_secs(60);
        assert!(net.nodes[0].table.entries[&dest].bound.sequence > request.newer_than, "a newer state is known");
        let lie = advert(&net.keys[3], LATE, &[Item { tag: next_hop_tag(&liar, LATE, &liar), ..old }]);
        net.inject(3, 0, kind::ADVERT, &lie).unwrap();
        net.nodes[0].next_hops(&dest).iter().any(|(hop, _)| *hop == liar)
    });
}

#[test]
fn a_route_answer_from_somebody_who_was_not_asked_is_dropped() {
    stops(Defence::ProbeAsked, || {
        let mut net = Net::line(2);
        net.run_secs(5);
        let wanted = invent(3);
        let now = net.now;
        net.nodes[0].lookup(now, LookupId(1), wanted.id);
        let (_, _, probe) = net.nodes[0].poll_transmit().unwrap();
        let nonce = Probe::decode(&probe).unwrap().nonce;
        // It came up after the probe went out, and its accomplice told it the nonce.
        let late = net.keys.len();
        let stranger = SigningKey::generate(Scheme::Ed25519, &mut seeded(late, "late")).public().peer_id();
        net.nodes[0].handle_link_up(now, stranger, crate::routing::LinkCost::MIN);
        let found = ProbeFound { nonce, proof: wanted.proof.clone(), seq: 0, metric: 1, chain: wanted.element };
        net.nodes[0].handle_message(now, stranger, kind::PROBE_FOUND, &found.encode()).unwrap();
        net.nodes[0].reaches(&wanted.id)
    });
}

#[test]
fn an_answer_from_another_neighbour_than_the_datagram_went_to_is_dropped() {
    stops(Defence::AnswerAsked, || {
        let mut net = Net::line(3);
        net.run_secs(10);
        let (now, dest) = (net.now, net.id(2));
        net.nodes[1].send_routed(now, dest, Bytes::new(), true).unwrap();
        let (_, _, body) = net.nodes[1].poll_transmit().unwrap();
        let token = Routed::decode(&body).unwrap().token;
        let answer = RoutedAnswer { token, payload: Bytes::from("lie") }.encode();
        net.events.clear();
        net.inject(0, 1, kind::ROUTED_ANSWER, &answer).unwrap();
        !net.events.is_empty()
    });
}

#[test]
fn invented_destinations_do_not_push_honest_ones_out() {
    stops(Defence::RouteShare, || {
        let mut net = Net::new(7, Limits { table: 40, tombstones: 8, ..Limits::default() });
        (1..3).for_each(|at| net.link(0, at, 5));
        (3..7).for_each(|at| net.link(2, at, 5));
        net.run_secs(5);
        let flooder = net.id(1);
        for at in 0..200 {
            let made_up = invent(at);
            let number = LATE + at as u64;
            let body = advert(&net.keys[1], number, &[item(&flooder, number, &made_up.proof, 1, made_up.element)]);
            net.inject(1, 0, kind::ADVERT, &body).unwrap();
            assert!(net.nodes[0].contacts().count() <= 40, "the table is bounded in any case");
        }
        (3..7).any(|honest| !net.nodes[0].reaches(&net.id(honest)))
    });
}

#[test]
fn a_neighbour_that_asks_all_the_time_is_not_answered_all_the_time() {
    stops(Defence::RequestBudget, || {
        let mut net = Net::line(2);
        net.run_secs(10);
        let before = net.bytes[0];
        for n in 0..2000u64 {
            let mut nonce = [0; 8];
            (&mut nonce[..]).put_u64_le(n);
            let probe = Probe { nonce, dest: net.id(0), hops_left: 9 };
            net.inject(1, 0, kind::PROBE, &probe.encode()).unwrap();
        }
        net.bytes[0] - before > 100_000
    });
}

#[test]
fn an_items_subject_is_its_own_proof() {
    // A proof moved to another destination's item names its own destination still.
    let (one, other) = (invent(1), invent(2));
    let moved = OriginProof { key: other.proof.key, ..one.proof.clone() };
    assert!(one.proof.verify().is_ok() && moved.verify().is_err());
    let Subject::Proven(proof) = item(&one.id, 1, &one.proof, 1, one.element).subject else {
        panic!("an unproven item")
    };
    assert_eq!(proof.public_key().map(|key| key.peer_id()), Some(one.id));
}
