//! Questions that are not ours, where we are the host's resolver: they go to the servers that
//! the host had before us, and their answers come back as they are.
//!
//! Each try is a socket of its own, connected, so the kernel draws a random port and drops what
//! comes from elsewhere; the id is random; an answer counts only if id and question match. A
//! server that is silent or in trouble is followed by the next. Over TCP what came over TCP.
//!
//! Bounds: [`PENDING_MAX`] questions at once, the rest get SERVFAIL; [`SERVERS_MAX`] servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::responder::Transport;
use super::stream::frame;

/// Questions of others in work; more than a busy host asks at once, and each costs a descriptor.
const PENDING_MAX: usize = 256;
/// Servers kept: what the C library would ask (`resolv.conf(5)`, MAXNS).
pub const SERVERS_MAX: usize = 3;
/// How long one server has for an answer: three of them fit in the 5 s that the C library waits, with one pause.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1_600);
/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER_LEN: usize = 12;
/// Bytes of the largest message.
const MESSAGE_BYTES_MAX: usize = 65_535;
/// The answer codes after which the next server is asked: SERVFAIL, NOTIMP, REFUSED.
const TROUBLE: [u8; 3] = [2, 4, 5];
/// DNS.
const PORT: u16 = 53;

/// The servers that the host had before us.
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    /// We are the file's only server: programs with a resolver of their own are told to use ours.
    pub canary: bool,
    pending: Semaphore,
}

impl Forwarder {
    /// A forwarder to these servers, the first few of them.
    #[must_use]
    pub fn new(servers: &[IpAddr], canary: bool) -> Self {
        let servers = servers.iter().take(SERVERS_MAX).map(|server| SocketAddr::new(*server, PORT)).collect();
        Self { servers, canary, pending: Semaphore::new(PENDING_MAX) }
    }

    /// A forwarder to servers of which more than the address is known.
    #[must_use]
    pub fn to(servers: &[SocketAddr]) -> Self {
        let servers = servers.iter().take(SERVERS_MAX).copied().collect();
        Self { servers, canary: false, pending: Semaphore::new(PENDING_MAX) }
    }

    /// Whom it asks.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// The answer of the first server that has one; `None` when none has, or too much is in work.
    pub async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let _permit = self.pending.try_acquire().ok()?;
        let asked = question.first_chunk::<2>()?;
        let mut troubled = None;
        for server in &self.servers {
            let mut sent = question.to_vec();
            let mut id = [0; 2];
            getrandom::fill(&mut id).ok()?;
            sent[..2].copy_from_slice(&id);
            let trying = async {
                match transport {
                    Transport::Udp => over_udp(*server, &sent).await,
                    Transport::Tcp => over_tcp(*server, &sent).await,
                }
            };
            let Ok(Ok(mut answer)) = timeout(ANSWER_TIME_MAX, trying).await else { continue };
            answer[..2].copy_from_slice(asked);
            if TROUBLE.contains(&(answer[3] & 0x0f)) {
                // What it said counts if nobody says better.
                troubled.get_or_insert(answer);
                continue;
            }
            return Some(answer);
        }
        troubled
    }
}

/// One try by a datagram. Datagrams that are no answer to it are not heard.
async fn over_udp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if matches(question, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

/// One try on a stream.
async fn over_tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let no = |why: &'static str| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&frame(question).ok_or_else(|| no("the question is too long"))?).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    if matches(question, &answer) { Ok(answer) } else { Err(no("it answers another question")) }
}

/// Whether a message answers a question: its id, the answer bit, and the same question (its name in the same
/// case, which makes forging harder still; RFC 5452 §9.1). A server in trouble may leave the question out.
fn matches(question: &[u8], answer: &[u8]) -> bool {
    let (Some(asked), Some(head)) = (section(question), answer.first_chunk::<HEADER_LEN>()) else { return false };
    let mine = question.starts_with(&head[..2]) && head[2] & 0x80 != 0;
    let bare = head[4..6] == [0, 0] && TROUBLE.contains(&(head[3] & 0x0f));
    let same = head[4..6] == [0, 1] && answer.get(HEADER_LEN..).is_some_and(|rest| starts_with(rest, asked));
    mine && (bare || same)
}

