//! Bandwidth limits on either side.

use std::net::SocketAddr;
use std::time::Duration;

use conformance::datagram::User;
use conformance::http::Backend;
use conformance::service::{self, Kind};
use conformance::{Case, Lab, Outcome, Setup};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::http::{self, Site};
use super::stcp;

/// Bytes a second.
const RATE: u64 = 100 * 1024;
const LIMIT_TEXT: &str = "100KB";
/// Bytes moved: two seconds' worth after the first second's, which are free.
const BYTES: u64 = 300_000;
/// Five times what it should take.
const LATEST: Duration = Duration::from_secs(10);
/// Bytes that a layer may add or an implementation give ahead.
const SLACK: u64 = 32 * 1024;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in ["client", "server"] {
        let name = |case| format!("bandwidth/{mode}/{case}");
        cases.extend([
            Case::pair(name("download"), async move |lab| {
                let setup = limited(lab, mode).service(Kind::Download);
                let pair = setup.start().await?;
                let start = Instant::now();
                service::download(pair.user, BYTES, LATEST).await?;
                took(start, BYTES);
                Ok(())
            })
            .since(52)
            .heavy(),
            Case::pair(name("upload_layered"), async move |lab| {
                let setup = limited(lab, mode)
                    .service(Kind::Upload)
                    .proxy("transport.useEncryption", true)
                    .proxy("transport.useCompression", true);
                let pair = setup.start().await?;
                let start = Instant::now();
                service::upload(pair.user, BYTES, LATEST).await?;
                took(start, BYTES);
                Ok(())
            })
            .heavy(),
            Case::pair(name("shared"), async move |lab| {
                // Both directions of two connections: four times the bytes.
                let pair = limited(lab, mode).start().await?;
                let start = Instant::now();
                let echo = || service::echo(pair.user, 75_000);
                let (one, other) = tokio::join!(echo(), echo());
                one.and(other)?;
                took(start, 4 * 75_000);
                Ok(())
            })
            .heavy(),
            Case::pair(name("tiny"), async move |lab| {
                let setup = lab.setup().proxy("transport.bandwidthLimit", "1KB");
                let setup = setup.proxy("transport.bandwidthLimitMode", mode);
                service::echo(setup.start().await?.user, 1500).await
            }),
        ]);
    }
    cases.extend(kinds());
    cases.push(
        Case::pair("bandwidth/server/user_leaves", user_leaves)
            .ours_only("upstream's server keeps the connection"),
    );
    cases
}

/// The server's limit on what is not a `tcp` proxy.
fn kinds() -> Vec<Case> {
    let name = |kind| format!("bandwidth/server/{kind}");
    vec![
        Case::pair(name("udp"), async |lab| {
            let setup = limited(lab, "server").proxy("type", "udp");
            let pair = setup.service(Kind::Datagrams).start().await?;
            datagrams(pair.user).await
        })
        .heavy(),
        Case::pair(name("sudp"), async |lab| {
            let setup = limit(stcp::setup(lab, "sudp"), "server").service(Kind::Datagrams);
            let pair = setup.start().await?;
            let visitor = setup.start_visitor(&lab.frpc, pair.server_port, stcp::visitor());
            let (_frpc, user) = visitor.await?;
            datagrams(user).await
        })
        .heavy(),
        Case::pair(name("stcp"), async |lab| {
            let setup = limit(stcp::setup(lab, "stcp"), "server").service(Kind::Download);
            let pair = setup.start().await?;
            let visitor = setup.start_visitor(&lab.frpc, pair.server_port, stcp::visitor());
            let (_frpc, user) = visitor.await?;
            let start = Instant::now();
            service::download(user, BYTES, LATEST).await?;
            took(start, BYTES);
            Ok(())
        })
        .heavy(),
        Case::pair(name("http"), async |lab| {
            let backend = Backend::start("A").await?;
            let keys = [
                http::domains(&["a.test"]),
                ("transport.bandwidthLimit", LIMIT_TEXT.into()),
                ("transport.bandwidthLimitMode", "server".into()),
            ];
            let proxies = vec![http::proxy("web", backend.address, &keys)];
            let site = Site::start(lab, proxies, |frps| frps).await?;
            let body = "x".repeat(BYTES as usize / 2);
            let request = format!(
                "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let start = Instant::now();
            let answer = site.ask(&request).await?;
            took(start, BYTES);
            assert!(answer.ends_with(&body), "the body came back changed");
            Ok(())
        })
        .heavy(),
    ]
}

/// Exchanges datagrams one by one, so that none is lost.
async fn datagrams(address: SocketAddr) -> Outcome {
    const LENGTH: usize = 1_000;
    let user = User::new(address).await?;
    // The work connection is there from now on.
    user.echo(b"x").await?;
    let start = Instant::now();
    for n in 0..BYTES / (2 * LENGTH as u64) {
        user.echo(&[&n.to_be_bytes()[..], &[7; LENGTH]].concat())
            .await?;
    }
    took(start, BYTES);
    Ok(())
}

fn limit<'a>(setup: Setup<'a>, mode: &'static str) -> Setup<'a> {
    setup
        .proxy("transport.bandwidthLimit", LIMIT_TEXT)
        .proxy("transport.bandwidthLimitMode", mode)
}

fn limited<'a>(lab: &'a Lab, mode: &'static str) -> Setup<'a> {
    limit(lab.setup(), mode)
}

/// Not sooner than the limit allows. How much later is up to the machine, within reason.
#[track_caller]
fn took(start: Instant, bytes: u64) {
    let millis = (bytes - RATE - SLACK) * 1000 / RATE;
    let (least, elapsed) = (Duration::from_millis(millis), start.elapsed());
    assert!(elapsed >= least, "{elapsed:?}, not {least:?}");
}

/// The client lets go of its service when the user has gone.
async fn user_leaves(lab: &Lab) -> Outcome {
    let mut pair = limited(lab, "server").start().await?;
    let mut user = TcpStream::connect(pair.user).await?;
    service::exchange(&mut user, 100).await?;
    drop(user);
    pair.frpc.logs("join connections closed").await
}
