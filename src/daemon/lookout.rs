//! Looking for the next input instead of sleeping, where small inputs come in quick succession.
//!
//! A processor that went idle takes tens of microseconds to come back, more in a virtual machine, and an exchange of
//! small messages pays that at every step of its way: most of its round trip is processors that wake up. So after a
//! row of small inputs that each came within [`WAIT_MAX`] the daemon polls for as long before it sleeps, as the
//! kernel's haltpoll governor does for a processor
//! (<https://docs.kernel.org/virt/guest-halt-polling.html>). It gives way to every
//! other program at each look, does none of it in bulk, where inputs come without it, and spends at most
//! [`SHARE`] of a processor on it over time: neither a single request nor a neighbour who sends at the right pace buys
//! more.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long it looks for the next input. Longer than a round trip between neighbours of one machine whose processors
/// have to be woken at each step (0.3 to 0.4 ms): with less, what would end the waking never begins.
const WAIT_MAX: Duration = Duration::from_micros(400);
/// Inputs in a row, each within [`WAIT_MAX`] of the last, before it looks at all.
const ROW_MIN: u32 = 4;
/// Bytes of the largest input that is no bulk: a padded frame around a message of half of it.
const SMALL_LEN_MAX: usize = 2048;
/// How long after bulk it does not look.
const BULK_REST: Duration = Duration::from_millis(10);
/// What looking may take of a processor over time: one part in this many.
const SHARE: u32 = 4;
/// What it may take at once, when it has looked little before.
const BURST: Duration = Duration::from_secs(1);

/// When inputs came, and how long to look for the next. Times are nanoseconds since any zero: threads note without
/// a lock, and one that reads a mixture of two notes looks once too often or too little.
#[derive(Default)]
struct Lookout {
    last: AtomicU64,
    row: AtomicU32,
    rests_until: AtomicU64,
    looks_until: AtomicU64,
    starts: Notify,
}

impl Lookout {
    /// An input of so many bytes came.
    fn note(&self, now: u64, len: usize) {
        if len > SMALL_LEN_MAX {
            self.rests_until.store(now + nanos(BULK_REST), Ordering::Relaxed);
            self.looks_until.store(0, Ordering::Relaxed);
            return;
        }
        let gap = now.saturating_sub(self.last.swap(now, Ordering::Relaxed));
        let row = if gap > nanos(WAIT_MAX) { 1 } else { self.row.load(Ordering::Relaxed).saturating_add(1) };
        self.row.store(row, Ordering::Relaxed);
        if row < ROW_MIN || now < self.rests_until.load(Ordering::Relaxed) {
            return;
        }
        if self.looks_until.swap(now + nanos(WAIT_MAX), Ordering::Relaxed) <= now {
            self.starts.notify_one();
        }
    }

    /// Whether to look once more.
    fn looks(&self, now: u64) -> bool {
        now < self.looks_until.load(Ordering::Relaxed)
    }
}

/// What looking may still take: a token bucket of time.
struct Budget {
    left: Duration,
    as_of: Duration,
}

impl Budget {
    /// A full one.
    const fn at(now: Duration) -> Self {
        Self { left: BURST, as_of: now }
    }

    /// Nothing was taken since the last call.
    fn rest(&mut self, now: Duration) {
        self.left = (self.left + now.saturating_sub(self.as_of) / SHARE).min(BURST);
        self.as_of = now;
    }

    /// All of the time since the last call was taken. Whether there is more.
    fn spend(&mut self, now: Duration) -> bool {
        self.left = self.left.saturating_sub(now.saturating_sub(self.as_of));
        self.as_of = now;
        !self.left.is_zero()
    }
}

/// The process's. It is about the process's threads, not about one of the things that note.
static LOOKOUT: LazyLock<Lookout> = LazyLock::new(Lookout::default);
/// The zero of its times.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// An input of so many bytes came: a frame, a packet of the TUN device, bytes of a local socket.
pub fn note(len: usize) {
    LOOKOUT.note(nanos(START.elapsed()), len);
}

