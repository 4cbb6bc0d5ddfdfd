//! Files that only we may read, written so that a power cut leaves the old or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::Error;

/// Mode of folders that hold secrets.
pub(super) const FOLDER_MODE: u32 = 0o700;
/// Mode of files that hold secrets.
pub(super) const FILE_MODE: u32 = 0o600;
/// How the name of an unfinished file ends.
const UNFINISHED: &str = "tmp";

/// The lock of a state folder; released when dropped, or when the process dies.
pub(super) struct Lock(#[allow(dead_code, reason = "held, never read")] Flock<File>);

impl Lock {
    /// Takes the lock, or fails at once.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
        let file = options.map_err(Error::io(path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Locked(path.to_owned())),
            Err((_, errno)) => Err(Error::io(path)(errno.into())),
        }
    }
}

/// Makes a folder for secrets, with its parents, unless it is there.
pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(Error::io(path))
}

/// Checks that only we can read a file or folder with secrets.
pub(super) fn check_private(path: &Path, wanted: u32) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(Error::io(path))?;
    let (mode, us) = (metadata.mode() & 0o7777, nix::unistd::geteuid().as_raw());
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode, wanted });
    }
    if metadata.uid() != us {
        return Err(Error::Foreign { path: path.to_owned(), owner: metadata.uid(), us });
    }
    Ok(())
}

/// Writes a secret file that must not exist: to a fresh name, to the disk, then under its name, then the folder to the disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let unfinished = path.with_extension(UNFINISHED);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    // The state's lock is held: nobody else makes it in between.
    if path.symlink_metadata().is_ok() {
        return Err(Error::io(path)(std::io::ErrorKind::AlreadyExists.into()));
    }
    let _ = fs::remove_file(&unfinished);
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(Error::io(path))?;
    sync_folder(path)
}

/// Removes a file so that it stays removed.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(Error::io(path))?;
    sync_folder(path)
}

/// Removes what an interrupted [`write_new`] left.
pub(super) fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Brings the entries of a file's folder to the disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder))
}
