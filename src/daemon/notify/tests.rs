//! A service manager made by hand at the other end of the socket.

use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::sys::socket::{ControlMessageOwned, recv, recvmsg};

use super::*;
use crate::admin::AdminCall;
use crate::handle::{NodeHandle, Request};

/// How long a message may take that was sent by a thread of ours.
const SOON: Duration = Duration::from_secs(5);

/// The far end: a socket in the file system.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Manager {
    fn new(test: &str) -> (Self, Notifier) {
        let path = std::env::temp_dir().join(format!("tarnet-notify-{test}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let notifier = Notifier::open(path.to_str().unwrap());
        assert!(notifier.is_listening());
        (Self { socket, path }, notifier)
    }

    /// The next message and how many descriptors came with it, which are closed.
    fn next(&self) -> (String, usize) {
        let mut text = [0; 4096];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
        let mut parts = [std::io::IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
        let mut count = 0;
        for message in received.cmsgs().unwrap() {
            let ControlMessageOwned::ScmRights(descriptors) = message else { panic!("{message:?}") };
            count += descriptors.len();
            descriptors.into_iter().for_each(|descriptor| nix::unistd::close(descriptor).unwrap());
        }
        let length = received.bytes;
        (String::from_utf8(text[..length].to_vec()).unwrap(), count)
    }
}

#[test]
fn states_arrive_as_systemd_reads_them() {
    let (manager, notifier) = Manager::new("states");
    notifier.ready();
    assert_eq!(manager.next(), ("READY=1".into(), 0));
    notifier.status("a\nline");
    assert_eq!(manager.next(), ("STATUS=a line".into(), 0));
    notifier.reloading();
    let (text, _) = manager.next();
    let stamp: u64 = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!(stamp > 0);
    notifier.stopping();
    assert_eq!(manager.next().0, "STOPPING=1");
    let file = std::fs::File::open("/dev/null").unwrap();
    notifier.park("tun0", file.as_fd());
    assert_eq!(manager.next(), ("FDSTORE=1\nFDNAME=tun0".into(), 1));
    let taking = std::thread::spawn(move || notifier.unpark("tun0"));
    assert_eq!(manager.next(), ("FDSTOREREMOVE=1\nFDNAME=tun0".into(), 0));
    // The pipe's end was closed by `next`, which is the confirmation.
    assert_eq!(manager.next(), ("BARRIER=1".into(), 1));
    taking.join().unwrap();
}

#[test]
fn abstract_sockets_work_and_nonsense_and_nothing_are_harmless() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("tarnet-notify-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    Notifier::open(&format!("@{name}")).alive();
    let mut text = [0; 64];
    let length = socket.recv(&mut text).unwrap();
    assert_eq!(&text[..length], b"WATCHDOG=1");
    for path in ["vsock:2:1", "relative", ""] {
        assert!(!Notifier::open(path).is_listening(), "{path}");
    }
    let silent = Notifier::default();
    silent.alive();
    silent.unpark("tun0");
    Notifier::open("/nonexistent/socket").alive();
}

#[tokio::test]
async fn a_sign_of_life_follows_each_answer_of_the_node_and_none_comes_without() {
    let (manager, notifier) = Manager::new("pulse");
    let manager = Arc::new(manager);
    let next = async || {
        let manager = Arc::clone(&manager);
        tokio::task::spawn_blocking(move || manager.next().0).await.unwrap()
    };
    let (node, mut requests) = NodeHandle::new();
    let line = |status: tarnet_api::Status| format!("{} routes", status.routes);
    let beating = tokio::spawn(pulse(notifier, Some(Duration::from_millis(30)), node, line));
    for (routes, said) in [(3, Some("STATUS=3 routes")), (3, None), (4, Some("STATUS=4 routes"))] {
        let Some(Request::Control(call)) = requests.recv().await else { panic!("no call") };
        let AdminCall::Status(reply) = *call else { panic!("another call") };
        let early = recv(manager.socket.as_raw_fd(), &mut [0; 8], MsgFlags::MSG_DONTWAIT);
        assert_eq!(early, Err(nix::errno::Errno::EAGAIN), "a sign without an answer");
        reply.send(Ok(tarnet_api::Status { routes, ..Default::default() })).unwrap();
        assert_eq!(next().await, "WATCHDOG=1");
        if let Some(said) = said {
            assert_eq!(next().await, said);
        }
    }
    drop(requests);
    beating.await.unwrap();
}

#[test]
fn announced_descriptors_that_are_not_open_are_left_out() {
    assert!(inherited::take(None, Some("tun0")).is_empty());
    assert!(inherited::take(Some("-1"), None).is_empty());
    assert!(inherited::take(Some("many"), None).is_empty());
}
