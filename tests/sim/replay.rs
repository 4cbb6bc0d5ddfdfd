//! The same seed gives the same run, to the byte; another seed another run.

use tarnet_sim::report::Report;
use tarnet_sim::scenario::Run;

use crate::world::options;

/// The report of a run with every disturbance, without what depends on this machine.
fn report(seed: u64) -> (String, u64) {
    let flags = "--topology internet --nodes 14 --pairs 40 --settle 15s --kill 10 --cut --split-merge --loss 2 --dht";
    let mut run = Run::new(options(&format!("{flags} --seed {seed}")));
    let report = Report { wall_s: 0.0, peak_rss_bytes: 0, ..run.run().expect("all checks hold") };
    (serde_json::to_string(&report).expect("numbers and text"), run.network.happenings())
}

#[test]
fn same_seed_same_run() {
    let first = report(7);
    assert_eq!(first, report(7));
    assert_ne!(first.0, report(8).0);
}
