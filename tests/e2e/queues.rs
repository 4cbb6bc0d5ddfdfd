//! Queues on real cables: callers beside a bulk download over one slow relay link, and the node's
//! limits of rate. What is measured is printed; `TARNET_E2E_MEASURE=1` asserts the figures, which a
//! machine that does other work meanwhile may miss.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lab::serve::{self, Body};
use super::lab::{Machine, Trio, in_lab};

/// Bits per second of the slow cable.
const SLOW_MBIT: u32 = 20;
/// What the cable itself may queue.
const CABLE_QUEUE: &str = "30ms";
/// What bulk may add to the wait of callers, that queue included.
const ADDED_MAX: Duration = Duration::from_millis(60);
/// Callers at once.
const CALLERS: usize = 20;
/// Bytes of a question and of its answer.
const CALL_LEN: usize = 200;
/// How long a caller thinks.
const THINK_TIME: Duration = Duration::from_millis(50);
/// How long each part is measured.
const MEASURED: Duration = Duration::from_secs(20);

/// Whether figures are asserted.
pub fn strict() -> bool {
    std::env::var_os("TARNET_E2E_MEASURE").is_some()
}

/// Callers that ask again and again.
struct Callers {
    stop: Arc<AtomicBool>,
    waits: Arc<Mutex<Vec<Duration>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Callers {
    /// So many on a machine, all to one address.
    fn start(machine: &Machine, address: SocketAddr) -> Self {
        let (stop, waits) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Duration>>>::default());
        let streams: Vec<_> =
            machine.inside(|| (0..CALLERS).map(|_| TcpStream::connect(address).expect("an answer")).collect());
        let call = |stream| {
            let (stop, waits) = (Arc::clone(&stop), Arc::clone(&waits));
            std::thread::spawn(move || call(stream, &stop, &waits))
        };
        let threads = streams.into_iter().map(call).collect();
        Self { stop, waits, threads }
    }

    /// The waits since the last time this was asked, in order.
    fn take(&self) -> Vec<Duration> {
        let mut waits = std::mem::take(&mut *self.waits.lock().expect("no caller panicked"));
        waits.sort_unstable();
        waits
    }

    /// Ends them; a caller that got something else than it said fails the test.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a caller was answered"));
    }
}

/// One caller.
fn call(mut stream: TcpStream, stop: &AtomicBool, waits: &Mutex<Vec<Duration>>) {
    stream.set_nodelay(true).expect("an option of TCP");
    let (mut question, mut answer) = ([0u8; CALL_LEN], [0u8; CALL_LEN]);
    while !stop.load(Ordering::Relaxed) {
        question[0] = question[0].wrapping_add(1);
        stream.set_read_timeout(None).expect("an option");
        let start = Instant::now();
        stream.write_all(&question).expect("a connection that holds");
        stream.read_exact(&mut answer).expect("an answer");
        waits.lock().expect("no caller panicked").push(start.elapsed());
        assert_eq!(question, answer);
        stream.set_read_timeout(Some(THINK_TIME)).expect("an option");
        let more = stream.read(&mut answer).map_err(|error| error.kind());
        assert!(matches!(more, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{more:?} unasked");
    }
}

/// The wait that so many percent do not exceed.
fn percentile(waits: &[Duration], percent: usize) -> Duration {
    waits[(waits.len() * percent / 100).min(waits.len() - 1)]
}

/// Reads a download for a while; bytes per second after the first second.
pub fn measure(machine: &Machine, url: &str, time: Duration) -> f64 {
    let mut download = machine.spawn(&["busybox", "wget", "-q", "-O", "-", url]);
    let mut bytes = download.stdout.take().expect("it is piped");
    let mut buffer = vec![0; 1 << 16];
    let (begun, mut start, mut count) = (Instant::now(), None, 0usize);
    while begun.elapsed() < time {
        let len = bytes.read(&mut buffer).expect("a pipe can be read");
        assert!(len > 0, "the download ended after {count} bytes");
        if begun.elapsed() > Duration::from_secs(1) {
            count += len;
            start.get_or_insert_with(Instant::now);
        }
    }
    download.kill().expect("our child");
    download.wait().expect("our child");
    count as f64 / start.expect("bytes came").elapsed().as_secs_f64()
}

/// Alice serves an endless stream as `big` and an echo as `echo`; everything is up.
fn serve_all(trio: &Trio) {
    serve::web(&trio.alice, "127.0.0.1:4006", &[("/", Body::Stream(0x51ab, 1 << 36))]);
    serve::echo(&trio.alice, "127.0.0.1:4007");
    for (name, port) in [("big", 4006), ("echo", 4007)] {
        let text = format!("local = \"127.0.0.1:{port}\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"{name}\"\n");
        trio.alice.service(name, &text);
    }
    trio.start();
    for name in ["big.alice", "echo.alice"] {
        trio.bob.tn(&["wait", "--name", name, "--timeout", "20s"]);
    }
}

#[test]
fn callers_wait_little_beside_bulk_over_a_slow_relay_link() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        lab.slow(&trio.relay, &trio.bob, SLOW_MBIT, CABLE_QUEUE);
        serve_all(&trio);
        let addresses = trio.bob.lookup("echo.alice");
        let address = SocketAddr::new(*addresses.first().expect("an address"), 80);
        let callers = Callers::start(&trio.bob, address);
        super::lab::until(30, "the callers were answered", || {
            callers.waits.lock().expect("no caller panicked").len() >= CALLERS * 40
        });
        let base = percentile(&callers.take(), 50);
        let share = measure(&trio.bob, "http://big.alice/", MEASURED) * 8.0 / (f64::from(SLOW_MBIT) * 1e6);
        let in_order = callers.waits.lock().expect("no caller panicked").clone();
        let late: Vec<_> = (0..in_order.len()).filter(|at| in_order[*at] > base + ADDED_MAX).collect();
        println!("{} calls too late, the last of them the {:?}th", late.len(), late.last());
        let waits = callers.take();
        callers.end();
        let (median, p99) = (percentile(&waits, 50), percentile(&waits, 99));
        println!(
            "base {base:?}; beside bulk median {median:?}, 99th percentile {p99:?} of {} calls; bulk {:.1} % of {SLOW_MBIT} Mbit/s",
            waits.len(),
            share * 100.0
        );
        assert!(waits.len() > CALLERS);
        if strict() {
            assert!(p99 <= base + ADDED_MAX && share >= 0.85);
        }
    });
}

#[test]
fn limits_of_rate_hold() {
    for (limited, key) in [("alice", "upload_limit"), ("bob", "download_limit")] {
        in_lab(|lab| {
            let trio = Trio::cabled(lab);
            let (machine, peers) = match limited {
                "alice" => (&trio.alice, "tcp://10.77.1.2:7946"),
                _ => (&trio.bob, "tcp://10.77.2.1:7946"),
            };
            machine.config(&format!("[node]\n{key} = \"16Mbit\"\n[bootstrap]\npeers = [\"{peers}\"]\n"));
            serve_all(&trio);
            let rate = measure(&trio.bob, "http://big.alice/", Duration::from_secs(11));
            println!("{key}: {:.2} Mbit/s of payload at a limit of 16", rate * 8.0 / 1e6);
            // More than the limit is wrong on any machine.
            assert!(rate <= 2e6 * 1.05, "{rate} bytes/s");
            if strict() {
                assert!(rate >= 2e6 * 0.95, "{rate} bytes/s");
            }
        });
    }
}
