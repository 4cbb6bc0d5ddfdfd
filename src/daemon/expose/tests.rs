//! Service files, and services whose node is played by the test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tarnet_api as api;
use tarnet_core::crypto::ServiceId;
use tarnet_core::names::Record;
use tarnet_core::session::{Mode, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::exposer::read_folder;
use super::file::Allowed;
use super::*;
use crate::admin::{AdminCall, AdminError};
use crate::channel::{ChannelEnd, ChannelKey, channel};
use crate::handle::{Decision, Incoming, ListenError, ListenRequest, Listener, NodeHandle, Request, ResolveError};

const SOON: Duration = Duration::from_secs(5);
const OWN_ID: ServiceId = ServiceId([3; 32]);

fn parse(name: &str, text: &str) -> Result<Service, FileError> {
    Service::parse(&Path::new("/s").join(name).with_extension("toml"), text)
}

fn error(text: &str) -> String {
    parse("blog", text).unwrap_err().to_string()
}

#[test]
fn a_short_file_has_the_contract_s_defaults() {
    let service = parse("blog", "local = '127.0.0.1:4001'").unwrap();
    assert_eq!((service.port.as_str(), service.identity.as_str(), service.publish), ("blog", "default", true));
    assert_eq!((service.subdomain, service.protocol, service.connections_max), (None, Protocol::Tcp, 0));
    assert!(service.allow.is_empty() && !service.proxy_protocol);
}

#[test]
fn every_key_is_read() {
    let id = ServiceId([9; 32]);
    let text = format!(
        "local = 'unix:/run/app.sock'\nprotocol = 'tcp'\nport = 80\nidentity = 'alice'\npublish = false\nname = 'Blog'\n\
         allow = ['{id}', 'bob']\nmax_connections = 5\nproxy_protocol = true\n"
    );
    let service = parse("x", &text).unwrap();
    assert_eq!(service.local, LocalAddress::Unix("/run/app.sock".into()));
    assert_eq!(
        (service.port.as_str(), service.identity.as_str(), service.subdomain.as_deref()),
        ("80", "alice", Some("blog"))
    );
    assert_eq!(service.allow, [Allowed::Service(id), Allowed::Name("bob".into())]);
    assert_eq!((service.publish, service.connections_max, service.proxy_protocol), (false, 5, true));
    let udp = parse("dns", "local = '[::1]:53'\nprotocol = 'udp'\nport = 'dns'").unwrap();
    assert_eq!((udp.local.to_string().as_str(), udp.protocol.mode()), ("[::1]:53", Mode::UnreliableUnordered));
}

#[test]
fn errors_name_file_line_and_what_would_do() {
    assert_eq!(error("# c\nlocla = 'x'"), "/s/blog.toml:2: `locla`: unknown key; did you mean `local`?");
    assert!(error("port = 80").contains("`local` is missing"));
    assert!(error("local = 'h:1'\n[x]\ny = 1").contains(":3: `x.y`: unknown key"));
    for text in [
        "local = ''",
        "local = '127.0.0.1'",
        "local = 'unix:rel'",
        "local = 5",
        "local = 'h:1'\nprotocol = 'sctp'",
        "local = 'h:1'\nport = 70000",
        "local = 'h:1'\nport = ''",
        "local = 'h:1'\nidentity = 'A b'",
        "local = 'h:1'\nsubdomain = 'a.b'",
        "local = 'h:1'\nsubdomain = '-a'",
        "local = 'h:1'\nname = 'a'\nsubdomain = 'a'",
        "local = 'h:1'\nallow = ['a b']",
        "local = 'h:1'\nallow = 'bob'",
        "local = 'h:1'\nmax_connections = -1",
        "local = 'unix:/x'\nprotocol = 'udp'",
        "local = 'h:1'\nprotocol = 'udp'\nproxy_protocol = true",
        "local =",
    ] {
        assert!(parse("blog", text).is_err(), "{text}");
    }
}

/// A folder of service files, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!(
            "tarnet-expose-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let this = Self(folder);
        files.iter().for_each(|(name, text)| this.write(name, text));
        this
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn wrong_files_are_reported_and_the_others_load() {
    let folder =
        Folder::new(&[("a.toml", "local = 'h:1'"), ("b.toml", "\nlocal = 5"), ("c.txt", "x"), (".d.toml", "x")]);
    let found = read_folder(&folder.0);
    assert_eq!((found.services.len(), found.wrong.len()), (1, 1));
    assert_eq!(found.wrong["b"].line, 2);
    assert_eq!(Exposer::check(&folder.0), [found.wrong["b"].clone()]);
    assert!(read_folder(Path::new("/nonexistent/services.d")).services.is_empty());
}

/// What the stand-in for the node saw.
enum Seen {
    Listen(ListenRequest, mpsc::Sender<Incoming>),
    Set { label: String, record: Record },
    Removed(String),
}

#[tokio::test]
async fn a_service_that_waits_tries_again_when_told() {
    let folder = Folder::new(&[("x.toml", "local = '127.0.0.1:1'\nidentity = 'later'")]);
    let (handle, mut requests) = NodeHandle::new();
    let made = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let there = std::sync::Arc::clone(&made);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(request) = requests.recv().await {
            match request {
                Request::Listen { reply, .. } if there.load(Ordering::Relaxed) => {
                    let (sender, incoming) = mpsc::channel(8);
                    open.push(sender);
                    drop(reply.send(Ok(Listener { incoming })));
                }
                Request::Listen { reply, .. } => drop(reply.send(Err(ListenError::UnknownIdentity))),
                Request::Control(call) => match *call {
                    AdminCall::RecordSet { reply, .. } => drop(reply.send(Ok(()))),
                    AdminCall::IdentityList(reply) => {
                        let later = api::Identity {
                            name: "later".into(),
                            service_id: OWN_ID.to_string(),
                            ..Default::default()
                        };
                        drop(reply.send(Ok(vec![later])));
                    }
                    AdminCall::RecordList(_, reply) => drop(reply.send(Ok(Vec::new()))),
                    _ => panic!("an unexpected call"),
                },
                _ => panic!("an unexpected request"),
            }
        }
    });
    let exposer = Exposer::start(handle, folder.0.clone()).await;
    while !exposer.list()[0].state.starts_with("waiting") {
        tokio::task::yield_now().await;
    }
    made.store(true, Ordering::Relaxed);
    exposer.retry().await;
    assert_eq!(exposer.list()[0].state, "listening");
}

