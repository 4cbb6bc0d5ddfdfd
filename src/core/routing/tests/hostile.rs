//! A neighbour that lies, floods, repeats and answers what nobody asked.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::net::{Net, seeded};
use crate::crypto::{PeerId, Purpose, Scheme, SigningKey};
use crate::routing::chain::{Chain, unroll};
use crate::routing::import::next_hop_tag;
use crate::routing::{Error, Event, Limits, Routing};
use crate::wire::kind;
use crate::wire::routing::{
    Advert, Element, Item, Marks, OriginProof, PlaceRequest, ProbeFound, Retraction, Retractions, Routed, RoutedAnswer,
    Sequence, Subject, VICINITY_END, short,
};
use crate::wire::way::Way;

/// A destination that an attacker made up, with a proper key.
pub(super) struct Invented {
    pub(super) id: PeerId,
    pub(super) proof: OriginProof,
    /// For sequence 0 and metric 1: only the destination itself may say 0.
    pub(super) element: Element,
}

/// Makes a destination up.
pub(super) fn invent(at: usize) -> Invented {
    let keys = SigningKey::generate(Scheme::Ed25519, &mut seeded(at, "invented"));
    let id = keys.public().peer_id();
    let (elements, anchor) = unroll(&Chain::new(&id, 1, VICINITY_END), [1; 16]);
    let signature = keys.sign(Purpose::RouteOrigin, &[&OriginProof::signed_fields(1, &anchor, 0)]);
    let key = keys.public().to_bytes().try_into().unwrap();
    let proof = OriginProof { key, epoch: 1, anchor, flags: 0, signature: signature.try_into().unwrap() };
    let element = Chain::new(&id, 1, VICINITY_END).advance(&elements[0], 1);
    Invented { id, proof, element }
}

/// An advert of one's own making, properly signed by the advertiser.
pub(super) fn advert(keys: &Arc<SigningKey>, number: u64, items: &[Item]) -> Bytes {
    let mut body = Advert::encode_unsigned(Marks::default(), number, items);
    let signature = keys.sign(Purpose::RouteAdvert, &[&keys.public().peer_id().0, &body]);
    body.put_slice(&signature);
    body.freeze()
}

/// An item that claims `metric` with `chain`.
pub(super) fn item(advertiser: &PeerId, number: u64, proof: &OriginProof, metric: u16, chain: Element) -> Item {
    let tag = next_hop_tag(advertiser, number, advertiser);
    Item { subject: Subject::Proven(Box::new(proof.clone())), seq: 0, metric, tag, chain }
}

/// A number above all honest batches.
pub(super) const LATE: u64 = u64::MAX / 2;

#[test]
fn a_liar_that_claims_metric_zero_is_refused_by_the_chain() {
    let mut net = Net::line(4);
    net.link(0, 3, 5);
    net.run_secs(10);
    let dest = net.id(2);
    let before = net.nodes[0].next_hops(&dest);
    let liar = net.id(3);
    let proof = (**net.nodes[2].origin.proof()).clone();
    let heard = net.nodes[3].table.entries[&dest].best().unwrap().element;
    // What it heard from the destination was metric 0: repeated as 0, which only the destination may; invented nearer ones.
    for (number, metric, chain) in
        [(LATE, 0, heard), (LATE + 1, 0, [0; 16]), (LATE + 2, 1, [0; 16]), (LATE + 3, 1, heard)]
    {
        let lie = advert(&net.keys[3], number, &[item(&liar, number, &proof, metric, chain)]);
        assert_eq!(net.inject(3, 0, kind::ADVERT, &lie), Ok(()));
        assert_eq!(net.nodes[0].next_hops(&dest), before);
        assert_eq!(net.nodes[0].counters().items_unproven, number - LATE + 1);
    }
}