/// Looks, for as long as the process runs. One task of the runtime that reads inputs. With more than one worker it does
/// not: another of them then sleeps in the poll that this one would ask, and has to be woken all the same.
pub async fn run(workers: usize) {
    if workers > 1 {
        return;
    }
    let mut budget = Budget::at(START.elapsed());
    loop {
        LOOKOUT.starts.notified().await;
        let mut now = START.elapsed();
        budget.rest(now);
        while LOOKOUT.looks(nanos(now)) && budget.spend(now) {
            std::thread::yield_now();
            // Yielding makes the runtime ask for inputs without waiting, and run what they wake, before it comes back.
            tokio::task::yield_now().await;
            now = START.elapsed();
        }
        budget.spend(now);
        // Out of budget, the next input begins anew with what has come in by then.
        LOOKOUT.looks_until.store(0, Ordering::Relaxed);
    }
}

/// Nanoseconds, for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes inputs of `len` bytes, `gap` microseconds apart from `start` on, and says after which it looks.
    fn looks_after(lookout: &Lookout, start: u64, gaps: &[u64], len: usize) -> Vec<bool> {
        let mut now = start;
        let look = |gap| {
            now += gap * 1000;
            lookout.note(now, len);
            lookout.looks(now)
        };
        gaps.iter().copied().map(look).collect()
    }

    #[test]
    fn it_looks_after_a_row_of_quick_inputs_and_no_longer_than_it_waits() {
        let lookout = Lookout::default();
        let gaps = [1_000_000, 350, 350, 350, 350];
        assert_eq!(looks_after(&lookout, 0, &gaps, 256), [false, false, false, true, true]);
        let last = lookout.last.load(Ordering::Relaxed);
        assert!(lookout.looks(last + nanos(WAIT_MAX) - 1) && !lookout.looks(last + nanos(WAIT_MAX)));
    }

    #[test]
    fn inputs_further_apart_are_not_looked_for() {
        let lookout = Lookout::default();
        assert!(looks_after(&lookout, 0, &[401; 1000], 256).iter().all(|looks| !looks));
        // One that is late ends the row.
        assert_eq!(
            looks_after(&lookout, 1 << 40, &[0, 9, 9, 9, 500, 9, 9, 9], 256)[3..],
            [true, false, false, false, true]
        );
    }

    #[test]
    fn bulk_is_not_looked_for_nor_what_is_small_beside_it() {
        let lookout = Lookout::default();
        assert!(looks_after(&lookout, 0, &[5; 1000], SMALL_LEN_MAX + 1).iter().all(|looks| !looks));
        assert!(looks_after(&lookout, 5_000_000, &[5; 1000], 64).iter().all(|looks| !looks));
        assert!(looks_after(&lookout, 5_000_000 + nanos(BULK_REST), &[5; 10], 64)[ROW_MIN as usize]);
        // And it stops looking at once when bulk comes.
        lookout.note(5_000_000 + nanos(BULK_REST) + 50_000, SMALL_LEN_MAX + 1);
        assert!(!lookout.looks(5_000_000 + nanos(BULK_REST) + 50_001));
    }

    #[test]
    fn looking_takes_a_burst_and_then_its_share() {
        let step = Duration::from_micros(50);
        let mut now = Duration::from_secs(7);
        let mut budget = Budget::at(now);
        let mut spent = Duration::ZERO;
        while budget.spend(now + step) {
            now += step;
            spent += step;
        }
        assert!(spent < BURST && spent + step * 2 >= BURST, "{spent:?}");
        now += step + BURST * 2;
        budget.rest(now);
        assert_eq!(budget.left, BURST * 2 / SHARE, "a share of the time since");
        budget.rest(now + BURST * 100);
        assert_eq!(budget.left, BURST, "and never more than a burst");
    }
}
