//! `tarnetd`: the daemon.

/// Runs the daemon.
fn main() -> std::process::ExitCode {
    tarnet_daemon::main()
}
