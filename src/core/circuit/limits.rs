//! Every bound of the paths of one node.

use std::time::Duration;

/// What a node takes; the defaults are the constants below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Paths that pass through this node.
    pub transit_max: usize,
    /// Paths that one neighbour may bring here, passing through or ending.
    pub per_neighbour_max: usize,
    /// Paths that pass through and are not up yet; each holds a blob of up to 4 KiB.
    pub half_open_max: usize,
    /// Paths that begin or end here.
    pub own_max: usize,
    /// Set-ups of one neighbour, per second in the long run.
    pub creations_per_s: u32,
    /// Set-ups of one neighbour at once.
    pub creations_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transit_max: 4096,
            per_neighbour_max: 512,
            half_open_max: 1024,
            own_max: 16_384,
            creations_per_s: 32,
            creations_burst: 128,
        }
    }
}

/// Neighbours that one hop tries for one set-up, best first.
pub const ALTERNATIVES_MAX: usize = 4;
/// Once so many set-ups toward a destination came to nothing, each hop also tries neighbours that routing does not name.
pub const ANY_NEIGHBOUR_AFTER: usize = 2;
/// Hops that a set-up may go: a line of thousands of nodes still works.
pub const HOPS_MAX: u16 = 4608;
/// Largest random offset of hop limits and hop counts: nobody reads the distance to an end off them.
pub const HOP_OFFSET_MAX: u64 = 16;
/// Messages that one set-up may cost all hops together; a hop clamps what it is told to this.
pub const BUDGET_MAX: u16 = 16_384;
/// Messages that a set-up gets at least, and more per unit of the distance.
pub const BUDGET_MIN: u16 = 4096;
/// See [`BUDGET_MIN`].
pub const BUDGET_PER_DISTANCE: u16 = 64;
/// What a hop keeps of a set-up's messages for its other branches: a part in so many, and in so many more per two units of
/// the distance that its time allows for. What all branches get together is never more than the hop got.
pub const RESERVE_PART: u16 = 4;
/// How long an end may think about a set-up.
pub const SETUP_TIME: Duration = Duration::from_secs(10);
/// How long a set-up of ours may take: several fit the time of a connection, each around the ways of those before.
/// More per unit of the distance, which stands for 20 ms there and back.
pub const OPEN_TIME: Duration = Duration::from_secs(4);
/// See [`OPEN_TIME`].
pub const OPEN_TIME_PER_DISTANCE: Duration = Duration::from_millis(40);
/// Longest time that a hop waits for the far part of a path.
pub const SETUP_TIME_MAX: Duration = Duration::from_secs(19);
/// A branch that did not answer within this, and [`HEDGE_SHARE`] of what the set-up's time exceeds [`OPEN_TIME`] by, gets
/// company: the next alternative is tried beside it.
pub const HEDGE_TIME: Duration = Duration::from_millis(500);
/// See [`HEDGE_TIME`]: the excess is twice the round trip.
pub const HEDGE_SHARE: f64 = 0.75;
/// What a hop keeps for itself of its time, at most: a set-up goes on for thousands of hops.
pub const BRANCH_MARGIN: Duration = Duration::from_millis(4);
/// A path on which no cell arrives for this long is closed.
pub const IDLE_TIME: Duration = Duration::from_secs(600);
/// How long a label stays unused after its path, so that late cells meet nobody else's.
pub const LABEL_REST: Duration = Duration::from_secs(60);
/// Resting labels; over it the oldest is released early.
pub const LABELS_RESTING_MAX: usize = 32_768;
/// How long a set-up's id is remembered: several times the longest set-up.
pub const SEEN_TIME: Duration = Duration::from_secs(60);
/// How long the way on of a set-up whose circuit is gone is remembered: longer than anybody takes to find out that
/// it died of silence, and to build anew.
pub const TRAIL_TIME: Duration = Duration::from_secs(30);
/// Trails of circuits that are gone; over it the oldest is forgotten.
pub const TRAILS_GONE_MAX: usize = 4_096;
/// Remembered ids; over it the oldest is forgotten.
pub const SEEN_MAX: usize = 32_768;
