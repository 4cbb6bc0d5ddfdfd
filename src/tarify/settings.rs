//! What `tarnet tarify` says through the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The daemon's resolve socket.
pub fn resolve_socket() -> Option<PathBuf> {
    std::env::var_os("TARIFY_RESOLVE").map(PathBuf::from)
}

/// The SOCKS5 proxy; absent in thin mode.
pub fn proxy() -> Option<SocketAddr> {
    std::env::var("TARIFY_SOCKS").ok()?.parse().ok()
}

/// The acting identity: `@` is the one of the calling user.
pub fn identity() -> String {
    std::env::var("TARIFY_IDENTITY").unwrap_or_else(|_| "@".into())
}
