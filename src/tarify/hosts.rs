//! Answers in the C library's forms: `addrinfo` lists and `hostent` entries.

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int};
use std::net::IpAddr;
use std::ptr;

use libc::{addrinfo, hostent};

use crate::real;
use crate::resolve::Answer;

/// `h_errno` values of `<netdb.h>`.
const HOST_NOT_FOUND: c_int = 1;
/// The server failed; try again.
const TRY_AGAIN: c_int = 2;
/// The name exists without an address of that family.
const NO_DATA: c_int = 4;

/// `getaddrinfo`'s word for an address of another family than asked for (`<netdb.h>`).
const EAI_ADDRFAMILY: c_int = -9;

/// Bytes for one answer of the non-reentrant functions.
const STATIC_LEN: usize = 1024;

/// An `addrinfo` list of the addresses. Each entry is made by the C library from the address in digits, so
/// that its own `freeaddrinfo` frees it.
///
/// # Safety
/// As `getaddrinfo(3)`, with `name` in place of the node.
pub unsafe fn address_list(
    addresses: &[IpAddr],
    name: &str,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: all-zero hints are valid; the program's are copied.
    let mut wanted: addrinfo = unsafe { hints.as_ref().map_or_else(|| std::mem::zeroed(), |hints| *hints) };
    let canonical = wanted.ai_flags & libc::AI_CANONNAME != 0;
    wanted.ai_flags = (wanted.ai_flags | libc::AI_NUMERICHOST) & !(libc::AI_CANONNAME | libc::AI_ADDRCONFIG);
    let mut first: *mut addrinfo = ptr::null_mut();
    let mut tail: *mut *mut addrinfo = &raw mut first;
    let mut status = libc::EAI_NODATA;
    for address in addresses {
        let Ok(digits) = CString::new(address.to_string()) else { continue };
        let mut part: *mut addrinfo = ptr::null_mut();
        // SAFETY: C strings and hints are valid; the list comes back in `part`.
        let got = unsafe { real::getaddrinfo(digits.as_ptr(), service, &raw const wanted, &raw mut part) };
        if got != 0 {
            // A family that was not asked for is no failure while another one fits.
            status = if [EAI_ADDRFAMILY, libc::EAI_NONAME].contains(&got) { status } else { got };
            continue;
        }
        // SAFETY: `tail` points at the end of our list, `part` is a list with at least one entry.
        unsafe {
            *tail = part;
            while !(*tail).is_null() {
                tail = &raw mut (**tail).ai_next;
            }
        }
    }
    if first.is_null() {
        return status;
    }
    if canonical && let Ok(name) = CString::new(name) {
        // SAFETY: freeaddrinfo frees this string, which strdup has allocated.
        unsafe { (*first).ai_canonname = libc::strdup(name.as_ptr()) };
    }
    // SAFETY: the caller's contract.
    unsafe { *result = first };
    0
}

/// One answer per thread for the non-reentrant functions.
struct Static {
    entry: UnsafeCell<std::mem::MaybeUninit<hostent>>,
    buffer: UnsafeCell<[c_char; STATIC_LEN]>,
}

thread_local! {
    static LAST: Static = const {
        Static { entry: UnsafeCell::new(std::mem::MaybeUninit::uninit()), buffer: UnsafeCell::new([0; STATIC_LEN]) }
    };
}

unsafe extern "C" {
    /// The calling thread's `h_errno`.
    fn __h_errno_location() -> *mut c_int;
}

/// An entry in this thread's own memory.
///
/// # Safety
/// `name` is a C string.
pub unsafe fn static_host(answer: &Answer, name: *const c_char, family: c_int) -> *mut hostent {
    LAST.with(|last| {
        let mut result = ptr::null_mut();
        // SAFETY: entry and buffer belong to this thread and are overwritten by the next call, as the C contract says.
        unsafe {
            let buffer = (last.buffer.get().cast::<c_char>(), STATIC_LEN);
            host_into(answer, name, family, last.entry.get().cast(), buffer, &raw mut result, __h_errno_location());
        }
        result
    })
}

/// Fills a `hostent` in the caller's memory: the pointers first, then addresses, then the name.
///
/// # Safety
/// As `gethostbyname2_r(3)`.
pub unsafe fn host_into(
    answer: &Answer,
    name: *const c_char,
    family: c_int,
    entry: *mut hostent,
    (buffer, len): (*mut c_char, usize),
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    let fail = |code: c_int, status: c_int| {
        // SAFETY: the caller's contract.
        unsafe {
            *result = ptr::null_mut();
            *h_errno = code;
        }
        status
    };
    let addresses = match answer {
        Answer::Addresses(addresses) => addresses,
        Answer::Failed => return fail(TRY_AGAIN, libc::EAGAIN),
        Answer::Gone | Answer::NotOurs => return fail(HOST_NOT_FOUND, libc::ENOENT),
    };
    let found: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (address, family) {
            (IpAddr::V4(v4), libc::AF_INET) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), libc::AF_INET6) => Some(v6.octets().to_vec()),
            _ => None,
        })
        .collect();
    let Some(first) = found.first() else { return fail(NO_DATA, libc::ENOENT) };
    let address_len = first.len();
    // SAFETY: `name` is a C string.
    let name_len = unsafe { libc::strlen(name) } + 1;
    let pointers = found.len() + 2;
    let pad = buffer.align_offset(align_of::<*mut c_char>());
    let needed = pad.saturating_add(pointers * size_of::<*mut c_char>() + found.len() * address_len + name_len);
    if needed > len {
        return fail(TRY_AGAIN, libc::ERANGE);
    }
    // SAFETY: everything written lies within `needed` bytes of the buffer, and the pointer table is aligned.
    unsafe {
        let table = buffer.add(pad).cast::<*mut c_char>();
        let mut at = table.add(pointers).cast::<c_char>();
        for (i, address) in found.iter().enumerate() {
            ptr::copy_nonoverlapping(address.as_ptr().cast(), at, address_len);
            *table.add(i) = at;
            at = at.add(address_len);
        }
        *table.add(found.len()) = ptr::null_mut();
        // The last pointer is the empty list of aliases.
        let aliases = table.add(found.len() + 1);
        *aliases = ptr::null_mut();
        ptr::copy_nonoverlapping(name, at, name_len);
        (*entry).h_name = at;
        (*entry).h_aliases = aliases;
        (*entry).h_addrtype = family;
        (*entry).h_length = c_int::try_from(address_len).unwrap_or(0);
        (*entry).h_addr_list = table;
        *result = entry;
    }
    0
}
