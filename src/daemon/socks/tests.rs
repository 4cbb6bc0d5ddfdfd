//! Programs that speak SOCKS5 to a front end whose node is played by the test.

use std::net::IpAddr;
use std::sync::Arc;

use tarnet_api as api;
use tarnet_core::session::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::admin::AdminCall;
use crate::channel::{ChannelEnd, ChannelKey, channel};
use crate::handle::{ConnectError, ConnectRequest, NodeHandle, Request, ResolveError, Target};

const SOON: Duration = Duration::from_secs(5);

/// The node side of an opened channel, with what was asked for.
type Opened = (ConnectRequest, ChannelEnd, mpsc::Receiver<ChannelKey>);

/// The error that the stand-in for the node gives for a name.
fn error(name: &str) -> Option<ConnectError> {
    Some(match name {
        "refused.x" => ConnectError::Refused(Refusal::NoListener),
        "denied.x" => ConnectError::Refused(Refusal::NotAllowed),
        "far.x" => ConnectError::NoRoute,
        "slow.x" => ConnectError::Timeout,
        "full.x" => ConnectError::TooMany,
        "blog.alice" | "198.18.0.1" => return None,
        _ => ConnectError::NoSuchName,
    })
}

/// 198.18.0.1 is blog.alice.
struct Book;

impl AddressBook for Book {
    fn owner(&self, address: IpAddr) -> Owner {
        match address.to_string().as_str() {
            "198.18.0.1" => Owner::Name("blog.alice".into()),
            "198.18.0.2" => Owner::Nobody,
            _ => Owner::Foreign,
        }
    }
}

/// A front end on a port of its own, and the channels that its node opens.
async fn front(allow_clearnet: bool) -> (std::net::SocketAddr, mpsc::Receiver<Opened>) {
    let (handle, mut requests) = NodeHandle::new();
    let (opened, channels) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Control(call) => {
                    let AdminCall::IdentityList(reply) = *call else { panic!("an unexpected call") };
                    let identity = |name: &str| api::Identity { name: name.into(), ..Default::default() };
                    let _ = reply.send(Ok(vec![identity("default"), identity("work")]));
                }
                Request::Connect { request, reply } => {
                    let Target::Name(name) = &request.target else { panic!("by name") };
                    if let Some(error) = error(name) {
                        let _ = reply.send(Err(error));
                        continue;
                    }
                    let (kicks, kicked) = crate::channel::Kicks::new(64);
                    let (front, end) = channel(ChannelKey(1), kicks);
                    let _ = reply.send(Ok(front));
                    opened.send((request, end, kicked)).await.unwrap();
                }
                Request::Resolve { reply, .. } => drop(reply.send(Err(ResolveError::NoSuchName))),
                Request::Listen { .. } | Request::Ping { .. } => panic!("SOCKS only connects"),
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = crate::config::Settings::defaults().config().unwrap();
    config.socks.allow_clearnet = allow_clearnet;
    drop(Front::new(handle, Arc::new(Book), &config).serve(listener));
    (address, channels)
}

/// Sends `bytes` and reads exactly as many as `want` has.
async fn exchange(program: &mut TcpStream, bytes: &[u8], want: &[u8]) {
    program.write_all(bytes).await.unwrap();
    let mut got = vec![0; want.len()];
    timeout(SOON, program.read_exact(&mut got)).await.expect("an answer in time").unwrap();
    assert_eq!(got, want);
}

