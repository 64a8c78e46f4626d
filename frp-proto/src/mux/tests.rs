//! Live sessions over connections in memory: among ourselves, and with the `yamux` crate.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::*;
use crate::testing::{hex, unhex};

type Driven = JoinHandle<Result<(), SessionError>>;

/// Both ends of a session.
struct Pair {
    client: Session,
    client_driver: Driven,
    server: Session,
    server_driver: Driven,
    incoming: Incoming,
}

fn pair() -> Pair {
    let (near, far) = duplex(64 * 1024);
    let (client, _, driver) = session(near, Role::Client, Config::default());
    let client_driver = tokio::spawn(driver);
    let (server, incoming, driver) = session(far, Role::Server, Config::default());
    Pair {
        client,
        client_driver,
        server,
        server_driver: tokio::spawn(driver),
        incoming,
    }
}

impl Pair {
    async fn streams(&mut self) -> (Stream, Stream) {
        let near = self.client.open().await.unwrap();
        let far = self.incoming.accept().await.unwrap();
        assert_eq!(near.id(), far.id());
        (near, far)
    }
}

/// A session and the bare connection at its other end.
fn against_bytes(role: Role) -> (Session, Incoming, Driven, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    let (session, incoming, driver) = session(near, role, Config::default());
    (session, incoming, tokio::spawn(driver), far)
}

async fn expect(io: &mut DuplexStream, expected: &str) {
    let mut bytes = vec![0; expected.len() / 2];
    io.read_exact(&mut bytes).await.unwrap();
    assert_eq!(hex(&bytes), expected);
}

/// Bytes that differ by position.
fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i / 7 % 251) as u8).collect()
}

