//! A name of TNS: published by one machine, resolved and connected to by another.

use std::time::Duration;

use bytes::Bytes;
use tarnet_core::crypto::ServiceId;
use tarnet_core::names::{Record, SetError, ZoneEntry, ZoneLabel};
use tarnet_core::node::{Event, Target, WantId, Wanted};
use tarnet_core::session::{Listen, Mode, Owner, Port};
use tarnet_core::time::Instant;

use crate::network::Network;

/// Life of a record.
const TTL_S: u32 = 3600;

/// The port of a service by its name.
///
/// # Panics
/// The name is no port's.
#[must_use]
pub fn port(name: &str) -> Port {
    Port::new(name).expect("a valid port")
}

/// Has a machine listen as its identity, and publish that under a label of its own zone.
/// Gives the label's full name, which is the same everywhere.
///
/// # Errors
/// The zone does not take the record.
///
/// # Panics
/// The label is none, or its port is taken.
pub fn publish(network: &mut Network, host: usize, label: &str) -> Result<String, SetError> {
    let service = network.hosts()[host].service;
    listen(network, host, service, Some(label));
    let entry = ZoneEntry { record: Record::Identity(service), ttl_s: TTL_S, public: true, by_expose: false };
    let zone_label = ZoneLabel::new(label).expect("a valid label");
    network.with_node(host, |node, _| node.set_record(service, zone_label, entry)).transpose()?;
    Ok(format!("{label}.{service}"))
}

/// Has a machine listen on the port `web`, for byte streams.
///
/// # Panics
/// The port is taken.
pub fn listen(network: &mut Network, host: usize, service: ServiceId, label: Option<&str>) {
    let listen = Listen {
        owner: Owner::Service(service),
        label: label.map(str::to_owned),
        port: port("web"),
        mode: Mode::ReliableOrdered,
        allow: Vec::new(),
        await_caller: false,
        channels_max: 0,
    };
    network.with_node(host, |node, _| node.listen(listen).map(|_| ()).expect("the port is free"));
}

/// Has a machine connect to a target's port `web`.
pub fn connect(network: &mut Network, host: usize, target: Target) -> WantId {
    let (want, acting) = (network.next_want(), network.hosts()[host].service);
    let wanted = Wanted { port: port("web"), mode: Mode::ReliableOrdered, early: Bytes::new() };
    network.with_node(host, |node, now| node.connect(now, want, acting, target, wanted));
    want
}

/// Lets time pass until a request is answered, accepting every channel that is asked for meanwhile.
pub fn wait(network: &mut Network, want: WantId, time: Duration) -> Option<(Instant, Event)> {
    let end = network.now().instant + time;
    loop {
        if let Some(answer) = network.take_answer(want) {
            return Some(answer);
        }
        while let Some((host, event)) = network.take_channel_event() {
            if let Event::Incoming { channel, .. } = event {
                network.with_node(host, |node, now| node.accept(now, channel));
            }
        }
        if !network.step(end) {
            return None;
        }
    }
}
