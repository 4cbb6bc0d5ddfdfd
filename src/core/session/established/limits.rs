//! Every bound and figure of an established session, with its reason.

use std::time::Duration;

/// Bytes of the largest packet, header and tag included: the largest cell body.
pub const PACKET_LEN_MAX: usize = 16_384;
/// Bytes of the largest packet that we send: four of them, as cells, fill a link's batch of 31 buckets, where
/// four of the largest would not fit and three leave a quarter of it empty.
pub const PACKET_LEN_FULL: usize = 15_840;
/// The same where less than [`SLOW_RATE`] gets through: a slow link takes one cell a batch, and this one fills its
/// eight buckets, where the other leaves a thirtieth of them empty.
pub const PACKET_LEN_SLOW: usize = 16_340;
/// Bytes per second below which some link on the way is likely to take one cell a batch.
pub const SLOW_RATE: u64 = 40_000_000;
/// Bytes of a packet buffer when only little waits to be sent.
pub const PACKET_LEN_SMALL: usize = 2_048;
/// Carriers of one session at once: in use, standing by, or draining. The one heard least lately goes.
pub const CARRIERS_MAX: usize = 8;
/// Circuits of the peer whose packets we can tell from repeats. Beyond, the one heard least lately is closed to it.
pub const RECEIVED_MAX: usize = 16;
/// Gaps between circuits that are closed to the peer; beyond, the lowest is closed too.
pub const RETIRED_GAPS_MAX: usize = 32;
/// Rate above which a session keeps to one carrier, bytes a second: processors are the limit there, not cables, and
/// a second way costs more of them.
pub const SPREAD_RATE_MAX: u64 = 64 * 1024 * 1024;
/// Packets that the replay window looks back: 32 MiB of full packets.
pub const REPLAY_WINDOW: u64 = 64 * REPLAY_WORDS as u64;
/// 64-bit words that hold the replay window.
pub const REPLAY_WORDS: usize = 32;
/// Ranges that one acknowledgement reports, newest first. Older ones are forgotten, which costs a retransmission.
pub const ACK_RANGES_MAX: usize = 32;

/// Packets under one key before the sender ratchets.
pub const RATCHET_PACKETS: u64 = 1 << 24;
/// Time under one key before the sender ratchets.
pub const RATCHET_AFTER: Duration = Duration::from_secs(120);
/// How long packets under the previous key are still opened.
pub const RATCHET_GRACE: Duration = Duration::from_secs(10);

/// Packets that may be overtaken before one counts as lost. RFC 9002 §6.1.1.
pub const PACKET_THRESHOLD: u64 = 3;
/// Granularity of timers. RFC 9002 §6.1.2.
pub const GRANULARITY: Duration = Duration::from_millis(1);
/// Round-trip time assumed before the first sample.
pub const RTT_INITIAL: Duration = Duration::from_millis(100);
/// Longest time a lone packet waits for its acknowledgement. RFC 9000 §13.2.1.
pub const ACK_DELAY_MAX: Duration = Duration::from_millis(25);
/// The same in the middle of bulk, where the count below normally comes first.
pub const ACK_DELAY_BULK: Duration = Duration::from_millis(5);
/// Packets that make an acknowledgement due. RFC 9000 §13.2.2.
pub const ACK_EVERY: u32 = 2;
/// The same in the middle of undisturbed bulk: acknowledgements cost cells too.
pub const ACK_EVERY_BULK: u32 = 10;
/// Packets in a row without a gap before it counts as undisturbed bulk.
pub const BULK_AFTER: u32 = 100;
/// Probe timeouts in a row that make a carrier dead, when [`DEAD_AFTER`] has also passed.
pub const DEAD_PTO_COUNT: u32 = 4;
/// Shortest silence that makes a carrier dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(1);
/// Probe timeouts in a row after which everything in flight travels again on another carrier, if there is one, or
/// the layer above is told to look for one.
pub const SILENT_PTO_COUNT: u32 = 2;
/// Longest wait between two probes.
pub const PTO_MAX: Duration = Duration::from_secs(4);
/// Probe packets per probe timeout. RFC 9002 §6.2.4.
pub const PROBES: u8 = 2;

/// Congestion window at the start, bytes: ten packets. RFC 6928.
pub const WINDOW_INITIAL: u64 = 10 * 16_384;
/// Smallest congestion window, bytes: four packets, so that three can overtake a lost one.
pub const WINDOW_MIN: u64 = 4 * 16_384;
/// Largest congestion window, bytes.
pub const WINDOW_MAX: u64 = 64 * 1024 * 1024;
/// Bytes that may leave at once whatever the pace, so that links seal full batches.
pub const BURST_MIN: u64 = 128 * 1024;
/// Time whose bytes may leave at once: twice the granularity of an event loop's timers.
pub const BURST_TIME: Duration = Duration::from_millis(2);

