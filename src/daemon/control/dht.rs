//! `/v1/dht`.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tarnet_api as api;
use tarnet_core::crypto::{DhtKey, PeerId};

use super::answer::{Answer, Bad, body, json, object, response};
use super::route::{ask, unknown};
use super::{Context, guard};
use crate::admin::AdminCall;

/// Life of a signed value when none is given: a day.
const TTL_DEFAULT_S: u32 = 86_400;

/// A content hash from 64 hex digits: the form of a PeerId.
pub fn parse_hash(text: &str) -> Result<[u8; 32], Bad> {
    text.parse::<PeerId>()
        .map(|PeerId(hash)| hash)
        .map_err(|error| Bad::usage(format!("not a content hash: it {error}")))
}

/// Answers a request below `/v1/dht`.
pub async fn answer(
    context: &Context,
    method: Method,
    rest: &[&str],
    request: Request<Incoming>,
) -> Result<Answer, Bad> {
    match (method, rest) {
        (Method::POST, ["content"]) => {
            let value = body(request).await?.to_vec();
            json(&api::Hash { hash: ask(context, |reply| AdminCall::DhtPut(value, reply)).await? })
        }
        (Method::GET, ["content", hash]) => {
            let hash = parse_hash(hash)?;
            Ok(response(StatusCode::OK, ask(context, |reply| AdminCall::DhtGet(hash, reply)).await?.into()))
        }
        (Method::POST, ["signed"]) => put_signed(context, object(request).await?).await,
        (Method::GET, ["signed", key]) => {
            let key: DhtKey = key.parse().map_err(|error| Bad::usage(format!("not a DHT key: it {error}")))?;
            let found = ask(context, |reply| AdminCall::DhtGetSigned(key, reply)).await?;
            let values = found.into_iter().map(|(signer, value)| api::SignedValue {
                signer: signer.to_string(),
                value: String::from_utf8_lossy(&value).into_owned(),
            });
            json(&values.collect::<Vec<_>>())
        }
        (Method::GET, ["hello", peer]) => {
            let peer: PeerId = peer.parse().map_err(|error| Bad::usage(format!("not a PeerId: it {error}")))?;
            json(&ask(context, |reply| AdminCall::DhtHello(peer, reply)).await?)
        }
        (method, _) => Err(unknown(&method, "/v1/dht/…")),
    }
}

/// Stores a signed value.
async fn put_signed(context: &Context, request: api::SignedRequest) -> Result<Answer, Bad> {
    let identity = guard::acting(context, request.identity.as_deref())?;
    let (value, ttl_s) = (request.value.into_bytes(), request.ttl_s.unwrap_or(TTL_DEFAULT_S));
    let key = ask(context, |reply| AdminCall::DhtPutSigned { identity, key: None, value, ttl_s, reply }).await?;
    json(&api::Hash { hash: key.to_string() })
}
