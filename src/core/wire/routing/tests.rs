//! Round trips of every routing message, and hostile bytes to every decoder.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::way::{Way, Waypoint};

/// Any short.
fn nonce_of(number: u16) -> Short {
    u64::from(number).to_le_bytes()
}

/// Any proof, valid or not.
fn proof() -> impl Strategy<Value = OriginProof> {
    (any::<[u8; 32]>(), any::<u32>(), any::<[u8; 16]>(), any::<u8>(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(
        |(key, epoch, anchor, flags, a, b)| {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&a);
            signature[32..].copy_from_slice(&b);
            OriginProof { key, epoch, anchor, flags, signature }
        },
    )
}

/// Any item.
fn item() -> impl Strategy<Value = Item> {
    let subject = prop_oneof![
        (any::<Short>(), any::<u8>(), any::<bool>()).prop_map(|(short, epoch_low, landmark)| Subject::Known {
            short,
            epoch_low,
            landmark
        }),
        proof().prop_map(|proof| Subject::Proven(Box::new(proof))),
    ];
    (subject, 0..SEQ_END, 0..=METRIC_END, any::<[u8; 4]>(), any::<[u8; 16]>())
        .prop_map(|(subject, seq, metric, tag, chain)| Item { subject, seq, metric, tag, chain })
}

/// Any sequence.
fn sequence() -> impl Strategy<Value = Sequence> {
    (any::<u32>(), 0..SEQ_END).prop_map(|(epoch, seq)| Sequence { epoch, seq })
}

/// Gives bytes to every decoder; what is accepted encodes to the same bytes.
fn decode_everything(bytes: &[u8]) {
    if let Ok((advert, signed)) = Advert::decode(bytes) {
        assert_eq!(advert.encode(), bytes);
        assert_eq!(signed.len() + 64, bytes.len());
    }
    if let Ok(retractions) = Retractions::decode(bytes) {
        assert_eq!(retractions.encode(), bytes);
    }
    if let Ok(request) = SeqRequest::decode(bytes) {
        assert_eq!(request.encode(), bytes);
    }
    if let Ok(refill) = Refill::decode(bytes) {
        assert_eq!(refill.encode(), bytes);
    }
    if let Ok(digest) = Digest::decode(bytes) {
        assert_eq!(digest.encode(), bytes);
    }
    if let Ok(probe) = Probe::decode(bytes) {
        assert_eq!(probe.encode(), bytes);
    }
    if let Ok(found) = ProbeFound::decode(bytes) {
        assert_eq!(found.encode(), bytes);
    }
    if let Ok(routed) = Routed::decode(bytes) {
        assert_eq!(routed.encode(), bytes);
    }
    if let Ok(answer) = RoutedAnswer::decode(bytes) {
        assert_eq!(answer.encode(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn adverts_round_trip_and_refuse_truncation(
        items in prop::collection::vec(item(), 0..5), number: u64, start: bool, end: bool, flip: (usize, u8),
    ) {
        let advert = Advert { marks: Marks { start, end }, number, items, signature: [7; 64] };
        let bytes = advert.encode();
        prop_assert_eq!(Advert::decode(&bytes).unwrap().0, advert);
        for len in 0..bytes.len() {
            decode_everything(&bytes[..len]);
        }
        let mut flipped = bytes.to_vec();
        let at = flip.0 % flipped.len();
        flipped[at] ^= flip.1;
        decode_everything(&flipped);
    }

    #[test]
    fn requests_round_trip(
        sequence in sequence(), dest: [u8; 32], hops_left: u16, nonce: [u8; 8], sum: u64, count: u64, number: u64,
        wanted in prop::collection::vec(any::<Short>(), 0..WANTED_MAX), proof in proof(), metric in 0..=METRIC_END,
    ) {
        let dest = PeerId(dest);
        let request = SeqRequest { dest, newer_than: sequence, hops_left };
        prop_assert_eq!(SeqRequest::decode(&request.encode()), Ok(request));
        let list = wanted.iter().map(|short| Retraction { short: *short, sequence }).collect();
        let retractions = Retractions { number, list };
        prop_assert_eq!(Retractions::decode(&retractions.encode()), Ok(retractions));
        let refill = Refill { wanted };
        prop_assert_eq!(Refill::decode(&refill.encode()), Ok(refill));
        let digest = Digest { sum, count };
        prop_assert_eq!(Digest::decode(&digest.encode()), Ok(digest));
        let probe = Probe { nonce, dest, hops_left };
        prop_assert_eq!(Probe::decode(&probe.encode()), Ok(probe));
        let found = ProbeFound { nonce, proof, seq: sequence.seq, metric, chain: [3; 16] };
        prop_assert_eq!(ProbeFound::decode(&found.encode()), Ok(found));
    }

    #[test]
    fn datagrams_round_trip(dest: [u8; 32], hops_left: u16, token: [u8; 8], payload: Vec<u8>) {
        let payload = Bytes::from(payload);
        let way = Way::new(vec![Waypoint { short: nonce_of(hops_left), left: hops_left % METRIC_END }]);
        let routed = Routed { dest: PeerId(dest), hops_left, token, way, payload: payload.clone() };
        prop_assert_eq!(Routed::decode(&routed.encode()), Ok(routed));
        let answer = RoutedAnswer { token, payload };
        prop_assert_eq!(RoutedAnswer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn any_bytes_give_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_everything(&bytes);
    }
}

#[test]
fn lists_and_payloads_above_their_bound_are_refused() {
    assert_eq!(Refill::decode(&[65]), Err(Error::Invalid("length of a list")));
    assert_eq!(Retractions::decode(&[0, 0x81, 0x02]), Err(Error::Invalid("length of a list")));
    let long = vec![0; 8 + PAYLOAD_MAX + 1];
    assert_eq!(RoutedAnswer::decode(&long), Err(Error::Invalid("length of a routed payload")));
    assert!(RoutedAnswer::decode(&long[1..]).is_ok());
}