/// Credit of a new channel, bytes: both ends know it without a message.
pub const CHANNEL_WINDOW_INITIAL: u64 = 256 * 1024;
/// Credit of a new channel of reliable messages, bytes: the longest, and others beside it.
pub const MESSAGES_WINDOW_INITIAL: u64 = CHANNEL_WINDOW_INITIAL + MESSAGE_LEN_MAX as u64 + MESSAGE_COST;
/// Most credit that auto-tuning gives one channel, bytes. The congestion control of a link looks for the capacity of a
/// fat line with three times as much as that holds, and goes on losing a tenth until it has had its way.
pub const CHANNEL_WINDOW_MAX: u64 = 16 * 1024 * 1024;
/// The same where a round trip is short: more would only lie in memory, which is slower than what is in a cache.
pub const CHANNEL_WINDOW_SHORT: u64 = 8 * 1024 * 1024;
/// Round trip from which on it is not.
pub const LONG_ROUND_TRIP: Duration = Duration::from_millis(25);
/// Round trips within which half of a window is used up where it is to grow, on a long path. What such a path's queues
/// and a link's resent bytes take is not in the round trip that a receiver knows.
pub const QUICK_LONG: u32 = 8;
/// Credit beyond the initial that all channels of a session share, bytes.
pub const SESSION_TUNING_MAX: u64 = 32 * 1024 * 1024;
/// Credit of a session, bytes: what tuning may give out, and 128 stalled channels besides.
pub const SESSION_WINDOW: u64 = 2 * SESSION_TUNING_MAX;
/// Bytes a channel may hold for sending (unsent and unacknowledged) at least, whatever the carrier's window. Twice that
/// window beyond, up to what the peer may give credit for.
pub const SEND_BUFFER_MIN: u64 = 512 * 1024;
/// The same of a channel of reliable messages: two of the longest.
pub const MESSAGES_BUFFER_MIN: u64 = 2 * (MESSAGE_LEN_MAX as u64 + MESSAGE_COST);
/// Bytes all channels of a session may have under way, unacknowledged ...
pub const SESSION_SEND_BUFFER: u64 = 32 * 1024 * 1024;
/// ... beyond this much, which each may hold whatever the others do: two packets.
pub const SEND_BUFFER_SHARE: u64 = 32 * 1024;
/// Bytes of a stream that may wait to be sent, or twice what it has under way: enough that its writer is quick to bring
/// more and several circuits find work, and no more, for what waits longer has left the caches when it is sealed.
pub const UNSENT_MAX: u64 = 512 * 1024;
/// Bytes of all channels that may wait to be sent ...
pub const SESSION_UNSENT: u64 = 16 * 1024 * 1024;
/// ... of which each may take a part of what is left: one in this many, but [`SEND_BUFFER_SHARE`] at least. Those whose
/// far side reads nothing keep what they have for ever, and the others must not starve.
pub const UNSENT_PART: u64 = 4;
/// Room below which a writer is told to wait ...
pub const WRITE_LOW: u64 = 16 * 1024;
/// ... until there is this much again: no more than each may hold in any case.
pub const WRITE_ENOUGH: u64 = SEND_BUFFER_SHARE;

/// Channels open at once in a session; more are refused with `TooMany`.
pub const CHANNELS_MAX: usize = 16_384;
/// Bytes of first data inside an OPEN.
pub const EARLY_LEN_MAX: usize = 8_192;
/// Bytes of an identity proof.
pub const PROOF_LEN_MAX: usize = 8_192;
/// Bytes of a channel's label.
pub const LABEL_LEN_MAX: usize = 255;
/// Bytes of the longest message of a reliable channel.
pub const MESSAGE_LEN_MAX: usize = 1024 * 1024;
/// The same of an unreliable channel: every UDP datagram passes.
pub const DATAGRAM_LEN_MAX: usize = 64 * 1024;
/// Bytes a message costs beyond its own, so that empty ones are bounded too.
pub const MESSAGE_COST: u64 = 64;
/// Bytes of incomplete messages per unreliable channel; the oldest go.
pub const REASSEMBLY_BYTES_MAX: usize = 1024 * 1024;
/// How long an incomplete message of an unreliable channel waits for its other fragments.
pub const REASSEMBLY_AFTER: Duration = Duration::from_secs(5);
/// Bytes of unread messages per unreliable channel; the oldest go.
pub const UNREAD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of unsent messages per unreliable channel; the oldest go.
pub const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// Ranges with gaps between them that a receiver keeps per channel; a peer that makes more misbehaves.
pub const GAPS_MAX: usize = 16_384;
/// Small frames waiting to be sent; a peer that provokes more without acknowledging misbehaves.
pub const CONTROL_MAX: usize = 65_536;
/// Unsent bytes up to which a channel counts as interactive and goes first.
pub const INTERACTIVE_BYTES: u64 = 4_096;
/// Pace below which what interactive channels say leaves in a packet of its own, bytes per second: a full one takes longer
/// than a millisecond there, on every link of the way.
pub const SEPARATE_BELOW: u64 = 12_500_000;
/// Bytes of interactive channels before bulk gets a turn.
pub const INTERACTIVE_STREAK: usize = 64 * 1024;
/// Pieces shorter than this are copied together rather than held as slices of larger buffers.
pub const SMALL_PIECE: usize = 1_024;
/// Size to which small pieces are copied together.
pub const SMALL_BUFFER: usize = 4_096;

/// Shortest silence before the initiator pings while channels are open.
pub const KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);
/// The same on a carrier that has just been busy.
pub const KEEP_ALIVE_BUSY: Duration = Duration::from_millis(250);
/// Packets since the last ping that make a carrier busy.
pub const BUSY_PACKETS: u32 = 16;
/// The same on a carrier that stands by.
pub const KEEP_ALIVE_STANDBY: Duration = Duration::from_secs(5);
/// Time without channels after which the session reports itself idle.
pub const IDLE_AFTER: Duration = Duration::from_secs(60);
/// Time without a working carrier after which channels fail.
pub const LOST_AFTER: Duration = Duration::from_secs(60);
/// Time without a working carrier after which the session's state may go.
pub const EXPIRE_AFTER: Duration = Duration::from_secs(120);
