//! `tarnet listen` and `tarnet connect`: a connection joined to standard input and
//! output, as netcat does. Standard output carries channel bytes only; banners go to
//! standard error. The end of standard input half-closes; the program ends when the far
//! side ends. In message modes a line is a message; on the upgraded stream messages have
//! a 4-byte length.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tarnet_api as api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::args::Mode;
use crate::commands::Session;
use crate::output::CliError;

/// Bytes read from standard input at once.
const CHUNK_LEN: usize = 64 * 1024;

/// Bytes of the longest message of any mode.
const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// Bytes of the longest message of an unreliable mode.
const DATAGRAM_LEN_MAX: usize = 64 * 1024;

/// Chunks of standard input that may wait.
const CHUNKS_MAX: usize = 4;

/// How long standard input may take to show that it is ready: what is there then travels with the question for the
/// connection.
const READY_WAIT: Duration = Duration::from_millis(2);

/// `tarnet connect`.
pub async fn connect(session: &Session, target: &str, port: &str, mode: Mode) -> Result<(), CliError> {
    eprintln!("Connecting to {target} mode {} port '{port}'...", mode.in_words());
    let mut stdin = Stdin::open();
    let request = api::ConnectRequest {
        target: target.into(),
        port: port.into(),
        mode: Some(mode.as_str().into()),
        identity: session.identity.clone(),
        early: stdin.early(mode).await,
    };
    let stream = session.client.upgrade("/v1/connect", &request).await?;
    eprintln!("Connected to {target}. Type to send, Ctrl-C to quit.");
    join(stream, stdin, mode).await
}

/// `tarnet listen`.
pub async fn listen(session: &Session, name: &str, port: &str, mode: Mode) -> Result<(), CliError> {
    let id = if name == "peer" {
        session.client.get::<api::Status>("/v1/status").await?.peer_id
    } else {
        session.client.get::<api::Identity>(&format!("/v1/identities/{}", api::segment(name))).await?.service_id
    };
    let request = api::ListenRequest { identity: name.into(), port: port.into(), mode: Some(mode.as_str().into()) };
    let stream = session.client.upgrade("/v1/listen", &request).await?;
    eprintln!("Listening on {id} mode {} port '{port}'.", mode.in_words());
    eprintln!("Waiting for connections... (Ctrl-C to quit)");
    join(stream, Stdin::open(), mode).await
}

/// Standard input, read in a thread of its own: a blocked read must not hold the program.
struct Stdin {
    chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    /// What was looked at and not taken.
    kept: Option<std::io::Result<Vec<u8>>>,
}

impl Stdin {
    /// Begins to read.
    fn open() -> Self {
        let (chunks, receiver) = mpsc::channel(CHUNKS_MAX);
        let (ready, started) = sync_channel(1);
        std::thread::spawn(move || {
            use std::io::Read;
            let _ = ready.send(());
            let mut stdin = std::io::stdin().lock();
            loop {
                let mut chunk = vec![0; CHUNK_LEN];
                let read = stdin.read(&mut chunk).map(|n| {
                    chunk.truncate(n);
                    chunk
                });
                let end = !matches!(&read, Ok(chunk) if !chunk.is_empty());
                if chunks.blocking_send(read).is_err() || end {
                    return;
                }
            }
        });
        let _ = started.recv();
        Self { chunks: receiver, kept: None }
    }

    /// The next bytes; empty at the end.
    async fn next(&mut self) -> Option<std::io::Result<Vec<u8>>> {
        match self.kept.take() {
            Some(kept) => Some(kept),
            None => self.chunks.recv().await,
        }
    }

    /// What is there already, as far as it may travel with the question for the connection: the first bytes of a
    /// stream, or the first line as the first message.
    async fn early(&mut self, mode: Mode) -> Vec<u8> {
        let Ok(Some(first)) = tokio::time::timeout(READY_WAIT, self.chunks.recv()).await else { return Vec::new() };
        let (early, kept) = match first {
            Ok(chunk) => {
                let (early, rest) = split_early(chunk, mode);
                // An empty chunk is the end: what remains of one that was taken whole is not.
                (early, rest.map(Ok))
            }
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        self.kept = kept;
        early
    }
}

/// The part of the first chunk that may travel early, and what remains to be sent after it.
fn split_early(mut chunk: Vec<u8>, mode: Mode) -> (Vec<u8>, Option<Vec<u8>>) {
    let (taken, skipped) = match mode {
        Mode::Ro => (chunk.len().min(api::EARLY_LEN_MAX), 0),
        Mode::Ru | Mode::Uo | Mode::Uu => match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) if (1..=api::EARLY_LEN_MAX).contains(&end) => (end, 1),
            _ => (0, 0),
        },
    };
    let rest = chunk.split_off(taken + skipped);
    chunk.truncate(taken);
    let rest = (!rest.is_empty() || chunk.is_empty()).then_some(rest);
    (chunk, rest)
}

