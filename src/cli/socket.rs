//! Which daemon: `--socket`, `TARNET_SOCKET`, the user's own socket if alive, then the packaged one. Where there is
//! none of them, the user's own: a daemon that is just starting will appear there, and `tarnet wait` waits for it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The packaged service's socket.
const PACKAGED: &str = "/run/tarnet/tarnet.sock";

/// The places of the user's own socket, in order.
fn own_sockets() -> Vec<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = env("XDG_DATA_HOME").or_else(|| env("HOME").map(|home| home.join(".local/share")));
    [env("XDG_RUNTIME_DIR"), state].into_iter().flatten().map(|dir| dir.join("tarnet/tarnet.sock")).collect()
}

/// The socket to talk to.
pub fn find(flag: Option<PathBuf>) -> PathBuf {
    if let Some(path) = flag.or_else(|| std::env::var_os("TARNET_SOCKET").map(PathBuf::from)) {
        return path;
    }
    let own = own_sockets();
    let alive = |path: &Path| UnixStream::connect(path).is_ok();
    let packaged = PathBuf::from(PACKAGED);
    let absent = if packaged.exists() { None } else { own.first().cloned() };
    own.iter().find(|path| alive(path)).cloned().or(absent).unwrap_or(packaged)
}
