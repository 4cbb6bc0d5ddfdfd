//! `tarnet doctor`: what the daemon sees of itself, and what only the caller can see: whether
//! the socket opens, whether the host's resolver leads to us, whether the unit is whole. One
//! line each: `ok`, `warn` or `FAIL`, what, and what mends it.

mod resolver;
mod switch;
mod unit;

use std::path::Path;

use tarnet_api::{Check, Diagnosis, Error, Examination, Health, room};

use crate::commands::Session;
use crate::output::{CliError, show};

/// The packaged service's state.
const STATE: &str = "/var/lib/tarnet";
/// Columns of a check's name.
const NAME_WIDTH: usize = 18;

/// Looks at everything, prints it, and fails when something is not well.
pub async fn run(session: &Session) -> Result<(), CliError> {
    let mut checks = Vec::new();
    match session.client.get::<Examination>("/v1/doctor").await {
        Ok(seen) => {
            checks.push(Check::ok("control socket", session.client.socket().display().to_string()));
            checks.extend(seen.checks.iter().cloned());
            checks.extend(resolver::look(&seen).await);
        }
        Err(error) => {
            checks.push(unanswered(session, &error));
            // A full disk is what most often keeps a daemon from starting.
            checks.extend(Path::new(STATE).exists().then(|| room(Path::new(STATE))));
        }
    }
    checks.push(switch::look());
    checks.push(unit::look(session.client.socket()).await);
    let diagnosis = Diagnosis { well: checks.iter().all(|check| check.state == Health::Ok), checks };
    show(session.json, &diagnosis, |diagnosis| diagnosis.checks.iter().for_each(print))?;
    if diagnosis.well {
        return Ok(());
    }
    let ill = diagnosis.checks.iter().filter(|check| check.state != Health::Ok).count();
    let what = format!("{ill} of {} checks are not well", diagnosis.checks.len());
    Err(CliError::Refused(what, "each line says what mends it".into()))
}

/// A daemon that does not answer, or not us.
fn unanswered(session: &Session, error: &Error) -> Check {
    let mend = match error {
        Error::NoDaemon { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "join the group that owns it: usermod -aG tarnet USER, then log in again"
        }
        Error::NoDaemon { .. } => {
            "start it: systemctl start tarnetd, or tarnetd; or name its socket with --socket; its log says why it ended"
        }
        other => other.hint(),
    };
    Check::fail("control socket", format!("{}: {error}", session.client.socket().display()), mend)
}

/// One line.
fn print(check: &Check) {
    let state = match check.state {
        Health::Ok => "ok",
        Health::Warn => "warn",
        Health::Fail => "FAIL",
    };
    let mend = if check.mend.is_empty() { String::new() } else { format!("; mend: {}", check.mend) };
    println!("{state:<4} {:<NAME_WIDTH$} {}{mend}", check.name, check.detail);
}
