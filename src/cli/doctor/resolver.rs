//! Whether this host's resolver leads names of ours to the daemon: asked as every program
//! asks, through the C library. The suffix itself is asked for, which betrays no name.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use tarnet_api::{Check, Examination};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the resolver may take: the C library's own patience with one dead server.
const TIME_MAX: Duration = Duration::from_secs(6);

/// The resolver's file.
const FILE: &str = "/etc/resolv.conf";

/// Asks. Where there is no responder the check of the TUN has said why.
pub async fn look(seen: &Examination) -> Option<Check> {
    let ours: Vec<IpAddr> = seen.responders.iter().filter_map(|address| address.parse().ok()).collect();
    if ours.is_empty() {
        return None;
    }
    let (tell, told) = oneshot::channel();
    let suffix = seen.suffix.clone();
    // A thread that nobody waits for: the C library cannot be interrupted.
    std::thread::spawn(move || {
        let _ = tell.send((suffix.as_str(), 0).to_socket_addrs().map(|all| all.map(|at| at.ip()).collect::<Vec<_>>()));
    });
    let answer = match timeout(TIME_MAX, told).await {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(_)) | Err(_) => Err(format!("no answer within {} s", TIME_MAX.as_secs())),
    };
    let servers = servers(&std::fs::read_to_string(FILE).unwrap_or_default());
    Some(judge(seen, &ours, answer, &servers))
}

/// What an answer means.
fn judge(seen: &Examination, ours: &[IpAddr], answer: Result<Vec<IpAddr>, String>, servers: &[String]) -> Check {
    let (suffix, mode) = (&seen.suffix, &seen.dns.mode);
    let asked = if servers.is_empty() { "no name server".to_owned() } else { servers.join(", ") };
    let detail = match answer {
        Ok(found) if !found.is_empty() && found.iter().all(|address| ours.contains(address)) => {
            return Check::ok("resolver", format!("{suffix} leads here (mode {mode})"));
        }
        Ok(found) => {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            format!("{suffix} leads to {}, not here ({FILE}: {asked}; mode {mode})", found.join(", "))
        }
        Err(error) => {
            format!("{suffix} does not lead here: {error} ({FILE}: {asked}; mode {mode}: {})", seen.dns.state)
        }
    };
    let mend =
        format!("`tarnet dns status` shows how the host is told; by hand: `nameserver {}` first in {FILE}", ours[0]);
    Check::fail("resolver", detail, mend)
}

/// The name servers of the resolver's file. `resolv.conf(5)`
fn servers(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use tarnet_api::Health;

    use super::*;

    #[test]
    fn only_our_own_addresses_are_ours() {
        let seen = Examination { suffix: "tarnet.alt".into(), ..Default::default() };
        let ours: [IpAddr; 2] = ["198.18.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let judge = |answer| judge(&seen, &ours, answer, &["192.0.2.1".into()]);
        assert_eq!(judge(Ok(ours.to_vec())).state, Health::Ok);
        assert_eq!(judge(Ok(vec![ours[0]])).state, Health::Ok);
        let stranger = "203.0.113.9".parse().unwrap();
        for answer in [Ok(vec![]), Ok(vec![stranger]), Ok(vec![ours[0], stranger]), Err("no such name".into())] {
            let check = judge(answer);
            assert!(check.state == Health::Fail && check.mend.contains("nameserver 198.18.0.2"), "{check:?}");
        }
    }

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 127.0.0.53\n  nameserver\t::1 # local\nnameserver\n";
        assert_eq!(servers(text), ["127.0.0.53", "::1"]);
    }
}
