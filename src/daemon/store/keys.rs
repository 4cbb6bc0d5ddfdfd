//! Keys on disk: one file per key.
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 9 | `TARNETKEY` |
//! | 1 | version, 1 |
//! | 2 | length of the key, little-endian |
//! | length | scheme and secret, as the crypto room keeps them |
//! | 16 | BLAKE3 of all before, so that a torn file is told from a wrong key |
//!
//! An exported key is the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use tarnet_core::crypto::{SigningKey, hash};
use tarnet_core::wire::{Error as WireError, Reader};
use zeroize::Zeroizing;

use super::error::Error;
use super::files::{self, FILE_MODE, FOLDER_MODE};

/// How a key file begins.
const MAGIC: &[u8; 9] = b"TARNETKEY";
/// The version written.
const VERSION: u8 = 1;
/// Bytes of the check at the end.
const CHECK_LEN: usize = 16;
/// Bytes of the longest key file.
const FILE_LEN_MAX: u64 = 16 * 1024;
/// How the name of a key file ends.
const EXTENSION: &str = "key";
/// What to do about a damaged key.
const RESTORE: &str = "restore it from a backup, or move it away to get a new one";

/// The folder of keys. Calls block on the disk.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    folder: PathBuf,
}

/// Checks the name of an identity.
///
/// # Errors
/// Not 1 to 63 of a-z, 0-9, `-`, `_`, beginning with a letter or digit; or `peer`, which is the machine itself.
pub fn identity_name(name: &str) -> Result<(), Error> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let begins = name.bytes().next().is_some_and(letter);
    let fits = name.len() <= 63 && name.bytes().all(|byte| letter(byte) || byte == b'-' || byte == b'_');
    if begins && fits && name != "peer" { Ok(()) } else { Err(Error::Name(name.to_owned())) }
}

/// The bytes of a key file.
fn encode(key: &SigningKey) -> Zeroizing<Vec<u8>> {
    let secret = key.to_secret_bytes();
    let mut out = Zeroizing::new(Vec::with_capacity(MAGIC.len() + 3 + secret.len() + CHECK_LEN));
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    let len = u16::try_from(secret.len()).expect("keys are shorter than 64 KiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&secret);
    let check = hash(&out);
    out.extend_from_slice(&check[..CHECK_LEN]);
    out
}

/// The key in the bytes of a key file.
fn decode(bytes: &[u8]) -> Result<SigningKey, String> {
    let parse = || -> Result<(&[u8], &[u8]), WireError> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(WireError::Invalid("it is no tarnet key"));
        }
        if reader.u8()? != VERSION {
            return Err(WireError::Invalid("its version is unknown; it is from a newer tarnet"));
        }
        let secret = reader.vec16()?;
        let check = reader.take(CHECK_LEN)?;
        reader.finish()?;
        Ok((secret, check))
    };
    let (secret, check) = parse().map_err(|error| match error {
        WireError::Invalid(what) => what.to_owned(),
        WireError::Truncated | WireError::Trailing => "it has the wrong length".to_owned(),
    })?;
    if hash(&bytes[..bytes.len() - CHECK_LEN])[..CHECK_LEN] != *check {
        return Err("its check does not match".into());
    }
    SigningKey::from_secret_bytes(secret).map_err(|_| "the key in it is not valid".into())
}

impl KeyFolder {
    /// Opens the folder, making it if it is missing, and checks that nobody else can read it.
    ///
    /// # Errors
    /// See [`Error::Exposed`] and [`Error::Foreign`].
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let this = Self { folder: folder.to_owned() };
        for folder in [folder, &this.identities_folder()] {
            files::make_folder(folder)?;
            files::check_private(folder, FOLDER_MODE)?;
            files::remove_unfinished(folder)?;
        }
        Ok(this)
    }

    /// The machine's key; `None` on the first start.
    ///
    /// # Errors
    /// The file is damaged or can be read by others.
    pub fn node(&self) -> Result<Option<SigningKey>, Error> {
        let path = self.node_file();
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }

    /// Keeps the machine's key.
    ///
    /// # Errors
    /// There is one, or the disk refuses.
    pub fn create_node(&self, key: &SigningKey) -> Result<(), Error> {
        files::write_new(&self.node_file(), &encode(key))
    }

    /// All identities, by name.
    ///
    /// # Errors
    /// A file is damaged or can be read by others: nothing is left out silently.
    pub fn identities(&self) -> Result<Vec<(String, SigningKey)>, Error> {
        let folder = self.identities_folder();
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let path = entry.map_err(Error::io(&folder))?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            match name {
                Some(name) if path.extension().is_some_and(|extension| extension == EXTENSION) => {
                    identity_name(name)?;
                    found.push((name.to_owned(), read(&path)?));
                }
                _ => tracing::warn!(path = %path.display(), "not a key file: left alone"),
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Keeps a new identity's key.
    ///
    /// # Errors
    /// A bad name, one that exists, or the disk refuses.
    pub fn create(&self, name: &str, key: &SigningKey) -> Result<(), Error> {
        let path = self.identity_file(name)?;
        match files::write_new(&path, &encode(key)) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(name.to_owned()))
            }
            result => result,
        }
    }

    /// Deletes an identity's key.
    ///
    /// # Errors
    /// There is none of that name, or the disk refuses.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.identity_file(name)?;
        if path.exists() { files::remove(&path) } else { Err(Error::Absent(name.to_owned())) }
    }

    /// The file of an identity's key, for backup.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be read.
    pub fn export(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let path = self.identity_file(name)?;
        if path.exists() { read(&path).map(|key| encode(&key)) } else { Err(Error::Absent(name.to_owned())) }
    }

    /// The key in an exported file.
    ///
    /// # Errors
    /// It is not one, for people.
    pub fn import(bytes: &[u8]) -> Result<SigningKey, String> {
        decode(bytes)
    }

    /// Where the machine's key is.
    fn node_file(&self) -> PathBuf {
        self.folder.join("node").with_extension(EXTENSION)
    }

    /// Where identities are.
    fn identities_folder(&self) -> PathBuf {
        self.folder.join("identities")
    }

    /// Where an identity's key is.
    fn identity_file(&self, name: &str) -> Result<PathBuf, Error> {
        identity_name(name)?;
        Ok(self.identities_folder().join(name).with_extension(EXTENSION))
    }
}

/// Reads one key file.
fn read(path: &Path) -> Result<SigningKey, Error> {
    files::check_private(path, FILE_MODE)?;
    let damaged = |what: String| Error::Damaged { path: path.to_owned(), what, hint: RESTORE };
    if fs::metadata(path).map_err(Error::io(path))?.len() > FILE_LEN_MAX {
        return Err(damaged("it is too long".into()));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(Error::io(path))?);
    decode(&bytes).map_err(damaged)
}
