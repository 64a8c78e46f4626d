//! Management beyond upstream's API: docs/api.md describes it to its users.

use std::collections::HashMap;
use std::sync::Arc;

use frp_admin::{ApiError, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use super::v1::no_client;
use super::{Answer, no_proxy};
use crate::proxy::Proxy;
use crate::reload::ReloadError;
use crate::session::Handle;
use crate::{Shared, events, plugin, reload};

/// `POST /api/v2/system/reload`
pub(super) async fn reload(shared: Arc<Shared>, _: Request) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Reloaded {
        needs_restart: Vec<&'static str>,
    }
    let reloaded = tokio::task::spawn_blocking(move || reload::reload(&shared)).await;
    let reloaded = reloaded.unwrap_or_else(|e| Err(ReloadError::Invalid(e.to_string())));
    let needs_restart = reloaded.map_err(|e| ApiError::bad_request(e.to_string()))?;
    Ok(Response::envelope(Reloaded { needs_restart }))
}

/// `POST /api/v2/clients/{key}/kick`
pub(super) fn kick(shared: &Shared, request: &Request) -> Answer {
    let session = session(shared, request.param("key"))?;
    tracing::warn!(run_id = %session.run_id, "client is disconnected by an administrator");
    session.cancel.cancel();
    Ok(Response::envelope(Of::new(&session, Vec::new())))
}

/// `POST /api/v2/clients/{key}/drain`
pub(super) async fn drain(shared: Arc<Shared>, request: Request) -> Answer {
    let session = session(&shared, request.param("key"))?;
    tracing::warn!(run_id = %session.run_id, "client is drained by an administrator");
    let closed = close(&shared, &session, session.proxies.drain()).await;
    Ok(Response::envelope(Of::new(&session, closed)))
}

/// `POST /api/v2/proxies/{name}/close`
pub(super) async fn close_proxy(shared: Arc<Shared>, request: Request) -> Answer {
    let name = request.param("name");
    let run_ids = close_named(&shared, name).await;
    if run_ids.is_empty() {
        return Err(no_proxy());
    }
    Ok(Response::envelope(Closed { name, run_ids }))
}

/// A name, and whose proxies of it were closed: several if it has replicas.
#[derive(Serialize)]
struct Closed<'a> {
    name: &'a str,
    #[serde(rename = "runIDs")]
    run_ids: Vec<String>,
}

/// What a name is now.
#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    disabled: bool,
    /// Whether a proxy was open.
    closed: bool,
}

/// `POST /api/v2/proxies/{name}/disable`
pub(super) async fn disable(shared: Arc<Shared>, request: Request) -> Answer {
    let name = request.param("name");
    if !shared.disabled.add(name) {
        let text = "too many proxies are disabled";
        return Err(ApiError::new(StatusCode::CONFLICT, text));
    }
    let closed = !close_named(&shared, name).await.is_empty();
    tracing::warn!("proxy [{name}] is disabled by an administrator");
    Ok(Response::envelope(Named {
        name,
        disabled: true,
        closed,
    }))
}

/// `POST /api/v2/proxies/{name}/enable`
pub(super) fn enable(shared: &Shared, request: &Request) -> Answer {
    let name = request.param("name");
    if !shared.disabled.remove(name) {
        return Err(ApiError::not_found(format!("proxy {name} is not disabled")));
    }
    tracing::warn!("proxy [{name}] is enabled by an administrator");
    Ok(Response::envelope(Named {
        name,
        disabled: false,
        closed: false,
    }))
}

/// `GET /api/v2/system/disabled-proxies`
pub(super) fn disabled(shared: &Shared, _: &Request) -> Answer {
    Ok(Response::envelope(shared.disabled.names()))
}

/// `GET /api/v2/events`
pub(super) fn events(shared: &Shared, _: &Request) -> Answer {
    let listener = shared.events.listen().ok_or_else(|| {
        let text = "too many listeners";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    let (sender, pieces) = mpsc::channel(events::PIECES);
    let stop = shared.stop.clone();
    shared.tasks.spawn(async move {
        stop.run_until_cancelled(listener.pass_on(sender)).await;
    });
    Ok(Response::stream("text/event-stream", pieces))
}

/// A session, and the proxies of it that were closed.
#[derive(Serialize)]
struct Of<'a> {
    #[serde(rename = "runID")]
    run_id: &'a str,
    closed: Vec<String>,
}

impl<'a> Of<'a> {
    fn new(session: &'a Handle, closed: Vec<String>) -> Self {
        Self {
            run_id: &session.run_id,
            closed,
        }
    }
}

/// The running session of a client.
fn session(shared: &Shared, key: &str) -> Result<Arc<Handle>, ApiError> {
    if shared.sessions.clients().find(key).is_none() {
        return Err(no_client(key));
    }
    running(shared, key).ok_or_else(|| offline(key))
}

/// The same; `None` also for a client that is not known.
pub(super) fn running(shared: &Shared, key: &str) -> Option<Arc<Handle>> {
    let client = shared.sessions.clients().find(key)?;
    shared.sessions.find(&client.run_id)
}

pub(super) fn offline(key: &str) -> ApiError {
    let text = format!("client {key} is offline");
    ApiError::new(StatusCode::CONFLICT, text)
}

/// Closes the proxies of this name, whosever they are; the run ids of these sessions.
async fn close_named(shared: &Arc<Shared>, name: &str) -> Vec<String> {
    let mut run_ids = Vec::new();
    for run_id in shared.names.holders(name) {
        let Some(session) = shared.sessions.find(&run_id) else {
            continue;
        };
        if let Some(proxy) = session.proxies.remove(name) {
            let proxies = HashMap::from([(name.into(), proxy)]);
            close(shared, &session, proxies).await;
            run_ids.push(run_id.to_string());
        }
    }
    run_ids
}

/// Closes proxies that have been taken out of their session; their names, in order. Users that are there stay.
async fn close(
    shared: &Arc<Shared>,
    session: &Arc<Handle>,
    proxies: HashMap<Arc<str>, Box<Proxy>>,
) -> Vec<String> {
    let mut names = Vec::new();
    for (name, proxy) in proxies {
        proxy.close().await;
        plugin::proxy_closed(shared, session, &name);
        tracing::info!(run_id = %session.run_id, "proxy [{name}] is closed by an administrator");
        names.push(name.to_string());
    }
    names.sort_unstable();
    names
}
