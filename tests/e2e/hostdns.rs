//! The host's own resolver: every program has names, other names are as before, what was there
//! comes back, and no name of ours reaches the network's DNS server.

mod files;
mod host;
mod packages;
mod resolved;
