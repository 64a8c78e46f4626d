//! SIGTERM: an orderly end.

use conformance::peers::Maker;
use conformance::process::Signal;
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome};
use tokio::net::TcpStream;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("stop/frpc", frpc).signals(),
        Case::pair("stop/frps", frps).signals(),
        Case::frpc("stop/frpc_without_a_server", async |lab| {
            let setup = lab.setup().frpc("loginFailExit", false);
            let mut frpc = setup.start_client(conformance::ports::free(), 0).await?;
            frpc.logs("connect to server error: ").await?;
            frpc.signal(Signal::Terminate)?;
            let status = frpc.exit(LIMIT).await?;
            assert!(
                lab.frpc.maker != Maker::Ours || status.code() == Some(0),
                "{status}"
            );
            Ok(())
        })
        .signals(),
    ]
}

/// The proxy is gone with its client.
async fn frpc(lab: &Lab) -> Outcome {
    let mut pair = lab.setup().start().await?;
    pair.echo().await?;
    pair.frpc.signal(Signal::Terminate)?;
    let status = pair.frpc.exit(LIMIT).await?;
    // Upstream installs no handler.
    assert!(
        lab.frpc.maker != Maker::Ours || status.code() == Some(0),
        "{status}"
    );
    until("the port is closed", LIMIT, async || {
        TcpStream::connect(pair.user).await.err().map(|_| ())
    })
    .await?;
    assert!(pair.frps.ended().is_none());
    Ok(())
}

/// The client waits for the server's return.
async fn frps(lab: &Lab) -> Outcome {
    let mut pair = lab.setup().start().await?;
    pair.echo().await?;
    pair.frps.signal(Signal::Terminate)?;
    let status = pair.frps.exit(LIMIT).await?;
    assert!(
        lab.frps.maker != Maker::Ours || status.code() == Some(0),
        "{status}"
    );
    pair.start_frps_again(lab).await?;
    pair.works().await
}
