//! Keeps the running services in step with the folder of service files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tarnet_api as api;
use tokio::sync::{Semaphore, watch};

use super::file::{FileError, Service};
use super::serve::{self, Serving, Status};
use super::{CONNECTIONS_MAX, SERVICES_MAX, SETTLE_TIME_MAX, publish};
use crate::handle::NodeHandle;
use crate::transport::AbortOnDrop;

/// The services of this machine. Cheap to clone; they run until the last clone is gone.
#[derive(Clone)]
pub struct Exposer(Arc<Inner>);

/// What all clones share.
struct Inner {
    handle: NodeHandle,
    folder: PathBuf,
    /// Connections of all services.
    all: Arc<Semaphore>,
    table: Mutex<Table>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Tells waiting services to try again now.
    retry: watch::Sender<()>,
}

/// What runs, and which files are wrong.
#[derive(Default)]
struct Table {
    running: BTreeMap<String, Running>,
    wrong: BTreeMap<String, FileError>,
}

/// Bytes of the longest name of a service.
const NAME_LEN_MAX: usize = 63;

/// One running service.
struct Running {
    service: Arc<Service>,
    status: Arc<Status>,
    task: AbortOnDrop<()>,
}

/// What the folder holds.
pub(super) struct Found {
    pub(super) services: Vec<Service>,
    pub(super) wrong: BTreeMap<String, FileError>,
}

impl Exposer {
    /// Starts the services of `folder`, which may be absent, and withdraws what vanished while the daemon was down.
    pub async fn start(handle: NodeHandle, folder: PathBuf) -> Self {
        let all = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (table, reloading, retry) = Default::default();
        let this = Self(Arc::new(Inner { handle, folder, all, table, reloading, retry }));
        this.load().await;
        let wanted = this.wanted();
        let handle = this.0.handle.clone();
        tokio::spawn(async move { publish::withdraw_stale(&handle, &wanted).await });
        this
    }

    /// Where the file of a service of this name and text belongs.
    ///
    /// # Errors
    /// It would not be understood there, or not be read because of its name.
    pub fn place(&self, name: &str, text: &str) -> Result<PathBuf, FileError> {
        let path = self.0.folder.join(format!("{name}.toml"));
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(fits) || name.starts_with('.') {
            let what = format!("a service's name is 1 to {NAME_LEN_MAX} letters, digits, '-', '_' or '.'");
            return Err(FileError { path, line: 1, what });
        }
        Service::parse(&path, text).map(|_| path)
    }

    /// What is wrong in a folder of service files, for `--check`. Blocks on the disk.
    #[must_use]
    pub fn check(folder: &Path) -> Vec<FileError> {
        read_folder(folder).wrong.into_values().collect()
    }

    /// Reads the folder again: starts what is new, stops what is gone, restarts what changed, leaves
    /// the rest alone. Open connections live on. A file that is wrong now keeps its running service. The
    /// errors are the wrong files'.
    pub async fn reload(&self) -> Vec<FileError> {
        let errors = self.load().await;
        self.retry().await;
        errors
    }