/// A stand-in for the node: grants listeners, keeps records in name only.
fn node(by_hand: bool) -> (NodeHandle, mpsc::Receiver<Seen>) {
    let (handle, mut requests) = NodeHandle::new();
    let (seen, sight) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Listen { request, reply } => {
                    let (sender, incoming) = mpsc::channel(8);
                    let _ = reply.send(Ok(Listener { incoming }));
                    seen.send(Seen::Listen(request, sender)).await.unwrap();
                }
                Request::Resolve { reply, .. } => drop(reply.send(Err(ResolveError::NoSuchName))),
                Request::Control(call) => administer(*call, by_hand, &seen).await,
                Request::Connect { .. } | Request::Ping { .. } => panic!("expose only listens"),
            }
        }
    });
    (handle, sight)
}

/// Answers one administrative call.
async fn administer(call: AdminCall, by_hand: bool, seen: &mpsc::Sender<Seen>) {
    match call {
        AdminCall::IdentityList(reply) => {
            let identity =
                api::Identity { name: "default".into(), service_id: OWN_ID.to_string(), ..Default::default() };
            let _ = reply.send(Ok(vec![identity]));
        }
        AdminCall::RecordSet { reply, .. } if by_hand => {
            drop(reply.send(Err(AdminError::Refused("set by hand".into()))))
        }
        AdminCall::RecordSet { label, record, by_expose: true, public: true, reply, .. } => {
            let _ = reply.send(Ok(()));
            seen.send(Seen::Set { label, record }).await.unwrap();
        }
        AdminCall::RecordRemove { label, by_expose: true, reply, .. } => {
            let _ = reply.send(Ok(()));
            seen.send(Seen::Removed(label)).await.unwrap();
        }
        AdminCall::RecordList(_, reply) => {
            let old = api::ZoneEntry { label: "stale".into(), by_expose: true, ..Default::default() };
            let hand = api::ZoneEntry { label: "hand".into(), ..Default::default() };
            let _ = reply.send(Ok(vec![old, hand]));
        }
        _ => panic!("an unexpected call"),
    }
}

