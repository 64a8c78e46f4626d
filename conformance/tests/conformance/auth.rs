//! Tokens and scopes.

use conformance::wait::LIMIT;
use conformance::{Case, Outcome, Setup, service};
use tokio::net::TcpStream;

const HEARTBEATS: &[&str] = &["HeartBeats"];
const WORK_CONNS: &[&str] = &["NewWorkConns"];
const BOTH: &[&str] = &["HeartBeats", "NewWorkConns"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for wire in ["v1", "v2"] {
        let name = |case| format!("auth/{wire}/{case}");
        cases.extend([
            Case::pair(name("wrong_token"), async move |lab| {
                let setup = lab.setup().wire(wire).frpc("auth.token", "other");
                refused(
                    &setup,
                    "token in login doesn't match token from configuration",
                )
                .await
            }),
            Case::pair(name("wrong_token_undetailed"), async move |lab| {
                let setup = lab.setup().wire(wire).frpc("auth.token", "other");
                let setup = setup.frps("detailedErrorsToClient", false);
                refused(&setup, "register control error").await
            }),
            Case::pair(name("scopes"), async move |lab| {
                let setup = heartbeats(lab.setup()).wire(wire);
                let mut pair = setup.both("auth.additionalScopes", BOTH).start().await?;
                pair.echo().await?;
                pair.frps.logs_times("receive heartbeat", 2).await
            }),
            Case::pair(name("scope_heartbeats_missing"), async move |lab| {
                let setup = heartbeats(lab.setup()).wire(wire);
                let setup = setup.frps("auth.additionalScopes", HEARTBEATS);
                bad_ping(
                    &setup,
                    "token in heartbeat doesn't match token from configuration",
                )
                .await
            }),
            Case::pair(name("scope_heartbeats_undetailed"), async move |lab| {
                let setup = heartbeats(lab.setup()).wire(wire);
                let setup = setup.frps("auth.additionalScopes", HEARTBEATS);
                bad_ping(&setup.frps("detailedErrorsToClient", false), "invalid ping").await
            }),
            Case::pair(name("scope_work_conns_missing"), async move |lab| {
                let setup = lab.setup().wire(wire);
                let setup = setup.frps("auth.additionalScopes", WORK_CONNS);
                bad_work_conn(
                    &setup,
                    "token in NewWorkConn doesn't match token from configuration",
                )
                .await
            }),
            Case::pair(name("scope_work_conns_undetailed"), async move |lab| {
                let setup = lab.setup().wire(wire);
                let setup = setup.frps("auth.additionalScopes", WORK_CONNS);
                bad_work_conn(
                    &setup.frps("detailedErrorsToClient", false),
                    "invalid NewWorkConn",
                )
                .await
            }),
        ]);
    }
    cases.push(
        Case::pair("auth/scopes_of_client_only", async |lab| {
            let setup = heartbeats(lab.setup()).frpc("auth.additionalScopes", BOTH);
            setup.start().await?.echo().await
        })
        .since(52),
    );
    cases
}

fn heartbeats(setup: Setup<'_>) -> Setup<'_> {
    setup
        .frpc("transport.heartbeatInterval", 1i64)
        .frpc("transport.heartbeatTimeout", 90i64)
}

/// frpc ends with upstream's line and exit code.
async fn refused(setup: &Setup<'_>, error: &str) -> Outcome {
    let (_frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, 0).await?;
    let status = frpc.exit(LIMIT).await?;
    assert_eq!(status.code(), Some(1));
    let line = format!(
        "login to the server failed: {error}. With loginFailExit enabled, no additional retries will be attempted"
    );
    let log = frpc.log();
    assert!(log.lines().any(|l| l == line), "no line {line:?}");
    assert!(
        log.contains(&format!("connect to server error: {error}")),
        "the log does not tell the error"
    );
    Ok(())
}

/// The session ends with this error, and begins anew.
async fn bad_ping(setup: &Setup<'_>, error: &str) -> Outcome {
    let (mut frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, 0).await?;
    frpc.logs(&format!("pong message contains error: {error}"))
        .await?;
    frps.logs("received invalid ping: ").await?;
    frpc.logs_times("login to server success", 2).await
}

/// No work connection is accepted, so the user is let go after the time-out.
async fn bad_work_conn(setup: &Setup<'_>, error: &str) -> Outcome {
    let mut pair = setup.clone().frps("userConnTimeout", 1i64).start().await?;
    pair.frpc
        .logs(&format!("StartWorkConn contains error: {error}"))
        .await?;
    let mut user = TcpStream::connect(pair.user).await?;
    assert!(service::exchange(&mut user, 1).await.is_err());
    pair.frps.logs("invalid NewWorkConn with run id").await
}
