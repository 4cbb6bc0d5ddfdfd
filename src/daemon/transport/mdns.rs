//! Neighbours on the local network: announces us as `_tarnet._tcp.local.` and gives
//! whoever is found to the dialler as a hint (RFC 6762, RFC 6763). Link-local addresses
//! count, with their interface. The PeerId in the announcement is a hint only: anybody
//! on the network can claim it.
//!
//! mdns-sd's own thread looks for new interfaces every two seconds, which puts nothing on the
//! network, and spaces its queries out to an hour.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use mdns_sd::{DaemonEvent, IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tarnet_core::crypto::PeerId;

use super::conn::AbortOnDrop;
use super::dial::Dialler;
use super::limits::ADDRESSES_MAX;

/// The service type.
const SERVICE: &str = "_tarnet._tcp.local.";
/// The TXT key that holds the PeerId.
const TXT_PEER: &str = "id";
/// Seconds between looks at the host's interfaces: a new one must give links within 5 s.
const INTERFACE_CHECK_S: u32 = 2;
/// Hex digits of the PeerId in instance and host names: a DNS label holds at most 63 bytes.
const NAME_DIGITS: usize = 32;

/// Announces and seeks until dropped.
pub struct Mdns {
    daemon: ServiceDaemon,
    name: String,
    _task: AbortOnDrop<()>,
}

impl Mdns {
    /// Starts announcing that we listen on `port` (none: seek only) and hinting `dialler` at others.
    /// Interfaces in `skip` (our own TUN) are left alone.
    ///
    /// # Errors
    /// No multicast socket can be opened.
    pub fn start(me: PeerId, port: Option<u16>, skip: &[String], dialler: Dialler) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        daemon.set_ip_check_interval(INTERFACE_CHECK_S)?;
        let mut ignored = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
        ignored.extend(skip.iter().cloned().map(IfKind::Name));
        daemon.disable_interface(ignored)?;
        let name = instance(&me);
        if let Some(port) = port {
            let host = format!("tarnet-{name}.local.");
            let txt = [(TXT_PEER, me.to_string())];
            let mut service = ServiceInfo::new(SERVICE, &name, &host, "", port, &txt[..])?.enable_addr_auto();
            // The name is a hash of our key: nobody else has it, and probing would cost most of a second.
            service.set_requires_probe(false);
            daemon.register(service)?;
        }
        let (events, changes) = (daemon.browse(SERVICE)?, daemon.monitor()?);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = events.recv_async() => match event {
                        Ok(event) => handle(me, &event, &dialler),
                        Err(_) => return,
                    },
                    change = changes.recv_async() => match change {
                        // This host has a new address: whoever could not be reached may be by now.
                        Ok(DaemonEvent::IpAdd(_)) => dialler.wake(),
                        Ok(_) => {}
                        Err(_) => return,
                    },
                }
            }
        });
        Ok(Self { daemon, name, _task: AbortOnDrop(task) })
    }

    /// Says goodbye to the network and stops; waits until that is sent, at most a second.
    pub async fn stop(self) {
        let goodbye = async {
            if let Ok(sent) = self.daemon.unregister(&format!("{}.{SERVICE}", self.name)) {
                let _ = sent.recv_async().await;
            }
            if let Ok(stopped) = self.daemon.shutdown() {
                let _ = stopped.recv_async().await;
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), goodbye).await;
    }
}

impl Drop for Mdns {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

/// The name of our announcement: the first digits of the PeerId.
fn instance(me: &PeerId) -> String {
    let mut name = me.to_string();
    name.truncate(NAME_DIGITS);
    name
}

/// Passes an event on to the dialler.
fn handle(me: PeerId, event: &ServiceEvent, dialler: &Dialler) {
    match event {
        ServiceEvent::ServiceResolved(service) => {
            let Some((peer, addresses)) = candidate(service) else { return };
            if peer == me || addresses.is_empty() {
                return;
            }
            tracing::debug!(?peer, ?addresses, "seen on the local network");
            if let Err(error) = dialler.hint(peer, addresses, me < peer) {
                tracing::debug!(%error, "a neighbour is not dialled");
            }
        }
        ServiceEvent::ServiceRemoved(_, name) => {
            let gone = dialler.hinted().into_iter().find(|peer| name.starts_with(&instance(peer)));
            if let Some(peer) = gone {
                dialler.remove_hint(&peer);
            }
        }
        ServiceEvent::SearchStarted(_) | ServiceEvent::ServiceFound(..) | ServiceEvent::SearchStopped(_) => {}
        _ => {}
    }
}

/// Peer and addresses of an announcement, the ones that reach farthest first; `None` when it is not one of ours.
fn candidate(service: &ResolvedService) -> Option<(PeerId, Vec<SocketAddr>)> {
    let peer = PeerId::from_str(service.get_property_val_str(TXT_PEER)?).ok()?;
    let port = service.get_port();
    if port == 0 {
        return None;
    }
    let mut addresses: Vec<SocketAddr> = service.get_addresses().iter().filter_map(|ip| address(ip, port)).collect();
    addresses.sort_by_key(|address| (link_local(address.ip()), *address));
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    Some((peer, addresses))
}

/// The socket address of a found address; link-local ones keep their interface.
fn address(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    let plain = ip.to_ip_addr();
    if plain.is_loopback() || plain.is_unspecified() || plain.is_multicast() {
        return None;
    }
    match (ip, plain) {
        (ScopedIp::V6(scoped), IpAddr::V6(v6)) if link_local(plain) => {
            Some(SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scoped.scope_id().index)))
        }
        _ => Some(SocketAddr::new(plain, port)),
    }
}

/// Whether an address means something on one link only.
fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(txt: &[(&str, String)], addresses: &str, port: u16) -> ResolvedService {
        ServiceInfo::new(SERVICE, "x", "x.local.", addresses, port, txt).unwrap().as_resolved_service()
    }

    #[test]
    fn announcements_become_peers_with_addresses_far_reaching_first() {
        let peer = PeerId([0xab; 32]);
        let service = announced(&[(TXT_PEER, peer.to_string())], "169.254.1.2,192.0.2.1,127.0.0.1", 7946);
        let (found, addresses) = candidate(&service).unwrap();
        assert_eq!(found, peer);
        let want: Vec<SocketAddr> = vec!["192.0.2.1:7946".parse().unwrap(), "169.254.1.2:7946".parse().unwrap()];
        assert_eq!(addresses, want);
    }

    #[test]
    fn announcements_without_a_peer_id_or_port_are_not_ours() {
        assert!(candidate(&announced(&[], "192.0.2.1", 1)).is_none());
        assert!(candidate(&announced(&[(TXT_PEER, "zz".into())], "192.0.2.1", 1)).is_none());
        assert!(candidate(&announced(&[(TXT_PEER, PeerId([1; 32]).to_string())], "192.0.2.1", 0)).is_none());
    }

    #[test]
    fn names_fit_a_label() {
        assert!(format!("tarnet-{}", instance(&PeerId([0xff; 32]))).len() <= 63);
    }
}
