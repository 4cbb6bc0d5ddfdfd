//! What all sessions together may hold. Credit bounds each channel and each session, not their number;
//! so when all together hold too much, the session that holds most loses the channel that holds most.

use super::{SessionId, Sessions};
use crate::time::Now;

/// Channels broken off per call: the next call comes soon, and one call stays short.
const BROKEN_MAX: usize = 64;

impl Sessions {
    /// Breaks channels off until all together hold at most `held_max` bytes, the greediest first. Gives what they held.
    pub fn relieve(&mut self, now: Now, held_max: u64) -> u64 {
        let mut held: Vec<(u64, SessionId)> =
            self.sessions.iter().map(|(id, session)| (session.machine.held().0, *id)).collect();
        let before = held.iter().map(|(bytes, _)| bytes).sum();
        let mut total: u64 = before;
        for _ in 0..BROKEN_MAX {
            if total <= held_max {
                break;
            }
            let Some(most) = held.iter_mut().max() else { break };
            let Some(session) = self.sessions.get_mut(&most.1) else { break };
            let (_, Some((channel, bytes))) = session.machine.held() else { break };
            session.machine.reset(now, channel);
            self.counters.broken_for_memory += 1;
            (most.0, total) = (most.0.saturating_sub(bytes), total.saturating_sub(bytes));
            let id = most.1;
            tracing::warn!(?id, ?channel, bytes, "a channel that held most was broken off for memory");
            self.channel_broke(now, id, channel, false);
            self.settle(now, id);
        }
        before
    }
}
