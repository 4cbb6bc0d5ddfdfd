//! Networks of several daemons: a long line of them, two networks that a machine with two interfaces joins, and one
//! in which a relay makes two machines known to each other that could be linked.

use super::lab::serve::{self, Body};
use super::lab::{Lab, Machine, in_lab, until, wait_for};

/// Daemons in the line.
const LINE_LEN: usize = 12;
/// How long everybody may take to reach everybody else, seconds.
const REACHED_S: u64 = 60;

/// Makes a machine publish a page that says its name, as identity and petname of that name.
fn publishes(machine: &Machine) {
    let name = machine.name();
    machine.service(
        "blog",
        &format!("local = \"127.0.0.1:4001\"\nport = 80\nidentity = \"{name}\"\nsubdomain = \"blog\"\n"),
    );
    serve::web(machine, "127.0.0.1:4001", &[("/", Body::Text(format!("this is {name}\n")))]);
}

/// The ServiceId of the identity that is called as the machine is; makes it.
fn identity(machine: &Machine) -> String {
    machine.tn(&["identity", "create", machine.name()]);
    machine.tn(&["reload"]);
    let shown = machine.json(&["identity", "show", machine.name()]);
    shown["service_id"].as_str().expect("a service id").to_owned()
}

/// Whether a static program on one machine gets the other's page by its name.
fn opens(visitor: &Machine, publisher: &Machine) -> bool {
    let page = format!("http://blog.{}/", publisher.name());
    let said = visitor.run(&["timeout", "20", "busybox", "wget", "-q", "-O", "-", &page]);
    said.code == 0 && said.out == format!("this is {}\n", publisher.name())
}

/// Hops to a node by a ping, where it answers.
fn hops(machine: &Machine, peer: &str) -> Option<u64> {
    let said = machine.tarnet(&["ping", peer, "-c", "1", "--json"]);
    let pong: serde_json::Value = serde_json::from_str(said.out.lines().next()?).ok()?;
    pong["hops"].as_u64()
}

/// Waits until every machine reaches every other; the longest way.
fn all_reach_all(machines: &[&Machine]) -> u64 {
    let ids: Vec<String> = machines.iter().map(|machine| machine.peer_id()).collect();
    let mut longest = 0;
    for (at, machine) in machines.iter().enumerate() {
        for (other, id) in ids.iter().enumerate().filter(|(other, _)| *other != at) {
            let found = wait_for(std::time::Duration::from_secs(REACHED_S), || hops(machine, id));
            let found = found.unwrap_or_else(|| panic!("{} does not reach {}", machine.name(), machines[other].name()));
            longest = longest.max(found);
        }
    }
    longest
}

#[test]
fn a_line_of_twelve_daemons_carries_from_end_to_end() {
    in_lab(|lab| {
        let machines: Vec<Machine> = (0..LINE_LEN).map(|at| lab.machine(&format!("m{at}"))).collect();
        for (n, pair) in (1..).zip(machines.windows(2)) {
            lab.cable(&pair[0], &pair[1], n);
            pair[1].config(&format!("[bootstrap]\nmdns = false\npeers = [\"tcp://10.77.{n}.1:7946\"]\n"));
        }
        machines[0].config("[bootstrap]\nmdns = false\n");
        let (first, last) = (&machines[0], &machines[LINE_LEN - 1]);
        publishes(first);
        machines.iter().for_each(Machine::start);
        let all: Vec<&Machine> = machines.iter().collect();
        assert_eq!(all_reach_all(&all), LINE_LEN as u64 - 1);
        last.tn(&["tns", "set", first.name(), "zone", &identity(first)]);
        until(20, "the far end opens the page", || opens(last, first));
        // A relay in the middle is killed and comes back: the line has no other way.
        machines[LINE_LEN / 2].kill();
        machines[LINE_LEN / 2].start();
        until(30, "the far end opens the page again", || opens(last, first));
    });
}

/// A network of three machines that nobody has told of each other, with addresses of their own.
fn network(lab: &Lab, n: u8, names: [&str; 3], joins: &Machine) -> [Machine; 3] {
    let machines = names.map(|name| lab.machine(name));
    let [a, b, c] = &machines;
    let addresses: Vec<String> = (1..=4).map(|host| format!("10.{}.0.{host}/24", 80 + n)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    lab.lan(n, &[a, b, c, joins], &addresses);
    publishes(a);
    machines.iter().for_each(Machine::start);
    machines.iter().for_each(|machine| {
        machine.tn(&["wait", "--links", "2", "--timeout", "20s"]);
    });
    machines
}

#[test]
fn a_laptop_with_two_interfaces_joins_two_networks() {
    in_lab(|lab| {
        let laptop = lab.machine("laptop");
        let [alice, ann, abe] = network(lab, 1, ["alice", "ann", "abe"], &laptop);
        let [bob, ben, bea] = network(lab, 2, ["bob", "ben", "bea"], &laptop);
        let (to_alice, to_bob) = (identity(&alice), identity(&bob));
        for machine in [&ann, &abe, &ben, &bea] {
            machine.tn(&["tns", "set", "alice", "zone", &to_alice]);
            machine.tn(&["tns", "set", "bob", "zone", &to_bob]);
        }
        until(20, "each network opens its own page", || opens(&ann, &alice) && opens(&ben, &bob));
        assert!(!opens(&ann, &bob), "there is no way to bob yet");
        laptop.start();
        laptop.tn(&["wait", "--links", "6", "--timeout", "30s"]);
        let joined = [&alice, &ann, &abe, &bob, &ben, &bea, &laptop];
        // A route goes by its cost: a link measured while the machine was busy makes the one
        // through a neighbour cheaper, on either side of the laptop.
        assert!((2..=4).contains(&all_reach_all(&joined)));
        until(60, "each opens the other network's page", || {
            [&ben, &bea].iter().all(|machine| opens(machine, &alice))
                && [&ann, &abe].iter().all(|machine| opens(machine, &bob))
        });
        // Without it they are two networks again, and each still opens its own.
        laptop.stop();
        until(30, "there is no way to bob any more", || hops(&ann, &bob.peer_id()).is_none());
        assert!(opens(&ann, &alice) && opens(&ben, &bob));
    });
}

#[test]
fn machines_that_know_each_other_over_a_relay_link_up_where_they_can_be_dialled() {
    in_lab(|lab| {
        let [alice, bob, relay] = ["alice", "bob", "relay"].map(|name| lab.machine(name));
        lab.switch(&[&alice, &bob, &relay], &["203.0.113.1/24", "203.0.113.2/24", "203.0.113.3/24"]);
        let joins = "[bootstrap]\nmdns = false\npeers = [\"tcp://203.0.113.3:7946\"]\n";
        alice.config(&format!("{joins}[transport.tcp]\nadvertise = [\"203.0.113.1:7946\"]\n"));
        bob.config(joins);
        relay.config("[bootstrap]\nmdns = false\n");
        publishes(&alice);
        [&relay, &alice, &bob].into_iter().for_each(Machine::start);
        let (id, to_alice) = (alice.peer_id(), identity(&alice));
        bob.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        bob.tn(&["tns", "set", "alice", "zone", &to_alice]);
        until(20, "bob opens the page", || opens(&bob, &alice));
        until(20, "bob is linked to alice", || hops(&bob, &id) == Some(1));
        // The relay is not needed any more.
        relay.stop();
        until(10, "bob opens the page over the direct link", || opens(&bob, &alice));
    });
}
