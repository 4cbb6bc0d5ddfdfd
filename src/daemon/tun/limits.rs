//! Every bound and deadline of the TUN side, each with its reason.

use std::time::Duration;

/// TCP flows at once. Beyond it a SYN is dropped, and the kernel tries again after a second.
pub const FLOWS_MAX: usize = 16_384;

/// TCP flows that wait for their channel. Their buffers exist already, though untouched, so a
/// flood of SYNs must not take memory from flows that work. Browsers and crawlers open hundreds at once.
pub const HALF_OPEN_MAX: usize = 2_048;

/// TCP flows of one user that wait for their channel: the other half is there for the others.
pub const HALF_OPEN_USER_MAX: usize = 1_024;

/// Bytes of each of a flow's two socket buffers. 256 KiB measured best for
/// 64 KiB segments: larger ones leave the cache, smaller ones stall on the window.
pub const SOCKET_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes taken from a flow's receive buffer at once: one kernel segment.
pub const READ_BYTES_MAX: usize = 64 * 1024;

/// How long a SYN may wait for the overlay.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long our kernel may leave the last bytes and the FIN of a finished flow without an answer.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// So many bytes of a program are sent on first, and acknowledged then: a question whose answer is waited for. More are
/// acknowledged first, for the program's kernel then sends the next ones meanwhile.
pub const LITTLE_BYTES: usize = 4_096;

/// Shortest sleep of a flow's timer: a timer that is always due must not spin.
pub const TIMER_MIN: Duration = Duration::from_millis(1);

/// Packets read from the device before other tasks get a turn.
pub const READ_BATCH: usize = 32;

/// Bytes of the largest packet the device can hand over.
pub const PACKET_BYTES_MAX: usize = 65_535 + 40;

/// The device's MTU where the kernel does not take the configured one.
pub const MTU_FALLBACK: u16 = 9_000;

/// Bytes of the head of a packet that are kept to quote it in an ICMP error:
/// IPv6 header with a few extensions, and a TCP header with all its options.
pub const QUOTE_BYTES_MAX: usize = 160;

/// UDP flows at once. Beyond it a datagram to a new destination is dropped.
pub const UDP_FLOWS_MAX: usize = 8_192;

/// Datagrams that wait while their channel opens or is full; the newest is dropped.
pub const UDP_QUEUE_LEN: usize = 64;

/// A UDP flow that only ever sent ends after this silence.
pub const UDP_IDLE: Duration = Duration::from_secs(60);

/// A UDP flow that was answered ends after this silence.
pub const UDP_IDLE_ANSWERED: Duration = Duration::from_secs(300);

/// How long a UDP flow that failed is remembered, and its datagrams answered with the same error.
pub const UDP_REFUSED_HOLD: Duration = Duration::from_secs(1);

/// Bytes of UDP fragments that wait for the rest of their datagram; the oldest goes first.
pub const FRAGMENT_BYTES_MAX: usize = 1024 * 1024;

/// How long fragments wait. RFC 8200 §4.5 allows 60 s; our sender is our own kernel.
pub const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Fragments of one datagram.
pub const FRAGMENTS_MAX: usize = 64;

/// Overlay pings in flight for ICMP echo; beyond it an echo request is dropped.
pub const ECHO_PENDING_MAX: usize = 64;

/// How long the success of an overlay ping answers further echo requests.
pub const ECHO_CACHE: Duration = Duration::from_secs(1);

/// Destinations whose last overlay ping is remembered.
pub const ECHO_CACHE_LEN_MAX: usize = 1_024;

/// DNS questions over the TUN in work; beyond it a question is dropped and the resolver asks again.
pub const DNS_PENDING_MAX: usize = 256;

/// How long an address stays with its name after the last answer: DNS caches, and
/// programs that never ask twice.
pub const ADDRESS_HOLD_S: u64 = 24 * 3_600;

/// How often a name's last answer is written down again while it is being asked for.
pub const TOUCH_INTERVAL_S: u64 = 3_600;

/// How often the last use of addresses with flows is written down: twice, and the delay of a busy
/// machine, in [`TOUCH_INTERVAL_S`], by which a slot is held longer than the journal says.
pub const REFRESH_INTERVAL_S: u64 = 1_200;

/// Names under one petname or ServiceId: whoever publishes a zone must not be able to take the whole pool.
pub const NAMES_PER_ZONE_MAX: usize = 16_384;

/// Bytes of a name that may get an address (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 255;

/// Journal appends that wait for the disk.
pub const JOURNAL_QUEUE_LEN: usize = 1_024;

/// How long the host's routes must rest before they are looked at again: a change comes with others.
pub const ROUTES_REST: Duration = Duration::from_millis(200);
