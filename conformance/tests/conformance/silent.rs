//! A path that says nothing any more: the peer is stopped, its connections stay open.

use std::time::Duration;

use conformance::process::Signal;
use conformance::raw::{Link, login_message, tcp_proxy};
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Failure, Lab, Outcome, Pair, Setup};
use frp_proto::msg::{Login, Ping, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How soon "at once" is on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (wire, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        for (name, mux) in [("mux", true), ("mux_off", false)] {
            cases.push(Case::frps(
                format!("silent/client_logs_in_again/{wire}/{name}"),
                async move |lab| logs_in_again(lab, version, mux).await,
            ));
        }
    }
    cases.extend([
        Case::frps("silent/old_timers_spare_the_successor", successor_survives),
        Case::pair("silent/frps_misses_heartbeats", async |lab| {
            let setup = heartbeats(lab.setup());
            let mut pair = setup
                .frps("transport.heartbeatTimeout", 2i64)
                .start()
                .await?;
            pair.frpc.signal(Signal::Stop)?;
            pair.frps.logs("heartbeat timeout").await?;
            closed(&pair).await?;
            pair.frpc.signal(Signal::Continue)?;
            pair.works().await
        }),
        Case::pair("silent/frpc_misses_heartbeats", async |lab| {
            let setup = heartbeats(lab.setup());
            let mut pair = setup
                .frpc("transport.heartbeatTimeout", 2i64)
                .start()
                .await?;
            pair.frps.signal(Signal::Stop)?;
            pair.frpc.logs("heartbeat timeout").await?;
            pair.frps.signal(Signal::Continue)?;
            pair.works().await
        }),
        Case::pair("silent/frps_misses_mux_keepalive", async |lab| {
            let mut pair = keepalive(lab.setup()).start().await?;
            pair.frpc.signal(Signal::Stop)?;
            closed(&pair).await?;
            pair.frpc.signal(Signal::Continue)?;
            pair.works().await
        }),
        Case::pair("silent/frpc_misses_mux_keepalive", async |lab| {
            let mut pair = keepalive(lab.setup()).start().await?;
            pair.frps.signal(Signal::Stop)?;
            pair.frpc
                .logs_times("try to connect to server...", 2)
                .await?;
            pair.frps.signal(Signal::Continue)?;
            pair.works().await
        }),
    ]);
    let mut cases: Vec<Case> = cases.into_iter().map(Case::signals).collect();
    cases.push(Case::pair("silent/heartbeats_keep_alive", async |lab| {
        let setup = heartbeats(lab.setup())
            .frpc("transport.heartbeatTimeout", 3i64)
            .frps("transport.heartbeatTimeout", 3i64);
        let mut pair = setup.start().await?;
        pair.frps.logs_times("receive heartbeat", 6).await?;
        pair.echo().await?;
        let logins = pair.frpc.log().matches("login to server success").count();
        assert_eq!(logins, 1, "the session did not last");
        Ok(())
    }));
    cases
}

fn heartbeats(setup: Setup<'_>) -> Setup<'_> {
    setup
        .both("transport.tcpMux", false)
        .frpc("transport.heartbeatInterval", 1i64)
}

fn keepalive(setup: Setup<'_>) -> Setup<'_> {
    setup.both("transport.tcpMuxKeepaliveInterval", 1i64)
}

/// Users are refused.
async fn closed(pair: &Pair) -> Outcome {
    until("the proxy's port is closed", LIMIT, async || {
        TcpStream::connect(pair.user).await.err().map(|_| ())
    })
    .await
}

/// A pair whose client has stopped, and the client's run id.
async fn stopped(setup: Setup<'_>) -> Outcome<(Pair, String)> {
    let mut pair = setup.frpc("transport.tls.enable", false).start().await?;
    pair.echo().await?;
    let log = pair.frpc.log();
    let run_id = log
        .split_once("get run id [")
        .and_then(|(_, rest)| rest.split(']').next());
    let run_id = run_id.ok_or_else(|| Failure::new("frpc does not tell its run id"))?;
    pair.frpc.signal(Signal::Stop)?;
    Ok((pair, run_id.to_owned()))
}

async fn link(pair: &Pair, version: Version, mux: bool) -> Outcome<Link> {
    if mux {
        Link::mux(pair.server_port, version).await
    } else {
        Ok(Link::plain(pair.server_port, version))
    }
}

/// The server answers at once, whatever became of the old connection, and name and port are free.
async fn logs_in_again(lab: &Lab, version: Version, mux: bool) -> Outcome {
    let (pair, run_id) = stopped(lab.setup().both("transport.tcpMux", mux)).await?;
    let link = link(&pair, version, mux).await?;
    let login = Login {
        run_id: run_id.clone(),
        ..login_message()
    };
    let mut client = within("LoginResp", AT_ONCE, link.login(login)).await??;
    assert_eq!(client.run_id, run_id);
    let resp = within(
        "NewProxyResp",
        AT_ONCE,
        client.register(tcp_proxy("web", pair.user.port())),
    );
    assert_eq!(resp.await??.error, "");

    let mut user = TcpStream::connect(pair.user).await?;
    user.write_all(b"hello").await?;
    let mut work = client.offer_work().await?;
    assert_eq!(link.started(&mut work).await?.proxy_name, "web");
    let mut received = [0; 5];
    within("the user's bytes", LIMIT, work.read_exact(&mut received)).await??;
    assert_eq!(&received, b"hello");
    Ok(())
}

/// The timers of the replaced session are gone with it.
async fn successor_survives(lab: &Lab) -> Outcome {
    let setup = heartbeats(lab.setup()).frps("transport.heartbeatTimeout", 3i64);
    let (pair, run_id) = stopped(setup).await?;
    let link = link(&pair, Version::V1, false).await?;
    let login = Login {
        run_id,
        ..login_message()
    };
    let mut client = link.login(login).await?;
    for second in 0..8 {
        let pong = client.ping(Ping::default()).await;
        let pong = pong.map_err(|e| Failure::new(format!("after {second} s: {e}")))?;
        assert_eq!(pong.error, "");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
