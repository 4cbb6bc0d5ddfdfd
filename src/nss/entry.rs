//! Entries in the caller's memory: what does not fit is not written, and nothing is written
//! beyond.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;
use std::ptr;

use crate::daemon::Found;
use crate::outcome::Outcome;

/// Bytes of an address in a tuple, as words.
const TUPLE_WORDS: usize = 4;

/// `struct gaih_addrtuple` of `<nss.h>`: one address for `getaddrinfo`.
#[repr(C)]
pub struct Tuple {
    /// The next one, or null.
    pub next: *mut Tuple,
    /// The canonical name.
    pub name: *mut c_char,
    /// The family.
    pub family: c_int,
    /// The address in network order.
    pub addr: [u32; TUPLE_WORDS],
    /// The interface of a link-local address.
    pub scopeid: u32,
}

/// What is left of the caller's buffer.
pub struct Buffer {
    at: *mut u8,
    left: usize,
}

impl Buffer {
    /// The whole buffer.
    ///
    /// # Safety
    /// `len` bytes at `at` are writable for as long as this lives.
    pub unsafe fn new(at: *mut c_char, len: usize) -> Self {
        Self { at: at.cast(), left: if at.is_null() { 0 } else { len } }
    }

    /// Takes room for `count` values; `None` when there is not enough.
    fn take<T>(&mut self, count: usize) -> Option<*mut T> {
        let pad = self.at.align_offset(align_of::<T>());
        let needed = size_of::<T>().checked_mul(count)?.checked_add(pad)?;
        self.left = self.left.checked_sub(needed)?;
        // SAFETY: `needed` bytes were left, so both places lie within the buffer or at its end.
        unsafe {
            let place = self.at.add(pad);
            self.at = self.at.add(needed);
            Some(place.cast())
        }
    }

    /// Copies bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Option<*mut c_char> {
        let place: *mut u8 = self.take(bytes.len())?;
        // SAFETY: there is room for as many bytes, and the buffer is not ours to read from.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        Some(place.cast())
    }

    /// Copies text and its end.
    fn text(&mut self, text: &[u8]) -> Option<*mut c_char> {
        let place = self.bytes(text)?;
        self.bytes(&[0])?;
        Some(place)
    }
}

/// Fills a `hostent` with one address and a name.
///
/// # Safety
/// `result` is writable.
pub unsafe fn fill(result: *mut libc::hostent, address: IpAddr, name: &[u8], mut buffer: Buffer) -> Outcome {
    let mut parts = || {
        // The address and the end of the list, and the empty list of aliases.
        let pointers: *mut *mut c_char = buffer.take(3)?;
        let (family, bytes) = match address {
            IpAddr::V4(v4) => (libc::AF_INET, buffer.bytes(&v4.octets())?),
            IpAddr::V6(v6) => (libc::AF_INET6, buffer.bytes(&v6.octets())?),
        };
        Some((pointers, family, bytes, buffer.text(name)?))
    };
    let Some((pointers, family, bytes, name)) = parts() else { return Outcome::TooSmall };
    // SAFETY: room for three pointers was taken, and the caller's contract.
    unsafe {
        *pointers = bytes;
        *pointers.add(1) = ptr::null_mut();
        *pointers.add(2) = ptr::null_mut();
        (*result).h_name = name;
        (*result).h_aliases = pointers.add(2);
        (*result).h_addrtype = family;
        (*result).h_length = if address.is_ipv4() { 4 } else { 16 };
        (*result).h_addr_list = pointers;
    }
    Outcome::Found
}

/// Fills a chain of tuples, the first one where the caller has put one.
///
/// # Safety
/// `first` points to null or to a tuple to fill.
pub unsafe fn chain(first: *mut *mut Tuple, found: &Found, name: &[u8], mut buffer: Buffer) -> Outcome {
    let addresses = [found.v4.map(IpAddr::V4), found.v6.map(IpAddr::V6)];
    let Some(name) = buffer.text(name) else { return Outcome::TooSmall };
    // SAFETY: the caller's contract.
    let given = unsafe { *first };
    let mut places = [given, ptr::null_mut()];
    let wanted = addresses.iter().flatten().count();
    for place in places.iter_mut().take(wanted).filter(|place| place.is_null()) {
        match buffer.take(1) {
            Some(room) => *place = room,
            None => return Outcome::TooSmall,
        }
    }
    // The second place is null where there is one address.
    let nexts = [places[1], ptr::null_mut()];
    for ((place, next), address) in places.iter().zip(nexts).zip(addresses.iter().flatten()) {
        // SAFETY: each place is the caller's tuple or room taken above.
        unsafe { place.write(tuple(*address, name, next)) };
    }
    // SAFETY: the caller's contract.
    unsafe { *first = places[0] };
    Outcome::Found
}

/// One tuple.
fn tuple(address: IpAddr, name: *mut c_char, next: *mut Tuple) -> Tuple {
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let mut addr = [0; TUPLE_WORDS];
    let family = match address {
        IpAddr::V4(v4) => {
            addr[0] = word(&v4.octets());
            libc::AF_INET
        }
        IpAddr::V6(v6) => {
            addr.iter_mut().zip(v6.octets().chunks(4)).for_each(|(to, from)| *to = word(from));
            libc::AF_INET6
        }
    };
    Tuple { next, name, family, addr, scopeid: 0 }
}
