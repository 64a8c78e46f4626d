use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::handshake::{accept_value, request};
use super::*;
use crate::testing::unhex;

const GOOD: &str = "GET /~!frp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://x\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Client and server after the handshake, with `capacity` bytes between them.
async fn pair(capacity: usize) -> (WsStream<DuplexStream>, WsStream<DuplexStream>) {
    let (near, far) = duplex(capacity);
    let (client, server) = tokio::join!(connect(near, "example.org:7000"), accept(far));
    (client.unwrap(), server.unwrap())
}

/// A server, and the raw connection to it.
async fn raw_client() -> (DuplexStream, WsStream<DuplexStream>) {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(GOOD.as_bytes()).await.unwrap();
    let server = accept(far).await.unwrap();
    let mut answer = vec![0; SWITCHED.len()];
    near.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, SWITCHED.as_bytes());
    (near, server)
}

async fn answer_to(input: &str) -> (String, io::Result<()>) {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(input.as_bytes()).await.unwrap();
    near.shutdown().await.unwrap();
    let accepted = accept(far).await.map(drop);
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    (answer, accepted)
}

#[test]
fn the_request_is_upstreams() {
    assert_eq!(
        request("Example.org:7000", "KEY"),
        "GET /~!frp HTTP/1.1\r\nHost: Example.org:7000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: KEY\r\nOrigin: http://example.org:7000\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    assert!(request("[fe80::1%eth0]:7000", "").contains("Host: [fe80::1]:7000\r\n"));
    assert_eq!(
        accept_value("dGhlIHNhbXBsZSBub25jZQ=="),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
}

#[tokio::test]
async fn requests_are_answered_as_upstream_does() {
    let drop_line = |name: &str| {
        let lines = GOOD
            .split_inclusive("\r\n")
            .filter(|l| !l.starts_with(name));
        lines.collect::<String>()
    };
    let (bad, forbidden) = (
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\n\r\n",
    );
    for (request, expected) in [
        (drop_line("Upgrade"), format!("{bad}not websocket protocol")),
        (drop_line("Connection"), format!("{bad}not websocket protocol")),
        (drop_line("Sec-WebSocket-Key"), format!("{bad}mismatch challenge/response")),
        (
            GOOD.replace(": 13", ": 8"),
            "HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n\r\nmissing or bad WebSocket Version".into(),
        ),
        (drop_line("Origin"), forbidden.into()),
        (GOOD.replace("http://x", "null"), forbidden.into()),
        (GOOD.replace("http://x", "://"), forbidden.into()),
        (GOOD.replace("Host", "Sec-WebSocket-Protocol: a, b\r\nHost"), bad.into()),
        (GOOD.replace("GET", "POST"), "HTTP/1.1 405 Method Not Allowed\r\n\r\nbad method".into()),
    ] {
        let (answer, accepted) = answer_to(&request).await;
        assert_eq!(answer, expected);
        assert!(accepted.is_err());
    }
    for good in [
        GOOD.to_owned(),
        GOOD.replace("HTTP/1.1", "HTTP/1.0"),
        GOOD.replace("/~!frp ", "/~!frp?token=1 "),
        GOOD.replace("http://x", "/path"),
    ] {
        let (answer, accepted) = answer_to(&good).await;
        accepted.unwrap();
        assert_eq!(answer, SWITCHED);
    }
    let (answer, accepted) =
        answer_to(&format!("GET /~!frpx HTTP/1.1\r\nHost: x\r\n\r\n{GOOD}")).await;
    accepted.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.ends_with(SWITCHED));
    let (answer, accepted) = answer_to(&format!("GET {PATH}{}", "x".repeat(20_000))).await;
    assert!(accepted.is_err());
    assert_eq!(answer, "");
}

#[tokio::test]
async fn a_client_takes_no_other_answer() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), "bad status"),
        (
            SWITCHED.replace("Connection: U", "Connection: keep-alive, U"),
            "missing or bad upgrade",
        ),
        (SWITCHED.to_owned(), "mismatch challenge/response"),
        ("nonsense\r\n\r\n".into(), "malformed HTTP response"),
        (String::new(), "EOF"),
    ] {
        let (near, mut far) = duplex(64 * 1024);
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let error = connect(near, "x").await.map(drop).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn data_survives_in_both_directions_through_a_narrow_pipe() {
    let data: Vec<u8> = (0..1_000_000_u32).map(|i| (i * 7 / 3) as u8).collect();
    for capacity in [1, 7, 4096, 1 << 20] {
        let data = &data[..(capacity * 2_000).min(data.len())];
        let (client, server) = pair(capacity).await;
        let one_way = async |from: WsStream<DuplexStream>, to: WsStream<DuplexStream>| {
            let ((mut from_read, mut from), (mut to, mut to_write)) =
                (tokio::io::split(from), tokio::io::split(to));
            let send = async {
                from.write_all(data).await.unwrap();
                from.shutdown().await.unwrap();
                let mut reply = String::new();
                from_read.read_to_string(&mut reply).await.unwrap();
                assert_eq!(reply, "after the close");
            };
            let receive = async {
                let mut got = Vec::new();
                to.read_to_end(&mut got).await.unwrap();
                assert!(got == data);
                to_write.write_all(b"after the close").await.unwrap();
                to_write.shutdown().await.unwrap();
            };
            tokio::join!(send, receive);
        };
        one_way(client, server).await;
        let (client, server) = pair(capacity).await;
        one_way(server, client).await;
    }
}

#[tokio::test]
async fn frames_of_upstream_are_read() {
    let (mut raw, mut server) = raw_client().await;
    // Binary, then text that is no UTF-8 and not final, then a continuation.
    for frame in [
        "828c99f2a0be99f3a0bf99f2a0bf99aea0be",
        "0182000000 00fffe",
        "00810000000001",
        "838100000000aa",
    ] {
        raw.write_all(&unhex(frame)).await.unwrap();
    }
    let mut got = [0; 16];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(got[..], unhex("0001000100000001005c0000 fffe01aa"));

    server
        .write_all(&unhex("0001000200000001005c0000"))
        .await
        .unwrap();
    let mut frame = [0; 14];
    raw.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[..], unhex("820c0001000200000001005c0000"));

    // Status 1000.
    raw.write_all(&unhex("8882000000 0003e8")).await.unwrap();
    assert_eq!(server.read(&mut got).await.unwrap(), 0);
    server.shutdown().await.unwrap();
    let mut rest = Vec::new();
    raw.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, unhex("880203e8"));
}

