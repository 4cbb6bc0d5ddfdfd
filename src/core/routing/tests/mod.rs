//! Networks of machines in virtual time.

#[path = "../../attacks/route.rs"]
mod attacks;
mod far;
mod hostile;
mod loops;
mod net;
mod network;
mod single;
