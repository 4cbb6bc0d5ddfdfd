//! Key agreement between neighbours: what old nodes get, and that nobody is talked down.

use super::lab::{Lab, Machine, in_lab, until};

/// A relay that listens and a visitor that dials it.
fn pair(lab: &Lab) -> (Machine, Machine) {
    let [relay, visitor] = ["relay", "visitor"].map(|name| lab.machine(name));
    lab.cable(&visitor, &relay, 1);
    visitor.config("[bootstrap]\nmdns = false\npeers = [\"tcp://10.77.1.2:7946\"]\n");
    (relay, visitor)
}

/// A relay that offers X25519 alone. It finds nobody by itself.
const CLASSIC: &str = "[bootstrap]\nmdns = false\n[link]\ngroups = [\"x25519\"]\n";

/// The group of the visitor's only link.
fn group(machine: &Machine) -> String {
    machine.status()["links"][0]["group"].as_str().expect("a group").to_owned()
}

#[test]
fn node_that_knows_x25519_alone_is_linked() {
    in_lab(|lab| {
        let (relay, visitor) = pair(lab);
        relay.config(CLASSIC);
        relay.start();
        visitor.start();
        visitor.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        assert_eq!(group(&visitor), "x25519");
    });
}

#[test]
fn known_node_that_suddenly_offers_x25519_alone_is_refused() {
    in_lab(|lab| {
        let (relay, visitor) = pair(lab);
        relay.config("[bootstrap]\nmdns = false\n");
        relay.start();
        visitor.start();
        visitor.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        assert_eq!(group(&visitor), "x25519mlkem768");
        relay.stop();
        relay.config(CLASSIC);
        relay.start();
        until(20, "the visitor says why it refuses", || {
            assert_eq!(visitor.links(), 0, "linked with the weaker agreement");
            let peers = visitor.json(&["peers", "list"]);
            let mut list = peers.as_array().expect("a list").iter();
            list.any(|peer| {
                peer["error"].as_str().is_some_and(|error| !error.is_empty() && !error.contains("refused by"))
            })
        });
        // Neither a restart of the visitor forgets what the relay could do,
        visitor.stop();
        visitor.start();
        until(20, "the visitor still refuses", || {
            assert_eq!(visitor.links(), 0, "linked with the weaker agreement");
            visitor.json(&["peers", "list"]).to_string().contains("\"error\":\"")
        });
        // nor does refusing end: the relay mends, and is linked.
        relay.stop();
        relay.config("[bootstrap]\nmdns = false\n");
        relay.start();
        visitor.tn(&["wait", "--links", "1", "--timeout", "60s"]);
        assert_eq!(group(&visitor), "x25519mlkem768");
    });
}
