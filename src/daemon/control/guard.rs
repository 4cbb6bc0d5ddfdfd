//! What a caller may ask of the control socket. Owners everything; a mapped user what is its
//! own identity's; everybody else how the machine is.
//!
//! A request that is not in the tables here is the owners': what is added later is closed to
//! others until it is put here. An identity that is not the caller's is answered as one that
//! does not exist, so that nobody can find out which there are.

use hyper::Method;
use tarnet_api as api;

use super::Context;
use super::answer::Bad;
use crate::callers::{OWN, Rights};

/// Whether the caller may ask this at all.
pub fn admit(context: &Context, method: &Method, segments: &[&str]) -> Result<(), Bad> {
    let caller = &context.caller;
    let may = match caller.rights {
        Rights::All => true,
        Rights::Own => of_all(method, segments) || of_mapped(method, segments),
        Rights::Shared => of_all(method, segments),
    };
    if may { Ok(()) } else { Err(Bad::foreign(caller.rights)) }
}

/// What everybody who may open the socket may ask; the answer is cut to what is the caller's.
fn of_all(method: &Method, segments: &[&str]) -> bool {
    *method == Method::GET && matches!(segments, ["v1", "status" | "doctor"])
}

/// What a mapped user may ask besides: only in the name of its identity, which each room checks by [`acting`].
fn of_mapped(method: &Method, segments: &[&str]) -> bool {
    match segments {
        ["v1", "resolve" | "ping" | "bench" | "connect" | "listen"] => *method == Method::POST,
        ["v1", "services" | "identities"] | ["v1", "identities", _] => *method == Method::GET,
        ["v1", "zones", _, ..] => true,
        ["v1", "dht", "signed"] => *method == Method::POST,
        ["v1", "dht", "content" | "signed" | "hello", _] => *method == Method::GET,
        _ => false,
    }
}

/// The identity that a request acts as.
pub fn acting(context: &Context, named: Option<&str>) -> Result<String, Bad> {
    context.caller.acting(named).map(str::to_owned).ok_or_else(|| unknown(named.unwrap_or(OWN)))
}

/// There is no such identity, or it is not the caller's.
pub fn unknown(name: &str) -> Bad {
    Bad::not_found(format!("there is no identity '{name}'"), "see `tarnet identity list`")
}

/// The identities that the caller may see.
pub fn identities(context: &Context, mut all: Vec<api::Identity>) -> Vec<api::Identity> {
    all.retain(|identity| context.caller.sees(&identity.name));
    all
}

/// The services that the caller may see.
pub fn services(context: &Context, mut all: Vec<api::Service>) -> Vec<api::Service> {
    all.retain(|service| context.caller.sees(&service.identity));
    all
}

/// The checks that the caller may see: what names peers, files and services is the owners'.
pub fn checks(context: &Context, mut all: Vec<api::Check>) -> Vec<api::Check> {
    let private = |check: &api::Check| ["bootstrap", "services", "key files"].contains(&check.name.as_str());
    all.retain(|check| context.caller.rights == Rights::All || !private(check));
    all
}

/// A name under a zone that a caller gives. Others than owners see of it what everybody in the network sees,
/// whoever's zone it is.
pub fn name_in(context: &Context, name: &str, zone: Option<&str>) -> Option<String> {
    let zone = zone.filter(|_| context.caller.rights != Rights::All)?;
    let name = name.trim_end_matches('.');
    Some(if name.is_empty() || name == "@" { zone.to_owned() } else { format!("{name}.{zone}") })
}

/// The status as the caller may see it: others than owners see how the machine is, and of what happens on it only
/// what is their identity's.
pub fn status(context: &Context, all: api::Status) -> api::Status {
    let caller = &context.caller;
    let tun = api::Tun { identity: caller.flows.clone(), ..all.tun };
    let acting = caller.unnamed.clone();
    if caller.rights == Rights::All {
        return api::Status { tun, acting, ..all };
    }
    let identities = identities(context, all.identities);
    let own = |id: &String| identities.iter().any(|identity| identity.service_id == *id);
    let sessions = all.sessions.into_iter().filter(|session| own(&session.acting) || own(&session.target)).collect();
    let link = |link: api::Link| api::Link { peer_id: String::new(), address: String::new(), ..link };
    api::Status {
        peer_id: all.peer_id,
        version: all.version,
        uptime_s: all.uptime_s,
        links: all.links.into_iter().map(link).collect(),
        dns: all.dns,
        socks: all.socks,
        identities,
        sessions,
        tun,
        acting,
        ..api::Status::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_the_owners() {
        let mapped = |method: Method, path: &str| {
            let segments: Vec<&str> = path.split('/').collect();
            of_all(&method, &segments) || of_mapped(&method, &segments)
        };
        for (method, path) in [
            (Method::GET, "v1/status"),
            (Method::POST, "v1/connect"),
            (Method::GET, "v1/identities/work"),
            (Method::PUT, "v1/zones/work/alice"),
            (Method::POST, "v1/dht/signed"),
        ] {
            assert!(mapped(method.clone(), path), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "metrics"),
            (Method::GET, "v1/peers"),
            (Method::GET, "v1/routes"),
            (Method::POST, "v1/reload"),
            (Method::POST, "v1/services"),
            (Method::POST, "v1/identities"),
            (Method::DELETE, "v1/identities/work"),
            (Method::PUT, "v1/identities/work"),
            (Method::GET, "v1/identities/work/key"),
            (Method::POST, "v1/identities/work/key"),
            (Method::POST, "v1/dht/content"),
            (Method::GET, "v1/zones"),
            (Method::GET, "v1/anything"),
        ] {
            assert!(!mapped(method.clone(), path), "{method} {path}");
        }
        assert!(!of_all(&Method::POST, &["v1", "connect"]));
    }
}
