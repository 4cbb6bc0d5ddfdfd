//! Serves SOCKS5: handshake, connection, pump. One task per connection.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tarnet_core::session::{Mode, Port, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::codec::{self, Malformed, Method, Reply, Request};
use super::target::{AddressBook, Route, last_label, route};
use super::{CONNECTIONS_MAX, HANDSHAKE_TIME_MAX, MESSAGE_LEN_MAX};
use crate::admin::AdminCall;
use crate::callers::{Caller, Callers};
use crate::channel::Channel;
use crate::config::{Config, Host};
use crate::handle::{ConnectError, ConnectRequest, NodeHandle, ResolveError, Target};
use crate::pump::{self, Broken, Traffic};
use crate::transport::{ConnectError as DialError, connect_host};

/// Pause after the system refused to accept.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// The SOCKS5 front end of one daemon.
pub struct Front {
    handle: NodeHandle,
    book: Arc<dyn AddressBook>,
    /// The suffix of names that are ours alone, in lower case, without dots around.
    suffix: String,
    allow_clearnet: bool,
    callers: Callers,
    free: Arc<Semaphore>,
    /// Bytes of all connections to the overlay.
    pub traffic: Traffic,
}

/// Why a connection ended before it was joined.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The program's socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The program does not speak SOCKS5.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The program took too long, or left.
    #[error("the program went away or took too long")]
    Gone,
    /// There is no such identity, or no method in common.
    #[error("not authenticated")]
    Login,
    /// Joined, and then broken.
    #[error("{0}")]
    Broken(#[from] Broken),
}

/// The other side of an opened connection.
enum Far {
    Overlay(Channel),
    Clearnet(TcpStream),
}

