//! What survives a restart, in the state folder:
//!
//! | file | what |
//! | --- | --- |
//! | `lock` | held while a daemon runs, so that two never share a state |
//! | `keys/node.key` | the machine's key |
//! | `keys/identities/NAME.key` | one key per identity |
//! | `state.redb` | zones, DHT blocks, known peers, session keys, routing state |
//!
//! Keys are files of their own (0600 in 0700), so that they can be backed up and never
//! sit in a database page. Everything else goes through [`Disk`]: one thread, a bounded
//! queue, many writes per commit; a write that was acknowledged survives a power cut.

mod disk;
mod error;
mod files;
mod keys;
pub mod records;
mod table;

use std::path::Path;

pub use disk::{Busy, Disk, Pending, When, WriteError};
pub use error::Error;
pub use keys::{KeyFolder, identity_name};
pub use table::{Op, Table};

use files::Lock;

/// Looks at the keys of a state folder, for `--check`; makes nothing.
///
/// # Errors
/// Others can read the keys, or one is damaged.
pub fn check(folder: &Path) -> Result<(), Error> {
    let keys = folder.join("keys");
    if keys.exists() {
        let keys = KeyFolder::open(&keys)?;
        keys.node()?;
        keys.identities()?;
    }
    Ok(())
}

/// The state folder of a running daemon.
pub struct State {
    /// The keys.
    pub keys: KeyFolder,
    /// The database.
    pub disk: Disk,
    thread: std::thread::JoinHandle<()>,
    lock: Lock,
}

impl State {
    /// Opens the state folder, making what is missing, and takes its lock. Blocks on the disk.
    ///
    /// # Errors
    /// Another daemon has it, others can read the keys, or a file is damaged: see [`Error`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        files::make_folder(folder)?;
        let lock = Lock::take(&folder.join("lock"))?;
        let keys = KeyFolder::open(&folder.join("keys"))?;
        let (disk, thread) = Disk::open(&folder.join("state.redb"))?;
        Ok(Self { keys, disk, thread, lock })
    }

    /// Waits until everything queued is on disk, and gives the state up. Other clones of [`Disk`] must be gone.
    pub fn close(self) {
        let Self { keys: _, disk, thread, lock } = self;
        drop(disk);
        if thread.join().is_err() {
            tracing::error!("the disk thread panicked");
        }
        drop(lock);
    }
}

#[cfg(test)]
mod tests;
