//! Connections over pipes in memory and over loopback, with stand-ins for the link's keys.

use std::time::Duration;

use bytes::BytesMut;
use tarnet_core::crypto::PeerId;
use tarnet_core::link::{Error as LinkError, Mix, Pin};
use tarnet_core::rng::Rng;
use tarnet_core::time::Now;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::limits::HANDSHAKE_LEN_MAX;
use super::*;

/// Turns every bit over, and counts.
struct Flip;

impl FrameSealer for Flip {
    fn seal(&mut self, _: Now, mut batch: BytesMut) -> BytesMut {
        batch.iter_mut().for_each(|byte| *byte = !*byte);
        batch
    }

    fn mix(&mut self, _: Mix) {}
}

impl FrameOpener for Flip {
    fn open(&mut self, frame: BytesMut) -> Result<BytesMut, LinkError> {
        let batch = self.seal(Now::ZERO, frame);
        if batch[0] == 0xff { Err(LinkError::BadFrame) } else { Ok(batch) }
    }

    fn mix(&mut self, _: Mix) {}
}

/// The next event, which must come soon.
async fn next(events: &mut Receiver<ConnEvent>) -> ConnEvent {
    timeout(Duration::from_secs(5), events.recv()).await.expect("an event in time").expect("the transport lives")
}

/// A started connection whose far end is raw bytes.
async fn accepted() -> (Receiver<ConnEvent>, ConnHandle, DuplexStream) {
    let (transport, mut events) = Transport::new(Clock::start());
    let (ours, theirs) = duplex(1 << 20);
    let (reader, writer) = split(ours);
    drop(transport.start(TcpPipe::over(reader, writer), Origin::Accepted("192.0.2.1:5".parse().unwrap()), ()));
    let ConnEvent::Accepted { handle, .. } = next(&mut events).await else { panic!("accepted first") };
    (events, handle, theirs)
}

/// A frame with its prefix.
fn framed(frame: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(frame.len()).unwrap().to_le_bytes().to_vec();
    out.extend_from_slice(frame);
    out
}

#[tokio::test]
async fn frames_behind_the_last_of_the_handshake_wait_for_the_keys() {
    let (mut events, handle, mut far) = accepted().await;
    let sealed: Vec<u8> = b"batch".iter().map(|byte| !byte).collect();
    let burst = [framed(b"one"), framed(b"three"), framed(&sealed)].concat();
    far.write_all(&burst).await.unwrap();
    assert!(matches!(next(&mut events).await, ConnEvent::HandshakeFrame(_, frame) if &frame[..] == b"one"));
    assert!(events.try_recv().is_err(), "the reader waits for word");
    handle.handshake(b"two".to_vec()).unwrap();
    handle.proceed().unwrap();
    assert!(matches!(next(&mut events).await, ConnEvent::HandshakeFrame(_, frame) if &frame[..] == b"three"));
    handle.established(Flip, Flip).unwrap();
    assert!(matches!(next(&mut events).await, ConnEvent::Plaintext(_, batch) if &batch[..] == b"batch"));
    let mut two = [0; 5];
    far.read_exact(&mut two).await.unwrap();
    assert_eq!(two[..], framed(b"two"));
}

#[tokio::test]
async fn batches_are_sealed_in_order_and_each_gives_credit_back() {
    let (mut events, handle, mut far) = accepted().await;
    handle.established(Flip, Flip).unwrap();
    let batches: Vec<Vec<u8>> = [1usize, 70, 65_535].iter().map(|len| vec![7; *len]).collect();
    for batch in &batches {
        handle.batch(BytesMut::from(&batch[..])).unwrap();
    }
    for batch in &batches {
        let mut got = vec![0; 2 + batch.len()];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(got, framed(&vec![!7; batch.len()]));
        assert!(matches!(next(&mut events).await, ConnEvent::Ready(_)));
    }
}

#[tokio::test]
async fn a_closed_connection_still_writes_what_was_queued() {
    let (mut events, handle, mut far) = accepted().await;
    handle.handshake(b"last words".to_vec()).unwrap();
    handle.close();
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, framed(b"last words"));
    assert!(matches!(next(&mut events).await, ConnEvent::Closed(_, CloseReason::Asked)));
}

