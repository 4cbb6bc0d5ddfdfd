//! The thread that owns the database, and its queue.
//!
//! Writes of one call are atomic. The thread takes what has gathered and commits it
//! together with one flush to the disk; [`When::Soon`] writes wait up to a second for
//! company. Bounds: [`QUEUE_LEN_MAX`] calls, beyond which [`Disk::write`] refuses, so that
//! the node's task never waits for a disk.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable};
use tokio::sync::oneshot;

use super::error::Error;
use super::table::{Op, Table};

/// Calls that may wait for the disk.
const QUEUE_LEN_MAX: usize = 4096;
/// Changes per commit, so that no commit takes long.
const OPS_PER_COMMIT_MAX: usize = 4096;
/// Bytes per commit.
const BYTES_PER_COMMIT_MAX: usize = 8 << 20;
/// How long writes that are in no hurry wait for company.
const SOON: Duration = Duration::from_secs(1);
/// Memory that the database may use for its pages, bytes. A daemon stays below 30 MiB.
const CACHE_LEN: usize = 4 << 20;
/// What to do about a damaged database.
const MOVE_AWAY: &str =
    "restore it from a backup, or move it away: keys are safe in files of their own, zones and known peers are in it";

/// How urgent a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Somebody waits for it.
    Now,
    /// Within a second: refreshes and caches.
    Soon,
}

/// The queue to the disk is full: it is slower than what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk is too slow: {QUEUE_LEN_MAX} writes wait for it")]
pub struct Busy;

/// A write that did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WriteError(String);

/// Where the answer to a write goes.
type Written = oneshot::Sender<Result<(), WriteError>>;

/// Everything in a table.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// One call.
enum Job {
    /// Change something.
    Write(Vec<Op>, When, Written),
    /// Read a table.
    Load(Table, oneshot::Sender<Result<Rows, WriteError>>),
}

/// A write on its way: resolves once it is on the disk. Dropping it drops only the answer.
#[must_use = "a write is acknowledged only once this has resolved"]
pub struct Pending(oneshot::Receiver<Result<(), WriteError>>);

impl Future for Pending {
    type Output = Result<(), WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(stopped())))
    }
}

/// What is said when the thread is gone.
fn stopped() -> WriteError {
    WriteError("the disk thread has stopped".into())
}

/// The database, for every task. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct Disk {
    jobs: SyncSender<Job>,
}

