//! Very many connections over one session: downloads at once, each of which gets its part, and connections that say
//! nothing. Few in CI; with `TARNET_E2E_MEASURE=1` 2,000 and 10,000, and their figures are asserted.

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::idle::cpu_ms;
use super::lab::serve::{Bytes, sha256, sha256_of_stream};
use super::lab::{Machine, Trio, in_lab, wait_for};
use super::queues::strict;

/// The path of the test, and what makes it the server of another run of itself: the address.
const TEST: &str = "e2e::many::very_many_connections_share_and_idle_ones_cost_little";
const SERVES: &str = "TARNET_E2E_MANY_SERVES";
/// Descriptors beside those of connections.
const DESCRIPTORS_OTHER: u64 = 1_000;
/// Connections that may wait to be accepted.
const BACKLOG_LEN: u32 = 4_096;
/// Seed of what is downloaded.
const SEED: u64 = 0x3a9f;
/// Bytes of each download.
const BODY_LEN: usize = 1 << 20;
/// Threads that connect beside each other.
const CONNECTING: usize = 16;
/// How long a download may take to bring its next bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long idle connections are watched.
const WATCHED: Duration = Duration::from_secs(20);
/// Most bytes that an idle connection takes of a daemon.
const IDLE_BYTES_MAX: u64 = 40 * 1024;
/// Most processor time of a daemon while nothing is said, per mille.
const IDLE_PER_MILLE_MAX: u128 = 10;
/// Least Jain's index of the downloads' rates.
const JAIN_MIN: f64 = 0.9;

/// Descriptors for one end of all connections.
fn raise_descriptors(count: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(count), hard.max(count)).expect("a higher limit of descriptors");
}

/// Serves at an address of the machine it runs on: the body for the first byte that a connection says.
async fn serve(address: &str) {
    let body: Arc<[u8]> = Bytes::new(SEED, BODY_LEN as u64).flatten().collect();
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(address.parse().expect("an address")).expect("a free port");
    let listener = socket.listen(BACKLOG_LEN).expect("a queue");
    while let Ok((mut stream, _)) = listener.accept().await {
        let body = Arc::clone(&body);
        tokio::spawn(async move {
            if stream.read_u8().await.is_ok() {
                let _ = stream.write_all(&body).await;
            }
        });
    }
}

/// Starts the server on a machine, as a program of its own: one has not descriptors for both ends.
fn start_server(machine: &Machine, address: &str) -> Child {
    let exe = std::env::current_exe().expect("the test knows its own program");
    let mut command = machine.command(&[exe.to_str().expect("a path in UTF-8"), "--exact", TEST]);
    machine.start_command({
        command.env(SERVES, address).stdout(Stdio::null());
        command
    })
}

/// Runs a task and those it starts, on this thread.
fn block_on<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(task)
}

/// Opens connections to a service.
fn open(machine: &Machine, address: IpAddr, count: usize) -> Vec<TcpStream> {
    let connect = move |at: usize| -> Vec<TcpStream> {
        let some = count / CONNECTING + usize::from(at < count % CONNECTING);
        (0..some).map(|_| TcpStream::connect((address, 80)).expect("an answer")).collect()
    };
    machine.inside(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTING).map(|at| scope.spawn(move || connect(at))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("all connect")).collect()
        })
    })
}

/// Downloads over each connection, all at once; gives the bodies, and how many bytes a second each got.
async fn download(streams: Vec<TcpStream>) -> Vec<(Vec<u8>, f64)> {
    let get = |mut stream: TcpStream| {
        stream.write_all(b"x").expect("it takes a byte");
        stream.set_nonblocking(true).expect("an option");
        let begun = Instant::now();
        tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::from_std(stream).expect("a runtime");
            let mut body = Vec::with_capacity(BODY_LEN);
            loop {
                let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut body)).await;
                if read.expect("it goes on").expect("it can be read") == 0 {
                    return (body, BODY_LEN as f64 / begun.elapsed().as_secs_f64());
                }
            }
        })
    };
    let tasks: Vec<_> = streams.into_iter().map(get).collect();
    let mut got = Vec::new();
    for task in tasks {
        got.push(task.await.expect("it ends"));
    }
    got
}

/// Jain's index: one when all have the same, `1 / n` when one has all.
fn jain(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>().powi(2) / (rates.len() as f64 * rates.iter().map(|rate| rate * rate).sum::<f64>())
}

#[test]
fn very_many_connections_share_and_idle_ones_cost_little() {
    let (downloads, idle) = if strict() { (2_000, 10_000) } else { (200, 1_000) };
    raise_descriptors(idle + DESCRIPTORS_OTHER);
    if let Ok(address) = std::env::var(SERVES) {
        return block_on(serve(&address));
    }
    let count = usize::try_from(idle).expect("few");
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        let mut server = start_server(&trio.alice, "127.0.0.1:4006");
        trio.alice
            .service("many", "local = \"127.0.0.1:4006\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"many\"\n");
        trio.start();
        trio.bob.tn(&["wait", "--name", "many.alice", "--timeout", "20s"]);
        let address = *trio.bob.lookup("many.alice").first().expect("an address");
        idle_cost_little(&trio, address, count);
        let begun = Instant::now();
        let got = block_on(download(open(&trio.bob, address, downloads)));
        let took = begun.elapsed().as_secs_f64();
        let (bodies, rates): (Vec<_>, Vec<_>) = got.into_iter().unzip();
        let (hash, index) = (sha256_of_stream(SEED, BODY_LEN as u64), jain(&rates));
        let whole = bodies.iter().filter(|body| sha256(&body[..]).0 == hash).count();
        println!(
            "{whole} of {downloads} downloads are whole after {took:.1} s; Jain's index of their rates {index:.3}"
        );
        assert_eq!(whole, downloads);
        assert!(index >= JAIN_MIN || !strict(), "some get less than others: {index}");
        server.kill().and_then(|()| server.wait()).expect("our child");
    });
}

/// Opens idle connections, and looks what they take.
fn idle_cost_little(trio: &Trio, address: IpAddr, count: usize) {
    let ends = [&trio.alice, &trio.bob];
    let held = || ends.map(|machine| machine.memory("VmRSS"));
    let before = held();
    let connections = open(&trio.bob, address, count);
    let after = held();
    let each = [0, 1].map(|at| after[at].saturating_sub(before[at]) / count as u64);
    let time = || [&trio.alice, &trio.relay, &trio.bob].map(|machine| u128::from(cpu_ms(machine)));
    let (begun, spent) = (Instant::now(), time());
    let _ = wait_for(WATCHED, || None::<()>);
    let now = time();
    let per_mille = [0, 1, 2].map(|at| (now[at] - spent[at]) * 1_000 / begun.elapsed().as_millis());
    println!("{count} idle connections: {each:?} bytes each, {per_mille:?} per mille of a processor");
    assert!(!strict() || per_mille.iter().all(|each| *each < IDLE_PER_MILLE_MAX));
    assert!(!strict() || each.iter().all(|bytes| *bytes <= IDLE_BYTES_MAX));
    // They still are what they were: the last one is used.
    let got = block_on(download(connections.into_iter().rev().take(1).collect()));
    assert_eq!(got[0].0.len(), BODY_LEN);
}
