//! The control socket's objects and its client, shared by the daemon and the command line.
//! Every object is documented in the contract of the programs; fields are only ever added.

mod client;
mod doctor;
mod requests;
mod types;

pub use client::{Client, Error, segment, unsegment};
pub use doctor::{Check, Diagnosis, Examination, Health, room};
pub use hyper::Method;
pub use requests::*;
pub use types::*;
