//! One request: route, authorise, send to a backend, bring the answer back (server.md §7.2–§7.9).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::{self, OnUpgrade};
use tokio::time::sleep;

use super::body::{Body, Upload, Uploaded};
use super::credential::Credential;
use super::headers::{self, Framing};
use super::io::Gate;
use super::pages::{self, Malformed};
use super::pool::{Lease, Pool};
use super::routes::Route;
use super::target::Target;
use super::{query, upgrade as joined};
use crate::Shared;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");

/// Who sends requests on a connection.
pub(super) struct User {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    /// The address of `peer` as `X-Forwarded-For` has it.
    pub(super) address: HeaderValue,
    /// Of his HTTP/1 connection.
    pub(super) gate: Gate,
}

/// Why a request has no answer of a backend. `Display` is for the log; users see the 404 page, or a 504.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no route found: {0}")]
    NoRoute(String),
    #[error("http: no Host in request URL")]
    NoHost,
    #[error("no healthy endpoint for http group [{0}]")]
    NoMember(String),
    /// Why has been logged.
    #[error("no work connection")]
    NoWorkConn,
    #[error("net/http: timeout awaiting response headers")]
    Timeout,
    #[error("EOF")]
    Closed,
    #[error("{0}")]
    Backend(hyper::Error),
    #[error("client tried to switch to a protocol whose name cannot be printed")]
    Unprintable,
    #[error("backend tried to switch protocol {got:?} when {asked:?} was requested")]
    Switched { got: String, asked: String },
}

impl From<hyper::Error> for Failure {
    fn from(e: hyper::Error) -> Self {
        if e.is_parse() {
            Self::Backend(e)
        } else {
            Self::Closed
        }
    }
}

/// The answer to one request, whatever happens.
pub(super) async fn answer(user: &User, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let is_http2 = parts.version == Version::HTTP_2;
    if is_http2 && parts.method == Method::CONNECT {
        return pages::empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let target = match Target::of(&parts) {
        Ok(target) => target,
        Err(why) => return pages::malformed(why),
    };
    if !headers::is_plainly_chunked(&parts.headers) {
        return pages::malformed(Malformed::TransferEncoding);
    }
    if !is_http2 && !expects_what_is_known(&parts) {
        return pages::expectation_failed();
    }
    if parts.method == Method::OPTIONS && parts.uri.path() == "*" {
        return pages::empty(StatusCode::OK);
    }
    let credential = Credential::of(&parts.headers, target.proxied);
    let path = String::from_utf8_lossy(&target.path);
    tracing::debug!(
        "get new http request host [{}] path [{path}] httpuser [{}]",
        target.host,
        credential.user
    );
    let is_connect = parts.method == Method::CONNECT;
    let route = user
        .shared
        .http
        .find(&target.host, &target.path, &credential.user);
    let served = match route {
        Some(route) => {
            let login = route.policy.login.as_ref();
            if login.is_some_and(|login| !login.admits(&credential)) {
                return pages::unauthorized(target.proxied);
            }
            if is_connect {
                connect(user, &route, parts, body).await
            } else {
                forward(user, &route, &target, parts, body).await
            }
        }
        None if target.authority.is_empty() => Err(Failure::NoHost),
        None => {
            let asked = format!("{} {path} {}", target.host, credential.user);
            Err(Failure::NoRoute(asked))
        }
    };
    match served {
        Ok(response) => response,
        Err(failure) => {
            tracing::warn!(
                "do http proxy request [host: {}] error: {failure}",
                String::from_utf8_lossy(target.authority.as_bytes())
            );
            match failure {
                Failure::Timeout => pages::empty(StatusCode::GATEWAY_TIMEOUT),
                _ if is_connect => pages::not_found_connect(&user.shared).await,
                _ => pages::not_found(&user.shared).await,
            }
        }
    }
}

fn expects_what_is_known(parts: &Parts) -> bool {
    let known =
        |v: &HeaderValue| v.is_empty() || v.as_bytes().eq_ignore_ascii_case(b"100-continue");
    parts.headers.get(EXPECT).is_none_or(known)
}

/// A request that is not CONNECT.
async fn forward(
    user: &User,
    route: &Route,
    target: &Target,
    mut parts: Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let pool = pick(route)?;
    let asked = headers::upgrade(&parts.headers).filter(|_| parts.version != Version::HTTP_2);
    if asked.as_ref().is_some_and(|asked| asked.to_str().is_err()) {
        return Err(Failure::Unprintable);
    }
    let user_side = parts.extensions.remove::<OnUpgrade>();
    let framing = framing(&parts, &body);
    let policy = &route.policy;
    headers::to_backend(
        &mut parts,
        target,
        &user.address,
        framing,
        asked.as_ref(),
        policy,
    );
    let host = policy.host.as_ref().unwrap_or(&target.authority);
    parts.uri = uri(&parts.uri, target.proxied.then_some(host));

    let (upload, mut uploaded) = Upload::new(body, &user.gate);
    let request = Request::from_parts(parts, upload);
    let (mut response, lease) = send(user, &pool, request, &mut uploaded).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        headers::to_user(&mut response, &policy.response);
        return Ok(response.map(|body| Body::of_backend(body, lease, uploaded)));
    }
    let got = response.headers().get(UPGRADE);
    let (Some(asked), Some(got), Some(user_side)) = (&asked, got, user_side) else {
        return Err(switched(got, asked.as_ref()));
    };
    if !got.as_bytes().eq_ignore_ascii_case(asked.as_bytes()) {
        return Err(switched(Some(got), Some(asked)));
    }
    joined::join(&user.shared, user_side, upgrade::on(&mut response));
    headers::to_user(&mut response, &policy.response);
    Ok(response.map(|_| Body::full("")))
}

