//! The way to a node that is in few tables: waypoints, each with the distance from it to the
//! node. Whoever knows any of them can tell how far the node is, and goes toward the one that
//! makes it nearest.
//!
//! ```text
//! way       count 1 | count (short 8 | distance varint)      (none: the node is in the table)
//! ```

use bytes::BufMut;

use super::routing::{METRIC_END, Short};
use super::{Error, Reader, put_varint};

/// Waypoints of one way, at most: four locators of up to 24.
pub const WAY_MAX: usize = 96;

/// One waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waypoint {
    /// The beginning of its PeerId.
    pub short: Short,
    /// Distance from it to the node, below [`METRIC_END`].
    pub left: u16,
}

/// Waypoints, in no order; at most [`WAY_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way(Vec<Waypoint>);

impl Way {
    /// A way of waypoints; those beyond [`WAY_MAX`] are left out.
    #[must_use]
    pub fn new(mut points: Vec<Waypoint>) -> Self {
        points.truncate(WAY_MAX);
        Self(points)
    }

    /// The waypoints.
    #[must_use]
    pub fn points(&self) -> &[Waypoint] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of its encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        1 + self.0.iter().map(|point| 8 + super::varint_len(point.left.into())).sum::<usize>()
    }

    /// Appends the way.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(u8::try_from(self.0.len()).unwrap_or(0));
        for point in &self.0 {
            out.put_slice(&point.short);
            put_varint(out, point.left.into());
        }
    }

    /// Reads a way.
    ///
    /// # Errors
    /// Cut short, too long, or a distance that is none.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let count = usize::from(reader.u8()?);
        if count > WAY_MAX {
            return Err(Error::Invalid("waypoints of a way"));
        }
        let point = |reader: &mut Reader<'_>| {
            let short = reader.array()?;
            let left = u16::try_from(reader.varint()?).unwrap_or(u16::MAX);
            if left >= METRIC_END {
                return Err(Error::Invalid("distance of a waypoint"));
            }
            Ok(Waypoint { short, left })
        };
        (0..count).map(|_| point(reader)).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ways_round_trip_and_refuse_truncation(points in prop::collection::vec((any::<Short>(), 0..METRIC_END), 0..WAY_MAX)) {
            let way = Way::new(points.into_iter().map(|(short, left)| Waypoint { short, left }).collect());
            let mut bytes = Vec::new();
            way.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), way.encoded_len());
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Way::decode(&mut reader), Ok(way.clone()));
            prop_assert_eq!(reader.finish(), Ok(()));
            prop_assert!(Way::decode(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
        }

        #[test]
        fn any_bytes_give_a_way_with_those_bytes_or_an_error(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(way) = Way::decode(&mut reader) {
                let mut again = Vec::new();
                way.encode(&mut again);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn a_way_has_a_bound() {
        let points = vec![Waypoint { short: [1; 8], left: 1 }; WAY_MAX + 1];
        assert_eq!(Way::new(points).points().len(), WAY_MAX);
        assert!(Way::decode(&mut Reader::new(&[97; 2000])).is_err());
    }
}
