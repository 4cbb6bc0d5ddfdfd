//! Long and lossy lines: how many round trips it takes to be connected, and how much of a line a stream uses next to
//! the kernel's own TCP. What is measured is printed; `TARNET_E2E_MEASURE=1` asserts the figures, and takes all the
//! lines instead of three.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::lab::pipe::Pipe;
use super::lab::serve::{self, Body};
use super::lab::{Lab, Line, Machine, Trio, in_lab};
use super::queues::{measure, strict};

/// The round trip of the path over which connections are made.
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// How often each connection is made.
const TRIES: usize = 5;
/// How long each stream is measured.
const MEASURED: Duration = Duration::from_secs(15);

/// The service `big`: an endless stream; and `echo`.
fn services(alice: &Machine) {
    serve::web(alice, "127.0.0.1:4006", &[("/", Body::Stream(0x51ab, 1 << 36))]);
    serve::echo(alice, "127.0.0.1:4007");
    for (name, port) in [("big", 4006), ("echo", 4007)] {
        let text = format!("local = \"127.0.0.1:{port}\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"{name}\"\n");
        alice.service(name, &text);
    }
}

/// The usual three, with a long cable between each pair.
fn trio(lab: &Lab, line: Line) -> Trio {
    let trio = Trio::between(lab, |lab, a, b, n| lab.long_cable(a, b, n, line));
    services(&trio.alice);
    trio.start();
    trio
}

/// Milliseconds until connected and until the first byte, by curl, which resolves by itself.
fn connect(bob: &Machine, url: &str) -> (f64, f64) {
    let said = bob.run(&[
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "--max-time",
        "20",
        "-w",
        "%{time_connect} %{time_starttransfer}",
        url,
    ]);
    assert_eq!(said.code, 0, "{}", said.err);
    let times: Vec<f64> = said.out.split(' ').map(|time| time.parse::<f64>().expect("seconds") * 1e3).collect();
    (times[0], times[1])
}

/// Milliseconds that the kernel takes to be connected to an address.
fn raw(machine: &Machine, address: &str) -> f64 {
    let times = (0..TRIES).map(|_| {
        machine.inside(|| {
            let begun = Instant::now();
            std::net::TcpStream::connect(address).expect("an answer");
            begun.elapsed().as_secs_f64() * 1e3
        })
    });
    median(times.collect())
}

/// The middle one.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[test]
fn connections_take_few_round_trips() {
    in_lab(|lab| {
        let half = Line { delay: ROUND_TRIP / 4, mbit: None, per_mille: 0, queue: ROUND_TRIP };
        let trio = trio(lab, half);
        // What the kernel takes for it, so that the cable that a program emulates does not count as ours.
        let round_trip = raw(&trio.bob, "10.77.2.1:7946") + raw(&trio.alice, "10.77.1.2:7946");
        let mut cold = Vec::new();
        for _ in 0..TRIES {
            trio.bob.stop();
            trio.bob.start();
            trio.bob.tn(&["wait", "--links", "1", "--timeout", "20s"]);
            cold.push(connect(&trio.bob, "http://blog.alice/"));
        }
        let warm: Vec<_> = (0..TRIES).map(|_| connect(&trio.bob, "http://blog.alice/")).collect();
        let piped: Vec<f64> = (0..TRIES).map(|_| piped(&trio.bob)).collect();
        println!("cold {cold:.1?}\nwarm {warm:.1?}\ntarnet connect {piped:.1?}");
        let [cold, warm] = [cold, warm].map(|all| {
            let (connected, first): (Vec<f64>, Vec<f64>) = all.into_iter().unzip();
            (median(connected), median(first))
        });
        let piped = median(piped);
        println!(
            "round trip {round_trip:.1} ms; connected, first byte: cold {cold:.1?} ms, warm {warm:.1?} ms; \
             tarnet connect {piped:.1} ms"
        );
        if strict() {
            assert!(cold.0 <= 4.0 * round_trip + 20.0 && cold.1 <= 5.0 * round_trip + 20.0);
            assert!(warm.0 <= round_trip + 5.0 && warm.1 <= 2.0 * round_trip + 5.0);
            assert!(piped <= round_trip + 5.0);
        }
    });
}

/// Milliseconds until the first byte comes back to a `tarnet connect` that has something to say when it starts; what
/// the program takes to start, by its `--version`, is taken off.
fn piped(bob: &Machine) -> f64 {
    let begun = Instant::now();
    bob.run(&[env!("CARGO_BIN_EXE_tarnet"), "--version"]);
    let start = begun.elapsed();
    let begun = Instant::now();
    let mut pipe = Pipe::start(bob, &["connect", "echo.alice", "--port", "80"]);
    pipe.say("hello\n");
    assert_eq!(pipe.line(), "hello");
    (begun.elapsed().saturating_sub(start)).as_secs_f64() * 1e3
}

/// Reads a download by the kernel's own TCP for a while; bytes per second.
fn kernel(bob: &Machine, address: &str) -> f64 {
    let mut stream = bob.inside(|| std::net::TcpStream::connect(address).expect("an answer"));
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it takes a request");
    rate(&mut stream)
}

