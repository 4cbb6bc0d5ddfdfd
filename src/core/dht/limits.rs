//! Every bound and figure of the DHT. Where the protocol gives a number, it is that number.

use std::time::Duration;

/// Contacts that a bucket has room for in any case. R5N: k.
pub const BUCKET_LEN: usize = 20;
/// Contacts in all: more than routing keeps destinations with any profile of its own. Beyond, the fullest bucket yields to
/// one that has room left, and others are not remembered (counted).
pub const CONTACTS_LEN: usize = 4096;
/// First hops of the walk with random steps.
pub const WANDERING: usize = 2;
/// Straight walks of a query in a network larger than we see, each over a first hop of its own: as many as there are
/// replicas. Where the first hops are the nearest, none of them has anybody left to ask; and with a tenth of all nodes
/// lying, a walk of three hops fails one time in four, so that a few walks fail together too often.
pub const STRAIGHT: usize = REPLICATION as usize;
/// Replicas that the walk with random steps asks for. Its branches, and what they cost everybody, grow with them (R5N's
/// out-degree), and it is there for what the straight walks do not see.
pub const WANDERING_REPLICATION: u8 = 3;
/// Straight walks that may still be out when a block counts as absent, of [`STRAIGHT`]; of fewer none. A hit is as quick
/// as the quickest of them, and a miss must not take as long as the slowest. A block with four holders left among the
/// nearest is found all the same, and where a third of all nodes lie and deny, five of eight do one time in twelve.
pub const STRAIGHT_OUT: usize = 3;
/// Denials that it takes to say that nothing is stored, where so many can be asked.
pub const DENIALS_MIN: usize = 2;
/// Replicas that we ask for. R5N: r.
pub const REPLICATION: u8 = 8;
/// Replicas that anybody may ask for.
pub const REPLICATION_MAX: u8 = 16;
/// Hops after which a query stops, in units of the size estimate.
pub const HOPS_PER_L: u32 = 4;
/// Hops after which a query no longer branches, in units of the size estimate.
pub const BRANCHING_PER_L: u32 = 2;
/// Hop count that nobody forwards: the last step of a query, and a block handed to one node.
pub const HOP_FINAL: u8 = u8::MAX;
/// Random bits preset in the bloom filter, so that an empty one does not show the originator.
pub const BLOOM_PRESET: usize = 24;
/// Bits per peer in the bloom filter.
pub const BLOOM_BITS: usize = 8;

/// How long an own query may take.
pub const DEADLINE: Duration = Duration::from_secs(4);
/// How long the next hop of an own query has for its final answer.
pub const PATIENCE: Duration = Duration::from_millis(2000);
/// Longest patience that a hop grants another.
pub const PATIENCE_MAX: Duration = Duration::from_secs(4);
/// After this long, denials of half the straight walks are enough: the silent ones are presumed gone.
pub const SILENCE: Duration = Duration::from_millis(1000);
/// How long a transit query takes late blocks.
pub const PENDING_LIFE: Duration = Duration::from_secs(4);
/// How long a query is known as a repeat.
pub const REPEAT_LIFE: Duration = Duration::from_secs(30);

/// Queries in flight through us, in all; further ones are answered from the store alone.
pub const PENDING_LEN: usize = 16_384;
/// Queries in flight per neighbour; further ones are answered from the store alone.
pub const PENDING_PER_NEIGHBOUR: usize = 512;
/// Own queries at once; further ones end at once as timed out.
pub const OWN_LEN: usize = 1024;
/// Queries known as repeats; the oldest is forgotten.
pub const REPEATS_LEN: usize = 16_384;
/// Blocks passed on per query of another: with the last word they fit the 16 answers of a routed datagram.
pub const PASSED_LEN: usize = 15;
/// The last of those are for blocks with more work than the weakest before them.
pub const PASSED_FOR_WORK: usize = 4;
/// Blocks taken per own query: nobody counts the answers.
pub const PASSED_OWN: usize = 64;
/// Blocks taken per next hop and query of another: as many as a key has signers. Bounds the signatures that an answer makes
/// us check, and leaves room for the other hops.
pub const BLOCKS_PER_LEG: usize = 8;

