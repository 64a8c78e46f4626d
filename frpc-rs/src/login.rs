//! Logging in (client.md §2.1, wire.md §4.1): one attempt, and attempts until one succeeds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use frp_proto::msg::handshake::{self, HelloInfo, Negotiated, Side};
use frp_proto::msg::{Login, LoginResp};
use frp_proto::net::Conn;
use frp_proto::text::VERSION;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::session::Session;
use crate::settings::Settings;
use crate::ways::Taken;
use crate::{Error, Shared, host, records};

/// From Login to its answer.
const LOGIN_LIMIT: Duration = Duration::from_secs(10);

/// Tries until a login succeeds. Only a first login can fail, and only if the settings say so. Cancel safe: an attempt
/// that is given up leaves nothing behind.
pub(crate) async fn until_success(
    shared: &Arc<Shared>,
    run_id: Option<&Arc<str>>,
) -> Result<Session, Error> {
    let first = run_id.is_none();
    let server = &shared.settings.server_addr;
    let mut backoff = Backoff::login(first);
    loop {
        tracing::info!(
            run_id = run_id.map(tracing::field::display),
            "try to connect to server..."
        );
        let error = match Box::pin(attempt(shared, run_id.map_or("", |id| &**id))).await {
            Ok(session) => {
                shared.metrics.login(true);
                records::login(&shared.audit, server, Ok(session.run_id()));
                return Ok(session);
            }
            Err(e) => e,
        };
        shared.metrics.login(false);
        records::login(&shared.audit, server, Err(&error));
        tracing::warn!(
            run_id = run_id.map(tracing::field::display),
            "connect to server error: {error}"
        );
        if first && shared.settings.login_fail_exit {
            return Err(Error(format!(
                "login to the server failed: {error}. With loginFailExit enabled, no additional retries will be attempted"
            )));
        }
        sleep(backoff.pause(Instant::now(), host::random())).await;
    }
}

/// One attempt, from the dial to an established control connection. Every step has its time limit.
async fn attempt(shared: &Arc<Shared>, run_id: &str) -> Result<Session, String> {
    let login = login(shared, run_id).await?;
    let mut attempt = shared.ways.attempt();
    while let Some((taken, link, mut conn)) = attempt.next().await {
        let asked = ask(&shared.settings, &taken, &mut conn, login.clone());
        let (resp, negotiated) = match asked.await {
            Ok(answer) => answer,
            Err(e) => {
                attempt.misled(&taken, e);
                continue;
            }
        };
        if !resp.error.is_empty() {
            return Err(resp.error);
        }
        let version = shared.settings.wire_version;
        let (reader, writer) =
            handshake::control(conn, Side::Client, version, negotiated, &shared.token)
                .map_err(|e| e.to_string())?;
        let run_id = resp.run_id;
        tracing::info!(run_id = %run_id, "login to server success, get run id [{run_id}]");
        shared.ways.remember(&run_id, &taken);
        let shared = shared.clone();
        return Ok(Session::new(shared, run_id.into(), link, reader, writer));
    }
    Err(attempt.error())
}

/// Sends the login, and waits for its answer.
async fn ask(
    settings: &Settings,
    taken: &Taken,
    conn: &mut Conn,
    login: Login,
) -> Result<(LoginResp, Option<Negotiated>), String> {
    let hello = HelloInfo {
        transport: taken.connector.protocol().name().into(),
        tls: taken.connector.has_tls(),
        tcp_mux: settings.mux.is_some(),
    };
    let login = handshake::login(conn, settings.wire_version, hello, login);
    timeout(LOGIN_LIMIT, login)
        .await
        .map_err(|_| "i/o deadline reached")?
        .map_err(|e| e.to_string())
}

async fn login(shared: &Shared, run_id: &str) -> Result<Login, String> {
    let settings = &shared.settings;
    let timestamp = host::unix_time();
    let privilege_key = shared.auth.login(timestamp).await?;
    Ok(Login {
        version: VERSION.into(),
        hostname: host::hostname(),
        os: host::os().into(),
        arch: host::arch().into(),
        user: settings.user.clone(),
        privilege_key,
        timestamp,
        run_id: run_id.into(),
        client_id: settings.client_id.clone(),
        metas: settings.metadatas.clone(),
        pool_count: settings.pool_count,
        accept_proxies: shared.accepts_proxies.load(Ordering::Relaxed),
        ..Login::default()
    })
}
