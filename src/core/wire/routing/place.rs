//! Where nodes are: what a node signs about its place, how it finds that out, and the
//! requests of the directory that landmarks keep.
//!
//! ```text
//! place     key 32 | sequence 8 | locators 1 + n * way | blob 2 + n (or its hash 32) | signature 64
//! request   0 | place with blob                    (keep this)
//!           1 | node 32                            (where is it?)
//!           2 | id 16 | count 1                    (whose places in the DHT are nearest to this?)
//! answer    0                                      (kept, or nobody)
//!           1 | place with blob
//!           2 | count 1 | count places without
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use crate::crypto::{BadSignature, PeerId, PublicKey, Purpose, Scheme, SigningKey, hash};
use crate::wire::way::{WAY_MAX, Way, Waypoint};
use crate::wire::{Error, Reader, put_varint, put_vec16};

/// Locators of one place.
pub const LOCATORS_MAX: usize = 4;
/// Waypoints of one locator.
pub const LOCATOR_LEN_MAX: usize = 24;
/// Longest blob, bytes: a Hello block.
pub const BLOB_LEN_MAX: usize = 8 * 1024;
/// Places in one answer.
pub const LISTED_MAX: usize = 20;

/// A way from a landmark, which is its last waypoint.
pub type Locator = Way;

/// What a node says about its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its Ed25519 node key; the PeerId is its hash.
    pub key: [u8; 32],
    /// Which of its places it is.
    pub sequence: u64,
    /// At most [`LOCATORS_MAX`].
    pub locators: Vec<Locator>,
    /// For whoever looks for the node; opaque here. Empty in lists.
    pub blob: Bytes,
    /// The hash of the blob, which is signed in its place.
    pub blob_hash: [u8; 32],
    /// The node's.
    pub signature: [u8; 64],
}

impl Place {
    /// Signs a place; `None` with a key that is not Ed25519 or a blob over [`BLOB_LEN_MAX`].
    #[must_use]
    pub fn sign(keys: &SigningKey, sequence: u64, mut locators: Vec<Locator>, blob: Bytes) -> Option<Self> {
        locators.truncate(LOCATORS_MAX);
        let blob_hash = hash(&blob);
        let fields = Self::signed_fields(sequence, &locators, &blob_hash);
        let signature = keys.sign(Purpose::RoutePlace, &[&fields]).try_into().ok()?;
        let key = keys.public().to_bytes().try_into().ok()?;
        (blob.len() <= BLOB_LEN_MAX).then_some(Self { key, sequence, locators, blob, blob_hash, signature })
    }

    /// The bytes that the signature covers.
    fn signed_fields(sequence: u64, locators: &[Locator], blob_hash: &[u8; 32]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u64_le(sequence);
        encode_locators(locators, &mut out);
        out.put_slice(blob_hash);
        out
    }

