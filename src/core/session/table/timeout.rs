//! What is due.

use super::{Sessions, Timer};
use crate::time::Now;

impl Sessions {
    /// Does what is due at `now`. Early and repeated calls change nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.instant) {
            match timer {
                Timer::Session(id) => {
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.machine.handle_timeout(now);
                        self.settle(now, id);
                        self.without_carrier(now, id);
                    }
                }
                Timer::Dial(id) => self.launch(id),
                Timer::Connect(connect) => self.connect_timed_out(now, connect),
                Timer::Resume(id) => self.without_carrier(now, id),
                Timer::Hedge(id) => self.hedge(now, id),
                Timer::Standby(id) => self.build_standby(now, id),
                Timer::HalfOpen(id) | Timer::Closing(id) => self.remove_session(now, id),
                Timer::Proof(id) => self.proof_timed_out(now, id),
                Timer::Owner(owner) => self.turn_keys(now, owner),
            }
        }
    }
}
