//! What became of a call, in the C library's words (`<nss.h>`, `<netdb.h>`).

use std::ffi::c_int;

/// `h_errno`: look at `errno`.
const NETDB_INTERNAL: c_int = -1;
/// `h_errno`: no such host.
pub const HOST_NOT_FOUND: c_int = 1;
/// `h_errno`: not now.
pub const TRY_AGAIN: c_int = 2;
/// `h_errno`: the host has no address of that family.
pub const NO_DATA: c_int = 4;

/// Statuses of a name service.
mod status {
    use std::ffi::c_int;

    /// Not now, or not with this buffer.
    pub const TRYAGAIN: c_int = -2;
    /// The service is not there.
    pub const UNAVAIL: c_int = -1;
    /// There is no such entry here.
    pub const NOTFOUND: c_int = 0;
    /// The entry was filled.
    pub const SUCCESS: c_int = 1;
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The entry is filled.
    Found,
    /// Another service's business.
    NotOurs,
    /// Ours and nobody else's, with the reason why there is nothing, an `h_errno`.
    Ours(c_int),
    /// No daemon is there.
    Absent,
    /// The caller's buffer is too small.
    TooSmall,
}

/// Where the C library wants its errors.
pub struct Errors {
    /// The calling thread's `errno`.
    pub errno: *mut c_int,
    /// Its `h_errno`.
    pub h_errno: *mut c_int,
}

impl Errors {
    /// Writes the errors of an outcome and gives its status.
    ///
    /// # Safety
    /// Both places are null or writable.
    pub unsafe fn tell(&self, outcome: Outcome) -> c_int {
        let (status, errno, h_errno) = match outcome {
            Outcome::Found => return status::SUCCESS,
            Outcome::NotOurs => (status::NOTFOUND, libc::ENOENT, HOST_NOT_FOUND),
            Outcome::Ours(TRY_AGAIN) => (status::TRYAGAIN, libc::EAGAIN, TRY_AGAIN),
            Outcome::Ours(why) => (status::TRYAGAIN, libc::ENOENT, why),
            Outcome::Absent => (status::UNAVAIL, libc::ENOENT, HOST_NOT_FOUND),
            Outcome::TooSmall => (status::TRYAGAIN, libc::ERANGE, NETDB_INTERNAL),
        };
        for (place, value) in [(self.errno, errno), (self.h_errno, h_errno)] {
            if !place.is_null() {
                // SAFETY: the caller's contract.
                unsafe { *place = value };
            }
        }
        status
    }
}
