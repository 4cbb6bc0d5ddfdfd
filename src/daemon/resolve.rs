//! The resolve socket: whoever may open it asks one question per connection, a line each
//! way, for the shim and for name service modules. The daemon knows the caller by its uid.
//!
//! | question | answer |
//! | --- | --- |
//! | `IDENTITY NAME` | `addr V4 V6` (either may be `-`), `name` (it exists and has no address here), `none` (not a name of ours), `gone` (ours, and does not exist), `fail` (ours, and could not be looked up) |
//! | `IDENTITY addr ADDRESS` | `ptr NAME`, `none` (not an address of ours), `gone` (ours, and the caller knows no name of it) |
//! | `self` | `self UNNAMED FLOWS SOCKS`: the identity that the caller acts as, the one of its flows through the TUN (`-` without TUN), and the address of the SOCKS5 proxy (`-` without) |
//!
//! `IDENTITY` is `@` for the caller's own; one that the caller may not act as, and a line that
//! is no question, is answered by `none`. A name that is not ours is answered without asking
//! anybody: its last label is not of the caller's zone. Bounds: [`CONNECTIONS_MAX`] at once,
//! [`LINE_LEN_MAX`] bytes, [`TIME_MAX`] each.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};

use tarnet_core::crypto::ServiceId;

use crate::admin::AdminCall;
use crate::callers::{Caller, Callers};
use crate::handle::{NodeHandle, ResolveError};
use crate::tun::address::{SLOT_DNS, Slot};
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
    /// Whether the TUN has IPv6.
    pub ipv6: bool,
    /// Who may be whom.
    pub callers: Arc<Callers>,
    /// Addresses of the SOCKS5 proxy.
    pub socks: Vec<String>,
    /// The suffix of names that are ours alone, in lower case, without dots around.
    pub suffix: String,
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

    /// Serves until `stop` changes. `answer` gives the line for a user's number and his question.
    pub async fn serve<A, F>(self, answer: A, mut stop: watch::Receiver<bool>)
    where
        A: Fn(u32, String) -> F + Clone + Send + 'static,
        F: Future<Output = Option<String>> + Send,
    {
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
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(TIME_MAX, serve_one(stream, answer)).await;
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

/// One question and its answer. A daemon that is stopping says nothing.
async fn serve_one<F>(mut stream: UnixStream, answer: impl Fn(u32, String) -> F) -> std::io::Result<()>
where
    F: Future<Output = Option<String>>,
{
    let user = stream.peer_cred()?.uid();
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(LINE_LEN_MAX)).read_line(&mut line).await?;
    match answer(user, line.trim_end().to_owned()).await {
        Some(answer) => writing.write_all(format!("{answer}\n").as_bytes()).await,
        None => Ok(()),
    }
}

impl Resolver {
    /// Serves a socket until `stop` changes.
    pub async fn serve(self, socket: ResolveSocket, stop: watch::Receiver<bool>) {
        let resolver = Arc::new(self);
        let answer = move |user: u32, line: String| {
            let resolver = Arc::clone(&resolver);
            async move { resolver.answer(&resolver.callers.of(Some(user)), &line).await }
        };
        socket.serve(answer, stop).await;
    }

    /// The answer to a line; `None` when there is none to be had any more.
    async fn answer(&self, caller: &Caller, line: &str) -> Option<String> {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["self"] => Some(self.about(caller)),
            [identity, "addr", address] => {
                let acting = caller.acting(Some(identity));
                Some(acting.map_or_else(|| "none".into(), |acting| self.pointer(acting, address)))
            }
            [identity, name] => match caller.acting(Some(identity)) {
                Some(acting) => self.name(acting, name).await,
                None => Some("none".into()),
            },
            _ => Some("none".into()),
        }
    }

    /// What the caller is here.
    fn about(&self, caller: &Caller) -> String {
        let flows = if self.book.is_some() { caller.flows.as_str() } else { "-" };
        format!("self {} {flows} {}", caller.unnamed, self.socks.first().map_or("-", String::as_str))
    }

    /// What is known of a name, as one of our identities. The suffix itself is where DNS is answered.
    async fn name(&self, identity: &str, name: &str) -> Option<String> {
        if let Some(book) = self.book.as_ref().filter(|_| name.trim_end_matches('.').eq_ignore_ascii_case(&self.suffix))
        {
            return Some(self.both(book, Slot(SLOT_DNS)));
        }
        match self.node.resolve(identity, name).await {
            Ok(resolved) if resolved.service.is_some() => Some(self.addresses(identity, &resolved.name).await),
            Ok(_) => Some("name".into()),
            Err(ResolveError::BadName) => Some("none".into()),
            Err(ResolveError::Stopping) => None,
            // Whatever went wrong, a name that is not ours is somebody else's to answer.
            Err(_) if !self.owns(identity, name).await => Some("none".into()),
            Err(ResolveError::NoSuchName) => Some("gone".into()),
            Err(ResolveError::UnknownIdentity | ResolveError::Loop | ResolveError::Timeout) => Some("fail".into()),
        }
    }

    /// Whether a name is ours by its form, or hangs from a petname of the identity. Asks nobody outside.
    async fn owns(&self, identity: &str, name: &str) -> bool {
        let plain = name.trim_end_matches('.').to_lowercase();
        let suffixed = plain.strip_suffix(&self.suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let last = plain.rsplit('.').next().unwrap_or(&plain);
        if suffixed || last == "alt" || last.parse::<ServiceId>().is_ok() {
            return true;
        }
        let (reply, answer) = oneshot::channel();
        let asked = self.node.control(AdminCall::RecordList(identity.to_owned(), reply)).await;
        match (asked, answer.await) {
            (Some(()), Ok(Ok(entries))) => entries.iter().any(|entry| entry.label.to_lowercase() == last),
            _ => false,
        }
    }

    /// The addresses of a name that exists.
    async fn addresses(&self, identity: &str, name: &str) -> String {
        let Some(book) = &self.book else { return "name".into() };
        match book.assign(identity, name).await {
            Ok(slot) => self.both(book, slot),
            Err(_) => "fail".into(),
        }
    }

    /// The line of a slot's addresses.
    fn both(&self, book: &AddressBook, slot: Slot) -> String {
        let addresses = book.addresses();
        let v6 = if self.ipv6 { addresses.v6(slot).to_string() } else { "-".into() };
        format!("addr {} {v6}", addresses.v4(slot))
    }

    /// The name that an address stands for, if the identity was told it.
    fn pointer(&self, identity: &str, address: &str) -> String {
        let (Some(book), Ok(address)) = (&self.book, address.parse::<IpAddr>()) else { return "none".into() };
        if !book.addresses().routes(address) {
            return "none".into();
        }
        let name = book.addresses().slot(address).and_then(|slot| book.name_for(identity, slot));
        name.map_or_else(|| "gone".into(), |name| format!("ptr {name}"))
    }
}

#[cfg(test)]
mod tests;
