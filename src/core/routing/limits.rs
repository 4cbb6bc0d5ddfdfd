//! Every bound, period and rate of the routing room.

use std::time::Duration;

use super::bucket::Rate;

/// Sizes that a node may be configured with; the rest are constants below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Destinations of the vicinity (K).
    pub table: usize,
    /// Landmarks (L).
    pub landmarks: usize,
    /// Destinations without one whose bound is remembered against ghosts.
    pub tombstones: usize,
    /// Routes found by probes.
    pub found: usize,
    /// Routed datagrams whose answer may still come.
    pub tokens: usize,
    /// Probes whose answer may still come.
    pub probes: usize,
    /// Places of others that are known.
    pub places: usize,
    /// Places of others that are kept for others, as a landmark.
    pub directory: usize,
    /// How long a landmark has to be known to be preferred to new ones.
    pub acquaintance: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            table: 768,
            landmarks: 64,
            tombstones: 256,
            found: 128,
            tokens: 8192,
            probes: 512,
            places: 1024,
            directory: 16_384,
            acquaintance: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Limits {
    /// Bounds of a small machine: L 32, K 128.
    #[must_use]
    pub fn small() -> Self {
        Self {
            table: 128,
            landmarks: 32,
            tombstones: 64,
            found: 32,
            tokens: 4096,
            probes: 128,
            places: 256,
            ..Self::default()
        }
    }
}

/// One part in so many of the vicinity is reserved, in equal shares for the nearest destinations of each neighbour.
pub const RESERVED_PART: usize = 4;
/// Neighbours that are looked at when a datagram or a set-up has nobody left to go to.
pub const OTHERS_LOOKED_AT: usize = 8;
/// Routes kept per destination.
pub const ROUTES_MAX: usize = 4;
/// Link costs are 1 to this.
pub const LINK_COST_MAX: u8 = 16;
/// Round-trip time of one unit of link cost. With less, paths are a little quicker and have more hops, each of which
/// is a machine that carries the bytes and may fail.
pub const LINK_COST_UNIT: Duration = Duration::from_millis(25);
/// A link's cost changes only by at least this: pings waver, routes should not.
pub const LINK_COST_STEP: u8 = 2;

/// Retractions wait this long for company; PROTOCOL.md §4 allows 50 ms.
pub const BAD_NEWS: Duration = Duration::from_millis(30);
/// Answers to a request for a newer sequence wait this long for company.
pub const URGENT: Duration = Duration::from_millis(40);
/// First wait of a changed route before it is told.
pub const GOOD_NEWS_MIN: Duration = Duration::from_millis(250);
/// Longest wait of a route that keeps changing.
pub const GOOD_NEWS_MAX: Duration = Duration::from_secs(5);
/// A mere refresh waits this long: many share one signature.
pub const REFRESH_WAIT: Duration = Duration::from_secs(15);
/// What is due within this joins a batch that leaves now.
pub const BATCH_SLACK: Duration = Duration::from_millis(100);
/// A destination signs a newer sequence this often.
pub const REFRESH: Duration = Duration::from_secs(60 * 60);
/// Jitter of refreshes and digests, percent.
pub const JITTER_PERCENT: u32 = 25;
/// A route whose destination stays silent this long (2.5 refreshes) ends.
pub const EXPIRY: Duration = Duration::from_secs(150 * 60);
/// A landmark signs a newer sequence this often.
pub const LANDMARK_REFRESH: Duration = Duration::from_secs(15 * 60);
/// A landmark that stays silent this long (2.5 refreshes) is none.
pub const LANDMARK_EXPIRY: Duration = Duration::from_secs(2250);
/// First wait of a landmark's route before it is told: all others wait for it.
pub const LANDMARK_NEWS: Duration = Duration::from_millis(50);

/// Acquaintances that are remembered, for each landmark that is kept.
pub const ACQUAINTANCES_PER_LANDMARK: usize = 2;
/// How often acquaintances are written down.
pub const ACQUAINTANCE_SAVE: Duration = Duration::from_secs(10 * 60);
/// Who is away loses one part in so many of the time away.
pub const ACQUAINTANCE_FADE: u32 = 4;

