//! Questions against a node of the test's own.

mod fuzz;

use hickory_proto::op::{Edns, Query};
use tokio::sync::mpsc;

use super::*;
use crate::handle::{Request, ResolvedRecord};
use crate::tun::plan::AddressPlan;

/// A node that knows `blog.alice` (a service), `note.alice` (texts), `empty` (a petname
/// whose apex says nothing) and `slow.alice`, whose look-up times out.
async fn node(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Resolve { name, reply, .. } => {
                let service = ServiceId([7; 32]);
                let record = |record| ResolvedRecord { record, ttl_s: 30 };
                let records = match name.as_str() {
                    "blog.alice" | "alice" => Ok((vec![record(Record::Identity(service))], Some(service))),
                    "note.alice" => {
                        Ok((vec![record(Record::Text("x".repeat(300))), record(Record::Text("short".into()))], None))
                    }
                    "big.alice" => Ok((vec![record(Record::Text("x".repeat(2_000)))], None)),
                    "slow.alice" => Err(ResolveError::Timeout),
                    _ => Err(ResolveError::NoSuchName),
                };
                let _ = reply.send(records.map(|(records, service)| Resolved {
                    name,
                    zone: service.unwrap_or(ServiceId([1; 32])),
                    records,
                    service,
                    label: None,
                    trace: Vec::new(),
                }));
            }
            Request::Control(call) => {
                if let AdminCall::RecordList(_, reply) = *call {
                    let entry = |label: &str| tarnet_api::ZoneEntry {
                        label: label.into(),
                        kind: "zone".into(),
                        value: String::new(),
                        ttl_s: 60,
                        public: false,
                        by_expose: false,
                    };
                    let _ = reply.send(Ok(vec![entry("alice"), entry("empty")]));
                }
            }
            Request::Connect { .. } | Request::Listen { .. } | Request::Ping { .. } => panic!("DNS opens nothing"),
        }
    }
}