/// Messages waiting to be pulled; further ones are dropped (counted).
pub const TRANSMIT_LEN: usize = 8192;

/// Messages that one neighbour's queries may cause, per second: the refill of its budget.
pub const BUDGET_MESSAGES_PER_S: u64 = 400;
/// Messages that one neighbour's queries may cause at once.
pub const BUDGET_MESSAGES_BURST: u64 = 1600;
/// Bytes that one neighbour's queries may cause, per second.
pub const BUDGET_BYTES_PER_S: u64 = 4 << 20;
/// Bytes that one neighbour's queries may cause at once.
pub const BUDGET_BYTES_BURST: u64 = 8 << 20;
/// Neighbours with a budget; beyond, the one heard least recently is forgotten (its budget is full again by then).
pub const BUDGETS_LEN: usize = 4096;

/// Blocks stored.
pub const STORE_BLOCKS: usize = 65_536;
/// Bytes stored.
pub const STORE_BYTES: usize = 64 << 20;
/// The part of the store that one introducing neighbour may fill: one in this many.
pub const STORE_SHARE: usize = 8;
/// Signers per key.
pub const SIGNERS_PER_KEY: usize = 8;
/// Blocks of our own that are kept and refreshed; further ones are published but not kept.
pub const OWN_BLOCKS: usize = 4096;
/// What one stored block costs beside its encoding, bytes.
pub const BLOCK_OVERHEAD: usize = 256;
/// Blocks dropped as expired per step.
pub const EXPIRE_PER_STEP: usize = 64;

/// How often an own block is published again.
pub const REFRESH: Duration = Duration::from_secs(6 * 3600);
/// How long no further contact must come before new ones are served: while a network forms, whoever looks nearest
/// changes with every route that is learnt.
pub const HANDOVER_DELAY: Duration = Duration::from_millis(250);
/// How long a new contact waits for blocks at most, however many come after it.
pub const HANDOVER_DELAY_MAX: Duration = Duration::from_secs(5);
/// How long a contact must be gone before its blocks are handed to the next closest.
pub const DEPARTED_DELAY: Duration = Duration::from_secs(10);
/// Time between two steps of a sweep.
pub const HANDOVER_STEP: Duration = Duration::from_millis(50);
/// Keys examined per step.
pub const HANDOVER_KEYS: usize = 64;
/// Blocks handed over per step: at most 80 a second.
pub const HANDOVER_BLOCKS: usize = 4;
/// Contacts served by one sweep; further ones wait for the next.
pub const HANDOVER_CONTACTS: usize = 256;
/// Contacts waiting for a sweep; further ones are not served (the owners' refresh reaches them).
pub const HANDOVER_WAITING: usize = 4096;
/// Blocks waiting to be handed over; the sweep pauses while there are this many.
pub const HANDOVER_QUEUE: usize = 512;
/// Pairs of block and contact remembered as handed over; the oldest is forgotten.
pub const HANDED_LEN: usize = 16_384;
/// How long a contact is not handed the same block again.
pub const HANDED_LIFE: Duration = Duration::from_secs(3600);
/// Holders nearest to a key that hand its blocks over: more than one, since one may be missing it.
pub const HANDOVER_RANK: usize = 2;

/// Estimates of others that are remembered.
pub const REPORTS_LEN: usize = 64;
/// Estimates of others that it takes before they count.
pub const REPORTS_MIN: usize = 3;

/// How long a content block is kept when its publisher does not say: 7 days, seconds.
pub const CONTENT_LEASE_S: u64 = 7 * 24 * 3600;
/// How soon after a start own blocks are published again, at most.
pub const REFRESH_AT_START: Duration = Duration::from_secs(120);
/// Longest wait until expired blocks are looked for: the wall clock may jump.
pub const EXPIRE_STEP_MAX: Duration = Duration::from_secs(3600);
/// Longest descriptor in a Hello, bytes.
pub const HELLO_DESCRIPTOR_LEN: usize = 4096;
/// Most addresses in a Hello.
pub const HELLO_ADDRESSES: usize = 8;
/// Longest address in a Hello, bytes.
pub const HELLO_ADDRESS_LEN: usize = 256;
