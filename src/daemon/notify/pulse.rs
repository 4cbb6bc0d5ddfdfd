//! Signs of life for systemd's watchdog. A timer that fires proves only that a timer fires;
//! here each sign follows an answer from the node's own loop, which came through its mailbox
//! and stood in line like every other request.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::Notifier;
use crate::admin::AdminCall;
use crate::handle::NodeHandle;

/// Signs in the time that the watchdog allows: one may be late.
const SIGNS: u32 = 3;
/// How often the line of status is looked at where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(20);

/// Gives signs of life and keeps `systemctl status` up to date, until the node stops. `line` says
/// how we are, from the node's own account. Ends at once where nobody listens.
pub async fn pulse(
    notifier: Notifier,
    watchdog: Option<Duration>,
    node: NodeHandle,
    line: impl Fn(tarnet_api::Status) -> String,
) {
    if !notifier.is_listening() {
        return;
    }
    let mut ticks = interval(watchdog.map_or(STATUS_EVERY, |limit| (limit / SIGNS).max(Duration::from_millis(1))));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        ticks.tick().await;
        let (reply, answer) = oneshot::channel();
        if node.control(AdminCall::Status(reply)).await.is_none() {
            return;
        }
        // No deadline of ours: a node that never answers is what the watchdog is for.
        let Ok(Ok(status)) = answer.await else { return };
        if watchdog.is_some() {
            notifier.alive();
        }
        let now = line(status);
        if now != said {
            notifier.status(&now);
            said = now;
        }
    }
}
