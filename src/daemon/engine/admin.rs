//! Administrative requests.

use tarnet_api as api;
use tarnet_core::crypto::{Group, PeerId, ServiceId};
use tarnet_core::dht::ClockDoubt;
use tarnet_core::link::ConnId;
use tarnet_core::names::{ZoneEntry, ZoneLabel};
use tarnet_core::session::{Acting, Owner};

use super::Engine;
use super::requests::Waiting;
use crate::admin::{AdminCall, AdminError, Reply};
use crate::config::PeerUri;
use crate::records;

/// Milliseconds of a duration.
fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Engine {
    /// One administrative request.
    pub(super) fn on_admin(&mut self, call: AdminCall) {
        let now = self.clock.now();
        match call {
            AdminCall::Status(reply) => drop(reply.send(Ok(self.status()))),
            AdminCall::Routes(reply) => drop(reply.send(Ok(self.routes()))),
            AdminCall::Peers(reply) => drop(reply.send(Ok(self.peers()))),
            AdminCall::PeerAdd(uri, reply) => drop(reply.send(self.peer_add(&uri))),
            AdminCall::PeerForget(peer, reply) => self.peer_forget(peer, reply),
            AdminCall::IdentityCreate { name, scheme, reply } => self.identity_create(&name, scheme, reply),
            AdminCall::IdentityList(reply) => drop(reply.send(Ok(self.identities.list()))),
            AdminCall::IdentityDelete(name, reply) => self.identity_delete(&name, reply),
            AdminCall::IdentityExport(name, reply) => self.identity_export(&name, reply),
            AdminCall::IdentityImport(name, bytes, reply) => self.identity_import(&name, &bytes, reply),
            AdminCall::RecordSet { identity, label, record, public, ttl_s, by_expose, reply } => {
                self.record_set(&identity, &label, ZoneEntry { record, public, ttl_s, by_expose }, reply);
            }
            AdminCall::RecordRemove { identity, label, by_expose, reply } => {
                self.record_remove(&identity, &label, by_expose, reply)
            }
            AdminCall::RecordList(identity, reply) => drop(reply.send(self.record_list(&identity))),
            AdminCall::DhtPut(value, reply) => {
                let want = self.requests.reserve();
                match self.node.dht_put(now, want, &value) {
                    Ok(hash) => self.requests.wait(want, Waiting::Put(records::hex(&hash), reply)),
                    Err(error) => drop(reply.send(Err(AdminError::Refused(error.to_string())))),
                }
            }
            AdminCall::DhtGet(hash, reply) => {
                let want = self.requests.add(Waiting::Content(reply));
                self.node.dht_get(now, want, hash);
            }
            AdminCall::DhtPutSigned { identity, key, value, ttl_s, reply } => {
                let Some(id) = self.identities.id(&identity) else {
                    return drop(reply.send(Err(unknown_identity(&identity))));
                };
                let want = self.requests.reserve();
                match self.node.dht_put_signed(now, want, id, key, &value, ttl_s) {
                    Ok(_) => self.requests.wait(want, Waiting::PutSigned(reply)),
                    Err(error) => drop(reply.send(Err(AdminError::Refused(error.to_string())))),
                }
            }
            AdminCall::DhtGetSigned(key, reply) => {
                let want = self.requests.add(Waiting::Signed(reply));
                self.node.dht_get_signed(now, want, key);
            }
            AdminCall::DhtHello(peer, reply) => {
                let want = self.requests.add(Waiting::Hello(reply));
                self.node.dht_hello(now, want, peer);
            }
        }
    }

    /// The node at a glance; the shell adds what it knows.
    fn status(&self) -> api::Status {
        let links: Vec<api::Link> = self.node.link_status().map(|link| self.link(&link)).collect();
        let dht = self.node.dht_status();
        let (rx_bytes, tx_bytes) = self.node.link_traffic();
        let sessions = self.node.session_status();
        let (own, transit) = self.node.path_counts();
        api::Status {
            peer_id: self.node.me().to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: (self.clock.now().instant - self.started).as_secs(),
            identities: self.identities.list(),
            links,
            routes: self.node.routes().count(),
            circuits: api::Circuits { own, transit, ..Default::default() },
            channels: sessions.iter().map(|session| session.channels).sum(),
            sessions: sessions.iter().map(session).collect(),
            dht: api::Dht { blocks: dht.blocks, bytes: dht.bytes as u64, size_estimate: dht.size_estimate },
            clock: match self.node.clock_doubt(self.clock.now()) {
                Some(ClockDoubt::Ahead) => "ahead".into(),
                Some(ClockDoubt::Behind) => "behind".into(),
                None => String::new(),
            },
            traffic: api::Traffic { rx_bytes, tx_bytes, relayed_bytes: self.node.counters().relayed_bytes },
            ..Default::default()
        }
    }

    /// A link for people.
    fn link(&self, link: &tarnet_core::link::LinkStatus) -> api::Link {
        api::Link {
            peer_id: link.peer.to_string(),
            direction: if link.outbound { "outbound" } else { "inbound" }.into(),
            transport: "tcp".into(),
            rtt_ms: ms(link.rtt),
            standby: 0,
            address: self.conns.get(&link.conn).map(|conn| conn.address.clone()).unwrap_or_default(),
            group: match link.group {
                Group::X25519 => "x25519",
                Group::X25519MlKem768 => "x25519mlkem768",
            }
            .into(),
        }
    }

    /// The routing table for people.
    fn routes(&self) -> Vec<api::Route> {
        let alternate = |(next_hop, cost): &(PeerId, tarnet_core::routing::Cost)| api::Alternate {
            next_hop: next_hop.to_string(),
            cost: u32::from(cost.0),
        };
        let route = |route: tarnet_core::routing::RouteStatus| api::Route {
            peer_id: route.peer_id.to_string(),
            next_hop: route.next_hop.to_string(),
            cost: u32::from(route.cost.0),
            alternates: route.alternates.iter().map(alternate).collect(),
        };
        self.node.routes().map(route).collect()
    }

    /// Links and known peers for people.
    fn peers(&self) -> Vec<api::Peer> {
        let mut peers: Vec<api::Peer> = self
            .node
            .link_status()
            .map(|link| api::Peer {
                peer_id: link.peer.to_string(),
                address: self.conns.get(&link.conn).map(|conn| conn.address.clone()).unwrap_or_default(),
                state: "linked".into(),
                source: if link.outbound { "outbound" } else { "inbound" }.into(),
                error: String::new(),
            })
            .collect();
        for target in self.dialler.targets() {
            peers.push(api::Peer {
                peer_id: target.peer.map(|peer| peer.to_string()).unwrap_or_default(),
                address: target.place,
                state: if target.connected {
                    "connected"
                } else if target.failures > 0 {
                    "waiting"
                } else {
                    "dialling"
                }
                .into(),
                source: target.source.into(),
                error: target.error.unwrap_or_default(),
            });
        }
        let known = self.peers.iter().filter(|(peer, _)| !self.linked.contains_key(peer));
        peers.extend(known.map(|(peer, known)| api::Peer {
            peer_id: peer.to_string(),
            address: known.addresses.join(" "),
            state: "known".into(),
            ..Default::default()
        }));
        peers
    }

    /// Dials an address from now on.
    fn peer_add(&mut self, uri: &str) -> Result<(), AdminError> {
        let uri: PeerUri =
            uri.parse().map_err(|error: crate::config::UriError| AdminError::Refused(error.to_string()))?;
        let remembered = self.peers.remembered(&uri);
        self.dialler.add(&uri, remembered).map_err(|error| AdminError::Refused(error.to_string()))
    }

    /// Forgets a peer's pin, floor and addresses.
    fn peer_forget(&mut self, peer: PeerId, reply: Reply<()>) {
        match self.peers.forget(&peer) {
            Some(ops) => {
                self.node.forget_peer(peer);
                self.dialler.forget(&peer);
                self.after_disk(ops, reply, ());
            }
            None => drop(reply.send(Err(AdminError::NotFound(format!("peer {peer} is not known"))))),
        }
    }

    /// A peer proved its id on a connection.
    pub(super) fn on_peer_seen(&mut self, peer: PeerId, conn: ConnId, group: Group) {
        // An address that we dialled is worth trying again; where a peer came from is not.
        let address =
            self.conns.get(&conn).filter(|found| found.dialled).map(|found| found.address.clone()).unwrap_or_default();
        let mut ops = self.peers.seen(self.clock.now().unix, peer, group, &address);
        if let Some(uri) = self.dialler.uri_of(conn) {
            ops.extend(self.peers.pin(&uri, peer));
        }
        self.dialler.established(conn, peer);
        self.write(ops, crate::store::When::Soon);
    }

    /// Sets a record; answered once it is on disk.
    fn record_set(&mut self, identity: &str, label: &str, entry: ZoneEntry, reply: Reply<()>) {
        let Some(id) = self.identities.id(identity) else {
            return drop(reply.send(Err(unknown_identity(identity))));
        };
        let label = match ZoneLabel::new(label) {
            Ok(label) => label,
            Err(error) => return drop(reply.send(Err(AdminError::Refused(error.to_string())))),
        };
        if let Err(error) = self.node.set_record(id, label.clone(), entry) {
            return drop(reply.send(Err(AdminError::Refused(error.to_string()))));
        }
        let op = self.label_row(identity, id, &label);
        self.after_disk(vec![op], reply, ());
    }

    /// Removes records; answered once that is on disk.
    fn record_remove(&mut self, identity: &str, label: &str, by_expose: bool, reply: Reply<()>) {
        let Some(id) = self.identities.id(identity) else {
            return drop(reply.send(Err(unknown_identity(identity))));
        };
        let missing = || AdminError::NotFound(format!("the zone of '{identity}' has no label '{label}'"));
        let Ok(label) = ZoneLabel::new(label) else { return drop(reply.send(Err(missing()))) };
        if self.node.remove_records(id, &label, by_expose) == 0 && !by_expose {
            return drop(reply.send(Err(missing())));
        }
        let op = self.label_row(identity, id, &label);
        self.after_disk(vec![op], reply, ());
    }

    /// What a label holds now, for the disk. What `expose` wrote is written again at start.
    fn label_row(&self, identity: &str, id: ServiceId, label: &ZoneLabel) -> crate::store::Op {
        let entries = self.node.zone(&id).filter(|(at, entry)| *at == label && !entry.by_expose);
        let entries: Vec<api::ZoneEntry> = entries.map(|(at, entry)| zone_entry(at, entry)).collect();
        records::zone_label(identity, label.as_str(), &entries)
    }

    /// Everything in a zone of ours.
    fn record_list(&self, identity: &str) -> Result<Vec<api::ZoneEntry>, AdminError> {
        let id = self.identities.id(identity).ok_or_else(|| unknown_identity(identity))?;
        Ok(self.node.zone(&id).map(|(label, entry)| zone_entry(label, entry)).collect())
    }
}

/// There is no such identity.
fn unknown_identity(name: &str) -> AdminError {
    AdminError::NotFound(format!("there is no identity '{name}'"))
}

/// A zone's entry for people.
fn zone_entry(label: &ZoneLabel, entry: &ZoneEntry) -> api::ZoneEntry {
    let (kind, value) = records::record_to_text(&entry.record);
    api::ZoneEntry {
        label: label.as_str().to_owned(),
        kind: kind.into(),
        value,
        ttl_s: entry.ttl_s,
        public: entry.public,
        by_expose: entry.by_expose,
    }
}

/// A session for people.
fn session(session: &tarnet_core::session::SessionStatus) -> api::Session {
    let acting = match session.acting {
        Acting::Identity(id) => id.to_string(),
        Acting::Anonymous => String::new(),
    };
    let owner = match session.owner {
        Owner::Service(id) => id.to_string(),
        Owner::Peer(id) => id.to_string(),
    };
    api::Session {
        target: owner,
        acting,
        channels: session.channels,
        circuits: session.carriers,
        rtt_ms: session.rtt.map_or(0.0, ms),
    }
}
