//! Types of the control socket, shared by the daemon and the command line.
//! Every object is documented in the contract of the programs; fields are only ever added.

mod types;

pub use types::*;