/// Joins the stream to standard input and output until the far side ends.
async fn join(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    mut stdin: Stdin,
    mode: Mode,
) -> Result<(), CliError> {
    let (mut from, mut to) = tokio::io::split(stream);
    let failed = |what: &str, error: std::io::Error| CliError::Failed(format!("{what}: {error}"));
    let up = async {
        let mut lines = BytesMut::new();
        while let Some(chunk) = stdin.next().await {
            let chunk = chunk.map_err(|error| failed("standard input", error))?;
            if chunk.is_empty() {
                break;
            }
            let sent = match mode {
                Mode::Ro => to.write_all(&chunk).await,
                Mode::Ru | Mode::Uo | Mode::Uu => {
                    lines.extend_from_slice(&chunk);
                    send_lines(&mut to, &mut lines, message_len_max(mode)).await
                }
            };
            if sent.is_err() {
                break;
            }
        }
        if !lines.is_empty() {
            lines.extend_from_slice(b"\n");
            let _ = send_lines(&mut to, &mut lines, message_len_max(mode)).await;
        }
        let _ = to.shutdown().await;
        std::future::pending::<Result<(), CliError>>().await
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(CHUNK_LEN);
        let mut stdout = tokio::io::stdout();
        loop {
            buffer.reserve(CHUNK_LEN);
            let read = from.read_buf(&mut buffer).await.map_err(|error| failed("the connection", error))?;
            let written = match mode {
                Mode::Ro => stdout.write_all_buf(&mut buffer).await,
                Mode::Ru | Mode::Uo | Mode::Uu => print_messages(&mut stdout, &mut buffer).await,
            };
            written.map_err(|error| failed("standard output", error))?;
            stdout.flush().await.map_err(|error| failed("standard output", error))?;
            if read == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = up => result,
        result = down => result,
    }
}

/// Bytes of the longest message of a mode.
const fn message_len_max(mode: Mode) -> usize {
    match mode {
        Mode::Ro | Mode::Ru => MESSAGE_LEN_MAX,
        Mode::Uo | Mode::Uu => DATAGRAM_LEN_MAX,
    }
}

/// Sends each whole line as a message, or as several if it is longer than one.
async fn send_lines(
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    lines: &mut BytesMut,
    len_max: usize,
) -> std::io::Result<()> {
    while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
        let line = lines.split_to(end);
        lines.advance(1);
        for message in line.chunks(len_max) {
            let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
            to.write_all(&len.to_be_bytes()).await?;
            to.write_all(message).await?;
        }
    }
    Ok(())
}

/// Prints each whole message as a line.
async fn print_messages(out: &mut (impl tokio::io::AsyncWrite + Unpin), buffer: &mut BytesMut) -> std::io::Result<()> {
    while let Some(head) = buffer.first_chunk::<4>() {
        let len = u32::from_be_bytes(*head) as usize;
        if len > MESSAGE_LEN_MAX {
            return Err(std::io::Error::other("a message over 1 MiB"));
        }
        if buffer.len() < 4 + len {
            break;
        }
        buffer.advance(4);
        let message = buffer.split_to(len);
        out.write_all(&message).await?;
        out.write_all(b"\n").await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_data_travels_early_as_far_as_it_may() {
        let long = vec![b'x'; api::EARLY_LEN_MAX + 1];
        let whole = |text: &[u8]| (text.to_vec(), None);
        assert_eq!(split_early(b"GET /".to_vec(), Mode::Ro), whole(b"GET /"));
        assert_eq!(split_early(long.clone(), Mode::Ro), (long[1..].to_vec(), Some(b"x".to_vec())));
        // The end stays the end.
        assert_eq!(split_early(Vec::new(), Mode::Ro), (Vec::new(), Some(Vec::new())));
        // A message is whole or waits: an empty one cannot be told from none.
        assert_eq!(split_early(b"one\n".to_vec(), Mode::Ru), whole(b"one"));
        assert_eq!(split_early(b"one\ntwo".to_vec(), Mode::Uu), (b"one".to_vec(), Some(b"two".to_vec())));
        assert_eq!(split_early(b"half".to_vec(), Mode::Uo), (Vec::new(), Some(b"half".to_vec())));
        assert_eq!(split_early(b"\ntwo\n".to_vec(), Mode::Ru), (Vec::new(), Some(b"\ntwo\n".to_vec())));
        let line = [&long[..], b"\n"].concat();
        assert_eq!(split_early(line.clone(), Mode::Ru), (Vec::new(), Some(line)));
    }
}
