//! The async shell around one node: sockets, TUN, DNS, files and the control socket.

pub mod admin;
mod banner;
pub mod callers;
pub mod channel;
pub mod config;
pub mod control;
pub mod dns;
pub mod doctor;
pub mod engine;
pub mod expose;
#[cfg(test)]
mod fuzz;
pub mod guard;
pub mod handle;
mod lookout;
mod memory;
mod notify;
mod peers;
pub mod pump;
mod records;
mod resolve;
mod run;
mod runtime;
mod shell;
pub mod socks;
mod start;
pub mod store;
pub mod transport;
pub mod tun;

pub use run::main;

/// What the manual says beside the options.
const PLACES: &str = "\
Settings are read from tarnetd.toml and services from services.d/*.toml, of the packaged service in /etc/tarnet, of a \
user's daemon in $XDG_CONFIG_HOME/tarnet. Keys, zones, known peers and addresses are kept in /var/lib/tarnet, or \
$XDG_DATA_HOME/tarnet. The control socket is /run/tarnet/tarnet.sock, or $XDG_RUNTIME_DIR/tarnet/tarnet.sock.

Each setting may also come from the environment: TARNET_ with section and key in capitals. A flag wins over the \
environment, the environment over the file.

SIGHUP reads services again, as `tarnet reload` does; SIGTERM and SIGINT stop the daemon cleanly.

Exit status: 0 stopped or done; 1 failed; 2 usage or settings.";

/// The command line of `tarnetd`, for its manual page and completions.
#[must_use]
pub fn command() -> clap::Command {
    <config::Flags as clap::CommandFactory>::command().after_long_help(PLACES)
}

/// A seed for a node's or a key's generator, from the operating system.
///
/// # Panics
/// When the operating system has no randomness: nothing safe can be done then.
#[must_use]
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the operating system gives randomness");
    seed
}