    /// Brings what runs in step with the folder.
    async fn load(&self) -> Vec<FileError> {
        let _one = self.0.reloading.lock().await;
        let before = self.wanted();
        let folder = self.0.folder.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || read_folder(&folder)).await else { return Vec::new() };
        for error in found.wrong.values() {
            tracing::warn!("{error}");
        }
        let errors = found.wrong.values().cloned().collect();
        let stopped = self.stop_others(&found);
        for task in stopped {
            // Gone before its successor starts, so that the port is free again.
            task.0.abort();
            let mut task = task;
            let _ = (&mut task.0).await;
        }
        self.start_new(found);
        for place in before.difference(&self.wanted()) {
            publish::withdraw(&self.0.handle, place.clone()).await;
        }
        errors
    }

    /// Has services that wait try again now, and waits until they have, or have begun to: an identity was made,
    /// or the operator asks.
    pub async fn retry(&self) {
        let all: Vec<Arc<Status>> = self.table().running.values().map(|running| Arc::clone(&running.status)).collect();
        all.iter().for_each(|status| status.begin_again());
        self.0.retry.send_replace(());
        let settled = async {
            for status in all {
                status.settled().await;
            }
        };
        // One that resolves its allow list over the network may take longer: nobody waits for that.
        let _ = tokio::time::timeout(SETTLE_TIME_MAX, settled).await;
    }

    /// Every service and every wrong file, as `expose list` shows them.
    #[must_use]
    pub fn list(&self) -> Vec<api::Service> {
        let table = self.table();
        let running = table
            .running
            .values()
            .map(|running| running.describe(&self.0.folder, table.wrong.get(&running.service.name)));
        let wrong = table.wrong.iter().filter(|(name, _)| !table.running.contains_key(*name));
        let wrong = wrong.map(|(name, error)| api::Service {
            name: name.clone(),
            state: error.to_string(),
            file: error.path.display().to_string(),
            ..Default::default()
        });
        running.chain(wrong).collect()
    }

    /// Locks the table; a poisoned lock only means that another thread panicked between plain stores.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where running services are announced.
    fn wanted(&self) -> BTreeSet<publish::Place> {
        let table = self.table();
        table
            .running
            .values()
            .filter(|running| running.service.publish)
            .map(|running| publish::place(&running.service))
            .collect()
    }

    /// Takes out of the table what is not in the folder as it runs, and gives the tasks.
    fn stop_others(&self, found: &Found) -> Vec<AbortOnDrop<()>> {
        let mut table = self.table();
        let same = |name: &String, running: &Running| {
            found.wrong.contains_key(name) || found.services.iter().any(|service| *service == *running.service)
        };
        let (kept, stopped) =
            std::mem::take(&mut table.running).into_iter().partition(|(name, running)| same(name, running));
        table.running = kept;
        let stopped: BTreeMap<String, Running> = stopped;
        stopped.into_values().map(|running| running.task).collect()
    }

    /// Starts what is in the folder and does not run.
    fn start_new(&self, found: Found) {
        let mut table = self.table();
        table.wrong = found.wrong;
        for service in found.services {
            if table.running.contains_key(&service.name) {
                continue;
            }
            let (service, status) = (Arc::new(service), Arc::new(Status::default()));
            let (handle, all) = (self.0.handle.clone(), Arc::clone(&self.0.all));
            let retry = self.0.retry.subscribe();
            let serving = Serving { handle, service: Arc::clone(&service), status: Arc::clone(&status), all, retry };
            let task = AbortOnDrop(tokio::spawn(serve::run(serving)));
            table.running.insert(service.name.clone(), Running { service, status, task });
        }
    }
}

impl Running {
    /// The service as `expose list` shows it; `wrong` when its file has an error by now.
    fn describe(&self, folder: &Path, wrong: Option<&FileError>) -> api::Service {
        let service = &self.service;
        let state = match (wrong, self.status.state()) {
            (None, state) if state.is_empty() => "starting".into(),
            (None, state) => state,
            (Some(error), state) => format!("{state} as before; {error}"),
        };
        api::Service {
            name: service.name.clone(),
            identity: service.identity.clone(),
            port: service.port.to_string(),
            protocol: service.protocol.as_str().into(),
            local: service.local.to_string(),
            subdomain: service.subdomain.clone().unwrap_or_default(),
            publish: service.publish,
            state,
            connections: self.status.connections.load(Ordering::Relaxed),
            callers: self.status.callers(),
            file: folder.join(format!("{}.toml", service.name)).display().to_string(),
        }
    }
}

/// Reads every `*.toml` of a folder, by name. A folder that is absent is empty.
pub(super) fn read_folder(folder: &Path) -> Found {
    let mut found = Found { services: Vec::new(), wrong: BTreeMap::new() };
    let error = |path: &Path, what: String| FileError { path: path.to_owned(), line: 1, what };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => return found,
        Err(unreadable) => {
            found.wrong.insert(folder.display().to_string(), error(folder, format!("cannot be read: {unreadable}")));
            return found;
        }
    };
    let is_service = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some_and(|extension| extension == "toml") && !hidden
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_service).collect();
    paths.sort();
    for (at, path) in paths.iter().enumerate() {
        let text =
            std::fs::read_to_string(path).map_err(|unreadable| error(path, format!("cannot be read: {unreadable}")));
        let service = if at < SERVICES_MAX {
            text.and_then(|text| Service::parse(path, &text))
        } else {
            Err(error(path, format!("left out: at most {SERVICES_MAX} services")))
        };
        match service {
            Ok(service) => found.services.push(service),
            Err(wrong) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                found.wrong.insert(name, wrong);
            }
        }
    }
    found
}
