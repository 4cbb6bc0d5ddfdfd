//! Every bound and time of the transports.

use std::time::Duration;

/// Bytes of the longest frame: what a 2-byte length can say (PROTOCOL.md §2).
pub const FRAME_LEN_MAX: usize = 65_535;
/// Bytes of the longest frame before the link is up (PROTOCOL.md §3).
pub const HANDSHAKE_LEN_MAX: usize = 4096;

/// After a rest, frames are read one by one for so long, with the node's look at each in between.
pub const WARY: Duration = Duration::from_secs(2);

/// Events that may wait for the node's task. Each holds at most one frame: 16 MiB at worst.
/// Connections wait when it is full, and so their peers.
pub const EVENTS_LEN_MAX: usize = 256;
/// Messages that may wait for one connection's writer: handshake messages, the keys, and as
/// many batches as the link has credit for. Beyond, the connection is over: the node overran its credit.
pub const WRITER_LEN_MAX: usize = 16;
/// Answers that may wait for one connection's reader: one per frame of the handshake.
pub const READER_LEN_MAX: usize = 4;

/// Bytes that a reader makes room for at first, and on quiet links.
pub const READ_LEN_MIN: usize = 8 * 1024;
/// Bytes that a reader makes room for on busy links: two full frames per system call. With the rest of a third
/// it stays within [`crate::memory::BUFFER_LEN_MAX`].
pub const READ_LEN_MAX: usize = 128 * 1024;
/// Reads that fill less than an eighth of the room before the room is halved.
pub const READS_SMALL_MAX: u32 = 64;
/// Frames per write: [`crate::transport::limits::WRITER_LEN_MAX`] at most wait, so more never come together.
pub const FRAMES_PER_WRITE_MAX: usize = 16;
/// Time whose bytes may be received at once under a download limit: as long as a busy machine may keep a task waiting,
/// and half a percent of ten seconds.
pub const DOWNLOAD_BURST: Duration = Duration::from_millis(50);
/// Time whose bytes the kernel may buffer per connection under a download limit: a long round trip of one connection.
pub const DOWNLOAD_BUFFER_TIME: Duration = Duration::from_millis(200);
/// The least and the most of it, bytes. The least takes a frame of the largest cell.
pub const DOWNLOAD_BUFFER_LEN: (usize, usize) = (32 * 1024, 4 * 1024 * 1024);
/// How long a closed connection may still write what was queued.
pub const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Silence after which the kernel probes a connection; the link's own pings are quicker.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Bytes under way on a TCP connection, the kernel's bookkeeping included: a bound, not a reservation, for what is not
/// yet sent has its own. The kernel by itself gives 4 MiB, and a socket counts as writable below two thirds of that. On a
/// long line with losses, where what was overtaken lies there for some round trips, that stands still with the window
/// still open; and on a fat line BBR does not leave its startup, which sends nearly three times what the line holds,
/// before its window alone holds the sender up: it fills the line's queue and loses a tenth for as long as it lasts.
pub const SENT_LEN_MAX: usize = 16 << 20;
/// Connections that wait in the kernel for being accepted.
pub const BACKLOG_LEN_MAX: i32 = 1024;
/// Accepted connections beyond the configured links: room for handshakes and for the link layer to choose whom to drop.
pub const ACCEPTED_EXTRA: usize = 256;
/// Pause after the system refused to accept (out of descriptors or memory).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// A connection attempt is given up after this, name look-up included.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Time between attempts at the addresses of one host (RFC 8305 §5).
pub const EYEBALL_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one host that are tried.
pub const ADDRESSES_MAX: usize = 8;
/// Targets that are dialled. Beyond, new ones are refused, counted by the caller.
pub const TARGETS_MAX: usize = 512;
/// First pause after a failed attempt or a lost connection.
pub const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause between attempts (PROTOCOL.md §2).
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How far pauses above [`BACKOFF_EXACT_MAX`] move at random, in percent.
pub const BACKOFF_JITTER_PERCENT: u32 = 25;
/// Pauses up to this are taken as they are: whoever restarts should find its peers at once.
pub const BACKOFF_EXACT_MAX: Duration = Duration::from_secs(4);
/// Failed attempts after which a hint is forgotten; it comes back when it is announced again.
pub const HINT_ATTEMPTS_MAX: u32 = 8;
/// Addresses of one offer that are dialled.
pub const OFFER_ADDRESSES_MAX: usize = 4;
/// Attempts at one offer.
pub const OFFER_ATTEMPTS_MAX: u32 = 2;
/// Offers dialled or linked at once, whatever may be dialled in all.
pub const OFFERS_MAX: usize = 64;
/// How long the side with the larger PeerId leaves the first attempt to the other.
pub const HINT_FALLBACK_DELAY: Duration = Duration::from_secs(2);