/// Bytes per second of a stream, its beginning too.
fn rate(stream: &mut impl Read) -> f64 {
    let mut buffer = vec![0; 1 << 16];
    let (begun, mut count) = (Instant::now(), 0usize);
    while begun.elapsed() < MEASURED {
        let len = stream.read(&mut buffer).expect("it can be read");
        assert!(len > 0, "it ended after {count} bytes");
        count += len;
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Reads the same through the overlay.
fn ours(bob: &Machine) -> f64 {
    let address = *bob.lookup("big.alice").first().expect("an address");
    let mut stream = bob.inside(|| std::net::TcpStream::connect((address, 80)).expect("an answer"));
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it takes a request");
    rate(&mut stream)
}

/// Round trip in milliseconds, megabits per second, lost per mille each way.
const LINES: [(u64, u32, u64); 14] = [
    (20, 50, 0),
    (100, 200, 0),
    (40, 20, 10),
    (1, 200, 0),
    (1, 10, 0),
    (100, 1, 0),
    (300, 10, 0),
    (300, 50, 0),
    (300, 200, 0),
    (1, 100, 50),
    (20, 100, 10),
    (20, 100, 50),
    (100, 50, 20),
    (300, 50, 10),
];
/// How many of them are tried without being asked for all.
const LINES_USUALLY: usize = 3;

/// The line that `TARNET_E2E_LINE` asks for: its number in the list, or its three figures.
fn chosen() -> Option<(u64, u32, u64)> {
    let text = std::env::var("TARNET_E2E_LINE").ok()?;
    let figures: Vec<u32> = text.split(',').map(|figure| figure.parse().expect("a number")).collect();
    match figures[..] {
        [at] => Some(LINES[at as usize]),
        [round_trip, mbit, per_mille] => Some((round_trip.into(), mbit, per_mille.into())),
        _ => panic!("TARNET_E2E_LINE is a number, or round trip, Mbit/s and lost per mille"),
    }
}

#[test]
fn streams_fill_long_and_lossy_lines_as_the_kernel_does() {
    in_lab(|lab| {
        let count = if strict() { LINES.len() } else { LINES_USUALLY };
        let lines = chosen().map_or(LINES[..count].to_vec(), |line| vec![line]);
        let short: Vec<String> = lines.iter().zip(1..).filter_map(|(line, n)| compare(lab, *line, n)).collect();
        assert!(!strict() || short.is_empty(), "too slow: {short:?}");
    });
}

/// A gigabit is shaped by the kernel: a cable that a program emulates does not carry as much.
#[test]
fn a_stream_fills_a_gigabit() {
    in_lab(|lab| {
        let [alice, bob] = ["alice", "bob"].map(|name| lab.machine(name));
        lab.cable(&alice, &bob, 1);
        lab.slow(&alice, &bob, 1000, "30ms");
        let (kernel, ours) = rates(&alice, &bob, 1);
        println!("by rate alone: kernel {kernel:.1}, ours {ours:.1} Mbit/s: {:.3}", ours / kernel);
        assert!(ours > 0.0);
        assert!(!strict() || ours >= 0.95 * kernel, "it is to be 0.95 without loss");
    });
}

/// Measures a stream of the kernel and one of ours on one line; gives the line where ours reaches too little.
fn compare(lab: &Lab, (round_trip, mbit, per_mille): (u64, u32, u64), n: u8) -> Option<String> {
    let line = Line::new(Duration::from_millis(round_trip), mbit).losing(per_mille);
    let [alice, bob] = ["alice", "bob"].map(|name| lab.machine(&format!("{name}{n}")));
    lab.long_cable(&alice, &bob, n, line);
    let (kernel, ours) = rates(&alice, &bob, n);
    let ratio = ours / kernel;
    let text = format!(
        "{round_trip} ms, {mbit} Mbit/s, {per_mille} of 1000 lost: kernel {kernel:.2}, ours {ours:.2} Mbit/s: {ratio:.3}"
    );
    println!("{text}");
    assert!(ours > 0.0);
    (ratio < if per_mille == 0 { 0.95 } else { 0.85 }).then_some(text)
}

/// Mbit/s of a stream of the kernel, and of one of ours, over cable `n` between two machines.
fn rates(alice: &Machine, bob: &Machine, n: u8) -> (f64, f64) {
    bob.config(&format!("[bootstrap]\nmdns = false\npeers = [\"tcp://10.77.{n}.1:7946\"]\n"));
    alice.config("[bootstrap]\nmdns = false\n");
    services(alice);
    let address = format!("10.77.{n}.1:4006");
    serve::web(alice, &address, &[("/", Body::Stream(0x51ab, 1 << 36))]);
    let kernel = kernel(bob, &address);
    Trio::named(alice, bob, "big.alice");
    let ours = ours(bob);
    alice.stop();
    bob.stop();
    (kernel * 8.0 / 1e6, ours * 8.0 / 1e6)
}

#[test]
fn one_download_uses_two_relays() {
    in_lab(|lab| {
        let [alice, bob] = ["alice", "bob"].map(|name| lab.machine(name));
        let relays = ["relay1", "relay2"].map(|name| lab.machine(name));
        for (n, relay) in (10..).zip(&relays) {
            lab.cable(&alice, relay, n);
            lab.cable(&bob, relay, n + 10);
            lab.slow(relay, &bob, 50, "30ms");
        }
        for (machine, first) in [(&alice, 10), (&bob, 20)] {
            let peers = [first, first + 1].map(|n| format!("\"tcp://10.77.{n}.2:7946\"")).join(", ");
            machine.config(&format!("[bootstrap]\nmdns = false\npeers = [{peers}]\n"));
        }
        relays.iter().for_each(|relay| relay.config("[bootstrap]\nmdns = false\n"));
        services(&alice);
        relays.iter().for_each(Machine::start);
        Trio::named(&alice, &bob, "big.alice");
        for machine in [&alice, &bob] {
            machine.tn(&["wait", "--links", "2", "--timeout", "20s"]);
        }
        let rate = measure(&bob, "http://big.alice/", MEASURED * 2) * 8.0 / 1e6;
        println!("{rate:.1} Mbit/s over two relays of 50 each");
        assert!(rate > 25.0, "not even half of one relay");
        if strict() {
            assert!(rate >= 85.0);
        }
    });
}