impl Front {
    /// A front end that asks `handle`, and `book` what addresses mean.
    #[must_use]
    pub fn new(handle: NodeHandle, book: Arc<dyn AddressBook>, config: &Config) -> Arc<Self> {
        let (suffix, allow_clearnet) = (config.dns.suffix.to_ascii_lowercase(), config.socks.allow_clearnet);
        let (callers, free) = (Callers::new(&config.tun), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        Arc::new(Self { handle, book, suffix, allow_clearnet, callers, free, traffic: Traffic::default() })
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> usize {
        CONNECTIONS_MAX - self.free.available_permits()
    }

    /// Accepts programs until the task is aborted. Beyond [`CONNECTIONS_MAX`] they are closed at once.
    pub fn serve(self: &Arc<Self>, listener: TcpListener) -> JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((program, _)) => {
                        let Ok(permit) = Arc::clone(&this.free).try_acquire_owned() else { continue };
                        let this = Arc::clone(&this);
                        tokio::spawn(async move {
                            if let Err(ended) = this.run(program).await {
                                tracing::debug!(%ended, "a SOCKS connection ended");
                            }
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "SOCKS5 cannot accept for now");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }

    /// One program's connection.
    async fn run(&self, mut program: TcpStream) -> Result<(), Ended> {
        program.set_nodelay(true)?;
        let mut buffer = BytesMut::new();
        let handshake = timeout(HANDSHAKE_TIME_MAX, self.handshake(&mut program, &mut buffer)).await;
        let (acting, request) = handshake.map_err(|_| Ended::Gone)??;
        let opened = tokio::select! {
            opened = self.open(&acting, &request) => opened,
            () = gone(&program) => return Err(Ended::Gone),
        };
        let far = match opened {
            Ok(far) => far,
            Err(code) => return refuse(program, &codec::reply(code)).await,
        };
        program.write_all(&codec::reply(Reply::Succeeded)).await?;
        match far {
            Far::Overlay(mut channel) => {
                if !buffer.is_empty() {
                    channel.writer.send(buffer.freeze()).await.map_err(Broken::from)?;
                }
                Ok(pump::pump(program, channel, &self.traffic).await?)
            }
            Far::Clearnet(mut stream) => {
                stream.write_all(&buffer).await?;
                tokio::io::copy_bidirectional(&mut program, &mut stream).await?;
                Ok(())
            }
        }
    }

    /// Greeting, login, request. Answers failures itself. What came after the request stays in `buffer`.
    async fn handshake(&self, program: &mut TcpStream, buffer: &mut BytesMut) -> Result<(String, Request), Ended> {
        let method = message(program, buffer, codec::greeting).await?;
        program.write_all(&codec::choice(method)).await?;
        let acting = match method {
            Method::None => self.caller(program)?.unnamed,
            Method::Login => self.login(program, buffer).await?,
            Method::Unacceptable => return Err(Ended::Login),
        };
        match message(program, buffer, codec::request).await {
            Err(Ended::Malformed(Malformed::Request(code))) => {
                program.write_all(&codec::reply(code)).await?;
                program.shutdown().await?;
                Err(Malformed::Request(code).into())
            }
            request => Ok((acting, request?)),
        }
    }

    /// The identity that the user name names; an unknown one, or one that is not the caller's to act as, is a
    /// failure, never the default.
    async fn login(&self, program: &mut TcpStream, buffer: &mut BytesMut) -> Result<String, Ended> {
        let user = message(program, buffer, codec::login).await?;
        let caller = self.caller(program)?;
        let acting = caller.acting(Some(user.as_str()).filter(|user| !user.is_empty()));
        let good = match acting {
            Some(acting) => self.is_identity(acting).await,
            None => false,
        };
        program.write_all(&codec::login_answer(good)).await?;
        match acting {
            Some(acting) if good => Ok(acting.to_owned()),
            Some(_) | None => {
                program.shutdown().await?;
                Err(Ended::Login)
            }
        }
    }

    /// Who is behind a connection.
    fn caller(&self, program: &TcpStream) -> io::Result<Caller> {
        Ok(self.callers.of_connection(program.peer_addr()?, program.local_addr()?))
    }

    /// Whether there is an identity of that name.
    async fn is_identity(&self, name: &str) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = self.handle.control(AdminCall::IdentityList(reply)).await;
        match (asked, answer.await) {
            (Some(()), Ok(Ok(all))) => all.iter().any(|identity| identity.name == name),
            _ => false,
        }
    }

    /// Opens what the program asks for, or gives the code to refuse with.
    async fn open(&self, acting: &str, request: &Request) -> Result<Far, Reply> {
        let port = request.port;
        match route(&request.address, self.book.as_ref(), &self.suffix) {
            Route::Overlay(name) => self.overlay(acting, &name, port).await.map_err(code),
            Route::Name(name) => match self.overlay(acting, &name, port).await {
                Err(ConnectError::NoSuchName) if self.allow_clearnet && self.is_foreign(acting, &name).await => {
                    let uri: Result<crate::config::PeerUri, _> = format!("tcp://{name}").parse();
                    clearnet(&uri.map_err(|_| Reply::HostUnreachable)?.host, port).await
                }
                opened => opened.map_err(code),
            },
            Route::Clearnet(ip) if self.allow_clearnet => clearnet(&Host::Address(ip, None), port).await,
            Route::Clearnet(_) => Err(Reply::NotAllowed),
            Route::Nowhere => Err(Reply::HostUnreachable),
        }
    }

    /// Opens a channel to a name.
    async fn overlay(&self, acting: &str, name: &str, port: u16) -> Result<Far, ConnectError> {
        let request = ConnectRequest {
            acting: acting.to_owned(),
            target: Target::Name(name.to_owned()),
            port: Port::from(port),
            mode: Mode::ReliableOrdered,
            early: Bytes::new(),
        };
        self.handle.connect(request).await.map(Far::Overlay)
    }

    /// Whether the last label of a name means nothing to us: only then may the name leave for the clearnet.
    async fn is_foreign(&self, acting: &str, name: &str) -> bool {
        matches!(
            self.handle.resolve(acting, last_label(name)).await,
            Err(ResolveError::NoSuchName | ResolveError::BadName)
        )
    }
}

/// Reads until `parse` has its message.
async fn message<T>(
    program: &mut TcpStream,
    buffer: &mut BytesMut,
    parse: fn(&[u8]) -> codec::Parsed<T>,
) -> Result<T, Ended> {
    loop {
        if let Some((message, len)) = parse(buffer)? {
            buffer.advance(len);
            return Ok(message);
        }
        if buffer.len() >= MESSAGE_LEN_MAX {
            return Err(Malformed::Message.into());
        }
        buffer.reserve(MESSAGE_LEN_MAX);
        if program.read_buf(buffer).await? == 0 {
            return Err(Ended::Gone);
        }
    }
}

/// Resolves once the program has closed without sending more; never when it has sent more.
async fn gone(program: &TcpStream) {
    if let Ok(1..) = program.peek(&mut [0]).await {
        std::future::pending().await
    }
}

/// Sends a last message and closes.
async fn refuse(mut program: TcpStream, message: &[u8]) -> Result<(), Ended> {
    program.write_all(message).await?;
    program.shutdown().await?;
    Ok(())
}

/// Dials a host of the clearnet.
async fn clearnet(host: &Host, port: u16) -> Result<Far, Reply> {
    connect_host(host, port).await.map(Far::Clearnet).map_err(|error| match error {
        DialError::Timeout => Reply::TimedOut,
        DialError::Refused(_, source) if source.kind() == io::ErrorKind::ConnectionRefused => Reply::Refused,
        DialError::Refused(_, source) if source.kind() == io::ErrorKind::NetworkUnreachable => {
            Reply::NetworkUnreachable
        }
        DialError::Refused(..) | DialError::Lookup(..) | DialError::Interface(_) | DialError::NoAddress => {
            Reply::HostUnreachable
        }
    })
}

/// The reply code of a failed connection (INTERFACE.md, "SOCKS5").
fn code(error: ConnectError) -> Reply {
    match error {
        ConnectError::NoSuchName => Reply::HostUnreachable,
        ConnectError::NoRoute => Reply::NetworkUnreachable,
        ConnectError::Refused(Refusal::NotAllowed) | ConnectError::UnknownIdentity => Reply::NotAllowed,
        ConnectError::Refused(
            Refusal::NoListener
            | Refusal::ModeMismatch
            | Refusal::LocalRefused
            | Refusal::LocalUnreachable
            | Refusal::TooMany,
        ) => Reply::Refused,
        ConnectError::NameTimeout | ConnectError::Timeout => Reply::TimedOut,
        ConnectError::TooMany | ConnectError::Stopping => Reply::Failure,
    }
}
