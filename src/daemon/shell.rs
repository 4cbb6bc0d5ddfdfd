//! What the daemon knows besides the node: TUN, DNS, services, SOCKS5, the process.

use std::pin::Pin;
use std::sync::Arc;

use tarnet_api as api;

use crate::control::Shell;
use crate::dns::host::HostDns;
use crate::expose::Exposer;
use crate::tun::TunHandle;

/// The front ends, for the control socket.
pub struct FrontEnds {
    /// The TUN, or why there is none.
    pub tun: Result<Arc<TunHandle>, String>,
    /// The acting identity of intercepted flows.
    pub tun_identity: String,
    /// The services.
    pub exposer: Option<Exposer>,
    /// Addresses of the SOCKS5 proxy.
    pub socks: Vec<String>,
    /// What tells the host's resolver of us; absent: the TUN or DNS is off.
    pub host: Option<Arc<HostDns>>,
    /// The suffix under which every name works.
    pub suffix: String,
}

impl Shell for FrontEnds {
    fn complete(&self, status: &mut api::Status) {
        status.process = process();
        status.socks.clone_from(&self.socks);
        match &self.tun {
            Ok(tun) => {
                status.flows = tun.flows();
                status.tun = api::Tun {
                    name: tun.name().to_owned(),
                    ipv4: tun.ipv4().to_string(),
                    ipv6: tun.ipv6().map(|address| address.to_string()).unwrap_or_default(),
                    mtu: u32::from(tun.mtu()),
                    state: tun.state(),
                    identity: self.tun_identity.clone(),
                };
            }
            Err(why) => status.tun.state.clone_from(why),
        }
        let dns = self.dns();
        status.dns = api::Dns { mode: dns.mode, state: dns.state };
    }

    fn dns(&self) -> api::DnsStatus {
        let Some(host) = &self.host else {
            let why = if self.tun.is_ok() { "off: --no-dns" } else { "off: it answers on the TUN, which is off" };
            return api::DnsStatus { mode: "off".into(), state: why.into(), ..Default::default() };
        };
        let status = host.status();
        let trail = status.trail.into_iter().map(|(key, value)| api::DnsReason { key, value });
        let mut shown = api::DnsStatus {
            mode: status.mode.to_string(),
            state: status.state,
            suffix: self.suffix.clone(),
            why: trail.collect(),
            ..Default::default()
        };
        if let Ok(tun) = &self.tun {
            let (v4, v6) = tun.book().addresses().dns();
            shown.servers = vec![v4.to_string()];
            shown.servers.extend(tun.ipv6().map(|_| v6.to_string()));
            shown.servers.extend(tun.dns().addresses().iter().map(ToString::to_string));
        }
        shown
    }

    fn zone_changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            // Where it does not work there is nothing to wait for.
            if let Some(host) = self.host.as_ref().filter(|host| host.status().state == "up") {
                host.published().await;
            }
        })
    }

    fn services(&self) -> Vec<api::Service> {
        self.exposer.as_ref().map(Exposer::list).unwrap_or_default()
    }

    fn service_place(&self, name: &str, text: &str) -> Result<std::path::PathBuf, String> {
        let exposer = self.exposer.as_ref().ok_or("nothing is exposed: --no-expose")?;
        exposer.place(name, text).map_err(|error| error.what)
    }

    fn identity_made(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Some(exposer) = &self.exposer {
                exposer.retry().await;
            }
        })
    }
}

/// Memory, descriptors and tasks of this process. `proc(5)`
fn process() -> api::Process {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|page| u64::try_from(page).ok()).unwrap_or(4096);
    // Reading the folder takes a descriptor of its own.
    let fds = std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count().saturating_sub(1));
    let tasks = tokio::runtime::Handle::try_current().map_or(0, |handle| handle.metrics().num_alive_tasks());
    api::Process { rss_bytes: pages * page, fds, tasks }
}
