//! Lines and their answers, with a node of two identities in place of the real one.

use std::collections::BTreeMap;

use tarnet_core::names::Record;
use tokio::sync::mpsc;

use super::*;
use crate::config;
use crate::handle::{Request, Resolved, ResolvedRecord};
use crate::tun::plan::AddressPlan;

/// The uid of who is `work`, and of somebody who is nobody.
const WORKER: u32 = 4_242;
const STRANGER: u32 = 4_243;

/// The petname of each identity's zone. There is no identity `ghost`.
fn petname(identity: &str) -> Option<&'static str> {
    match identity {
        "shared" => Some("alice"),
        "work" => Some("carol"),
        _ => None,
    }
}

/// Answers a node's requests: `blog.PETNAME` is a service, `slow.` does not answer.
async fn node(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Resolve { acting, name, reply, .. } => {
                let plain = name.trim_end_matches('.').to_lowercase().replace(".tarnet.alt", "");
                let _ = reply.send(match (petname(&acting), plain.split_once('.')) {
                    (None, _) => Err(ResolveError::UnknownIdentity),
                    (Some(petname), Some(("blog", zone))) if zone == petname => Ok(resolved(&plain)),
                    (Some(petname), Some(("slow", zone))) if zone == petname => Err(ResolveError::Timeout),
                    (Some(_), Some(("busy", _))) => Err(ResolveError::Timeout),
                    (Some(_), _) => Err(ResolveError::NoSuchName),
                });
            }
            Request::Control(call) => {
                let AdminCall::RecordList(identity, reply) = *call else { panic!("only the zone is asked for") };
                let entry = |label: &str| tarnet_api::ZoneEntry { label: label.into(), ..Default::default() };
                let missing = crate::admin::AdminError::NotFound(identity.clone());
                let _ = reply.send(petname(&identity).map(|petname| vec![entry(petname)]).ok_or(missing));
            }
            Request::Connect { .. } | Request::Listen { .. } | Request::Ping { .. } => panic!("it only resolves"),
        }
    }
}

/// A name that is a service.
fn resolved(name: &str) -> Resolved {
    let service = ServiceId([7; 32]);
    let records = vec![ResolvedRecord { record: Record::Identity(service), ttl_s: 60 }];
    Resolved { name: name.into(), zone: service, records, service: Some(service), label: None, trace: Vec::new() }
}

/// A resolver whose users are [`WORKER`], who is `work`, and a user of an identity that does not exist.
fn resolver(name: &str) -> Resolver {
    let (handle, requests) = NodeHandle::new();
    tokio::spawn(node(requests));
    let folder = std::env::temp_dir().join(format!("tarnet-resolve-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let plan = AddressPlan::choose("198.18.0.0/15", "fd12:3456:789a::/48", &[], [3; 39]).unwrap();
    let book = AddressBook::open(&folder, &plan).unwrap().keeping_apart();
    std::fs::remove_dir_all(folder).unwrap();
    let users = BTreeMap::from([(WORKER.to_string(), "work".into()), ("4244".to_owned(), "ghost".into())]);
    let callers = Callers::new(&config::Tun { identity: "shared".into(), users, ..Default::default() });
    Resolver {
        node: handle,
        book: Some(book),
        ipv6: true,
        callers: Arc::new(callers),
        socks: vec!["127.0.0.1:1080".into()],
        suffix: "tarnet.alt".into(),
    }
}

/// What a user is told.
async fn told(resolver: &Resolver, uid: u32, line: &str) -> String {
    resolver.answer(&resolver.callers.of(Some(uid)), line).await.expect("the daemon is not stopping")
}

#[tokio::test]
async fn each_user_sees_the_names_of_its_own_identity_alone() {
    let resolver = resolver("own");
    for name in ["blog.carol", "blog.carol.", "Blog.Carol", "blog.carol.tarnet.alt"] {
        assert!(told(&resolver, WORKER, &format!("@ {name}")).await.starts_with("addr 198."), "{name}");
    }
    assert!(told(&resolver, STRANGER, "@ blog.alice").await.starts_with("addr 198."));
    assert_eq!(told(&resolver, STRANGER, "@ blog.carol").await, "none");
    assert_eq!(told(&resolver, WORKER, "@ blog.alice").await, "none");
    // Naming an identity helps only its own user.
    assert!(told(&resolver, WORKER, "work blog.carol").await.starts_with("addr 198."));
    assert_eq!(told(&resolver, WORKER, "shared blog.alice").await, "none");
    assert_eq!(told(&resolver, STRANGER, "work blog.carol").await, "none");
    assert!(told(&resolver, 0, "work blog.carol").await.starts_with("addr 198."));
}

#[tokio::test]
async fn what_is_not_ours_is_passed_on_and_what_is_ours_is_kept() {
    let resolver = resolver("kept");
    for (line, want) in [
        ("@ example.org", "none"),
        ("@ carol.example", "none"),
        ("@ busy.example", "none"),
        ("@ nope.carol", "gone"),
        ("@ nope.tarnet.alt", "gone"),
        ("@ nope.alt", "gone"),
        ("@ slow.carol", "fail"),
        ("@", "none"),
        ("", "none"),
        ("@ a b c d", "none"),
        ("@ addr 192.0.2.1", "none"),
        ("@ addr nonsense", "none"),
        ("self", "self work work 127.0.0.1:1080"),
    ] {
        assert_eq!(told(&resolver, WORKER, line).await, want, "{line}");
    }
    assert!(told(&resolver, WORKER, "@ tarnet.alt").await.starts_with("addr 198.18.0.2 "));
    // A user whose identity is not there yet loses no other names.
    assert_eq!(told(&resolver, 4_244, "@ example.org").await, "none");
    assert_eq!(told(&resolver, 4_244, "@ blog.tarnet.alt").await, "fail");
}

#[tokio::test]
async fn an_address_has_a_name_for_whom_it_was_told() {
    let resolver = resolver("pointer");
    let answer = told(&resolver, WORKER, "@ blog.carol").await;
    let addresses: Vec<&str> = answer.split(' ').skip(1).collect();
    for address in &addresses {
        let line = format!("@ addr {address}");
        assert_eq!(told(&resolver, WORKER, &line).await, "ptr blog.carol");
        assert_eq!(told(&resolver, STRANGER, &line).await, "gone");
    }
    assert_eq!(addresses.len(), 2);
}
