//! `libnss_tarnet.so.2`: the name service `tarnet` of `nsswitch.conf(5)`. Every program that
//! asks the C library for a host gets the names of the user that it runs as.
//!
//! Each call is one question to the daemon over its resolve socket, which knows the caller by
//! its uid, within [`daemon::TIME_MAX`]. Nothing is kept between calls, nothing is allocated, and
//! results are written only into the caller's buffers. What the C library is told:
//!
//! | case | status | so that |
//! | --- | --- | --- |
//! | it has an address | `SUCCESS` | |
//! | not a name or address of ours | `NOTFOUND` | the next service is asked |
//! | no daemon | `UNAVAIL` | the next service is asked |
//! | ours, and does not exist, or has no address of that family | `TRYAGAIN`, `HOST_NOT_FOUND` or `NO_DATA` | `[TRYAGAIN=return]` keeps it from the next service |
//! | no answer in time; ours by its form while there is no daemon | `TRYAGAIN`, `TRY_AGAIN` | the same |
//! | the buffer is too small | `TRYAGAIN`, `ERANGE` | the call is repeated with a larger one |
//!
//! Meant for `hosts: files tarnet [TRYAGAIN=return] …`. Deliberately missing: `setent` and its
//! like (there is no list of all hosts), and a cache (a program's own, or nscd's, would answer
//! for all users).

#[path = "../tarify/ask.rs"]
mod ask;
mod daemon;
mod entry;
mod outcome;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use daemon::Found;
use entry::{Buffer, Tuple};
use outcome::{Errors, NO_DATA, Outcome};

/// The bytes of a C string that can be a host's name.
///
/// # Safety
/// `name` is null or a C string.
unsafe fn host<'a>(name: *const c_char) -> Option<&'a [u8]> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller gives a C string.
    daemon::plain(unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// Looks a name up for a family and fills the caller's entry.
///
/// # Safety
/// As the C library calls `_nss_*_gethostbyname2_r`.
unsafe fn by_name(name: *const c_char, family: c_int, result: *mut libc::hostent, buffer: Buffer) -> Outcome {
    // SAFETY: the C library gives a C string.
    let Some(name) = (unsafe { host(name) }) else { return Outcome::NotOurs };
    let mut line = [0; ask::LINE_LEN_MAX];
    let found = match daemon::addresses(name, &mut line) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let address = match family {
        libc::AF_INET => found.v4.map(IpAddr::V4),
        libc::AF_INET6 => found.v6.map(IpAddr::V6),
        _ => None,
    };
    match address {
        // SAFETY: the C library gives an entry to fill.
        Some(address) => unsafe { entry::fill(result, address, name, buffer) },
        None => Outcome::Ours(NO_DATA),
    }
}

/// `gethostbyname_r(3)`: an IPv4 address.
///
/// # Safety
/// As the C library calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_tarnet_gethostbyname_r(
    name: *const c_char,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    len: usize,
    errno: *mut c_int,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: as the C function's contract.
    unsafe { _nss_tarnet_gethostbyname2_r(name, libc::AF_INET, result, buffer, len, errno, h_errno) }
}

/// `gethostbyname2_r(3)`: an address of a family.
///
/// # Safety
/// As the C library calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_tarnet_gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    len: usize,
    errno: *mut c_int,
    h_errno: *mut c_int,
) -> c_int {
    let errors = Errors { errno, h_errno };
    // SAFETY: as the C function's contract.
    unsafe { errors.tell(by_name(name, family, result, Buffer::new(buffer, len))) }
}

/// As `gethostbyname2_r`, with the entry's life and the canonical name.
///
/// # Safety
/// As the C library calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_tarnet_gethostbyname3_r(
    name: *const c_char,
    family: c_int,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    len: usize,
    errno: *mut c_int,
    h_errno: *mut c_int,
    ttl: *mut i32,
    canonical: *mut *mut c_char,
) -> c_int {
    let errors = Errors { errno, h_errno };
    // SAFETY: as the C function's contract; the entry is filled where the outcome says so.
    unsafe {
        let outcome = by_name(name, family, result, Buffer::new(buffer, len));
        if outcome == Outcome::Found {
            tell_ttl(ttl);
            if !canonical.is_null() {
                *canonical = (*result).h_name;
            }
        }
        errors.tell(outcome)
    }
}

