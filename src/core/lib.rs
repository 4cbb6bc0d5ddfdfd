//! Tarnet's protocol: every layer a state machine that takes time and input and
//! returns outputs. No sockets, clocks, threads, files or randomness of its own, so
//! that the daemon and the simulator run the same code.
#![forbid(unsafe_code)]

#[cfg(test)]
mod attacks;
pub mod circuit;
pub mod crypto;
mod defence;
pub mod dht;
#[cfg(test)]
mod fuzz;
pub mod link;
pub mod names;
pub mod node;
pub mod rng;
pub mod routing;
pub mod session;
#[cfg(test)]
mod tidy;
pub mod time;
pub mod wire;
