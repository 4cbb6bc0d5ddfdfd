//! Handshakes by hand: what is agreed, and that nothing but the three untouched messages agrees on it.

use bytes::BytesMut;

use super::*;
use crate::wire::link::HANDSHAKE_LEN_MAX;

const BOTH: &[Group] = &[Group::X25519MlKem768, Group::X25519];
const OLD: &[Group] = &[Group::X25519];

/// Open terms of a node with a key of its own.
fn terms(seed: u8, change: impl FnOnce(&mut Config)) -> Terms {
    let mut config = Config {
        keys: Arc::new(SigningKey::from_seed(&[seed; 32])),
        network_key: None,
        groups: BOTH.to_vec(),
        padding: Padding::Buckets,
        open: true,
        aes: true,
        max_inbound: 1,
        max_outbound: 1,
        upload_limit: None,
        queue_max: crate::link::limits::QUEUE_MAX,
    };
    change(&mut config);
    Terms::new(config)
}

fn plain(seed: u8) -> Terms {
    terms(seed, |_| {})
}

fn rng(seed: u8) -> Rng {
    Rng::from_seed([seed; 32])
}

/// What a responder makes of message 1.
type Answer = Result<(Responder, Vec<u8>), Error>;

/// A handshake up to message 2, always the same for the same terms.
fn two(i: &Terms, r: &Terms, pin: Pin) -> (Initiator, Vec<u8>, Answer) {
    let (initiator, first) = Initiator::start(i, pin, &mut rng(1));
    let answer = check_first(r, &first).and_then(|()| Responder::respond(r, &first, &mut rng(2)));
    (initiator, first, answer)
}

/// A whole handshake: what the initiator and the responder agreed on.
fn run(i: &Terms, r: &Terms, pin: Pin) -> Result<(Agreed, Agreed), Error> {
    let (initiator, _, answer) = two(i, r, pin);
    let (responder, second) = answer?;
    let (third, ours) = initiator.handle_second(i, &second)?.accept(Now::ZERO, i);
    assert!(third.len() <= HANDSHAKE_LEN_MAX && second.len() <= HANDSHAKE_LEN_MAX);
    Ok((ours, responder.handle_third(Now::ZERO, r, &third)?))
}

fn error<T>(result: Result<T, Error>) -> Error {
    result.err().expect("a handshake that fails")
}

#[test]
fn both_sides_know_each_other_and_can_talk() {
    let (i, r) = (plain(1), plain(2));
    for pin in [Pin::None, Pin::Hint(r.me), Pin::Required(r.me)] {
        let (mut a, mut b) = run(&i, &r, pin).unwrap();
        assert_eq!((a.peer, b.peer), (r.me, i.me));
        assert_eq!((a.group, b.group), (Group::X25519MlKem768, Group::X25519MlKem768));
        let said = |text: &[u8]| BytesMut::from(&[&[0], text].concat()[..]);
        let frame = a.sealer.seal(Now::ZERO, said(b"hello"));
        assert_eq!(b.opener.open(frame.clone()).unwrap()[..5], *b"hello");
        assert_eq!(a.opener.open(frame), Err(Error::BadFrame), "directions have their own keys");
        let frame = b.sealer.seal(Now::ZERO, said(b"welcome"));
        assert_eq!(a.opener.open(frame).unwrap()[..7], *b"welcome");
    }
}

#[test]
fn the_best_in_common_is_chosen_whatever_the_order_of_preference() {
    let with = |seed, groups: &[Group], aes| terms(seed, |config| (config.groups, config.aes) = (groups.to_vec(), aes));
    let reversed = &[Group::X25519, Group::X25519MlKem768];
    for (ours, theirs, want) in [
        (BOTH, BOTH, Group::X25519MlKem768),
        (reversed, reversed, Group::X25519MlKem768),
        (OLD, BOTH, Group::X25519),
        (BOTH, OLD, Group::X25519),
    ] {
        let (a, b) = run(&with(1, ours, true), &with(2, theirs, true), Pin::None).unwrap();
        assert_eq!((a.group, b.group, a.aead), (want, want, Aead::Aegis256X2));
    }
    let (a, b) = run(&with(1, BOTH, true), &with(2, BOTH, false), Pin::None).unwrap();
    assert_eq!((a.aead, b.aead), (Aead::ChaCha20Poly1305, Aead::ChaCha20Poly1305));
    let none = run(&with(1, &[Group::X25519MlKem768], true), &with(2, OLD, true), Pin::None);
    assert_eq!(error(none), Error::NothingInCommon("key agreement"));
}

