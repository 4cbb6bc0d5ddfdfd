//! A network of whole nodes in virtual time. Every node is the one that the daemon runs,
//! [`tarnet_core::node::Node`]; what is emulated is the world around it: the clock, the
//! cables, the connection tasks, the disk. One seed decides everything, so a failure
//! replays to the byte.
//!
//! - [`topology`]: which nodes have cables, and how long these are.
//! - [`network`]: nodes, cables, connections and the queue of what happens next.
//! - [`workload`]: what the nodes are asked to do: pings, transfers, DHT, names.
//! - [`checks`]: what must hold of the whole network, each in a file of its own.
//! - `liars`, `churn`, `halves`: nodes that are taken over, nodes that come and go, networks that part and join.
//! - [`scenario`]: the phases of a run, [`report`]: what it says, [`svg`]: how it looks.
//!
//! Deliberately missing: transports without order, replay and one-way faults.

pub mod checks;
mod churn;
pub mod delays;
mod halves;
mod liars;
pub mod measure;
pub mod network;
pub mod options;
mod progress;
pub mod report;
pub mod scenario;
pub mod svg;
pub mod topology;
pub mod workload;
