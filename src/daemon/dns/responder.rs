//! What is answered to a question.
//!
//! A name is ours if it is under the suffix, or if its last label is a ServiceId or known
//! to the acting identity's zone. Ours: addresses, TXT, SOA, NS; any other type of an
//! existing name is NODATA with SOA, never NXDOMAIN, which would kill the name for every
//! type. Not ours: REFUSED, so that a resolver asks elsewhere; where we are the host's resolver,
//! forwarded. Whether a name is ours is never guessed: when it cannot be told, the answer is
//! SERVFAIL and nobody else hears of the name. An address is written down before it is
//! answered. DNS alone builds no circuit.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tarnet_core::crypto::ServiceId;
use tarnet_core::names::Record;
use tokio::sync::{oneshot, watch};

use super::DnsConfig;
use super::answer::{self, Answer, encode_udp, question};
use super::forward::Forwarder;
use super::names::{self, Asked};
use crate::admin::AdminCall;
use crate::handle::{NodeHandle, ResolveError, Resolved};
use crate::tun::book::AddressBook;

/// Largest EDNS version that we speak.
const EDNS_VERSION: u8 = 0;

/// The name that programs ask before they use a resolver of their own (Mozilla's canary domain).
const CANARY: &str = "use-application-dns.net";
/// The top-level domain that is never asked of the network (RFC 9476 §2), whatever our suffix is.
const ALT: &str = "alt";

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer may be cut.
    Udp,
    /// On a stream.
    Tcp,
}

/// Hears of changes to what a responder answers.
pub struct Changes {
    zones: watch::Receiver<u64>,
    forwarder: watch::Receiver<Option<Arc<Forwarder>>>,
}

impl Changes {
    /// What has changed until now is known.
    pub fn mark_seen(&mut self) {
        self.zones.mark_unchanged();
        self.forwarder.mark_unchanged();
    }

    /// Waits for a change; for ever once there can be none.
    pub async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.zones.changed() => changed,
            changed = self.forwarder.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Answers questions.
pub struct Responder {
    node: NodeHandle,
    book: AddressBook,
    /// The identity whose names are shown.
    acting: Arc<str>,
    /// Labels of our suffix, and the suffix as a name: also the name of the server.
    suffix: Vec<String>,
    apex: Name,
    ttl_s: u32,
    ipv6: bool,
    /// What [`Self::petnames`] found last, and how often zones had changed then.
    petnames: Mutex<Option<(u64, Arc<BTreeSet<String>>)>>,
    /// Who is asked for names that are not ours, where every question of the host comes here.
    forwarder: watch::Sender<Option<Arc<Forwarder>>>,
}

impl Responder {
    /// A responder for the names of `acting`. Without `ipv6` no name has an IPv6 address.
    #[must_use]
    pub fn new(node: NodeHandle, book: AddressBook, acting: &str, config: &DnsConfig, ipv6: bool) -> Self {
        let suffix = names::suffix_labels(&config.suffix);
        let apex = Name::from_labels(suffix.iter().map(String::as_bytes)).unwrap_or_default();
        Self {
            node,
            book,
            acting: acting.into(),
            suffix,
            apex,
            ttl_s: config.ttl_s,
            ipv6,
            petnames: Mutex::default(),
            forwarder: watch::Sender::default(),
        }
    }

    /// From now on names that are not ours are forwarded, or refused.
    pub fn forward(&self, forwarder: Option<Forwarder>) {
        self.forwarder.send_replace(forwarder.map(Arc::new));
    }

    /// Who is asked for names that are not ours.
    fn forwarder(&self) -> Option<Arc<Forwarder>> {
        self.forwarder.borrow().clone()
    }

    /// The servers that are asked for names that are not ours.
    #[must_use]
    pub fn forwards_to(&self) -> Vec<SocketAddr> {
        self.forwarder().map(|forwarder| forwarder.servers().to_vec()).unwrap_or_default()
    }

    /// Changes of what is ours and of whom else is asked.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes { zones: self.node.zones(), forwarder: self.forwarder.subscribe() }
    }

