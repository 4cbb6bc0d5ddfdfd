//! Asks the daemon over its resolve socket: one line each way, within a deadline. It runs in
//! other people's programs, so it holds nothing between calls, allocates nothing, raises no
//! signal and never blocks past its time.
//!
//! This file is part of the shim and of the name service module, which both depend on the C
//! library alone: a crate between them would be a third thing to keep at that.

use std::ffi::CStr;
use std::time::{Duration, Instant};

/// Bytes of the longest line either way: an identity's name and a name, or `ptr` and a name.
pub const LINE_LEN_MAX: usize = 512;

/// Pause before another attempt while the daemon's queue of callers is full, milliseconds.
const FULL_PAUSE_MS: i32 = 10;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// No daemon is there, or it is going away.
    Absent,
    /// It did not answer in time.
    Slow,
    /// The question is longer than a line.
    TooLong,
}

/// A descriptor of ours, closed at the end.
struct Socket(i32);

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(self.0) };
    }
}

/// Sends `question`, whose parts make one line without its end, and gives the line that comes back.
pub fn ask<'a>(
    path: &CStr,
    question: &[&[u8]],
    time: Duration,
    answer: &'a mut [u8; LINE_LEN_MAX],
) -> Result<&'a str, Unanswered> {
    let deadline = Instant::now() + time;
    let mut line = [0; LINE_LEN_MAX];
    let len = write_line(question, &mut line).ok_or(Unanswered::TooLong)?;
    let socket = connect(path, deadline)?;
    send(&socket, line.get(..len).unwrap_or_default(), deadline)?;
    let len = receive(&socket, answer, deadline)?;
    let text = std::str::from_utf8(answer.get(..len).unwrap_or_default());
    text.map(str::trim_end).map_err(|_| Unanswered::Absent)
}

/// Puts the parts and the line's end together; says how long it is.
fn write_line(parts: &[&[u8]], line: &mut [u8; LINE_LEN_MAX]) -> Option<usize> {
    let mut at = 0;
    for part in parts.iter().copied().chain([&b"\n"[..]]) {
        line.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    Some(at)
}

/// The calling thread's errno.
fn errno() -> i32 {
    // SAFETY: the C library's own errno location is valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

/// A connection to the daemon.
fn connect(path: &CStr, deadline: Instant) -> Result<Socket, Unanswered> {
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.to_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(Unanswered::Absent);
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed() as libc::c_char;
    }
    // SAFETY: a plain call.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        // Out of descriptors, which passes; or a sandbox without such sockets, which does not.
        let passes = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].contains(&errno());
        return Err(if passes { Unanswered::Slow } else { Unanswered::Absent });
    }
    let socket = Socket(fd);
    loop {
        // SAFETY: a whole sockaddr_un, whose path ends with a zero.
        let status =
            unsafe { libc::connect(socket.0, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t) };
        match errno() {
            _ if status == 0 => return Ok(socket),
            libc::EAGAIN if Instant::now() < deadline => {
                // SAFETY: no descriptors are given.
                unsafe { libc::poll(std::ptr::null_mut(), 0, FULL_PAUSE_MS) };
            }
            libc::EAGAIN => return Err(Unanswered::Slow),
            libc::EINTR => {}
            _ => return Err(Unanswered::Absent),
        }
    }
}

/// Waits until the socket is ready.
fn wait(socket: &Socket, events: i16, deadline: Instant) -> Result<(), Unanswered> {
    loop {
        // One more than the whole milliseconds that are left, so that the time is over when the wait is.
        let left = deadline.checked_duration_since(Instant::now()).ok_or(Unanswered::Slow)?;
        let ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
        let mut poll = libc::pollfd { fd: socket.0, events, revents: 0 };
        // SAFETY: one pollfd, for the time of the call.
        match unsafe { libc::poll(&raw mut poll, 1, ms) } {
            1.. => return Ok(()),
            0 => {}
            _ if errno() == libc::EINTR => {}
            _ => return Err(Unanswered::Absent),
        }
    }
}

