//! The C library's own functions behind our hooks, found on first use.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{addrinfo, sockaddr, socklen_t, ssize_t};

/// Finds the next definition of a symbol after ours, once.
fn find(slot: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let known = slot.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    // SAFETY: `name` is a C string; RTLD_NEXT asks for the library after this one.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        // A C library without this function cannot have called us.
        // SAFETY: abort has no preconditions.
        unsafe { libc::abort() };
    }
    slot.store(found, Ordering::Release);
    found
}

/// Defines a function that calls the C library's.
macro_rules! real {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $result:ty) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As the C function of this name.
        pub unsafe fn $name($($arg: $type),*) -> $result {
            static SLOT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let name = concat!(stringify!($name), "\0");
            let name = CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or(c"");
            // SAFETY: the symbol of this name has this signature in every C library we load under.
            let function: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(find(&SLOT, name)) };
            // SAFETY: the caller keeps the C function's contract.
            unsafe { function($($arg),*) }
        }
    };
}

real!(
    /// The C library's `getaddrinfo`.
    getaddrinfo(node: *const c_char, service: *const c_char, hints: *const addrinfo, result: *mut *mut addrinfo) -> c_int
);
real!(
    /// The C library's `gethostbyname2`.
    gethostbyname2(name: *const c_char, family: c_int) -> *mut libc::hostent
);
real!(
    /// The C library's `gethostbyname2_r`.
    gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        entry: *mut libc::hostent,
        buffer: *mut c_char,
        len: usize,
        result: *mut *mut libc::hostent,
        h_errno: *mut c_int
    ) -> c_int
);
real!(
    /// The C library's `connect`.
    connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int
);
real!(
    /// The C library's `sendto`.
    sendto(
        fd: c_int,
        buffer: *const c_void,
        len: usize,
        flags: c_int,
        address: *const sockaddr,
        address_len: socklen_t
    ) -> ssize_t
);
real!(
    /// The C library's `sendmsg`.
    sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> ssize_t
);
real!(
    /// The C library's `getpeername`.
    getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int
);
real!(
    /// The C library's `getnameinfo`.
    getnameinfo(
        address: *const sockaddr,
        address_len: socklen_t,
        host: *mut c_char,
        host_len: socklen_t,
        service: *mut c_char,
        service_len: socklen_t,
        flags: c_int
    ) -> c_int
);
