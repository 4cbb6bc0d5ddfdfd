//! Daemons that are killed and come back.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::process::Child;
use std::time::{SystemTime, UNIX_EPOCH};

use super::lab::serve::{self, Body};
use super::lab::{Machine, Trio, in_lab, until};

/// How long the page may be away after a daemon came back, seconds.
const BACK_S: u64 = 10;

#[test]
fn page_is_back_after_each_daemon_was_killed() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        for machine in [&trio.relay, &trio.alice, &trio.bob] {
            assert_eq!(trio.page().out, Trio::PAGE);
            machine.kill();
            machine.start();
            let took =
                until(BACK_S, &format!("the page is back after {}", machine.name()), || trio.page().out == Trio::PAGE);
            println!("after a kill of {} the page was back in {took:?}", machine.name());
        }
    });
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    in_lab(|lab| {
        let bob = lab.machine("bob");
        bob.start();
        for round in 0..5 {
            let name = format!("friend{round}");
            bob.tn(&["identity", "create", &name]);
            bob.tn(&["tns", "set", &name, "text", "hello"]);
            let before = bob.json(&["identity", "show", &name]);
            bob.kill();
            bob.start();
            assert_eq!(bob.json(&["identity", "show", &name]), before);
            assert!(bob.tn(&["tns", "get", &name]).contains("hello"));
        }
        bob.stop();
        bob.start();
        assert_eq!(bob.status()["identities"].as_array().map(Vec::len), Some(6));
    });
}

/// Where the daemon is killed: after how many bytes of a download at most.
const MOMENT_MAX: u64 = 24 << 20;

/// A number of the seed's sequence below `below` (xorshift64).
pub fn draw(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is a number"))
}

/// Names that a machine's zone holds.
fn names_of(machine: &Machine) -> HashSet<String> {
    let list = machine.json(&["tns", "list"]);
    let rows = list.as_array().or_else(|| list["records"].as_array()).expect("a list of records");
    rows.iter().map(|row| row["label"].as_str().expect("a name").to_owned()).collect()
}

/// Has a machine set names one after the other until its daemon is gone; each that was acknowledged is printed.
fn write_names(machine: &Machine, round: u64) -> Child {
    let tarnet = env!("CARGO_BIN_EXE_tarnet");
    let line = format!(
        "n=0; while {tarnet} tns set r{round}n$n text x >/dev/null 2>&1; do echo r{round}n$n; n=$((n+1)); done"
    );
    machine.spawn(&["sh", "-c", &line])
}

/// Daemons are killed in the middle of a download through all three and of writes of their own, at moments that a
/// seed draws. `TARNET_E2E_KILLS` says how often (default 6), `TARNET_E2E_SEED` repeats the moments.
#[test]
fn kill_at_any_moment_loses_nothing_acknowledged_and_the_page_comes_back() {
    in_lab(|lab| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that was set");
        let seed = number("TARNET_E2E_SEED", now.as_secs());
        println!("TARNET_E2E_SEED={seed}");
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let trio = Trio::cabled(lab);
        serve::web(&trio.alice, "127.0.0.1:4006", &[("/", Body::Stream(seed | 1, MOMENT_MAX * 64))]);
        trio.alice.service("big", "local = \"127.0.0.1:4006\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"big\"\n");
        trio.start();
        trio.bob.tn(&["wait", "--name", "big.alice", "--timeout", "20s"]);
        let address = trio.bob.lookup("blog.alice");
        let mut written = HashMap::<&str, HashSet<String>>::new();
        for round in 0..number("TARNET_E2E_KILLS", 6) {
            let victim = [&trio.relay, &trio.alice, &trio.bob][usize::try_from(draw(&mut state, 3)).expect("small")];
            let moment = draw(&mut state, MOMENT_MAX);
            let mut download = trio.bob.spawn(&["busybox", "wget", "-q", "-O", "-", "http://big.alice/"]);
            let writer = write_names(victim, round);
            let mut bytes = download.stdout.take().expect("it is piped").take(moment);
            let read = std::io::copy(&mut bytes, &mut std::io::sink()).expect("a pipe can be read");
            assert_eq!(read, moment, "the download of round {round} broke before the kill");
            victim.kill();
            let said = writer.wait_with_output().expect("its output can be read");
            let acknowledged = String::from_utf8(said.stdout).expect("names");
            written.entry(victim.name()).or_default().extend(acknowledged.lines().map(str::to_owned));
            victim.start();
            let took = until(BACK_S, &format!("round {round}: the page is back after {}", victim.name()), || {
                trio.page().out == Trio::PAGE
            });
            download.kill().expect("our child");
            download.wait().expect("our child");
            println!(
                "{} killed after {moment} bytes and {} names: {took:?}",
                victim.name(),
                acknowledged.lines().count()
            );
            let lost: Vec<_> = written[victim.name()].difference(&names_of(victim)).cloned().collect();
            assert!(lost.is_empty(), "round {round}: {} forgot {lost:?}", victim.name());
            assert_eq!(trio.bob.lookup("blog.alice"), address, "round {round}");
        }
    });
}
