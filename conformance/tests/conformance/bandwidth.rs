//! Bandwidth limits on either side.

use std::time::Duration;

use conformance::service::{self, Kind};
use conformance::{Case, Lab, Outcome};
use tokio::net::TcpStream;
use tokio::time::Instant;

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
    cases.push(
        Case::pair("bandwidth/server/user_leaves", user_leaves)
            .ours_only("upstream's server keeps the connection"),
    );
    cases
}

fn limited<'a>(lab: &'a Lab, mode: &'static str) -> conformance::Setup<'a> {
    lab.setup()
        .proxy("transport.bandwidthLimit", LIMIT_TEXT)
        .proxy("transport.bandwidthLimitMode", mode)
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
