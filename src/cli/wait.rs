//! `tarnet wait`: returns when a condition holds.

use std::time::Duration;

use tarnet_api::{self as api, Error, Method};
use tokio::time::{Instant, sleep};

use crate::commands::Session;
use crate::output::{CliError, json};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits until every condition given holds.
pub async fn wait(
    session: &Session,
    links: Option<usize>,
    route: Option<String>,
    name: Option<String>,
    timeout: Duration,
) -> Result<(), CliError> {
    let deadline = Instant::now() + timeout;
    loop {
        let missing = missing(session, links, route.as_deref(), name.as_deref()).await;
        let what = match missing {
            Ok(None) if session.json => return json(&api::Done {}),
            Ok(None) => return Ok(()),
            Ok(Some(what)) => what,
            // A daemon that is not there yet is what a script waits for, too.
            Err(error @ (Error::NoDaemon { .. } | Error::TimedOut(_) | Error::Broken(_)))
                if Instant::now() >= deadline =>
            {
                return Err(error.into());
            }
            Err(Error::NoDaemon { .. } | Error::TimedOut(_) | Error::Broken(_)) => String::new(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(CliError::TimedOut(format!("still {what} after {} s", timeout.as_secs())));
        }
        sleep(INTERVAL).await;
    }
}

/// The first condition that does not hold yet, in words.
async fn missing(
    session: &Session,
    links: Option<usize>,
    route: Option<&str>,
    name: Option<&str>,
) -> Result<Option<String>, Error> {
    let status: api::Status = session.client.get("/v1/status").await?;
    if let Some(wanted) = links.filter(|wanted| status.links.len() < *wanted) {
        return Ok(Some(format!("{} of {wanted} links", status.links.len())));
    }
    if let Some(peer) = route {
        let routes: Vec<api::Route> = session.client.get("/v1/routes").await?;
        if !routes.iter().any(|route| route.peer_id.eq_ignore_ascii_case(peer)) {
            return Ok(Some(format!("no route to {peer}")));
        }
    }
    if let Some(name) = name {
        let request =
            api::ResolveRequest { name: name.into(), identity: session.identity.clone(), ..Default::default() };
        match session.client.call::<api::Resolution>(Method::POST, "/v1/resolve", &request).await {
            Ok(found) if !found.records.is_empty() => {}
            Ok(_) | Err(Error::NotFound(_) | Error::TimedOut(_)) => return Ok(Some(format!("no name {name}"))),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
