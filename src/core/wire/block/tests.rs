use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn block(kind: Kind, scheme: Scheme, ciphertext: &[u8]) -> (SigningKey, Block) {
    let key = SigningKey::generate(scheme, &mut Rng::from_seed([4; 32]));
    let (sequence, expiry) = if kind == Kind::Content { (0, UnixTime(0)) } else { (7, UnixTime(NOW.0 + 3600)) };
    let made = Block::create(kind, DhtKey([9; 64]), &key, sequence, expiry, Bytes::copy_from_slice(ciphertext));
    (key, made.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn blocks_round_trip_and_verify(
        kind in prop::sample::select(vec![Kind::Content, Kind::Signed, Kind::Hello, Kind::Name]),
        key: [u8; 32], place: [u8; 32], sequence: u64, life in 0..LIFE_S_MAX, ciphertext: Vec<u8>,
    ) {
        let signer = SigningKey::from_seed(&key);
        let place = DhtKey(crate::crypto::hash_xof64(&place));
        let (sequence, expiry) = if kind == Kind::Content { (0, 0) } else { (sequence, NOW.0 + life) };
        let block = Block::create(kind, place, &signer, sequence, UnixTime(expiry), ciphertext.into()).unwrap();
        prop_assert_eq!(block.verify(NOW), Ok(()));
        let bytes = block.encode();
        prop_assert_eq!(bytes.len(), block.encoded_len());
        prop_assert_eq!(Block::decode(&bytes), Ok(block));
    }

    #[test]
    fn any_bytes_give_a_block_or_an_error(bytes: Vec<u8>) {
        if let Ok(block) = Block::decode(&bytes) {
            prop_assert_eq!(block.encode(), bytes);
        }
    }
}

#[test]
fn every_truncation_is_an_error_and_every_flipped_bit_an_error_or_invalid() {
    let (_, block) = block(Kind::Name, Scheme::Ed25519, b"sealed");
    let bytes = block.encode();
    for len in 0..bytes.len() {
        assert!(Block::decode(&bytes[..len]).is_err());
    }
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(bad_block) = Block::decode(&bad) {
            assert!(bad_block.verify(NOW).is_err(), "bit {bit}");
            assert_eq!(bad_block.encode(), bad);
        }
    }
    let mut long = bytes;
    long.push(0);
    assert_eq!(Block::decode(&long), Err(Error::Trailing));
}

#[test]
fn both_schemes_sign_signed_blocks_and_pseudonyms_are_ed25519_only() {
    let (key, block) = block(Kind::Signed, Scheme::FalconEd25519, b"x");
    assert_eq!(block.verify(NOW), Ok(()));
    assert_eq!(Block::decode(&block.encode()).unwrap(), block);
    let name = Block::create(Kind::Name, block.key, &key, 1, block.expiry, Bytes::new());
    assert_eq!(name, Err(Invalid::Rules("pseudonymous signers are Ed25519 keys")));
}

#[test]
fn expiry_is_checked_with_twelve_hours_of_tolerance() {
    let (key, block) = block(Kind::Name, Scheme::Ed25519, b"x");
    let at = block.expiry.0;
    assert_eq!(block.verify(UnixTime(at + CLOCK_TOLERANCE_S - 1)), Ok(()));
    assert_eq!(block.verify(UnixTime(at + CLOCK_TOLERANCE_S)), Err(Invalid::Expired));
    let far = UnixTime(NOW.0 + LIFE_S_MAX + CLOCK_TOLERANCE_S);
    let block = Block::create(Kind::Name, block.key, &key, 1, far, Bytes::new()).unwrap();
    assert_eq!(block.verify(NOW), Ok(()));
    assert_eq!(block.verify(UnixTime(NOW.0 - 1)), Err(Invalid::TooFar));
}

#[test]
fn content_has_no_sequence_and_ciphertexts_have_a_bound() {
    let key = SigningKey::from_seed(&[1; 32]);
    let content = Block::create(Kind::Content, DhtKey([0; 64]), &key, 1, UnixTime(0), Bytes::new());
    assert!(matches!(content, Err(Invalid::Rules(_))));
    let most = Bytes::from(vec![0; CIPHERTEXT_LEN_MAX]);
    let block = Block::create(Kind::Signed, DhtKey([0; 64]), &key, 1, NOW, most).unwrap();
    assert!(block.encoded_len() <= BLOCK_LEN_MAX);
    let mut bytes = block.encode();
    let over = Block { ciphertext: vec![0; CIPHERTEXT_LEN_MAX + 1].into(), ..block };
    assert!(over.verify(NOW).is_err());
    bytes.clear();
    over.encode_into(&mut bytes);
    assert_eq!(Block::decode(&bytes), Err(Error::Invalid("block over 16 KiB")));
}

#[test]
fn work_counts_for_key_slot_and_expiry_and_is_signed() {
    let (key, block) = block(Kind::Name, Scheme::Ed25519, b"x");
    let worked = block.clone().with_work(&key, 10, 0, 1 << 16).unwrap();
    assert!(worked.work_bits() >= 10);
    assert_eq!(worked.verify(NOW), Ok(()));
    assert!(Block { work: worked.work ^ 1, ..worked.clone() }.verify(NOW).is_err());
    let moved = Block { expiry: UnixTime(block.expiry.0 + 1), ..worked.clone() };
    assert_ne!(moved.work_bits(), worked.work_bits());
    assert_eq!(block.with_work(&key, 200, 5, 3), Err(8));
}

#[test]
fn content_slots_differ_by_ciphertext_and_others_by_signer_only() {
    let (_, a) = block(Kind::Content, Scheme::Ed25519, b"a");
    let (_, b) = block(Kind::Content, Scheme::Ed25519, b"b");
    assert_ne!(a.slot(), b.slot());
    let (_, a) = block(Kind::Name, Scheme::Ed25519, b"a");
    let (_, b) = block(Kind::Name, Scheme::Ed25519, b"b");
    assert_eq!(a.slot(), b.slot());
}

#[test]
fn seals_open_under_their_own_header_and_key_only() {
    let (signer, block) = block(Kind::Name, Scheme::Ed25519, b"");
    let sealed = seal(&[1; 32], &block.header(), b"records").unwrap();
    assert_eq!(sealed, seal(&[1; 32], &block.header(), b"records").unwrap());
    let made = Block::create(block.kind, block.key, &signer, block.sequence, block.expiry, sealed).unwrap();
    assert_eq!(open(&[1; 32], &made).unwrap(), b"records");
    assert_eq!(open(&[2; 32], &made), None);
    assert_eq!(open(&[1; 32], &Block { sequence: 8, ..made.clone() }), None);
    assert_eq!(open(&[1; 32], &Block { ciphertext: Bytes::new(), ..made.clone() }), None);
    assert!(seal(&[1; 32], &made.header(), &[0; PLAINTEXT_LEN_MAX]).is_ok());
    assert!(seal(&[1; 32], &made.header(), &[0; PLAINTEXT_LEN_MAX + 1]).is_err());
}
