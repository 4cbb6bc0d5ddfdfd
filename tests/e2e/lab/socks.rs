//! A SOCKS5 client that shows the server's replies. RFC 1928, RFC 1929.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Asks the proxy for `host` and `port` as `user` (none: no authentication): the stream, or the reply code.
/// A refused authentication is code 255.
pub fn connect(user: Option<&str>, host: &str, port: u16) -> Result<TcpStream, u8> {
    let mut stream = TcpStream::connect("127.0.0.1:1080").expect("the proxy listens");
    let length = |text: &str| u8::try_from(text.len()).expect("a short text");
    let method = if user.is_some() { 2 } else { 0 };
    stream.write_all(&[5, 1, method]).expect("the proxy reads");
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).expect("the proxy answers");
    if chosen != [5, method] {
        return Err(255);
    }
    if let Some(user) = user {
        let login = [&[1, length(user)], user.as_bytes(), &[1, b'x']].concat();
        stream.write_all(&login).expect("the proxy reads");
        let mut verdict = [0; 2];
        stream.read_exact(&mut verdict).expect("the proxy answers");
        if verdict[1] != 0 {
            return Err(255);
        }
    }
    let request = [&[5, 1, 0, 3, length(host)], host.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&request).expect("the proxy reads");
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).expect("the proxy answers");
    let rest = if reply[3] == 4 { 18 } else { 6 };
    stream.read_exact(&mut vec![0; rest]).expect("the proxy answers");
    if reply[1] == 0 { Ok(stream) } else { Err(reply[1]) }
}
