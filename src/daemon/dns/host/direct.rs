//! The resolver file itself: ours takes its place, in one step, and what was there is kept
//! beside it as it was: the same file, with its owner, mode, times and label, or the same link.
//! Moving it back is the whole restoration. A file that another has written meanwhile is left alone.
//!
//! Where the file is a mount point (containers) it cannot be replaced: it is written in place,
//! and so is what it said before.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::detect::Owner;
use super::file::{FILE_BYTES_MAX, MARK, ResolvConf};

/// The resolver file.
const FILE: &str = "etc/resolv.conf";
/// What was there before.
const BACKUP: &str = "etc/resolv.conf.before-tarnet";
/// Where the new one is written before it takes its place.
const FRESH: &str = "etc/.resolv.conf.tarnet";
/// What the backup says where there was nothing.
const NOTHING: &str = "# There was no resolv.conf before tarnetd.\n";
/// Mode of a resolver file: everybody reads it, whatever our umask is.
const MODE: u32 = 0o644;

/// The file system that is worked on: `/`, or a folder of a test.
#[derive(Debug, Clone)]
pub struct Tree(PathBuf);

impl Default for Tree {
    fn default() -> Self {
        Self("/".into())
    }
}

impl Tree {
    /// A tree below a folder.
    #[cfg(test)]
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// A path in it, given without the leading slash.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    /// The text of a file, up to a bound; bytes that are no text are replaced.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, below: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(self.path(below))?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Replaces a file in one step, for good. Existing folders only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn replace(&self, below: &str, fresh: &str, text: &str, mode: u32) -> io::Result<()> {
        let (path, fresh) = (self.path(below), self.path(fresh));
        gone(fs::remove_file(&fresh))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        let written = (|| {
            file.write_all(text.as_bytes())?;
            // The umask is not asked: others must be able to read it.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        })();
        if written.is_err() {
            gone(fs::remove_file(&fresh))?;
        }
        written
    }

    /// Removes a file; says whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, below: &str) -> io::Result<bool> {
        gone(fs::remove_file(self.path(below)))
    }
}

/// Whether something was there to work on.
fn gone(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the host's resolver file says, or said before ours took its place.
///
/// # Errors
/// It cannot be read.
pub fn before(tree: &Tree) -> io::Result<ResolvConf> {
    let text = match tree.read(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let read = ResolvConf::parse(&text);
    if read.owner != Owner::Us {
        return Ok(read);
    }
    match tree.read(BACKUP) {
        Ok(text) => Ok(ResolvConf::parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ResolvConf::default()),
        Err(error) => Err(error),
    }
}

/// The file as it is to be.
fn wanted(tree: &Tree, servers: &[IpAddr], suffix: &str) -> io::Result<String> {
    Ok(before(tree)?.ours(servers, suffix, &format!("/{BACKUP}")))
}

/// Whether the file is as it is to be.
#[must_use]
pub fn is_applied(tree: &Tree, servers: &[IpAddr], suffix: &str) -> bool {
    matches!((tree.read(FILE), wanted(tree, servers, suffix)), (Ok(found), Ok(wanted)) if found == wanted)
}

/// Whether the file that is there is ours.
#[must_use]
pub fn is_ours(tree: &Tree) -> bool {
    tree.read(FILE).is_ok_and(|text| text.starts_with(MARK))
}

/// Puts our file in the place of the host's.
///
/// # Errors
/// `/etc` cannot be written.
pub fn apply(tree: &Tree, servers: &[IpAddr], suffix: &str) -> io::Result<()> {
    let text = wanted(tree, servers, suffix)?;
    let found = tree.read(FILE).unwrap_or_default();
    if found == text {
        return Ok(());
    }
    if !found.starts_with(MARK) {
        keep(tree)?;
    }
    match tree.replace(FILE, FRESH, &text, MODE) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => in_place(tree, &text),
        other => other,
    }
}

/// Keeps what is there: by a second name of the same file where that can be, so that nothing of it is lost.
fn keep(tree: &Tree) -> io::Result<()> {
    let (file, backup) = (tree.path(FILE), tree.path(BACKUP));
    gone(fs::remove_file(&backup))?;
    let meta = match fs::symlink_metadata(&file) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::write(&backup, NOTHING),
        Err(error) => return Err(error),
    };
    if fs::hard_link(&file, &backup).is_ok() {
        return Ok(());
    }
    if meta.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(&file)?, &backup);
    }
    copy(&file, &backup, &meta)
}

/// Copies a file with its mode and times, and its owner where we may.
fn copy(from: &Path, to: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let mut bytes = Vec::new();
    File::open(from)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    fs::write(to, bytes)?;
    like(&File::options().write(true).open(to)?, meta)
}

/// Gives an open file the mode, times and owner of another.
fn like(file: &File, meta: &fs::Metadata) -> io::Result<()> {
    std::os::unix::fs::fchown(file, Some(meta.uid()), Some(meta.gid()))?;
    file.set_permissions(meta.permissions())?;
    file.set_times(fs::FileTimes::new().set_accessed(meta.accessed()?).set_modified(meta.modified()?))
}

/// Writes into the file that is there.
fn in_place(tree: &Tree, text: &str) -> io::Result<()> {
    let (file, backup) = (tree.path(FILE), tree.path(BACKUP));
    // A second name of the same file would be written over with it.
    if let (Ok(one), Ok(two)) = (fs::metadata(&file), fs::symlink_metadata(&backup))
        && (one.dev(), one.ino()) == (two.dev(), two.ino())
    {
        fs::remove_file(&backup)?;
        copy(&file, &backup, &one)?;
    }
    let mut open = OpenOptions::new().write(true).truncate(true).open(&file)?;
    open.write_all(text.as_bytes())?;
    open.sync_all()
}

/// Puts back what was there, if what is there is ours; says whether it was.
///
/// # Errors
/// `/etc` cannot be written, or the backup is gone.
pub fn restore(tree: &Tree) -> io::Result<bool> {
    let ours = match tree.read(FILE) {
        Ok(text) => text.starts_with(MARK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if !ours {
        // Another has written the file since: what was there before is of no use any more.
        tree.remove(BACKUP)?;
        return Ok(false);
    }
    let (file, backup) = (tree.path(FILE), tree.path(BACKUP));
    let meta = fs::symlink_metadata(&backup)?;
    if meta.is_file() && tree.read(BACKUP)? == NOTHING {
        tree.remove(FILE)?;
        return tree.remove(BACKUP);
    }
    match fs::rename(&backup, &file) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            in_place(tree, &tree.read(BACKUP)?)?;
            like(&OpenOptions::new().write(true).open(&file)?, &meta)?;
            tree.remove(BACKUP)
        }
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests;
