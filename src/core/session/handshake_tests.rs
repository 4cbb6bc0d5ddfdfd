//! Two ends of a handshake by hand, and everybody who would like to be one of them.

use super::*;
use crate::crypto::{PeerId, Scheme, ServiceId, SigningKey};
use crate::session::keys::OwnerKeys;
use crate::time::Now;

const OWNER: Owner = Owner::Service(ServiceId([3; 32]));

/// A responder's keys, made from a seed.
fn responder(seed: u8, owner: Owner) -> OwnerKeys {
    let mut rng = Rng::from_seed([seed; 32]);
    let node_key = SigningKey::generate(Scheme::Ed25519, &mut rng);
    OwnerKeys::new(Now::ZERO, owner, &node_key, None, &mut rng)
}

const OPEN: FirstOpen<'static> = FirstOpen { mode: 0, label: Some("blog"), port: "80", early: b"GET /" };

fn initiator(descriptor: &Descriptor) -> Initiator {
    offering(descriptor, Aead::offered(true))
}

fn offering(descriptor: &Descriptor, aeads: &'static [Aead]) -> Initiator {
    let wanted = Wanted { aeads, proves: true, open: Some(OPEN) };
    Initiator::new(descriptor, &wanted, &mut Rng::from_seed([9; 32])).unwrap()
}

/// What a responder makes of a message: its answer and keys, if it takes it.
fn respond(keys: &OwnerKeys, blob: &[u8]) -> Option<(Answered, [u8; 32])> {
    let Ok(Message::First(first)) = Message::decode(blob) else { return None };
    let key = keys.current();
    let unlocked = unlock(key, &trial(key, &first)?, &first).ok()?;
    let payload = unlocked.payload().ok()?;
    assert!(payload.gcm && payload.aegis && payload.proves && payload.open == Some(OPEN));
    let answer = AnswerPayload { aead: Aead::Aegis256X2, early_taken: true };
    let answered = unlocked.answer(answer, &mut Rng::from_seed([8; 32])).ok()?;
    Some((answered, unlocked.reveal(&first.attempt)))
}

fn same(a: &SessionKeys, b: &SessionKeys) -> bool {
    a.from_initiator == b.from_initiator
        && a.from_responder == b.from_responder
        && a.exporter == b.exporter
        && a.resume == b.resume
        && a.aead == b.aead
}

#[test]
fn both_ends_get_the_same_keys_and_the_path_proof_holds() {
    let keys = responder(1, OWNER);
    let initiator = initiator(&keys.current().descriptor);
    let (blob, proof_hash) = initiator.message([1; 16]);
    let (answered, reveal) = respond(&keys, &blob).unwrap();
    assert_eq!(hash(&reveal), proof_hash);
    let (mine, early_taken) = initiator.finish(&answered.blob).unwrap();
    assert!(same(&mine, &answered.keys) && early_taken && mine.aead == Aead::Aegis256X2);
    let all = [&mine.from_initiator, &mine.from_responder, &mine.exporter, &mine.resume];
    assert!((0..4).all(|a| (0..a).all(|b| all[a] != all[b])));
}

#[test]
fn an_answer_that_chooses_what_was_not_offered_is_refused() {
    let keys = responder(1, OWNER);
    let initiator = offering(&keys.current().descriptor, Aead::offered(false));
    let (blob, _) = initiator.message([1; 16]);
    let Ok(Message::First(first)) = Message::decode(&blob) else { panic!("a first message") };
    let key = keys.current();
    let unlocked = unlock(key, &trial(key, &first).unwrap(), &first).unwrap();
    let offers = unlocked.payload().unwrap();
    for aead in Aead::offered(true).iter().copied() {
        let answer = AnswerPayload { aead, early_taken: true };
        let answered = unlocked.answer(answer, &mut Rng::from_seed([8; 32])).unwrap();
        let taken = initiator.finish(&answered.blob).map(|(keys, _)| keys.aead);
        let want = if offers.offers(aead) { Ok(aead) } else { Err(HandshakeError::NotOffered) };
        assert_eq!(taken, want);
    }
}

#[test]
fn attempts_share_a_transcript_but_no_reveal() {
    let keys = responder(1, OWNER);
    let initiator = initiator(&keys.current().descriptor);
    let ((first, first_hash), (second, second_hash)) = (initiator.message([1; 16]), initiator.message([2; 16]));
    assert_ne!(first_hash, second_hash);
    let hash_of = |blob: &[u8]| match Message::decode(blob) {
        Ok(Message::First(first)) => super::first_hash(&first),
        other => panic!("{other:?}"),
    };
    assert_eq!(hash_of(&first), hash_of(&second));
    let (_, reveal) = respond(&keys, &second).unwrap();
    assert_eq!(hash(&reveal), second_hash);
}

