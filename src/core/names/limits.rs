//! Every bound of the names of one node.

use std::time::Duration;

/// Longest label, bytes. `RFC 1035 §2.3.4`
pub const LABEL_LEN_MAX: usize = 63;
/// Longest name, bytes. `RFC 1035 §2.3.4`
pub const NAME_LEN_MAX: usize = 253;
/// Labels of one zone of ours.
pub const ZONE_LABELS_MAX: usize = 16_384;
/// Steps of one resolution.
pub const STEPS_MAX: usize = 32;
/// Until whoever asks is told that no answer came; the look-up goes on behind it.
pub const ANSWER_TIME: Duration = Duration::from_secs(4);
/// How long the end of a name waits for the apex of its zone before it means the zone's own identity.
pub const APEX_TIME: Duration = Duration::from_secs(2);
/// How long a look-up goes on in all.
pub const LOOKUP_TIME: Duration = Duration::from_secs(30);
/// Least and most time that a look-up collects further blocks after the first good one: an old block of a lying
/// storer must not win because it is the first.
pub const SETTLE_TIME: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// How long a negative answer holds.
pub const ABSENT_TIME: Duration = Duration::from_secs(5);
/// Least and most time that a positive answer holds, whatever its records say.
pub const FOUND_TIME: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));
/// Resolutions under way; over it a new one is refused.
pub const WALKS_MAX: usize = 4096;
/// Look-ups under way; over it a resolution that needs another is refused.
pub const LOOKUPS_MAX: usize = 1024;
/// Blocks that one look-up opens; what comes after is dropped unread.
pub const BLOCKS_PER_LOOKUP_MAX: u32 = 256;
/// Queries of one look-up: it asks on while only blocks without a valid inner signature come.
pub const QUERIES_PER_LOOKUP_MAX: u32 = 4;
/// Cached answers; over it the least recently used goes.
pub const ANSWERS_MAX: usize = 2048;
/// Remembered sequence numbers; over it the least recently used goes.
pub const SEQUENCES_MAX: usize = 65_536;
/// Life of a published block, seconds: a day.
pub const BLOCK_LIFE_S: u64 = 24 * 3600;
/// First pause after a block could not be stored; doubles to the last.
pub const RETRY_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
/// Least time between two rounds of storing everything again because the network grew.
pub const RESTORE_TIME: Duration = Duration::from_secs(20);
