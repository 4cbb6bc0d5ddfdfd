//! The DHT: every kind of value, from another node, and over restarts of who stores it.

use super::lab::{Trio, in_lab, until};

#[test]
fn values_of_every_kind_are_found_and_survive_restarts() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let long = trio.alice.path("long.txt");
        let text = "0123456789abcdef".repeat(1_000);
        std::fs::write(&long, &text).expect("a file of the laboratory");
        let content = trio.alice.json(&["dht", "put", "an immutable value"]);
        let content = content["hash"].as_str().expect("a hash").to_owned();
        let file = trio.alice.json(&["dht", "put", "-f", long.to_str().expect("a path")]);
        let file = file["hash"].as_str().expect("a hash").to_owned();
        let signed = trio.alice.json(&["dht", "put-signed", "a signed value", "--identity", "alice"]);
        let signed = signed["hash"].as_str().expect("a hash").to_owned();
        let alice = trio.alice.peer_id();
        let found = || {
            assert_eq!(trio.bob.tn(&["dht", "get", &content]), "an immutable value");
            assert_eq!(trio.bob.tn(&["dht", "get", &file]), text);
            let values = trio.bob.json(&["dht", "get-signed", &signed]);
            assert_eq!(values[0]["value"], "a signed value");
            assert_eq!(values[0]["signer"].as_str(), Some(trio.service_id().as_str()));
            assert_eq!(trio.bob.json(&["dht", "hello", &alice])["peer_id"].as_str(), Some(alice.as_str()));
        };
        until(20, "alice's Hello is found", || trio.bob.tarnet(&["dht", "hello", &alice]).code == 0);
        found();
        trio.relay.stop();
        trio.relay.start();
        trio.alice.kill();
        trio.alice.start();
        for machine in [&trio.alice, &trio.bob] {
            machine.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        }
        trio.bob.tn(&["wait", "--route", &alice, "--timeout", "20s"]);
        until(20, "alice's Hello is found again", || trio.bob.tarnet(&["dht", "hello", &alice]).code == 0);
        found();
        let absent = "0".repeat(content.len());
        assert_eq!(trio.bob.tarnet(&["dht", "get", &absent]).code, 4, "found what nobody stored");
    });
}

#[test]
fn what_only_the_storer_has_is_found_after_its_restart() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let put = trio.relay.json(&["dht", "put", "kept on disk"]);
        let hash = put["hash"].as_str().expect("a hash").to_owned();
        // All of them may hold it now: all go down at once, killed, and come back.
        for machine in [&trio.alice, &trio.relay, &trio.bob] {
            machine.kill();
        }
        trio.relay.start();
        trio.bob.start();
        trio.bob.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        until(20, "the value is found", || trio.bob.tarnet(&["dht", "get", &hash]).out.contains("kept on disk"));
    });
}