#[test]
fn a_first_message_with_any_byte_changed_is_not_taken() {
    let keys = responder(1, OWNER);
    let (blob, proof_hash) = initiator(&keys.current().descriptor).message([1; 16]);
    for at in 0..blob.len() {
        let mut bad = blob.clone();
        bad[at] ^= 0x10;
        let taken = respond(&keys, &bad);
        // The attempt only varies the reveal: a hop that changes it breaks the path proof.
        let harmless = (2..18).contains(&at) && taken.as_ref().is_some_and(|(_, reveal)| hash(reveal) != proof_hash);
        assert!(taken.is_none() || harmless, "byte {at}");
    }
}

#[test]
fn an_answer_with_any_byte_changed_is_not_taken_and_the_true_one_still_is() {
    let keys = responder(1, OWNER);
    let initiator = initiator(&keys.current().descriptor);
    let (answered, _) = respond(&keys, &initiator.message([1; 16]).0).unwrap();
    for at in 0..answered.blob.len() {
        let mut bad = answered.blob.clone();
        bad[at] ^= 1;
        assert!(initiator.finish(&bad).is_err(), "byte {at}");
    }
    assert!(initiator.finish(&answered.blob).is_ok());
}

#[test]
fn a_relay_in_the_place_of_the_responder_cannot_answer() {
    let (keys, relay) = (responder(1, OWNER), responder(2, OWNER));
    let initiator = initiator(&keys.current().descriptor);
    let (blob, _) = initiator.message([1; 16]);
    assert!(respond(&relay, &blob).is_none());
    // Its best: an answer to a message of its own, pasted here.
    let own = self::initiator(&relay.current().descriptor);
    let (answered, _) = respond(&relay, &own.message([1; 16]).0).unwrap();
    assert!(initiator.finish(&answered.blob).is_err());
    assert!(initiator.finish(&blob).is_err());
    assert!(initiator.finish(&Message::Resumed([0; 16]).encode()).is_err());
}

#[test]
fn keys_pasted_into_another_descriptor_fail() {
    let keys = responder(1, OWNER);
    let mut rng = Rng::from_seed([7; 32]);
    let thief = SigningKey::generate(Scheme::Ed25519, &mut rng);
    let true_one = &keys.current().descriptor;
    for owner in [Owner::Service(ServiceId([4; 32])), Owner::Peer(PeerId([3; 32])), OWNER] {
        let stolen = crate::session::descriptor::Keys { trial: true_one.trial, share: true_one.share.clone() };
        let pasted = Descriptor::sign(owner, &thief, crate::time::UnixTime(0), stolen);
        let (blob, _) = initiator(&pasted).message([1; 16]);
        assert!(respond(&keys, &blob).is_none(), "{owner:?}");
    }
}

#[test]
fn another_expiry_of_the_same_keys_is_another_descriptor() {
    let keys = responder(1, OWNER);
    let mut altered = keys.current().descriptor.clone();
    altered.expiry += 1;
    assert!(respond(&keys, &initiator(&altered).message([1; 16]).0).is_none());
}

#[test]
fn an_answer_fits_its_own_first_message_only() {
    let keys = responder(1, OWNER);
    let descriptor = &keys.current().descriptor;
    let wanted = || Wanted { aeads: Aead::offered(true), proves: true, open: Some(OPEN) };
    let one = Initiator::new(descriptor, &wanted(), &mut Rng::from_seed([1; 32])).unwrap();
    let two = Initiator::new(descriptor, &wanted(), &mut Rng::from_seed([2; 32])).unwrap();
    let (answered, _) = respond(&keys, &one.message([1; 16]).0).unwrap();
    assert!(one.finish(&answered.blob).is_ok() && two.finish(&answered.blob).is_err());
}

#[test]
fn resumptions_differ_in_everything() {
    let (a, b, other) = (Resumption::new(&[1; 32], 1), Resumption::new(&[1; 32], 2), Resumption::new(&[2; 32], 1));
    for (a, b) in [(&a, &b), (&a, &other)] {
        assert!(a.tag != b.tag && a.reveal != b.reveal && a.mac != b.mac);
    }
    assert_ne!(a.tag, a.mac);
}