impl Disk {
    /// Opens the database, or makes it, and starts its thread.
    pub(super) fn open(path: &Path) -> Result<(Self, JoinHandle<()>), Error> {
        let (jobs, received) = sync_channel(QUEUE_LEN_MAX);
        let (opened, answer) = sync_channel(1);
        let file = path.to_owned();
        let run = move || {
            let db = open_database(&file);
            let (db, result) = match db {
                Ok(db) => (Some(db), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _ = opened.send(result);
            if let Some(db) = db {
                Worker { path: file, db: Some(db) }.run(&received);
            }
        };
        let thread = std::thread::Builder::new().name("tarnet-disk".into()).spawn(run).map_err(Error::io(path))?;
        // A panic of the database library on a damaged file ends the thread before it answers.
        let damaged =
            |_| Error::Damaged { path: path.to_owned(), what: "it cannot be read at all".into(), hint: MOVE_AWAY };
        answer.recv().map_err(damaged)??;
        Ok((Self { jobs }, thread))
    }

    /// Queues changes that happen together or not at all. Never waits.
    ///
    /// # Errors
    /// [`Busy`]: nothing was queued.
    pub fn write(&self, ops: Vec<Op>, when: When) -> Result<Pending, Busy> {
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(Job::Write(ops, when, reply)) {
            Ok(()) => Ok(Pending(answer)),
            Err(TrySendError::Full(_)) => Err(Busy),
            // The answer's other end is gone with the job: the future says that the thread has stopped.
            Err(TrySendError::Disconnected(_)) => Ok(Pending(answer)),
        }
    }

    /// Everything in a table, in the order of its keys, with the writes queued before.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn load(&self, table: Table) -> Result<Rows, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Load(table, reply)).map_err(|_| WriteError(Busy.to_string()))?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Opens or makes the file, and checks it as a whole.
fn open_database(path: &Path) -> Result<Database, Error> {
    let damaged = |error: &dyn std::fmt::Display| Error::Damaged {
        path: path.to_owned(),
        what: error.to_string(),
        hint: MOVE_AWAY,
    };
    let fresh = !path.exists();
    let open = || Builder::new().set_cache_size(CACHE_LEN).set_check_integrity_on_open(true).create(path);
    let db = open().map_err(|error| match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != std::io::ErrorKind::InvalidData =>
        {
            Error::io(path)(source)
        }
        other => damaged(&other),
    })?;
    if fresh {
        let make = || -> Result<(), redb::Error> {
            let transaction = db.begin_write()?;
            for table in Table::ALL {
                transaction.open_table(table.definition())?;
            }
            Ok(transaction.commit()?)
        };
        make().map_err(|error| damaged(&error))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(super::files::FILE_MODE);
        std::fs::set_permissions(path, private).map_err(Error::io(path))?;
        super::files::sync_folder(path)?;
    }
    Ok(db)
}

/// The thread's state.
struct Worker {
    path: PathBuf,
    /// Absent after an error, until it opens again.
    db: Option<Database>,
}

/// Writes that are committed together.
#[derive(Default)]
struct Batch {
    writes: Vec<(Vec<Op>, Written)>,
    loads: Vec<(Table, oneshot::Sender<Result<Rows, WriteError>>)>,
    ops: usize,
    bytes: usize,
    hurry: bool,
}

impl Batch {
    /// Takes one job in.
    fn add(&mut self, job: Job) {
        match job {
            Job::Write(ops, when, reply) => {
                self.ops += ops.len();
                self.bytes += ops.iter().map(Op::len).sum::<usize>();
                self.hurry |= when == When::Now;
                self.writes.push((ops, reply));
            }
            Job::Load(table, reply) => {
                self.hurry = true;
                self.loads.push((table, reply));
            }
        }
    }

    /// Whether it is large enough. A load ends it, so that later writes do not show in it.
    fn full(&self) -> bool {
        !self.loads.is_empty() || self.ops >= OPS_PER_COMMIT_MAX || self.bytes >= BYTES_PER_COMMIT_MAX
    }
}

impl Worker {
    /// Serves the queue until every [`Disk`] is gone.
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let batch = gather(first, jobs);
            let result = self.commit(&batch);
            for (_, reply) in batch.writes {
                let _ = reply.send(result.clone());
            }
            for (table, reply) in batch.loads {
                let _ = reply.send(self.load(table));
            }
        }
    }

    /// Commits a batch with one flush.
    fn commit(&mut self, batch: &Batch) -> Result<(), WriteError> {
        if batch.writes.is_empty() {
            return Ok(());
        }
        let ops = batch.writes.iter().flat_map(|(ops, _)| ops);
        self.with_database(|db| {
            let mut transaction = db.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            for op in ops {
                apply(&transaction, op)?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// Reads a table.
    fn load(&mut self, table: Table) -> Result<Rows, WriteError> {
        self.with_database(|db| {
            let transaction = db.begin_read()?;
            let table = match transaction.open_table(table.definition()) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            table
                .iter()?
                .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(Into::into))
                .collect()
        })
    }

    /// Runs `work`; after an error the database is closed and opened again, as its library demands.
    fn with_database<T>(&mut self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, WriteError> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "the database could not be written or read");
            WriteError(error.to_string())
        };
        if self.db.is_none() {
            self.db = Some(open_database(&self.path).map_err(|error| failed(&error))?);
        }
        let db = self.db.as_ref().expect("just opened");
        work(db).map_err(|error| {
            self.db = None;
            failed(&error)
        })
    }
}

/// Takes what has gathered behind `first`; waits a little when nothing is in a hurry.
fn gather(first: Job, jobs: &Receiver<Job>) -> Batch {
    let mut batch = Batch::default();
    batch.add(first);
    let until = Instant::now() + SOON;
    while !batch.full() {
        let wait = if batch.hurry { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
        match jobs.recv_timeout(wait) {
            Ok(job) => batch.add(job),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    batch
}

/// Makes one change.
fn apply(transaction: &redb::WriteTransaction, op: &Op) -> Result<(), redb::Error> {
    match op {
        Op::Put(table, key, value) => {
            transaction.open_table(table.definition())?.insert(key.as_slice(), value.as_slice())?;
        }
        Op::Remove(table, key) => {
            transaction.open_table(table.definition())?.remove(key.as_slice())?;
        }
        Op::RemovePrefix(table, prefix) => {
            let mut table = transaction.open_table(table.definition())?;
            table.retain_in(prefix.as_slice().., |key, _| !key.starts_with(prefix))?;
        }
    }
    Ok(())
}
