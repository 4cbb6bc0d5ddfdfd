//! The `tarnet` command line: arguments in, the control socket's answers out. It uses
//! nothing but the control socket, so whatever it can do, a script can.

mod args;
mod commands;
mod dht;
mod identity;
mod output;
mod pipe;
mod socket;
mod status;
mod tarify;
mod tns;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::output::CliError;

/// Runs the program: parses the arguments, talks to the daemon, prints. Exit codes: 0 done, 1 refused or
/// failed, 2 usage, 3 no daemon, 4 not found, 5 timed out.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::Failed(format!("cannot start: {error}")).report(),
    };
    match runtime.block_on(commands::run(args)) {
        Ok(()) => exit(&runtime, ExitCode::SUCCESS),
        Err(error) => exit(&runtime, error.report()),
    }
}

/// Flushes standard output. A blocked read of standard input must not keep the process alive, so the
/// runtime is not waited for.
fn exit(_runtime: &tokio::runtime::Runtime, code: ExitCode) -> ExitCode {
    use std::io::Write;
    if std::io::stdout().flush().is_err() {
        return ExitCode::FAILURE;
    }
    code
}