/// Who stands for landmark, and whether our own place is still true, is looked at this often.
pub const LOOK_AROUND: Duration = Duration::from_secs(5);
/// A node stands for landmark only if so few others of its vicinity come first.
pub const CANDIDATES: usize = 16;
/// Looks at which a node must have come first before it becomes a landmark.
pub const CANDIDATE_LOOKS: u8 = 2;
/// Landmarks that a node registers at: one that everybody has known for long, the others near.
pub const REGISTRATIONS: usize = 4;
/// Hops next to a node that its ways name one by one; beyond them only those that are needed.
pub const WAY_DENSE: usize = 8;
/// The distant one is among so many of the lowest ranks.
pub const REGISTRATION_LOW: usize = 16;
/// Landmarks nearest to a node's id in the DHT that keep its place; as many of those known longest, if they are others.
pub const DIRECTORIES: usize = 5;
/// Directories that are asked at once.
pub const DIRECTORIES_AT_ONCE: usize = 2;
/// Directories that are asked at all, of all landmarks and of those known longest.
pub const DIRECTORIES_ASKED: usize = 10;
/// Wait for a directory's answer, and more per unit of its metric.
pub const DIRECTORY_WAIT: Duration = Duration::from_secs(1);
/// See [`DIRECTORY_WAIT`].
pub const DIRECTORY_WAIT_PER_METRIC: Duration = Duration::from_millis(4);
/// First pause between two registrations; doubles up to [`HOME_MAX`] while nothing changes.
pub const HOME_MIN: Duration = Duration::from_secs(10);
/// Longest pause between two registrations.
pub const HOME_MAX: Duration = Duration::from_secs(30 * 60);
/// A change of what our place rests on leads to a registration after this.
pub const HOME_CHANGED: Duration = Duration::from_secs(2);
/// Changes lead to one registration in this time.
pub const HOME_SPACING: Duration = Duration::from_secs(20);
/// Registrations that have answered are published after this: others may follow.
pub const PUBLISH_WAIT: Duration = Duration::from_millis(500);
/// A landmark keeps a place so long.
pub const PLACE_LIFE: Duration = Duration::from_secs(2 * 60 * 60);
/// A place that was asked for is believed so long.
pub const PLACE_CACHE_LIFE: Duration = Duration::from_secs(60 * 60);
/// Requests about places that one neighbour may bring at once, and per time: to a landmark, or for a node's own place.
pub const PLACE_RATE: Rate = Rate { burst: 2048, interval: Duration::from_millis(10) };
/// What a request for the own place of a node takes of that: any node answers it, and with its whole Hello.
pub const OWN_PLACE_PRICE: u32 = 4;
/// A shorter route of an older sequence is preferred this long after a newer one came.
pub const SEQUENCE_SETTLE: Duration = Duration::from_secs(60);
/// Shortest time between two sequences of ours.
pub const BUMP_MIN: Duration = Duration::from_secs(2);
/// Longest time that a requested sequence of ours waits.
pub const BUMP_MAX: Duration = Duration::from_secs(60);
/// Digests, expiry and cleaning happen this often.
pub const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// A tombstone lives this long, and [`TOMBSTONE_PER_METRIC`] more per unit of its metric: it must outlive every ghost.
pub const TOMBSTONE: Duration = Duration::from_secs(60);
/// See [`TOMBSTONE`].
pub const TOMBSTONE_PER_METRIC: Duration = Duration::from_millis(500);
/// The bound of a tombstone that had to go early lives this long: any retraction has arrived by then.
pub const GHOST_LIFE: Duration = Duration::from_secs(10);
/// Such bounds, for each tombstone that there may be.
pub const GHOSTS_PER_TOMBSTONE: usize = 8;
/// A lost route is asked of all neighbours after this: by then they know of the loss.
pub const LOST_WAIT: Duration = Duration::from_millis(750);
/// First wait before a starved destination's request is repeated at another neighbour; doubles four times.
pub const STARVED_WAIT: Duration = Duration::from_secs(2);
/// Requests for one starved destination.
pub const STARVED_TRIES: u8 = 8;
/// Hops that a request for a newer sequence may go.
pub const SEQ_REQUEST_HOPS: u16 = 1024;
/// The same request is passed on once in this time.
pub const SEQ_REQUEST_REPEAT: Duration = Duration::from_secs(2);
/// A destination's newer proof is sent back to whoever tells an older one, once in this time.
pub const STALE_REPEAT: Duration = Duration::from_secs(2);
/// First wait for an asked retelling; doubles up to [`REFILL_WAIT_MAX`].
pub const REFILL_WAIT: Duration = Duration::from_secs(2);
/// Longest wait before a retelling is asked again.
pub const REFILL_WAIT_MAX: Duration = Duration::from_secs(60);
/// Unknown destinations of adverts are asked for after this.
pub const WANTED_WAIT: Duration = Duration::from_millis(250);
/// Wait before what did not fit a neighbour's verification budget is asked again.
pub const OVER_BUDGET_WAIT: Duration = Duration::from_secs(5);

