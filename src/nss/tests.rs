//! The entry points as the C library calls them, against a daemon of a few lines.

use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::sync::OnceLock;

use super::*;
use crate::outcome::{HOST_NOT_FOUND, TRY_AGAIN};

/// Statuses, as `<nss.h>` numbers them.
const TRYAGAIN: c_int = -2;
const NOTFOUND: c_int = 0;
const SUCCESS: c_int = 1;

/// Bytes before and after a buffer that must stay as they are.
const MARGIN: usize = 32;
const UNTOUCHED: u8 = 0xa5;

/// What the daemon says to a question.
fn line(question: &str) -> &'static str {
    match question {
        "@ blog.alice" => "addr 198.18.0.9 fd00::9",
        "@ four.alice" => "addr 198.18.0.10 -",
        "@ addr 198.18.0.9" | "@ addr fd00::9" => "ptr blog.alice",
        "@ gone.alice" | "@ addr 198.18.0.77" => "gone",
        "@ socks.alice" => "name",
        "@ fail.alice" => "fail",
        _ => "none",
    }
}

/// Starts the daemon once, and has the module find it.
fn daemon() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("tarnet-nss-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: every test comes through here before it reads the environment, and waits until it is done.
        unsafe { std::env::set_var("TARNET_RESOLVE_SOCKET", &path) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut question = String::new();
                let _ = BufReader::new(&stream).read_line(&mut question);
                let _ = writeln!(&stream, "{}", line(question.trim_end()));
            }
        });
    });
}

/// What a call left behind.
struct Left {
    status: c_int,
    errno: c_int,
    h_errno: c_int,
    entry: Option<(String, c_int, Vec<u8>)>,
}

/// Calls with a buffer of `len` bytes at an odd place, and checks that nothing around it was touched.
fn call(
    len: usize,
    call: impl FnOnce(*mut libc::hostent, *mut c_char, usize, *mut c_int, *mut c_int) -> c_int,
) -> Left {
    daemon();
    let mut memory = vec![UNTOUCHED; len + 2 * MARGIN];
    let mut entry = MaybeUninit::<libc::hostent>::uninit();
    let (mut errno, mut h_errno) = (0, 0);
    let start = MARGIN + 1;
    let buffer = memory[start..].as_mut_ptr().cast();
    let status = call(entry.as_mut_ptr(), buffer, len, &raw mut errno, &raw mut h_errno);
    let entry = (status == SUCCESS).then(|| {
        // SAFETY: a call that succeeds has filled the entry.
        unsafe {
            let entry = entry.assume_init();
            assert!((*entry.h_aliases).is_null() && (*entry.h_addr_list.add(1)).is_null());
            let address = std::slice::from_raw_parts((*entry.h_addr_list).cast::<u8>(), entry.h_length as usize);
            (CStr::from_ptr(entry.h_name).to_str().unwrap().to_owned(), entry.h_addrtype, address.to_vec())
        }
    });
    let around = memory[..start].iter().chain(&memory[start + len..]);
    assert!(around.copied().all(|byte| byte == UNTOUCHED), "written beyond a buffer of {len}");
    Left { status, errno, h_errno, entry }
}

/// `gethostbyname2_r`.
fn by_name(name: &str, family: c_int, len: usize) -> Left {
    let name = CString::new(name).unwrap();
    call(len, |entry, buffer, len, errno, h_errno| {
        // SAFETY: everything lives for the call.
        unsafe { _nss_tarnet_gethostbyname2_r(name.as_ptr(), family, entry, buffer, len, errno, h_errno) }
    })
}

#[test]
fn names_have_addresses_of_both_families() {
    let left = by_name("blog.alice.", libc::AF_INET, 256);
    assert_eq!(left.entry, Some(("blog.alice".into(), libc::AF_INET, vec![198, 18, 0, 9])));
    let left = by_name("blog.alice", libc::AF_INET6, 256);
    let v6: Ipv6Addr = "fd00::9".parse().unwrap();
    assert_eq!(left.entry, Some(("blog.alice".into(), libc::AF_INET6, v6.octets().to_vec())));
}

#[test]
fn what_is_missing_is_told_apart() {
    for (name, family, status, h_errno) in [
        ("example.org", libc::AF_INET, NOTFOUND, HOST_NOT_FOUND),
        ("localhost", libc::AF_INET, NOTFOUND, HOST_NOT_FOUND),
        ("gone.alice", libc::AF_INET, TRYAGAIN, HOST_NOT_FOUND),
        ("fail.alice", libc::AF_INET, TRYAGAIN, TRY_AGAIN),
        ("socks.alice", libc::AF_INET, TRYAGAIN, NO_DATA),
        ("four.alice", libc::AF_INET6, TRYAGAIN, NO_DATA),
        ("blog.alice", libc::AF_UNIX, TRYAGAIN, NO_DATA),
    ] {
        let left = by_name(name, family, 256);
        assert_eq!((left.status, left.h_errno), (status, h_errno), "{name}");
        assert_ne!(left.errno, libc::ERANGE, "{name}: the C library would call again");
    }
}