#[test]
fn falcon_node_keys_fit_into_the_messages() {
    let falcon = |seed| {
        terms(seed, |config| config.keys = Arc::new(SigningKey::generate(Scheme::FalconEd25519, &mut rng(seed))))
    };
    let (i, r) = (falcon(1), falcon(2));
    let (a, b) = run(&i, &r, Pin::Required(r.me)).unwrap();
    assert_eq!((a.peer, b.peer), (r.me, i.me));
}

#[test]
fn a_closed_node_answers_only_who_knows_its_id() {
    let (i, r) = (plain(1), terms(2, |config| config.open = false));
    assert!(run(&i, &r, Pin::Required(r.me)).is_ok());
    for pin in [Pin::None, Pin::Hint(i.me), Pin::Required(PeerId([9; 32]))] {
        assert_eq!(error(run(&i, &r, pin)), Error::Stranger);
    }
    let (_, first, _) = two(&i, &r, Pin::Required(r.me));
    for at in 0..first.len() * 8 {
        let mut altered = first.clone();
        altered[at / 8] ^= 1 << (at % 8);
        assert!(check_first(&r, &altered).is_err(), "bit {at}");
    }
}

#[test]
fn an_altered_or_cut_message_makes_no_link() {
    let (i, r) = (plain(1), plain(2));
    let (initiator, first, answer) = two(&i, &r, Pin::None);
    let second = answer.unwrap().1;
    let (third, _) = initiator.handle_second(&i, &second).unwrap().accept(Now::ZERO, &i);
    let variants = |message: &[u8]| {
        let flipped = (0..message.len()).map(|at| {
            let mut altered = message.to_vec();
            altered[at] ^= 1 << (at % 8);
            altered
        });
        let cut = (0..message.len()).step_by(7).map(|len| message[..len].to_vec());
        let longer = std::iter::once([message, &[0]].concat());
        flipped.chain(cut).chain(longer).collect::<Vec<_>>()
    };
    for first in variants(&first) {
        let Ok((_, second)) = check_first(&r, &first).and_then(|()| Responder::respond(&r, &first, &mut rng(2))) else {
            continue;
        };
        let (initiator, ..) = two(&i, &r, Pin::None);
        assert!(initiator.handle_second(&i, &second).is_err());
    }
    for second in variants(&second) {
        let (initiator, _) = Initiator::start(&i, Pin::None, &mut rng(1));
        assert!(initiator.handle_second(&i, &second).is_err());
    }
    for third in variants(&third) {
        let (responder, _) = Responder::respond(&r, &first, &mut rng(2)).unwrap();
        assert!(responder.handle_third(Now::ZERO, &r, &third).is_err());
    }
}

#[test]
fn stripping_the_post_quantum_half_from_the_offer_is_noticed() {
    let (i, r) = (plain(1), plain(2));
    for pin in [Pin::None, Pin::Required(r.me)] {
        let (initiator, first) = Initiator::start(&i, pin, &mut rng(1));
        let mut offer = First::decode(First::split_mac(&first).unwrap().0).unwrap();
        offer.groups.retain(|(code, _)| *code == Group::X25519.code());
        let mut stripped = offer.encode();
        let tag = mac(&mac_key(&pin.peer().unwrap_or(NOBODY)), &stripped);
        stripped.extend_from_slice(&tag);
        check_first(&r, &stripped).unwrap();
        let (_, second) = Responder::respond(&r, &stripped, &mut rng(2)).unwrap();
        assert_eq!(Second::decode(&second).unwrap().0.group, Group::X25519.code());
        assert_eq!(error(initiator.handle_second(&i, &second)), Error::NotAuthentic);
    }
}

