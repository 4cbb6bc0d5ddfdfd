//! One intercepted TCP connection, as a machine: packets of our kernel in, packets out,
//! and a byte stream with both half-closes in between. Each connection has a smoltcp
//! interface of its own, so that work per packet does not grow with connections.
//!
//! States: *held* (the SYN has arrived, nothing is answered) -> *open* -> *over*.
//! [`Stack::open`] sends the SYN-ACK, [`Stack::abort`] a reset; dropping a held stack says nothing.
//! Timers: smoltcp's retransmission and zero-window probes, through [`Stack::poll_timeout`].
//! Bounds: two buffers of [`SOCKET_BUFFER_BYTES`]. Deliberately missing: TIME-WAIT (the
//! peer is our own kernel and the device loses nothing, so a closed connection is gone at
//! once), Nagle, delayed ACKs, congestion control.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};

use super::limits::{CLOSE_TIMEOUT, LITTLE_BYTES, READ_BYTES_MAX, SOCKET_BUFFER_BYTES, TIMER_MIN};

/// Where packets for our kernel go, with TCP's checksum left at zero. It must not block; a packet that cannot be
/// taken is lost, and TCP repairs it.
pub trait Transmit {
    /// Sends the packet of `length` bytes that `fill` writes.
    fn transmit_with<R>(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes, in order.
    Bytes(Bytes),
    /// Nothing yet.
    Empty,
    /// The program has finished its direction, and everything was read.
    Finished,
    /// The connection broke.
    Broken,
}

/// The program's side of the connection is broken or closed for writing.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// One connection.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    /// The clock's zero.
    start: Instant,
    mtu: usize,
    held: bool,
    /// What our last segment said.
    said: Cell<Option<Said>>,
}

