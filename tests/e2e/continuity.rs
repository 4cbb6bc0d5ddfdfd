//! Downloads that outlive what carries them: 16 at once, over three relays of which one after the other is killed,
//! stopped or cut off. `TARNET_E2E_BYTES` says how many bytes in all (default 192 MiB; 1 GiB is the full form),
//! `TARNET_E2E_KILLS` how often something fails (default 6), `TARNET_E2E_SEED` repeats the choices. An hour of it takes
//! `TARNET_E2E_BYTES=64424509440 TARNET_E2E_KILLS=1000 TARNET_E2E_TIME_MAX=7200`. The pauses are printed;
//! `TARNET_E2E_MEASURE=1` asserts them.

use std::io::Read;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::kills::{draw, number};
use super::lab::serve::{self, Body};
use super::lab::{Lab, Machine, in_lab, sh, until};

/// Downloads at once.
const STREAMS: u64 = 16;
/// What each cable of bob's carries.
const RATE: &str = "80mbit";
/// How long nothing may come after a failure, seconds: a deadline, not the figure that is reported.
const PAUSE_MAX_S: u64 = 30;
/// Bytes that must come after a failure before the next one.
const PROGRESS: u64 = 4 << 20;

/// Alice and bob, and relays that each have a link to both.
struct Star {
    alice: Machine,
    bob: Machine,
    relays: [Machine; 3],
}

impl Star {
    /// Machines and cables; alice serves one stream per download.
    fn cabled(lab: &Lab, seed: u64, len: u64) -> Self {
        let [alice, bob] = ["alice", "bob"].map(|name| lab.machine(name));
        let relays = ["relay1", "relay2", "relay3"].map(|name| lab.machine(name));
        for (n, relay) in (10..).zip(&relays) {
            lab.cable(&alice, relay, n);
            lab.cable(&bob, relay, n + 10);
            sh(&format!(
                "ip netns exec {0} tc qdisc add dev to-bob root tbf rate {RATE} burst 64k latency 30ms",
                relay.name()
            ));
        }
        let peers = |first: u8| (first..first + 3).map(|n| format!("\"tcp://10.77.{n}.2:7946\"")).collect::<Vec<_>>();
        for (machine, first) in [(&alice, 10), (&bob, 20)] {
            machine.config(&format!("[bootstrap]\nmdns = false\npeers = [{}]\n", peers(first).join(", ")));
        }
        relays.iter().for_each(|relay| relay.config("[bootstrap]\nmdns = false\n"));
        let pages: Vec<(String, Body)> =
            (0..STREAMS).map(|n| (format!("/{n}"), Body::Stream(seed + 2 * n, len))).collect();
        let pages: Vec<(&str, Body)> = pages.iter().map(|(path, body)| (path.as_str(), body.clone())).collect();
        serve::web(&alice, "127.0.0.1:4006", &pages);
        alice.service("big", "local = \"127.0.0.1:4006\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"big\"\n");
        Self { alice, bob, relays }
    }

    /// Starts the daemons and makes the name.
    fn start(&self) {
        self.relays.iter().chain([&self.alice, &self.bob]).for_each(Machine::start);
        for machine in [&self.alice, &self.bob] {
            machine.tn(&["wait", "--links", "3", "--timeout", "20s"]);
        }
        self.alice.tn(&["identity", "create", "alice"]);
        self.alice.tn(&["reload"]);
        let shown = self.alice.json(&["identity", "show", "alice"]);
        self.bob.tn(&["tns", "set", "alice", "zone", shown["service_id"].as_str().expect("a service id")]);
        self.bob.tn(&["wait", "--name", "big.alice", "--timeout", "20s"]);
    }

    /// Waits until both ends have all their links again.
    fn wait_for_links(&self) {
        for machine in [&self.alice, &self.bob] {
            machine.tn(&["wait", "--links", "3", "--timeout", "60s"]);
        }
    }
}

/// How far the downloads are, together, and how long each paused. Times are milliseconds.
struct Progress {
    begun: Instant,
    total: AtomicU64,
    /// Of each download: when bytes came last, and the longest pause since it was asked for.
    seen: Vec<(AtomicU64, AtomicU64)>,
}

impl Progress {
    fn new() -> Arc<Self> {
        let seen = (0..STREAMS).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect();
        Arc::new(Self { begun: Instant::now(), total: AtomicU64::new(0), seen })
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis().try_into().expect("it has not been that long")
    }