#[test]
fn adverts_are_refused_when_repeated_or_signed_by_another() {
    let mut net = Net::line(3);
    net.run_secs(10);
    let made_up = invent(0);
    let from = net.id(1);
    let body = advert(&net.keys[1], LATE, &[item(&from, LATE, &made_up.proof, 1, made_up.element)]);
    assert_eq!(net.inject(1, 0, kind::ADVERT, &body), Ok(()));
    assert!(net.nodes[0].reaches(&made_up.id));
    assert_eq!(net.inject(1, 0, kind::ADVERT, &body), Err(Error::Repeated));
    let other = invent(1);
    let forged = advert(&net.keys[2], LATE + 1, &[item(&from, LATE + 1, &other.proof, 1, other.element)]);
    assert_eq!(net.inject(1, 0, kind::ADVERT, &forged), Err(Error::BadSignature));
    let stranger = net.id(2);
    let now = net.now;
    assert_eq!(net.nodes[0].handle_message(now, stranger, kind::ADVERT, &forged), Err(Error::NotNeighbour));
    assert_eq!(net.inject(1, 0, 0x77, &[]), Err(Error::Kind(0x77)));
}

#[test]
fn an_advert_that_its_retraction_overtook_is_refused_and_a_late_retraction_still_holds() {
    let mut net = Net::line(2);
    net.run_secs(10);
    let made_up = invent(0);
    let from = net.id(1);
    let claim = |number| advert(&net.keys[1], number, &[item(&from, number, &made_up.proof, 1, made_up.element)]);
    let (early, late) = (claim(LATE), claim(LATE + 5));
    let list = vec![Retraction { short: short(&made_up.id), sequence: Sequence { epoch: 1, seq: 0 } }];
    let retraction = |number| Retractions { number, list: list.clone() }.encode();
    assert_eq!(net.inject(1, 0, kind::UNREACH, &retraction(LATE + 1)), Ok(()));
    assert_eq!(net.inject(1, 0, kind::ADVERT, &early), Err(Error::Repeated));
    assert!(!net.nodes[0].reaches(&made_up.id));
    assert_eq!(net.inject(1, 0, kind::ADVERT, &late), Ok(()));
    assert!(net.nodes[0].reaches(&made_up.id));
    assert_eq!(net.inject(1, 0, kind::UNREACH, &retraction(LATE + 2)), Ok(()));
    assert!(!net.nodes[0].reaches(&made_up.id));
}

#[test]
fn a_flood_of_invented_destinations_fills_only_its_neighbours_share() {
    let limits = Limits { table: 40, tombstones: 8, ..Limits::default() };
    let mut net = Net::new(7, limits);
    for at in 1..3 {
        net.link(0, at, 5);
    }
    for at in 3..7 {
        net.link(2, at, 5);
    }
    net.run_secs(5);
    let flooder = net.id(1);
    for at in 0..200 {
        let made_up = invent(at);
        let number = LATE + at as u64;
        let body = advert(&net.keys[1], number, &[item(&flooder, number, &made_up.proof, 1, made_up.element)]);
        assert_eq!(net.inject(1, 0, kind::ADVERT, &body), Ok(()));
        assert!(net.nodes[0].contacts().count() <= 40);
    }
    for honest in 2..7 {
        assert!(net.nodes[0].reaches(&net.id(honest)), "{honest} was pushed out");
    }
    assert!(net.nodes[0].counters().refused > 0);
    assert!(net.nodes[0].table.entries.len() <= 40 + 8);
}

#[test]
fn a_newcomer_gets_its_share_of_a_full_table() {
    let mut net = Net::new(4, Limits { table: 8, ..Limits::default() });
    net.link(0, 1, 5);
    net.run_secs(5);
    let first = net.id(1);
    for at in 0..20 {
        let made_up = invent(at);
        let number = LATE + at as u64;
        let body = advert(&net.keys[1], number, &[item(&first, number, &made_up.proof, 1, made_up.element)]);
        net.inject(1, 0, kind::ADVERT, &body).unwrap();
    }
    // The flooder's machine goes on where the attack stopped.
    net.nodes[1].batch = LATE + 100;
    assert_eq!(net.nodes[0].contacts().count(), 8);
    net.link(2, 3, 5);
    net.run_secs(5);
    net.link(0, 2, 5);
    net.run_secs(5);
    assert!(net.nodes[0].reaches(&net.id(3)) && net.nodes[0].counters().evicted > 0);
    assert!(net.nodes[2].contacts().count() <= 8);
}

