//! Credit: how much a peer may send before somebody reads. Windows double while they are used up within
//! two round trips, out of what a session's channels share. Over long paths they keep ahead of a sender that
//! itself doubles every round trip.

use std::time::Duration;

use super::limits::{
    CHANNEL_WINDOW_MAX, CHANNEL_WINDOW_SHORT, LONG_ROUND_TRIP, QUICK_LONG, SESSION_TUNING_MAX, SESSION_WINDOW,
};
use super::stream_recv::Violation;
use crate::time::Instant;

/// Credit that we give on one channel.
#[derive(Debug)]
pub struct Window {
    limit: u64,
    size: u64,
    initial: u64,
    told_at: Instant,
}

/// Most bytes of one channel that may be under way, or wait to be, over a round trip.
pub const fn window_max(rtt: Duration) -> u64 {
    if rtt.as_micros() < LONG_ROUND_TRIP.as_micros() { CHANNEL_WINDOW_SHORT } else { CHANNEL_WINDOW_MAX }
}

impl Window {
    /// The credit of a new channel, which both ends know.
    pub const fn new(now: Instant, initial: u64) -> Self {
        Self { limit: initial, size: initial, initial, told_at: now }
    }

    /// The credit in all.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Credit beyond the initial, which goes back to the session when the channel goes.
    pub const fn tuned(&self) -> u64 {
        self.size - self.initial
    }

    /// After reading: true when the peer must be told of a higher limit.
    pub fn update(&mut self, now: Instant, consumed: u64, rtt: Duration, session: &mut Session) -> bool {
        if consumed + self.size < self.limit + self.size / 2 {
            return false;
        }
        let elapsed = now.saturating_since(self.told_at);
        let doublings = match rtt < LONG_ROUND_TRIP {
            true => u32::from(elapsed < rtt * 2),
            false => u32::from(elapsed < rtt) + u32::from(elapsed < rtt * QUICK_LONG),
        };
        for _ in 0..doublings {
            if self.size * 2 <= window_max(rtt) && session.tuned + self.size <= SESSION_TUNING_MAX {
                session.tuned += self.size;
                self.size *= 2;
            }
        }
        self.told_at = now;
        self.limit = consumed + self.size;
        true
    }
}

/// Credit of the whole session in both directions.
#[derive(Debug)]
pub struct Session {
    /// Credit given to channels beyond their initial windows.
    pub tuned: u64,
    recv_limit: u64,
    recv_used: u64,
    recv_consumed: u64,
    send_limit: u64,
    send_used: u64,
}

impl Session {
    /// The credit of a new session.
    pub const fn new() -> Self {
        Self {
            tuned: 0,
            recv_limit: SESSION_WINDOW,
            recv_used: 0,
            recv_consumed: 0,
            send_limit: SESSION_WINDOW,
            send_used: 0,
        }
    }

    /// The peer used credit.
    ///
    /// # Errors
    /// It had none left.
    pub const fn handle_received(&mut self, len: u64) -> Result<(), Violation> {
        self.recv_used += len;
        if self.recv_used > self.recv_limit { Err(Violation::Credit) } else { Ok(()) }
    }

    /// Somebody read, or what was unread went with its channel; true when the peer must be told.
    pub const fn handle_consumed(&mut self, len: u64) -> bool {
        self.recv_consumed += len;
        let raise = self.recv_consumed + SESSION_WINDOW - self.recv_limit >= SESSION_WINDOW / 4;
        if raise {
            self.recv_limit = self.recv_consumed + SESSION_WINDOW;
        }
        raise
    }

    /// The credit we gave in all.
    pub const fn recv_limit(&self) -> u64 {
        self.recv_limit
    }

    /// The peer raises our credit; false if it was as high already.
    pub const fn raise(&mut self, limit: u64) -> bool {
        let more = limit > self.send_limit;
        if more {
            self.send_limit = limit;
        }
        more
    }

    /// Credit that we have left.
    pub const fn send_credit(&self) -> u64 {
        self.send_limit - self.send_used
    }

    /// We used credit.
    pub const fn handle_sent(&mut self, len: u64) {
        self.send_used += len;
    }

    /// Bytes received and unread.
    #[cfg(test)]
    pub const fn unread(&self) -> u64 {
        self.recv_used - self.recv_consumed
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::CHANNEL_WINDOW_INITIAL;
    use super::*;

    #[test]
    fn a_window_doubles_while_it_is_used_up_quickly_and_tuning_is_shared() {
        let mut session = Session::new();
        let rtt = Duration::from_millis(10);
        let mut windows: Vec<_> = (0..10).map(|_| Window::new(Instant::ZERO, CHANNEL_WINDOW_INITIAL)).collect();
        for window in &mut windows {
            assert!(!window.update(Instant::ZERO, 1_000, rtt, &mut session));
            for step in 1..100 {
                window.update(Instant::from_micros(step), window.limit(), rtt, &mut session);
            }
        }
        assert_eq!(windows[0].size, CHANNEL_WINDOW_SHORT);
        let (mut long, mut alone) = (Window::new(Instant::ZERO, CHANNEL_WINDOW_INITIAL), Session::new());
        for step in 1..100 {
            long.update(Instant::from_micros(step), long.limit(), LONG_ROUND_TRIP, &mut alone);
        }
        assert_eq!(long.size, CHANNEL_WINDOW_MAX);
        let far = LONG_ROUND_TRIP * 4;
        let (mut ahead, mut own) = (Window::new(Instant::ZERO, CHANNEL_WINDOW_INITIAL), Session::new());
        ahead.update(Instant::from_micros(90_000), ahead.limit(), far, &mut own);
        assert_eq!(ahead.size, 4 * CHANNEL_WINDOW_INITIAL, "within a round trip");
        ahead.update(Instant::from_micros(800_000), ahead.limit(), far, &mut own);
        assert_eq!(ahead.size, 8 * CHANNEL_WINDOW_INITIAL, "within eight");
        ahead.update(Instant::from_micros(1_700_000), ahead.limit(), far, &mut own);
        assert_eq!(ahead.size, 8 * CHANNEL_WINDOW_INITIAL, "later");
        assert_eq!(session.tuned, windows.iter().map(Window::tuned).sum::<u64>());
        assert!(session.tuned <= SESSION_TUNING_MAX);
        let mut slow = Window::new(Instant::ZERO, CHANNEL_WINDOW_INITIAL);
        let mut session = Session::new();
        assert!(slow.update(Instant::from_micros(50_000), slow.limit(), rtt, &mut session));
        assert_eq!(slow.tuned(), 0);
    }

    #[test]
    fn session_credit_is_enforced_and_returned() {
        let mut session = Session::new();
        assert_eq!(session.handle_received(SESSION_WINDOW), Ok(()));
        assert_eq!(session.handle_received(1), Err(Violation::Credit));
        assert!(!session.handle_consumed(1));
        assert!(session.handle_consumed(SESSION_WINDOW / 4));
        assert_eq!(session.recv_limit(), SESSION_WINDOW + SESSION_WINDOW / 4 + 1);
    }
}