    /// Whose place it is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        PublicKey::peer_id_of(Scheme::Ed25519, &self.key)
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BadSignature`], also when the key is none.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let fields = Self::signed_fields(self.sequence, &self.locators, &self.blob_hash);
        PublicKey::verify_by(&self.key, Purpose::RoutePlace, &[&fields], &self.signature)
    }

    /// All waypoints, the nearest to the node first.
    #[must_use]
    pub fn way(&self) -> Way {
        let mut points: Vec<Waypoint> = self.locators.iter().flat_map(|way| way.points()).copied().collect();
        points.sort_by_key(|point| (point.left, point.short));
        points.dedup_by_key(|point| point.short);
        Way::new(points)
    }

    /// The same without its blob.
    #[must_use]
    pub fn without_blob(&self) -> Self {
        Self { blob: Bytes::new(), ..self.clone() }
    }

    /// Appends the place, with its blob or the blob's hash.
    fn encode(&self, with_blob: bool, out: &mut BytesMut) {
        out.put_slice(&self.key);
        out.put_u64_le(self.sequence);
        encode_locators(&self.locators, out);
        if with_blob {
            put_vec16(out, &self.blob);
        } else {
            out.put_slice(&self.blob_hash);
        }
        out.put_slice(&self.signature);
    }

    /// Reads a place, with its blob or the blob's hash.
    fn decode(with_blob: bool, reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (key, sequence) = (reader.array()?, reader.u64()?);
        let count = usize::from(reader.u8()?);
        if count > LOCATORS_MAX {
            return Err(Error::Invalid("locators of a place"));
        }
        let locators = (0..count).map(|_| Way::decode(reader)).collect::<Result<_, _>>()?;
        let (blob, blob_hash) = if with_blob {
            let blob = reader.vec16()?;
            if blob.len() > BLOB_LEN_MAX {
                return Err(Error::Invalid("blob of a place"));
            }
            (Bytes::copy_from_slice(blob), hash(blob))
        } else {
            (Bytes::new(), reader.array()?)
        };
        Ok(Self { key, sequence, locators, blob, blob_hash, signature: reader.array()? })
    }
}

/// Appends counted locators.
fn encode_locators(locators: &[Locator], out: &mut BytesMut) {
    out.put_u8(u8::try_from(locators.len()).unwrap_or(0));
    locators.iter().for_each(|way| way.encode(out));
}

/// What is asked of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceRequest {
    /// Keep this.
    Put(Place),
    /// Where is this node?
    Get(PeerId),
    /// Who is nearest to this in the space of the DHT, whose first bytes these are?
    Near {
        /// The beginning of a DHT key.
        id: [u8; 16],
        /// At most [`LISTED_MAX`].
        count: u8,
    },
}

impl PlaceRequest {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Put(place) => {
                out.put_u8(0);
                place.encode(true, &mut out);
            }
            Self::Get(peer) => {
                out.put_u8(1);
                out.put_slice(&peer.0);
            }
            Self::Near { id, count } => {
                out.put_u8(2);
                out.put_slice(id);
                out.put_u8(*count);
            }
        }
        out.freeze()
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let request = match reader.u8()? {
            0 => Self::Put(Place::decode(true, &mut reader)?),
            1 => Self::Get(PeerId(reader.array()?)),
            2 => Self::Near { id: reader.array()?, count: reader.u8()? },
            _ => return Err(Error::Invalid("form of a request for a place")),
        };
        reader.finish()?;
        Ok(request)
    }
}

/// What the directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceAnswer {
    /// Kept, or nobody of that id.
    Done,
    /// The place that was asked for.
    Found(Place),
    /// Places without blobs.
    Listed(Vec<Place>),
}

impl PlaceAnswer {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Done => out.put_u8(0),
            Self::Found(place) => {
                out.put_u8(1);
                place.encode(true, &mut out);
            }
            Self::Listed(places) => {
                out.put_u8(2);
                out.put_u8(u8::try_from(places.len().min(LISTED_MAX)).unwrap_or(0));
                places.iter().take(LISTED_MAX).for_each(|place| place.encode(false, &mut out));
            }
        }
        out.freeze()
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let answer = match reader.u8()? {
            0 => Self::Done,
            1 => Self::Found(Place::decode(true, &mut reader)?),
            2 => {
                let count = usize::from(reader.u8()?);
                if count > LISTED_MAX {
                    return Err(Error::Invalid("length of a list"));
                }
                Self::Listed((0..count).map(|_| Place::decode(false, &mut reader)).collect::<Result<_, _>>()?)
            }
            _ => return Err(Error::Invalid("form of an answer about places")),
        };
        reader.finish()?;
        Ok(answer)
    }
}

/// A node's message to a landmark, in which the hops on its way write down how to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The landmark.
    pub landmark: PeerId,
    /// How much further it may go.
    pub hops_left: u16,
    /// The previous hop's token for the answer.
    pub token: [u8; 8],
    /// Distance from whoever receives this to the node, without the link that it comes over.
    pub distance: u16,
    /// Waypoints so far, the nearest to the node first.
    pub way: Way,
}

impl Register {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&self.landmark.0);
        out.put_u16_le(self.hops_left);
        out.put_slice(&self.token);
        put_varint(&mut out, self.distance.into());
        self.way.encode(&mut out);
        out.freeze()
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let (landmark, hops_left, token) = (PeerId(reader.array()?), reader.u16()?, reader.array()?);
        let distance = super::decode_metric(&mut reader)?;
        let register = Self { landmark, hops_left, token, distance, way: Way::decode(&mut reader)? };
        reader.finish()?;
        Ok(register)
    }
}

const _: () = assert!(LOCATORS_MAX * LOCATOR_LEN_MAX <= WAY_MAX, "a way holds all locators of a place");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    /// A signed place.
    fn place(shorts: &[[u8; 8]], blob: Vec<u8>) -> (SigningKey, Place) {
        let keys = SigningKey::generate(Scheme::Ed25519, &mut Rng::from_seed([3; 32]));
        let way = Way::new(shorts.iter().map(|short| Waypoint { short: *short, left: 7 }).collect());
        let place = Place::sign(&keys, 4, vec![way.clone(), way], blob.into()).unwrap();
        (keys, place)
    }

    proptest! {
        #[test]
        fn requests_and_answers_round_trip(shorts in prop::collection::vec(any::<[u8; 8]>(), 0..4), blob: Vec<u8>, id: [u8; 16], count: u8) {
            let (keys, place) = place(&shorts, blob);
            prop_assert_eq!(place.verify(), Ok(()));
            prop_assert_eq!(place.peer_id(), keys.public().peer_id());
            for request in [PlaceRequest::Put(place.clone()), PlaceRequest::Get(place.peer_id()), PlaceRequest::Near { id, count }] {
                prop_assert_eq!(PlaceRequest::decode(&request.encode()), Ok(request));
            }
            let listed = PlaceAnswer::Listed(vec![place.without_blob(); 3]);
            for answer in [PlaceAnswer::Done, PlaceAnswer::Found(place.clone()), listed] {
                prop_assert_eq!(PlaceAnswer::decode(&answer.encode()), Ok(answer));
            }
            prop_assert_eq!(place.without_blob().verify(), Ok(()));
            let register = Register { landmark: place.peer_id(), hops_left: 3, token: [1; 8], distance: 9, way: place.way() };
            prop_assert_eq!(Register::decode(&register.encode()), Ok(register));
        }

        #[test]
        fn any_bytes_give_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = PlaceRequest::decode(&bytes) { prop_assert_eq!(&message.encode()[..], &bytes[..]); }
            if let Ok(message) = PlaceAnswer::decode(&bytes) { prop_assert_eq!(&message.encode()[..], &bytes[..]); }
            if let Ok(message) = Register::decode(&bytes) { prop_assert_eq!(&message.encode()[..], &bytes[..]); }
        }
    }

    #[test]
    fn a_place_is_the_nodes_own_word() {
        let (_, place) = place(&[[1; 8]], vec![1, 2]);
        for bad in [
            Place { sequence: 5, ..place.clone() },
            Place { locators: Vec::new(), ..place.clone() },
            Place { key: [7; 32], ..place.clone() },
        ] {
            assert!(bad.verify().is_err());
        }
        let other = Place { blob: Bytes::from_static(b"other"), ..place };
        let Ok(PlaceRequest::Put(read)) = PlaceRequest::decode(&PlaceRequest::Put(other).encode()) else { panic!() };
        assert!(read.verify().is_err(), "the blob's hash is computed, not believed");
    }
}
