//! The descriptors that systemd hands over at start: those that an earlier run parked.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first descriptor that systemd hands over (`sd_listen_fds(3)`).
const FIRST: RawFd = 3;
/// Descriptors that are taken at most. We park one.
const PARKED_LEN_MAX: usize = 64;

/// A descriptor of an earlier run.
#[derive(Debug)]
pub struct Parked {
    /// The name it was parked under.
    pub name: String,
    /// The descriptor.
    pub descriptor: OwnedFd,
}

/// Takes the descriptors that `LISTEN_FDS` and `LISTEN_FDNAMES` announce. The caller has checked
/// that they are meant for this process, and calls this once, before anything is opened.
pub(super) fn take(count: Option<&str>, names: Option<&str>) -> Vec<Parked> {
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0_usize).min(PARKED_LEN_MAX);
    let mut names = names.unwrap_or_default().split(':');
    let named = (FIRST..).take(count).map(|number| (number, names.next().unwrap_or_default().to_owned()));
    named.filter_map(|(number, name)| Some(Parked { name, descriptor: own(number)? })).collect()
}

/// The descriptor `number`, if it is open; closed on exec from now on.
fn own(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the number is only asked about; a closed one gives an error.
    #[allow(unsafe_code)]
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open, and systemd opened it for us: nothing else in this process owns it,
    // since it was there before the first line of ours ran and is taken once.
    #[allow(unsafe_code)]
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
