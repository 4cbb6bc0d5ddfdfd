//! Nodes behind NATs: whoever can be dialled is, nobody else, and everybody is reached.

use std::time::Duration;

use tarnet_core::node::{Event, Target};
use tarnet_sim::network::{Network, Reach};
use tarnet_sim::scenario::Run;
use tarnet_sim::workload::{names, pairs};

use crate::world::options;

/// Nodes of the line.
const NODES: usize = 24;
/// Time for a direct link to come up once a circuit leads to its peer: its Hello is looked up, then it is dialled.
const DIRECT_TIME: Duration = Duration::from_secs(10);

/// Links of the path from one machine to another.
fn hops(network: &mut Network, from: usize, to: usize) -> u16 {
    let target = Target::Peer(network.hosts()[to].peer);
    let want = network.ping(from, target);
    match names::wait(network, want, Duration::from_secs(21)) {
        Some((_, Event::Pong { hops, .. })) => hops,
        other => panic!("{from} -> {to}: {other:?}"),
    }
}

/// Has one machine keep a channel to another, for a path is moved only where there is something to carry.
fn connect(network: &mut Network, from: usize, to: usize) {
    let name = names::publish(network, to, "nat").expect("a zone takes a record");
    network.run_for(Duration::from_secs(5));
    let want = names::connect(network, from, Target::Name(name));
    let answer = names::wait(network, want, Duration::from_secs(21));
    assert!(matches!(answer, Some((_, Event::Connected { .. }))), "{from} -> {to}: {answer:?}");
}

/// A machine of that class, as far from `from` as there is one.
fn far(network: &Network, reach: Reach, from: usize) -> usize {
    let of = |host: &usize| network.hosts()[*host].reach == reach && host.abs_diff(from) > 1;
    (0..NODES).filter(of).max_by_key(|host| host.abs_diff(from)).expect("a machine of each class")
}

#[test]
fn whoever_can_be_dialled_is_and_all_are_reached() {
    let flags = format!("--topology line --nodes {NODES} --nat 60 --crypto fast --profile small --pairs 0");
    let mut run = Run::new(options(&flags));
    let network = &mut run.network;
    network.run_for(Duration::from_secs(30));
    let behind = (0..NODES).find(|&host| network.hosts()[host].reach == Reach::Behind).expect("a NAT");
    let open = far(network, Reach::Open, behind);
    connect(network, behind, open);
    network.run_for(DIRECT_TIME);
    assert_eq!(hops(network, behind, open), 1, "{behind} dialled {open}");
    let unaware = far(network, Reach::Unaware, behind);
    connect(network, behind, unaware);
    network.run_for(DIRECT_TIME);
    assert!(hops(network, behind, unaware) > 1, "nobody answers where {unaware} says that it is");
    let chosen: Vec<(usize, usize)> = (0..NODES).map(|from| (from, (from + NODES / 2) % NODES)).collect();
    let results = pairs::run(network, &chosen);
    assert!(results.iter().all(|pair| pair.hops.is_some()), "{results:?}");
    network.run_for(DIRECT_TIME);
    let links = network.direct_links();
    assert!(links.iter().all(|[_, to]| network.hosts()[*to].reach == Reach::Open), "{links:?}");
    assert!(links.len() > NODES / 4, "{links:?}");
    assert_eq!(network.cables().len(), NODES - 1, "links that nodes open are no cables");
}
