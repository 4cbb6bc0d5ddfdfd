//! `connect` in SOCKS mode: the program's own socket is connected to the proxy and the
//! SOCKS5 request (RFC 1928, RFC 1929) is made on it before `connect` returns, so that a
//! refusal has its true errno. On a non-blocking socket the call therefore takes a round
//! trip to the service; it then reports success at once, which callers must expect.

use std::io::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::fake::{self, Target};
use crate::{real, settings};

/// Time for the whole request; the daemon gives up after 20 s.
const TIME_MAX: Duration = Duration::from_secs(25);

/// An errno.
type Errno = i32;

/// Connects `fd` to a name through the proxy.
pub fn connect(fd: i32, target: &Target) -> Result<(), Errno> {
    let proxy = settings::proxy().ok_or(libc::ENETUNREACH)?;
    if option(fd, libc::SO_TYPE)? != libc::SOCK_STREAM {
        return Err(libc::EACCES);
    }
    // SAFETY: plain calls on a descriptor that the program owns.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(libc::EBADF);
    }
    // SAFETY: as above; the flags are put back below.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) };
    let deadline = Instant::now() + TIME_MAX;
    let result = reach(fd, proxy, deadline).and_then(|()| request(fd, target, deadline));
    // SAFETY: as above.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
    if result.is_ok() {
        fake::remember_peer(fd, target.address);
    }
    result
}

/// A socket option's number.
fn option(fd: i32, name: i32) -> Result<i32, Errno> {
    let (mut value, mut len) = (0i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: `value` and `len` describe 4 writable bytes.
    let status = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len) };
    if status == 0 { Ok(value) } else { Err(errno()) }
}

/// The calling thread's errno.
fn errno() -> Errno {
    Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Connects the socket itself to the proxy, in the socket's own family.
fn reach(fd: i32, proxy: SocketAddr, deadline: Instant) -> Result<(), Errno> {
    let SocketAddr::V4(proxy) = proxy else { return Err(libc::EAFNOSUPPORT) };
    let status = if option(fd, libc::SO_DOMAIN)? == libc::AF_INET6 {
        // SAFETY: all-zero is a valid sockaddr_in6.
        let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        address.sin6_port = proxy.port().to_be();
        address.sin6_addr.s6_addr = proxy.ip().to_ipv6_mapped().octets();
        // SAFETY: a whole sockaddr_in6.
        unsafe { real::connect(fd, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t) }
    } else {
        // SAFETY: all-zero is a valid sockaddr_in.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = proxy.port().to_be();
        address.sin_addr.s_addr = u32::from(*proxy.ip()).to_be();
        // SAFETY: a whole sockaddr_in.
        unsafe { real::connect(fd, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t) }
    };
    if status == 0 {
        return Ok(());
    }
    match errno() {
        libc::EINPROGRESS => {
            wait(fd, libc::POLLOUT, deadline)?;
            match option(fd, libc::SO_ERROR)? {
                0 => Ok(()),
                // No proxy: the daemon is dead or restarting.
                libc::ECONNREFUSED => Err(libc::EHOSTUNREACH),
                other => Err(other),
            }
        }
        other => Err(other),
    }
}

/// Waits until the socket is readable or writable.
fn wait(fd: i32, events: i16, deadline: Instant) -> Result<(), Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        let mut poll = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one pollfd, for the time of the call.
        match unsafe { libc::poll(&raw mut poll, 1, ms) } {
            0 => return Err(libc::ETIMEDOUT),
            1.. => return Ok(()),
            _ if errno() == libc::EINTR => {}
            _ => return Err(errno()),
        }
    }
}

/// Writes everything.
fn write(fd: i32, mut bytes: &[u8], deadline: Instant) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: `bytes` is readable for its length.
        let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(n) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) if [libc::EAGAIN, libc::EINTR].contains(&errno()) => wait(fd, libc::POLLOUT, deadline)?,
            Err(_) => return Err(errno()),
        }
    }
    Ok(())
}

/// Reads exactly as many bytes: nothing of the service's may be swallowed.
fn read(fd: i32, out: &mut [u8], deadline: Instant) -> Result<(), Errno> {
    let mut at = 0;
    while at < out.len() {
        let rest = &mut out[at..];
        // SAFETY: `rest` is writable for its length.
        let n = unsafe { libc::recv(fd, rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(0) => return Err(libc::ECONNRESET),
            Ok(n) => at += n,
            Err(_) if [libc::EAGAIN, libc::EINTR].contains(&errno()) => wait(fd, libc::POLLIN, deadline)?,
            Err(_) => return Err(errno()),
        }
    }
    Ok(())
}

/// Greeting, the acting identity as user name, and the request. RFC 1928 §3-§6, RFC 1929 §2.
fn request(fd: i32, target: &Target, deadline: Instant) -> Result<(), Errno> {
    let identity = settings::identity();
    let identity_len = u8::try_from(identity.len()).map_err(|_| libc::EACCES)?;
    let name_len = u8::try_from(target.name.len()).map_err(|_| libc::EINVAL)?;
    write(fd, &[5, 1, 2], deadline)?;
    let mut answer = [0; 2];
    read(fd, &mut answer, deadline)?;
    if answer != [5, 2] {
        return Err(libc::EACCES);
    }
    let mut login = vec![1, identity_len];
    login.extend_from_slice(identity.as_bytes());
    login.extend_from_slice(&[1, b'-']);
    write(fd, &login, deadline)?;
    read(fd, &mut answer, deadline)?;
    if answer[1] != 0 {
        return Err(libc::EACCES);
    }
    let mut wanted = vec![5, 1, 0, 3, name_len];
    wanted.extend_from_slice(target.name.as_bytes());
    wanted.extend_from_slice(&target.port.to_be_bytes());
    write(fd, &wanted, deadline)?;
    let mut head = [0; 4];
    read(fd, &mut head, deadline)?;
    let rest = match head[3] {
        1 => 4 + 2,
        4 => 16 + 2,
        _ => return Err(libc::EPROTO),
    };
    read(fd, &mut [0; 18][..rest], deadline)?;
    status(head[1])
}

/// A reply code as the errno that a direct connection would give.
fn status(code: u8) -> Result<(), Errno> {
    match code {
        0 => Ok(()),
        2 => Err(libc::EACCES),
        3 => Err(libc::ENETUNREACH),
        5 => Err(libc::ECONNREFUSED),
        6 => Err(libc::ETIMEDOUT),
        _ => Err(libc::EHOSTUNREACH),
    }
}
