//! What the daemon itself sees of its health, for `tarnet doctor`. Each file holds checks of
//! one kind; a check looks, says what it saw and what mends it, and changes nothing.

mod files;
mod kernel;
mod network;
mod routes;

use std::sync::Arc;

use tarnet_api::Check;

use crate::config::{Config, Paths};
use crate::expose::Exposer;
use crate::tun::TunHandle;

pub use network::others;

/// What is looked at.
pub struct Doctor {
    /// The settings.
    pub config: Config,
    /// The files.
    pub paths: Paths,
    /// The TUN, or why there is none.
    pub tun: Result<Arc<TunHandle>, String>,
    /// The services.
    pub exposer: Option<Exposer>,
}

impl Doctor {
    /// Looks at the kernel's and the disk's side. Blocks on files.
    #[must_use]
    pub fn look(&self) -> Vec<Check> {
        let mut checks = kernel::look(&self.config, &self.tun);
        if let Ok(tun) = &self.tun {
            checks.extend(routes::look(tun.name(), tun.book().addresses()));
        }
        checks.extend(files::look(self));
        checks.push(network::ports(&self.config));
        checks
    }

    /// Where the responder answers on the link.
    #[must_use]
    pub fn responders(&self) -> Vec<String> {
        let Ok(tun) = &self.tun else { return Vec::new() };
        let (v4, v6) = tun.book().addresses().dns();
        let v6 = tun.ipv6().map(|_| v6.to_string());
        [Some(v4.to_string()), v6].into_iter().flatten().collect()
    }
}
