//! Sealing and opening of frames: one half per direction, owned by the transport's task,
//! so that the cryptography of different links runs on different cores. In place, without
//! copy or allocation: the batch that the scheduler wrote becomes the frame, the frame
//! becomes the messages.
//!
//! A frame is `AEAD(flags, messages, zeros)` under an implicit counter that never restarts:
//! frames arrive in order, whole and once, or the link dies. The sender changes its key by a
//! one-way step after 120 s or 2^24 frames and says so in the last frame under the old one;
//! likewise when it mixes in what both sides agreed anew.
//! Missing on purpose: explicit counters and a replay window, for transports without order.

use bytes::{Buf, BytesMut};
use zeroize::Zeroizing;

use super::error::Error;
use super::limits::{
    BATCH_LEN_MAX, BUCKET_LEN, BUCKETS_SMALL, CONSTANT_FRAMES_PER_S, FRAME_LEN_MAX, RATCHET_FRAMES, RATCHET_TIME,
};
use super::rekey::Mix;
use crate::crypto::{Aead, AeadKey, Context, TAG_LEN, derive};
use crate::defence::{self, Defence};
use crate::time::{Instant, Now};
use crate::wire;
use crate::wire::link::{FLAG_MIX, FLAG_RATCHET};

/// How frames hide their lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// Not at all.
    None,
    /// Up to 256, 1,024 or a multiple of 2,048 bytes.
    #[default]
    Buckets,
    /// Frames of one length at a constant rate, whatever there is to say.
    Constant {
        /// Bytes of frames per second and link.
        bytes_per_s: u64,
    },
}

impl Padding {
    /// The length of the frame that carries a batch of `batch_len` bytes.
    #[must_use]
    pub fn frame_len(self, batch_len: usize) -> usize {
        let len = batch_len + TAG_LEN;
        match self {
            Self::None => len,
            Self::Buckets => BUCKETS_SMALL
                .into_iter()
                .find(|bucket| len <= *bucket)
                .unwrap_or_else(|| len.next_multiple_of(BUCKET_LEN).min(FRAME_LEN_MAX).max(len)),
            Self::Constant { bytes_per_s } => {
                let per_tick = usize::try_from(bytes_per_s / CONSTANT_FRAMES_PER_S).unwrap_or(FRAME_LEN_MAX);
                let step = BUCKETS_SMALL[0];
                (per_tick / step * step).clamp(step, BATCH_LEN_MAX + TAG_LEN)
            }
        }
    }
}

/// The keys and the counter of one direction.
struct Direction {
    aead: Aead,
    secret: Zeroizing<[u8; 32]>,
    key: AeadKey,
    counter: u64,
}

impl Direction {
    /// The first keys of a direction.
    fn new(aead: Aead, secret: Zeroizing<[u8; 32]>) -> Self {
        let key = frame_key(aead, &secret);
        Self { aead, secret, key, counter: 0 }
    }

    /// The nonce of this frame; the counter moves on once it is sealed or opened.
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        if defence::on(Defence::FrameCounter) {
            nonce[4..].copy_from_slice(&self.counter.to_le_bytes());
        }
        nonce
    }

    /// Steps to the next keys; the old ones cannot be computed from them.
    fn ratchet(&mut self) {
        self.secret = Zeroizing::new(derive(Context::LinkRatchet, &[self.secret.as_slice()]));
        self.key = frame_key(self.aead, &self.secret);
    }

    /// Steps to keys that whoever knows the old ones cannot compute.
    fn mix(&mut self, mix: &Mix) {
        self.secret = Zeroizing::new(derive(Context::LinkMix, &[self.secret.as_slice(), mix.0.as_slice()]));
        self.key = frame_key(self.aead, &self.secret);
    }
}

/// The frame key of a direction's secret.
fn frame_key(aead: Aead, secret: &Zeroizing<[u8; 32]>) -> AeadKey {
    let key = Zeroizing::new(derive(Context::LinkFrame, &[secret.as_slice()]));
    AeadKey::new(aead, &key)
}

/// Seals what we send on one link.
pub struct Sealer {
    direction: Direction,
    padding: Padding,
    since: Instant,
    frames: u32,
    /// What goes into the key after the next frame.
    mix: Option<Mix>,
}

impl Sealer {
    /// A sealer whose first key begins its life at `now`.
    pub(super) fn new(now: Now, aead: Aead, secret: Zeroizing<[u8; 32]>, padding: Padding) -> Self {
        Self { direction: Direction::new(aead, secret), padding, since: now.instant, frames: 0, mix: None }
    }

