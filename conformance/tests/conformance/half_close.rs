//! A user that has sent all it has, and still waits for the answer.

use std::time::Duration;

use conformance::peers::Maker;
use conformance::service::{Kind, LATE_REPLY};
use conformance::wait::within;
use conformance::{Case, Lab, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUEST: &[u8] = b"all I have to say";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, mux, layers) in [
        ("half_close/mux", true, false),
        ("half_close/mux_off", false, false),
        ("half_close/encryption_compression", true, true),
    ] {
        cases.push(Case::pair(name, async move |lab| {
            run(lab, mux, layers).await
        }));
    }
    cases
}

async fn run(lab: &Lab, mux: bool, layers: bool) -> Outcome {
    let setup = lab
        .setup()
        .both("transport.tcpMux", mux)
        .proxy("transport.useEncryption", layers)
        .proxy("transport.useCompression", layers)
        .service(Kind::LateReply);
    let pair = setup.start().await?;
    let mut user = TcpStream::connect(pair.user).await?;
    user.write_all(REQUEST).await?;
    user.shutdown().await?;
    let mut reply = Vec::new();
    // The connection may end with a reset when a peer cuts it.
    let read = within(
        "the end",
        Duration::from_secs(10),
        user.read_to_end(&mut reply),
    )
    .await?;
    let mut whole = LATE_REPLY.to_vec();
    whole.extend((REQUEST.len() as u64).to_be_bytes());
    match (lab.frps.maker, lab.frpc.maker) {
        (Maker::Ours, Maker::Ours) => {
            read?;
            assert_eq!(reply, whole, "the reply got lost");
        }
        // Upstream closes both directions when one ends.
        (Maker::Go, Maker::Go) => assert_eq!(reply, b"", "upstream keeps the reply by now"),
        _ => assert!(whole.starts_with(&reply), "{reply:?}"),
    }
    Ok(())
}