impl Stack {
    /// A held connection from `remote` (the program) to `local` (the address it connects to);
    /// the SYN must follow through [`Self::take_packet`]. `seed` chooses our first sequence number.
    #[must_use]
    pub fn hold(now: Instant, local: SocketAddr, mtu: usize, seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut NoDevice { mtu }, StackInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // A fresh list has room for one.
            let _ = addresses.push(IpCidr::new(local.ip().into(), prefix_len(local.ip())));
        });
        let buffer = || SocketBuffer::new(vec![0; SOCKET_BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.pause_synack(true);
        let endpoint = IpListenEndpoint { addr: Some(IpAddress::from(local.ip())), port: local.port() };
        // Fails for port 0 only: such a SYN then meets a closed socket, and is reset.
        let _ = socket.listen(endpoint);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(socket);
        Self { interface, sockets, socket, start: now, mtu, held: true, said: Cell::default() }
    }

    /// A packet of this connection from our kernel, which is answered by [`Self::respond`] or [`Self::flush`]; a reset
    /// and the like at once.
    pub fn take_packet(&mut self, now: Instant, packet: &[u8], out: &impl Transmit) {
        let now = self.stack_time(now);
        // With a window of zero smoltcp drops a segment with what it acknowledges. When the program sends and receives
        // without end, both sides would then wait for each other: the special allowance of RFC 9293 §3.10.7.4.
        if let Some(bare) = self.said.get().filter(|said| said.window == 0).and_then(|said| bare(packet, said)) {
            let mut device = Port { packet: Some(&bare), out, mtu: self.mtu, said: &self.said };
            let _ = self.interface.poll_ingress_single(now, &mut device, &mut self.sockets);
        }
        let mut device = Port { packet: Some(packet), out, mtu: self.mtu, said: &self.said };
        let _ = self.interface.poll_ingress_single(now, &mut device, &mut self.sockets);
    }

    /// Says what is to be said, once the program may know that it is connected.
    pub fn respond(&mut self, now: Instant, out: &impl Transmit) {
        if !self.held {
            self.flush(now, out);
        }
    }

    /// Timers that are due; early calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant, out: &impl Transmit) {
        self.flush(now, out);
    }

    /// When [`Self::handle_timeout`] wants to be called; never within [`TIMER_MIN`] of `now`.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.held {
            return None;
        }
        let delay = self.interface.poll_delay(self.stack_time(now), &self.sockets)?;
        Some(now + Duration::from(delay).max(TIMER_MIN))
    }

    /// Answers the SYN: the program is connected.
    pub fn open(&mut self, now: Instant, out: &impl Transmit) {
        self.held = false;
        self.socket_mut().pause_synack(false);
        self.flush(now, out);
    }

    /// Resets the connection: refused if it was held, reset if it was open.
    pub fn abort(&mut self, now: Instant, out: &impl Transmit) {
        self.held = false;
        let socket = self.socket_mut();
        socket.pause_synack(false);
        socket.abort();
        self.flush(now, out);
    }

    /// Takes what the program sent, at most [`READ_BYTES_MAX`]. Follow it with [`Self::flush`], which opens the window.
    pub fn read(&mut self) -> Read {
        let taken = self.socket_mut().recv(|ready| {
            let ready = &ready[..ready.len().min(READ_BYTES_MAX)];
            (ready.len(), Bytes::copy_from_slice(ready))
        });
        match taken {
            Ok(bytes) if bytes.is_empty() => Read::Empty,
            Ok(bytes) => Read::Bytes(bytes),
            Err(RecvError::Finished) => Read::Finished,
            // Not established yet.
            Err(RecvError::InvalidState) if self.state() == State::SynReceived => Read::Empty,
            Err(RecvError::InvalidState) => Read::Broken,
        }
    }

    /// Queues bytes for the program and says how many were taken. Follow it with [`Self::flush`].
    ///
    /// # Errors
    /// The connection broke.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let state = self.state();
        match self.socket_mut().send_slice(bytes) {
            Ok(taken) => Ok(taken),
            Err(_) if state == State::SynReceived => Ok(0),
            Err(_) => Err(Broken),
        }
    }

    /// Ends our direction once everything written has been sent, and gives the program
    /// [`CLOSE_TIMEOUT`] to answer what it has not answered yet.
    pub fn finish(&mut self, now: Instant, out: &impl Transmit) {
        self.socket_mut().close();
        self.flush(now, out);
    }

    /// Both directions are done: our kernel must acknowledge what is left within [`CLOSE_TIMEOUT`].
    pub fn linger(&mut self, now: Instant, out: &impl Transmit) {
        let timeout = smoltcp::time::Duration::from(CLOSE_TIMEOUT);
        self.socket_mut().set_timeout(Some(timeout));
        self.flush(now, out);
    }

    /// Sends whatever can be sent.
    pub fn flush(&mut self, now: Instant, out: &impl Transmit) {
        let now = self.stack_time(now);
        let mut device = Port { packet: None, out, mtu: self.mtu, said: &self.said };
        while self.interface.poll_egress(now, &mut device, &mut self.sockets) != smoltcp::iface::PollResult::None {}
    }

    /// Whether [`Self::read`] would give something other than [`Read::Empty`].
    #[must_use]
    pub fn readable(&self) -> bool {
        let socket = self.socket_ref();
        socket.can_recv() || (!socket.may_recv() && self.state() != State::SynReceived)
    }

    /// Whether bytes of the program wait to be read.
    #[must_use]
    pub fn readable_bytes(&self) -> bool {
        self.socket_ref().can_recv()
    }

    /// Whether a few bytes of the program wait to be read, and nothing else of it.
    #[must_use]
    pub fn readable_little(&self) -> bool {
        (1..=LITTLE_BYTES).contains(&self.socket_ref().recv_queue()) && self.state() == State::Established
    }

    /// Whether [`Self::write`] would take a good part of a buffer, or fail.
    #[must_use]
    pub fn writable(&self) -> bool {
        let socket = self.socket_ref();
        match self.state() {
            State::SynReceived => false,
            _ => !socket.may_send() || socket.send_capacity() - socket.send_queue() >= SOCKET_BUFFER_BYTES / 4,
        }
    }

    /// Whether nothing is left to do: closed both ways, or broken.
    #[must_use]
    pub fn over(&self) -> bool {
        // Listen: a reset arrived while the SYN-ACK was out, and smoltcp went back to listening.
        matches!(self.state(), State::Closed | State::TimeWait | State::Listen)
    }

    /// smoltcp's state.
    fn state(&self) -> State {
        self.socket_ref().state()
    }

    /// The connection's socket.
    fn socket_ref(&self) -> &Socket<'static> {
        self.sockets.get::<Socket<'static>>(self.socket)
    }

    /// The connection's socket, to change it.
    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket<'static>>(self.socket)
    }

    /// Our time as smoltcp counts it.
    fn stack_time(&self, now: Instant) -> StackInstant {
        let since = now.saturating_duration_since(self.start).as_micros();
        StackInstant::from_micros(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

/// The prefix length of a single host.
fn prefix_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// What the device below the stack can do: packets from our own kernel need no verification, and [`Transmit`] sees to
/// the checksum of those to it.
fn capabilities(mtu: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu;
    let mut checksum = ChecksumCapabilities::ignored();
    checksum.ipv4 = Checksum::Tx;
    capabilities.checksum = checksum;
    capabilities
}

/// The device of a connection for the length of one call: at most one packet in, any number out.
struct Port<'a, T> {
    packet: Option<&'a [u8]>,
    out: &'a T,
    mtu: usize,
    said: &'a Cell<Option<Said>>,
}

impl<T: Transmit> Device for Port<'_, T> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a, T>
    where
        Self: 'a;

    fn receive(&mut self, _now: StackInstant) -> Option<(Received<'_>, Outgoing<'_, T>)> {
        Some((Received(self.packet.take()?), Outgoing(self.out, self.said)))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Outgoing<'_, T>> {
        Some(Outgoing(self.out, self.said))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

/// The packet that came in.
struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for one packet out.
struct Outgoing<'a, T>(&'a T, &'a Cell<Option<Said>>);

impl<T: Transmit> TxToken for Outgoing<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        self.0.transmit_with(length, |packet| {
            let result = fill(packet);
            self.1.set(Said::of(packet).or(self.1.get()));
            result
        })
    }
}

