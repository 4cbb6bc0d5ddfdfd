//! The async shell around one node: sockets, TUN, DNS, files and the control socket.

pub mod admin;
pub mod channel;
pub mod config;
pub mod dns;
pub mod expose;
pub mod handle;
pub mod pump;
pub mod socks;
pub mod store;
pub mod transport;
pub mod tun;
