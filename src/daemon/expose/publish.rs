//! The records that services have in the zones of their identities, all marked as
//! `expose`'s: a record set by hand wins.

use std::collections::BTreeSet;

use tarnet_core::crypto::ServiceId;
use tarnet_core::names::Record;
use tokio::sync::oneshot;

use super::file::Service;
use crate::admin::{AdminCall, AdminError, Reply};
use crate::handle::NodeHandle;

/// How long others may hold an announced record, seconds. Tarnet: as long as our DNS answers live, so that a
/// service that is withdrawn or moves is gone from every cache within a minute.
const TTL_S: u32 = 60;
/// The label of a zone's apex.
const APEX: &str = "@";

/// A label of an identity's zone.
pub(super) type Place = (String, String);

/// Where a service is announced.
pub(super) fn place(service: &Service) -> Place {
    (service.identity.clone(), service.subdomain.clone().unwrap_or_else(|| APEX.into()))
}

/// Makes an administrative call and waits for its answer.
async fn call<T>(handle: &NodeHandle, make: impl FnOnce(Reply<T>) -> AdminCall) -> Result<T, AdminError> {
    let stopping = || AdminError::Refused("the daemon is stopping".into());
    let (reply, answer) = oneshot::channel();
    handle.control(make(reply)).await.ok_or_else(stopping)?;
    answer.await.unwrap_or_else(|_| Err(stopping()))
}

/// The ServiceId of one of our identities.
async fn own_id(handle: &NodeHandle, identity: &str) -> Result<ServiceId, AdminError> {
    let all = call(handle, AdminCall::IdentityList).await?;
    let found = all.into_iter().find(|known| known.name == identity).and_then(|known| known.service_id.parse().ok());
    found.ok_or_else(|| AdminError::NotFound(format!("there is no identity named {identity:?}")))
}

/// Announces a service: its label is the identity that serves it.
pub(super) async fn announce(handle: &NodeHandle, service: &Service) -> Result<(), AdminError> {
    let record = Record::Identity(own_id(handle, &service.identity).await?);
    let (identity, label) = place(service);
    let set =
        |reply| AdminCall::RecordSet { identity, label, record, public: true, ttl_s: TTL_S, by_expose: true, reply };
    call(handle, set).await
}

/// Withdraws what was announced at a label. A record set by hand stays.
pub(super) async fn withdraw(handle: &NodeHandle, (identity, label): Place) {
    let what = format!("{label} of {identity}");
    let removed = call(handle, |reply| AdminCall::RecordRemove { identity, label, by_expose: true, reply }).await;
    match removed {
        Ok(()) | Err(AdminError::NotFound(_)) => {}
        Err(error) => tracing::warn!(%error, "the announcement at {what} could not be withdrawn"),
    }
}

/// Withdraws announcements that services left which are gone now: their files vanished while the daemon was down.
pub(super) async fn withdraw_stale(handle: &NodeHandle, wanted: &BTreeSet<Place>) {
    let identities = call(handle, AdminCall::IdentityList).await.unwrap_or_default();
    for identity in identities {
        let entries =
            call(handle, |reply| AdminCall::RecordList(identity.name.clone(), reply)).await.unwrap_or_default();
        let ours =
            entries.into_iter().filter(|entry| entry.by_expose).map(|entry| (identity.name.clone(), entry.label));
        for place in ours.collect::<BTreeSet<_>>().difference(wanted) {
            withdraw(handle, place.clone()).await;
        }
    }
}