/// A responder with a folder of its own.
fn responder(test: &str, ipv6: bool) -> Responder {
    let (handle, requests) = NodeHandle::new();
    tokio::spawn(node(requests));
    let folder = std::env::temp_dir().join(format!("tarnet-dns-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let plan = AddressPlan::choose("198.18.0.0/15", "fd12:3456:789a::/48", &[], [7; 39]).unwrap();
    let book = AddressBook::open(&folder, &plan).unwrap();
    let config = DnsConfig { suffix: "tarnet.alt".into(), listen: Vec::new(), ttl_s: 60 };
    Responder::new(handle, book, "default", &config, ipv6)
}

/// A question's bytes.
fn query(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

async fn ask(responder: &Responder, name: &str, kind: RecordType) -> Message {
    let bytes = responder.answer(&query(name, kind, Some(4096)), Transport::Udp).await.unwrap();
    assert!(bytes.len() <= 1_232);
    Message::from_vec(&bytes).unwrap()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn every_spelling_gets_the_same_address_and_keeps_its_case() {
    let responder = responder("spelling", true);
    let mut found = Vec::new();
    for name in ["blog.alice.", "bLOG.aLice.", "blog.alice.tarnet.alt.", "Blog.Alice.TARNET.alt."] {
        let answer = ask(&responder, name, RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::NoError);
        assert!(
            answer.metadata.authoritative && answer.metadata.recursion_available && answer.metadata.recursion_desired
        );
        assert!(answer.queries[0].name().eq_case(&Name::from_ascii(name).unwrap()), "{name}");
        assert_eq!((answer.answers.len(), answer.answers[0].ttl), (1, 60));
        found.push(answer.answers[0].data.clone());
    }
    assert!(found.iter().all(|data| *data == found[0]));
    let RData::A(v4) = &found[0] else { panic!("not an address") };
    let v6 = ask(&responder, "blog.alice.", RecordType::AAAA).await;
    let RData::AAAA(v6) = v6.answers[0].data.clone() else { panic!("not an address") };
    let addresses = responder.book.addresses();
    assert_eq!(addresses.slot(v4.0.into()), addresses.slot(v6.0.into()));
}

#[tokio::test]
async fn an_existing_name_without_the_type_is_nodata_with_soa() {
    let responder = responder("nodata", true);
    for (name, kind) in [
        ("blog.alice.", RecordType::HTTPS),
        ("blog.alice.", RecordType::SVCB),
        ("blog.alice.", RecordType::MX),
        ("blog.alice.", RecordType::TXT),
        ("note.alice.", RecordType::A),
        ("empty.", RecordType::A),
        ("_dns.resolver.arpa.", RecordType::SVCB),
    ] {
        let answer = ask(&responder, name, kind).await;
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0), "{name} {kind}");
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
        assert_eq!(answer.authorities[0].ttl, 5);
    }
    let v4_only = super::tests::responder("nodata4", false);
    let answer = ask(&v4_only, "blog.alice.", RecordType::AAAA).await;
    assert_eq!((code(&answer), answer.answers.len(), answer.authorities.len()), (ResponseCode::NoError, 0, 1));
}

#[tokio::test]
async fn missing_names_are_denied_only_in_our_zones() {
    let responder = responder("missing", true);
    for (name, expected) in [
        ("nope.alice.", ResponseCode::NXDomain),
        ("nope.tarnet.alt.", ResponseCode::NXDomain),
        ("www.example.com.", ResponseCode::Refused),
        ("com.", ResponseCode::Refused),
        (".", ResponseCode::Refused),
        ("4.3.2.1.in-addr.arpa.", ResponseCode::Refused),
        ("slow.alice.", ResponseCode::ServFail),
    ] {
        let answer = ask(&responder, name, RecordType::A).await;
        assert_eq!(code(&answer), expected, "{name}");
        assert_eq!(answer.authorities.len(), usize::from(expected == ResponseCode::NXDomain));
    }
}

#[tokio::test]
async fn addresses_lead_back_to_their_names() {
    let responder = responder("reverse", true);
    let unused = ask(&responder, "200.0.18.198.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(code(&unused), ResponseCode::NXDomain);
    for kind in [RecordType::A, RecordType::AAAA] {
        let address = ask(&responder, "blog.alice.", kind).await.answers[0].data.ip_addr().unwrap();
        let name = Name::from(address);
        let answer = ask(&responder, &name.to_ascii(), RecordType::PTR).await;
        assert_eq!(answer.answers[0].data, answer::pointer(Name::from_ascii("blog.alice.").unwrap()), "{address}");
    }
    let half = ask(&responder, "18.198.in-addr.arpa.", RecordType::SOA).await;
    assert_eq!((code(&half), half.answers.len()), (ResponseCode::NoError, 0));
}

#[tokio::test]
async fn texts_apexes_and_any_are_answered() {
    let responder = responder("texts", true);
    let texts = ask(&responder, "note.alice.", RecordType::TXT).await;
    assert_eq!((texts.answers.len(), texts.answers[0].ttl), (2, 30));
    let RData::TXT(text) = &texts.answers[0].data else { panic!("no text") };
    assert_eq!(text.txt_data.iter().map(|part| part.len()).collect::<Vec<_>>(), [255, 45]);
    for (name, kind) in [
        ("tarnet.alt.", RecordType::SOA),
        ("tarnet.alt.", RecordType::NS),
        ("alice.", RecordType::SOA),
        ("alice.", RecordType::NS),
        ("blog.alice.", RecordType::ANY),
        ("tarnet.alt.", RecordType::A),
    ] {
        assert_eq!(ask(&responder, name, kind).await.answers.len(), 1, "{name} {kind}");
    }
}

#[tokio::test]
async fn large_answers_are_cut_over_udp_and_whole_over_tcp() {
    let responder = responder("large", true);
    for edns in [None, Some(4096)] {
        let question = query("big.alice.", RecordType::TXT, edns);
        let cut = Message::from_vec(&responder.answer(&question, Transport::Udp).await.unwrap()).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.edns.is_some() == edns.is_some());
        let whole = Message::from_vec(&responder.answer(&question, Transport::Tcp).await.unwrap()).unwrap();
        assert!(!whole.metadata.truncation && whole.answers.len() == 1);
    }
}

#[tokio::test]
async fn odd_messages_get_the_error_that_fits_or_silence() {
    let responder = responder("odd", true);
    let question = query("blog.alice.", RecordType::A, None);
    let answer = |bytes: Vec<u8>| {
        let responder = &responder;
        async move { responder.answer(&bytes, Transport::Udp).await.map(|bytes| code(&Message::from_vec(&bytes).unwrap())) }
    };
    let with = |change: &dyn Fn(&mut Message)| {
        let mut message = Message::from_vec(&question).unwrap();
        change(&mut message);
        message.to_vec().unwrap()
    };
    assert_eq!(answer(with(&|message| message.metadata.message_type = MessageType::Response)).await, None);
    assert_eq!(answer(with(&|message| message.metadata.op_code = OpCode::Notify)).await, Some(ResponseCode::NotImp));
    assert_eq!(answer(with(&|message| message.queries.clear())).await, Some(ResponseCode::FormErr));
    let twice = with(&|message| message.queries.push(message.queries[0].clone()));
    assert_eq!(answer(twice).await, Some(ResponseCode::FormErr));
    for cut in 0..question.len() {
        let expected = (cut >= 12).then_some(ResponseCode::FormErr);
        assert_eq!(answer(question[..cut].to_vec()).await, expected, "cut at {cut}");
    }
    let mut version = query("blog.alice.", RecordType::A, Some(1232));
    let at = version.len() - 5;
    version[at] = 1;
    let reply = Message::from_vec(&responder.answer(&version, Transport::Udp).await.unwrap()).unwrap();
    assert_eq!((reply.edns.unwrap().rcode_high(), reply.answers.len()), (1, 0));
}

#[tokio::test]
async fn foreign_names_are_forwarded_and_ours_never_are() {
    // Nobody answers there: what is forwarded fails, what is not forwarded is answered at once.
    let responder = responder("forward", true);
    let forwarder = |canary| Some(crate::dns::forward::Forwarder::new(&[], canary));
    responder.forward(forwarder(true));
    for (name, expected) in [
        ("www.example.com.", ResponseCode::ServFail),
        ("4.3.2.1.in-addr.arpa.", ResponseCode::ServFail),
        ("com.", ResponseCode::ServFail),
        ("use-application-dns.net.", ResponseCode::NXDomain),
        ("other.alt.", ResponseCode::NXDomain),
        ("blog.alice.", ResponseCode::NoError),
        ("nope.alice.", ResponseCode::NXDomain),
        ("nope.tarnet.alt.", ResponseCode::NXDomain),
        ("200.0.18.198.in-addr.arpa.", ResponseCode::NXDomain),
    ] {
        let kind = if name.ends_with("arpa.") { RecordType::PTR } else { RecordType::A };
        assert_eq!(code(&ask(&responder, name, kind).await), expected, "{name}");
    }
    responder.forward(forwarder(false));
    assert_eq!(code(&ask(&responder, "use-application-dns.net.", RecordType::A).await), ResponseCode::ServFail);
    responder.forward(None);
    assert_eq!(code(&ask(&responder, "www.example.com.", RecordType::A).await), ResponseCode::Refused);
}

#[tokio::test]
async fn a_zone_that_cannot_be_looked_into_makes_no_name_foreign() {
    let (handle, requests) = NodeHandle::new();
    drop(requests);
    let folder = std::env::temp_dir().join(format!("tarnet-dns-blind-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let plan = AddressPlan::choose("198.18.0.0/15", "fd12:3456:789a::/48", &[], [7; 39]).unwrap();
    let book = AddressBook::open(&folder, &plan).unwrap();
    let config = DnsConfig { suffix: "tarnet.alt".into(), listen: Vec::new(), ttl_s: 60 };
    let responder = Responder::new(handle, book, "default", &config, true);
    responder.forward(Some(crate::dns::forward::Forwarder::new(&[], false)));
    let answer = ask(&responder, "nope.alice.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert_eq!(responder.owns_last_label("nope.alice").await, None);
}
