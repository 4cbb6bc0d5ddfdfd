//! The resolver file itself: ours takes its place, in one step, and what was there is kept
//! beside it as it was: the same file, with its owner, mode, times and label, or the same link.
//! Moving it back is the whole restoration. A file that another has written meanwhile is left alone.
//!
//! Where the file is a mount point (containers, namespaces) it cannot be replaced: it is written in
//! place, and what it said before is kept in its comments. The folder around it may be shared with
//! others, so nothing is put there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use super::detect::Owner;
use super::file::{FILE_BYTES_MAX, MARK, ResolvConf};

/// The resolver file.
const FILE: &str = "etc/resolv.conf";
/// What was there before.
const BACKUP: &str = "etc/resolv.conf.before-tarnet";
/// Where the new one is written before it takes its place.
const FRESH: &str = "etc/.resolv.conf.tarnet";
/// What stands before each line of a former text that is kept in the file itself.
const KEPT: &str = "#| ";
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
    pub fn new(root: &std::path::Path) -> Self {
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
    if let Some(kept) = kept(&text) {
        return Ok(ResolvConf::parse(&kept));
    }
    match tree.read(BACKUP) {
        Ok(text) => Ok(ResolvConf::parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ResolvConf::default()),
        Err(error) => Err(error),
    }
}

/// The file as it is to be, above what may be kept in it.
fn wanted(tree: &Tree, servers: &[IpAddr], suffix: &str) -> io::Result<String> {
    Ok(before(tree)?.ours(servers, suffix))
}

/// A text with another kept below it, line by line.
fn keeping(text: &str, former: &str) -> String {
    former.split('\n').fold(text.to_owned(), |text, line| text + KEPT + line + "\n")
}

/// The text that is kept in another.
fn kept(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.split('\n').filter_map(|line| line.strip_prefix(KEPT)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Whether the file is as it is to be.
#[must_use]
pub fn is_applied(tree: &Tree, servers: &[IpAddr], suffix: &str) -> bool {
    let (Ok(found), Ok(wanted)) = (tree.read(FILE), wanted(tree, servers, suffix)) else { return false };
    let rest = found.strip_prefix(&wanted);
    rest.is_some_and(|rest| rest.lines().all(|line| line.starts_with(KEPT)))
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
    if is_applied(tree, servers, suffix) {
        return Ok(());
    }
    let text = wanted(tree, servers, suffix)?;
    let found = tree.read(FILE).unwrap_or_default();
    if let Some(kept) = kept(&found) {
        return in_place(tree, &keeping(&text, &kept));
    }
    if !found.starts_with(MARK) {
        match keep(tree) {
            // The file is a mount point: a name beside it would be in another file system.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return in_place(tree, &keeping(&text, &found));
            }
            other => other?,
        }
    }
    match tree.replace(FILE, FRESH, &text, MODE) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            tree.remove(BACKUP)?;
            in_place(tree, &keeping(&text, &found))
        }
        other => other,
    }
}

/// Keeps what is there by a second name of the same file or link, so that nothing of it is lost.
fn keep(tree: &Tree) -> io::Result<()> {
    let (file, backup) = (tree.path(FILE), tree.path(BACKUP));
    tree.remove(BACKUP)?;
    match fs::hard_link(&file, &backup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(&backup, NOTHING),
        other => other,
    }
}

/// Writes into the file that is there: what is mounted stays mounted.
fn in_place(tree: &Tree, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(tree.path(FILE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Puts back what was there, if what is there is ours; says whether it was.
///
/// # Errors
/// `/etc` cannot be written, or the backup is gone.
pub fn restore(tree: &Tree) -> io::Result<bool> {
    let found = match tree.read(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if !found.starts_with(MARK) {
        // Another has written the file since: what was there before is of no use any more.
        tree.remove(BACKUP)?;
        return Ok(false);
    }
    if let Some(kept) = kept(&found) {
        return in_place(tree, &kept).map(|()| true);
    }
    let (file, backup) = (tree.path(FILE), tree.path(BACKUP));
    if fs::symlink_metadata(&backup)?.is_file() && tree.read(BACKUP)? == NOTHING {
        tree.remove(FILE)?;
        return tree.remove(BACKUP);
    }
    fs::rename(&backup, &file).map(|()| true)
}

#[cfg(test)]
mod tests;
