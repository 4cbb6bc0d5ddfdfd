//! A stack against a program's TCP made of smoltcp too, by hand: every packet is carried over here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use smoltcp::wire::IpEndpoint;

use super::*;

const MTU: usize = 1_500;

/// Packets on their way to the program.
#[derive(Default)]
pub struct Wire(RefCell<VecDeque<Vec<u8>>>);

impl Transmit for Wire {
    fn transmit_with<R>(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut packet = vec![0xaa; length];
        let filled = fill(&mut packet);
        self.0.borrow_mut().push_back(packet);
        filled
    }
}

/// The program's device: what arrives for it, and what it sends.
#[derive(Default)]
struct Nic {
    arrived: VecDeque<Vec<u8>>,
    sent: Wire,
    said: Cell<Option<Said>>,
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl Device for Nic {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Outgoing<'a, Wire>;

    fn receive(&mut self, _now: StackInstant) -> Option<(Arrived, Outgoing<'_, Wire>)> {
        Some((Arrived(self.arrived.pop_front()?), Outgoing(&self.sent, &self.said)))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Outgoing<'_, Wire>> {
        Some(Outgoing(&self.sent, &self.said))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // Verifies what we send: the checksums that we begin must be right.
        capabilities
    }
}

/// A packet of ours with its checksum finished, as the kernel does: the sum from the start that we gave goes where we
/// said.
fn finished(mut packet: Vec<u8>) -> Vec<u8> {
    let Some((start, place)) = partial_checksum(&mut packet) else { return packet };
    let (start, at) = (usize::from(start), usize::from(start + place));
    let mut sum: u32 = packet[start..]
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)])))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[at..at + 2].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    packet
}

/// A program that connects, and our stack for its connection.
struct Pair {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    nic: Nic,
    stack: Stack,
    wire: Wire,
    now: Instant,
    start: Instant,
}

impl Pair {
    fn new(receive_buffer: usize) -> Self {
        Self::between("198.18.0.1:40000", "198.18.0.9:80", receive_buffer)
    }

    fn between(program: &str, name: &str, receive_buffer: usize) -> Self {
        let now = Instant::now();
        let (program, name): (SocketAddr, SocketAddr) = (program.parse().unwrap(), name.parse().unwrap());
        let mut nic = Nic::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut nic, StackInstant::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(program.ip().into(), 15)).unwrap());
        let mut socket = Socket::new(SocketBuffer::new(vec![0; receive_buffer]), SocketBuffer::new(vec![0; 1 << 16]));
        socket.set_nagle_enabled(false);
        socket.connect(interface.context(), IpEndpoint::from(name), program.port()).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        let stack = Stack::hold(now, name, MTU, 7);
        Self { interface, sockets, socket, nic, stack, wire: Wire::default(), now, start: now }
    }

    fn program(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Carries packets both ways until there are none.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let at = StackInstant::from_micros(i64::try_from((self.now - self.start).as_micros()).unwrap());
            self.interface.poll(at, &mut self.nic, &mut self.sockets);
            let packets: Vec<Vec<u8>> = self.nic.sent.0.borrow_mut().drain(..).collect();
            for packet in &packets {
                self.stack.take_packet(self.now, packet, &self.wire);
                self.stack.respond(self.now, &self.wire);
            }
            self.nic.arrived.extend(self.wire.0.borrow_mut().drain(..).map(finished));
            if self.nic.arrived.is_empty() && packets.is_empty() {
                return;
            }
        }
        panic!("packets for ever");
    }

    fn read_all(&mut self) -> (Vec<u8>, Read) {
        let mut all = Vec::new();
        loop {
            match self.stack.read() {
                Read::Bytes(bytes) => all.extend_from_slice(&bytes),
                end => return (all, end),
            }
            self.stack.flush(self.now, &self.wire);
            self.settle();
        }
    }
}

#[test]
fn a_held_syn_is_answered_by_nothing_until_it_is_opened() {
    let mut pair = Pair::new(1 << 16);
    pair.settle();
    assert_eq!(pair.program().state(), State::SynSent);
    assert!(pair.stack.held && pair.stack.poll_timeout(pair.now).is_none());
    // The program repeats its SYN: still nothing.
    pair.now += Duration::from_secs(3);
    pair.settle();
    assert_eq!(pair.program().state(), State::SynSent);
    assert_eq!((pair.stack.read(), pair.stack.write(b"x")), (Read::Empty, Ok(0)));
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    assert_eq!(pair.program().state(), State::Established);
}

#[test]
fn a_refused_syn_is_reset_at_once() {
    let mut pair = Pair::new(1 << 16);
    pair.settle();
    pair.stack.abort(pair.now, &pair.wire);
    pair.settle();
    assert_eq!(pair.program().state(), State::Closed);
    assert!(pair.stack.over());
}

#[test]
fn bytes_pass_both_ways_and_each_side_half_closes_after_its_data() {
    both_ways(Pair::new(1 << 16));
    both_ways(Pair::between("[fd00::1]:40000", "[fd00::9]:80", 1 << 16));
}

fn both_ways(mut pair: Pair) {
    pair.settle();
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    let sent: Vec<u8> = (0..200_u8).cycle().take(50_000).collect();
    assert_eq!(pair.program().send_slice(&sent), Ok(sent.len()));
    pair.program().close();
    pair.settle();
    assert_eq!(pair.read_all(), (sent.clone(), Read::Finished));
    // The program has finished; our direction still works.
    assert_eq!(pair.stack.write(&sent), Ok(sent.len()));
    pair.stack.finish(pair.now, &pair.wire);
    pair.settle();
    let mut got = vec![0; sent.len() + 1];
    let length = pair.program().recv_slice(&mut got).unwrap();
    assert_eq!(got[..length], sent);
    assert!(!pair.program().may_recv());
    assert!(pair.stack.over());
}