    /// Something of the present key by which a test tells it from others.
    #[cfg(test)]
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        *self.direction.secret
    }

    /// Has the next frame be the last under its key: after it, `mix` goes in.
    pub fn mix(&mut self, mix: Mix) {
        self.mix = Some(mix);
    }

    /// Turns a batch into a frame, in place: appends padding and tag (the scheduler left room for both).
    ///
    /// # Panics
    /// When the batch is empty or longer than a frame can be: batches come from our scheduler only.
    pub fn seal(&mut self, now: Now, mut batch: BytesMut) -> BytesMut {
        let frame_len = self.padding.frame_len(batch.len());
        let fits = batch.len() + TAG_LEN <= frame_len && frame_len <= FRAME_LEN_MAX;
        assert!(!batch.is_empty() && fits, "a batch of the scheduler");
        batch.reserve(frame_len - batch.len());
        batch.resize(frame_len - TAG_LEN, 0);
        self.frames += 1;
        let ratchet = self.frames >= RATCHET_FRAMES || now.instant - self.since >= RATCHET_TIME;
        let mix = self.mix.take();
        batch[0] = if ratchet { FLAG_RATCHET } else { 0 } | if mix.is_some() { FLAG_MIX } else { 0 };
        let nonce = self.direction.nonce();
        let tag = self.direction.key.seal_in_place(nonce, &[], &mut batch);
        batch.extend_from_slice(&tag);
        self.direction.counter += 1;
        if ratchet {
            self.direction.ratchet();
            (self.since, self.frames) = (now.instant, 0);
        }
        if let Some(mix) = mix {
            self.direction.mix(&mix);
        }
        batch
    }
}

/// Opens what the peer sends on one link.
pub struct Opener {
    direction: Direction,
    /// What goes into the key when the peer says so.
    mix: Option<Mix>,
}

impl Opener {
    /// An opener under the peer's first key.
    pub(super) fn new(aead: Aead, secret: Zeroizing<[u8; 32]>) -> Self {
        Self { direction: Direction::new(aead, secret), mix: None }
    }

