//! Where the daemon's files are. A user's daemon follows the XDG folders; the packaged
//! unit passes its own paths as flags. Being root changes nothing by itself.

use std::path::{Path, PathBuf};

use super::flags::Flags;
use super::load::Environment;
use super::types::Config;

/// The folder name in each XDG folder.
const FOLDER: &str = "tarnet";

/// The files of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `tarnetd.toml`.
    pub config: PathBuf,
    /// Whether somebody named the settings file, so that it must exist.
    pub config_named: bool,
    /// `services.d`.
    pub services_dir: PathBuf,
    /// Whether a flag or variable named `services.d`, so that `expose.dir` does not move it.
    pub services_dir_named: bool,
    /// Keys, database, lock.
    pub state_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
}

/// Paths that cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither {0} nor HOME is set; name the place with {1}")]
pub struct PathError(&'static str, &'static str);

/// The folder named by the absolute path in `variable`, or below HOME. XDG Base Directory Specification: a relative path is ignored.
fn xdg(env: &Environment, variable: &'static str, below_home: &str, flag: &'static str) -> Result<PathBuf, PathError> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .map(|folder| folder.join(FOLDER))
        .ok_or(PathError(variable, flag))
}

impl Paths {
    /// Finds every path: flag, then variable, then the XDG folders.
    ///
    /// # Errors
    /// A folder is neither named nor can it be found.
    pub fn find(flags: &Flags, env: &Environment) -> Result<Self, PathError> {
        let named = |flag: &Option<PathBuf>, variable: &str| {
            flag.clone().or_else(|| env.get(variable).filter(|text| !text.is_empty()).map(PathBuf::from))
        };
        let config = named(&flags.config, "TARNET_CONFIG");
        let services = named(&flags.services_dir, "TARNET_SERVICES_DIR");
        let (config_named, services_dir_named) = (config.is_some(), services.is_some());
        let config_dir = |flag| xdg(env, "XDG_CONFIG_HOME", ".config", flag);
        let state_dir = match named(&flags.state_dir, "TARNET_STATE_DIR") {
            Some(dir) => dir,
            None => xdg(env, "XDG_DATA_HOME", ".local/share", "--state-dir")?,
        };
        let socket = named(&flags.socket, "TARNET_SOCKET").unwrap_or_else(|| {
            let runtime = env.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
            runtime.map_or_else(|| state_dir.clone(), |dir| dir.join(FOLDER)).join("tarnet.sock")
        });
        Ok(Self {
            config: config.map_or_else(|| config_dir("--config").map(|dir| dir.join("tarnetd.toml")), Ok)?,
            config_named,
            services_dir: services
                .map_or_else(|| config_dir("--services-dir").map(|dir| dir.join("services.d")), Ok)?,
            services_dir_named,
            state_dir,
            socket,
        })
    }

    /// The folder of service files: the one named by flag or variable, then `expose.dir`, then the usual one.
    #[must_use]
    pub fn services<'a>(&'a self, config: &'a Config) -> &'a Path {
        match &config.expose.dir {
            Some(dir) if !self.services_dir_named => dir,
            Some(_) | None => &self.services_dir,
        }
    }
}
