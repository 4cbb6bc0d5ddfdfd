//! Is the peer there, and how far away? A link that heard nothing for 15 s (2 s if it was sent
//! cells) pings; three pings without any sign of life and it is dead. Anything heard is a sign
//! of life, so busy links hardly ever ping, and of two idle sides the one whose jittered timer
//! is earlier. The round-trip time is smoothed and refreshed every minute.
//!
//! States: quiet, or probing (a ping is out). One timer, which may be armed too early and then
//! does nothing. Pings and pongs are not queued but written into the next batch: at most one each.

use std::time::Duration;

use super::limits::{
    COST_MAX, COST_RTT, PING_ACTIVE, PING_IDLE, PING_JITTER_PERCENT, PING_TRIES, PING_WAIT_ACTIVE, PING_WAIT_IDLE,
    RTT_REFRESH,
};
use crate::rng::Rng;
use crate::time::{Instant, earliest, micros};

/// A change of round-trip time smaller than this is not worth a new cost.
const RTT_CHANGE_MIN: Duration = Duration::from_millis(5);

/// A ping that waits for its answer.
struct Ping {
    token: u64,
    /// When it went into a batch; `None` while it waits for one.
    sent: Option<Instant>,
}

/// What a due timer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: it was early.
    Nothing,
    /// A ping is to be sent.
    Ping,
    /// The link is dead.
    Dead,
}

/// Signs of life and round-trip time of one link.
pub(super) struct Liveness {
    heard: Instant,
    /// Since when cells are out without any sign of life.
    unanswered: Option<Instant>,
    /// How long to be quiet before the next ping.
    idle: Duration,
    /// Pings sent since the last sign of life.
    tries: u8,
    /// When to give the present try up.
    retry_at: Instant,
    ping: Option<Ping>,
    pong: Option<[u8; 8]>,
    /// Whether the round-trip time comes from a ping yet, or only from the handshake.
    measured: bool,
    sampled: Instant,
    rtt: Duration,
    rtt_min: Duration,
    rtt_reported: Duration,
}

impl Liveness {
    /// A link that came up at `now`, with the round-trip time that its handshake showed.
    pub(super) fn new(now: Instant, rtt: Duration, rng: &mut Rng) -> Self {
        Self {
            heard: now,
            unanswered: None,
            idle: rng.jitter(PING_IDLE, PING_JITTER_PERCENT),
            tries: 0,
            retry_at: now,
            ping: None,
            pong: None,
            measured: false,
            sampled: now,
            rtt,
            rtt_min: rtt,
            rtt_reported: rtt,
        }
    }

    /// The smoothed round-trip time.
    pub(super) fn rtt(&self) -> Duration {
        self.rtt
    }

    /// The shortest round-trip time seen: the link's own, without what waits on it.
    pub(super) fn rtt_min(&self) -> Duration {
        self.rtt_min
    }

    /// Whether a ping is out without any sign of life since.
    pub(super) fn is_probing(&self) -> bool {
        self.tries > 0
    }

    /// Whether a whole wait for the answer to a ping has passed without any sign of life.
    pub(super) fn is_suspect(&self) -> bool {
        self.tries > 1
    }

    /// When to call [`Self::handle_timeout`].
    pub(super) fn deadline(&self) -> Instant {
        if self.tries > 0 {
            return self.retry_at;
        }
        let active = self.unanswered.map(|since| since + PING_ACTIVE);
        let quiet = (self.heard + self.idle).min(self.sampled + RTT_REFRESH);
        earliest(Some(quiet), active).unwrap_or(quiet)
    }

    /// Something authentic arrived. `stuck`: nothing can be sent now, and that may be for ever.
    pub(super) fn heard(&mut self, now: Instant, stuck: bool) {
        (self.heard, self.unanswered, self.tries) = (now, stuck.then_some(now), 0);
    }

    /// Cells went out. Whether that brings the deadline forward.
    pub(super) fn cells_sent(&mut self, now: Instant) -> bool {
        let first = self.unanswered.is_none();
        self.unanswered.get_or_insert(now);
        first
    }

    /// A deadline is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, rng: &mut Rng) -> Due {
        if now < self.deadline() {
            return Due::Nothing;
        }
        if self.tries >= PING_TRIES {
            return Due::Dead;
        }
        self.probe(now, rng);
        Due::Ping
    }

    /// Pings now.
    pub(super) fn probe(&mut self, now: Instant, rng: &mut Rng) {
        self.tries += 1;
        self.sampled = now;
        self.idle = rng.jitter(PING_IDLE, PING_JITTER_PERCENT);
        self.ping = Some(Ping { token: rng.public_u64(), sent: None });
        let wait = if self.unanswered.is_some() {
            PING_WAIT_ACTIVE.max(self.rtt * 4).min(PING_WAIT_IDLE)
        } else {
            PING_WAIT_IDLE
        };
        self.retry_at = now + wait;
    }

    /// The peer pinged: its token goes back. Of several only the last, so that pings cannot pile answers up.
    pub(super) fn handle_ping(&mut self, token: [u8; 8]) {
        self.pong = Some(token);
    }

    /// The peer answered. The new round-trip time, if it changed enough to matter. Answers to no ping of ours are ignored.
    pub(super) fn handle_pong(&mut self, now: Instant, token: [u8; 8]) -> Option<Duration> {
        let sent = match &self.ping {
            Some(Ping { token: ours, sent: Some(sent) }) if ours.to_le_bytes() == token => *sent,
            Some(_) | None => return None,
        };
        self.ping = None;
        let sample = now - sent;
        self.rtt = if self.measured { (self.rtt * 7 + sample) / 8 } else { sample };
        self.rtt_min = self.rtt_min.min(sample);
        self.measured = true;
        let change = self.rtt.abs_diff(self.rtt_reported);
        let matters = change > RTT_CHANGE_MIN.max(self.rtt_reported / 4) && cost(self.rtt) != cost(self.rtt_reported);
        matters.then(|| {
            self.rtt_reported = self.rtt;
            self.rtt
        })
    }

    /// Whether a ping or a pong waits for a batch.
    pub(super) fn has_message(&self) -> bool {
        self.pong.is_some() || matches!(self.ping, Some(Ping { sent: None, .. }))
    }

    /// The token of the pong to write into this batch.
    pub(super) fn take_pong(&mut self) -> Option<[u8; 8]> {
        self.pong.take()
    }

    /// The token of the ping to write into this batch.
    pub(super) fn take_ping(&mut self, now: Instant) -> Option<[u8; 8]> {
        let ping = self.ping.as_mut().filter(|ping| ping.sent.is_none())?;
        ping.sent = Some(now);
        Some(ping.token.to_le_bytes())
    }
}

