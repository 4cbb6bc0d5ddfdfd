//! Frames round-trip, and nonsense is refused.

use proptest::prelude::*;

use super::*;

/// One of each frame.
fn samples() -> Vec<Frame<'static>> {
    let ack = |ranges: &[(u64, u64)]| Ack { circuit: 3, delay_us: 250, marked: 9, ranges: ranges.into() };
    vec![
        Frame::Ping,
        Frame::Ack(ack(&[(5, 9)])),
        Frame::Ack(ack(&[(500, u64::MAX), (400, 498), (0, 0)])),
        Frame::Open(Open { channel: 4, mode: 0, port: "http", label: Some("blog"), early: b"GET /" }),
        Frame::Open(Open { channel: 1 << 40, mode: 3, port: "53", label: None, early: b"" }),
        Frame::Opened { channel: 2 },
        Frame::Refused { channel: 2, why: 4 },
        Frame::Data { channel: 300, offset: 1 << 33, bytes: b"hello", fin: false },
        Frame::Data { channel: 0, offset: 0, bytes: b"", fin: true },
        Frame::Message(Message { channel: 7, id: 1, total: 10, offset: 4, bytes: b"sixsix" }),
        Frame::MessagesEnd { channel: 7, count: 2 },
        Frame::Reset { channel: 7, end: 99 },
        Frame::Stop { channel: 7 },
        Frame::MaxData(1 << 26),
        Frame::MaxChannelData { channel: 7, max: 1 << 18 },
        Frame::Proof(b"proof"),
        Frame::Close(1),
        Frame::Padding(3),
    ]
}

/// Decodes every frame of a packet.
fn decode_all(bytes: &[u8]) -> Result<Vec<Frame<'_>>, Error> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while reader.remaining() > 0 {
        out.push(Frame::decode(&mut reader)?);
    }
    Ok(out)
}

#[test]
fn frames_round_trip_and_cut_ones_are_errors() {
    let mut all = Vec::new();
    for frame in samples() {
        let mut one = Vec::new();
        frame.encode(&mut one);
        frame.encode(&mut all);
        assert_eq!(decode_all(&one).unwrap(), std::slice::from_ref(&frame));
        if !matches!(frame, Frame::Padding(_)) {
            for len in 1..one.len() {
                assert!(decode_all(&one[..len]).is_err(), "{frame:?} cut to {len}");
            }
        }
    }
    assert_eq!(decode_all(&all).unwrap(), samples());
}

#[test]
fn lengths_are_as_stated() {
    for frame in samples() {
        let mut out = Vec::new();
        frame.encode(&mut out);
        match frame {
            Frame::Ack(ack) => assert!(out.len() <= Ack::len_max(ack.ranges.len())),
            Frame::Data { channel, offset, bytes, .. } => {
                assert_eq!(out.len(), data_head_len(channel, offset) + bytes.len())
            }
            Frame::Message(m) => assert!(out.len() <= Message::overhead(m.channel, m.id) + m.bytes.len()),
            Frame::Open(_) | Frame::Proof(_) | Frame::Padding(_) => {}
            _ => assert!(out.len() <= FRAME_LEN_SMALL),
        }
    }
}

#[test]
fn fragments_beyond_their_message_and_ranges_below_zero_are_refused() {
    let mut out = vec![0x08, 0, 0, 4, 2, 3, 0];
    out.extend_from_slice(b"abc");
    assert_eq!(decode_all(&out), Err(Error::Invalid("fragment")));
    assert_eq!(decode_all(&[0x02, 0, 5, 0, 0, 6, 0]), Err(Error::Invalid("acknowledged range")));
    assert_eq!(decode_all(&[0x02, 0, 5, 0, 0, 1, 1, 3, 0]), Err(Error::Invalid("acknowledged range")));
    assert_eq!(decode_all(&[0x10]), Err(Error::Invalid("frame type")));
}

proptest! {
    #[test]
    fn any_bytes_give_frames_or_an_error_and_frames_have_one_encoding(kind in 0u8..0x12, mut bytes: Vec<u8>) {
        bytes.insert(0, kind);
        if let Ok(frames) = decode_all(&bytes) {
            let mut out = Vec::new();
            for frame in &frames {
                frame.encode(&mut out);
            }
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn a_flipped_bit_never_panics(at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = Vec::new();
        for frame in samples() {
            frame.encode(&mut bytes);
        }
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(frames) = decode_all(&bytes) {
            let mut out = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut out));
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn headers_round_trip(epoch: u8, circuit: u32, number: u64) {
        let header = Header { epoch, circuit, number };
        prop_assert_eq!(Header::decode(&header.encode()), header);
    }
}
