//! The resolve socket: whoever may open it asks about one name per connection, a line each
//! way, for the shim and for name service modules. `IDENTITY NAME` is answered by
//! `addr V4 V6` (either may be `-`), `name` (it exists and has no address here), `none` (not a
//! name of ours), `gone` (ours, and does not exist) or `fail`.
//!
//! Callers other than root and the daemon's user are answered as the TUN's identity only.
//! Bounds: [`CONNECTIONS_MAX`] at once, [`LINE_LEN_MAX`] bytes, [`TIME_MAX`] each.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::handle::{NodeHandle, ResolveError};
use crate::tun::book::AddressBook;

/// Callers served at once; others wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 256;

/// Bytes of the longest question: an identity's name and a name.
const LINE_LEN_MAX: u64 = 512;

/// Time for a question and its answer.
const TIME_MAX: Duration = Duration::from_secs(6);

/// The socket; its file is removed on drop.
pub struct ResolveSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// What an answer needs.
pub struct Resolver {
    /// The node.
    pub node: NodeHandle,
    /// Addresses of names, where the TUN is up.
    pub book: Option<AddressBook>,
    /// The identity that every caller may ask as.
    pub shared_identity: String,
}

impl ResolveSocket {
    /// Listens on `path`, mode 0666.
    ///
    /// # Errors
    /// The path cannot be written.
    pub fn bind(path: &Path) -> std::io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until `stop` changes.
    pub async fn serve(self, resolver: Arc<Resolver>, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move {
                let _ = tokio::time::timeout(TIME_MAX, serve_one(stream, &resolver)).await;
                drop(place);
            });
        }
    }
}

impl Drop for ResolveSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One question and its answer.
async fn serve_one(mut stream: UnixStream, resolver: &Resolver) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let trusted = uid == 0 || uid == nix::unistd::geteuid().as_raw();
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(LINE_LEN_MAX)).read_line(&mut line).await?;
    let answer = match line.trim_end().split_once(' ') {
        Some((identity, name)) if trusted || identity == resolver.shared_identity => {
            resolver.answer(identity, name).await
        }
        _ => "fail".into(),
    };
    writing.write_all(format!("{answer}\n").as_bytes()).await
}

impl Resolver {
    /// What is known of a name, as one of our identities.
    async fn answer(&self, identity: &str, name: &str) -> String {
        match self.node.resolve(identity, name).await {
            Ok(resolved) if resolved.service.is_some() => self.addresses(&resolved.name).await,
            Ok(_) => "gone".into(),
            Err(ResolveError::NoSuchName) => self.absent(identity, name).await.into(),
            Err(ResolveError::BadName) => "none".into(),
            Err(
                ResolveError::UnknownIdentity | ResolveError::Loop | ResolveError::Timeout | ResolveError::Stopping,
            ) => "fail".into(),
        }
    }

    /// Whether a name that does not exist would be ours: its last label leads somewhere, or its form is ours.
    async fn absent(&self, identity: &str, name: &str) -> &'static str {
        let plain = name.trim_end_matches('.');
        if plain.ends_with(".alt") {
            return "gone";
        }
        match plain.rsplit_once('.') {
            Some((_, last)) if self.node.resolve(identity, last).await.is_ok() => "gone",
            _ => "none",
        }
    }

    /// The addresses of a name that exists.
    async fn addresses(&self, name: &str) -> String {
        let Some(book) = &self.book else { return "name".into() };
        match book.assign(name).await {
            Ok(slot) => {
                let addresses = book.addresses();
                format!("addr {} {}", addresses.v4(slot), addresses.v6(slot))
            }
            Err(_) => "fail".into(),
        }
    }
}
