//! Neighbours that find each other without being told.

use super::lab::{Lab, Machine, in_lab, sh, until};

/// How long neighbours may take to find each other, seconds.
const FOUND_S: u64 = 5;

/// Starts both, and waits for exactly one link that stays one.
fn link_by_themselves(lab: &Lab, addresses: &[&str], prepare: impl Fn(&Machine)) {
    let [carol, dave] = ["carol", "dave"].map(|name| lab.machine(name));
    lab.switch(&[&carol, &dave], addresses);
    prepare(&carol);
    prepare(&dave);
    // An address is tentative until nobody else claims it.
    until(10, "the addresses are usable", || {
        [&carol, &dave]
            .iter()
            .all(|machine| !sh(&format!("ip -n {} addr show lan0", machine.name())).contains("tentative"))
    });
    carol.start();
    dave.start();
    let took = until(FOUND_S, "both are linked", || carol.links() >= 1 && dave.links() >= 1);
    println!("linked {took:?} after the second was up");
    let theirs = dave.peer_id();
    let link = carol.status()["links"].clone();
    assert_eq!(link.as_array().map(Vec::len), Some(1), "{link}");
    assert_eq!(link[0]["peer_id"].as_str(), Some(theirs.as_str()));
    // Both hear of each other again and again: it stays one link.
    let age = |machine: &Machine| machine.status()["uptime_s"].as_u64().expect("seconds");
    let start = age(&carol);
    until(30, "five seconds pass with one link", || {
        assert_eq!((carol.links(), dave.links()), (1, 1));
        age(&carol) >= start + 5
    });
    assert_eq!(carol.json(&["ping", &theirs, "-c", "1"])["hops"].as_u64(), Some(1));
}

#[test]
fn neighbours_with_link_local_ipv6_alone_get_one_link() {
    in_lab(|lab| link_by_themselves(lab, &[], |_| ()));
}

#[test]
fn neighbours_with_link_local_ipv4_alone_get_one_link() {
    in_lab(|lab| {
        link_by_themselves(lab, &["169.254.3.1/16", "169.254.3.2/16"], |machine| {
            sh(&format!("ip netns exec {} sysctl -qw net.ipv6.conf.lan0.disable_ipv6=1", machine.name()));
        });
    });
}

#[test]
fn configured_address_of_a_neighbour_that_is_linked_already_rests() {
    in_lab(|lab| {
        let [carol, dave] = ["carol", "dave"].map(|name| lab.machine(name));
        lab.switch(&[&carol, &dave], &["10.78.0.1/24", "10.78.0.2/24"]);
        dave.start();
        carol.start();
        carol.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        let theirs = dave.peer_id();
        carol.tn(&["peers", "add", "tcp://10.78.0.2:7946"]);
        until(10, "the address is known as dave's, without complaint", || {
            let peers = carol.json(&["peers", "list"]);
            let mut list = peers.as_array().expect("a list").iter();
            let found = list.find(|peer| peer["address"] == "tcp://10.78.0.2:7946");
            found.is_some_and(|peer| peer["peer_id"] == theirs.as_str() && peer["error"] == "")
        });
        let sources = |machine: &Machine| -> std::collections::BTreeSet<String> {
            let peers = machine.json(&["peers", "list"]);
            let rows = peers.as_array().expect("a list").iter();
            rows.filter(|peer| peer["state"] != "linked").map(|peer| peer["source"].to_string()).collect()
        };
        assert!(sources(&carol).contains("\"bootstrap\""), "{:?}", sources(&carol));
        assert!(!sources(&dave).contains("\"bootstrap\""), "{:?}", sources(&dave));
        assert_eq!((carol.links(), dave.links()), (1, 1));
    });
}