#[test]
fn answers_that_nobody_asked_for_are_dropped_and_counted() {
    let mut net = Net::line(3);
    net.run_secs(10);
    let made_up = invent(3);
    let found = ProbeFound { nonce: [1; 8], proof: made_up.proof, seq: 0, metric: 1, chain: made_up.element };
    assert_eq!(net.inject(1, 0, kind::PROBE_FOUND, &found.encode()), Ok(()));
    assert!(!net.nodes[0].reaches(&made_up.id));
    let answer = RoutedAnswer { token: [1; 8], payload: Bytes::from("x") };
    net.events.clear();
    assert_eq!(net.inject(1, 0, kind::ROUTED_ANSWER, &answer.encode()), Ok(()));
    assert!(net.events.is_empty());
    let counters = net.nodes[0].counters();
    assert_eq!((counters.found_unsolicited, counters.answers_unsolicited), (1, 1));
}

#[test]
fn an_answer_counts_only_from_the_neighbour_that_the_datagram_went_to() {
    let mut net = Net::line(3);
    net.run_secs(10);
    let (now, dest) = (net.now, net.id(2));
    net.nodes[1].send_routed(now, dest, Bytes::new(), true).unwrap();
    let (_, _, body) = net.nodes[1].poll_transmit().unwrap();
    let token = crate::wire::routing::Routed::decode(&body).unwrap().token;
    let answer = RoutedAnswer { token, payload: Bytes::from("x") }.encode();
    net.events.clear();
    net.inject(0, 1, kind::ROUTED_ANSWER, &answer).unwrap();
    assert!(net.events.is_empty());
    for _ in 0..20 {
        net.inject(2, 1, kind::ROUTED_ANSWER, &answer).unwrap();
    }
    assert_eq!(net.events.len(), 16);
    assert_eq!(net.nodes[1].counters().answers_unsolicited, 5);
}

#[test]
fn requests_are_budgeted_per_neighbour() {
    let mut net = Net::line(2);
    net.run_secs(10);
    for n in 0..2000u64 {
        let probe = crate::wire::routing::Probe { nonce: n.to_le_bytes(), dest: net.id(0), hops_left: 9 };
        net.inject(1, 0, kind::PROBE, &probe.encode()).unwrap();
        net.inject(1, 0, kind::REFILL, &[0]).unwrap();
    }
    assert_eq!(net.nodes[0].counters().requests_over_budget, 2 * 2000 - 50 - 4 + 1);
}

#[test]
fn whoever_keeps_asking_for_newer_sequences_gets_them_ever_more_slowly() {
    let mut net = Net::line(2);
    net.check_loops = false;
    net.run_secs(10);
    let dest = net.id(0);
    let mut changes = 0;
    for _ in 0..600 {
        let newer_than = net.nodes[0].origin.sequence();
        let request = crate::wire::routing::SeqRequest { dest, newer_than, hops_left: 9 };
        net.inject(1, 0, kind::SEQREQ, &request.encode()).unwrap();
        net.run_secs(1);
        changes += usize::from(net.nodes[0].origin.sequence() > newer_than);
    }
    assert!((10..=16).contains(&changes), "{changes} changes in ten minutes");
}

#[test]
fn a_lost_message_is_found_by_the_digest_and_repaired() {
    let mut net = Net::line(3);
    net.run_secs(10);
    let dest = net.id(2);
    net.cut(1, 2);
    net.run_secs(5);
    net.link(1, 2, 5);
    net.run(std::time::Duration::from_millis(100));
    lose_adverts(&mut net.nodes[1]);
    net.run_secs(1);
    assert!(!net.nodes[0].reaches(&dest));
    net.run_secs(45);
    assert!(net.nodes[0].reaches(&dest));
    assert!(net.nodes[0].counters().drifts > 0);
}