    /// The answer to a message, in bytes; `None` to what is no question at all.
    pub async fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let request = match Message::from_vec(bytes) {
            Ok(request) => request,
            Err(_) => return malformed(bytes),
        };
        if request.metadata.message_type == MessageType::Response {
            return None;
        }
        let mut answer = self.decide(&request).await;
        if matches!(answer, Answer::Foreign) {
            answer = match self.forwarder() {
                None => Answer::Code(ResponseCode::Refused),
                Some(forwarder) => match self.elsewhere(&request, bytes, &forwarder, transport).await {
                    Ok(answer) => return Some(answer),
                    Err(answer) => answer,
                },
            };
        }
        let bad_version = matches!(answer, Answer::Code(ResponseCode::BADVERS));
        let mut message = answer::message(&request, answer, &self.apex);
        if let (true, Some(edns)) = (bad_version, message.edns.as_mut()) {
            edns.set_rcode_high(ResponseCode::BADVERS.high());
        }
        match transport {
            Transport::Udp => encode_udp(&request, &message),
            Transport::Tcp => message.to_vec().ok(),
        }
    }

    /// Asks others for a name that is not ours; or says what there is to say without them.
    async fn elsewhere(
        &self,
        request: &Message,
        bytes: &[u8],
        forwarder: &Forwarder,
        transport: Transport,
    ) -> Result<Vec<u8>, Answer> {
        let asked = question(request).map(|query| query.name().to_lowercase().to_ascii()).unwrap_or_default();
        let asked = asked.trim_end_matches('.');
        let denied = asked == ALT || asked.ends_with(".alt") || (forwarder.canary && asked == CANARY);
        if denied {
            return Err(Answer::NoName(last_label_name(asked)));
        }
        forwarder.ask(bytes, transport).await.ok_or(Answer::Code(ResponseCode::ServFail))
    }

    /// What to say.
    async fn decide(&self, request: &Message) -> Answer {
        if request.metadata.op_code != OpCode::Query {
            return Answer::Code(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > EDNS_VERSION) {
            return Answer::Code(ResponseCode::BADVERS);
        }
        let Some(query) = question(request) else {
            return Answer::Code(ResponseCode::FormErr);
        };
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Answer::Code(ResponseCode::Refused);
        }
        let kind = query.query_type();
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Answer::Code(ResponseCode::Refused);
        }
        match names::sort(query.name(), &self.suffix) {
            Asked::Suffix => self.suffix_answer(kind),
            Asked::Suffixed(name) => self.name_answer(&name, kind, Some(&self.apex)).await,
            Asked::Bare(name) if name == "arpa" || name.ends_with(".arpa") => {
                self.reverse_answer(query.name(), &name, kind)
            }
            Asked::Bare(name) => self.name_answer(&name, kind, None).await,
            Asked::Foreign => Answer::Foreign,
        }
    }

    /// The suffix itself: our zone's apex, and the name of this server.
    fn suffix_answer(&self, kind: RecordType) -> Answer {
        let (v4, v6) = self.book.addresses().dns();
        let data = match kind {
            RecordType::SOA => answer::authority(self.apex.clone()),
            RecordType::NS => answer::server(self.apex.clone()),
            RecordType::A => answer::address(v4.into()),
            RecordType::AAAA if self.ipv6 => answer::address(v6.into()),
            RecordType::ANY => answer::any(),
            _ => return Answer::NoData(self.apex.clone()),
        };
        Answer::Records(vec![(self.ttl_s, data)])
    }

    /// A name; `apex` is that of the zone it is certainly in.
    async fn name_answer(&self, name: &str, kind: RecordType, apex: Option<&Name>) -> Answer {
        let resolved = self.node.resolve(&self.acting, name).await;
        let zone = || match apex {
            Some(apex) => apex.clone(),
            None => last_label_name(name),
        };
        match resolved {
            Ok(resolved) => self.existing_answer(name, &resolved, kind, zone(), apex.is_none()).await,
            Err(ResolveError::NoSuchName | ResolveError::BadName | ResolveError::Loop) => {
                let Some(known) = self.owns_last_label(name).await else {
                    return Answer::Code(ResponseCode::ServFail);
                };
                if known && !name.contains('.') {
                    // A petname whose zone says nothing of its apex. NXDOMAIN would deny all names below it (RFC 8020).
                    Answer::NoData(zone())
                } else if known || apex.is_some() {
                    Answer::NoName(zone())
                } else {
                    Answer::Foreign
                }
            }
            Err(ResolveError::Timeout | ResolveError::UnknownIdentity | ResolveError::Stopping) => {
                Answer::Code(ResponseCode::ServFail)
            }
        }
    }

    /// A name that exists. `bare` names are their own zone's apex where they have one label.
    async fn existing_answer(
        &self,
        name: &str,
        resolved: &Resolved,
        kind: RecordType,
        zone: Name,
        bare: bool,
    ) -> Answer {
        let is_apex = bare && !name.contains('.');
        let data = match kind {
            RecordType::A | RecordType::AAAA if resolved.service.is_some() => {
                return self.address_answer(name, kind, zone).await;
            }
            RecordType::TXT => return text_answer(resolved, self.ttl_s, zone),
            RecordType::SOA if is_apex => answer::authority(self.apex.clone()),
            RecordType::NS if is_apex => answer::server(self.apex.clone()),
            RecordType::ANY => answer::any(),
            _ => return Answer::NoData(zone),
        };
        Answer::Records(vec![(self.ttl_s, data)])
    }

    /// A name that leads to a service: its synthetic address.
    async fn address_answer(&self, name: &str, kind: RecordType, zone: Name) -> Answer {
        if kind == RecordType::AAAA && !self.ipv6 {
            return Answer::NoData(zone);
        }
        match self.book.assign(&self.acting, name).await {
            Ok(slot) => {
                let addresses = self.book.addresses();
                let address: IpAddr =
                    if kind == RecordType::A { addresses.v4(slot).into() } else { addresses.v6(slot).into() };
                Answer::Records(vec![(self.ttl_s, answer::address(address))])
            }
            Err(error) => {
                tracing::warn!(%error, "a name got no synthetic address");
                Answer::Code(ResponseCode::ServFail)
            }
        }
    }

    /// A name of the reverse tree: our ranges, and NODATA for discovery of encrypted resolvers (RFC 9462 §6.4).
    fn reverse_answer(&self, asked: &Name, name: &str, kind: RecordType) -> Answer {
        if name == "_dns.resolver.arpa" {
            return Answer::NoData(asked.base_name());
        }
        let Ok(network) = asked.parse_arpa_name() else {
            return Answer::Foreign;
        };
        let addresses = self.book.addresses();
        let inside = match network {
            ipnet_v4 if ipnet_v4.addr().is_ipv4() => network.prefix_len() >= addresses.ipv4.len,
            _ => network.prefix_len() >= addresses.ipv6.len,
        };
        if !inside || !addresses.routes(network.addr()) {
            return Answer::Foreign;
        }
        let apex = asked.base_name();
        if network.prefix_len() < network.max_prefix_len() {
            return Answer::NoData(apex);
        }
        let named = addresses.slot(network.addr()).and_then(|slot| self.book.name_for(&self.acting, slot));
        match named.map(|name| Name::from_utf8(format!("{name}."))) {
            Some(Ok(name)) if matches!(kind, RecordType::PTR | RecordType::ANY) => {
                Answer::Records(vec![(self.ttl_s, answer::pointer(name))])
            }
            Some(Ok(_)) => Answer::NoData(apex),
            Some(Err(_)) | None => Answer::NoName(apex),
        }
    }

    /// Whether a name's last label is a ServiceId or known to the acting identity's zone; `None` when the zone
    /// cannot be looked into.
    async fn owns_last_label(&self, name: &str) -> Option<bool> {
        let label = last_label(name);
        if label.parse::<ServiceId>().is_ok() {
            return Some(true);
        }
        Some(self.petnames().await?.contains(label))
    }

    /// The labels of the acting identity's zone, asked for again when a zone has changed.
    pub async fn petnames(&self) -> Option<Arc<BTreeSet<String>>> {
        let changes = *self.node.zones().borrow();
        let known = self.petnames.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, petnames)) = known.filter(|(at, _)| *at == changes) {
            return Some(petnames);
        }
        let (reply, answer) = oneshot::channel();
        let asked = self.node.control(AdminCall::RecordList(self.acting.to_string(), reply)).await;
        let entries = match (asked, answer.await) {
            (Some(()), Ok(Ok(entries))) => entries,
            _ => return None,
        };
        let petnames: Arc<BTreeSet<String>> =
            Arc::new(entries.into_iter().map(|entry| entry.label.to_lowercase()).collect());
        *self.petnames.lock().unwrap_or_else(PoisonError::into_inner) = Some((changes, Arc::clone(&petnames)));
        Some(petnames)
    }
}

/// The text records of a name.
fn text_answer(resolved: &Resolved, ttl_s: u32, zone: Name) -> Answer {
    let texts: Vec<(u32, RData)> = resolved
        .records
        .iter()
        .filter_map(|found| match &found.record {
            Record::Text(text) => Some((found.ttl_s.min(ttl_s), answer::text(text))),
            _ => None,
        })
        .collect();
    if texts.is_empty() { Answer::NoData(zone) } else { Answer::Records(texts) }
}

/// The label that a name hangs from.
fn last_label(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The zone of a bare name: its last label.
fn last_label_name(name: &str) -> Name {
    Name::from_labels([last_label(name).as_bytes()]).unwrap_or_default()
}

/// FORMERR to whatever at least has an id and is no answer itself.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (id, rest) = bytes.split_first_chunk::<2>()?;
    if rest.len() < 10 || rest[0] & 0x80 != 0 {
        return None;
    }
    Message::error_msg(u16::from_be_bytes(*id), OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

#[cfg(test)]
mod tests;
