//! Connections: dialled, accepted, carried, closed. Each end plays the connection task of the
//! daemon (`transport/{conn,read,write}.rs` there).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tarnet_core::crypto::PeerId;
use tarnet_core::link::limits::UNSENT_MIN;
use tarnet_core::link::{ConnId, Opener, Pin, Sealer, Transmit};
use tarnet_core::node::Input;
use tarnet_core::time::{Instant, micros};
use tarnet_core::wire::{kind, link::next_message};

use super::pipe::{Pipe, Shape};
use super::reach::{Reach, address};
use super::{Kinds, Network};
use crate::topology::Edge;

/// A dial that is not answered is given up after this, as in the daemon.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// First pause after a failed dial or a lost connection, as in the daemon.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause between dials, as in the daemon (PROTOCOL.md §2).
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How far pauses move at random, percent, as in the daemon.
const BACKOFF_JITTER_PERCENT: u32 = 25;
/// Machines are switched on within this time of each other.
const START_SPREAD: Duration = Duration::from_millis(500);
/// Headers of TCP and IP that a close costs.
const CLOSE_LEN: usize = 40;

/// What happens at a point in time.
pub(super) enum Happening {
    /// A node's deadline may be due.
    Wake {
        /// The machine.
        host: usize,
    },
    /// A cable's first end dials.
    Dial {
        /// The cable.
        cable: usize,
        /// The dial that this is; an older one is void.
        round: u64,
    },
    /// A dial was answered.
    Connected {
        /// The connection.
        conn: usize,
    },
    /// A frame is at an end.
    Frame {
        /// The connection.
        conn: usize,
        /// The end that gets it.
        end: usize,
        /// The frame.
        frame: BytesMut,
    },
    /// A batch was written.
    Written {
        /// The connection.
        conn: usize,
        /// The end that wrote it.
        end: usize,
    },
    /// The other end's close is at this one.
    Closed {
        /// The connection.
        conn: usize,
        /// The end that hears of it.
        end: usize,
    },
}

/// A cable between two machines.
pub(super) struct Cable {
    /// The dialling end and the other.
    pub(super) ends: [usize; 2],
    /// What it is like.
    pub(super) shape: Shape,
    /// Nothing passes.
    pub(super) cut: bool,
    /// The connection it carries or tries.
    pub(super) conn: Option<usize>,
    /// No cable, but a way to that peer where it said that it can be dialled.
    pub(super) pin: Option<PeerId>,
    /// The pause before the next dial.
    backoff: Duration,
    /// The number of the last dial planned.
    round: u64,
    /// One per direction, by the sending end.
    pipes: [Pipe; 2],
}

impl Cable {
    /// A cable that nobody has dialled over.
    pub(super) fn new(edge: &Edge) -> Self {
        Self::over([edge.from, edge.to], edge.shape)
    }

    /// The same between any two.
    pub(super) fn over(ends: [usize; 2], shape: Shape) -> Self {
        Self {
            ends,
            shape,
            cut: false,
            conn: None,
            pin: None,
            backoff: BACKOFF_MIN,
            round: 0,
            pipes: [Pipe::default(); 2],
        }
    }

    /// Whether it is one of the graph's, and not cut.
    pub(super) fn works(&self) -> bool {
        !self.cut && self.pin.is_none()
    }
}

/// One end of a connection: a connection task.
#[derive(Default)]
struct End {
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    /// Its node holds it.
    open: bool,
    /// Bytes that its socket may hold unsent, where sockets are simulated.
    unsent: Option<u32>,
}

/// A connection. Its number is its [`ConnId`] at both ends.
pub(super) struct Conn {
    cable: usize,
    ends: [End; 2],
    /// The cable was cut under it, or an end died: nothing is delivered any more.
    pub(super) broken: bool,
}

/// The number that nodes know a connection by.
pub(super) fn conn_id(conn: usize) -> ConnId {
    ConnId(conn as u64)
}

/// The connection of a number.
fn conn_index(conn: ConnId) -> usize {
    usize::try_from(conn.0).expect("our own numbers are indices")
}

