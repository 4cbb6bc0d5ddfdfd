//! Every bound and timer of the link layer.

use std::time::Duration;

use crate::crypto::TAG_LEN;

/// A handshake that is not over by then is given up (PROTOCOL.md §3).
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Accepted connections whose handshake is not over. Beyond: the oldest that has proven nothing goes.
pub const HALF_OPEN_MAX: usize = 128;
/// Links that one source may hold of the accepted ones before it is the first to yield: a part of this many.
pub const SOURCE_PARTS: usize = 8;
/// Time without a cell after which a link may yield to a newcomer. So it has this long to become useful.
pub const UNUSED_TIME: Duration = Duration::from_secs(600);
/// Other half-open connections above which a first message must come with a cookie: half of the budget (PROTOCOL.md §3).
pub const COOKIES_ABOVE: usize = HALF_OPEN_MAX / 2;
/// The share of [`HALF_OPEN_MAX`] that one source may hold, so that no single one fills it.
pub const HALF_OPEN_PER_SOURCE_MAX: usize = 16;
/// Accepted connections whose handshake is not over, while there are as many links as configured: enough for
/// a restarted peer to take its dead link's place and for others to be told.
pub const HALF_OPEN_WHEN_FULL: usize = 8;
/// Handshakes per second and source (a /32 or /64). Source: WireGuard's rate limiter.
pub const HANDSHAKES_PER_SECOND: u64 = 20;
/// Handshakes that a source may start at once. Source: WireGuard's rate limiter.
pub const HANDSHAKE_BURST: u64 = 5;
/// Sources remembered by the rate limiter. Beyond, new ones are refused until others have refilled (250 ms).
pub const SOURCES_MAX: usize = 4096;
/// Peers learned to have the hybrid group. Beyond, the one learned first is forgotten here (not in the shell's store).
pub const FLOOR_LEARNED_MAX: usize = 65_536;

/// A sealed frame is never longer: what a 2-byte length can say.
pub const FRAME_LEN_MAX: usize = 65_535;
/// Frames are padded to the multiples of this above the small buckets.
pub const BUCKET_LEN: usize = 2048;
/// The small buckets.
pub const BUCKETS_SMALL: [usize; 2] = [256, 1024];
/// A batch is never longer, so that its padded frame fits.
pub const BATCH_LEN_MAX: usize = FRAME_LEN_MAX / BUCKET_LEN * BUCKET_LEN - TAG_LEN;
/// A message (head and body) is never longer: flags, kind and a 3-byte length go around it.
pub const MESSAGE_LEN_MAX: usize = BATCH_LEN_MAX - 5;
/// A cell (head and body) is never longer. 16,384 bytes of body, and head.
pub const CELL_LEN_MAX: usize = 16_384 + HEAD_LEN_MAX;
/// Another message of a flow (a routed datagram) is never longer.
pub const DATAGRAM_LEN_MAX: usize = 20 * 1024 + 64;
/// The part of a message that callers pass apart from its body.
pub const HEAD_LEN_MAX: usize = 16;
/// Batches handed to the transport and not yet written, on a fast link; one on a slow link.
pub const BATCHES_OUTSTANDING: u8 = 2;
/// Time that a batch may take on the wire: what comes first waits for the batch before it.
pub const BATCH_TIME: Duration = Duration::from_millis(5);
/// Where a batch ends on the slowest link: one full cell, and small ones in what the frame's bucket has left.
pub const BATCH_LEN_SLOW: usize = 8 * BUCKET_LEN - TAG_LEN;
/// Time over which the speed of a busy link is measured.
pub const SPEED_SAMPLE: Duration = Duration::from_millis(10);
/// Bytes that the transport may hold unsent, on the fastest link.
pub const UNSENT_MAX: u32 = 128 * 1024;
/// The same on the slowest link, and on any before its speed is known.
pub const UNSENT_MIN: u32 = 8 * 1024;

/// Fast links whose shortest round trip is below this may send in bursts: what is lost of one is there again at once.
pub const BURSTS_RTT: Duration = Duration::from_millis(1);
/// The part of a round trip for which the transport holds bytes unsent on a long link ...
pub const UNSENT_RTT_PART: u32 = 8;
/// ... and how long that may be. A socket that runs dry between two batches tells a congestion control such as BBR that
/// nobody wants more than it sends, and it never learns what the line holds.
pub const UNSENT_TIME_MAX: Duration = Duration::from_millis(25);

