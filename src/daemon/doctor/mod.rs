//! What the daemon itself sees of its health, for `tarnet doctor`. Each file holds checks of
//! one kind; a check looks, says what it saw and what mends it, and changes nothing.

mod files;
mod kernel;
mod network;
mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tarnet_api::Check;

use crate::config::{Config, Paths};
use crate::expose::Exposer;
use crate::tun::TunHandle;

pub use files::{SET_CLOCK, wrong_clock};
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
    /// Whether the guard has the TUN; `None` where there is to be no guard.
    pub guard: Option<Arc<AtomicBool>>,
}

impl Doctor {
    /// Looks at the kernel's and the disk's side. Blocks on files.
    #[must_use]
    pub fn look(&self) -> Vec<Check> {
        let mut checks = kernel::look(&self.config, &self.tun);
        if let Ok(tun) = &self.tun {
            checks.extend(routes::look(tun.name(), tun.book().addresses()));
        }
        checks.extend(self.guard.as_deref().map(|held| guarded(held.load(Ordering::Relaxed))));
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

/// What becomes of names while the daemon is stopped.
fn guarded(held: bool) -> Check {
    match held {
        true => Check::ok("guard", "names stay unreachable, and nobody else's, while the daemon is stopped"),
        false => Check::warn(
            "guard",
            "the guard does not hold the TUN: while the daemon is stopped the network hears of our names",
            "systemctl restart tarnet-guard; journalctl -u tarnet-guard says why",
        ),
    }
}