    /// Something of the present key by which a test tells it from others.
    #[cfg(test)]
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        *self.direction.secret
    }

    /// What goes into the key after the frame in which the peer says so.
    pub fn mix(&mut self, mix: Mix) {
        self.mix = Some(mix);
    }

    /// Opens the next frame in place; gives its messages and padding, in the same memory.
    ///
    /// # Errors
    /// [`Error::BadFrame`] when it is not the peer's next frame, [`Error::Garbage`] when it is and has unknown
    /// flags. The link is over then: close the transport.
    pub fn open(&mut self, mut frame: BytesMut) -> Result<BytesMut, Error> {
        let nonce = self.direction.nonce();
        let len = self.direction.key.open_in_place(nonce, &[], &mut frame).map_err(|_| Error::BadFrame)?;
        self.direction.counter += 1;
        frame.truncate(len);
        let flags = *frame.first().ok_or(Error::Garbage(wire::Error::Truncated))?;
        if flags != 0 {
            self.turn(flags)?;
        }
        frame.advance(1);
        Ok(frame)
    }

    /// Changes the key as the flags of a frame say.
    fn turn(&mut self, flags: u8) -> Result<(), Error> {
        if flags & !(FLAG_RATCHET | FLAG_MIX) != 0 {
            return Err(Error::Garbage(wire::Error::Invalid("flags of a batch")));
        }
        if flags & FLAG_RATCHET != 0 {
            self.direction.ratchet();
        }
        if flags & FLAG_MIX != 0 {
            let mix = self.mix.take().ok_or(Error::Garbage(wire::Error::Invalid("nothing was agreed to mix in")))?;
            self.direction.mix(&mix);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair(aead: Aead, padding: Padding) -> (Sealer, Opener) {
        let secret = || Zeroizing::new([7; 32]);
        (Sealer::new(Now::ZERO, aead, secret(), padding), Opener::new(aead, secret()))
    }

    fn batch(len: usize) -> BytesMut {
        let mut batch = BytesMut::zeroed(len);
        batch.iter_mut().skip(1).zip(1u8..=255).for_each(|(byte, value)| *byte = value);
        batch
    }

    #[test]
    fn frames_open_to_their_batch_and_padding_hides_lengths() {
        let want = [(1, 256), (240, 256), (241, 1024), (1009, 2048), (BATCH_LEN_MAX, BATCH_LEN_MAX + 16)];
        for aead in Aead::offered(true).iter().copied() {
            let (mut sealer, mut opener) = pair(aead, Padding::Buckets);
            for (len, frame_len) in want {
                let plain = batch(len);
                let frame = sealer.seal(Now::ZERO, plain.clone());
                assert_eq!(frame.len(), frame_len);
                let got = opener.open(frame).unwrap();
                assert_eq!(got[..len - 1], plain[1..]);
                assert!(got[len - 1..].iter().all(|byte| *byte == 0));
            }
        }
        let (mut sealer, mut opener) = pair(Aead::ChaCha20Poly1305, Padding::None);
        let frame = sealer.seal(Now::ZERO, batch(100));
        assert_eq!(frame.len(), 116);
        assert_eq!(opener.open(frame).unwrap(), batch(100)[1..]);
    }

    #[test]
    fn sealing_stays_in_the_memory_of_the_batch() {
        let (mut sealer, mut opener) = pair(Aead::ChaCha20Poly1305, Padding::Buckets);
        let mut plain = BytesMut::with_capacity(2048);
        plain.resize(1500, 1);
        let at = plain.as_ptr();
        let frame = sealer.seal(Now::ZERO, plain);
        assert_eq!(frame.as_ptr(), at);
        assert_eq!(opener.open(frame).unwrap().as_ptr(), at.wrapping_add(1));
    }

    #[test]
    fn replayed_reordered_altered_and_cut_frames_are_refused() {
        let frames = || {
            let (mut sealer, opener) = pair(Aead::Aegis256X2, Padding::None);
            (sealer.seal(Now::ZERO, batch(20)), sealer.seal(Now::ZERO, batch(20)), opener)
        };
        let (first, second, mut opener) = frames();
        assert_ne!(first, second);
        opener.open(first.clone()).unwrap();
        assert_eq!(opener.open(first.clone()), Err(Error::BadFrame), "replay");
        let (_, _, mut opener) = frames();
        assert_eq!(opener.open(second), Err(Error::BadFrame), "out of order");
        for at in 0..first.len() {
            let (mut frame, _, mut opener) = frames();
            frame[at] ^= 0x10;
            assert_eq!(opener.open(frame), Err(Error::BadFrame));
            let (mut frame, _, mut opener) = frames();
            frame.truncate(at);
            assert_eq!(opener.open(frame), Err(Error::BadFrame));
        }
    }

    #[test]
    fn keys_change_with_time_and_with_frames_and_traffic_goes_on() {
        let (mut sealer, mut opener) = pair(Aead::ChaCha20Poly1305, Padding::None);
        let mut now = Now::ZERO;
        let mut secrets = vec![*sealer.direction.secret];
        for step in 0..400 {
            now = now.after(Duration::from_secs(1));
            if step == 300 {
                sealer.frames = RATCHET_FRAMES - 1;
            }
            opener.open(sealer.seal(now, batch(50))).unwrap();
            assert_eq!(sealer.direction.secret, opener.direction.secret);
            if secrets.last() != Some(&*sealer.direction.secret) {
                secrets.push(*sealer.direction.secret);
            }
        }
        assert_eq!(secrets.len(), 4, "the first, then new ones at 120 and 240 s by time and at 301 s by frames");
        assert_eq!(sealer.direction.counter, 400, "the counter never restarts");
    }

    #[test]
    fn what_was_agreed_goes_into_the_key_after_the_frame_that_says_so() {
        let mix = |byte| Mix(Zeroizing::new([byte; 32]));
        let (mut sealer, mut opener) = pair(Aead::ChaCha20Poly1305, Padding::None);
        opener.mix(mix(1));
        opener.open(sealer.seal(Now::ZERO, batch(50))).unwrap();
        sealer.mix(mix(1));
        let before = sealer.direction.secret.clone();
        (0..3).for_each(|_| assert_eq!(opener.open(sealer.seal(Now::ZERO, batch(50))).unwrap(), batch(50)[1..]));
        assert_ne!(sealer.direction.secret, before);
        assert_eq!(sealer.direction.secret, opener.direction.secret);
        // Together with a step of the ratchet, in the same order on both sides.
        opener.mix(mix(2));
        sealer.mix(mix(2));
        let late = Now::ZERO.after(RATCHET_TIME);
        (0..3).for_each(|_| assert_eq!(opener.open(sealer.seal(late, batch(50))).unwrap(), batch(50)[1..]));
        sealer.mix(mix(3));
        assert!(matches!(opener.open(sealer.seal(late, batch(50))), Err(Error::Garbage(_))), "nothing was agreed");
    }

    #[test]
    fn unknown_flags_are_garbage() {
        let (sealer, mut opener) = pair(Aead::ChaCha20Poly1305, Padding::None);
        let nonce = sealer.direction.nonce();
        let mut frame = BytesMut::from(&[4u8, 9, 9][..]);
        let tag = sealer.direction.key.seal_in_place(nonce, &[], &mut frame);
        frame.extend_from_slice(&tag);
        assert!(matches!(opener.open(frame), Err(Error::Garbage(_))));
    }
}
