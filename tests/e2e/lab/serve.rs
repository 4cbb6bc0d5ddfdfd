//! Servers of the tests: a small web server, echoes, and a stream of bytes that can be checked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::Machine;

/// Bytes moved at a time.
const CHUNK_LEN: usize = 1 << 16;

/// Connections that may wait to be accepted: what the system allows, as for any busy server.
const BACKLOG_LEN: i32 = 4_096;

/// What a path of the web server gives.
#[derive(Clone)]
pub enum Body {
    /// This text.
    Text(String),
    /// That many bytes of the stream of this seed.
    Stream(u64, u64),
}

/// Serves HTTP at `address` of a machine until the test ends.
pub fn web(machine: &Machine, address: &str, pages: &[(&str, Body)]) {
    let pages: Arc<Vec<(String, Body)>> =
        Arc::new(pages.iter().map(|(path, body)| ((*path).to_owned(), body.clone())).collect());
    tcp(machine, address, move |stream| {
        let _ = answer(stream, &pages);
    });
}

/// One request, one answer. A client that goes away is its own affair.
fn answer(mut stream: TcpStream, pages: &[(String, Body)]) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or("/");
    match pages.iter().find(|(page, _)| page == path).map(|(_, body)| body) {
        Some(Body::Text(page)) => {
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())
        }
        Some(Body::Stream(seed, length)) => {
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
            Bytes::new(*seed, *length).try_for_each(|chunk| stream.write_all(&chunk))
        }
        None => write!(stream, "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

/// Serves HTTP to callers who are introduced by the PROXY protocol: the page is `name`, and the caller's ServiceId
/// or `nobody`. haproxy `doc/proxy-protocol.txt` §2.2
pub fn who(machine: &Machine, address: &str, name: &str) {
    let name = name.to_owned();
    tcp(machine, address, move |mut stream| {
        let mut head = [0; 16];
        if stream.read_exact(&mut head).is_err() {
            return;
        }
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
        if stream.read_exact(&mut rest).is_err() {
            return;
        }
        // A TLV of type 0xE0, its length, and the ServiceId as text.
        let caller = rest.get(3..).map_or("nobody".into(), |id| String::from_utf8_lossy(id).into_owned());
        let _ = answer(stream, &[("/".to_owned(), Body::Text(format!("{name} {caller}\n")))]);
    });
}

/// Gives back what it receives, over TCP, until the test ends.
pub fn echo(machine: &Machine, address: &str) {
    tcp(machine, address, |mut stream| {
        let mut back = stream.try_clone().expect("a socket can be cloned");
        let _ = std::io::copy(&mut stream, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    });
}

/// Gives datagrams back to where they come from until the test ends.
pub fn echo_udp(machine: &Machine, address: &str) {
    let address: SocketAddr = address.parse().expect("an address");
    let socket = machine.inside(move || UdpSocket::bind(address).expect("a free port"));
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_LEN];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    });
}

/// Accepts at `address` of a machine, a thread for each connection.
pub fn tcp(machine: &Machine, address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let address: SocketAddr = address.parse().expect("an address");
    let listener = machine.inside(move || TcpListener::bind(address).expect("a free port"));
    // Where the queue overflows, the kernel forgets connections that the other side believes in.
    let queue = nix::sys::socket::Backlog::new(BACKLOG_LEN).expect("a length that listen takes");
    nix::sys::socket::listen(&listener, queue).expect("a longer queue");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
}

/// A stream of bytes that looks random and is the same for the same seed (xorshift64*).
pub struct Bytes {
    state: u64,
    left: u64,
}

impl Bytes {
    /// `length` bytes of the stream of `seed`, which is not zero.
    pub fn new(seed: u64, length: u64) -> Self {
        Self { state: seed, left: length }
    }
}

impl Iterator for Bytes {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK_LEN);
        if length == 0 {
            return None;
        }
        self.left -= u64::try_from(length).expect("a chunk is small");
        let mut chunk = vec![0; CHUNK_LEN];
        for word in chunk.chunks_exact_mut(8) {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            word.copy_from_slice(&self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        chunk.truncate(length);
        Some(chunk)
    }
}

/// SHA-256 of such a stream.
pub fn sha256_of_stream(seed: u64, length: u64) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    Bytes::new(seed, length).for_each(|chunk| hash.update(&chunk));
    hash.finish().as_ref().to_vec()
}

/// SHA-256 and length of what a reader gives to its end.
pub fn sha256(mut reader: impl Read) -> (Vec<u8>, u64) {
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK_LEN];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer).expect("it can be read") {
            0 => return (hash.finish().as_ref().to_vec(), total),
            count => {
                hash.update(&buffer[..count]);
                total += u64::try_from(count).expect("a chunk is small");
            }
        }
    }
}