impl Network {
    /// Lets one thing happen.
    pub(super) fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wake { host } => self.on_wake(host),
            Happening::Dial { cable, round } => self.on_dial(cable, round),
            Happening::Connected { conn } => self.on_connected(conn),
            Happening::Frame { conn, end, frame } => self.on_frame(conn, end, frame),
            Happening::Written { conn, end } => {
                if self.conns[conn].ends[end].open && !self.conns[conn].broken {
                    self.feed(self.host_at(conn, end), Input::Ready { conn: conn_id(conn) });
                }
            }
            Happening::Closed { conn, end } => self.on_closed(conn, end),
        }
    }

    /// The machine at an end of a connection.
    fn host_at(&self, conn: usize, end: usize) -> usize {
        self.cables[self.conns[conn].cable].ends[end]
    }

    /// The end of a connection that a machine holds.
    fn end_of(&self, conn: usize, host: usize) -> usize {
        usize::from(self.host_at(conn, 0) != host)
    }

    /// Plans the first dials of a machine that was just switched on.
    pub(super) fn plan_dials(&mut self, host: usize) {
        for at in 0..self.hosts[host].cables.len() {
            let cable = self.hosts[host].cables[at];
            let Cable { ends, conn, pin, .. } = &self.cables[cable];
            if ends[0] == host && conn.is_none() && pin.is_none() {
                self.cables[cable].backoff = BACKOFF_MIN;
                let wait = Duration::from_micros(self.rng.public_below(micros(START_SPREAD)));
                self.plan_dial(cable, wait);
            }
        }
    }

    /// Plans a dial, in place of any planned before.
    pub(super) fn plan_dial(&mut self, cable: usize, wait: Duration) {
        self.cables[cable].round += 1;
        let round = self.cables[cable].round;
        self.queue.push(self.now + wait, Happening::Dial { cable, round });
    }

    /// Plans a dial after the pause that is due, and doubles the next one.
    fn plan_redial(&mut self, cable: usize) {
        if self.cables[cable].pin.is_some() {
            return;
        }
        let backoff = self.cables[cable].backoff;
        self.cables[cable].backoff = (backoff * 2).min(BACKOFF_MAX);
        let wait = self.rng.jitter(backoff, BACKOFF_JITTER_PERCENT);
        self.plan_dial(cable, wait);
    }

    /// Dials: a round trip if somebody answers, a refusal as quick if nobody listens, silence on a cut cable.
    fn on_dial(&mut self, cable: usize, round: u64) {
        let Cable { ends: [from, to], shape, cut, .. } = self.cables[cable];
        if round != self.cables[cable].round || self.cables[cable].conn.is_some() || !self.hosts[from].is_alive() {
            return;
        }
        let is_offer = self.cables[cable].pin.is_some();
        if is_offer && (cut || self.hosts[to].reach != Reach::Open || !self.hosts[to].is_alive()) {
            return;
        }
        if cut || !self.hosts[to].is_alive() {
            let wait = if cut { CONNECT_TIME_MAX } else { shape.delay * 2 };
            let wait = wait + self.cables[cable].backoff;
            self.cables[cable].backoff = (self.cables[cable].backoff * 2).min(BACKOFF_MAX);
            return self.plan_dial(cable, wait);
        }
        let conn = self.conns.len();
        self.conns.push(Conn { cable, ends: [End::default(), End::default()], broken: false });
        self.cables[cable].conn = Some(conn);
        self.cables[cable].pipes = [Pipe::default(); 2];
        let round_trip = self.rng.jitter(shape.delay * 2, shape.jitter_percent);
        self.queue.push(self.now + round_trip, Happening::Connected { conn });
    }

    /// A dial was answered: both ends know.
    fn on_connected(&mut self, conn: usize) {
        let Cable { ends: [from, to], cut, pin, .. } = self.cables[self.conns[conn].cable];
        if self.cables[self.conns[conn].cable].conn != Some(conn) {
            return;
        }
        if cut || self.conns[conn].broken || !self.hosts[from].is_alive() || !self.hosts[to].is_alive() {
            return self.give_up(conn);
        }
        for end in &mut self.conns[conn].ends {
            end.open = true;
        }
        self.feed(to, Input::Accepted { conn: conn_id(conn), source: address(from) });
        self.feed(from, Input::Dialed { conn: conn_id(conn), pin: pin.map_or(Pin::None, Pin::Required) });
    }

    /// A link came up over a connection: the next loss is dialled again soon.
    pub(super) fn on_link_up(&mut self, conn: ConnId) {
        let cable = self.conns[conn_index(conn)].cable;
        self.cables[cable].backoff = BACKOFF_MIN;
    }

    /// A frame arrived.
    fn on_frame(&mut self, conn: usize, end: usize, mut frame: BytesMut) {
        if self.conns[conn].broken || !self.conns[conn].ends[end].open {
            return;
        }
        let (host, id) = (self.host_at(conn, end), conn_id(conn));
        let Some(opener) = &mut self.conns[conn].ends[end].opener else {
            return self.feed(host, Input::Frame { conn: id, frame: frame.split().freeze() });
        };
        match opener.open(frame) {
            Ok(plaintext) => self.deliver(conn, host, plaintext),
            Err(_) => self.close(conn, end),
        }
    }

    /// Does what a node wants of its transports.
    pub(super) fn transmit(&mut self, host: usize, transmit: Transmit) {
        match transmit {
            Transmit::Handshake { conn, frame } => {
                self.hosts[host].traffic.frame_bytes += frame.len() as u64;
                let conn = conn_index(conn);
                self.send(conn, self.end_of(conn, host), BytesMut::from(frame.as_slice()));
            }
            Transmit::Established { conn, peer: _, sealer, opener } => {
                let conn = conn_index(conn);
                let end = self.end_of(conn, host);
                let end = &mut self.conns[conn].ends[end];
                (end.sealer, end.opener) = (Some(sealer), Some(opener));
            }
            Transmit::Batch { conn, batch } => self.send_batch(host, conn_index(conn), batch),
            Transmit::Mix { conn, open, seal } => {
                let conn = conn_index(conn);
                let end = self.end_of(conn, host);
                let end = &mut self.conns[conn].ends[end];
                end.opener.iter_mut().zip(open).for_each(|(opener, mix)| opener.mix(mix));
                end.sealer.iter_mut().zip(seal).for_each(|(sealer, mix)| sealer.mix(mix));
            }
            // What it sends is on its way already: only a processor would gain.
            Transmit::Rest { .. } => {}
            Transmit::Unsent { conn, len, bursts: _ } => {
                let conn = conn_index(conn);
                let end = self.end_of(conn, host);
                self.conns[conn].ends[end].unsent = Some(len);
            }
            Transmit::Close { conn, reason: _ } => {
                let conn = conn_index(conn);
                self.close(conn, self.end_of(conn, host));
            }
        }
    }

    /// Seals a batch and sends it; "ready" follows when it is written.
    fn send_batch(&mut self, host: usize, conn: usize, batch: BytesMut) {
        let (now, end) = (self.now(), self.end_of(conn, host));
        let batch = match &mut self.hosts[host].hostile {
            Some(hostile) => hostile.outgoing(batch),
            None => batch,
        };
        if self.forwards(host)
            && let Some(watch) = &mut self.watch
        {
            watch.see(host, &batch);
        }
        let (cells, all) = weigh(&batch, &mut self.kinds);
        let Some(sealer) = &mut self.conns[conn].ends[end].sealer else { return };
        let frame = sealer.seal(now, batch);
        let len = frame.len() as u64;
        let traffic = &mut self.hosts[host].traffic;
        traffic.frame_bytes += len;
        traffic.cell_bytes += (len * cells).checked_div(all).unwrap_or(0);
        if let Some(written) = self.send(conn, end, frame) {
            self.queue.push(written, Happening::Written { conn, end });
        }
    }

    /// Seals and sends a batch that the node knows nothing of.
    pub(super) fn send_aside(&mut self, host: usize, conn: usize, batch: BytesMut) {
        let (now, end) = (self.now(), self.end_of(conn, host));
        weigh(&batch, &mut self.kinds);
        let Some(sealer) = &mut self.conns[conn].ends[end].sealer else { return };
        let frame = sealer.seal(now, batch);
        self.hosts[host].traffic.frame_bytes += frame.len() as u64;
        self.send(conn, end, frame);
    }

    /// Puts a frame on the wire; says when it is written, `None` if never.
    fn send(&mut self, conn: usize, end: usize, frame: BytesMut) -> Option<Instant> {
        let Conn { cable, broken, ends } = &self.conns[conn];
        if *broken || !ends[end].open {
            return None;
        }
        let cable = &mut self.cables[*cable];
        let passage = cable.pipes[end].send(self.now, frame.len(), &cable.shape, &mut self.rng);
        self.queue.push(passage.arrives, Happening::Frame { conn, end: 1 - end, frame });
        let unsent = if self.sockets { ends[end].unsent.unwrap_or(UNSENT_MIN) } else { 0 };
        let ahead = cable.shape.time_of(u64::from(unsent));
        Some(Instant::from_micros(passage.written.as_micros().saturating_sub(micros(ahead))).max(self.now))
    }

    /// An end closes: its node is told, the far end hears of it behind what was sent before.
    pub(super) fn close(&mut self, conn: usize, end: usize) {
        if !std::mem::take(&mut self.conns[conn].ends[end].open) {
            return;
        }
        let cable = self.conns[conn].cable;
        if !self.conns[conn].broken {
            let Cable { pipes, shape, .. } = &mut self.cables[cable];
            let passage = pipes[end].send(self.now, CLOSE_LEN, shape, &mut self.rng);
            self.queue.push(passage.arrives, Happening::Closed { conn, end: 1 - end });
        }
        self.feed(self.host_at(conn, end), Input::Closed { conn: conn_id(conn) });
        self.redial_if_over(conn);
    }

    /// The far end closed.
    fn on_closed(&mut self, conn: usize, end: usize) {
        if !std::mem::take(&mut self.conns[conn].ends[end].open) {
            return;
        }
        self.feed(self.host_at(conn, end), Input::Closed { conn: conn_id(conn) });
        self.redial_if_over(conn);
    }

    /// The dialling end dials again once its end is closed.
    fn redial_if_over(&mut self, conn: usize) {
        let cable = self.conns[conn].cable;
        if self.cables[cable].conn == Some(conn) && !self.conns[conn].ends[0].open {
            self.cables[cable].conn = None;
            self.plan_redial(cable);
        }
    }

    /// A connection that came to nothing before either end knew it.
    fn give_up(&mut self, conn: usize) {
        self.conns[conn].broken = true;
        let cable = self.conns[conn].cable;
        self.cables[cable].conn = None;
        self.plan_redial(cable);
    }

    /// The process at one end died: the other end hears of it after the delay.
    pub(super) fn die(&mut self, conn: usize, host: usize) {
        let end = self.end_of(conn, host);
        let cable = self.conns[conn].cable;
        let was_open = std::mem::take(&mut self.conns[conn].ends[end].open);
        if was_open && !self.conns[conn].broken {
            let Cable { pipes, shape, .. } = &mut self.cables[cable];
            let passage = pipes[end].send(self.now, CLOSE_LEN, shape, &mut self.rng);
            self.queue.push(passage.arrives, Happening::Closed { conn, end: 1 - end });
        }
        if end == 0 || !was_open {
            self.cables[cable].conn = None;
            self.conns[conn].broken |= !was_open;
            self.plan_redial(cable);
        }
    }
}

/// Bytes of cells in a batch, and of all its messages, which are counted by kind.
fn weigh(batch: &BytesMut, kinds: &mut Kinds) -> (u64, u64) {
    // The first byte is the frame's flags.
    let mut rest = Bytes::copy_from_slice(batch.get(1..).unwrap_or_default());
    let (mut cells, all) = (0, rest.len() as u64);
    loop {
        let before = rest.len();
        let Ok(Some((kind, _))) = next_message(&mut rest) else { return (cells, all) };
        let len = (before - rest.len()) as u64;
        let entry = kinds.entry(kind).or_default();
        (entry.messages, entry.bytes) = (entry.messages + 1, entry.bytes + len);
        if kind == kind::CELL {
            cells += len;
        }
    }
}
