//! Putting DNS answers together: the flags, the records, and the size that fits.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};

/// Largest answer over UDP, bytes (DNS flag day 2020); also what our EDNS announces.
pub const UDP_BYTES_MAX: u16 = 1_232;
/// Largest answer over UDP to a question without EDNS, bytes (RFC 1035 §4.2.1).
const PLAIN_BYTES_MAX: u16 = 512;
/// Bytes of one string of a TXT record (RFC 1035 §3.3).
const TEXT_BYTES_MAX: usize = 255;
/// Life of negative answers, seconds; also the SOA's minimum.
pub const NEGATIVE_TTL_S: u32 = 5;
/// The other times of the SOA. Nobody transfers the zone, so they mean nothing, but zero upsets checkers.
const SOA_TIMES_S: (i32, i32, i32) = (3_600, 600, 86_400);

/// What to say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Records of the name asked for.
    Records(Vec<(u32, RData)>),
    /// The name exists, but not with this type. Carries the zone's apex.
    NoData(Name),
    /// The name does not exist. Carries the zone's apex.
    NoName(Name),
    /// The name is not ours. Others may know it.
    Foreign,
    /// Not now, not understood, not allowed.
    Code(ResponseCode),
}

/// The record of an address.
#[must_use]
pub fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The record of a text, in strings of at most 255 bytes.
#[must_use]
pub fn text(text: &str) -> RData {
    let mut strings: Vec<&[u8]> = text.as_bytes().chunks(TEXT_BYTES_MAX).collect();
    if strings.is_empty() {
        strings.push(b"");
    }
    RData::TXT(TXT::from_bytes(strings))
}

/// What ANY is answered with (RFC 8482 §4.2).
#[must_use]
pub fn any() -> RData {
    RData::HINFO(HINFO::new("RFC8482".into(), String::new()))
}

/// The record of a name for an address.
#[must_use]
pub fn pointer(name: Name) -> RData {
    RData::PTR(PTR(name))
}

/// The record of the server's name.
#[must_use]
pub fn server(name: Name) -> RData {
    RData::NS(NS(name))
}

/// The start of authority of our zones.
#[must_use]
pub fn authority(server: Name) -> RData {
    let (refresh, retry, expire) = SOA_TIMES_S;
    RData::SOA(SOA::new(server, Name::root(), 1, refresh, retry, expire, NEGATIVE_TTL_S))
}

/// The message that answers `request`. `server` is the name server's name.
#[must_use]
pub fn message(request: &Message, answer: Answer, server: &Name) -> Message {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata.authoritative = true;
    message.metadata.recursion_available = true;
    message.metadata.recursion_desired = request.metadata.recursion_desired;
    message.metadata.checking_disabled = request.metadata.checking_disabled;
    message.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        message.set_edns(edns);
    }
    let owner = request.queries.first().map_or_else(Name::root, |query| query.name().clone());
    match answer {
        Answer::Records(records) => {
            message
                .add_answers(records.into_iter().map(|(ttl_s, data)| Record::from_rdata(owner.clone(), ttl_s, data)));
        }
        Answer::NoData(apex) => {
            message.add_authority(Record::from_rdata(apex, NEGATIVE_TTL_S, authority(server.clone())));
        }
        Answer::NoName(apex) => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.add_authority(Record::from_rdata(apex, NEGATIVE_TTL_S, authority(server.clone())));
        }
        Answer::Foreign => {
            message.metadata.authoritative = false;
            message.metadata.response_code = ResponseCode::Refused;
        }
        Answer::Code(code) => {
            message.metadata.authoritative = false;
            message.metadata.response_code = code;
        }
    }
    message
}

/// The bytes of an answer over UDP: cut to a header with TC where it is larger than the asker takes.
#[must_use]
pub fn encode_udp(request: &Message, answer: &Message) -> Option<Vec<u8>> {
    let announced = request.edns.as_ref().map_or(PLAIN_BYTES_MAX, Edns::max_payload);
    let most = usize::from(announced.clamp(PLAIN_BYTES_MAX, UDP_BYTES_MAX));
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= most { Some(bytes) } else { answer.truncate().to_vec().ok() }
}

/// The question of a message, if it has exactly one.
#[must_use]
pub fn question(request: &Message) -> Option<&Query> {
    match request.queries.as_slice() {
        [query] => Some(query),
        _ => None,
    }
}
