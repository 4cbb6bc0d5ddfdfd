//! Networks of machines in virtual time.

mod hostile;
mod net;
mod network;
mod single;
