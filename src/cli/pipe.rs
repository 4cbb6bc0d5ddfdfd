//! `tarnet listen` and `tarnet connect`: a connection joined to standard input and
//! output, as netcat does. Standard output carries channel bytes only; banners go to
//! standard error. The end of standard input half-closes; the program ends when the far
//! side ends. In message modes a line is a message; on the upgraded stream messages have
//! a 4-byte length.

use std::sync::mpsc::sync_channel;

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

/// `tarnet connect`.
pub async fn connect(session: &Session, target: &str, port: &str, mode: Mode) -> Result<(), CliError> {
    eprintln!("Connecting to {target} mode {} port '{port}'...", mode.in_words());
    let request = api::ConnectRequest {
        target: target.into(),
        port: port.into(),
        mode: Some(mode.as_str().into()),
        identity: session.identity.clone(),
    };
    let stream = session.client.upgrade("/v1/connect", &request).await?;
    eprintln!("Connected to {target}. Type to send, Ctrl-C to quit.");
    join(stream, mode).await
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
    join(stream, mode).await
}

/// Reads standard input in a thread of its own: a blocked read must not hold the program.
fn stdin_chunks() -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
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
    receiver
}

/// Joins the stream to standard input and output until the far side ends.
async fn join(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, mode: Mode) -> Result<(), CliError> {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut stdin = stdin_chunks();
    let failed = |what: &str, error: std::io::Error| CliError::Failed(format!("{what}: {error}"));
    let up = async {
        let mut lines = BytesMut::new();
        while let Some(chunk) = stdin.recv().await {
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