/// Sends everything.
fn send(socket: &Socket, mut bytes: &[u8], deadline: Instant) -> Result<(), Unanswered> {
    while !bytes.is_empty() {
        // SAFETY: `bytes` is readable for its length.
        let n = unsafe { libc::send(socket.0, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(n) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(_) if [libc::EAGAIN, libc::EINTR].contains(&errno()) => wait(socket, libc::POLLOUT, deadline)?,
            Err(_) => return Err(Unanswered::Absent),
        }
    }
    Ok(())
}

/// Receives a line; says how long it is without its end.
fn receive(socket: &Socket, line: &mut [u8; LINE_LEN_MAX], deadline: Instant) -> Result<usize, Unanswered> {
    let mut len = 0;
    loop {
        let rest = line.get_mut(len..).unwrap_or_default();
        // SAFETY: `rest` is writable for its length.
        let n = unsafe { libc::recv(socket.0, rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            // The end without a line: the daemon is going away, or talks nonsense.
            Ok(0) => return Err(Unanswered::Absent),
            Ok(n) => {
                len += n;
                if let Some(end) = line.get(..len).and_then(|line| line.iter().position(|byte| *byte == b'\n')) {
                    return Ok(end);
                }
            }
            Err(_) if [libc::EAGAIN, libc::EINTR].contains(&errno()) => wait(socket, libc::POLLIN, deadline)?,
            Err(_) => return Err(Unanswered::Absent),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::io::{Read, Write};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    use super::*;

    /// A listener at a path of its own.
    fn listener(name: &str) -> (UnixListener, CString, PathBuf) {
        let path = std::env::temp_dir().join(format!("tarnet-ask-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let c_path = CString::new(path.as_os_str().as_bytes()).unwrap();
        (UnixListener::bind(&path).unwrap(), c_path, path)
    }

    /// What comes back from a daemon that does `serve` with its first caller.
    fn asked(name: &str, ms: u64, serve: impl FnOnce(UnixStream) + Send + 'static) -> Result<String, Unanswered> {
        let (listener, c_path, path) = listener(name);
        let serving = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let mut answer = [0; LINE_LEN_MAX];
        let got = ask(&c_path, &[b"@ ", b"blog.alice"], Duration::from_millis(ms), &mut answer).map(str::to_owned);
        serving.join().unwrap();
        std::fs::remove_file(path).unwrap();
        got
    }

    #[test]
    fn a_line_goes_out_and_a_line_in_pieces_comes_back() {
        let got = asked("pieces", 5_000, |mut stream| {
            let mut question = [0; 13];
            stream.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"@ blog.alice\n");
            for piece in ["addr 198.18.", "0.3 -\nrest"] {
                stream.write_all(piece.as_bytes()).unwrap();
            }
        });
        assert_eq!(got.as_deref(), Ok("addr 198.18.0.3 -"));
    }

    #[test]
    fn a_daemon_that_says_nothing_is_slow_and_one_that_hangs_up_is_absent() {
        let start = Instant::now();
        let got = {
            let (_listener, c_path, path) = listener("silent");
            let got = ask(&c_path, &[b"x"], Duration::from_millis(150), &mut [0; LINE_LEN_MAX]).map(str::to_owned);
            std::fs::remove_file(path).unwrap();
            got
        };
        assert_eq!(got, Err(Unanswered::Slow));
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(asked("gone", 5_000, drop), Err(Unanswered::Absent));
    }

    #[test]
    fn no_socket_is_absent_and_nonsense_is_no_answer() {
        let mut answer = [0; LINE_LEN_MAX];
        let second = Duration::from_secs(1);
        assert_eq!(ask(c"/nonexistent/resolve.sock", &[b"x"], second, &mut answer), Err(Unanswered::Absent));
        let long = [b'/'; 200];
        let long = CString::new(&long[..]).unwrap();
        assert_eq!(ask(&long, &[b"x"], second, &mut answer), Err(Unanswered::Absent));
        let too_long = [b'x'; LINE_LEN_MAX];
        assert_eq!(ask(c"/nonexistent", &[&too_long], second, &mut answer), Err(Unanswered::TooLong));
        let nonsense = asked("nonsense", 5_000, |mut stream| stream.write_all(&[0xff; LINE_LEN_MAX]).unwrap());
        assert_eq!(nonsense, Err(Unanswered::Absent));
    }
}
