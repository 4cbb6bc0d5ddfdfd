//! `tarnet status` and `tarnet routes`.

use tarnet_api as api;

use crate::commands::Session;
use crate::output::{CliError, bytes, show, table};

/// The node at a glance.
pub async fn status(session: &Session) -> Result<(), CliError> {
    let status: api::Status = session.client.get("/v1/status").await?;
    show(session.json, &status, print)
}

/// Status as text.
fn print(status: &api::Status) {
    println!("peer        {}", status.peer_id);
    println!("version     {}, up {} s", status.version, status.uptime_s);
    for identity in &status.identities {
        println!("identity    {} {} ({}, {})", identity.name, identity.service_id, identity.scheme, identity.privacy);
    }
    for link in &status.links {
        println!(
            "link        {} {} {} {:.2} ms ({})",
            link.peer_id, link.direction, link.address, link.rtt_ms, link.group
        );
    }
    let circuits = &status.circuits;
    println!("routes      {}", status.routes);
    println!("circuits    {} own, {} in transit", circuits.own, circuits.transit);
    println!("sessions    {}, {} channels, {} flows", status.sessions.len(), status.channels, status.flows);
    println!(
        "dht         {} blocks, {}, about {} nodes",
        status.dht.blocks,
        bytes(status.dht.bytes),
        status.dht.size_estimate
    );
    println!(
        "tun         {} {} {} mtu {}: {}",
        status.tun.name, status.tun.ipv4, status.tun.ipv6, status.tun.mtu, status.tun.state
    );
    println!("dns         {}: {}", status.dns.mode, status.dns.state);
    let traffic = &status.traffic;
    println!(
        "traffic     {} in, {} out, {} relayed",
        bytes(traffic.rx_bytes),
        bytes(traffic.tx_bytes),
        bytes(traffic.relayed_bytes)
    );
    let process = &status.process;
    println!("process     {} resident, {} descriptors, {} tasks", bytes(process.rss_bytes), process.fds, process.tasks);
}

/// How the host resolves names, and why that way.
pub async fn dns(session: &Session) -> Result<(), CliError> {
    let status: api::DnsStatus = session.client.get("/v1/dns").await?;
    show(session.json, &status, |status| {
        println!("mode        {}", status.mode);
        println!("state       {}", status.state);
        println!("servers     {}", status.servers.join(" "));
        println!("suffix      {}", status.suffix);
        for reason in &status.why {
            println!("  {:<20} {}", reason.key, reason.value);
        }
    })
}

/// The distance-vector table.
pub async fn routes(session: &Session) -> Result<(), CliError> {
    let routes: Vec<api::Route> = session.client.get("/v1/routes").await?;
    show(session.json, &routes, |routes| {
        let rows: Vec<_> = routes
            .iter()
            .map(|route| {
                vec![
                    route.peer_id.clone(),
                    route.next_hop.clone(),
                    route.cost.to_string(),
                    route.alternates.len().to_string(),
                ]
            })
            .collect();
        table(&["DESTINATION", "NEXT HOP", "COST", "ALTERNATES"], &rows);
    })
}