/// What our last segment told the program's side.
#[derive(Debug, Clone, Copy)]
struct Said {
    /// The next byte that we expect.
    next: u32,
    /// The window, in units of the scale.
    window: u16,
}

impl Said {
    /// What a segment of ours says; `None` for any other packet.
    fn of(packet: &[u8]) -> Option<Self> {
        let tcp = packet.get(ip_header_len(packet)?..)?;
        let (ack, window) = (tcp.get(8..12)?, tcp.get(14..16)?);
        let acknowledges = tcp.get(13)? & ACK != 0;
        let said = Self {
            next: u32::from_be_bytes(ack.try_into().ok()?),
            window: u16::from_be_bytes(window.try_into().ok()?),
        };
        acknowledges.then_some(said)
    }
}

/// The acknowledgement alone of a segment that lies beyond a window of zero, at the place where it is heard. `None`
/// where there is nothing to save: other flags, or a segment that is acceptable as it is. Checksums are not verified.
fn bare(packet: &[u8], said: Said) -> Option<Vec<u8>> {
    let ip_len = ip_header_len(packet)?;
    let tcp = packet.get(ip_len..)?;
    let tcp_len = usize::from(tcp.get(12)? >> 4) * 4;
    let flags = *tcp.get(13)?;
    let next = said.next.to_be_bytes();
    if flags & (ACK | SYN | RST) != ACK || tcp_len < TCP_HEADER_LEN || (tcp.len() <= tcp_len && tcp.get(4..8)? == next)
    {
        return None;
    }
    let mut bare = packet.get(..ip_len + tcp_len)?.to_vec();
    bare.get_mut(ip_len + 4..ip_len + 8)?.copy_from_slice(&next);
    *bare.get_mut(ip_len + 13)? = ACK;
    let (at, length) = if packet.first()? >> 4 == 4 { (2, ip_len + tcp_len) } else { (4, tcp_len) };
    bare.get_mut(at..at + 2)?.copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    Some(bare)
}

/// Bytes of the IP header before TCP; `None` for what is not TCP right behind it.
fn ip_header_len(packet: &[u8]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 if *packet.get(9)? == super::packet::TCP => Some(usize::from(packet.first()? & 15) * 4),
        6 if *packet.get(6)? == super::packet::TCP => Some(IPV6_HEADER_LEN),
        _ => None,
    }
}

/// Makes the checksum of a TCP packet without one the kernel's to finish: puts the sum of the pseudo-header there
/// (RFC 9293 §3.1). Where the sum begins, and where behind it the checksum stands; `None` for no TCP packet.
pub fn partial_checksum(packet: &mut [u8]) -> Option<(u16, u16)> {
    let start = ip_header_len(packet)?;
    let addresses = if packet.first()? >> 4 == 4 { packet.get(12..20)? } else { packet.get(8..40)? };
    let words = addresses.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let length = u32::try_from(packet.len().checked_sub(start)?).ok()?;
    let sum = words.sum::<u32>() + u32::from(super::packet::TCP) + (length >> 16) + (length & 0xffff);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).ok()?;
    packet.get_mut(start + CHECKSUM_AT..start + CHECKSUM_AT + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some((u16::try_from(start).ok()?, u16::try_from(CHECKSUM_AT).ok()?))
}

/// Where a TCP header has its checksum.
const CHECKSUM_AT: usize = 16;
/// Bytes of an IPv6 header.
const IPV6_HEADER_LEN: usize = 40;
/// Bytes of a TCP header without options.
const TCP_HEADER_LEN: usize = 20;
/// Flags of a TCP header (RFC 9293 §3.1).
const SYN: u8 = 0x02;
/// The connection is reset.
const RST: u8 = 0x04;
/// The acknowledgement counts.
const ACK: u8 = 0x10;

/// Tells a new interface its capabilities; it never carries a packet.
struct NoDevice {
    mtu: usize,
}

impl Transmit for () {
    fn transmit_with<R>(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        fill(&mut vec![0; length])
    }
}

impl Device for NoDevice {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Outgoing<'a, ()>;

    fn receive(&mut self, _now: StackInstant) -> Option<(Received<'_>, Outgoing<'_, ()>)> {
        None
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Outgoing<'_, ()>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

#[cfg(test)]
mod tests;
