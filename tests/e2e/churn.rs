//! Many connections, after which everything is as before. `TARNET_E2E_CONNECTS` sets how many
//! follow each other (default 500) and `TARNET_E2E_PARALLEL` how many run at once (default 200).

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

use serde_json::Value;

use super::lab::{Machine, Trio, in_lab, serve, socks, until};

/// What a connection carries, both ways.
const WORDS: &[u8] = b"there and back again";

/// A number from the environment.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is a number"))
}

/// What must go back to where it was: flows, channels, descriptors, tasks.
fn counts(machine: &Machine) -> [u64; 4] {
    let status: Value = machine.status();
    let count = |value: &Value| value.as_u64().expect("a count");
    let process = &status["process"];
    [count(&status["flows"]), count(&status["channels"]), count(&process["fds"]), count(&process["tasks"])]
}

/// A way to alice's echo.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The address of its name, through the TUN.
    Tun(IpAddr),
    /// The proxy.
    Socks,
}

/// One connection: words go and come back, then both sides close.
fn visit(way: Way) -> std::io::Result<()> {
    let mut stream = match way {
        Way::Tun(address) => TcpStream::connect((address, 7))?,
        Way::Socks => socks::connect(None, "blog.alice", 7)
            .map_err(|reply| std::io::Error::other(format!("the proxy replied {reply}")))?,
    };
    stream.write_all(WORDS)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    assert_eq!(back, WORDS);
    Ok(())
}

/// Many visits after each other, then many at once.
fn visit_often(machine: &Machine, way: Way, in_turn: usize, at_once: usize) {
    machine.inside(|| {
        for number in 0..in_turn {
            visit(way).unwrap_or_else(|error| panic!("{way:?}: connection {number}: {error}"));
        }
    });
    machine.inside(|| {
        std::thread::scope(|scope| {
            let visits: Vec<_> = (0..at_once).map(|_| scope.spawn(move || visit(way))).collect();
            for (number, visit) in visits.into_iter().enumerate() {
                let visited = visit.join().expect("no panic");
                visited.unwrap_or_else(|error| panic!("{way:?}: parallel connection {number}: {error}"));
            }
        });
    });
}

#[test]
fn many_connections_all_work_and_leave_nothing_behind() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::echo(&trio.alice, "127.0.0.1:7");
        trio.alice.service("echo", "local = \"127.0.0.1:7\"\nport = 7\nidentity = \"alice\"\nsubdomain = \"blog\"\n");
        trio.start();
        let address = trio.bob.lookup("blog.alice")[0];
        trio.bob.inside(|| visit(Way::Tun(address))).expect("the echo is there");
        let machines = [&trio.alice, &trio.relay, &trio.bob];
        let settled = |machine: &&Machine| counts(machine)[..2] == [0, 0];
        until(20, "the first connection is gone", || machines.iter().all(settled));
        let before = machines.map(counts);
        let (in_turn, at_once) = (number("TARNET_E2E_CONNECTS", 500), number("TARNET_E2E_PARALLEL", 200));
        for way in [Way::Tun(address), Way::Socks] {
            visit_often(&trio.bob, way, in_turn, at_once);
            until(90, &format!("{way:?}: all is as before, {before:?}"), || {
                // A descriptor or task more than before is none that a connection left: there were hundreds.
                let now = machines.map(counts);
                let near = |(now, before): (&[u64; 4], &[u64; 4])| {
                    now[..2] == before[..2] && now[2] <= before[2] + 4 && now[3] <= before[3] + 4
                };
                now.iter().zip(&before).all(near)
            });
        }
    });
}
