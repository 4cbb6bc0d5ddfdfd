//! Daemons that are killed and come back.

use super::lab::{Trio, in_lab, until};

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
