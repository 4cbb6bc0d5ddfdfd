//! Attacks on sessions: relays in the place of a service, repeated messages, borrowed proofs, and greed.

use super::*;
use crate::crypto::{Aead, Purpose};
use crate::defence::{Defence, stops};
use crate::session::descriptor::Keys;
use crate::session::handshake::{Answered, Wanted, trial, unlock};
use crate::session::keys::{OwnerKeys, ResponderKey};
use crate::session::proof::{prove, verify};
use crate::wire::session_handshake::{AnswerPayload, First, Message};

/// A first message to a descriptor.
fn first_message(descriptor: &Descriptor, seed: u64) -> (Initiator, Vec<u8>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let wanted = Wanted { aeads: crate::crypto::Aead::offered(false), proves: false, open: None };
    let initiator = Initiator::new(descriptor, &wanted, &mut Rng::from_seed(bytes)).unwrap();
    let message = initiator.message([0; 16]).0;
    (initiator, message)
}

/// What the holder of a key makes of a first message.
fn respond(key: &ResponderKey, message: &[u8]) -> Option<Answered> {
    let Ok(Message::First(first)) = Message::decode(message) else { return None };
    let first: First<'_> = first;
    let unlocked = unlock(key, &trial(key, &first)?, &first).ok()?;
    let payload = AnswerPayload { aead: Aead::ChaCha20Poly1305, early_taken: false };
    unlocked.answer(payload, &mut Rng::from_seed([8; 32])).ok()
}

#[test]
fn a_relay_with_keys_of_its_own_does_not_answer_in_the_place_of_the_service() {
    stops(Defence::Signature(Purpose::SessionDescriptor), || {
        let (alices_node, now) = (signing_key(1), start());
        // Everything in it is Alice's and her node's, but the keys are the relay's.
        let relay = SigningKey::claiming(&[77; 32], alices_node.public());
        let keys = OwnerKeys::new(now, Net::owner(ALICE), &relay, None, &mut Rng::from_seed([6; 32]));
        let descriptor = &keys.current().descriptor;
        if descriptor.verify(now.unix).is_err() {
            return false;
        }
        let (initiator, message) = first_message(descriptor, 1);
        respond(keys.current(), &message).is_some_and(|answered| initiator.finish(&answered.blob).is_ok())
    });
}

#[test]
fn a_relay_without_the_services_keys_cannot_answer_at_all() {
    let mut net = Net::new();
    net.weather = Weather::Impostor;
    net.connect(1, open(80, None, b"secret"));
    net.run(Duration::from_secs(21));
    assert!(net.opened(1).is_none() && net.failed(1).is_some());
}

#[test]
fn nobody_passes_off_the_keys_of_another_as_their_own() {
    stops(Defence::DescriptorInKeys, || {
        let mut rng = Rng::from_seed([5; 32]);
        let (node_key, thief) = (signing_key(1), signing_key(66));
        let alices = OwnerKeys::new(start(), Net::owner(ALICE), &node_key, None, &mut rng);
        let theirs = &alices.current().descriptor;
        let stolen = Keys { trial: theirs.trial, share: theirs.share.clone() };
        let owner = Owner::Service(thief.public().service_id());
        let pasted = Descriptor::sign(owner, &thief, UnixTime(start().unix.0 + 3600), stolen);
        // Who believes to talk to the thief would talk to Alice, who believes that she was asked for.
        respond(alices.current(), &first_message(&pasted, 1).1).is_some()
    });
}

#[test]
fn a_first_message_that_is_sent_again_later_opens_nothing() {
    stops(Defence::FirstMessageOnce, || {
        let mut net = Net::new();
        net.nodes[ALICE].listen(listen(Net::owner(ALICE), 80)).unwrap();
        net.connect(1, open(80, None, b"pay 100"));
        net.run(DELAY * 4);
        let blob = net.setups[0].2.clone();
        let (theirs, ..) = net.incoming(ALICE).unwrap();
        net.nodes[ALICE].accept(net.now, theirs);
        net.run(DELAY * 4);
        net.nodes[ALICE].reset(net.now, theirs);
        net.cut();
        net.run(Duration::from_secs(600));
        assert_eq!(net.nodes[ALICE].status().count(), 0, "the session is over");
        let carrier = net.nodes[ALICE].next_carrier();
        let _ = net.nodes[ALICE].handle_incoming(net.now, carrier, &blob);
        net.run(DELAY);
        net.incoming(ALICE).is_some()
    });
}

#[test]
fn a_proof_given_to_one_service_is_worth_nothing_to_another() {
    stops(Defence::ProofOfSession, || {
        // Bob proves himself to Mallory, who shows that to Alice.
        let bob = signing_key(12);
        let mallory = Owner::Service(signing_key(66).public().service_id());
        let proof = prove(&bob, &[1; 32], mallory);
        verify(&proof, &[2; 32], Net::owner(ALICE)) == Ok(bob.public().service_id())
    });
}

#[test]
fn a_proof_in_the_name_of_another_is_not_taken() {
    stops(Defence::Signature(Purpose::SessionIdentity), || {
        let bob = signing_key(12);
        let mallory = SigningKey::claiming(&[77; 32], bob.public());
        let proof = prove(&mallory, &[1; 32], Net::owner(ALICE));
        verify(&proof, &[1; 32], Net::owner(ALICE)) == Ok(bob.public().service_id())
    });
}

#[test]
fn sessions_that_nobody_goes_on_with_are_bounded() {
    stops(Defence::HalfOpenSessions, || {
        let mut net = Net::new();
        let descriptor = net.descriptor(ALICE, Net::owner(ALICE));
        for seed in 0..u64::try_from(limits::HALF_OPEN_MAX).unwrap() + 5 {
            let carrier = net.nodes[ALICE].next_carrier();
            let _ = net.nodes[ALICE].handle_incoming(net.now, carrier, &first_message(&descriptor, seed).1);
        }
        net.nodes[ALICE].half_open.len() > limits::HALF_OPEN_MAX
    });
}

#[test]
fn a_signature_for_one_purpose_is_worth_nothing_for_another() {
    let purposes = [
        Purpose::LinkResponder,
        Purpose::LinkInitiator,
        Purpose::Block,
        Purpose::Hello,
        Purpose::SessionDescriptor,
        Purpose::SessionIdentity,
        Purpose::RouteOrigin,
        Purpose::RouteAdvert,
        Purpose::NameRecords,
    ];
    stops(Defence::Purposes, || {
        let key = signing_key(1);
        let pairs = purposes.iter().flat_map(|made| purposes.iter().map(move |used| (*made, *used)));
        let mut others = pairs.filter(|(made, used)| made != used);
        others.any(|(made, used)| {
            let signature = key.sign(made, &[b"the same", b"fields"]);
            key.public().verify(used, &[b"the same", b"fields"], &signature).is_ok()
        })
    });
}
