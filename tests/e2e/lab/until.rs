//! Waiting for a condition with a deadline: the only pause in the tests.

use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something, at most for `limit`.
pub fn wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Looks until the condition holds; fails the test with `what` after `limit` seconds. Gives the time that it took.
#[track_caller]
pub fn until(limit: u64, what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    let seen = wait_for(Duration::from_secs(limit), || look().then_some(()));
    assert!(seen.is_some(), "not within {limit} s: {what}");
    start.elapsed()
}
