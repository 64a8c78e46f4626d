//! Proxies that administrators push to clients (docs/pushed-proxies.md).

use std::sync::Arc;

use frp_admin::{ApiError, Request, Response, StatusCode};
use serde::Serialize;

use super::Answer;
use super::manage::{offline, running};
use super::v1::no_client;
use crate::Shared;
use crate::pushed::{self, Proxy, PushError};

/// A proxy that was pushed. Its definition may hold secrets and is not shown.
#[derive(Serialize)]
struct Item {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    target: String,
    /// Whether users can reach it now.
    running: bool,
    /// Why the client has not taken it again.
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// `GET /api/v2/clients/{key}/pushed-proxies`
pub(super) fn list(shared: &Shared, request: &Request) -> Answer {
    #[derive(Serialize)]
    struct List {
        /// Whether the client lets proxies be pushed to it; false as long as it is offline.
        accepts: bool,
        proxies: Vec<Item>,
    }
    let key = request.param("key");
    let pushed = shared.pushed.of(key);
    if pushed.is_none() && shared.sessions.clients().find(key).is_none() {
        return Err(no_client(key));
    }
    let session = running(shared, key);
    let item = |shown: pushed::Shown| {
        let is_open = |name: &str| {
            let session = session.as_ref()?;
            let user = &session.login.user;
            let wire_name = match user.as_str() {
                "" => name.to_owned(),
                user => format!("{user}.{name}"),
            };
            Some(session.proxies.contains(&wire_name))
        };
        Item {
            running: is_open(&shown.proxy.name) == Some(true),
            target: shown.proxy.target(),
            name: shown.proxy.name,
            kind: shown.proxy.kind,
            error: shown.error,
        }
    };
    Ok(Response::envelope(List {
        accepts: session.as_ref().is_some_and(|s| s.login.accept_proxies),
        proxies: pushed.unwrap_or_default().into_iter().map(item).collect(),
    }))
}

/// `POST /api/v2/clients/{key}/pushed-proxies`
pub(super) async fn push(shared: Arc<Shared>, request: Request) -> Answer {
    #[derive(Serialize)]
    struct Pushed {
        name: String,
        #[serde(rename = "type")]
        kind: String,
        target: String,
    }
    let key = request.param("key");
    if shared.sessions.clients().find(key).is_none() {
        return Err(no_client(key));
    }
    let proxy = Proxy::parse(request.body())?;
    let session = running(&shared, key).ok_or_else(|| offline(key))?;
    let done = Pushed {
        name: proxy.name.clone(),
        kind: proxy.kind.clone(),
        target: proxy.target(),
    };
    pushed::push(&shared, &session, key, proxy).await?;
    Ok(Response::envelope(done))
}

/// `DELETE /api/v2/clients/{key}/pushed-proxies/{name}`
pub(super) async fn remove(shared: Arc<Shared>, request: Request) -> Answer {
    #[derive(Serialize)]
    struct Removed<'a> {
        name: &'a str,
        /// Otherwise the client is told when it comes back.
        removed: bool,
    }
    let (key, name) = (request.param("key"), request.param("name"));
    let session = running(&shared, key);
    let removed = pushed::remove(&shared, session.as_deref(), key, name).await?;
    Ok(Response::envelope(Removed { name, removed }))
}

impl From<PushError> for ApiError {
    fn from(e: PushError) -> Self {
        let status = match e {
            PushError::Invalid(_) => StatusCode::BAD_REQUEST,
            PushError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            PushError::NotAllowed => StatusCode::FORBIDDEN,
            PushError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            PushError::TooMany | PushError::Gone => StatusCode::CONFLICT,
            PushError::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            PushError::Unknown => StatusCode::NOT_FOUND,
        };
        Self::new(status, e.to_string())
    }
}
