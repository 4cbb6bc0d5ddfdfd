//! The node's own bounds.

use std::time::Duration;

/// Packets shorter than this are interactive: acknowledgements, keystrokes, set-up.
pub const INTERACTIVE_LEN: usize = 600;

/// Packets from this length on stay in the memory of the transport's read, which their data then keeps; shorter ones
/// are copied out of it, so that what waits for a reader never keeps much more than itself.
pub const KEPT_LEN_MIN: usize = 8_192;

/// Requests of the shell that may be under way; more are refused.
pub const WANTS_LEN_MAX: usize = 20_000;

/// Time for a connection, from the request on. INTERFACE.md: no answer within 20 s.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);

/// Time for a DHT request of the shell.
pub const DHT_TIME_MAX: Duration = Duration::from_secs(10);

/// Life of a Hello. PROTOCOL.md §7: owners refresh at half the lifetime.
pub const HELLO_LIFE: Duration = Duration::from_secs(2 * 3600);

/// Bytes of the store's share that a Hello may name as addresses.
pub const HELLO_ADDRESSES_MAX: usize = 8;

/// Answers of one signed key that are kept for the shell.
pub const SIGNED_VALUES_MAX: usize = 8;

/// Bytes that all sessions together hold, where nothing else is configured.
pub const SESSIONS_HELD_MAX: u64 = 192 << 20;

/// How often that is looked at, at most: 32 MiB come in between at 1 Gbit/s.
pub const RELIEF_EVERY: Duration = Duration::from_millis(250);
