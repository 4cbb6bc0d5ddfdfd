//! The guard, which keeps names unreachable while the daemon is away; and a device that is set down.

use super::*;
use crate::notify::Notifier;

/// How long something may take that is done at once.
const SOON: Duration = Duration::from_secs(20);

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The kernel's number of the device, if it is there.
fn index() -> Option<u32> {
    nix::net::if_::if_nametoindex("tarnet0").ok()
}

/// The code of the answer to a question over the TUN; `None` when none comes.
fn code(server: IpAddr, name: &str) -> Option<u16> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send_to(&question(name, RecordType::A), (server, 53)).ok()?;
    let mut buffer = [0; 1_500];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap().metadata.response_code.into())
}

#[test]
fn the_guard_keeps_device_and_addresses_over_a_stop_and_says_that_nothing_is_reachable() {
    if in_namespace(
        "tun::tests::guarded::the_guard_keeps_device_and_addresses_over_a_stop_and_says_that_nothing_is_reachable",
    ) {
        inside_guarded();
    }
}

fn inside_guarded() {
    let socket = std::env::temp_dir().join(format!("tarnet-guard-{}", std::process::id()));
    let (path, runtime) = (socket.clone(), Runtime::new().unwrap());
    let serving = runtime.spawn(async move { crate::guard::serve(&path, &Notifier::default()).await });
    until("the guard serves", || std::os::unix::net::UnixStream::connect(&socket).is_ok());

    let folder = std::env::temp_dir().join(format!("tarnet-tun-guarded-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let lab = Lab::parked(folder, Some(&socket));
    let [v4, v6] = lab.addresses("blog.alice.");
    let (server, before) = (lab.tun().book().addresses().dns().0.into(), index());
    until("the guard holds the device", || lab.keeper.as_ref().unwrap().holds());
    let mut open = connect(v4, double::ECHO);
    lab.tun().keep();
    let folder = lab.stop();
    // The daemon is gone; device, routes and addresses are not.
    assert_eq!(index(), before);
    until("the guard answers", || code(server, "blog.alice.") == Some(2));
    for address in [v4, v6] {
        assert_eq!(connect_error(address, double::ECHO).0, Errno::EHOSTUNREACH, "{address}");
    }
    let lost = open.write_all(b"x").and_then(|()| open.read(&mut [0; 8]));
    assert!(lost.map_or(true, |length| length == 0), "a connection outlives the daemon that had it");

    let lab = Lab::parked(folder, Some(&socket));
    assert_eq!((index(), lab.addresses("blog.alice.")), (before, [v4, v6]));
    connect(v6, double::ECHO);
    // A guard that goes takes nothing with it while the daemon runs.
    serving.abort();
    until("the guard is gone", || serving.is_finished());
    connect(v4, double::ECHO);
    until("the daemon knows", || !lab.keeper.as_ref().unwrap().holds());
    std::fs::remove_dir_all(lab.stop()).unwrap();
    until("the device is gone", || index().is_none());
    std::fs::remove_file(socket).unwrap();
}

#[test]
fn a_device_that_is_set_down_comes_up_again_with_its_addresses() {
    if in_namespace("tun::tests::guarded::a_device_that_is_set_down_comes_up_again_with_its_addresses") {
        let lab = Lab::new("down");
        let addresses = lab.addresses("blog.alice.");
        for _ in 0..3 {
            let down = Command::new("ip").args(["link", "set", "tarnet0", "down"]).status().unwrap();
            assert!(down.success());
            for address in addresses {
                let to = SocketAddr::new(address, double::ECHO);
                until("it is up again", || TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok());
            }
        }
        std::fs::remove_dir_all(lab.stop()).unwrap();
    }
}