#[test]
fn our_fin_waits_for_data_that_the_program_reads_late_through_a_tiny_window() {
    through_a_window(64, 10_000);
    through_a_window(1, 500);
}

/// Sends `length` bytes and finishes; the program has room for `window` bytes, and reads late.
fn through_a_window(window: usize, length: usize) {
    let mut pair = Pair::new(window);
    pair.settle();
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    let sent: Vec<u8> = (0..250_u8).cycle().take(length).collect();
    assert_eq!(pair.stack.write(&sent), Ok(sent.len()));
    pair.stack.finish(pair.now, &pair.wire);
    let mut got = Vec::new();
    for _ in 0..2_000 {
        pair.settle();
        let mut some = [0; 64];
        match pair.program().recv_slice(&mut some) {
            Ok(length) => got.extend_from_slice(&some[..length]),
            Err(error) => {
                assert_eq!(error, RecvError::Finished);
                break;
            }
        }
        if let Some(due) = pair.stack.poll_timeout(pair.now) {
            pair.now = pair.now.max(due.min(pair.now + Duration::from_millis(50)));
            pair.stack.handle_timeout(pair.now, &pair.wire);
        }
    }
    assert_eq!(got, sent);
}

#[test]
fn a_program_that_stops_reading_stops_us_and_is_not_lost() {
    let mut pair = Pair::new(4_096);
    pair.settle();
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    let chunk = vec![5; 1 << 16];
    let mut taken = 0;
    while let Ok(more @ 1..) = pair.stack.write(&chunk) {
        taken += more;
        pair.stack.flush(pair.now, &pair.wire);
        pair.settle();
        assert!(taken <= SOCKET_BUFFER_BYTES + 4_096);
    }
    assert!(!pair.stack.writable());
    let mut read = 0;
    while read < taken {
        let mut some = [0; 4_096];
        read += pair.program().recv_slice(&mut some).unwrap();
        pair.settle();
        // Zero windows are probed by the stack's timer.
        pair.now += Duration::from_millis(1_100);
        pair.stack.handle_timeout(pair.now, &pair.wire);
        pair.settle();
    }
    assert!(pair.stack.writable());
}

#[test]
fn resets_are_seen_on_either_side() {
    let mut pair = Pair::new(1 << 16);
    pair.settle();
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    pair.program().abort();
    pair.settle();
    assert!(pair.stack.over());
    assert_eq!((pair.stack.read(), pair.stack.write(b"x")), (Read::Broken, Err(Broken)));

    let mut pair = Pair::new(1 << 16);
    pair.settle();
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    pair.stack.abort(pair.now, &pair.wire);
    pair.settle();
    assert_eq!(pair.program().state(), State::Closed);
}

#[test]
fn a_program_that_gave_up_before_the_answer_ends_the_flow() {
    let mut pair = Pair::new(1 << 16);
    pair.settle();
    pair.program().abort();
    pair.settle();
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    assert!(pair.stack.over());
}

#[test]
fn a_finished_flow_does_not_wait_for_ever_for_a_kernel_that_is_silent() {
    let mut pair = Pair::new(1 << 16);
    pair.settle();
    pair.stack.open(pair.now, &pair.wire);
    pair.settle();
    assert_eq!(pair.stack.write(b"never acknowledged"), Ok(18));
    pair.stack.finish(pair.now, &pair.wire);
    pair.stack.linger(pair.now, &pair.wire);
    for _ in 0..100 {
        let Some(due) = pair.stack.poll_timeout(pair.now) else { break };
        assert!(due >= pair.now + TIMER_MIN);
        pair.now = due;
        pair.stack.handle_timeout(pair.now, &pair.wire);
    }
    assert!(pair.stack.over() && pair.now - pair.start <= CLOSE_TIMEOUT + Duration::from_secs(2));
}

#[test]
fn acknowledgement_beyond_a_closed_window_is_heard_alone_and_in_place() {
    let said = Said { next: 0x0102_0304, window: 0 };
    for (ip, at) in [(20, 2), (40, 4)] {
        let mut packet = vec![0; ip + TCP_HEADER_LEN + 15];
        (packet[0], packet[if ip == 20 { 9 } else { 6 }]) = (if ip == 20 { 0x45 } else { 0x60 }, 6);
        packet[ip + 4..ip + 8].copy_from_slice(&[1, 2, 3, 9]);
        packet[ip + 8..ip + 12].copy_from_slice(&[7, 7, 7, 7]);
        (packet[ip + 12], packet[ip + 13]) = (0x50, ACK | 1);
        let heard = bare(&packet, said).unwrap();
        assert_eq!(heard.len(), ip + TCP_HEADER_LEN);
        assert_eq!(heard[ip + 4..ip + 12], [1, 2, 3, 4, 7, 7, 7, 7], "what it acknowledges, where we expect it");
        assert_eq!(heard[ip + 13], ACK, "no end and no data");
        let length = usize::from(u16::from_be_bytes([heard[at], heard[at + 1]]));
        assert_eq!(length, if ip == 20 { 40 } else { 20 });
        assert!(bare(&heard, said).is_none(), "that one is acceptable as it is");
        packet[ip + 13] = RST | ACK;
        assert!(bare(&packet, said).is_none(), "a reset is no acknowledgement");
        for length in 0..packet.len() {
            let _ = (bare(&packet[..length], said), Said::of(&packet[..length]));
        }
    }
}
