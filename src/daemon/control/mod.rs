//! The control socket: HTTP/1.1 over a Unix socket, JSON bodies. `GET` reads,
//! `POST`/`PUT`/`DELETE` change, `listen` and `connect` upgrade to a byte stream.
//!
//! Whoever may open the socket (mode 0660) is checked once more by uid: root and the
//! daemon's own user see everything, others what is theirs (`guard`). Bounds: [`CONNECTIONS_MAX`]
//! connections at once, [`BODY_LEN_MAX`] bytes of body, [`HEAD_TIME_MAX`] for a head.

mod answer;
mod bench;
mod dht;
mod doctor;
mod guard;
mod identity;
mod metrics;
mod pipe;
mod route;
mod target;
mod zone;

pub use bench::serve as serve_bench;
pub use target::parse as parse_target;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tarnet_api as api;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::callers::{Caller, Callers};
use crate::doctor::Doctor;
use crate::handle::NodeHandle;

/// Connections served at once; others wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 1024;

/// Bytes of the largest request body: records and content blocks are far smaller.
const BODY_LEN_MAX: usize = 1024 * 1024;

/// Time for a client to send the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// What the daemon's shell knows that the node does not.
pub trait Shell: Send + Sync + 'static {
    /// Fills in TUN, DNS, flows and process.
    fn complete(&self, status: &mut api::Status);
    /// How this host resolves names, and why.
    fn dns(&self) -> api::DnsStatus;
    /// A zone of ours was changed. Returns when the host's resolver knows, or soon.
    fn zone_changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// The services that `expose` serves.
    fn services(&self) -> Vec<api::Service>;
    /// Where the file of a service of this name and text belongs; else why it would not be understood there.
    ///
    /// # Errors
    /// Nothing is exposed, or the text is wrong.
    fn service_place(&self, name: &str, text: &str) -> Result<std::path::PathBuf, String>;
    /// An identity was made: services that waited for it try again. Returns when they have, or soon.
    fn identity_made(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Asks the shell to read its files again; the answer is the warnings.
pub type Reload = mpsc::Sender<oneshot::Sender<Vec<String>>>;

/// What every request needs.
#[derive(Clone)]
pub struct Context {
    /// The node.
    pub node: NodeHandle,
    /// The shell.
    pub shell: Arc<dyn Shell>,
    /// Where reloads go.
    pub reload: Reload,
    /// The host's own search domains, which petnames must not shadow.
    pub search_domains: Vec<String>,
    /// What `tarnet doctor` looks at.
    pub doctor: Arc<Doctor>,
    /// Who may be whom.
    pub callers: Arc<Callers>,
    /// Who asks; set for each connection.
    pub caller: Caller,
}

/// The listening socket; its file is removed on drop.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens on `path`, mode 0660. A socket that nobody answers on is replaced.
    ///
    /// # Errors
    /// The path is in use by a living daemon, or cannot be written.
    pub fn bind(path: &Path) -> std::io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "another daemon answers there"));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until `stop` changes or its sender is gone, then lets open requests end by themselves.
    pub async fn serve(self, context: Arc<Context>, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors: the next accept would fail at once, too.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let context = Arc::clone(&context);
            tokio::spawn(async move {
                connection(stream, context).await;
                drop(place);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves one connection.
async fn connection(stream: UnixStream, context: Arc<Context>) {
    let uid = stream.peer_cred().ok().map(|caller| caller.uid());
    let context = Arc::new(Context { caller: context.callers.of(uid), ..Context::clone(&context) });
    let service = service_fn(move |request| {
        let context = Arc::clone(&context);
        async move { Ok::<_, std::convert::Infallible>(route::answer(&context, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "control connection ended");
    }
}