/// What a link of that round-trip time costs: a hop, and one more per 25 ms.
pub(super) fn cost(rtt: Duration) -> u32 {
    let extra = micros(rtt) / micros(COST_RTT);
    u32::try_from(extra).unwrap_or(COST_MAX).saturating_add(1).min(COST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn liveness() -> (Liveness, Rng) {
        let mut rng = Rng::from_seed([1; 32]);
        (Liveness::new(at(0), Duration::from_millis(40), &mut rng), rng)
    }

    /// Runs timers until the link is dead; pings sent, and the time of death in milliseconds.
    fn run_until_dead(link: &mut Liveness, rng: &mut Rng) -> (u32, u64) {
        let mut pings = 0;
        loop {
            let now = link.deadline();
            match link.handle_timeout(now, rng) {
                Due::Ping => pings += u32::from(link.take_ping(now).is_some()),
                Due::Dead => return (pings, now.as_micros() / 1000),
                Due::Nothing => panic!("a deadline does something"),
            }
        }
    }

    #[test]
    fn an_idle_link_dies_after_three_pings_and_a_busy_one_much_sooner() {
        let (mut idle, mut rng) = liveness();
        let (pings, died) = run_until_dead(&mut idle, &mut rng);
        assert_eq!(pings, 3);
        assert!((27_000..=33_000).contains(&died), "{died}");
        let (mut busy, mut rng) = liveness();
        assert!(busy.cells_sent(at(100)));
        assert!(!busy.cells_sent(at(500)));
        assert_eq!(run_until_dead(&mut busy, &mut rng), (3, 5100));
    }

    #[test]
    fn a_sign_of_life_ends_the_probing_and_early_timers_do_nothing() {
        let (mut link, mut rng) = liveness();
        link.cells_sent(at(0));
        assert_eq!(link.handle_timeout(at(1999), &mut rng), Due::Nothing);
        assert_eq!(link.handle_timeout(at(2000), &mut rng), Due::Ping);
        assert!(link.is_probing() && !link.is_suspect());
        assert_eq!(link.handle_timeout(at(3000), &mut rng), Due::Ping);
        assert!(link.is_suspect());
        link.heard(at(3100), false);
        assert!(!link.is_probing());
        assert!(link.deadline() >= at(3100) + PING_IDLE * 4 / 5);
    }

    #[test]
    fn only_the_answer_to_our_last_ping_counts() {
        let (mut link, mut rng) = liveness();
        assert_eq!(link.handle_pong(at(10), [0; 8]), None, "nothing was asked");
        link.probe(at(1000), &mut rng);
        let old = link.take_ping(at(1000)).unwrap();
        link.probe(at(2000), &mut rng);
        let token = link.take_ping(at(2000)).unwrap();
        assert_eq!(link.handle_pong(at(2001), old), None);
        assert_eq!(link.rtt(), Duration::from_millis(40));
        assert_eq!(link.handle_pong(at(2200), token), Some(Duration::from_millis(200)));
        assert_eq!(link.handle_pong(at(2300), token), None, "an answer counts once");
        assert_eq!(link.rtt(), Duration::from_millis(200));
        assert_eq!(link.rtt_min(), Duration::from_millis(40), "what the handshake showed");
        link.probe(at(3000), &mut rng);
        let token = link.take_ping(at(3000)).unwrap();
        link.handle_pong(at(3001), token);
        assert_eq!(link.rtt_min(), Duration::from_millis(1));
    }

    #[test]
    fn small_changes_are_smoothed_and_not_reported() {
        let (mut link, mut rng) = liveness();
        let mut now = at(0);
        let mut reports = Vec::new();
        for rtt_ms in [40, 45, 38, 48, 35, 44, 300, 300, 300] {
            now = now + Duration::from_secs(10);
            link.probe(now, &mut rng);
            let token = link.take_ping(now).unwrap();
            now = now + Duration::from_millis(rtt_ms);
            link.heard(now, false);
            reports.extend(link.handle_pong(now, token));
        }
        assert_eq!(reports.len(), 2, "a quarter more each time; {reports:?}");
        assert!(link.rtt() > Duration::from_millis(110) && link.rtt() < Duration::from_millis(140));
    }

    #[test]
    fn cost_is_a_hop_and_one_more_per_25_ms() {
        let of = |ms| cost(Duration::from_millis(ms));
        assert_eq!([of(0), of(24), of(25), of(100), of(1_000_000)], [1, 1, 2, 5, COST_MAX]);
    }
}
