//! The four modes over a cable that loses five of a hundred packets each way, and a reader that reads nothing beside
//! one that reads fast.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::lab::pipe::Pipe;
use super::lab::serve::{self, Body};
use super::lab::{Line, Machine, Trio, in_lab};
use super::queues::strict;

/// The cable: 20 ms there and back, 100 Mbit/s, 5 % lost each way.
const LINE: Line =
    Line { delay: Duration::from_millis(10), mbit: Some(100), per_mille: 50, queue: Duration::from_millis(50) };
/// Messages of the reliable modes, of a MiB less the line's number.
const LARGE: usize = 6;
/// Datagrams of the others, of 64 KiB.
const DATAGRAMS: usize = 60;
/// How long the fast reader is measured.
const MEASURED: Duration = Duration::from_secs(6);
/// How often each is measured where the figures count.
const ROUNDS: u32 = 5;

/// The `at`th message: its number, and a filling that differs from all others.
fn message(at: usize, len: usize) -> String {
    let mut text = format!("{at:08} ");
    let filling = char::from(b'a' + u8::try_from(at % 26).expect("a letter"));
    text.extend(std::iter::repeat_n(filling, len - text.len()));
    text
}

/// Which message this is; anything but a whole one fails the test.
fn number(line: &str, len: usize) -> usize {
    let at =
        line.get(..8).and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("{} bytes of no message", line.len()));
    assert!(line == message(at, len), "message {at} is broken");
    at
}

/// Sends messages in a mode from bob to alice, and gives the numbers of those that arrive, in that order.
fn send(alice: &Machine, bob: &Machine, mode: &str, count: usize, len: usize) -> Vec<usize> {
    let mut far = Pipe::listen(alice, &["peer", "--port", mode, "--mode", mode]);
    let mut near = Pipe::start(bob, &["connect", &alice.peer_id(), "--port", mode, "--mode", mode]);
    let sender = std::thread::spawn(move || {
        (0..count).for_each(|at| near.say(&format!("{}\n", message(at, len))));
        let (code, _, messages) = near.end();
        assert_eq!(code, Some(0), "{messages}");
    });
    let mut got = Vec::new();
    loop {
        let line = far.line();
        if line.is_empty() {
            break;
        }
        got.push(number(&line, len));
    }
    far.close();
    let (code, _, messages) = far.end();
    assert_eq!(code, Some(0), "{mode}: {messages}");
    sender.join().expect("it sent all");
    got
}

#[test]
fn modes_keep_their_word_over_a_cable_that_loses() {
    in_lab(|lab| {
        let trio = Trio::between(lab, |lab, a, b, n| lab.long_cable(a, b, n, LINE));
        trio.start();
        let (alice, bob) = (&trio.alice, &trio.bob);
        let all: Vec<usize> = (0..LARGE).collect();
        assert_eq!(send(alice, bob, "ro", LARGE, (1 << 20) - 1), all, "a stream");
        let mut unordered = send(alice, bob, "ru", LARGE, 1 << 20);
        unordered.sort_unstable();
        assert_eq!(unordered, all, "none lost, none doubled");
        for mode in ["uo", "uu"] {
            let got = send(alice, bob, mode, DATAGRAMS, 64 << 10);
            println!("{mode}: {} of {DATAGRAMS} arrived", got.len());
            assert!(!got.is_empty() && got.iter().collect::<BTreeSet<_>>().len() == got.len(), "{mode}: {got:?}");
            assert!(mode == "uu" || got.is_sorted(), "{got:?}");
        }
    });
}

#[test]
fn a_reader_that_reads_nothing_slows_nobody() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::web(&trio.alice, "127.0.0.1:4006", &[("/", Body::Stream(0x51ab, 1 << 40))]);
        let text = "local = \"127.0.0.1:4006\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"big\"\n";
        trio.alice.service("big", text);
        trio.start();
        trio.bob.tn(&["wait", "--name", "big.alice", "--timeout", "20s"]);
        let address = *trio.bob.lookup("big.alice").first().expect("an address");
        let ask = || {
            let mut stream = trio.bob.inside(move || TcpStream::connect((address, 80)).expect("an answer"));
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it takes a request");
            stream
        };
        let mut fast = ask();
        // Alone and beside those that read nothing, in turn: what else the machine does hits both. One that was there before
        // them, and one that comes after them: what they hold must not be all there is.
        let (mut alone, mut beside, mut after, mut held) = (0.0, 0.0, 0.0, [0; 2]);
        let rounds = if strict() { ROUNDS } else { 1 };
        for _ in 0..rounds {
            alone += rate(&mut fast) / f64::from(rounds);
            let idle: Vec<TcpStream> = (0..8).map(|_| ask()).collect();
            beside += rate(&mut fast) / f64::from(rounds);
            drop(std::mem::replace(&mut fast, ask()));
            after += rate(&mut fast) / f64::from(rounds);
            held = [&trio.alice, &trio.bob].map(|machine| machine.memory("VmRSS") >> 20);
            drop(idle);
        }
        let (beside, after) = (beside / alone, after / alone);
        println!("alone {alone:.0} MB/s, beside eight idle readers {beside:.2}, after them {after:.2}; {held:?} MiB");
        assert!(held.iter().all(|mib| *mib < 128), "{held:?} MiB");
        assert!(beside.min(after) > if strict() { 0.95 } else { 0.25 });
    });
}

/// Megabytes per second of a stream, from its second half second on.
fn rate(stream: &mut impl Read) -> f64 {
    let mut buffer = vec![0; 1 << 18];
    let (mut begun, mut count, mut warm) = (Instant::now(), 0usize, false);
    while begun.elapsed() < MEASURED {
        let len = stream.read(&mut buffer).expect("it can be read");
        assert!(len > 0, "it ended after {count} bytes");
        count += len;
        if !warm && begun.elapsed() > Duration::from_millis(500) {
            (begun, count, warm) = (Instant::now(), 0, true);
        }
    }
    count as f64 / begun.elapsed().as_secs_f64() / 1e6
}
