//! `GET /v1/doctor`: what the daemon sees of its health.

use std::sync::Arc;

use tarnet_api as api;

use super::answer::{Answer, Bad, json};
use super::route::ask;
use super::{Context, guard};
use crate::admin::AdminCall;
use crate::doctor::{SET_CLOCK, others, wrong_clock};

/// Answers it.
pub async fn answer(context: &Context) -> Result<Answer, Bad> {
    let doctor = Arc::clone(&context.doctor);
    let looked = tokio::task::spawn_blocking(move || doctor.look()).await;
    let mut checks = looked.map_err(|_| Bad::stopping())?;
    let mut status = ask(context, AdminCall::Status).await?;
    if !status.clock.is_empty() {
        checks.retain(|check| check.name != "clock");
        checks.push(api::Check::fail("clock", wrong_clock(&status.clock), SET_CLOCK));
    }
    let peers = ask(context, AdminCall::Peers).await?;
    checks.extend(others(&context.doctor.config, &peers, status.links.len()));
    context.shell.complete(&mut status);
    json(&api::Examination {
        checks: guard::checks(context, checks),
        suffix: context.doctor.config.dns.suffix.clone(),
        responders: context.doctor.responders(),
        dns: status.dns,
    })
}