    /// Bytes of a download came; none are its end.
    fn note(&self, download: usize, count: usize) {
        self.total.fetch_add(count.try_into().expect("a small number"), Ordering::Relaxed);
        let (last, longest) = &self.seen[download];
        let now = if count == 0 { u64::MAX } else { self.now() };
        longest.fetch_max(self.now().saturating_sub(last.swap(now, Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// The longest pause of each download that goes on, since the last call, one that is under way included.
    fn take_pauses(&self) -> Vec<u64> {
        let pause = |(last, longest): &(AtomicU64, AtomicU64)| {
            let under_way = self.now().checked_sub(last.load(Ordering::Relaxed))?;
            Some(under_way.max(longest.swap(0, Ordering::Relaxed)))
        };
        self.seen.iter().filter_map(pause).collect()
    }
}

/// A reader that notes what passes.
struct Noted<R>(R, usize, Arc<Progress>);

impl<R: Read> Read for Noted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.2.note(self.1, count);
        Ok(count)
    }
}

/// One download of bob's: its process, and the hash and length to come.
fn download(bob: &Machine, n: usize, progress: &Arc<Progress>) -> (Child, JoinHandle<(Vec<u8>, u64)>) {
    let mut child = bob.spawn(&["busybox", "wget", "-q", "-O", "-", &format!("http://big.alice/{n}")]);
    let bytes = Noted(child.stdout.take().expect("it is piped"), n, Arc::clone(progress));
    (child, std::thread::spawn(move || serve::sha256(bytes)))
}

/// Breaks a relay in one of four ways; gives what mends it.
fn fail(relay: &Machine, way: u64) -> (&'static str, Box<dyn FnOnce() + '_>) {
    let name = relay.name().to_owned();
    let links = move |state: &str| {
        sh(&format!("ip -n {name} link set to-alice {state}; ip -n {name} link set to-bob {state}"));
    };
    match way {
        0 => {
            relay.kill();
            ("killed", Box::new(|| relay.start()))
        }
        1 => {
            relay.signal(Signal::SIGSTOP);
            ("stopped", Box::new(|| relay.signal(Signal::SIGCONT)))
        }
        2 => {
            links("down");
            ("cut off", Box::new(move || links("up")))
        }
        _ => {
            relay.stop();
            ("told to stop", Box::new(|| relay.start()))
        }
    }
}

/// Prints how long the downloads paused around failures, milliseconds; asserts it where figures count.
fn report(mut pauses: Vec<u64>) {
    pauses.sort_unstable();
    let at =
        |percent: usize| pauses.get((pauses.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
    println!("{} pauses: p50 {} ms, p99 {} ms, longest {} ms", pauses.len(), at(50), at(99), at(100));
    if std::env::var_os("TARNET_E2E_MEASURE").is_some() {
        assert!(at(50) < 1000 && at(99) < 5000, "they are to be under 1 and 5 s");
    }
}

#[test]
fn sixteen_downloads_outlive_their_relays_byte_for_byte() {
    in_lab(|lab| {
        let (all, failures) = (number("TARNET_E2E_BYTES", 192 << 20), number("TARNET_E2E_KILLS", 6));
        let seed = number("TARNET_E2E_SEED", 1);
        println!("TARNET_E2E_SEED={seed}");
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let len = all / STREAMS;
        let star = Star::cabled(lab, seed | 1, len);
        star.start();
        let progress = Progress::new();
        let got = || progress.total();
        let downloads: Vec<_> = (0..progress.seen.len()).map(|n| download(&star.bob, n, &progress)).collect();
        let mut pauses = Vec::new();
        let step = (all / (failures + 1)).max(PROGRESS);
        for round in 0..failures {
            let begin = got();
            until(600, "the downloads go on", || got() >= begin + step.min(all - begin));
            if all - got() < PROGRESS {
                break;
            }
            let relay = &star.relays[usize::try_from(draw(&mut state, 3)).expect("small")];
            progress.take_pauses();
            let (what, mend) = fail(relay, draw(&mut state, 4));
            let before = got();
            let took = until(PAUSE_MAX_S, &format!("bytes come after {} was {what}", relay.name()), || {
                got() >= before + PROGRESS.min(all - before)
            });
            println!("round {round}: {} {what} after {before} bytes; {PROGRESS} more took {took:?}", relay.name());
            mend();
            star.wait_for_links();
            pauses.extend(progress.take_pauses());
        }
        report(pauses);
        for (n, (mut child, hash)) in (0..).zip(downloads) {
            assert!(child.wait().expect("our child").success(), "download {n} failed");
            let (hash, length) = hash.join().expect("the reader does not panic");
            assert_eq!(length, len, "download {n}");
            assert_eq!(hash, serve::sha256_of_stream((seed | 1) + 2 * n, len), "the bytes of download {n} differ");
        }
    });
}
