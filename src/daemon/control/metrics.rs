//! `GET /metrics`: the status in Prometheus' text format.

use std::fmt::Write;

use tarnet_api::Status;

/// The metrics' text.
pub fn text(status: &Status) -> String {
    let gauges: [(&str, &str, u64); 15] = [
        ("tarnet_uptime_seconds", "Seconds since the daemon started.", status.uptime_s),
        ("tarnet_links", "Established links.", status.links.len() as u64),
        ("tarnet_routes", "Destinations in the routing table.", status.routes as u64),
        ("tarnet_circuits_own", "Circuits that end here.", status.circuits.own as u64),
        ("tarnet_circuits_transit", "Circuits that pass through.", status.circuits.transit as u64),
        ("tarnet_sessions", "Open sessions.", status.sessions.len() as u64),
        ("tarnet_channels", "Open channels.", status.channels as u64),
        ("tarnet_flows", "Intercepted flows.", status.flows as u64),
        ("tarnet_dht_blocks", "Blocks stored for the DHT.", status.dht.blocks as u64),
        ("tarnet_dht_bytes", "Bytes stored for the DHT.", status.dht.bytes),
        ("tarnet_link_receive_bytes_total", "Bytes received on links.", status.traffic.rx_bytes),
        ("tarnet_link_transmit_bytes_total", "Bytes sent on links.", status.traffic.tx_bytes),
        ("tarnet_relayed_bytes_total", "Bytes passed on for others.", status.traffic.relayed_bytes),
        ("process_resident_memory_bytes", "Resident memory.", status.process.rss_bytes),
        ("process_open_fds", "Open file descriptors.", status.process.fds as u64),
    ];
    let mut out = String::new();
    for (name, help, value) in gauges {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_help_and_type() {
        let text = text(&Status { uptime_s: 5, ..Status::default() });
        assert!(text.contains("\ntarnet_links 0\n") && text.contains("tarnet_uptime_seconds 5\n"));
        assert_eq!(text.matches("# HELP").count(), text.matches("# TYPE").count());
        assert!(text.contains("# TYPE tarnet_relayed_bytes_total counter"));
    }
}
