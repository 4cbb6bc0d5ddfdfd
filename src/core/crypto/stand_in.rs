//! A stand-in for signatures and hash chains of the same lengths, so that one machine can run ten
//! thousand nodes: anybody can forge it. Only the simulator builds it (feature `stand-in`), and
//! only a thread that asked for it uses it; without the feature [`on`] is `false`, which the
//! compiler knows.

use super::kdf::hash;

#[cfg(feature = "stand-in")]
thread_local! {
    /// Whether this thread uses it.
    static ON: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Has this thread use the stand-in, or real cryptography again. All keys of one network must be used alike.
#[cfg(feature = "stand-in")]
pub fn set(on: bool) {
    ON.set(on);
}

/// Whether this thread uses the stand-in.
#[cfg(feature = "stand-in")]
#[inline]
pub(crate) fn on() -> bool {
    ON.get()
}

/// Whether this thread uses the stand-in: never.
#[cfg(not(feature = "stand-in"))]
#[inline(always)]
pub(crate) const fn on() -> bool {
    false
}

/// What stands for an Ed25519 signature of a digest.
pub(super) fn sign(public: &[u8; 32], digest: &[u8; 64]) -> [u8; 64] {
    let mut all = [0; 96];
    all[..32].copy_from_slice(public);
    all[32..].copy_from_slice(digest);
    let mut out = [0; 64];
    out[..32].copy_from_slice(&hash(&all));
    out
}
