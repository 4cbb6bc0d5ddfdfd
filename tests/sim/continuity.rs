//! Relays killed and stopped, cables cut, connections reset under 16 streams: a pause, never a lost byte.
//! `TARNET_SIM_SEEDS` sets how many seeds (default 60); `tarnet-sim --continuity 10000` is the long form.

use std::time::Duration;

use tarnet_sim::workload::continuity::{Summary, run};

use crate::world::Seed;

/// Bytes of each stream.
const LEN: u64 = 1536 * 1024;

#[test]
fn sixteen_streams_survive_whatever_leaves_a_way() {
    let seeds = std::env::var("TARNET_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let first = Seed::get();
    let mut summary = Summary::default();
    for seed in first.0..first.0 + seeds {
        let outcome = run(seed, LEN);
        assert_eq!(outcome.error, None, "replay with TARNET_SIM_SEED={seed} TARNET_SIM_SEEDS=1");
        summary.add(&outcome);
    }
    println!("{summary}");
    assert!(summary.failures > 100, "{summary}");
    assert!(summary.felt(50) < Duration::from_secs(1), "{summary}");
    assert!(summary.pause(99) < Duration::from_secs(5), "{summary}");
}
