//! Strangers on the bind port: dropped in time, without an effect on anybody else.

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::raw::{self, Link, login_message};
use conformance::service::Pattern;
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, Pair};
use frp_proto::msg::{Login, Ping, Version};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Strangers at a time.
const HALF_OPEN: usize = 2000;
/// The server's patience, and what a busy machine adds.
const PATIENCE: std::ops::Range<f64> = 9.0..15.0;

/// What a stranger sends before it falls silent.
const SILENT: [(&str, &[u8]); 4] = [
    ("nothing", b""),
    ("three_bytes", b"o\0\0"),
    ("half_a_message", b"o\0\0\0\0\0\0\0\x64{\"version\":"),
    (
        "half_a_tls_hello",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\x5a\x5a\x5a\x5a\x5a",
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = SILENT
        .into_iter()
        .map(|(name, bytes)| {
            Case::frps(format!("hostile/silence_after/{name}"), async move |lab| {
                silence(lab, bytes).await
            })
        })
        .collect();
    cases.extend([
        Case::frps("hostile/port_scanner", async |lab| {
            let pair = lab.setup().start().await?;
            for _ in 0..500 {
                drop(TcpStream::connect((Ipv4Addr::LOCALHOST, pair.server_port)).await?);
            }
            unharmed(pair).await
        }),
        Case::frps("hostile/http_request", async |lab| {
            let pair = lab.setup().start().await?;
            let request = b"GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x\r\n\r\n";
            let reply = raw::send_and_read_all(pair.server_port, request, LIMIT).await?;
            assert!(
                !reply.starts_with(b"HTTP"),
                "{}",
                String::from_utf8_lossy(&reply)
            );
            unharmed(pair).await
        }),
        Case::frps("hostile/random_bytes", async |lab| {
            let pair = lab.setup().start().await?;
            for seed in 1..200 {
                let mut bytes = [0; 200];
                Pattern::new(seed * 0x9e37_79b9).fill(&mut bytes);
                let mut stream =
                    TcpStream::connect((Ipv4Addr::LOCALHOST, pair.server_port)).await?;
                let _ = stream.write_all(&bytes).await;
            }
            unharmed(pair).await
        }),
        Case::frps("hostile/2000_half_open", half_open).heavy(),
        Case::frps("hostile/pool_count_-11", pool_count).ours_only("upstream crashes by this"),
    ]);
    cases
}

/// The pair still works, and both programs run.
async fn unharmed(mut pair: Pair) -> Outcome {
    pair.echo().await?;
    assert!(pair.frps.ended().is_none());
    assert!(pair.frpc.ended().is_none());
    let logins = pair.frpc.log().matches("login to server success").count();
    assert_eq!(logins, 1, "the client was disturbed");
    Ok(())
}

/// Closed without a word when the server's patience ends.
async fn silence(lab: &Lab, bytes: &[u8]) -> Outcome {
    let setup = lab.setup().both("transport.tcpMux", false);
    let pair = setup.start().await?;
    let begin = Instant::now();
    let reply = raw::send_and_read_all(pair.server_port, bytes, LIMIT).await?;
    let elapsed = begin.elapsed().as_secs_f64();
    assert!(PATIENCE.contains(&elapsed), "closed after {elapsed} s");
    assert_eq!(reply, b"");
    unharmed(pair).await
}

/// Clients are served while strangers wait.
async fn half_open(lab: &Lab) -> Outcome {
    let pair = lab.setup().both("log.level", "info").start().await?;
    let mut strangers = Vec::new();
    for n in 0..HALF_OPEN {
        let mut stranger = TcpStream::connect((Ipv4Addr::LOCALHOST, pair.server_port)).await?;
        stranger.write_all(SILENT[n % SILENT.len()].1).await?;
        strangers.push(stranger);
    }
    let begin = Instant::now();
    pair.echo().await?;
    let mut second = lab
        .setup()
        .named("second")
        .start_client(pair.server_port, 0)
        .await?;
    second.logs("[second] start proxy success").await?;
    let elapsed = begin.elapsed();
    assert!(
        elapsed < Duration::from_secs(8),
        "they made others wait {elapsed:?}"
    );
    drop(strangers);
    unharmed(pair).await
}

/// An absurd number from a client with the right token.
async fn pool_count(lab: &Lab) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (mut frps, port) = setup.start_server().await?;
    let link = Link::plain(port, Version::V1);
    for pool_count in [-11, i64::MIN, i64::MAX] {
        let login = Login {
            pool_count,
            ..login_message()
        };
        let mut client = link.login(login).await?;
        assert_eq!(client.ping(Ping::default()).await?.error, "");
    }
    assert!(frps.ended().is_none());
    Ok(())
}
