//! From file, variables and flags to the effective settings, and back to text.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Error, Origin};
use super::flags::Flags;
use super::keys::{Bad, KEYS, Key};
use super::paths::Paths;
use super::raw::{self, Raw, nearest};
use super::types::Config;

/// Column at which comments begin in the printed settings.
const COMMENT_COLUMN: usize = 34;

/// Environment variables, by value so that tests need no process-wide state.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own; variables that are not text are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// One variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// The effective value of every key, with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, (Raw, Origin)>,
    dns: bool,
    expose: bool,
}

impl Settings {
    /// Reads all sources. A settings file that nobody named may be absent.
    ///
    /// # Errors
    /// See [`Error`]; values are checked by [`Settings::config`].
    pub fn load(flags: &Flags, env: &Environment, paths: &Paths) -> Result<Self, Error> {
        let file = match std::fs::read_to_string(&paths.config) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !paths.config_named => None,
            Err(source) => return Err(Error::Read { path: paths.config.clone(), source }),
        };
        let mut settings = Self::defaults();
        if let Some(text) = &file {
            settings.apply_file(text, &paths.config)?;
        }
        settings.apply_env(env)?;
        settings.apply_flags(flags);
        Ok(settings)
    }

    /// Every key at its default.
    #[must_use]
    pub fn defaults() -> Self {
        let value = |key: &Key| raw::parse_value(key.default).expect("defaults are TOML");
        let values = KEYS.iter().map(|key| (key.path, (value(key), Origin::Default))).collect();
        Self { values, dns: true, expose: true }
    }

    /// Takes over the values of a settings file.
    ///
    /// # Errors
    /// Not TOML, or a key that does not exist.
    pub fn apply_file(&mut self, text: &str, path: &Path) -> Result<(), Error> {
        let is_map = |key: &str| KEYS.iter().any(|known| known.path == key && known.default.starts_with('{'));
        let entries = raw::parse(text, &is_map).map_err(|problem| Error::Syntax {
            path: path.into(),
            line: problem.line,
            what: problem.what,
        })?;
        for entry in entries {
            let origin = Origin::File(path.into(), entry.line);
            match KEYS.iter().find(|key| key.path == entry.path) {
                Some(key) => self.values.insert(key.path, (entry.value, origin)),
                None => {
                    let nearest = nearest_key(&entry.path).map(str::to_owned);
                    return Err(Error::UnknownKey { origin, key: entry.path, nearest });
                }
            };
        }
        Ok(())
    }

    /// Takes over `TARNET_SECTION_KEY` variables.
    fn apply_env(&mut self, env: &Environment) -> Result<(), Error> {
        for key in KEYS {
            let variable = format!("TARNET_{}", key.path.replace('.', "_").to_ascii_uppercase());
            let Some(text) = env.get(&variable) else { continue };
            let origin = Origin::Variable(variable);
            let Some(value) = from_variable(text, key.default) else {
                return Err(Error::BadValue {
                    origin,
                    key: key.path,
                    what: format!("cannot be read; its default is {}", key.default),
                });
            };
            self.values.insert(key.path, (value, origin));
        }
        Ok(())
    }

    /// Takes over flags.
    fn apply_flags(&mut self, flags: &Flags) {
        let mut set = |path: &'static str, value: Raw, flag: &'static str| {
            self.values.insert(path, (value, Origin::Flag(flag)));
        };
        if !flags.bootstrap.is_empty() {
            set("bootstrap.peers", Raw::List(flags.bootstrap.clone()), "--bootstrap");
        }
        if flags.no_tun {
            set("tun.enabled", Raw::Bool(false), "--no-tun");
        }
        if flags.no_socks {
            set("socks.listen", Raw::List(Vec::new()), "--no-socks");
        }
        if flags.no_mdns {
            set("bootstrap.mdns", Raw::Bool(false), "--no-mdns");
        }
        self.dns = !flags.no_dns;
        self.expose = !flags.no_expose;
    }

    /// The settings as types.
    ///
    /// # Errors
    /// A value that cannot be used, or that is not enforced yet.
    pub fn config(&self) -> Result<Config, Error> {
        let mut config = Config::default();
        for key in KEYS {
            let (value, origin) = self.values.get(key.path).expect("every key has a value");
            (key.set)(&mut config, value).map_err(|bad| match bad {
                Bad::Value(what) => Error::BadValue { origin: origin.clone(), key: key.path, what },
                Bad::NotYet => Error::NotYet { origin: origin.clone(), key: key.path },
            })?;
        }
        config.dns.enabled = self.dns;
        config.expose.enabled = self.expose;
        Ok(config)
    }

    /// The effective settings as a file with every key and its comment.
    #[must_use]
    pub fn print(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let mut section_now = "";
        for key in KEYS {
            let (section, name) = key.parts();
            if section != section_now {
                let gap = if out.is_empty() { "" } else { "\n" };
                let _ = writeln!(out, "{gap}[{section}]");
                section_now = section;
            }
            let (value, origin) = self.values.get(key.path).expect("every key has a value");
            let line = format!("{name} = {}", value.to_toml());
            let changed = if *origin == Origin::Default { String::new() } else { format!(" ({origin})") };
            let comment = format!("{}{changed}", key.comment);
            match comment.trim() {
                "" => out.push_str(&line),
                comment => {
                    let _ = write!(out, "{line:COMMENT_COLUMN$} # {comment}");
                }
            }
            out.push('\n');
        }
        out
    }
}

/// The key that was probably meant by `path`.
fn nearest_key(path: &str) -> Option<&'static str> {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let same_section = KEYS.iter().filter(|key| key.parts().0 == section).map(|key| key.parts().1);
    if let Some(near) = nearest(name, same_section) {
        return KEYS.iter().find(|key| key.parts() == (section, near)).map(|key| key.path);
    }
    let same_name =
        KEYS.iter().map(|key| key.path).filter(|known| known.rsplit_once('.').is_some_and(|(_, known)| known == name));
    nearest(path, same_name.clone())
        .or_else(|| same_name.clone().next())
        .or_else(|| nearest(path, KEYS.iter().map(|key| key.path)))
}

/// The value of a variable, of the kind that the key's default has: text needs no quotes, a
/// list may be separated by commas.
fn from_variable(text: &str, default: &str) -> Option<Raw> {
    let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    match default.as_bytes().first() {
        Some(b'[') if !text.trim_start().starts_with('[') => Some(Raw::List(words())),
        Some(b'"') if matches!(text, "true" | "false") => raw::parse_value(text),
        Some(b'"') => Some(Raw::Text(text.into())),
        _ => raw::parse_value(text),
    }
}