#[tokio::test]
async fn a_peer_that_reads_nothing_does_not_hold_a_closed_connection() {
    let (mut events, handle, far) = accepted().await;
    handle.established(Flip, Flip).unwrap();
    for _ in 0..15 {
        let _ = handle.batch(BytesMut::zeroed(65_535));
        tokio::task::yield_now().await;
    }
    for _ in 0..15 {
        let _ = handle.batch(BytesMut::zeroed(65_535));
    }
    handle.close();
    while !matches!(next(&mut events).await, ConnEvent::Closed(_, CloseReason::Asked)) {}
    drop(far);
}

#[tokio::test]
async fn nonsense_from_the_peer_closes_the_connection_with_its_reason() {
    let too_long = u16::try_from(HANDSHAKE_LEN_MAX + 1).unwrap().to_le_bytes().to_vec();
    for (bytes, want) in [
        (vec![0, 0], "the peer sent a frame of 0 bytes"),
        (too_long, "the peer sent a frame of 4097 bytes"),
        (vec![9, 0, 1], "the peer closed in the middle of a frame"),
        (vec![], "closed by the peer"),
    ] {
        let (mut events, _handle, mut far) = accepted().await;
        far.write_all(&bytes).await.unwrap();
        drop(far);
        let ConnEvent::Closed(_, reason) = next(&mut events).await else { panic!("closed") };
        assert_eq!(reason.to_string(), want);
    }
    let (mut events, handle, mut far) = accepted().await;
    handle.established(Flip, Flip).unwrap();
    far.write_all(&[framed(b"m3"), framed(&[0])].concat()).await.unwrap();
    assert!(matches!(next(&mut events).await, ConnEvent::HandshakeFrame(..)));
    assert!(matches!(next(&mut events).await, ConnEvent::Closed(_, CloseReason::Frame(_))));
}

#[tokio::test]
async fn frames_cross_in_any_pieces_and_sizes() {
    let (ours, mut theirs) = duplex(4096);
    let (reader, _writer) = split(ours);
    let (mut reader, _) = TcpPipe::over(reader, tokio::io::sink()).split();
    let frames: Vec<Vec<u8>> =
        (1..=300usize).map(|n| vec![u8::try_from(n % 251).unwrap(); n * 211 % 65_535 + 1]).collect();
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
    let sender = tokio::spawn(async move {
        for piece in bytes.chunks(997) {
            theirs.write_all(piece).await.unwrap();
        }
    });
    for frame in &frames {
        assert_eq!(reader.read_frame(65_535).await.unwrap().unwrap(), frame[..]);
    }
    sender.await.unwrap();
    assert!(reader.read_frame(65_535).await.unwrap().is_none());
}

/// Two transports joined by loopback: the one that dials, its dialler, and the one that accepts.
fn loopback() -> (Dialler, Receiver<ConnEvent>, Receiver<ConnEvent>, crate::config::PeerUri, tokio::task::JoinHandle<()>)
{
    let (accepting, accepted) = Transport::new(Clock::start());
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = listen::serve(listener, accepting, listen::accepted_budget(4));
    let (transport, dialled) = Transport::new(Clock::start());
    (Dialler::new(transport, 4, Rng::from_seed([1; 32])), dialled, accepted, uri, serving)
}

#[tokio::test]
async fn a_target_is_dialled_rests_while_linked_and_comes_back_after_a_loss() {
    let (dialler, mut dialled, mut accepted, uri, _serving) = loopback();
    let peer = PeerId([5; 32]);
    dialler.add(&uri, None).unwrap();
    let ConnEvent::Dialled { conn, handle, expect, .. } = next(&mut dialled).await else { panic!("dialled") };
    let ConnEvent::Accepted { handle: far, .. } = next(&mut accepted).await else { panic!("accepted") };
    assert_eq!(expect, Pin::None);
    dialler.established(conn, peer);
    dialler.peer_up(peer);
    assert!(dialler.targets()[0].connected && dialler.targets()[0].peer == Some(peer));
    drop((handle, far));
    assert!(matches!(next(&mut dialled).await, ConnEvent::Closed(..)));
    assert!(timeout(Duration::from_millis(600), dialled.recv()).await.is_err(), "rests: linked by another way");
    dialler.peer_down(&peer);
    let ConnEvent::Dialled { expect, handle, .. } = next(&mut dialled).await else { panic!("dialled") };
    assert_eq!(expect, Pin::Required(peer), "who answered first is expected from then on");
    let pause = next_dial_after_failures(&mut dialled, handle).await;
    assert!(pause >= Duration::from_millis(900), "{pause:?}");
    dialler.forget(&peer);
    let ConnEvent::Dialled { expect, .. } = timeout(Duration::from_millis(500), next(&mut dialled)).await.unwrap()
    else {
        panic!("dialled at once")
    };
    assert_eq!(expect, Pin::None);
}

