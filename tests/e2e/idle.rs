//! A network that does nothing. `TARNET_E2E_IDLE_SECONDS` says how long it is watched (default 15).

use std::time::Instant;

use super::lab::{Machine, in_lab, until};

/// Machines.
const COUNT: usize = 8;
/// How long they settle: what a start publishes and hands over is not idle. Seconds of their own clock.
const SETTLED_S: u64 = 25;
/// How long they are watched unless told otherwise, seconds.
const WATCHED_S: u64 = 15;
/// What a daemon that does nothing may hold, bytes.
const MEMORY_MAX: u64 = 30 << 20;
/// What it may send when settled, bytes a second.
const RATE_MAX: u64 = 1_000;
/// What it may send in all until then, bytes: seven handshakes, and what eight nodes publish and hand over when they
/// all start at once.
const START_MAX: u64 = 1 << 20;
/// What it may take of a processor when settled, per mille.
const CPU_PER_MILLE_MAX: u64 = 10;

/// A number of the status.
fn figure(machine: &Machine, path: &str) -> u64 {
    machine.status().pointer(path).and_then(serde_json::Value::as_u64).expect("a number")
}

/// Processor time that a daemon has taken, milliseconds.
pub fn cpu_ms(machine: &Machine) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", machine.pid())).expect("the daemon runs");
    // The name in brackets may hold anything; user and system time are the 14th and 15th field. proc_pid_stat(5)
    let fields: Vec<&str> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10
}

#[test]
fn eight_idle_daemons_hold_and_send_little() {
    let watched: u64 = std::env::var("TARNET_E2E_IDLE_SECONDS")
        .map_or(WATCHED_S, |text| text.parse().expect("TARNET_E2E_IDLE_SECONDS is a number"));
    in_lab(|lab| {
        let names: Vec<String> = (0..COUNT).map(|number| format!("node{number}")).collect();
        let machines: Vec<Machine> = names.iter().map(|name| lab.machine(name)).collect();
        let addresses: Vec<String> = (1..=COUNT).map(|number| format!("10.78.0.{number}/24")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        lab.switch(&machines.iter().collect::<Vec<_>>(), &addresses);
        machines.iter().for_each(Machine::start);
        until(30, "each knows all others", || {
            machines.iter().all(|machine| figure(machine, "/routes") >= u64::try_from(COUNT - 1).expect("small"))
        });
        let sent = || -> Vec<u64> { machines.iter().map(|machine| figure(machine, "/traffic/tx_bytes")).collect() };
        until(60, "they settle", || machines.iter().all(|machine| figure(machine, "/uptime_s") >= SETTLED_S));
        let before = sent();
        // Nobody asks them anything meanwhile: an answer would be work, too.
        let start = Instant::now();
        let cpu_before: Vec<u64> = machines.iter().map(cpu_ms).collect();
        until(watched + 1, "time passes", || start.elapsed().as_secs() >= watched);
        let cpu_after: Vec<u64> = machines.iter().map(cpu_ms).collect();
        let after = sent();
        for (at, machine) in machines.iter().enumerate() {
            let (rate, held) = ((after[at] - before[at]) / watched, machine.memory("VmRSS"));
            let per_mille = (cpu_after[at] - cpu_before[at]) / watched;
            println!(
                "{}: {} B until settled, then {rate} B/s, {per_mille} per mille of a processor, {} MiB",
                machine.name(),
                before[at],
                held >> 20
            );
            assert!(held < MEMORY_MAX, "{} holds {} MiB", machine.name(), held >> 20);
            assert!(before[at] < START_MAX, "{} sent {} B until it settled", machine.name(), before[at]);
            assert!(rate < RATE_MAX, "{} sends {rate} B/s", machine.name());
            assert!(per_mille < CPU_PER_MILLE_MAX, "{} takes {per_mille} per mille of a processor", machine.name());
        }
    });
}
