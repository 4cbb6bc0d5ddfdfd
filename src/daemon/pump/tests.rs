//! Pumps between real sockets and channels whose node side the test plays.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::channel::{ChannelEnd, ChannelKey, channel};

const SOON: Duration = Duration::from_secs(5);

/// A channel, its node side, and the node's kicks.
fn overlay() -> (Channel, ChannelEnd, mpsc::Receiver<ChannelKey>) {
    let (kicks, kicked) = crate::channel::Kicks::new(64);
    let (front, end) = channel(ChannelKey(1), kicks);
    (front, end, kicked)
}

/// A pair of connected TCP sockets.
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Everything the front end sends until it has finished.
async fn drain(end: &mut ChannelEnd, kicks: &mut mpsc::Receiver<ChannelKey>) -> Vec<u8> {
    let mut got = Vec::new();
    while !end.finished() {
        while let Some(chunk) = end.take() {
            got.extend_from_slice(&chunk);
        }
        if !end.finished() {
            let _ = timeout(Duration::from_millis(20), kicks.recv()).await;
        }
    }
    got
}

#[tokio::test]
async fn bytes_and_half_closes_go_both_ways() {
    let (program, ours) = tcp().await;
    let (channel, mut end, mut kicks) = overlay();
    let pumping = tokio::spawn(async move {
        let traffic = Traffic::default();
        pump(ours, channel, &traffic).await.map(|()| (traffic.up.into_inner(), traffic.down.into_inner()))
    });
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let (mut from, mut to) = program.into_split();
    let data = sent.clone();
    tokio::spawn(async move {
        to.write_all(&data).await.unwrap();
        to.shutdown().await.unwrap();
    });
    assert!(timeout(SOON, drain(&mut end, &mut kicks)).await.unwrap() == sent);
    // Our direction is over; the other one still works.
    let mut expected = Vec::new();
    for n in 0..100u8 {
        let chunk = vec![n; 7 * usize::from(n)];
        expected.extend_from_slice(&chunk);
        end.give(chunk.into());
    }
    end.finish();
    let mut got = Vec::new();
    timeout(SOON, from.read_to_end(&mut got)).await.unwrap().unwrap();
    assert!(got == expected);
    assert_eq!(pumping.await.unwrap().unwrap(), (3_000_000, expected.len() as u64));
}

#[tokio::test]
async fn a_reset_of_the_far_side_reaches_the_program() {
    let (mut program, ours) = tcp().await;
    let (channel, mut end, _kicks) = overlay();
    let pumping = tokio::spawn(async move { pump(ours, channel, &Traffic::default()).await });
    end.give(Bytes::from_static(b"last"));
    end.fail(ChannelError::Reset);
    assert!(matches!(pumping.await.unwrap(), Err(Broken::Far(ChannelError::Reset))));
    let mut got = Vec::new();
    let error = timeout(SOON, program.read_to_end(&mut got)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_of_the_program_reaches_the_far_side() {
    let (program, ours) = tcp().await;
    let (channel, end, _kicks) = overlay();
    let pumping = tokio::spawn(async move { pump(ours, channel, &Traffic::default()).await });
    reset(&program);
    drop(program);
    assert!(matches!(timeout(SOON, pumping).await.unwrap().unwrap(), Err(Broken::Local(_))));
    assert!(end.aborted());
}

#[tokio::test]
async fn a_program_that_reads_nothing_holds_the_far_side_back() {
    let (program, ours) = UnixStream::pair().unwrap();
    let (channel, mut end, _kicks) = overlay();
    let pumping = tokio::spawn(async move { pump(ours, channel, &Traffic::default()).await });
    let mut given = 0;
    while end.room() > 0 && given < 64 << 20 {
        end.give(vec![0; 65_536].into());
        given += 65_536;
        tokio::task::yield_now().await;
    }
    assert!(given < 64 << 20, "the queue fills");
    end.finish();
    let mut program = program;
    let mut got = Vec::new();
    program.shutdown().await.unwrap();
    timeout(SOON, program.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got.len(), given);
    pumping.await.unwrap().unwrap();
}

#[tokio::test]
async fn datagrams_keep_their_boundaries() {
    let (service, ours) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    ours.connect(service.local_addr().unwrap()).await.unwrap();
    service.connect(ours.local_addr().unwrap()).await.unwrap();
    let (channel, mut end, mut kicks) = overlay();
    let pumping = tokio::spawn(async move { pump_datagrams(ours, channel, &Traffic::default()).await });
    let sizes = [1usize, 1200, 9000];
    let mut buffer = vec![0; 65_536];
    for size in sizes {
        end.give(vec![5; size].into());
        assert_eq!(timeout(SOON, service.recv(&mut buffer)).await.unwrap().unwrap(), size);
        service.send(&vec![6; size]).await.unwrap();
        timeout(SOON, kicks.recv()).await.unwrap();
        assert_eq!(end.take().unwrap().len(), size);
    }
    end.finish();
    timeout(SOON, pumping).await.unwrap().unwrap().unwrap();
    assert!(end.finished());
}