/// Lets three attempts fail; gives the pause before the last, which is shorter than the one that follows.
async fn next_dial_after_failures(dialled: &mut Receiver<ConnEvent>, handle: ConnHandle) -> Duration {
    let (mut handle, mut since) = (handle, std::time::Instant::now());
    for _ in 0..3 {
        since = std::time::Instant::now();
        handle.close();
        assert!(matches!(next(dialled).await, ConnEvent::Closed(..)));
        let ConnEvent::Dialled { handle: again, .. } = next(dialled).await else { panic!("dialled") };
        handle = again;
    }
    handle.close();
    assert!(matches!(next(dialled).await, ConnEvent::Closed(..)));
    since.elapsed()
}

#[tokio::test]
async fn dead_targets_are_counted_and_do_not_delay_a_live_one() {
    let (dialler, mut dialled, _accepted, uri, _serving) = loopback();
    let dead = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
    let dead: crate::config::PeerUri = format!("tcp://{dead}").parse().unwrap();
    dialler.add(&dead, None).unwrap();
    dialler.add(&uri, Some(PeerId([9; 32]))).unwrap();
    let ConnEvent::Dialled { conn, expect, handle, .. } = next(&mut dialled).await else { panic!("dialled") };
    assert_eq!(expect, Pin::Required(PeerId([9; 32])));
    dialler.failed(conn, "another node answered");
    handle.close();
    assert!(matches!(next(&mut dialled).await, ConnEvent::Closed(..)));
    timeout(Duration::from_secs(5), async {
        while dialler.targets().iter().any(|target| target.failures < 1) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(dialler.targets().iter().any(|target| target.error.as_deref() == Some("another node answered")));
    dialler.remove(&dead);
    assert_eq!(dialler.targets().len(), 1);
    let wss = "wss://h/t".parse().unwrap();
    assert_eq!(dialler.add(&wss, None), Err(DialError::NotYet(wss)));
}

#[tokio::test]
async fn a_wrong_hint_becomes_a_new_peer_and_the_larger_id_waits() {
    let (dialler, mut dialled, _accepted, uri, _serving) = loopback();
    let crate::config::Host::Address(ip, _) = uri.host else { panic!("an address") };
    let hint = PeerId([3; 32]);
    dialler.hint(hint, vec![(ip, uri.port).into()], true).unwrap();
    let ConnEvent::Dialled { conn, handle, expect, .. } = next(&mut dialled).await else { panic!("dialled") };
    assert_eq!((expect, dialler.hinted()), (Pin::Hint(hint), vec![hint]));
    dialler.failed(conn, "another node answered");
    drop(handle);
    assert!(matches!(next(&mut dialled).await, ConnEvent::Closed(..)));
    assert!(matches!(next(&mut dialled).await, ConnEvent::Dialled { expect: Pin::None, .. }));
    dialler.remove_hint(&hint);
    dialler.hint(PeerId([4; 32]), vec![(ip, uri.port).into()], false).unwrap();
    while let Ok(Some(event)) = timeout(Duration::from_millis(300), dialled.recv()).await {
        assert!(!matches!(event, ConnEvent::Dialled { .. }), "the other side goes first");
    }
}

#[tokio::test]
async fn an_offer_of_what_only_this_machine_reaches_is_not_dialled() {
    let (dialler, _dialled, _accepted, uri, _serving) = loopback();
    dialler.offer(PeerId([3; 32]), &[uri.to_string()]);
    assert_eq!(dialler.targets(), []);
    dialler.offer(PeerId([3; 32]), &["tcp://203.0.113.7:9".to_owned(), uri.to_string()]);
    let targets = dialler.targets();
    assert_eq!((targets[0].source, targets[0].place.as_str()), ("hello", "tcp://203.0.113.7:9"));
    assert_eq!((targets.len(), targets[0].peer), (1, Some(PeerId([3; 32]))));
}

#[test]
fn taken_addresses_are_refused_with_a_hint() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let first = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = listen::bind_all(&[first.local_addr().unwrap()]).unwrap_err().to_string();
    assert!(error.contains("cannot listen on 127.0.0.1:") && error.contains("another tarnetd"), "{error}");
}
