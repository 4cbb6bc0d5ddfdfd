//! Networks of machines in virtual time.

#[path = "../../attacks/route.rs"]
mod attacks;
mod hostile;
mod net;
mod network;
mod single;
