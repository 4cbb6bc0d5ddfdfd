//! `tarnet-sim`: flags, one run, its report. Exit: 0 when every pair was reached, 1 when one
//! was not or a check failed, 2 for bad usage.

use std::process::ExitCode;

use clap::Parser;
use tarnet_sim::options::Options;
use tarnet_sim::scenario::Run;
use tarnet_sim::svg;
use tarnet_sim::workload::continuity::{self, Summary};

/// One run.
fn main() -> ExitCode {
    let filter = std::env::var("TARNET_SIM_LOG").ok().and_then(|level| level.parse::<tracing::Level>().ok());
    if let Some(level) = filter {
        tracing_subscriber::fmt().with_max_level(level).without_time().with_writer(std::io::stderr).init();
    }
    let options = Options::parse();
    if let Err(error) = options.check() {
        eprintln!("tarnet-sim: {error}");
        return ExitCode::from(2);
    }
    if let Some(seeds) = options.continuity {
        return continue_all(&options, seeds);
    }
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tarnet-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the kills of many seeds; every one that goes wrong is told with what replays it.
fn continue_all(options: &Options, seeds: u64) -> ExitCode {
    let mut summary = Summary::default();
    for seed in options.seed..options.seed.saturating_add(seeds) {
        let outcome = continuity::run(seed, options.stream_kib * 1024);
        if let Some(error) = &outcome.error {
            eprintln!("tarnet-sim: {error}; replay with --continuity 1 --seed {seed}");
        }
        if options.progress {
            eprintln!("seed {seed}: {} failures, pauses {:?}", outcome.failures, outcome.pauses);
        }
        summary.add(&outcome);
    }
    println!("{summary}");
    if summary.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs, prints and draws; says whether every pair was reached.
fn run(options: Options) -> anyhow::Result<bool> {
    let (json, drawing) = (options.json, options.svg.clone());
    let mut run = Run::new(options);
    let report = run.run();
    if let Some(file) = drawing {
        std::fs::write(&file, svg::draw(&run, report.as_ref().ok()))
            .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    }
    let report = report.map_err(anyhow::Error::msg)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(report.phases.iter().all(|phase| phase.pairs.failed.is_empty()))
}
