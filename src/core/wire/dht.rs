//! Messages between DHT nodes. They travel inside routed datagrams, hop by hop: every
//! hop writes its own token, to which the answers come back, so nobody further on learns who asked.
//!
//! ```text
//! GET   1 | route | kind 1 | key 64
//! PUT   2 | route | lease 8 | block
//! REPLY 3 | token 8 | progress 1 | size 1 | stored 1 | block or nothing
//! route = token 8 | query 8 | patience ms 2 | hop 1 | replication 1 | bloom 128
//! ```

use bytes::{BufMut, Bytes};

use super::block::{BLOCK_LEN_MAX, Block, Kind};
use super::{Error, Reader};
use crate::crypto::DhtKey;
use crate::time::UnixTime;

/// Bytes of the bloom filter of visited peers.
pub const BLOOM_LEN: usize = 128;
/// Longest message, bytes.
pub const MESSAGE_LEN_MAX: usize = 1 + ROUTE_LEN + 8 + BLOCK_LEN_MAX;
/// Bytes of a [`Route`].
const ROUTE_LEN: usize = 8 + 8 + 2 + 1 + 1 + BLOOM_LEN;
/// Type byte of a GET.
const GET: u8 = 1;
/// Type byte of a PUT.
const PUT: u8 = 2;
/// Type byte of a REPLY.
const REPLY: u8 = 3;

/// How a query travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Names the query between this hop and the next; the answer repeats it. 0: no answer is wanted.
    pub token: u64,
    /// The same all the way: a query that comes twice is not forwarded twice.
    pub query: u64,
    /// How long the sender waits for the final answer, milliseconds.
    pub patience_ms: u16,
    /// Hops so far, from a random offset.
    pub hop: u8,
    /// Wanted replicas.
    pub replication: u8,
    /// Peers asked so far; advisory.
    pub bloom: [u8; BLOOM_LEN],
}

/// How far a query is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// More follows.
    More,
    /// That was all, and every hop behind the sender has answered.
    Complete,
    /// That is all for now; some hop behind the sender has not answered.
    Partial,
}

impl Progress {
    /// The byte on the wire.
    const fn code(self) -> u8 {
        match self {
            Self::More => 0,
            Self::Complete => 1,
            Self::Partial => 2,
        }
    }

    /// From the byte on the wire.
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::More),
            1 => Some(Self::Complete),
            2 => Some(Self::Partial),
            _ => None,
        }
    }
}

/// An answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The query's token.
    pub token: u64,
    /// Whether more follows.
    pub progress: Progress,
    /// The sender's estimate of the network's size: quarters of log2.
    pub size: u8,
    /// Replicas that the sender and the hops behind it stored.
    pub stored: u8,
    /// A block that was found.
    pub block: Option<Block>,
}

/// A message between DHT nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Looks for the blocks of one kind under a key.
    Get {
        /// How it travels.
        route: Route,
        /// What is sought.
        kind: Kind,
        /// Where.
        key: DhtKey,
    },
    /// Stores a block at the nodes closest to its key.
    Put {
        /// How it travels.
        route: Route,
        /// How long to keep a content block; other kinds end with their expiry, which this repeats.
        lease: UnixTime,
        /// What to store.
        block: Block,
    },
    /// Answers either.
    Reply(Reply),
}

impl Route {
    /// Appends its bytes.
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.token);
        out.put_u64_le(self.query);
        out.put_u16_le(self.patience_ms);
        out.put_slice(&[self.hop, self.replication]);
        out.put_slice(&self.bloom);
    }

    /// Reads its bytes.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (token, query, patience_ms) = (reader.u64()?, reader.u64()?, reader.u16()?);
        let [hop, replication] = reader.array()?;
        Ok(Self { token, query, patience_ms, hop, replication, bloom: reader.array()? })
    }
}

impl Message {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(1 + ROUTE_LEN + 65);
        match self {
            Self::Get { route, kind, key } => {
                out.put_u8(GET);
                route.encode(&mut out);
                out.put_u8(kind.code());
                out.put_slice(&key.0);
            }
            Self::Put { route, lease, block } => {
                out.put_u8(PUT);
                route.encode(&mut out);
                out.put_u64_le(lease.0);
                block.encode_into(&mut out);
            }
            Self::Reply(reply) => {
                out.put_u8(REPLY);
                out.put_u64_le(reply.token);
                out.put_slice(&[reply.progress.code(), reply.size, reply.stored]);
                if let Some(block) = &reply.block {
                    block.encode_into(&mut out);
                }
            }
        }
        out.into()
    }

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not a message. Blocks are parsed, not verified.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            GET => {
                let route = Route::read(&mut reader)?;
                let kind = Kind::from_code(reader.u8()?).ok_or(Error::Invalid("block kind"))?;
                Self::Get { route, kind, key: DhtKey(reader.array()?) }
            }
            PUT => {
                let route = Route::read(&mut reader)?;
                let lease = UnixTime(reader.u64()?);
                Self::Put { route, lease, block: Block::read(&mut reader)? }
            }
            REPLY => Self::Reply(Reply::read(&mut reader)?),
            _ => return Err(Error::Invalid("dht message type")),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl Reply {
    /// Reads what follows the type byte.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let token = reader.u64()?;
        let [progress, size, stored] = reader.array()?;
        let progress = Progress::from_code(progress).ok_or(Error::Invalid("progress"))?;
        let block = if reader.remaining() == 0 { None } else { Some(Block::read(reader)?) };
        Ok(Self { token, progress, size, stored, block })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::SigningKey;

    fn route(seed: u64) -> Route {
        let byte = seed.to_le_bytes()[0];
        Route { token: seed, query: !seed, patience_ms: 77, hop: byte, replication: 8, bloom: [byte; BLOOM_LEN] }
    }

    fn messages(seed: u64, ciphertext: Vec<u8>) -> Vec<Message> {
        let signer = SigningKey::from_seed(&[5; 32]);
        let block = Block::create(Kind::Name, DhtKey([1; 64]), &signer, seed, UnixTime(9), ciphertext.into()).unwrap();
        let reply = |progress, block| Message::Reply(Reply { token: seed, progress, size: 3, stored: 2, block });
        vec![
            Message::Get { route: route(seed), kind: Kind::Hello, key: DhtKey([2; 64]) },
            Message::Put { route: route(seed), lease: UnixTime(seed), block: block.clone() },
            reply(Progress::Complete, None),
            reply(Progress::Partial, None),
            reply(Progress::More, Some(block)),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip_and_their_truncations_are_errors(seed: u64, ciphertext: Vec<u8>, cut: usize) {
            for message in messages(seed, ciphertext) {
                let bytes = message.encode();
                prop_assert!(bytes.len() <= MESSAGE_LEN_MAX);
                let cut = cut % bytes.len();
                if !matches!(message, Message::Reply(_)) || cut != 12 {
                    prop_assert!(Message::decode(&bytes[..cut]).is_err());
                }
                prop_assert_eq!(Message::decode(&bytes), Ok(message));
            }
        }

        #[test]
        fn any_bytes_give_a_message_or_an_error(head in 0u8..5, rest: Vec<u8>) {
            let bytes = [vec![head], rest].concat();
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode().to_vec(), bytes);
            }
        }

        #[test]
        fn a_flipped_bit_gives_another_message_or_an_error(seed: u64, bit: usize) {
            for message in messages(seed, vec![1, 2, 3]) {
                let mut bytes = message.encode().to_vec();
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(other) = Message::decode(&bytes) {
                    prop_assert_ne!(&other, &message);
                    prop_assert_eq!(other.encode().to_vec(), bytes);
                }
            }
        }
    }
}
