//! A flow between a channel and a kernel that never speaks after its SYN.

use std::time::Duration;

use super::*;
use crate::channel::{ChannelKey, channel};
use crate::tun::packet::Packet;

/// A SYN from 198.18.0.1:40000 to 198.18.0.9:80 with sequence number `sequence`.
fn syn(sequence: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 18, 0, 1, 198, 18, 0, 9];
    packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, sequence, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}

fn flow() -> Flow<()> {
    flow_to(())
}

/// A flow whose packets to the kernel go to `out`.
fn flow_to<T: Transmit>(out: T) -> Flow<T> {
    let bytes = syn(9);
    let packet = Packet::parse(&bytes).unwrap();
    let segment = packet.segment().unwrap();
    let stack = Stack::hold(Instant::now(), segment.destination, 1_500, 1);
    let flow = Flow::new(stack, out, segment.sequence, Quote::of(&packet));
    flow.handle_packet(&bytes);
    flow
}

/// What was sent to the kernel.
#[derive(Default)]
struct Sent(Mutex<Vec<Vec<u8>>>);

impl Transmit for Sent {
    fn transmit_with<R>(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut packet = vec![0; length];
        let result = fill(&mut packet);
        self.0.lock().unwrap().push(packet);
        result
    }
}

/// A segment behind the SYN with sequence number 9 and the answer to it.
fn segment(answer: &[u8], data: &[u8]) -> Vec<u8> {
    let mut packet = syn(10);
    packet[3] += u8::try_from(data.len()).unwrap();
    let next = u32::from_be_bytes(answer[24..28].try_into().unwrap()) + 1;
    packet[28..32].copy_from_slice(&next.to_be_bytes());
    packet[33] = 0x10;
    packet.extend(data);
    packet
}

#[tokio::test]
async fn a_question_is_on_its_way_before_it_is_acknowledged() {
    let flow = flow_to(Sent::default());
    let (kicks, _kicked) = crate::channel::Kicks::new(8);
    let (front, mut end) = channel(ChannelKey(1), kicks);
    let sent = || flow.out.0.lock().unwrap().split_off(0);
    let program = async {
        tokio::task::yield_now().await;
        let answer = sent().remove(0);
        flow.handle_packet(&segment(&answer, b""));
        tokio::task::yield_now().await;
        flow.handle_packet(&segment(&answer, b"?"));
        let mut asked = None;
        for _ in 0..10 {
            asked = end.take();
            if asked.is_some() {
                break;
            }
            assert!(sent().is_empty(), "acknowledged before it is sent on");
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.as_deref(), Some(&b"?"[..]));
        assert!(sent().is_empty(), "acknowledged before it is sent on");
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let acknowledgements = sent();
        assert_eq!(acknowledgements.len(), 1);
        assert_eq!(acknowledgements[0][28..32], 11_u32.to_be_bytes());
        end.fail(ChannelError::Lost);
    };
    let (carried, ()) = tokio::join!(biased; flow.carry(front), program);
    assert!(carried.is_err());
}

#[test]
fn another_syn_replaces_a_flow_and_the_same_one_does_not() {
    let flow = flow();
    assert!(!flow.replaced_by(9));
    assert!(flow.replaced_by(10));
    flow.with(|stack, out| stack.open(Instant::now(), out));
    assert!(!flow.replaced_by(9));
    assert!(flow.replaced_by(10));
}

#[tokio::test]
async fn a_channel_that_breaks_ends_the_flow() {
    let flow = flow();
    let (kicks, _kicked) = crate::channel::Kicks::new(8);
    let (front, mut end) = channel(ChannelKey(1), kicks);
    let breaks = async {
        tokio::task::yield_now().await;
        end.fail(ChannelError::Lost);
    };
    let (carried, ()) = tokio::join!(flow.carry(front), breaks);
    assert!(carried.is_err() && flow.lock().stack.over());
}

#[tokio::test]
async fn a_reset_by_the_program_resets_the_channel() {
    let flow = flow();
    let (kicks, _kicked) = crate::channel::Kicks::new(8);
    let (front, end) = channel(ChannelKey(1), kicks);
    let reset = async {
        tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
        let mut packet = syn(10);
        packet[33] = 0x04;
        flow.handle_packet(&packet);
    };
    let (carried, ()) = tokio::join!(flow.carry(front), reset);
    assert!(carried.is_err() && end.aborted());
}

#[test]
fn what_a_channel_has_ready_is_taken_without_waiting() {
    let (kicks, _kicked) = crate::channel::Kicks::new(8);
    let (mut front, mut end) = channel(ChannelKey(1), kicks);
    assert_eq!(ready(&mut front.reader), None);
    end.give(Bytes::from_static(b"a"));
    end.finish();
    assert_eq!(ready(&mut front.reader), Some(Ok(Some(Bytes::from_static(b"a")))));
    assert_eq!(ready(&mut front.reader), Some(Ok(None)));
}