fn switched(got: Option<&HeaderValue>, asked: Option<&HeaderValue>) -> Failure {
    let text = |v: Option<&HeaderValue>| {
        v.map_or_else(String::new, |v| {
            String::from_utf8_lossy(v.as_bytes()).into_owned()
        })
    };
    Failure::Switched {
        got: text(got),
        asked: text(asked),
    }
}

/// CONNECT: the backend is a proxy itself and decides. Nothing is changed but what frames the messages.
async fn connect(
    user: &User,
    route: &Route,
    mut parts: Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let pool = pick(route)?;
    let user_side = parts.extensions.remove::<OnUpgrade>();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(TRANSFER_ENCODING);
    parts.version = Version::HTTP_11;
    drop(body);
    let mut lease = pool.dial(user.peer).await?;
    let request = Request::from_parts(parts, Upload::empty());
    let mut uploaded = Uploaded::over();
    let limit = user.shared.settings.vhost_http_timeout;
    let mut response = exchange(&mut lease, request, &mut uploaded, limit)
        .await
        .map_err(|broken| broken.failure)?;
    let accepted = response.status().is_success();
    let Some(user_side) = user_side.filter(|_| accepted) else {
        headers::to_user(&mut response, &Vec::new());
        return Ok(response.map(|body| Body::of_backend(body, lease, uploaded)));
    };
    joined::join(&user.shared, user_side, upgrade::on(&mut response));
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(TRANSFER_ENCODING);
    Ok(response.map(|_| Body::full("")))
}

/// The member whose turn it is.
fn pick(route: &Route) -> Result<Arc<Pool>, Failure> {
    let pool = route
        .members
        .pick()
        .ok_or_else(|| Failure::NoMember(route.group.clone()))?;
    if !route.group.is_empty() {
        tracing::trace!(
            "choose endpoint name [{}] for http request host [{}] path [{}] httpuser [{}]",
            pool.name(),
            route.place.domain,
            route.place.location,
            route.place.user
        );
    }
    Ok(pool)
}

fn framing(parts: &Parts, body: &Incoming) -> Framing {
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        Framing::Chunked
    } else if parts.headers.contains_key(CONTENT_LENGTH) {
        Framing::Length
    } else if body.is_end_stream() {
        Framing::Empty
    } else {
        Framing::Chunked
    }
}

/// The target for the backend: a path, or absolute for users that take this port for a proxy.
fn uri(asked: &Uri, authority: Option<&HeaderValue>) -> Uri {
    let cleaned = asked.query().and_then(query::cleaned);
    if cleaned.is_none() && authority.is_none() && asked.authority().is_none() {
        return asked.clone();
    }
    let path = match cleaned {
        None => asked.path_and_query().cloned(),
        Some(query) => {
            let mark = if query.is_empty() { "" } else { "?" };
            PathAndQuery::try_from(format!("{}{mark}{query}", asked.path())).ok()
        }
    };
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    if let Some(authority) = authority {
        parts.authority = authority.to_str().ok().and_then(|a| a.parse().ok());
        parts.scheme = parts.authority.is_some().then_some(Scheme::HTTP);
    }
    Uri::from_parts(parts).unwrap_or_else(|_| asked.clone())
}

/// Sends a request over a connection that is open already, or over a new one. One that its other end has closed meanwhile
/// does not fail the request if that can be sent again.
async fn send(
    user: &User,
    pool: &Arc<Pool>,
    mut request: Request<Upload>,
    uploaded: &mut Uploaded,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let limit = user.shared.settings.vhost_http_timeout;
    while let Some(mut lease) = pool.reuse().await {
        let spare = is_replayable(&request).then(|| copy(&request));
        let broken = match exchange(&mut lease, request, uploaded, limit).await {
            Ok(response) => return Ok((response, lease)),
            Err(broken) => broken,
        };
        request = match (broken.unsent, broken.failure, spare) {
            (Some(unsent), ..) => unsent,
            (None, Failure::Closed, Some(spare)) => {
                request = spare;
                break;
            }
            (None, failure, _) => return Err(failure),
        };
    }
    let mut lease = pool.dial(user.peer).await?;
    let response = exchange(&mut lease, request, uploaded, limit)
        .await
        .map_err(|broken| broken.failure)?;
    Ok((response, lease))
}

/// A request that has no answer.
struct Broken {
    failure: Failure,
    /// The request, if nothing of it has been sent.
    unsent: Option<Request<Upload>>,
}

/// Sends a request and waits for the head of its answer: `limit` from when all of the request has been sent.
async fn exchange(
    lease: &mut Lease,
    request: Request<Upload>,
    uploaded: &mut Uploaded,
    limit: Duration,
) -> Result<Response<Incoming>, Broken> {
    let late = async {
        uploaded.wait().await;
        sleep(limit).await;
    };
    tokio::select! {
        biased;
        answer = lease.sender.try_send_request(request) => answer.map_err(|mut e| Broken {
            unsent: e.take_message(),
            failure: e.into_error().into(),
        }),
        () = late => Err(Broken { failure: Failure::Timeout, unsent: None }),
    }
}

/// Whether sending a request twice is as good as once (RFC 9110 §9.2.2), and there is no body that would have to be kept.
fn is_replayable(request: &Request<Upload>) -> bool {
    let is_safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    let has_key = || {
        let headers = request.headers();
        headers.contains_key(&IDEMPOTENCY_KEY) || headers.contains_key(&X_IDEMPOTENCY_KEY)
    };
    request.body().is_empty() && (is_safe || has_key())
}

/// A copy of a request without a body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}
