//! The `tarnet` command line: arguments in, the control socket's answers out. It uses
//! nothing but the control socket, so whatever it can do, a script can.

mod args;
mod commands;
mod dht;
mod doctor;
mod expose;
mod identity;
mod manual;
mod output;
mod pipe;
mod socket;
mod status;
mod tarify;
mod tns;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::output::CliError;

/// Runs the program: parses the arguments, talks to the daemon, prints. Exit codes: 0 done, 1 refused or
/// failed, 2 usage, 3 no daemon, 4 not found, 5 timed out. `daemon` is the command line of `tarnetd`, for its manual
/// page and completions alone.
#[must_use]
pub fn main(daemon: clap::Command) -> ExitCode {
    let args = Args::parse();
    if !matches!(args.command, Command::Connect { .. } | Command::Listen { .. }) {
        default_sigpipe();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::Failed(format!("cannot start: {error}")).report(),
    };
    match runtime.block_on(commands::run(args, daemon)) {
        Ok(()) => exit(&runtime, ExitCode::SUCCESS),
        Err(error) => exit(&runtime, error.report()),
    }
}

/// Ends quietly, as other programs do, when the reader of a pipe is gone (`tarnet status | head -1`); also what a
/// program under `tarify` expects to inherit. Not for pipes of our own, which tell a broken pipe themselves.
fn default_sigpipe() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler of ours is installed, and no other thread runs yet.
    #[allow(unsafe_code)]
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
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
