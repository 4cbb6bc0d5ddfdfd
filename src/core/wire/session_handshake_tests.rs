//! Tests of the session handshake's wire forms.

use proptest::prelude::*;

use super::*;

fn signed(scheme: Scheme) -> Signed {
    Signed { scheme, key: vec![1; scheme.public_len()], signature: vec![2; scheme.signature_len()] }
}

fn descriptor(scheme: Scheme) -> Descriptor {
    Descriptor {
        owner: Owner::Service(ServiceId([3; 32])),
        node: PeerId([4; 32]),
        expiry: 5,
        trial: [6; TRIAL_LEN],
        share: vec![7; SHARE_LEN],
        node_signature: signed(scheme),
    }
}

fn first_bytes(payload: &FirstPayload<'_>) -> Vec<u8> {
    let sealed = [payload.encode(), vec![9; TAG_LEN]].concat();
    [&[VERSION, 1][..], &[1; SHORT_LEN], &[2; TRIAL_LEN], &[3; SHORT_LEN], &[4; ANSWER_LEN], &sealed].concat()
}

fn largest<'a>(early: &'a [u8], text: &'a str) -> FirstPayload<'a> {
    let open = FirstOpen { mode: 3, label: Some(&text[..LABEL_LEN_MAX]), port: &text[..PORT_LEN_MAX], early };
    FirstPayload { gcm: true, aegis: true, proves: true, share: &[8; SHARE_LEN], open: Some(open) }
}

#[test]
fn every_message_round_trips_and_fails_when_cut_or_extended() {
    let text = "x".repeat(PORT_LEN_MAX);
    let messages = [
        first_bytes(&largest(&[5; EARLY_LEN_MAX], &text)),
        first_bytes(&FirstPayload { gcm: false, aegis: false, proves: false, share: &[8; SHARE_LEN], open: None }),
        [&[VERSION, 2][..], &[4; ANSWER_LEN], &[5; SEALED_ANSWER_LEN]].concat(),
        [&[VERSION, 3][..], &[4; SHORT_LEN]].concat(),
        [&[VERSION, 4][..], &[4; SHORT_LEN]].concat(),
    ];
    for bytes in messages {
        assert!(bytes.len() <= MESSAGE_LEN_MAX, "{}", bytes.len());
        assert_eq!(Message::decode(&bytes).unwrap().encode(), bytes);
        // Whole pads less are a message too: the AEAD finds out.
        let cut = |len: &usize| !(bytes.len() - len).is_multiple_of(PAD_TO);
        assert!((0..bytes.len()).filter(cut).all(|len| Message::decode(&bytes[..len]).is_err()));
        assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err());
        for at in 0..2 {
            let mut bad = bytes.clone();
            bad[at] = 0x77;
            assert!(Message::decode(&bad).is_err());
        }
    }
}

#[test]
fn a_first_messages_payload_round_trips_and_has_one_padding() {
    let text = "x".repeat(PORT_LEN_MAX);
    for payload in [
        largest(&[5; EARLY_LEN_MAX], &text),
        FirstPayload { open: None, ..largest(&[], &text) },
        FirstPayload {
            open: Some(FirstOpen { mode: 0, label: None, port: "80", early: b"GET" }),
            ..largest(&[], &text)
        },
    ] {
        let bytes = payload.encode();
        assert_eq!(bytes.len() % PAD_TO, 0);
        assert_eq!(FirstPayload::decode(&bytes), Ok(payload));
        assert!(FirstPayload::decode(&[&bytes[..], &[0; PAD_TO]].concat()).is_err());
        let mut bad = bytes.clone();
        bad[0] |= 16;
        assert!(FirstPayload::decode(&bad).is_err());
        if bytes.last() == Some(&0) {
            *bad.last_mut().unwrap() = 1;
            bad[0] = bytes[0];
            assert!(FirstPayload::decode(&bad).is_err());
        }
    }
}

#[test]
fn bounds_of_texts_and_early_data_are_enforced() {
    let payload = FirstPayload { gcm: false, aegis: false, proves: false, share: &[0; SHARE_LEN], open: None };
    let with = |label: &str, port: &str, early: &[u8]| {
        let open = FirstOpen { mode: 0, label: Some(label), port, early };
        FirstPayload::decode(&FirstPayload { open: Some(open), ..payload }.encode()).is_ok()
    };
    let long = "x".repeat(200);
    assert!(with("blog", "80", b""));
    assert!(!with(&long[..LABEL_LEN_MAX + 1], "80", b""));
    assert!(!with("blog", &long[..PORT_LEN_MAX + 1], b""));
    assert!(!with("blog", "80", &[0; EARLY_LEN_MAX + 1]));
}

#[test]
fn descriptors_and_proofs_round_trip_and_fail_when_cut() {
    for scheme in [Scheme::Ed25519, Scheme::FalconEd25519] {
        let bytes = descriptor(scheme).encode();
        assert_eq!(Descriptor::decode(&bytes), Ok(descriptor(scheme)));
        assert!((0..bytes.len()).all(|len| Descriptor::decode(&bytes[..len]).is_err()));
        assert!(Descriptor::decode(&[&bytes[..], &[0]].concat()).is_err());
        let proof = signed(scheme).encode();
        assert_eq!(Signed::decode(&proof), Ok(signed(scheme)));
        assert!((0..proof.len()).all(|len| Signed::decode(&proof[..len]).is_err()));
    }
}

#[test]
fn answers_have_one_encoding() {
    for a in 0..=3u8 {
        for b in 0..=3u8 {
            assert!(
                AnswerPayload::decode(&[a, b]).is_err() || AnswerPayload::decode(&[a, b]).unwrap().encode() == [a, b]
            );
        }
    }
    assert!(AnswerPayload::decode(&[0, 0]).is_err() && AnswerPayload::decode(&[1, 2]).is_err());
    assert!(AnswerPayload::decode(&[1]).is_err() && AnswerPayload::decode(&[1, 1, 0]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_that_encodes_to_them_or_an_error(mut bytes: Vec<u8>, kind in 0u8..6, share in any::<bool>()) {
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = (VERSION, kind);
        }
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes.clone());
        }
        if let Ok(proof) = Signed::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes.clone());
        }
        if share {
            bytes.splice(1.min(bytes.len()).., [7; SHARE_LEN]);
            bytes.resize(bytes.len().next_multiple_of(PAD_TO), 0);
        }
        if let Ok(payload) = FirstPayload::decode(&bytes) {
            prop_assert_eq!(payload.encode(), bytes);
        }
    }
}
