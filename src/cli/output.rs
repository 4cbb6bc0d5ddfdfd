//! How results and errors reach the user: text or JSON on stdout, one line of error and
//! one of hint on stderr, and the exit code.

use std::process::ExitCode;

use serde::Serialize;
use tarnet_api::Error;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The control socket said so.
    #[error(transparent)]
    Api(#[from] Error),
    /// The condition did not come true in time.
    #[error("{0}")]
    TimedOut(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense as typed.
    #[error("{0}")]
    Usage(String),
    /// It failed, with a hint on what to do.
    #[error("{0}")]
    Refused(String, String),
    /// A file or pipe failed.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// What usually helps, where nobody knows better.
    fn usual_hint(&self) -> &'static str {
        match self {
            Self::Api(Error::NoDaemon { .. }) => "start it with `tarnetd`, or name its socket with --socket",
            Self::Api(Error::NotFound(_)) | Self::NotFound(_) => {
                "what there is: `tarnet identity list`, `tarnet tns list`, `tarnet peers list`, `tarnet expose list`"
            }
            Self::Api(Error::TimedOut(_)) | Self::TimedOut(_) => {
                "`tarnet status` and `tarnet peers list` show whether this node is linked at all"
            }
            Self::Api(Error::Usage(_)) | Self::Usage(_) => "`tarnet help COMMAND` shows how it is typed",
            Self::Api(Error::Refused(_) | Error::Broken(_)) | Self::Refused(..) | Self::Failed(_) => {
                "the daemon's log may say more"
            }
        }
    }

    /// Prints the error, a hint, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("tarnet: {self}");
        let hint = match self {
            Self::Api(error) => error.hint(),
            Self::Refused(_, hint) => hint,
            Self::TimedOut(_) | Self::NotFound(_) | Self::Usage(_) | Self::Failed(_) => "",
        };
        eprintln!("hint: {}", if hint.is_empty() { self.usual_hint() } else { hint });
        ExitCode::from(match self {
            Self::Api(Error::NoDaemon { .. }) => 3,
            Self::Api(Error::NotFound(_)) | Self::NotFound(_) => 4,
            Self::Api(Error::TimedOut(_)) | Self::TimedOut(_) => 5,
            Self::Api(Error::Usage(_)) | Self::Usage(_) => 2,
            Self::Api(Error::Refused(_) | Error::Broken(_)) | Self::Refused(..) | Self::Failed(_) => 1,
        })
    }
}

/// Prints JSON on one line.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::Failed(error.to_string()))?;
    println!("{text}");
    Ok(())
}

/// Prints `value` as JSON when asked, else through `text`.
pub fn show<T: Serialize>(as_json: bool, value: &T, text: impl FnOnce(&T)) -> Result<(), CliError> {
    if as_json {
        return json(value);
    }
    text(value);
    Ok(())
}

/// Prints rows in columns as wide as their widest cell.
pub fn table(heads: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(&mut heads.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

/// A number of bytes for people.
#[allow(clippy::cast_precision_loss)]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
