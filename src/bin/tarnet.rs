//! `tarnet`: the command line.

/// Runs the command line.
fn main() -> std::process::ExitCode {
    tarnet_cli::main(tarnet_daemon::command())
}