/// Frames per second at a constant rate, as far as their least and largest lengths allow.
pub const CONSTANT_FRAMES_PER_S: u64 = 50;
/// Frames at a constant rate that may be due at once, after a late timer.
pub const TICKS_DUE_MAX: u8 = 4;

/// A key seals for at most this long (PROTOCOL.md §3).
pub const RATCHET_TIME: Duration = Duration::from_secs(120);
/// A key seals at most this many frames (PROTOCOL.md §3).
pub const RATCHET_FRAMES: u32 = 1 << 24;

/// How often fresh key agreement is mixed in (PROTOCOL.md §3).
pub const REKEY_TIME: Duration = Duration::from_secs(3600);
/// How far that moves at random, in percent.
pub const REKEY_JITTER_PERCENT: u32 = 10;
/// A peer that begins another one sooner misbehaves: each costs public-key work.
pub const REKEY_GAP_MIN: Duration = Duration::from_secs(1800);

/// Bytes of queued control messages per link. Beyond, the link is closed: control may not be lost.
pub const CONTROL_QUEUE_MAX: usize = 1 << 20;
/// Bytes of queued cells per link. Beyond, the longest flow loses its oldest.
pub const CELL_QUEUE_MAX: usize = 1 << 20;
/// Bytes that wait on all links together, where nothing else is configured.
pub const QUEUE_MAX: usize = 64 << 20;
/// Cells in transit shorter than this are copied out of the transport's read when they wait: else a short one would
/// keep up to 128 KiB.
pub const TRANSIT_KEPT_MIN: usize = 8 * 1024;
/// The part of what all links may hold above which every further cell is copied.
pub const QUEUE_COPIED_PART: usize = 8;
/// Sessions fill a link only while it queues fewer bytes than this: one batch ahead.
pub const CELL_QUEUE_LOW: usize = 1 << 16;
/// What a queued message is charged beyond its bytes. Bounds their number, and so that of flows, to 4,096.
pub const MESSAGE_CHARGE: usize = 256;
/// What a flow may send per turn: at least one cell of the largest size.
pub const QUANTUM: usize = CELL_LEN_MAX;
/// A cell that waited longer is marked; on a slow link, one that waited longer than [`DELAY_TARGET_CELLS`] take.
pub const DELAY_TARGET: Duration = Duration::from_millis(5);
/// Full cells that may wait on a slow link without a mark: fewer, and every cell that meets another is marked.
pub const DELAY_TARGET_CELLS: u32 = 1;

/// Time whose bytes the upload limit lets go at once: as long as a busy machine may keep an event loop waiting, and
/// half a percent of ten seconds.
pub const UPLOAD_BURST: Duration = Duration::from_millis(50);

/// Silence after which an idle link is pinged. An exchange is two frames of 256 bytes: 34 bytes/s per link.
pub const PING_IDLE: Duration = Duration::from_secs(15);
/// Silence after which a link that was sent cells is pinged.
pub const PING_ACTIVE: Duration = Duration::from_secs(2);
/// How far [`PING_IDLE`] moves at random, in percent, so that either side pings.
pub const PING_JITTER_PERCENT: u32 = 20;
/// The round-trip time is measured at least this often, also under traffic.
pub const RTT_REFRESH: Duration = Duration::from_secs(60);
/// Pings without any sign of life before the link is dead.
pub const PING_TRIES: u8 = 3;
/// How long an idle link waits for the answer to a ping.
pub const PING_WAIT_IDLE: Duration = Duration::from_secs(5);
/// How long a link with traffic waits for the answer to a ping, at least; four round-trip times if that is longer.
pub const PING_WAIT_ACTIVE: Duration = Duration::from_secs(1);
/// Round-trip time that costs as much as one more hop.
pub const COST_RTT: Duration = Duration::from_millis(25);
/// The dearest link.
pub const COST_MAX: u32 = 200;

/// Bytes that serve nobody and that a neighbour may send at once: what is on its way when many paths end.
pub const PATIENCE_LEN: i64 = 16 << 20;
/// Bytes per second by which that grows again.
pub const PATIENCE_RATE: i64 = 2 << 20;
/// How long a connection rests at most: well below the time after which a silent link is dead.
pub const REST_MAX: Duration = Duration::from_millis(250);