/// Whether a section begins with another: names without regard to case, since some servers lower it.
fn starts_with(section: &[u8], other: &[u8]) -> bool {
    section.get(..other.len()).is_some_and(|head| head.eq_ignore_ascii_case(other))
}

/// The question section of a message with one question: name, type and class. A name is not compressed there.
fn section(message: &[u8]) -> Option<&[u8]> {
    let rest = message.get(HEADER_LEN..)?;
    let mut at = 0;
    loop {
        match usize::from(*rest.get(at)?) {
            0 => return rest.get(..at + 5),
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for `name` with an id.
    fn message(id: u16, flags: u8, code: u8, questions: u8, name: &str) -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend([flags, code, 0, questions, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, 1, 0, 1]);
        bytes
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let question = message(7, 1, 0, 1, "www.example.com");
        for (what, answer, counts) in [
            ("the answer", message(7, 0x81, 0, 1, "www.example.com"), true),
            ("in another case", message(7, 0x81, 0, 1, "WWW.example.com"), true),
            ("another id", message(8, 0x81, 0, 1, "www.example.com"), false),
            ("a question", message(7, 1, 0, 1, "www.example.com"), false),
            ("another name", message(7, 0x81, 0, 1, "ww2.example.com"), false),
            ("a refusal", message(7, 0x81, 5, 1, "www.example.com"), true),
            ("a bare refusal", message(7, 0x81, 5, 0, "x")[..HEADER_LEN].to_vec(), true),
            ("a bare answer", message(7, 0x81, 0, 0, "x")[..HEADER_LEN].to_vec(), false),
        ] {
            assert_eq!(matches(&question, &answer), counts, "{what}");
            for cut in 0..HEADER_LEN {
                assert!(!matches(&question, &answer[..cut]), "{what}, cut at {cut}");
            }
        }
        for cut in 0..question.len() {
            assert_eq!(section(&question[..cut]), None);
        }
        assert_eq!(section(&[0xc0; 40]), None);
    }

    /// A server on an address of its own that answers each datagram by `reply`, which gives the bytes to send back.
    async fn server(reply: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                for answer in reply(&buffer[..length]) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        address
    }

    /// A question turned into an answer with this code.
    fn answered(question: &[u8], code: u8) -> Vec<u8> {
        let mut answer = question.to_vec();
        answer[2] |= 0x80;
        answer[3] = code;
        answer
    }

    #[tokio::test]
    async fn forged_answers_are_not_heard_and_trouble_goes_to_the_next_server() {
        let troubled = server(|question| vec![answered(question, 2)]).await;
        let honest = server(|question| {
            let mut forged = answered(question, 0);
            forged[0] ^= 1;
            let mut other = answered(question, 0);
            other[HEADER_LEN + 1] ^= 1;
            vec![forged, other, vec![1], answered(question, 3)]
        })
        .await;
        let forwarder = Forwarder { servers: vec![troubled, honest], canary: false, pending: Semaphore::new(1) };
        let question = message(0x1234, 1, 0, 1, "www.example.com");
        let answer = forwarder.ask(&question, Transport::Udp).await.unwrap();
        assert_eq!((&answer[..2], answer[3] & 15), (&[0x12, 0x34][..], 3));
        let alone = Forwarder { servers: vec![troubled], canary: false, pending: Semaphore::new(1) };
        assert_eq!(alone.ask(&question, Transport::Udp).await.unwrap()[3] & 15, 2);
        let full = Forwarder { servers: vec![honest], canary: false, pending: Semaphore::new(0) };
        assert_eq!(full.ask(&question, Transport::Udp).await, None);
    }
}
