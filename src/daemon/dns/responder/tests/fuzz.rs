//! Spoiled questions: an answer that is one, or silence.

use super::*;
use crate::fuzz::{TARGETS, engine::Fuzz};

#[tokio::test]
async fn spoiled_questions_are_answered_as_such_or_not_at_all() {
    let responder = responder("fuzz", true);
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::PTR, RecordType::ANY, RecordType::SOA];
    let names =
        ["blog.alice.", "note.alice.tarnet.alt.", "big.alice.", "1.0.18.198.in-addr.arpa.", "example.org.", "."];
    let mut samples = Vec::new();
    for name in names {
        samples.extend(kinds.iter().flat_map(|kind| [query(name, *kind, None), query(name, *kind, Some(4096))]));
    }
    let mut fuzz = Fuzz::new("dns", TARGETS);
    while fuzz.goes_on() {
        let sample = fuzz.pick(&samples).clone();
        let bytes = fuzz.spoil(&sample);
        for transport in [Transport::Udp, Transport::Tcp] {
            let Some(answer) = responder.answer(&bytes, transport).await else { continue };
            assert_eq!(answer[..2], bytes[..2], "an answer has its question's number");
            assert!(answer[2] & 0x80 != 0, "and says that it is one");
            // What never was a question is not amplified: the sender may be anybody.
            let whole = Message::from_vec(&bytes).is_ok();
            assert!(whole || answer.len() <= bytes.len().max(12), "{} bytes for {}", answer.len(), bytes.len());
        }
    }
}
