//! Either side ends, crashes or comes back under traffic.

use std::time::Duration;

use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, Pair, service};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long a program stays away.
const AWAY: Duration = Duration::from_millis(500);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, mux, wire) in [
        ("mux/v1", true, "v1"),
        ("mux/v2", true, "v2"),
        ("mux_off/v1", false, "v1"),
        ("mux_off/v2", false, "v2"),
    ] {
        let start = async move |lab: &Lab| {
            let setup = lab.setup().both("transport.tcpMux", mux).wire(wire);
            let pair = setup.start().await?;
            let user = user(&pair).await?;
            Ok::<_, conformance::Failure>((pair, user))
        };
        let restart_frps = Case::pair(format!("reconnect/frps/{name}"), async move |lab| {
            let (mut pair, user) = start(lab).await?;
            pair.frps.kill()?;
            ends(user).await?;
            tokio::time::sleep(AWAY).await;
            pair.start_frps_again(lab).await?;
            pair.works().await?;
            let log = pair.frpc.log();
            let ids: Vec<&str> = log
                .lines()
                .filter_map(|line| line.split_once("get run id [")?.1.split(']').next())
                .collect();
            assert_eq!(ids.len(), 2, "logins: {ids:?}");
            assert_eq!(ids[0], ids[1], "the run id does not last");
            Ok(())
        });
        let restart_frpc = Case::pair(format!("reconnect/frpc/{name}"), async move |lab| {
            let (mut pair, user) = start(lab).await?;
            pair.frpc.kill()?;
            ends(user).await?;
            tokio::time::sleep(AWAY).await;
            pair.start_frpc_again(lab).await?;
            pair.echo().await
        });
        for case in [restart_frps, restart_frpc] {
            cases.push(if wire == "v1" { case.since(37) } else { case });
        }
    }
    cases.push(
        Case::pair("reconnect/frps_comes_late", async |lab| {
            // Nobody listens at first: frpc must not give up.
            let setup = lab.setup().frpc("loginFailExit", false);
            let mut pair = setup.start().await?;
            pair.frps.kill()?;
            pair.start_frpc_only(lab)?;
            pair.frpc.logs("connect to server error: ").await?;
            pair.start_frps_again(lab).await?;
            pair.works().await
        })
        .since(61),
    );
    cases
}

/// A user with data on its way.
async fn user(pair: &Pair) -> Outcome<TcpStream> {
    let mut user = TcpStream::connect(pair.user).await?;
    service::exchange(&mut user, 100_000).await?;
    Ok(user)
}

/// The user learns that the tunnel is gone.
async fn ends(mut user: TcpStream) -> Outcome {
    let mut byte = [0];
    match within("the user's connection ends", LIMIT, user.read(&mut byte)).await? {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => Err(conformance::Failure::new("a byte that nobody sent")),
    }
}