async fn echo(stream: Stream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

/// Sends `data` and its end, and expects it back.
async fn exchange(stream: impl AsyncRead + AsyncWrite, data: Vec<u8>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        writer.write_all(&data).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let ((), n) = tokio::join!(send, reader.read_to_end(&mut back));
    n.unwrap();
    assert!(back == data, "{} bytes of {}", back.len(), data.len());
}

#[tokio::test]
async fn echoes_of_many_sizes_at_once() {
    let mut pair = pair();
    tokio::spawn(async move {
        while let Some(stream) = pair.incoming.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let mut exchanges = JoinSet::new();
    for n in [0, 1, 100, 10_000, 300_000, 7_000_000] {
        let stream = pair.client.open().await.unwrap();
        exchanges.spawn(exchange(stream, pattern(n)));
    }
    exchanges.join_all().await;
}

/// What is written leaves it only with a flush.
#[tokio::test]
async fn a_transport_that_buffers() {
    let (near, far) = duplex(64 * 1024);
    let near = tokio::io::BufWriter::new(near);
    // Twice converted, it writes a slice at a time.
    let far = FuturesAsyncReadCompatExt::compat(TokioAsyncReadCompatExt::compat(far));
    assert!(near.is_write_vectored() && !far.is_write_vectored());
    let (client, _, driver) = session(near, Role::Client, Config::default());
    tokio::spawn(driver);
    let (_server, mut incoming, driver) = session(far, Role::Server, Config::default());
    tokio::spawn(driver);
    tokio::spawn(async move {
        while let Some(stream) = incoming.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    for n in [1, 100_000, 1_000_000] {
        exchange(client.open().await.unwrap(), pattern(n)).await;
    }
}

#[tokio::test]
async fn chunks_pass_both_ways() {
    let mut pair = pair();
    let (mut near, mut far) = pair.streams().await;
    let data = Bytes::from(pattern(20_000));
    let mut rest = data.clone();
    while !rest.is_empty() {
        poll_fn(|cx| near.poll_write_chunk(cx, &mut rest))
            .await
            .unwrap();
    }
    near.shutdown().await.unwrap();
    let mut got = Vec::new();
    loop {
        let chunk = poll_fn(|cx| far.poll_read_chunk(cx)).await.unwrap();
        if chunk.is_empty() {
            break;
        }
        got.extend_from_slice(&chunk);
    }
    assert_eq!(got, data);
}

#[tokio::test]
async fn half_close_and_reset() {
    let mut pair = pair();
    let (mut near, mut far) = pair.streams().await;
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    far.write_all(b"still open").await.unwrap();
    far.shutdown().await.unwrap();
    let mut got = String::new();
    near.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "still open");
    let e = near.write_all(b"x").await.unwrap_err();
    assert_eq!(
        (e.kind(), e.to_string().as_str()),
        (ErrorKind::BrokenPipe, "stream closed")
    );

    let (near, mut far) = pair.streams().await;
    drop(near);
    let e = far.read(&mut [0]).await.unwrap_err();
    assert_eq!(
        (e.kind(), e.to_string().as_str()),
        (ErrorKind::ConnectionReset, "stream reset")
    );
}

#[tokio::test]
async fn last_words_of_a_dropped_stream_arrive() {
    let mut pair = pair();
    let (mut near, mut far) = pair.streams().await;
    far.write_all(&pattern(200_000)).await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    let mut got = Vec::new();
    near.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, pattern(200_000));
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_own_stream_only() {
    let mut pair = pair();
    let (mut slow, mut unread) = pair.streams().await;
    let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = written.clone();
    let writer = tokio::spawn(async move {
        let piece = vec![1; 64 * 1024];
        loop {
            let n = slow.write(&piece).await.unwrap();
            count.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        }
    });
    for _ in 0..10 {
        let (near, far) = pair.streams().await;
        tokio::spawn(echo(far));
        exchange(near, pattern(1_000_000)).await;
    }
    let window = 6 * 1024 * 1024;
    assert_eq!(written.load(std::sync::atomic::Ordering::Relaxed), window);
    let mut got = vec![0; window];
    unread.read_exact(&mut got).await.unwrap();
    unread.read_exact(&mut [0]).await.unwrap();
    writer.abort();
}

#[tokio::test(start_paused = true)]
async fn opens_wait_for_acknowledgements() {
    let (session, _incoming, _driver, mut peer) = against_bytes(Role::Client);
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(session.open().await.unwrap());
    }
    assert!(
        timeout(Duration::from_secs(1), session.open())
            .await
            .is_err()
    );
    let mut open = pin!(session.open());
    assert!(timeout(Duration::from_secs(1), &mut open).await.is_err());
    peer.write_all(&unhex("0001000200000005005c0000"))
        .await
        .unwrap();
    assert_eq!(open.await.unwrap().id(), 513);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_lives_for_ever() {
    let mut pair = pair();
    let (mut near, mut far) = pair.streams().await;
    sleep(Duration::from_hours(24)).await;
    near.write_all(b"x").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'x');
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_the_session() {
    let start = Instant::now();
    let (session, mut incoming, driver, mut peer) = against_bytes(Role::Server);
    peer.write_all(&unhex("0001000100000001005c0000"))
        .await
        .unwrap();
    let mut stream = incoming.accept().await.unwrap();
    let e = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(e.to_string(), "keepalive timeout");
    assert_eq!(start.elapsed().as_secs(), 40);
    assert_eq!(
        driver.await.unwrap().unwrap_err().to_string(),
        "keepalive timeout"
    );
    assert!(incoming.accept().await.is_none());
    assert!(session.open().await.is_err());
    session.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_ends_the_session() {
    let start = Instant::now();
    let (session, _incoming, driver, _peer) = against_bytes(Role::Client);
    let mut stream = session.open().await.unwrap();
    stream.write_all(&pattern(200_000)).await.unwrap();
    let fault = driver.await.unwrap().unwrap_err();
    assert_eq!(fault.to_string(), "connection write timeout");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(
        stream.write(b"x").await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_violation_is_told_to_the_peer() {
    let (_session, _incoming, driver, mut peer) = against_bytes(Role::Server);
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    expect(&mut peer, "000300000000000000000001").await;
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    let fault = driver.await.unwrap().unwrap_err();
    assert_eq!(fault.to_string(), "Invalid protocol version: 71");
}

#[tokio::test]
async fn go_away_of_both_kinds() {
    let (session, _incoming, driver, mut peer) = against_bytes(Role::Client);
    let mut stream = session.open().await.unwrap();
    peer.write_all(&unhex(
        "0001000200000001005c0000 000300000000000000000000 000000000000000100000001aa",
    ))
    .await
    .unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 0xaa);
    let e = session.open().await.err().unwrap();
    assert_eq!(e.to_string(), "remote end is not accepting connections");
    stream.write_all(b"x").await.unwrap();
    expect(
        &mut peer,
        "0001000100000001005c000000000000000000010000000178",
    )
    .await;
    peer.write_all(&unhex("000300000000000000000002"))
        .await
        .unwrap();
    let e = stream.read_u8().await.unwrap_err();
    assert_eq!(e.to_string(), "peer ended the session with code 2");
    assert!(driver.await.unwrap().is_err());
}

#[tokio::test]
async fn close_flushes_and_tells_nothing_more() {
    let mut pair = pair();
    let (mut near, mut far) = pair.streams().await;
    near.write_all(&pattern(200_000)).await.unwrap();
    near.shutdown().await.unwrap();
    pair.client.close();
    assert!(near.read(&mut [0]).await.is_err());
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, pattern(200_000));
    assert!(pair.client_driver.await.unwrap().is_ok());
    assert!(pair.server_driver.await.unwrap().is_ok());
    let e = far.write(b"x").await.unwrap_err();
    assert_eq!(e.to_string(), "connection closed by the peer");
    pair.server.closed().await;
}

#[tokio::test(start_paused = true)]
async fn close_waits_a_second_at_most() {
    let (session, _incoming, driver, _peer) = against_bytes(Role::Client);
    let mut stream = session.open().await.unwrap();
    stream.write_all(&pattern(200_000)).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    session.close();
    assert!(driver.await.unwrap().is_ok());
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn a_dropped_driver_ends_the_session() {
    let (near, _far) = duplex(64);
    let (session, mut incoming, driver) = session(near, Role::Client, Config::default());
    let mut stream = session.open().await.unwrap();
    drop(driver);
    session.closed().await;
    assert!(incoming.accept().await.is_none());
    assert_eq!(
        stream.read(&mut [0]).await.unwrap_err().to_string(),
        "session shutdown"
    );
    assert_eq!(
        session.open().await.err().unwrap().to_string(),
        "session shutdown"
    );
}

#[tokio::test]
async fn ten_thousand_streams() {
    let mut pair = pair();
    let server = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Some(mut stream) = pair.incoming.accept().await {
            stream.write_all(&stream.id().to_be_bytes()).await.unwrap();
            streams.push(stream);
        }
        streams.len()
    });
    let mut streams = Vec::new();
    for _ in 0..10_000 {
        streams.push(pair.client.open().await.unwrap());
    }
    for stream in &mut streams {
        assert_eq!(stream.read_u32().await.unwrap(), stream.id());
    }
    pair.client.close();
    assert_eq!(server.await.unwrap(), 10_000);
}

/// The `yamux` crate as the client: it opens a stream with its first data, limits frames to 1 MiB and resets what is dropped.
#[tokio::test]
async fn against_the_yamux_crate_as_client() {
    let (near, far) = duplex(64 * 1024);
    let (server, mut incoming, driver) = session(near, Role::Server, Config::default());
    tokio::spawn(driver);
    tokio::spawn(async move {
        while let Some(stream) = incoming.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let mut peer =
        yamux::Connection::new(far.compat(), yamux::Config::default(), yamux::Mode::Client);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(poll_fn(|cx| peer.poll_new_outbound(cx)).await.unwrap());
    }
    let peer = tokio::spawn(async move {
        while let Some(stream) = poll_fn(|cx| peer.poll_next_inbound(cx)).await {
            drop(stream);
        }
    });
    let mut exchanges = JoinSet::new();
    for (i, stream) in streams.into_iter().enumerate() {
        exchanges.spawn(exchange(stream.compat(), pattern(1 + i * 50_000)));
    }
    exchanges.join_all().await;
    server.close();
    peer.await.unwrap();
}

/// The `yamux` crate as the server: it acknowledges with its first data.
#[tokio::test]
async fn against_the_yamux_crate_as_server() {
    let (near, far) = duplex(64 * 1024);
    let (client, _, driver) = session(near, Role::Client, Config::default());
    tokio::spawn(driver);
    let mut peer =
        yamux::Connection::new(far.compat(), yamux::Config::default(), yamux::Mode::Server);
    let peer = tokio::spawn(async move {
        let mut serving = JoinSet::new();
        while let Some(Ok(stream)) = poll_fn(|cx| peer.poll_next_inbound(cx)).await {
            serving.spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(stream.compat());
                // A reset ends it early.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
        serving.join_all().await.len()
    });
    let mut dropped = client.open().await.unwrap();
    dropped.write_all(b"reset").await.unwrap();
    drop(dropped);
    let mut exchanges = JoinSet::new();
    for i in 1..20 {
        let stream = client.open().await.unwrap();
        exchanges.spawn(exchange(stream, pattern(i * 50_000)));
    }
    exchanges.join_all().await;
    client.close();
    assert!(peer.await.unwrap() >= 19);
}
