//! Nodes that lie, and nodes that come and go, in small: tarnet-sim has the figures of large networks.

use std::time::Duration;

use tarnet_sim::network::Lie;
use tarnet_sim::options::Profile;
use tarnet_sim::scenario::Run;
use tarnet_sim::topology::Kind;
use tarnet_sim::workload::{content, pairs};

use crate::world::{World, options};

/// A twentieth claims the best it can and drops everything: who is connected by honest nodes reaches each other.
#[test]
fn routers_that_lie_cut_nobody_off() {
    let mut world = World::of(Kind::Internet, 80, Profile::Normal.kept());
    world.settle_for(Duration::from_secs(20), Duration::from_secs(1));
    for host in [9, 31, 47, 70] {
        world.network.turn(host, Lie::Router);
    }
    world.settle_for(Duration::from_secs(60), Duration::from_secs(1));
    let chosen = pairs::choose(&world.network, 100, &mut world.rng);
    assert!(chosen.iter().all(|(from, to)| world.network.forwards(*from) && world.network.forwards(*to)));
    let results = pairs::run(&mut world.network, &chosen);
    let failed: Vec<_> = results.iter().filter(|pair| pair.hops.is_none()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// A tenth drops, denies or forges: values are found, and none that nobody put.
#[test]
fn storers_that_lie_hide_nothing() {
    let mut world = World::new(Kind::Random, 40);
    world.settle_for(Duration::from_secs(15), Duration::from_secs(1));
    for (host, lie) in [(5, Lie::Silent), (17, Lie::Denier), (23, Lie::Forger), (36, Lie::Forger)] {
        world.network.turn(host, lie);
    }
    world.settle_for(Duration::from_secs(20), Duration::from_secs(1));
    let outcome = content::run(&mut world.network, &mut world.rng);
    assert_eq!((outcome.asked, outcome.forged), (36, 0));
    assert!(outcome.found >= 35, "{:?}", outcome.failed);
}

/// The report has a phase for each, with what it says of the DHT.
#[test]
fn a_run_has_a_phase_for_each_kind_of_hostility() {
    let flags = "--nodes 12 --pairs 10 --settle 5s --liars 10 --dht-liars 10 --churn 1m --heal 5m --crypto fast";
    let report = Run::new(options(flags)).run().expect("nothing loops");
    let names: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["cold", "liars", "dht-liars", "churn"]);
    let [_, liars, storers, churn] = &report.phases[..] else { panic!("four phases") };
    assert!(liars.noise.is_some() && liars.dht.is_none());
    assert!(storers.dht.as_ref().is_some_and(|dht| dht.put > 0 && dht.forged == 0));
    assert!(churn.dht.as_ref().is_some_and(|dht| dht.asked > 0 && dht.forged == 0));
}
