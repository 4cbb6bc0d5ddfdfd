//! The command line (INTERFACE.md, "The simulator"). What makes no sense
//! is refused, never ignored.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use tarnet_core::routing;

use crate::network::{Kept, MILLION};
use crate::topology::Kind;

/// Runs a network of real nodes in virtual time.
#[derive(Debug, Clone, Parser)]
#[command(name = "tarnet-sim", version)]
pub struct Options {
    /// The shape of the network.
    #[arg(long, value_enum, default_value = "random")]
    pub topology: Kind,
    /// Nodes.
    #[arg(long, default_value_t = 100)]
    pub nodes: usize,
    /// Decides everything: the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Random pairs that ping each other in every phase.
    #[arg(long, default_value_t = 1000)]
    pub pairs: usize,
    /// Virtual time for the network to settle, in every phase.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub settle: Duration,
    /// The same after a disturbance; as long as `--settle` if not given.
    #[arg(long, value_parser = parse_duration)]
    pub heal: Option<Duration>,
    /// Then lets the network idle so long, and counts what is sent.
    #[arg(long, value_parser = parse_duration)]
    pub idle: Option<Duration>,
    /// What each node keeps: `normal` 64 landmarks and 768 others, `small` 32 and 128.
    #[arg(long, value_enum, default_value = "normal")]
    pub profile: Profile,
    /// The cryptography: real, or a fast stand-in of the same lengths for signatures and chains.
    #[arg(long, value_enum, default_value = "real")]
    pub crypto: Crypto,
    /// Then kills so many percent of the nodes.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub kill: Option<f64>,
    /// Then cuts one cable in twenty, at least one; and mends them again.
    #[arg(long)]
    pub cut: bool,
    /// Then cuts all cables between two halves, lets these settle, and mends one; seeks pairs meanwhile, and names.
    #[arg(long)]
    pub split_merge: bool,
    /// Then makes so many percent of the nodes lie about their distances, and pass nothing on.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub liars: Option<f64>,
    /// Then lets nodes come and go, living so long in the median.
    #[arg(long, value_name = "MEDIAN", value_parser = parse_duration)]
    pub churn: Option<Duration>,
    /// Then loses so many percent of all segments below the links.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub loss: Option<f64>,
    /// Puts and gets content in every phase.
    #[arg(long)]
    pub dht: bool,
    /// Then makes so many percent of the nodes lie as storers.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub dht_liars: Option<f64>,
    /// Puts so many percent of the nodes behind NATs; the others say where they can be dialled, and are.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub nat: Option<f64>,
    /// Instead of all that: moves 16 streams while what lies between is killed, stopped and cut, once for each of so
    /// many seeds from `--seed` on.
    #[arg(long, value_name = "SEEDS")]
    pub continuity: Option<u64>,
    /// KiB of each of these streams.
    #[arg(long, value_name = "KIB", default_value_t = 1024)]
    pub stream_kib: u64,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Ends the run with an error when it needs more memory than so many MiB.
    #[arg(long, value_name = "MIB")]
    pub memory_max: Option<u64>,
    /// Draws the network: links, landmarks, failed pairs in red, and the figures of the last phase.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Says on stderr how far it is.
    #[arg(long)]
    pub progress: bool,
}

/// What each node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// What a small machine would keep.
    Small,
    /// What the daemon keeps.
    Normal,
    /// Routing alone.
    Routing,
}

impl Profile {
    /// What each node keeps and does.
    #[must_use]
    pub fn kept(self) -> Kept {
        Kept { limits: self.limits(), dht: self != Self::Routing }
    }

    /// Routing's bounds.
    #[must_use]
    pub fn limits(self) -> routing::Limits {
        match self {
            Self::Normal => routing::Limits::default(),
            Self::Small | Self::Routing => routing::Limits::small(),
        }
    }
}

/// The cryptography.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Crypto {
    /// As it ships.
    Real,
    /// Keyed hashes in place of signatures, for large networks.
    Fast,
}

impl Options {
    /// Refuses what cannot be done.
    ///
    /// # Errors
    /// What makes no sense.
    pub fn check(&self) -> Result<()> {
        let needs = [
            (self.dht, "--dht"),
            (self.dht_liars.is_some(), "--dht-liars"),
            (self.churn.is_some(), "--churn"),
            (self.nat.is_some(), "--nat"),
        ];
        for (asked, what) in needs {
            if asked && self.profile == Profile::Routing {
                bail!("{what}: the routing profile has no DHT");
            }
        }
        if self.nodes < 2 {
            bail!("--nodes: at least 2");
        }
        Ok(())
    }
}

/// Percent as parts of a million.
#[must_use]
pub fn ppm(percent: f64) -> u32 {
    let parts = (percent.clamp(0.0, 100.0) * f64::from(MILLION) / 100.0).round();
    // Text is the one conversion that neither truncates nor wraps.
    format!("{parts:.0}").parse().unwrap_or(MILLION)
}

/// A number from 0 to 100.
fn parse_percent(text: &str) -> Result<f64> {
    let percent: f64 = text.trim_end_matches('%').parse().context("not a number")?;
    if !(0.0..=100.0).contains(&percent) {
        bail!("not between 0 and 100");
    }
    Ok(percent)
}

/// A number with a unit: `500ms`, `60s`, `5m`, `2h`.
fn parse_duration(text: &str) -> Result<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).context("a unit is missing: ms, s, m, h")?;
    let number: u64 = text[..split].parse().context("not a number")?;
    let unit_ms = match &text[split..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => bail!("unknown unit {other:?}: ms, s, m, h"),
    };
    Ok(Duration::from_millis(number.checked_mul(unit_ms).context("too long")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("1500ms").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("2h").unwrap(), Duration::from_secs(7200));
        for bad in ["60", "s", "5d", "-1s", ""] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percents_have_bounds() {
        assert_eq!(ppm(parse_percent("2.5").unwrap()), 25_000);
        assert!(parse_percent("101").is_err() && parse_percent("x").is_err() && parse_percent("NaN").is_err());
    }

    #[test]
    fn what_needs_a_dht_is_refused_without_one() {
        for flags in [&["--dht"][..], &["--churn", "5m"], &["--dht-liars", "5"], &["--nat", "50"]] {
            let all = ["tarnet-sim", "--profile", "routing"].into_iter().chain(flags.iter().copied());
            let error = Options::try_parse_from(all).unwrap().check().unwrap_err().to_string();
            assert!(error.starts_with(flags[0]), "{error}");
            let all = ["tarnet-sim"].into_iter().chain(flags.iter().copied());
            Options::try_parse_from(all).unwrap().check().unwrap();
        }
    }
}
