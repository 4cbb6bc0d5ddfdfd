//! `tarnet-sim`: flags, one run, its report. Exit: 0 when every pair was reached, 1 when one
//! was not or a check failed, 2 for bad usage.

use std::process::ExitCode;

use clap::Parser;
use tarnet_sim::options::Options;
use tarnet_sim::scenario::Run;
use tarnet_sim::svg;

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
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tarnet-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs, prints and draws; says whether every pair was reached.
fn run(options: Options) -> anyhow::Result<bool> {
    let (json, drawing) = (options.json, options.svg.clone());
    let mut run = Run::new(options);
    let report = run.run();
    if let Some(file) = drawing {
        std::fs::write(&file, svg::draw(&run)).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    }
    let report = report.map_err(anyhow::Error::msg)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(report.phases.iter().all(|phase| phase.pairs.failed.is_empty()))
}
