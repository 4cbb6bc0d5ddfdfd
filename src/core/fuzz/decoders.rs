//! Every decoder, and what its values encode to.

use bytes::{Bytes, BytesMut};

use super::engine::Fuzz;
use super::{TARGETS, samples};
use crate::crypto::{DhtKey, PeerId, PublicKey, Scheme, ServiceId, SigningKey};
use crate::names::{Name, ZoneLabel};
use crate::wire::block::{Block, open};
use crate::wire::link::{First, Proof, Second, decode_third, encode_third, next_message, put_message};
use crate::wire::names::{Payload, decode_records, encode_records};
use crate::wire::session_handshake::{AnswerPayload, Descriptor, FirstPayload, Message, Signed};
use crate::wire::session_packet::Frame;
use crate::wire::{Reader, dht, path, routing};

/// What a decoder accepted, encoded again; `None`: an error.
type Again = Option<Vec<u8>>;

/// A decoder by its name.
type Decoder = (&'static str, fn(&[u8]) -> Again);

/// Every decoder of the wire.
const DECODERS: &[Decoder] = &[
    ("block", |b| Block::decode(b).ok().map(|v| v.encode())),
    ("dht", |b| dht::Message::decode(b).ok().map(|v| v.encode().to_vec())),
    ("link first", |b| First::decode(b).ok().map(|v| v.encode())),
    ("link second", |b| Second::decode(b).ok().map(|(v, head, _)| again(&v.encode(), head, b))),
    ("link third", |b| decode_third(b).ok().map(encode_third)),
    ("link proof", |b| Proof::decode(b).ok().map(|v| v.encode())),
    ("link batch", batch),
    ("name records", |b| decode_records(b).ok().map(|v| encode_records(&v).expect("records that were read"))),
    ("name payload", |b| Payload::decode(b).ok().map(|v| v.encode())),
    ("path open", |b| path::Open::decode(b).ok().map(|v| v.encode().to_vec())),
    ("path opened", |b| path::Opened::decode(b).ok().map(|v| v.encode().to_vec())),
    ("path failed", |b| path::Failed::decode(b).ok().map(|v| v.encode().to_vec())),
    ("path close", |b| path::Close::decode(b).ok().map(|v| v.encode().to_vec())),
    ("cell", cell),
    ("advert", |b| routing::Advert::decode(b).ok().map(|(v, _)| v.encode().to_vec())),
    ("retractions", |b| routing::Retractions::decode(b).ok().map(|v| v.encode().to_vec())),
    ("sequence request", |b| routing::SeqRequest::decode(b).ok().map(|v| v.encode().to_vec())),
    ("refill", |b| routing::Refill::decode(b).ok().map(|v| v.encode().to_vec())),
    ("digest", |b| routing::Digest::decode(b).ok().map(|v| v.encode().to_vec())),
    ("probe", |b| routing::Probe::decode(b).ok().map(|v| v.encode().to_vec())),
    ("probe found", |b| routing::ProbeFound::decode(b).ok().map(|v| v.encode().to_vec())),
    ("routed", |b| routing::Routed::decode(b).ok().map(|v| v.encode().to_vec())),
    ("routed answer", |b| routing::RoutedAnswer::decode(b).ok().map(|v| v.encode().to_vec())),
    ("register", |b| routing::Register::decode(b).ok().map(|v| v.encode().to_vec())),
    ("place request", |b| routing::PlaceRequest::decode(b).ok().map(|v| v.encode().to_vec())),
    ("place answer", |b| routing::PlaceAnswer::decode(b).ok().map(|v| v.encode().to_vec())),
    ("session message", |b| Message::decode(b).ok().map(|v| v.encode())),
    ("session descriptor", |b| Descriptor::decode(b).ok().map(|v| v.encode())),
    ("session signed", |b| Signed::decode(b).ok().map(|v| v.encode())),
    ("session first payload", |b| FirstPayload::decode(b).ok().map(|v| v.encode())),
    ("session answer payload", |b| AnswerPayload::decode(b).ok().map(|v| v.encode().to_vec())),
    ("session frames", frames),
    ("public key", |b| public_key(Scheme::Ed25519, b)),
    ("falcon public key", |b| public_key(Scheme::FalconEd25519, b)),
    ("secret key", |b| SigningKey::from_secret_bytes(b).ok().map(|v| v.to_secret_bytes().to_vec())),
    ("name", name),
    ("ids", ids),
];

/// The whole of `bytes`, if the part that was encoded again is the part that was read.
fn again(encoded: &[u8], read: &[u8], bytes: &[u8]) -> Vec<u8> {
    if encoded == read { bytes.to_vec() } else { encoded.to_vec() }
}

/// The messages of a batch; what follows the last is padding.
fn batch(bytes: &[u8]) -> Again {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut out = Vec::new();
    while let Some((kind, body)) = next_message(&mut rest).ok()? {
        put_message(&mut out, kind, &[], &body);
    }
    out.extend_from_slice(&rest);
    Some(out)
}

/// A cell: label, flags of which one is known, body.
fn cell(bytes: &[u8]) -> Again {
    let (label, marked, body) = path::split_cell(BytesMut::from(bytes))?;
    let known = [&path::cell_head(label, marked)[..], &body].concat();
    assert_eq!(known.len(), bytes.len());
    Some([&known[..4], &bytes[4..5], &known[5..]].concat())
}

/// The frames of a packet.
fn frames(bytes: &[u8]) -> Again {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while reader.remaining() > 0 {
        Frame::decode(&mut reader).ok()?.encode(&mut out);
    }
    Some(out)
}

/// A key of a scheme.
fn public_key(scheme: Scheme, bytes: &[u8]) -> Again {
    PublicKey::from_bytes(scheme, bytes).ok().map(|key| key.to_bytes())
}

/// A name as people type it, in its canonical form the second time.
fn name(bytes: &[u8]) -> Again {
    let text = String::from_utf8_lossy(bytes);
    let _ = ZoneLabel::new(&text).map(|label| assert_eq!(ZoneLabel::new(label.as_str()), Ok(label.clone())));
    let name = Name::parse(&text, "tarnet.alt").ok()?;
    // Its text form has no suffix, and labels that look like one are labels.
    let again = Name::parse(&name.to_string(), "");
    assert_eq!(again.as_ref(), Ok(&name), "{text:?}");
    Some(bytes.to_vec())
}

/// Ids in their text forms.
fn ids(bytes: &[u8]) -> Again {
    let text = std::str::from_utf8(bytes).ok()?;
    let _ = text.parse().map(|id: PeerId| assert_eq!(id.to_string().parse(), Ok(id)));
    let _ = text.parse().map(|id: ServiceId| assert_eq!(id.to_string().parse(), Ok(id)));
    let _ = text.parse().map(|id: DhtKey| assert_eq!(id.to_string().parse(), Ok(id)));
    Some(bytes.to_vec())
}

/// Gives bytes to a decoder.
fn check((name, decode): &Decoder, bytes: &[u8]) -> bool {
    let again = decode(bytes);
    if let Some(again) = &again {
        assert_eq!(again, bytes, "{name}: accepted, but is not what it encodes to");
    }
    again.is_some()
}

#[test]
fn every_decoder_has_a_sample_that_it_takes() {
    let samples = samples::all();
    for decoder in DECODERS {
        let taken = samples.iter().any(|sample| check(decoder, sample));
        assert!(taken, "{}: no sample", decoder.0);
    }
}

#[test]
fn spoiled_bytes_give_every_decoder_a_value_or_an_error() {
    let samples = samples::all();
    let mut fuzz = Fuzz::new("decoders", TARGETS);
    // Which samples a decoder takes; changes to these go deeper than noise.
    let own: Vec<Vec<&Vec<u8>>> =
        DECODERS.iter().map(|decoder| samples.iter().filter(|sample| check(decoder, sample)).collect()).collect();
    while fuzz.goes_on() {
        for (decoder, own) in DECODERS.iter().zip(&own) {
            let sample = if fuzz.below(8) == 0 { fuzz.pick(&samples).clone() } else { (*fuzz.pick(own)).clone() };
            check(decoder, &fuzz.spoil(&sample));
        }
        if let Ok(block) = Block::decode(&fuzz.spoil(&samples[0])) {
            let _ = (open(&[7; 32], &block), block.verify(crate::time::UnixTime(9)));
        }
    }
}