#[tokio::test]
async fn pings_are_answered_and_pongs_ignored() {
    let (mut raw, mut server) = raw_client().await;
    raw.write_all(&unhex("8a80000000008982010203040103 82810000000007"))
        .await
        .unwrap();
    let mut got = [0];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [7]);
    let mut pong = [0; 4];
    raw.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong[..], unhex("8a020001"));
}

#[tokio::test]
async fn a_flood_of_pings_is_bounded() {
    let (mut raw, mut server) = raw_client().await;
    let flood = tokio::spawn(async move {
        let pings = unhex("898400000000aabbccdd").repeat(1000);
        for _ in 0..100 {
            raw.write_all(&pings).await.unwrap();
        }
        // What answers there are fit into the pipe and the stream's limit.
        raw
    });
    let mut byte = [0];
    tokio::select! {
        read = server.read(&mut byte) => panic!("{read:?}"),
        raw = flood => drop(raw.unwrap()),
    }
}

#[tokio::test]
async fn a_frame_without_the_mask_is_an_error() {
    let (mut raw, mut server) = raw_client().await;
    raw.write_all(&unhex("820107")).await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert!(got.is_empty());
    let mut close = [0; 4];
    raw.read_exact(&mut close).await.unwrap();
    assert_eq!(close[..], unhex("880203ea"));
    assert!(server.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_frame_that_lies_about_its_length_costs_nothing() {
    let (mut raw, mut server) = raw_client().await;
    raw.write_all(&unhex("82ffffffffffffffffff0000000001"))
        .await
        .unwrap();
    drop(raw);
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [1]);
}