/// The next thing that the node saw.
async fn next(sight: &mut mpsc::Receiver<Seen>) -> Seen {
    timeout(SOON, sight.recv()).await.expect("in time").expect("the node lives")
}

/// The next listener, whatever is announced or withdrawn meanwhile.
async fn next_listener(sight: &mut mpsc::Receiver<Seen>) -> (ListenRequest, mpsc::Sender<Incoming>) {
    loop {
        if let Seen::Listen(request, callers) = next(sight).await {
            return (request, callers);
        }
    }
}

/// Calls through a listener; gives the decision.
async fn call(callers: &mpsc::Sender<Incoming>) -> Decision {
    let (decide, decision) = oneshot::channel();
    callers.send(Incoming { caller: Some(OWN_ID), decide }).await.unwrap();
    timeout(SOON, decision).await.unwrap().unwrap()
}

/// Calls and takes the channel's node side.
async fn connect(callers: &mpsc::Sender<Incoming>) -> (ChannelEnd, mpsc::Receiver<ChannelKey>) {
    let Decision::Accept(deliver) = call(callers).await else { panic!("accepted") };
    let (kicks, kicked) = crate::channel::Kicks::new(64);
    let (front, end) = channel(ChannelKey(1), kicks);
    assert!(deliver.send(front).is_ok());
    (end, kicked)
}

#[tokio::test]
async fn a_service_is_announced_and_joins_callers_to_its_socket() {
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!("local = '{}'\nport = 80\nname = 'blog'\nproxy_protocol = true", local.local_addr().unwrap());
    let folder = Folder::new(&[("blog.toml", &text)]);
    let (handle, mut sight) = node(false);
    let exposer = Exposer::start(handle, folder.0.clone()).await;
    let (mut listener, mut announced, mut stale) = (None, None, None);
    while listener.is_none() || announced.is_none() || stale.is_none() {
        match next(&mut sight).await {
            Seen::Listen(request, callers) => listener = Some((request, callers)),
            Seen::Set { label, record } => announced = Some((label, record)),
            Seen::Removed(label) => stale = Some(label),
        }
    }
    assert_eq!(announced, Some(("blog".into(), Record::Identity(OWN_ID))));
    assert_eq!(stale.as_deref(), Some("stale"));
    let (request, callers) = listener.unwrap();
    assert_eq!(
        (request.port.as_str(), request.label.as_deref(), request.mode),
        ("80", Some("blog"), Mode::ReliableOrdered)
    );
    let (mut end, mut kicks) = connect(&callers).await;
    let (mut service, _) = local.accept().await.unwrap();
    end.give(bytes::Bytes::from_static(b"hello"));
    let header = proxy::header(Some(&OWN_ID));
    let mut got = vec![0; header.len() + 5];
    timeout(SOON, service.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, [header.as_slice(), b"hello"].concat());
    service.write_all(b"there").await.unwrap();
    timeout(SOON, kicks.recv()).await.unwrap();
    assert_eq!(end.take().unwrap(), "there");
    assert_eq!((exposer.list()[0].connections, exposer.list()[0].state.as_str()), (1, "listening"));
}

