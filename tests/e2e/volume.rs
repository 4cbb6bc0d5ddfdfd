//! Many bytes: whole, and in bounded memory. `TARNET_E2E_BYTES` sets how many (default 64 MiB).

use std::process::{Command, Stdio};

use super::lab::serve::{self, Body};
use super::lab::{Lab, Machine, Trio, in_lab};

/// What a daemon may hold at its peak, bytes.
const MEMORY_MAX: u64 = 150 << 20;
/// The seed of the bytes.
const SEED: u64 = 0x7a3c_91e5_b64d_2f08;

/// How many bytes to move.
fn volume() -> u64 {
    let bytes = std::env::var("TARNET_E2E_BYTES").ok();
    bytes.map_or(64 << 20, |text| text.parse().expect("TARNET_E2E_BYTES is a number"))
}

/// Serves the stream on alice as `big` and starts everything.
fn serve_volume(trio: &Trio) {
    serve::web(&trio.alice, "127.0.0.1:4006", &[("/", Body::Stream(SEED, volume()))]);
    trio.alice.service("big", "local = \"127.0.0.1:4006\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"big\"\n");
    trio.start();
    trio.bob.tn(&["wait", "--name", "big.alice", "--timeout", "20s"]);
}

/// Bob fetches it through the TUN; bytes and memory are as they must be.
fn arrives_whole(bob: &Machine, all: &[&Machine]) {
    let mut command: Command = bob.command(&["busybox", "wget", "-q", "-O", "-", "http://big.alice/"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let start = std::time::Instant::now();
    let mut child = bob.start_command(command);
    let (hash, length) = serve::sha256(child.stdout.take().expect("it is piped"));
    let seconds = start.elapsed().as_secs_f64();
    assert!(child.wait().expect("our child").success(), "the download failed after {length} bytes");
    assert_eq!(length, volume());
    assert_eq!(hash, serve::sha256_of_stream(SEED, volume()), "the bytes differ");
    println!("{length} bytes in {seconds:.2} s");
    for machine in all {
        let peak = machine.memory("VmHWM");
        println!("{}: {} MiB at most", machine.name(), peak >> 20);
        assert!(peak < MEMORY_MAX, "{} held {} MiB", machine.name(), peak >> 20);
    }
}

#[test]
fn many_bytes_over_one_link_arrive_whole_in_bounded_memory() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        lab.cable(&trio.alice, &trio.bob, 3);
        trio.bob.config("[bootstrap]\npeers = [\"tcp://10.77.3.1:7946\", \"tcp://10.77.2.1:7946\"]\n");
        serve_volume(&trio);
        assert_eq!(trio.bob.json(&["ping", "big.alice", "-c", "1"])["hops"].as_u64(), Some(1));
        arrives_whole(&trio.bob, &[&trio.alice, &trio.bob]);
    });
}

/// Alice and relay joined by a cable that loses one packet in a hundred each way.
fn lossy(lab: &Lab) -> Trio {
    let [alice, relay, bob] = ["alice", "relay", "bob"].map(|name| lab.machine(name));
    lab.lossy_cable(&alice, &relay, 1, 10);
    lab.cable(&relay, &bob, 2);
    alice.config("[bootstrap]\nmdns = false\npeers = [\"tcp://10.77.101.2:7946\"]\n");
    bob.config("[bootstrap]\nmdns = false\npeers = [\"tcp://10.77.2.1:7946\"]\n");
    alice.service("blog", "local = \"127.0.0.1:4001\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"blog\"\n");
    Trio { alice, relay, bob }
}

#[test]
fn many_bytes_through_a_relay_and_a_lossy_cable_arrive_whole_in_bounded_memory() {
    in_lab(|lab| {
        let trio = lossy(lab);
        serve_volume(&trio);
        arrives_whole(&trio.bob, &[&trio.alice, &trio.relay, &trio.bob]);
        assert!(lab.lost(1) > 0, "the lossy cable lost nothing");
    });
}
