//! Every transport carries a tunnel, with every wire version, with and without TLS and mux.

use std::time::Duration;

use conformance::process::Signal;
use conformance::service::{self, Kind};
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, Setup};

/// Bytes of a transfer.
const MUCH: u64 = 20 << 20;
/// How long a transfer may take.
const LONG_LIMIT: Duration = Duration::from_mins(2);

/// Name, oldest minor version that has it.
const TRANSPORTS: [(&str, u16); 3] = [("websocket", 37), ("kcp", 37), ("quic", 46)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (transport, since) in TRANSPORTS {
        for wire in ["v1", "v2"] {
            for (name, tls, mux) in [
                ("default", true, true),
                ("tls_off", false, true),
                ("mux_off", true, false),
                ("tls_off/mux_off", false, false),
            ] {
                let case = Case::pair(
                    format!("transports/{transport}/{wire}/{name}"),
                    async move |lab| {
                        let setup = over(lab, transport).wire(wire);
                        let setup = setup.frpc("transport.tls.enable", tls);
                        let pair = setup.both("transport.tcpMux", mux).start().await?;
                        pair.echo().await
                    },
                );
                cases.push(if wire == "v1" {
                    case.since(since)
                } else {
                    case
                });
            }
        }
        cases.extend([
            Case::pair(
                format!("transports/{transport}/tls_0x17"),
                async move |lab| {
                    let setup = over(lab, transport);
                    let setup = setup.frpc("transport.tls.disableCustomTLSFirstByte", false);
                    setup.start().await?.echo().await
                },
            ),
            Case::pair(
                format!("transports/{transport}/transfer"),
                async move |lab| {
                    transfer(lab, transport, Kind::Upload).await?;
                    transfer(lab, transport, Kind::Download).await
                },
            )
            .heavy(),
            Case::pair(
                format!("transports/{transport}/restart_frps"),
                async move |lab| {
                    let mut pair = over(lab, transport).start().await?;
                    pair.echo().await?;
                    pair.frps.kill()?;
                    pair.start_frps_again(lab).await?;
                    pair.works().await
                },
            ),
            Case::pair(
                format!("transports/{transport}/restart_frpc"),
                async move |lab| {
                    let mut pair = over(lab, transport).start().await?;
                    pair.echo().await?;
                    // frps does not notice at once when a UDP client is gone without a word.
                    if matches!(transport, "kcp" | "quic") {
                        pair.frpc.signal(Signal::Terminate)?;
                        pair.frpc.exit(LIMIT).await?;
                    } else {
                        pair.frpc.kill()?;
                    }
                    pair.start_frpc_again(lab).await?;
                    pair.works().await
                },
            )
            .signals(),
            Case::pair(format!("transports/{transport}/idle"), async move |lab| {
                let pair = over(lab, transport).start().await?;
                pair.echo().await?;
                tokio::time::sleep(Duration::from_mins(1)).await;
                pair.echo().await?;
                let logins = pair.frpc.log().matches("login to server success").count();
                assert_eq!(logins, 1, "the session did not last");
                Ok(())
            })
            .long("waits a minute"),
        ]);
    }
    cases
}

/// A pair whose client uses this transport.
fn over<'a>(lab: &'a Lab, transport: &str) -> Setup<'a> {
    let setup = lab.setup().frpc("transport.protocol", transport);
    match transport {
        "kcp" => setup.udp_port("kcpBindPort"),
        "quic" => setup.udp_port("quicBindPort"),
        _ => setup,
    }
}

async fn transfer(lab: &Lab, transport: &str, kind: Kind) -> Outcome {
    let setup = over(lab, transport).service(kind);
    let pair = setup.both("log.level", "info").start().await?;
    match kind {
        Kind::Upload => service::upload(pair.user, MUCH, LONG_LIMIT).await,
        _ => service::download(pair.user, MUCH, LONG_LIMIT).await,
    }
}
