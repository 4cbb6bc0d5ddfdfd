//! The runtime that the daemon's tasks share, and what keeps one of them from making the others wait.
//!
//! Who carries bulk finds its next input ready each time, and the runtime lets such a task go on for a hundred inputs,
//! and looks for those of the others after sixty such turns: tens of milliseconds, in which acknowledgements and
//! keystrokes lie in the kernel. So bulk is carried in steps of [`STEP_LEN`], with a turn for everybody in between,
//! and the runtime looks for inputs more often.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Threads that run tasks at most: one engine feeds them all.
const WORKERS_MAX: usize = 8;
/// Turns of tasks before the runtime looks for inputs. A turn that carries bulk takes tens of microseconds, a look one.
const EVENT_INTERVAL: u32 = 8;
/// Bytes that a task carries before the others have a turn: some tens of microseconds, and a few frames, so that what
/// follows in the same turns still works on full batches. It is also what is read at once from a local socket that says
/// much: as much as two of the largest segments of a device at the far end hold, and not the few bytes more that would cost
/// it a segment of their own.
pub const STEP_LEN: usize = 127 * 1024;

/// The runtime of the daemon, or of the process that holds its device.
///
/// # Errors
/// The system gives no threads or descriptors.
pub fn build(guard: bool) -> io::Result<Runtime> {
    let mut builder = if guard { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers()).event_interval(EVENT_INTERVAL).enable_all().build()
}

/// Threads that run tasks: half of the processors. The rest is the kernel's and the programs' whose bytes we carry;
/// and each more makes tasks that take turns, as those of one connection do, wake each other across processors.
#[must_use]
pub fn workers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (processors / 2).clamp(1, WORKERS_MAX)
}

/// Counts what a task carries, and gives the others their turn.
#[derive(Debug, Default)]
pub struct Steps {
    carried: usize,
}

impl Steps {
    /// So many bytes more: waits for the others' turn when it was enough for one step.
    pub async fn carry(&mut self, len: usize) {
        self.carried += len;
        if self.carried >= STEP_LEN {
            self.carried = 0;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_is_followed_by_the_turn_of_the_others() {
        let turns = std::cell::Cell::new(0);
        let mut steps = Steps::default();
        let carries = async {
            let mut seen = Vec::new();
            for _ in 0..8 {
                steps.carry(STEP_LEN / 2).await;
                seen.push(turns.get());
            }
            seen
        };
        let others = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            seen = carries => assert_eq!(seen, [0, 1, 1, 2, 2, 3, 3, 4]),
            () = others => {}
        }
    }
}
