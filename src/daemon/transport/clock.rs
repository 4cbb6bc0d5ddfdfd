//! The one place where the daemon's tasks read the clocks.

use std::time::SystemTime;

use tarnet_core::time::{Instant, Now, UnixTime};

/// Both clocks; all copies count from the same zero.
#[derive(Debug, Clone, Copy)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// A clock whose zero is now. One per daemon.
    #[must_use]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Both clocks, read now. A wall clock before 1970 reads as zero.
    #[must_use]
    pub fn now(&self) -> Now {
        let us = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Now { instant: Instant::from_micros(us), unix: UnixTime(unix) }
    }

    /// The moment of the runtime's clock that `instant` is.
    #[must_use]
    pub fn at(&self, instant: Instant) -> tokio::time::Instant {
        (self.0 + std::time::Duration::from_micros(instant.as_micros())).into()
    }
}
