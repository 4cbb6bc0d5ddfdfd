//! `libtarify.so`: the shim that `tarnet tarify` puts before a dynamic program by
//! `LD_PRELOAD`, so that its names are Tarnet's first.
//!
//! Two modes. With the TUN up (*thin*) only name resolution is hooked: the daemon gives the
//! name's synthetic address and the kernel does the rest. Without it (*SOCKS*) a name gets an
//! address that exists in this process alone, and `connect` to such an address becomes a
//! SOCKS5 request. Names that are not ours, and every other address, pass to libc untouched;
//! a name or address of ours never leaves for the clearnet.
//!
//! The shim holds no descriptors and no threads: sockets to the daemon are opened, used and
//! closed within a call. Missing on purpose: UDP in SOCKS mode (refused with `EACCES`),
//! `res_query` and friends, and programs that are static or set-uid, which never load it.

mod ask;
mod fake;
mod hosts;
mod real;
mod resolve;
mod settings;
mod socks;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use libc::{addrinfo, sockaddr, socklen_t, ssize_t};

use crate::resolve::Answer;

/// Sets the calling thread's `errno`.
fn set_errno(errno: c_int) {
    // SAFETY: the C library's own errno location is valid for the calling thread.
    unsafe { *libc::__errno_location() = errno }
}

/// A C string as text, if it is text.
///
/// # Safety
/// `text` is null or a C string.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller gives a C string.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// `getaddrinfo(3)`: a name of ours gets its synthetic or process-local address.
///
/// # Safety
/// As `getaddrinfo(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: the arguments are the program's own, passed on as they came.
    let pass = || unsafe { real::getaddrinfo(node, service, hints, result) };
    // SAFETY: as the C function's contract.
    let (name, flags) = unsafe {
        let flags = hints.as_ref().map_or(0, |hints| hints.ai_flags);
        match text(node) {
            Some(name) => (name, flags),
            None => return pass(),
        }
    };
    if flags & libc::AI_NUMERICHOST != 0 {
        return pass();
    }
    match resolve::resolve(name) {
        Answer::NotOurs => pass(),
        Answer::Gone => libc::EAI_NONAME,
        Answer::Failed => libc::EAI_AGAIN,
        // SAFETY: as the C function's contract.
        Answer::Addresses(found) => unsafe { hosts::address_list(&found, name, service, hints, result) },
    }
}

/// `gethostbyname(3)`.
///
/// # Safety
/// As `gethostbyname(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut libc::hostent {
    // SAFETY: as the C function's contract.
    unsafe { gethostbyname2(name, libc::AF_INET) }
}

/// `gethostbyname2(3)`.
///
/// # Safety
/// As `gethostbyname2(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut libc::hostent {
    // SAFETY: as the C function's contract.
    match unsafe { text(name) }.map(resolve::resolve) {
        // SAFETY: as the C function's contract.
        None | Some(Answer::NotOurs) => unsafe { real::gethostbyname2(name, family) },
        // SAFETY: a C string, checked above.
        Some(answer) => unsafe { hosts::static_host(&answer, name, family) },
    }
}

/// `gethostbyname_r(3)`.
///
/// # Safety
/// As `gethostbyname_r(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname_r(
    name: *const c_char,
    entry: *mut libc::hostent,
    buffer: *mut c_char,
    len: usize,
    result: *mut *mut libc::hostent,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: as the C function's contract.
    unsafe { gethostbyname2_r(name, libc::AF_INET, entry, buffer, len, result, h_errno) }
}

/// `gethostbyname2_r(3)`.
///
/// # Safety
/// As `gethostbyname2_r(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    entry: *mut libc::hostent,
    buffer: *mut c_char,
    len: usize,
    result: *mut *mut libc::hostent,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: as the C function's contract.
    match unsafe { text(name) }.map(resolve::resolve) {
        // SAFETY: as the C function's contract.
        None | Some(Answer::NotOurs) => unsafe {
            real::gethostbyname2_r(name, family, entry, buffer, len, result, h_errno)
        },
        // SAFETY: as the C function's contract.
        Some(answer) => unsafe { hosts::host_into(&answer, name, family, entry, (buffer, len), result, h_errno) },
    }
}

/// `connect(2)`: to a process-local address, by way of the SOCKS5 proxy.
///
/// # Safety
/// As `connect(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: as the C function's contract.
    match unsafe { fake::target(address, len) } {
        // SAFETY: as the C function's contract.
        None => unsafe { real::connect(fd, address, len) },
        Some(target) => match socks::connect(fd, &target) {
            Ok(()) => 0,
            Err(errno) => {
                set_errno(errno);
                -1
            }
        },
    }
}

/// `sendto(2)`: a datagram to a process-local address has no way through SOCKS here, and must not leave otherwise.
///
/// # Safety
/// As `sendto(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    len: usize,
    flags: c_int,
    address: *const sockaddr,
    address_len: socklen_t,
) -> ssize_t {
    // SAFETY: as the C function's contract.
    if unsafe { fake::target(address, address_len) }.is_some() {
        set_errno(libc::EACCES);
        return -1;
    }
    // SAFETY: the arguments are the program's own, passed on as they came.
    unsafe { real::sendto(fd, buffer, len, flags, address, address_len) }
}

/// `sendmsg(2)`: as [`sendto`].
///
/// # Safety
/// As `sendmsg(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> ssize_t {
    // SAFETY: as the C function's contract.
    let ours = unsafe { message.as_ref().is_some_and(|m| fake::target(m.msg_name.cast(), m.msg_namelen).is_some()) };
    if ours {
        set_errno(libc::EACCES);
        return -1;
    }
    // SAFETY: the arguments are the program's own, passed on as they came.
    unsafe { real::sendmsg(fd, message, flags) }
}

/// `getpeername(2)`: the address that the program asked for, not the proxy's.
///
/// # Safety
/// As `getpeername(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the arguments are the program's own, passed on as they came.
    let status = unsafe { real::getpeername(fd, address, len) };
    if status == 0 {
        // SAFETY: the C function has just filled them.
        unsafe { fake::rewrite_peer(fd, address, len) };
    }
    status
}

/// `getnameinfo(3)`: the name of a process-local address.
///
/// # Safety
/// As `getnameinfo(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getnameinfo(
    address: *const sockaddr,
    address_len: socklen_t,
    host: *mut c_char,
    host_len: socklen_t,
    service: *mut c_char,
    service_len: socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: as the C function's contract.
    let target = unsafe { fake::target(address, address_len) };
    // SAFETY: the arguments are the program's own, passed on as they came.
    let pass = |flags| unsafe { real::getnameinfo(address, address_len, host, host_len, service, service_len, flags) };
    let Some(target) = target else { return pass(flags) };
    // The port's half, and the address in digits, come from libc; only a wanted name is ours.
    let status = pass(flags | libc::NI_NUMERICHOST);
    if status != 0 || flags & libc::NI_NUMERICHOST != 0 || host.is_null() {
        return status;
    }
    if target.name.len() >= host_len as usize {
        return libc::EAI_OVERFLOW;
    }
    // SAFETY: `host` holds `host_len` bytes, and the name with its end fits.
    unsafe {
        ptr::copy_nonoverlapping(target.name.as_ptr().cast(), host, target.name.len());
        *host.add(target.name.len()) = 0;
    }
    0
}