/// A CONNECT by name.
fn request(name: &str, port: u16) -> Vec<u8> {
    [&[5, 1, 0, 3, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// The reply with a code.
fn reply(code: u8) -> [u8; 10] {
    [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[tokio::test]
async fn a_program_connects_by_name_and_data_sent_early_is_not_lost() {
    let (address, mut channels) = front(false).await;
    let mut program = TcpStream::connect(address).await.unwrap();
    exchange(&mut program, &[5, 1, 0], &[5, 0]).await;
    exchange(&mut program, &[request("blog.alice", 80), b"early".to_vec()].concat(), &reply(0)).await;
    let (asked, mut end, mut kicks) = timeout(SOON, channels.recv()).await.unwrap().unwrap();
    assert_eq!((asked.acting.as_str(), asked.port.as_str()), ("default", "80"));
    timeout(SOON, kicks.recv()).await.unwrap();
    assert_eq!(end.take().unwrap(), "early");
    end.give(bytes::Bytes::from_static(b"page"));
    end.finish();
    let mut got = String::new();
    timeout(SOON, program.read_to_string(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, "page");
}

#[tokio::test]
async fn the_user_name_is_the_acting_identity_and_unknown_ones_fail() {
    let (address, mut channels) = front(false).await;
    let mut program = TcpStream::connect(address).await.unwrap();
    exchange(&mut program, &[5, 2, 0, 2], &[5, 2]).await;
    exchange(&mut program, b"\x01\x04work\x01x", &[1, 0]).await;
    exchange(&mut program, &[5, 1, 0, 1, 198, 18, 0, 1, 0, 22], &reply(0)).await;
    let (asked, ..) = timeout(SOON, channels.recv()).await.unwrap().unwrap();
    assert_eq!(
        (asked.acting.as_str(), asked.port.as_str(), asked.target),
        ("work", "22", Target::Name("blog.alice".into()))
    );
    let mut stranger = TcpStream::connect(address).await.unwrap();
    exchange(&mut stranger, &[5, 1, 2], &[5, 2]).await;
    exchange(&mut stranger, b"\x01\x05ghost\x00", &[1, 1]).await;
    assert_eq!(stranger.read(&mut [0]).await.unwrap(), 0);
    let mut gssapi = TcpStream::connect(address).await.unwrap();
    exchange(&mut gssapi, &[5, 1, 1], &[5, 0xff]).await;
}

#[tokio::test]
async fn failures_have_the_codes_of_the_contract() {
    let (address, _channels) = front(false).await;
    let foreign = [5, 1, 0, 1, 192, 0, 2, 1, 0, 80].to_vec();
    let free = [5, 1, 0, 1, 198, 18, 0, 2, 0, 80].to_vec();
    let bind = [5, 2, 0, 1, 0, 0, 0, 0, 0, 0].to_vec();
    for (bytes, code) in [
        (request("refused.x", 1), 5),
        (request("denied.x", 1), 2),
        (request("far.x", 1), 3),
        (request("slow.x", 1), 6),
        (request("full.x", 1), 1),
        (request("no.such", 1), 4),
        (foreign, 2),
        (free, 4),
        (bind, 7),
        (vec![5, 1, 0, 7], 8),
    ] {
        let mut program = TcpStream::connect(address).await.unwrap();
        exchange(&mut program, &[5, 1, 0], &[5, 0]).await;
        exchange(&mut program, &bytes, &reply(code)).await;
        assert_eq!(timeout(SOON, program.read(&mut [0])).await.unwrap().unwrap(), 0, "closed after the refusal");
    }
}

#[tokio::test]
async fn nonsense_closes_the_connection() {
    let (address, _channels) = front(false).await;
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![4, 1, 0, 80, 127, 0, 0, 1, 0], vec![5; 3]] {
        let mut program = TcpStream::connect(address).await.unwrap();
        program.write_all(&bytes).await.unwrap();
        program.shutdown().await.unwrap();
        let mut got = Vec::new();
        // Closing with unread bytes is a reset: as good as an end.
        let _ = timeout(SOON, program.read_to_end(&mut got)).await.expect("closed");
        assert!(got.len() <= 2);
    }
}

#[tokio::test]
async fn foreign_names_and_addresses_are_dialled_only_when_allowed() {
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = site.local_addr().unwrap().port();
    let by_ip = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    let (allowing, _channels) = front(true).await;
    for bytes in [by_ip.clone(), request("localhost", port)] {
        let mut program = TcpStream::connect(allowing).await.unwrap();
        exchange(&mut program, &[5, 1, 0], &[5, 0]).await;
        exchange(&mut program, &bytes, &reply(0)).await;
        let (mut served, _) = site.accept().await.unwrap();
        served.write_all(b"clear").await.unwrap();
        exchange(&mut program, b"", b"clear").await;
    }
    let mut program = TcpStream::connect(allowing).await.unwrap();
    exchange(&mut program, &[5, 1, 0], &[5, 0]).await;
    exchange(&mut program, &request("localhost.tarnet.alt", port), &reply(4)).await;
    let (refusing, _channels) = front(false).await;
    for (bytes, code) in [(by_ip, 2), (request("localhost", port), 4)] {
        let mut program = TcpStream::connect(refusing).await.unwrap();
        exchange(&mut program, &[5, 1, 0], &[5, 0]).await;
        exchange(&mut program, &bytes, &reply(code)).await;
    }
}
