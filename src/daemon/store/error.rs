//! What can be wrong with the state folder.

use std::io;
use std::path::PathBuf;

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon runs on this state.
    #[error("{}: another tarnetd uses this state folder; stop it, or give this one another --state-dir", .0.display())]
    Locked(PathBuf),
    /// Others can read a key.
    #[error("{}: others can read or change it (mode {mode:04o}); run: chmod {wanted:o} {}", path.display(), path.display())]
    Exposed {
        /// The key file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        wanted: u32,
    },
    /// Somebody else owns a key.
    #[error("{}: belongs to uid {owner}, and tarnetd runs as uid {us}; run: chown {us} {}", path.display(), path.display())]
    Foreign {
        /// The key file or folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// A file is damaged.
    #[error("{}: damaged ({what}); {hint}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is a key of that name.
    #[error("an identity named {0:?} exists already")]
    Exists(String),
    /// There is no key of that name.
    #[error("there is no identity named {0:?}")]
    Absent(String),
    /// The text cannot name an identity.
    #[error(
        "{0:?} cannot name an identity: use 1 to 63 of a-z, 0-9, '-', '_', beginning with a letter or digit; 'peer' is the machine itself"
    )]
    Name(String),
}

impl Error {
    /// Adds the path to an error of the operating system.
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