#[test]
fn a_choice_that_was_not_offered_is_refused() {
    let (i, r) = (terms(1, |config| config.aes = false), plain(2));
    let (_, _, answer) = two(&i, &r, Pin::None);
    let second = answer.unwrap().1;
    for (at, value) in [(1, 2), (2, 9), (3, Aead::Aegis256X2.code())] {
        let (initiator, _) = Initiator::start(&i, Pin::None, &mut rng(1));
        let mut altered = second.clone();
        altered[at] = value;
        assert_eq!(error(initiator.handle_second(&i, &altered)), Error::NotOffered);
    }
}

#[test]
fn another_peer_than_the_pinned_one_never_sees_message_3() {
    let (i, r) = (plain(1), plain(2));
    let expected = PeerId([7; 32]);
    let found = r.me;
    assert_eq!(error(run(&i, &r, Pin::Required(expected))), Error::PinMismatch { expected, found });
    assert_eq!(error(run(&i, &r, Pin::Hint(expected))), Error::HintMismatch { expected, found });
    assert_eq!(error(run(&i, &plain(1), Pin::None)), Error::SelfLink);
}

#[test]
fn without_the_network_key_nobody_learns_who_answered() {
    let private = |seed, key: u8| terms(seed, |config| config.network_key = Some([key; 32]));
    assert!(run(&private(1, 5), &private(2, 5), Pin::None).is_ok());
    for (i, r) in [(private(1, 5), private(2, 6)), (plain(1), private(2, 6)), (private(1, 5), plain(2))] {
        let (initiator, _, answer) = two(&i, &r, Pin::None);
        let second = answer.unwrap().1;
        assert_eq!(error(initiator.handle_second(&i, &second)), Error::NotAuthentic);
        let key = r.keys.public().to_bytes();
        assert!(!second.windows(key.len()).any(|window| window == key), "identities are sealed");
    }
}

#[test]
fn messages_of_one_handshake_are_worth_nothing_in_another() {
    let (i, r) = (plain(1), plain(2));
    let (initiator, first, answer) = two(&i, &r, Pin::None);
    let (_, second) = answer.unwrap();
    let (third, _) = initiator.handle_second(&i, &second).unwrap().accept(Now::ZERO, &i);
    let (again, fresh) = Responder::respond(&r, &first, &mut rng(3)).unwrap();
    assert_ne!(fresh, second, "a replayed message 1 is answered afresh");
    assert_eq!(error(again.handle_third(Now::ZERO, &r, &third)), Error::NotAuthentic);
    let (initiator, _) = Initiator::start(&i, Pin::None, &mut rng(4));
    assert_eq!(error(initiator.handle_second(&i, &second)), Error::NotAuthentic);
    let (initiator, _) = Initiator::start(&i, Pin::None, &mut rng(1));
    assert!(initiator.handle_second(&i, &first).is_err(), "reflected");
    let (responder, _) = Responder::respond(&r, &first, &mut rng(2)).unwrap();
    assert!(responder.handle_third(Now::ZERO, &r, &second).is_err(), "reflected");
}

#[test]
fn unusable_shares_and_foreign_offers_are_errors() {
    let r = plain(2);
    let respond = |change: &dyn Fn(&mut First)| {
        let (_, first) = Initiator::start(&plain(1), Pin::None, &mut rng(1));
        let mut offer = First::decode(First::split_mac(&first).unwrap().0).unwrap();
        change(&mut offer);
        let first = [offer.encode(), vec![0; MAC_LEN]].concat();
        check_first(&r, &first).and_then(|()| Responder::respond(&r, &first, &mut rng(2)).map(|_| ()))
    };
    assert_eq!(respond(&|_| {}), Ok(()));
    assert!(matches!(respond(&|offer| offer.groups[0].1.fill(0)), Err(Error::BadShare(_))));
    assert!(matches!(respond(&|offer| offer.groups[0].1.clear()), Err(Error::BadShare(_))));
    assert_eq!(respond(&|offer| offer.version_min = 2), Err(Error::NothingInCommon("version")));
    assert_eq!(respond(&|offer| offer.schemes = vec![3]), Err(Error::NothingInCommon("signature scheme")));
    assert_eq!(respond(&|offer| offer.aeads = vec![9]), Err(Error::NothingInCommon("AEAD")));
    assert_eq!(respond(&|offer| offer.groups.clear()), Err(Error::NothingInCommon("key agreement")));
    assert_eq!(respond(&|offer| offer.version_max = 9), Ok(()), "a newer peer that still speaks ours");
}