#[test]
fn a_buffer_of_any_size_is_enough_or_said_to_be_too_small() {
    let mut enough = None;
    for len in 0..128 {
        let left = by_name("blog.alice", libc::AF_INET6, len);
        match left.status {
            SUCCESS => enough = enough.or(Some(len)),
            status => {
                assert_eq!((status, left.errno, left.h_errno), (TRYAGAIN, libc::ERANGE, -1), "{len}");
                assert_eq!(enough, None, "{len} is too small, and less was enough");
            }
        }
    }
    assert!(enough.is_some_and(|enough| enough >= 24 + 16 + 11), "{enough:?}");
}

#[test]
fn both_families_come_in_one_chain_in_any_buffer() {
    daemon();
    for (name, families) in [("blog.alice", &[libc::AF_INET, libc::AF_INET6][..]), ("four.alice", &[libc::AF_INET])] {
        for given in [false, true] {
            let c_name = CString::new(name).unwrap();
            for len in 0..160 {
                let (mut errno, mut h_errno, mut ttl) = (0, 0, 7);
                let mut memory = vec![UNTOUCHED; len + MARGIN];
                let mut room = MaybeUninit::<Tuple>::uninit();
                let mut first = if given { room.as_mut_ptr() } else { std::ptr::null_mut() };
                // SAFETY: everything lives for the call.
                let status = unsafe {
                    let buffer = memory.as_mut_ptr().cast();
                    let (first, errors) = (&raw mut first, (&raw mut errno, &raw mut h_errno));
                    let name = c_name.as_ptr();
                    _nss_tarnet_gethostbyname4_r(name, first, buffer, len, errors.0, errors.1, &raw mut ttl)
                };
                assert!(memory[len..].iter().all(|byte| *byte == UNTOUCHED), "written beyond a buffer of {len}");
                if status != SUCCESS {
                    assert_eq!((status, errno), (TRYAGAIN, libc::ERANGE));
                    assert!(len < 100, "{name}: {len} bytes are not enough");
                    continue;
                }
                let mut seen = Vec::new();
                while !first.is_null() {
                    // SAFETY: the chain was filled.
                    let tuple = unsafe { &*first };
                    // SAFETY: as above.
                    assert_eq!(unsafe { CStr::from_ptr(tuple.name) }.to_str(), Ok(name));
                    seen.push(tuple.family);
                    first = tuple.next;
                }
                assert_eq!((seen.as_slice(), ttl), (families, 0));
            }
        }
    }
}

#[test]
fn addresses_have_names() {
    let by_address = |bytes: &[u8], family| {
        let address_len = bytes.len() as libc::socklen_t;
        call(256, |entry, buffer, len, errno, h_errno| {
            let address = bytes.as_ptr().cast();
            // SAFETY: everything lives for the call.
            unsafe { _nss_tarnet_gethostbyaddr_r(address, address_len, family, entry, buffer, len, errno, h_errno) }
        })
    };
    let v4 = [198, 18, 0, 9];
    assert_eq!(by_address(&v4, libc::AF_INET).entry, Some(("blog.alice".into(), libc::AF_INET, v4.to_vec())));
    let v6 = "fd00::9".parse::<Ipv6Addr>().unwrap().octets();
    assert_eq!(by_address(&v6, libc::AF_INET6).entry, Some(("blog.alice".into(), libc::AF_INET6, v6.to_vec())));
    assert_eq!(by_address(&[192, 0, 2, 1], libc::AF_INET).status, NOTFOUND);
    assert_eq!(by_address(&[198, 18, 0, 77], libc::AF_INET).status, TRYAGAIN);
    assert_eq!(by_address(&v6, libc::AF_INET).status, NOTFOUND, "a length of another family");
}

#[test]
fn many_threads_get_each_their_own_answer() {
    std::thread::scope(|scope| {
        for at in 0..16 {
            scope.spawn(move || {
                let (name, last) = if at % 2 == 0 { ("blog.alice", 9) } else { ("four.alice", 10) };
                for _ in 0..50 {
                    let entry = by_name(name, libc::AF_INET, 256).entry;
                    assert_eq!(entry, Some((name.into(), libc::AF_INET, vec![198, 18, 0, last])));
                }
            });
        }
    });
}
