//! How far a run is, for whoever waits: a bar with the time that is left, on a terminal one line that changes, else a
//! line for every tenth. It looks at the clock on the wall, and decides nothing.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::workload::{content, pairs};

/// Characters of the bar.
const WIDTH: u32 = 30;
/// Steps of a bar on no terminal.
const STEPS: u32 = 10;
/// The bar is drawn again after this, at the earliest.
const REDRAW: Duration = Duration::from_millis(500);

/// The bar of a run.
pub(crate) struct Progress {
    begun: Instant,
    drawn: Option<Instant>,
    /// Virtual time of the whole run, about.
    planned: Duration,
    terminal: bool,
    told: u32,
}

impl Progress {
    /// Begins with a run; `None` if nobody wants to know.
    pub(crate) fn new(options: &Options) -> Option<Self> {
        let planned = planned(options);
        let terminal = std::io::stderr().is_terminal();
        options.progress.then(|| Self { begun: Instant::now(), drawn: None, planned, terminal, told: 0 })
    }

    /// It is so late in virtual time, in that phase.
    pub(crate) fn at(&mut self, phase: &str, time: Duration) {
        let part = (time.as_secs_f64() / self.planned.as_secs_f64().max(1e-6)).min(1.0);
        if self.terminal && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            eprint!("\r\x1b[K{}", line(phase, part, self.begun.elapsed()));
            let _ = std::io::stderr().flush();
        }
        let steps = count(part, STEPS);
        if !self.terminal && steps > self.told {
            self.told = steps;
            eprintln!("{}", line(phase, part, self.begun.elapsed()));
        }
    }

    /// A line of its own.
    pub(crate) fn say(&self, text: &str) {
        eprintln!("{}{text}", if self.terminal { "\r\x1b[K" } else { "" });
    }
}

/// The bar: how much is done, and how long the rest will take if it goes on like that.
fn line(phase: &str, part: f64, elapsed: Duration) -> String {
    let full = count(part, WIDTH);
    let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    let left = elapsed.as_secs_f64() * (1.0 - part) / part.max(1e-6);
    let left = if part < 0.01 { "?".to_owned() } else { minutes(Duration::from_secs_f64(left)) };
    format!("{phase:<12} [{bar}] {:3.0} %  {} gone, {left} left", part * 100.0, minutes(elapsed))
}

/// So many of `all` parts.
fn count(part: f64, all: u32) -> u32 {
    (0..=all).rev().find(|count| f64::from(*count) <= part * f64::from(all)).unwrap_or(0)
}

/// Minutes and seconds.
fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// Virtual time that a run will take, about: waiting for the last answers is not counted.
fn planned(options: &Options) -> Duration {
    let heal = options.heal.unwrap_or(options.settle);
    let pairs = pairs::time_of(options.pairs);
    let values = if options.dht { content::time_of(options.nodes) } else { Duration::ZERO };
    let phase = |settle: Duration| settle + pairs + values;
    let more = [options.kill.is_some(), options.cut, options.cut, options.loss.is_some()].into_iter();
    let more = more.chain([options.liars.is_some(), options.dht_liars.is_some()]).filter(|asked| *asked).count();
    let mut time = phase(options.settle) + phase(heal) * u32::try_from(more).unwrap_or(0);
    time += options.idle.map_or(Duration::ZERO, phase);
    time += options.liars.map_or(Duration::ZERO, |_| heal);
    if options.split_merge {
        time += phase(options.settle) + phase(heal);
    }
    time + options.churn.map_or(Duration::ZERO, |median| options.heal.unwrap_or(median * 2) + phase(heal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn what_is_left_follows_from_what_is_done() {
        let text = line("cold", 0.25, Duration::from_secs(60));
        assert!(text.contains("[#######.......................]  25 %"), "{text}");
        assert!(text.ends_with("1:00 gone, 3:00 left"), "{text}");
        assert!(line("cold", 0.0, Duration::ZERO).ends_with("? left"));
    }

    #[test]
    fn every_phase_asked_for_takes_its_time() {
        let time = |flags: &str| planned(&Options::parse_from(format!("tarnet-sim --pairs 0 {flags}").split(' ')));
        assert_eq!(time("--settle 60s").as_secs(), 60);
        assert_eq!(time("--settle 60s --heal 10s --cut --kill 5 --liars 5").as_secs(), 60 + 4 * 10 + 10);
        assert_eq!(time("--settle 60s --churn 10m").as_secs(), 60 + 1200 + 60);
    }
}
