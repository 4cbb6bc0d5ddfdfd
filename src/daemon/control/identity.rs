//! `/v1/identities`.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tarnet_api as api;
use tarnet_core::crypto::Scheme;

use super::answer::{Answer, Bad, body, json, object, response};
use super::route::{ask, unknown};
use super::{Context, guard};
use crate::admin::AdminCall;
use crate::callers::OWN;

/// Answers a request below `/v1/identities`.
pub async fn answer(
    context: &Context,
    method: Method,
    rest: &[&str],
    request: Request<Incoming>,
) -> Result<Answer, Bad> {
    match (method, rest) {
        (Method::GET, []) => json(&guard::identities(context, ask(context, AdminCall::IdentityList).await?)),
        (Method::POST, []) => create(context, object(request).await?).await,
        (Method::GET, [name]) => json(&find(context, name).await?),
        (Method::PUT, [name]) => update(context, name, object(request).await?).await,
        (Method::DELETE, [name]) => {
            ask(context, |reply| AdminCall::IdentityDelete((*name).into(), reply)).await?;
            json(&api::Done {})
        }
        (Method::GET, [name, "key"]) => {
            let key = ask(context, |reply| AdminCall::IdentityExport((*name).into(), reply)).await?;
            Ok(response(StatusCode::OK, key.into()))
        }
        (Method::POST, [name, "key"]) => {
            let key = body(request).await?.to_vec();
            let made = ask(context, |reply| AdminCall::IdentityImport((*name).into(), key, reply)).await?;
            context.shell.identity_made().await;
            json(&made)
        }
        (method, _) => Err(unknown(&method, "/v1/identities/…")),
    }
}

/// One identity by name.
async fn find(context: &Context, name: &str) -> Result<api::Identity, Bad> {
    let name = if name == OWN { context.caller.unnamed.as_str() } else { name };
    let identities = guard::identities(context, ask(context, AdminCall::IdentityList).await?);
    identities.into_iter().find(|identity| identity.name == name).ok_or_else(|| guard::unknown(name))
}

/// Refuses settings that this version would not keep: a privacy setting is enforced or refused, never ignored.
fn enforceable(request: &api::IdentityRequest) -> Result<(), Bad> {
    let hidden = request.privacy.as_deref().is_some_and(|privacy| privacy != "public");
    if hidden || request.intro_points.is_some_and(|points| points > 0) {
        return Err(Bad::refused("hidden identities: not yet", "this version keeps public identities only"));
    }
    if request.outbound_hops.is_some_and(|hops| hops != 1) {
        return Err(Bad::refused(
            "outbound hops other than 1: not yet",
            "this version builds circuits of one hop only",
        ));
    }
    Ok(())
}

/// Makes an identity.
async fn create(context: &Context, request: api::IdentityRequest) -> Result<Answer, Bad> {
    enforceable(&request)?;
    let scheme = match request.scheme.as_deref() {
        None | Some("falcon_ed25519") => Scheme::FalconEd25519,
        Some("ed25519") => Scheme::Ed25519,
        Some(other) => return Err(Bad::usage(format!("`{other}` is not one of ed25519, falcon_ed25519"))),
    };
    let name = request.name;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(good) || name == "peer" {
        return Err(Bad::usage("an identity's name is 1 to 63 letters, digits, `-` or `_`, and not `peer`"));
    }
    let made = ask(context, |reply| AdminCall::IdentityCreate { name, scheme, reply }).await?;
    context.shell.identity_made().await;
    json(&made)
}

/// Changes settings; today only to what they are.
async fn update(context: &Context, name: &str, request: api::IdentityRequest) -> Result<Answer, Bad> {
    enforceable(&request)?;
    json(&find(context, name).await?)
}