#[tokio::test]
async fn a_dead_local_service_refuses_the_caller() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let folder = Folder::new(&[
        ("x.toml", &format!("local = '{dead}'\npublish = false")),
        ("y.toml", "local = 'unix:/nonexistent/sock'\npublish = false"),
    ]);
    let (handle, mut sight) = node(false);
    let _exposer = Exposer::start(handle, folder.0.clone()).await;
    for _ in 0..2 {
        let (_, callers) = next_listener(&mut sight).await;
        assert!(matches!(call(&callers).await, Decision::Refuse(Refusal::LocalRefused)));
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_are_refused() {
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!("local = '{}'\nmax_connections = 1\npublish = false", local.local_addr().unwrap());
    let folder = Folder::new(&[("x.toml", &text)]);
    let (handle, mut sight) = node(false);
    let _exposer = Exposer::start(handle, folder.0.clone()).await;
    let (_, callers) = next_listener(&mut sight).await;
    let _open = connect(&callers).await;
    assert!(matches!(call(&callers).await, Decision::Refuse(Refusal::TooMany)));
}

#[tokio::test]
async fn a_reload_leaves_what_did_not_change_alone() {
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = |more: &str| format!("local = '{}'\n{more}", local.local_addr().unwrap());
    let folder = Folder::new(&[
        ("keep.toml", &text("name = 'keep'")),
        ("gone.toml", &text("name = 'gone'")),
        ("turn.toml", &text("publish = false")),
    ]);
    let (handle, mut sight) = node(false);
    let exposer = Exposer::start(handle, folder.0.clone()).await;
    let mut kept = None;
    for _ in 0..3 {
        let (request, callers) = next_listener(&mut sight).await;
        if request.port.as_str() == "keep" {
            kept = Some(callers);
        }
    }
    let kept = kept.unwrap();
    let (mut end, _kicks) = connect(&kept).await;
    let (mut service, _) = local.accept().await.unwrap();
    std::fs::remove_file(folder.0.join("gone.toml")).unwrap();
    folder.write("turn.toml", &text("publish = false\nport = 81"));
    folder.write("bad.toml", "local = 5");
    let errors = exposer.reload().await;
    assert_eq!(errors.len(), 1);
    let (mut listened, mut withdrawn) = (false, false);
    while !(listened && withdrawn) {
        match next(&mut sight).await {
            Seen::Listen(request, _) => {
                assert_eq!(request.port.as_str(), "81");
                listened = true;
            }
            Seen::Removed(label) => withdrawn |= label == "gone",
            Seen::Set { .. } => {}
        }
    }
    assert!(!kept.is_closed());
    end.give(bytes::Bytes::from_static(b"x"));
    assert_eq!(timeout(SOON, service.read_u8()).await.unwrap().unwrap(), b'x');
    let names: Vec<_> = exposer.list().into_iter().map(|service| service.name).collect();
    assert_eq!(names, ["keep", "turn", "bad"]);
    folder.write("keep.toml", "local = 5");
    exposer.reload().await;
    assert!(!kept.is_closed() && exposer.list()[0].state.contains("keep.toml:1"));
}

#[tokio::test]
async fn an_allow_list_that_cannot_be_resolved_lets_nobody_in() {
    let folder = Folder::new(&[("x.toml", "local = '127.0.0.1:1'\nallow = ['bob']")]);
    let (handle, mut sight) = node(false);
    let exposer = Exposer::start(handle, folder.0.clone()).await;
    timeout(SOON, async {
        while !exposer.list()[0].state.contains("\"bob\" cannot be resolved") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    while let Ok(seen) = sight.try_recv() {
        assert!(!matches!(seen, Seen::Listen(..)));
    }
}

#[tokio::test]
async fn a_record_set_by_hand_wins_with_a_word() {
    let folder = Folder::new(&[("x.toml", "local = '127.0.0.1:1'")]);
    let (handle, _sight) = node(true);
    let exposer = Exposer::start(handle, folder.0.clone()).await;
    timeout(SOON, async {
        while exposer.list()[0].state != "listening, not announced: set by hand" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
