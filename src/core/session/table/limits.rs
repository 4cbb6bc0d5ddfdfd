//! Every bound and figure of the table of sessions, with its reason.

use std::time::Duration;

/// Sessions of a node. At the bound an idle one goes; if none is idle, new ones are not made.
pub const SESSIONS_MAX: usize = 4_096;
/// Our own handshakes that wait for an answer. Beyond it connecting fails with `TooMany`.
pub const DIALS_MAX: usize = 256;
/// Sessions whose initiator has not been heard after our answer. The oldest goes.
pub const HALF_OPEN_MAX: usize = 256;
/// How long such a session is kept, and how long a repeated first message gets the stored answer. PROTOCOL.md §6.
pub const HALF_OPEN_AFTER: Duration = Duration::from_secs(60);
/// Paths on which repeats of one first message may wait at once; further repeats are ignored.
pub const REPEAT_CARRIERS_MAX: usize = 4;
/// Channels of a node, opening ones included. Beyond it they are refused with `TooMany`.
pub const CHANNELS_MAX: usize = 16_384;
/// Channels that one session may be asked to have for each that is still free for all: 12,288 of them alone.
pub const CHANNELS_PER_FREE: usize = 3;
/// Connects that may wait for one handshake.
pub const WAITING_MAX: usize = 1_024;
/// Channels of one session that may wait for its identity proof.
pub const HELD_MAX: usize = 64;
/// Things told of a channel that is opening still: each kind once or twice.
pub const TOLD_LATER_MAX: usize = 16;
/// How long channels wait for an identity proof.
pub const PROOF_AFTER: Duration = Duration::from_secs(10);
/// Owners that a node takes sessions for: each costs up to three trials per first message.
pub const OWNERS_MAX: usize = 256;

/// How long a connect may take. INTERFACE.md, "Names and addresses on the host".
pub const CONNECT_AFTER: Duration = Duration::from_secs(20);
/// How long a handshake keeps trying when there is no route: long enough for a route request.
pub const NO_ROUTE_AFTER: Duration = Duration::from_secs(3);
/// Circuits that are tried before that counts: each goes around those before it, and one who swallows set-ups may have
/// stood in the way of several.
pub const NO_ROUTE_TRIES: u32 = 4;
/// First wait before a circuit is tried again; doubles each time.
pub const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest wait before a circuit is tried again.
pub const RETRY_MAX: Duration = Duration::from_secs(5);
/// How far waits are spread, percent.
pub const RETRY_JITTER: u32 = 20;
/// Resumptions refused in a row by the far node after which it has forgotten the session (it restarted).
pub const REJECTED_MAX: u32 = 4;
/// Circuits that a session of ours is to have while it has channels: one in use, one over other relays.
pub const CIRCUITS_WANTED: usize = 2;
/// With one more over a link to the far node itself.
pub const CIRCUITS_MAX: usize = CIRCUITS_WANTED + 1;
/// Circuits for one session on their way at once.
pub const BUILDING_MAX: usize = 3;
/// Set-ups of one session that are remembered, to keep later ones away from their ways.
pub const TRAILS_MAX: usize = 6;
/// How long a session has channels and one circuit before it looks for a second: most are over by then.
pub const STANDBY_AFTER: Duration = Duration::from_secs(1);
/// The same when a circuit has just died, or one came up.
pub const STANDBY_SOON: Duration = Duration::from_millis(100);
/// First wait after a second circuit was not to be had; doubles each time.
pub const STANDBY_RETRY_FIRST: Duration = Duration::from_secs(4);
/// Longest wait after that.
pub const STANDBY_RETRY_MAX: Duration = Duration::from_secs(64);
/// How long a second circuit is waited for at most when a neighbour has just come up.
pub const STANDBY_NEIGHBOUR: Duration = Duration::from_secs(2);
/// A session without a circuit waits for one this long at least, then asks for another that keeps away from its way.
pub const HEDGE_AFTER: Duration = Duration::from_millis(400);
/// The longest wait for that, which doubles each time.
pub const HEDGE_MAX: Duration = Duration::from_secs(4);
/// Resumption tags that a responder knows ahead: more tries than fit into the 60 s that channels wait.
pub const RESUME_AHEAD: u64 = 32;
/// How long a closing session may take to say so.
pub const CLOSING_AFTER: Duration = Duration::from_secs(1);
/// Shortest wait before a session with a due timer but nothing to send is asked again.
pub const ASK_AGAIN: Duration = Duration::from_millis(1);
/// The same for one whose circuit has no room while it has others.
pub const ASK_BLOCKED: Duration = Duration::from_millis(20);

/// Public-key operations per second that first messages of strangers may cost, about 40 µs each: a third of a core.
pub const WORK_PER_S: u64 = 8_192;
/// The same at once.
pub const WORK_BURST: u64 = 16_384;
/// Operations that answering one first message costs beside the trials.
pub const WORK_ANSWER: u64 = 8;
