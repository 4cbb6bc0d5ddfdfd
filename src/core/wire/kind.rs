//! Message kinds inside a link frame, one byte each: 0x01-0x0f link, 0x10-0x1f routing,
//! 0x20-0x2f paths, 0x30-0x3f routed datagrams. DHT messages travel inside routed
//! datagrams and have their own numbering.

/// Link: are you there, and how far away.
pub const PING: u8 = 0x01;
/// Link: the answer to a ping.
pub const PONG: u8 = 0x02;
/// Link: closing, with a reason.
pub const BYE: u8 = 0x03;
/// Link: a fresh key share.
pub const REKEY: u8 = 0x04;
/// Link: the answer to a fresh key share.
pub const REKEY_ANSWER: u8 = 0x05;
/// Link: the answer has come, and its keys are ready to be used.
pub const REKEY_DONE: u8 = 0x06;
/// Link: a piece of messages that are longer than a frame.
pub const PIECE: u8 = 0x07;
/// Link: the last piece of them.
pub const PIECE_LAST: u8 = 0x08;

/// Routing: a batch of signed route items.
pub const ADVERT: u8 = 0x10;
/// Routing: dropped from our table; not unreachable.
pub const WITHDRAW: u8 = 0x11;
/// Routing: unreachable.
pub const UNREACH: u8 = 0x12;
/// Routing: please send a newer sequence number.
pub const SEQREQ: u8 = 0x13;
/// Routing: please send your table again.
pub const REFILL: u8 = 0x14;
/// Routing: digest of what was advertised, to find drift.
pub const DIGEST: u8 = 0x15;
/// Routing: looks for a destination outside the table.
pub const PROBE: u8 = 0x16;
/// Routing: the answer to a probe.
pub const PROBE_FOUND: u8 = 0x17;

/// Routing: a node's way to a landmark, noted down on its way.
pub const REGISTER: u8 = 0x18;
/// Routing: a request of the directory at a landmark.
pub const PLACE: u8 = 0x19;

/// Path: set one up.
pub const PATH_OPEN: u8 = 0x20;
/// Path: it is up.
pub const PATH_OPENED: u8 = 0x21;
/// Path: it could not be set up.
pub const PATH_FAILED: u8 = 0x22;
/// Path: tear down.
pub const PATH_CLOSE: u8 = 0x23;
/// Path: a cell.
pub const CELL: u8 = 0x24;

/// Routed datagram toward a destination.
pub const ROUTED: u8 = 0x30;
/// Answer to a routed datagram, retracing its way.
pub const ROUTED_ANSWER: u8 = 0x31;

/// Whether it is a datagram on somebody's way to somebody: it may be lost, and has no claim to go before others' cells.
#[must_use]
pub const fn is_datagram(kind: u8) -> bool {
    matches!(kind, REGISTER | PLACE | ROUTED | ROUTED_ANSWER)
}