/// Both families at once: what `getaddrinfo(3)` asks for.
///
/// # Safety
/// As the C library calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_tarnet_gethostbyname4_r(
    name: *const c_char,
    tuples: *mut *mut Tuple,
    buffer: *mut c_char,
    len: usize,
    errno: *mut c_int,
    h_errno: *mut c_int,
    ttl: *mut i32,
) -> c_int {
    let errors = Errors { errno, h_errno };
    // SAFETY: as the C function's contract.
    unsafe {
        let Some(name) = host(name) else { return errors.tell(Outcome::NotOurs) };
        let mut line = [0; ask::LINE_LEN_MAX];
        let outcome = match daemon::addresses(name, &mut line) {
            Ok(Found { v4: None, v6: None }) => Outcome::Ours(NO_DATA),
            Ok(found) => entry::chain(tuples, &found, name, Buffer::new(buffer, len)),
            Err(outcome) => outcome,
        };
        if outcome == Outcome::Found {
            tell_ttl(ttl);
        }
        errors.tell(outcome)
    }
}

/// `gethostbyaddr_r(3)`: the name of an address.
///
/// # Safety
/// As the C library calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_tarnet_gethostbyaddr_r(
    address: *const c_void,
    address_len: libc::socklen_t,
    family: c_int,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    len: usize,
    errno: *mut c_int,
    h_errno: *mut c_int,
) -> c_int {
    let ttl = std::ptr::null_mut();
    // SAFETY: as the C function's contract.
    unsafe { _nss_tarnet_gethostbyaddr2_r(address, address_len, family, result, buffer, len, errno, h_errno, ttl) }
}

/// As `gethostbyaddr_r`, with the entry's life.
///
/// # Safety
/// As the C library calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_tarnet_gethostbyaddr2_r(
    address: *const c_void,
    address_len: libc::socklen_t,
    family: c_int,
    result: *mut libc::hostent,
    buffer: *mut c_char,
    len: usize,
    errno: *mut c_int,
    h_errno: *mut c_int,
    ttl: *mut i32,
) -> c_int {
    let errors = Errors { errno, h_errno };
    // SAFETY: as the C function's contract.
    unsafe {
        let Some(address) = read_address(address, address_len, family) else { return errors.tell(Outcome::NotOurs) };
        let mut line = [0; ask::LINE_LEN_MAX];
        let outcome = match daemon::name(address, &mut line) {
            Ok(name) => entry::fill(result, address, name.as_bytes(), Buffer::new(buffer, len)),
            Err(outcome) => outcome,
        };
        if outcome == Outcome::Found {
            tell_ttl(ttl);
        }
        errors.tell(outcome)
    }
}

/// Reads the caller's address.
///
/// # Safety
/// `address` is null or points to `len` readable bytes.
unsafe fn read_address(address: *const c_void, len: libc::socklen_t, family: c_int) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    match (family, usize::try_from(len).ok()?) {
        // SAFETY: that many bytes are readable; they need no alignment.
        (libc::AF_INET, 4) => Some(Ipv4Addr::from(unsafe { address.cast::<[u8; 4]>().read_unaligned() }).into()),
        // SAFETY: as above.
        (libc::AF_INET6, 16) => Some(Ipv6Addr::from(unsafe { address.cast::<[u8; 16]>().read_unaligned() }).into()),
        _ => None,
    }
}

/// Says that the answer is not to be kept: another user's may differ.
///
/// # Safety
/// `ttl` is null or writable.
unsafe fn tell_ttl(ttl: *mut i32) {
    if !ttl.is_null() {
        // SAFETY: the caller's contract.
        unsafe { *ttl = 0 };
    }
}

#[cfg(test)]
mod tests;
