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
pub mod handle;
mod memory;
mod notify;
mod peers;
pub mod pump;
mod records;
mod resolve;
mod run;
mod shell;
pub mod socks;
mod start;
pub mod store;
pub mod transport;
pub mod tun;

pub use run::main;

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