/// Bytes of items in one advert: several fit a frame.
pub const BATCH_BYTES: usize = 15 * 1024;
/// Messages waiting for the links; above it the newest is dropped, and the digests find out.
pub const OUT_MAX: usize = 8192;

/// Requests for newer sequences, per neighbour.
pub const SEQ_REQUEST_RATE: Rate = Rate { burst: 300, interval: Duration::from_millis(100) };
/// Full retellings, per neighbour.
pub const REFILL_RATE: Rate = Rate { burst: 4, interval: Duration::from_secs(10) };
/// Named routes of refills, per neighbour: a node that joins 1,000 others may ask for all.
pub const WANTED_RATE: Rate = Rate { burst: 2048, interval: Duration::from_millis(20) };
/// Probes, per neighbour.
pub const PROBE_RATE: Rate = Rate { burst: 50, interval: Duration::from_millis(100) };
/// Verifications (a signature, or 1,024 steps of a chain), per neighbour: a network of 1,000 comes in one burst.
pub const VERIFY_RATE: Rate = Rate { burst: 3000, interval: Duration::from_millis(2) };
/// Steps of a chain that cost as much as one verification.
pub const CHAIN_STEPS_PER_VERIFY: u32 = 1024;

/// Hop limits of the probe's rings.
pub const PROBE_RINGS: [u16; 3] = [16, 64, 256];
/// Wait for an answer from each ring.
pub const PROBE_WAIT: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(8)];
/// Neighbours that a probe is passed to.
pub const PROBE_FANOUT: usize = 8;
/// A passed probe is remembered this long, to know its answer and its repeats.
pub const PROBE_LIFE: Duration = Duration::from_secs(15);
/// Destinations looked for at once.
pub const LOOKUPS_MAX: usize = 64;
/// Askers of one look-up.
pub const ASKERS_MAX: usize = 64;
/// A found route serves this long.
pub const FOUND_LIFE: Duration = Duration::from_secs(600);

/// A token of a routed datagram serves this long.
pub const TOKEN_LIFE: Duration = Duration::from_secs(30);
/// A landmark's answer that is not there after this, and more per unit of its metric, counts against the next hop.
pub const JUDGE_WAIT: Duration = Duration::from_secs(2);
/// See [`JUDGE_WAIT`].
pub const JUDGE_WAIT_PER_METRIC: Duration = Duration::from_millis(20);
/// Requests to landmarks that are watched at once; others tell nothing.
pub const WATCHED_MAX: usize = 512;
/// Answers to one routed datagram.
pub const ANSWERS_MAX: u8 = 16;
/// Hops of slack that a datagram gets besides half its route's metric; as many again at random.
pub const HOPS_SLACK: u16 = 8;

/// Pairs of destination and next hop whose success is remembered.
pub const EVIDENCE_MAX: usize = 256;
/// Requests of ours, since it last answered, that a landmark may leave without an answer before its silence tells nothing
/// of neighbours. Two failures demote a neighbour: no landmark can bring that about alone.
pub const MUTE_AFTER: u8 = 1;
/// How long it is remembered who answers, and over whom: longer than the pause between two registrations, whose silences
/// are judged at the next.
pub const WITNESS_LIFE: Duration = Duration::from_secs(2 * 60 * 60);
/// Evidence fades after this.
pub const EVIDENCE_LIFE: Duration = Duration::from_secs(600);
/// What a next hop that does not deliver toward a destination costs on top, for this node's own choice.
pub const DEMOTION: u16 = 8;
/// What a neighbour that does not deliver at all costs on top: it is tried last.
pub const SILENT_DEMOTION: u16 = 64;
