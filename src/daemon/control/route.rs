//! Which request goes where.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tarnet_api as api;
use tarnet_core::crypto::PeerId;
use tokio::sync::oneshot;

use super::answer::{Answer, Bad, json, object, response};
use super::{Context, bench, dht, doctor, guard, identity, metrics, pipe, target, zone};
use crate::admin::{AdminCall, Reply};

/// Answers one request.
pub async fn answer(context: &Context, request: Request<Incoming>) -> Answer {
    match dispatch(context, request).await {
        Ok(answer) => answer,
        Err(bad) if bad.may_be_the_clock() => bad.and(clock(context).await).answer(),
        Err(bad) => bad.answer(),
    }
}

/// What a wrong clock has to do with it: what others say looks as if it had ended, or not begun.
async fn clock(context: &Context) -> Option<String> {
    let status = ask(context, AdminCall::Status).await.ok()?;
    (!status.clock.is_empty()).then(|| crate::doctor::wrong_clock(&status.clock))
}

/// Asks the node something and waits for its answer.
pub async fn ask<T>(context: &Context, call: impl FnOnce(Reply<T>) -> AdminCall) -> Result<T, Bad> {
    let (reply, answer) = oneshot::channel();
    context.node.control(call(reply)).await.ok_or_else(Bad::stopping)?;
    Ok(answer.await.map_err(|_| Bad::stopping())??)
}

/// Finds the request's place by its first segments.
async fn dispatch(context: &Context, request: Request<Incoming>) -> Result<Answer, Bad> {
    let path = request.uri().path().to_owned();
    let segments: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(|segment| api::unsegment(segment).ok_or_else(|| Bad::usage("bad percent-encoding in the path")))
        .collect::<Result<_, _>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = request.method().clone();
    guard::admit(context, &method, &segments)?;
    match (method, segments.as_slice()) {
        (Method::GET, ["metrics"]) => Ok(response(StatusCode::OK, metrics::text(&status(context).await?).into())),
        (Method::GET, ["v1", "status"]) => json(&guard::status(context, status(context).await?)),
        (Method::GET, ["v1", "dns"]) => json(&context.shell.dns()),
        (Method::GET, ["v1", "routes"]) => json(&ask(context, AdminCall::Routes).await?),
        (Method::GET, ["v1", "services"]) => json(&guard::services(context, context.shell.services())),
        (Method::POST, ["v1", "services"]) => {
            let api::ServiceRequest { name, text } = object(request).await?;
            let file = context.shell.service_place(&name, &text).map_err(Bad::usage)?;
            json(&api::ServicePlace { file: file.display().to_string() })
        }
        (Method::GET, ["v1", "doctor"]) => doctor::answer(context).await,
        (Method::POST, ["v1", "reload"]) => reload(context).await,
        (Method::POST, ["v1", "resolve"]) => resolve(context, object(request).await?).await,
        (Method::POST, ["v1", "ping"]) => ping(context, object(request).await?).await,
        (Method::POST, ["v1", "bench"]) => json(&bench::run(context, object(request).await?).await?),
        (Method::POST, ["v1", "connect"]) => pipe::connect(context, request).await,
        (Method::POST, ["v1", "listen"]) => pipe::listen(context, request).await,
        (method, ["v1", "peers", rest @ ..]) => peers(context, method, rest, request).await,
        (method, ["v1", "identities", rest @ ..]) => identity::answer(context, method, rest, request).await,
        (method, ["v1", "zones", rest @ ..]) => zone::answer(context, method, rest, request).await,
        (method, ["v1", "dht", rest @ ..]) => dht::answer(context, method, rest, request).await,
        (method, _) => Err(unknown(&method, &path)),
    }
}

/// The answer to a request that has no place.
pub fn unknown(method: &Method, path: &str) -> Bad {
    Bad::not_found(format!("there is no {method} {path}"), "are the daemon and this program of one version?")
}

/// The node's status, completed by the shell.
async fn status(context: &Context) -> Result<api::Status, Bad> {
    let mut status = ask(context, AdminCall::Status).await?;
    context.shell.complete(&mut status);
    Ok(status)
}

/// Has the shell read its files again.
async fn reload(context: &Context) -> Result<Answer, Bad> {
    let (reply, answer) = oneshot::channel();
    context.reload.send(reply).await.map_err(|_| Bad::stopping())?;
    json(&api::Reloaded { warnings: answer.await.map_err(|_| Bad::stopping())? })
}

/// `/v1/peers`.
async fn peers(context: &Context, method: Method, rest: &[&str], request: Request<Incoming>) -> Result<Answer, Bad> {
    match (method, rest) {
        (Method::GET, []) => json(&ask(context, AdminCall::Peers).await?),
        (Method::POST, []) => {
            let api::PeerRequest { uri } = object(request).await?;
            ask(context, |reply| AdminCall::PeerAdd(uri, reply)).await?;
            json(&api::Done {})
        }
        (Method::DELETE, [peer]) => {
            let peer: PeerId = peer.parse().map_err(|error| Bad::usage(format!("not a PeerId: it {error}")))?;
            ask(context, |reply| AdminCall::PeerForget(peer, reply)).await?;
            json(&api::Done {})
        }
        (method, _) => Err(unknown(&method, "/v1/peers")),
    }
}

/// `POST /v1/resolve`.
async fn resolve(context: &Context, request: api::ResolveRequest) -> Result<Answer, Bad> {
    let zone = match &request.zone {
        Some(zone) => Some(zone.parse().map_err(|error| Bad::usage(format!("--zone is not a ServiceId: it {error}")))?),
        None => None,
    };
    let acting = guard::acting(context, request.identity.as_deref())?;
    let resolved = match guard::name_in(context, &request.name, request.zone.as_deref()) {
        Some(name) => context.node.resolve(&acting, &name).await?,
        None => context.node.resolve_in(&acting, &request.name, zone).await?,
    };
    let records = resolved.records.iter().map(|found| {
        let (kind, value) = crate::records::record_to_text(&found.record);
        api::ResolvedRecord { kind: kind.into(), value, ttl_s: found.ttl_s, zone: resolved.zone.to_string() }
    });
    let steps = resolved.trace.iter().filter(|_| request.trace).map(|step| api::TraceStep {
        zone: step.zone.to_string(),
        label: step.label.clone(),
        key: step.key.clone(),
        found: step.found.clone(),
        us: step.us,
    });
    json(&api::Resolution { name: resolved.name.clone(), records: records.collect(), trace: steps.collect() })
}

/// `POST /v1/ping`: one round trip.
async fn ping(context: &Context, request: api::ConnectRequest) -> Result<Answer, Bad> {
    let acting = guard::acting(context, request.identity.as_deref())?;
    let pong = context.node.ping(&acting, target::parse(&request.target)).await?;
    json(&api::Pong { seq: 1, rtt_ms: pong.rtt.as_secs_f64() * 1000.0, hops: u32::from(pong.hops) })
}
