//! A network that does nothing.

use super::lab::{Machine, in_lab, until};

/// Machines.
const COUNT: usize = 8;
/// How long they settle: what a start publishes and hands over is not idle. Seconds of their own clock.
const SETTLED_S: u64 = 25;
/// How long they are watched, seconds of their own clock.
const WATCHED_S: u64 = 15;
/// What a daemon that does nothing may hold, bytes.
const MEMORY_MAX: u64 = 30 << 20;
/// What it may send, bytes a second.
const RATE_MAX: u64 = 1_000;

/// A number of the status.
fn figure(machine: &Machine, path: &str) -> u64 {
    machine.status().pointer(path).and_then(serde_json::Value::as_u64).expect("a number")
}

#[test]
fn eight_idle_daemons_hold_and_send_little() {
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
        let start = figure(&machines[0], "/uptime_s");
        let before = sent();
        until(120, "time passes", || figure(&machines[0], "/uptime_s") >= start + WATCHED_S);
        for (machine, (after, before)) in machines.iter().zip(sent().iter().zip(&before)) {
            let (rate, held) = ((after - before) / WATCHED_S, machine.memory("VmRSS"));
            println!("{}: {rate} B/s, {} MiB", machine.name(), held >> 20);
            assert!(held < MEMORY_MAX, "{} holds {} MiB", machine.name(), held >> 20);
            assert!(rate < RATE_MAX, "{} sends {rate} B/s", machine.name());
        }
    });
}
