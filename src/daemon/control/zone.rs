//! `/v1/zones/IDENTITY/LABEL`, and records as text.

use hyper::body::Incoming;
use hyper::{Method, Request};
use tarnet_api as api;
use tarnet_core::crypto::ServiceId;
use tarnet_core::names::{Record, reserved_petname};

use super::answer::{Answer, Bad, json, object};
use super::route::{ask, unknown};
use super::{Context, guard};
use crate::admin::AdminCall;
use crate::callers::OWN;
use crate::records::record_to_text;

/// Life of a record when none is given, seconds.
const TTL_DEFAULT_S: u32 = 3600;

/// Bytes of the longest text record.
const TEXT_LEN_MAX: usize = 4096;

/// Answers a request below `/v1/zones`.
pub async fn answer(
    context: &Context,
    method: Method,
    rest: &[&str],
    request: Request<Incoming>,
) -> Result<Answer, Bad> {
    let Some((identity, rest)) = rest.split_first() else { return Err(unknown(&method, "/v1/zones")) };
    let identity = guard::acting(context, Some(identity))?;
    match (method, rest) {
        (Method::GET, []) => json(&ask(context, |reply| AdminCall::RecordList(identity, reply)).await?),
        (Method::PUT, [label]) => set(context, &identity, label, object(request).await?).await,
        (Method::DELETE, [label]) => {
            let label = (*label).into();
            ask(context, |reply| AdminCall::RecordRemove { identity, label, by_expose: false, reply }).await?;
            json(&api::Done {})
        }
        (method, _) => Err(unknown(&method, "/v1/zones/…")),
    }
}

/// Sets a record; answers with it as it stands.
async fn set(context: &Context, identity: &str, label: &str, request: api::RecordRequest) -> Result<Answer, Bad> {
    let record = from_text(context, &request.kind, &request.value).await?;
    if label != "@" && !request.force && reserved_petname(label, &context.search_domains).is_some() {
        let error = format!("'{label}' is a name of the Internet or of this host; as a petname it would shadow it");
        return Err(Bad::refused(error, "choose another label, or say --force"));
    }
    let ttl_s = request.ttl_s.unwrap_or(TTL_DEFAULT_S);
    let entry = api::ZoneEntry {
        label: label.to_owned(),
        kind: request.kind,
        value: record_to_text(&record).1,
        ttl_s,
        public: request.public,
        by_expose: false,
    };
    let (identity, label, public) = (identity.to_owned(), label.to_owned(), request.public);
    let call = |reply| AdminCall::RecordSet { identity, label, record, public, ttl_s, by_expose: false, reply };
    ask(context, call).await?;
    // Who sets a name uses it next: by then the host asks us for it, and nobody else.
    context.shell.zone_changed().await;
    json(&entry)
}

/// A ServiceId, or that of an identity of ours by name.
async fn service_id(context: &Context, text: &str) -> Result<ServiceId, Bad> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let identities = guard::identities(context, ask(context, AdminCall::IdentityList).await?);
    let text = if text == OWN { context.caller.unnamed.as_str() } else { text };
    let found = identities.iter().find(|identity| identity.name == text);
    let found = found.and_then(|identity| identity.service_id.parse().ok());
    found.ok_or_else(|| {
        Bad::usage(format!("`{text}` is neither a ServiceId (52 characters) nor an identity of this node"))
    })
}

/// Parses a record's type and value.
async fn from_text(context: &Context, kind: &str, value: &str) -> Result<Record, Bad> {
    match kind {
        "identity" => Ok(Record::Identity(service_id(context, value).await?)),
        "zone" => Ok(Record::Zone(service_id(context, value).await?)),
        "alias" if value.len() <= 253 && !value.is_empty() => Ok(Record::Alias(value.to_owned())),
        "alias" => Err(Bad::usage("an alias is a name of at most 253 bytes")),
        "text" if value.len() <= TEXT_LEN_MAX => Ok(Record::Text(value.to_owned())),
        "text" => Err(Bad::usage(format!("a text is at most {TEXT_LEN_MAX} bytes"))),
        "content" => super::dht::parse_hash(value).map(Record::Content),
        other => Err(Bad::usage(format!("`{other}` is not one of identity, zone, alias, text, content"))),
    }
}