/// Lets a node say what is due, and loses it.
fn lose_adverts(node: &mut Routing) {
    let later = crate::time::Now::ZERO.after(std::time::Duration::from_secs(26));
    node.handle_timeout(later);
    while node.poll_transmit().is_some() {}
}

#[test]
fn garbage_of_every_kind_is_an_error_or_ignored() {
    let mut net = Net::line(2);
    net.run_secs(5);
    let mut rng = seeded(5, "garbage");
    for _ in 0..2000 {
        let len = usize::try_from(rng.public_below(200)).unwrap();
        let mut body = vec![0; len];
        rng.fill_public(&mut body);
        let kind = 0x10 + u8::try_from(rng.public_below(0x24)).unwrap();
        let _ = net.inject(1, 0, kind, &body);
    }
    net.run_secs(60);
    assert_eq!(net.hops(0, 1), Some(1));
}

/// 4 asks the landmark 3 over 0, which has two ways there: over 1, and a longer one over 2 and 5.
fn two_ways() -> Net {
    let mut net = Net::new(6, Limits::default());
    [(4, 0), (0, 1), (1, 3), (0, 2), (2, 5), (5, 3)].into_iter().for_each(|(a, b)| net.link(a, b, 5));
    let now = net.now.instant;
    net.nodes[3].set_landmark(now, true);
    net.run_secs(20);
    net
}

/// Has 4 ask 3 for a place so many times, and says over whom 0 would pass the next one on.
fn asked(net: &mut Net, times: usize) -> PeerId {
    let (landmark, from) = (net.id(3), net.id(4));
    for _ in 0..times {
        let request = PlaceRequest::Get(PeerId([9; 32])).encode();
        let now = net.now.instant;
        net.nodes[4].send_place(now, landmark, request, 0).expect("there is a way");
        net.drain(4);
        net.run_secs(10);
    }
    net.nodes[0].datagram_hops(&landmark, Some(&from))[0].0
}

#[test]
fn who_swallows_requests_is_gone_around_by_everybody_who_passed_them_on() {
    let mut net = two_ways();
    assert_eq!(asked(&mut net, 1), net.id(1));
    net.greedy.insert(1);
    assert_eq!(asked(&mut net, 2), net.id(2), "nobody told it but the silence");
    net.events.clear();
    asked(&mut net, 1);
    assert!(net.events.iter().any(|(at, event)| *at == 4 && matches!(event, Event::Answer { .. })));
    // Routing's own choice is as before, and what it tells.
    let landmark = net.id(3);
    assert!(net.nodes[0].told().any(|told| told == (landmark, 2)));
}

#[test]
fn requests_that_could_not_arrive_tell_nothing() {
    let mut net = two_ways();
    for n in 1..20 {
        let payload = PlaceRequest::Get(PeerId([9; 32])).encode();
        let routed = Routed { dest: net.id(3), hops_left: 1, token: [n; 8], way: Way::default(), payload };
        net.inject(4, 0, kind::PLACE, &routed.encode()).unwrap();
        net.run_secs(5);
    }
    assert_eq!(asked(&mut net, 0), net.id(1));
}

#[test]
fn what_came_back_from_the_only_next_hop_goes_to_anybody_else() {
    let mut net = Net::new(4, Limits::default());
    [(0, 1), (1, 2), (1, 3)].into_iter().for_each(|(a, b)| net.link(a, b, 5));
    net.run_secs(20);
    let [dest, hop, other] = [2, 0, 3].map(|at| net.id(at));
    assert_eq!(net.nodes[1].datagram_hops(&dest, None)[0].0, dest);
    let others: Vec<PeerId> = net.nodes[1].datagram_hops(&dest, Some(&dest)).into_iter().map(|(via, _)| via).collect();
    assert!(others.len() == 2 && others.contains(&hop) && others.contains(&other), "{others:?}");
    assert!(net.nodes[1].datagram_hops(&PeerId([9; 32]), None).is_empty(), "whom nobody knows, nobody looks for");
}
