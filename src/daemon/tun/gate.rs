//! Keeps forwarded traffic (of containers, of other hosts where this one routes) from our
//! prefixes: two rules of policy routing in each family, as `ip rule` shows them.
//!
//! | preference | to | arriving | what |
//! | --- | --- | --- | --- |
//! | [`PREFERENCE`] | our prefix | from this host itself (`iif lo`) | the main table, as usual |
//! | [`PREFERENCE`] + 1 | our prefix | | prohibit: an ICMP error at once |
//!
//! Only the kernel's routing knows for certain what was forwarded: behind NAT such a packet
//! looks like one of ours by the time that it reaches the device. The rules stay when the
//! daemon is killed, and go with a clean stop.

use std::net::{Ipv4Addr, Ipv6Addr};

use rtnetlink::RuleAddRequest;
use rtnetlink::packet_route::rule::{RuleAction, RuleMessage};

use super::plan::Addresses;
use super::routes::Routes;

/// The preference of the first rule: before the main table (32766), and away from those of other programs.
const PREFERENCE: u32 = 5_180;
/// `EEXIST`, as netlink has it.
const EXISTS: i32 = -libc::EEXIST;

/// Closes the gate. False where the kernel has no policy routing for IPv4; a host without IPv6 needs none for it.
pub async fn close(routes: &Routes, addresses: &Addresses, ipv6: bool) -> bool {
    let v4 = v4(routes, addresses);
    let v6 = v6(routes, addresses);
    let mut closed = true;
    for rule in v4 {
        closed &= added(rule.execute().await);
    }
    if ipv6 {
        for rule in v6 {
            closed &= added(rule.execute().await);
        }
    }
    if !closed {
        tracing::warn!("this kernel has no policy routing: only programs whose user is known can reach names");
    }
    closed
}

/// Opens the gate: rules of ours that are there go.
pub async fn open(routes: &Routes, addresses: &Addresses) {
    let messages: Vec<RuleMessage> = v4(routes, addresses)
        .map(|mut rule| rule.message_mut().clone())
        .into_iter()
        .chain(v6(routes, addresses).map(|mut rule| rule.message_mut().clone()))
        .collect();
    for message in messages {
        if let Err(error) = routes.handle.rule().del(message).execute().await {
            tracing::trace!(%error, "a rule was not there to remove");
        }
    }
}

/// Whether a rule is there now.
fn added(outcome: Result<(), rtnetlink::Error>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(rtnetlink::Error::NetlinkError(message)) => message.raw_code() == EXISTS,
        Err(_) => false,
    }
}

/// The rules of IPv4.
fn v4(routes: &Routes, addresses: &Addresses) -> [RuleAddRequest<Ipv4Addr>; 2] {
    let to = |rule: RuleAddRequest| rule.v4().destination_prefix(addresses.ipv4.address, addresses.ipv4.len);
    both(routes).map(to)
}

/// The rules of IPv6.
fn v6(routes: &Routes, addresses: &Addresses) -> [RuleAddRequest<Ipv6Addr>; 2] {
    let to = |rule: RuleAddRequest| rule.v6().destination_prefix(addresses.ipv6.address, addresses.ipv6.len);
    both(routes).map(to)
}

/// The rules, without their prefix.
fn both(routes: &Routes) -> [RuleAddRequest; 2] {
    let rule = || routes.handle.rule().add();
    [
        rule().priority(PREFERENCE).input_interface("lo").action(RuleAction::ToTable),
        rule().priority(PREFERENCE + 1).table_id(0).action(RuleAction::Prohibit),
    ]
}
