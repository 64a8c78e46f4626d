//! Many connections, much data.

use std::time::Duration;

use conformance::service::{self, Kind};
use conformance::wait::within;
use conformance::{Case, Lab, Outcome};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections at once.
const CONNECTIONS: usize = 1000;
/// How long a heavy case may take.
const LONG_LIMIT: Duration = Duration::from_mins(2);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, mux) in [("mux", true), ("mux_off", false)] {
        cases.push(
            Case::pair(format!("load/1000_connections/{name}"), async move |lab| {
                connections(lab, mux).await
            })
            .heavy(),
        );
    }
    for (name, encrypted) in [("default", false), ("encryption_compression", true)] {
        cases.push(
            Case::pair(format!("load/transfer/{name}"), async move |lab| {
                transfer(lab, Kind::Upload, encrypted).await?;
                transfer(lab, Kind::Download, encrypted).await
            })
            .heavy(),
        );
    }
    cases
}

/// All are open at the same time, and every one answers.
async fn connections(lab: &Lab, mux: bool) -> Outcome {
    let setup = lab.setup().both("transport.tcpMux", mux);
    // A log line for each would only slow everything down.
    let pair = setup.both("log.level", "info").start().await?;
    let all = within("all connections", LONG_LIMIT, async {
        let mut opening = JoinSet::new();
        for n in 0..CONNECTIONS {
            let address = pair.user;
            opening.spawn(async move {
                let mut user = TcpStream::connect(address).await?;
                service::exchange(&mut user, 100 + n).await?;
                Ok::<_, conformance::Failure>(user)
            });
        }
        let mut open = Vec::new();
        while let Some(user) = opening.join_next().await {
            open.push(user??);
        }
        for (n, user) in open.iter_mut().enumerate() {
            service::exchange(user, 10 + n).await?;
        }
        Outcome::Ok(open.len())
    });
    assert_eq!(all.await??, CONNECTIONS);
    pair.echo().await
}

async fn transfer(lab: &Lab, kind: Kind, layers: bool) -> Outcome {
    // Unoptimised programs take their time.
    let mib = if lab.long || !cfg!(debug_assertions) {
        200
    } else {
        32
    };
    let setup = lab
        .setup()
        .proxy("transport.useEncryption", layers)
        .proxy("transport.useCompression", layers)
        .service(kind);
    let pair = setup.both("log.level", "info").start().await?;
    let len = mib << 20;
    match kind {
        Kind::Upload => service::upload(pair.user, len, LONG_LIMIT).await,
        _ => service::download(pair.user, len, LONG_LIMIT).await,
    }
}
